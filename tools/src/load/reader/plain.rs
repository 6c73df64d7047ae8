//! Bytes without numbers. Where all blocks are of one length, counting the bytes counts the blocks.

/// The longest header that is looked for: a WAV of many channels has 68 bytes, and what follows may be part of a block.
const HEADER_MOST: usize = 128;

/// A stream of bytes.
#[derive(Debug)]
pub(crate) struct Plain {
    /// Bytes of a block, where all have as many.
    block_bytes: Option<u64>,
    /// A WAV's header as far as it has come, until it is whole.
    header: Option<Vec<u8>>,
    header_bytes: u64,
    bytes: u64,
}

impl Plain {
    /// A stream whose blocks have so many bytes, which begins with the header of a WAV or with a block.
    pub(crate) fn new(block_bytes: Option<u64>, is_wav: bool) -> Self {
        Self { block_bytes, header: is_wav.then(Vec::new), header_bytes: 0, bytes: 0 }
    }

    /// Takes in what arrived.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        let Some(header) = &mut self.header else { return };
        header.extend(&bytes[..bytes.len().min(HEADER_MOST - header.len())]);
        // "data" and its size are the end of the header.
        if let Some(at) = header.windows(4).position(|four| four == b"data") {
            self.header_bytes = at as u64 + 8;
            self.header = None;
        } else if header.len() == HEADER_MOST {
            // Not a WAV as aircheck writes it: then nothing can be said of blocks.
            (self.header, self.block_bytes) = (None, None);
        }
    }

    /// How many whole blocks came, where that can be said.
    pub(crate) fn blocks(&self) -> Option<u64> {
        Some(self.bytes.saturating_sub(self.header_bytes) / self.block_bytes?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_counted_after_the_header_in_whatever_pieces_it_comes() {
        let mut wav = b"RIFF....WAVEfmt ....................data....".to_vec();
        wav.extend([0; 250]);
        for piece in [1, 3, 44, 1000] {
            let mut plain = Plain::new(Some(100), true);
            wav.chunks(piece).for_each(|piece| plain.push(piece));
            assert_eq!(plain.blocks(), Some(2), "in pieces of {piece}");
        }
        let mut pcm = Plain::new(Some(100), false);
        pcm.push(&[0; 250]);
        assert_eq!(pcm.blocks(), Some(2));
    }

    #[test]
    fn of_what_is_no_wav_no_blocks_are_counted() {
        let mut plain = Plain::new(Some(100), true);
        (0..3).for_each(|_| plain.push(&[1; 100]));
        assert_eq!(plain.blocks(), None);
    }
}
