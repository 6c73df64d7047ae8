//! Bytes without numbers. If all blocks are of one length, the number of bytes is the number of blocks.

/// Longest header of a WAV that is recognised: one of many channels has 68 bytes.
const MAX_HEADER_BYTES: usize = 128;

/// The bytes of a stream.
#[derive(Debug)]
pub(crate) struct ByteCounter {
    /// Bytes of a block, if all have as many.
    block_bytes: Option<u64>,
    /// The header of a WAV as far as it has come, until it is complete.
    header: Option<Vec<u8>>,
    header_bytes: u64,
    bytes: u64,
}

impl ByteCounter {
    /// Makes a counter for blocks of so many bytes, which follow the header of a WAV or begin at once.
    pub(crate) fn new(block_bytes: Option<u64>, is_wav: bool) -> Self {
        Self { block_bytes, header: is_wav.then(Vec::new), header_bytes: 0, bytes: 0 }
    }

    /// Counts bytes that arrived.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        let Some(header) = &mut self.header else { return };
        header.extend(&bytes[..bytes.len().min(MAX_HEADER_BYTES - header.len())]);
        // "data" and its size are the end of the header.
        if let Some(at) = header.windows(4).position(|four| four == b"data") {
            self.header_bytes = at as u64 + 8;
            self.header = None;
        } else if header.len() == MAX_HEADER_BYTES {
            // Not a WAV as aircheck writes it, so blocks can't be counted.
            (self.header, self.block_bytes) = (None, None);
        }
    }

    /// Returns how many whole blocks came, if they can be counted.
    pub(crate) fn blocks(&self) -> Option<u64> {
        Some(self.bytes.saturating_sub(self.header_bytes) / self.block_bytes?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_counted_after_a_header_in_pieces_of_any_size() {
        let mut wav = b"RIFF....WAVEfmt ....................data....".to_vec();
        wav.extend([0; 250]);
        for piece in [1, 3, 44, 1000] {
            let mut counter = ByteCounter::new(Some(100), true);
            wav.chunks(piece).for_each(|piece| counter.push(piece));
            assert_eq!(counter.blocks(), Some(2), "in pieces of {piece}");
        }
        let mut pcm = ByteCounter::new(Some(100), false);
        pcm.push(&[0; 250]);
        assert_eq!(pcm.blocks(), Some(2));
    }

    #[test]
    fn without_the_header_of_a_wav_no_blocks_are_counted() {
        let mut counter = ByteCounter::new(Some(100), true);
        (0..3).for_each(|_| counter.push(&[1; 100]));
        assert_eq!(counter.blocks(), None);
    }
}
