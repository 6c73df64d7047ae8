//! Frames of a FLAC file that the recorder has written, by their number, also while the file grows.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::panic::catch_unwind;

use flac_codec::decode::FlacStreamReader;
use flac_codec::stream::FrameHeader;

use super::flac_writer::COUNTS_AT;

/// The length of the recorder's header: marker, header of the block, and stream information (RFC 9639, section 8.2).
const HEADER_BYTES: u64 = 42;
/// Bytes in which the beginning of a frame is looked for at a time, besides the largest frame.
const SEARCH_BYTES: u64 = 4096;

/// A FLAC file of the recorder.
#[derive(Debug)]
pub(crate) struct FlacReader {
    file: File,
    /// Frames of audio in each of its frames but the last.
    block_frames: u64,
    channels: u64,
    bits: u32,
    /// The next frame in the order of the file, and where it begins.
    next: (u64, u64),
    /// The last decoded frame.
    decoded: Option<(u64, Vec<f32>)>,
}

/// Returns frames of audio in each frame of a FLAC file, its channels, its bits, and how many frames of audio it has.
pub(crate) fn read_header(file: &File) -> io::Result<(u64, u16, u32, u64)> {
    let mut header = [0; HEADER_BYTES as usize];
    file.read_exact_at(&mut header, 0)?;
    let counts = header.get(COUNTS_AT as usize..).and_then(|rest| rest.first_chunk::<8>()).copied().unwrap_or_default();
    let counts = u64::from_be_bytes(counts);
    let block_frames = u64::from(u16::from_be_bytes([header[8], header[9]]));
    if !header.starts_with(b"fLaC") || block_frames == 0 {
        return Err(io::Error::other("no FLAC file of a recording"));
    }
    let (channels, bits) = ((counts >> 41 & 7) as u16 + 1, (counts >> 36 & 31) as u32 + 1);
    Ok((block_frames, channels, bits, counts & ((1 << 36) - 1)))
}

impl FlacReader {
    /// Opens a file.
    pub(crate) fn new(file: File) -> io::Result<Self> {
        let (block_frames, channels, bits, _) = read_header(&file)?;
        Ok(Self { file, block_frames, channels: channels.into(), bits, next: (0, HEADER_BYTES), decoded: None })
    }

    /// Reads `frames` frames of audio from `from` on, which the file must have.
    pub(crate) fn samples(&mut self, from: u64, frames: u64) -> io::Result<Vec<f32>> {
        let mut samples = Vec::with_capacity((frames * self.channels) as usize);
        let (mut at, end) = (from, from + frames);
        while at < end {
            let (number, skipped) = (at / self.block_frames, at % self.block_frames);
            let taken = (self.block_frames - skipped).min(end - at);
            let channels = self.channels;
            let frame = self.frame(number)?;
            let part = frame.get((skipped * channels) as usize..((skipped + taken) * channels) as usize);
            samples.extend(part.ok_or_else(|| io::Error::other("a frame of FLAC is short"))?);
            at += taken;
        }
        Ok(samples)
    }

    fn frame(&mut self, number: u64) -> io::Result<&[f32]> {
        if self.decoded.as_ref().is_none_or(|(decoded, _)| *decoded != number) {
            if self.next.0 != number {
                self.next = self.find(number)?;
            }
            while self.next.0 < number {
                self.decode()?;
            }
            self.decode()?;
        }
        Ok(self.decoded.as_ref().map_or(&[], |(_, samples)| samples))
    }

    /// Decodes the next frame.
    fn decode(&mut self) -> io::Result<()> {
        let (number, at) = self.next;
        let bytes = self.bytes(at)?;
        let full = (1_u32 << (self.bits - 1)) as f32;
        let (samples, taken) = decode(&bytes)?;
        self.next = (number + 1, at + taken as u64);
        self.decoded = Some((number, samples.iter().map(|sample| *sample as f32 / full).collect()));
        Ok(())
    }

    /// Returns a frame at or shortly before `number`, and where it begins, by halving the file.
    fn find(&self, number: u64) -> io::Result<(u64, u64)> {
        let (mut low, mut high) = ((0, HEADER_BYTES), self.file.metadata()?.len());
        while high > low.1 + 2 * SEARCH_BYTES {
            let middle = low.1 + (high - low.1) / 2;
            match self.header_from(middle, high)? {
                Some((found, at)) if (low.0..=number).contains(&found) && at > low.1 => low = (found, at),
                _ => high = middle,
            }
        }
        Ok(low)
    }

    /// Returns number and place of the first frame that begins between these places.
    fn header_from(&self, from: u64, to: u64) -> io::Result<Option<(u64, u64)>> {
        let bytes = self.bytes(from)?;
        let starts = bytes.windows(2).enumerate().filter(|(_, two)| two[0] == 0xff && two[1] >> 1 == 0b111_1100);
        for (offset, _) in starts {
            let mut rest = &bytes[offset..];
            // A look-alike in the samples has no frame with a right checksum behind it.
            if let Ok(header) = FrameHeader::read_subset(&mut rest)
                && u64::from(header.channel_assignment.count()) == self.channels
                && decode(&bytes[offset..]).is_ok()
            {
                let at = from + offset as u64;
                return Ok((at < to).then_some((header.frame_number.0, at)));
            }
        }
        Ok(None)
    }

    /// Reads bytes from `at` on, enough for two frames.
    fn bytes(&self, at: u64) -> io::Result<Vec<u8>> {
        let most = 2 * (self.block_frames * self.channels * u64::from(self.bits.div_ceil(8)) + 64) + SEARCH_BYTES;
        let mut bytes = vec![0; most as usize];
        let mut filled = 0;
        while filled < bytes.len() {
            match self.file.read_at(&mut bytes[filled..], at + filled as u64)? {
                0 => break,
                count => filled += count,
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }
}

/// Decodes the frame at the start of `bytes`, and returns its samples and its length.
///
/// The decoder adds up the samples of a damaged frame before it finds the wrong checksum, and panics where sums are checked for
/// overflow. The file is damaged then, and no more.
fn decode(bytes: &[u8]) -> io::Result<(Vec<i32>, usize)> {
    let decoded = catch_unwind(|| {
        let mut rest = bytes;
        let samples = FlacStreamReader::new(&mut rest).read().map(|frame| frame.samples.to_vec());
        samples.map(|samples| (samples, bytes.len() - rest.len()))
    });
    decoded.map_err(|_| io::Error::other("a frame of FLAC is damaged"))?.map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::time::Duration;

    use aircheck_engine::Format;

    use super::*;
    use crate::rendition::codec::FlacEncoder;

    /// Noise takes large frames, in which look-alikes of headers occur; silence takes frames of some bytes.
    #[test]
    fn any_frame_is_found_in_noise_and_silence() {
        let format = Format::new(48_000, 2, Duration::from_millis(10)).unwrap();
        let mut encoder = FlacEncoder::new(format, 16).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&encoder.header().unwrap()).unwrap();
        let mut state = 1_u32;
        let mut blocks: Vec<Vec<f32>> = Vec::new();
        for number in 0..1000_u64 {
            let loud = (number / 100).is_multiple_of(2);
            let block: Vec<f32> = (0..format.block_samples())
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    if loud { f32::from((state >> 16) as i16) / 32_768.0 } else { 0.0 }
                })
                .collect();
            file.write_all(&encoder.encode(number, &block).unwrap()).unwrap();
            blocks.push(block);
        }
        let mut reader = FlacReader::new(file).unwrap();
        for number in (0..1000).step_by(7).rev().chain([0, 999, 500, 501, 502]) {
            assert!(reader.samples(number as u64 * 480, 480).unwrap() == blocks[number], "block {number}");
        }
        let across = reader.samples(100, 960).unwrap();
        assert!(across[..760] == blocks[0][200..] && across[760..1720] == blocks[1][..]);
    }
}
