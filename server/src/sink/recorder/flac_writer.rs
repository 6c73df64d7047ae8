//! A FLAC file that is being written: a frame for each block, numbered from 0, so that a decoder finds any of them.

use std::io::{self, BufWriter, Seek as _, SeekFrom, Write as _};

use aircheck_engine::Format;

use super::fail_stop::FailStop;
use super::storage::StorageFile;
use crate::rendition::codec::{CodecError, FlacEncoder};

/// Where rate, channels, bits and number of samples are in a file: after its marker, the header of the first block, and ten
/// bytes of sizes (RFC 9639, section 8.2).
pub(crate) const COUNTS_AT: u64 = 18;
/// Bits of the number of samples.
const COUNT_BITS: u32 = 36;

/// A FLAC file that is being written.
pub(crate) struct FlacWriter<F: StorageFile> {
    out: BufWriter<FailStop<F>>,
    encoder: FlacEncoder,
    /// The eight bytes at [`COUNTS_AT`], with 0 samples.
    counts: u64,
    blocks: u64,
    frames: u64,
    /// Bytes in the file, buffered ones included.
    bytes: u64,
}

impl<F: StorageFile> FlacWriter<F> {
    /// Begins a file of samples of `bits` bits.
    pub(crate) fn new(mut out: BufWriter<FailStop<F>>, format: Format, bits: u32) -> io::Result<Self> {
        let encoder = FlacEncoder::new(format, bits).map_err(io::Error::other)?;
        let header = encoder.header().map_err(io::Error::other)?;
        let counts = header.get(COUNTS_AT as usize..).and_then(|rest| rest.first_chunk::<8>());
        let counts = u64::from_be_bytes(*counts.ok_or_else(|| io::Error::other("a FLAC header without counts"))?);
        out.write_all(&header)?;
        out.flush()?;
        Ok(Self { out, encoder, counts, blocks: 0, frames: 0, bytes: header.len() as u64 })
    }

    /// Appends the samples of a block.
    pub(crate) fn write(&mut self, samples: &[f32], frames: u64) -> io::Result<()> {
        let encoded = self.encoder.encode(self.blocks, samples).map_err(|error: CodecError| io::Error::other(error))?;
        self.out.write_all(&encoded)?;
        self.blocks += 1;
        self.frames += frames;
        self.bytes += encoded.len() as u64;
        Ok(())
    }

    /// Hands everything to the system, and updates the number of samples in the header.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()?;
        self.out.seek(SeekFrom::Start(COUNTS_AT))?;
        let counts = self.counts | (self.frames & ((1 << COUNT_BITS) - 1));
        self.out.write_all(&counts.to_be_bytes())?;
        self.out.seek(SeekFrom::Start(self.bytes))?;
        Ok(())
    }

    /// Returns the bytes in the file.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}
