//! WAV files for sources that play one.

use std::path::Path;

use hound::{SampleFormat, WavSpec, WavWriter};

/// Frames per second of every such file.
pub const WAV_RATE_HZ: u32 = 48_000;
/// A little below full scale.
const FULL_SCALE: f64 = 32_000.0;

/// Writes a 16-bit WAV of so many channels and seconds. `sample` is given the number of a frame and of a channel and
/// returns a value from -1 to 1.
///
/// # Errors
///
/// When the file cannot be written.
pub fn write_wav(path: &Path, channels: u16, seconds: u32, sample: impl Fn(u32, u16) -> f64) -> hound::Result<()> {
    let spec = WavSpec { channels, sample_rate: WAV_RATE_HZ, bits_per_sample: 16, sample_format: SampleFormat::Int };
    let mut writer = WavWriter::create(path, spec)?;
    for frame in 0..seconds * WAV_RATE_HZ {
        for channel in 0..channels {
            writer.write_sample((sample(frame, channel) * FULL_SCALE) as i16)?;
        }
    }
    writer.finalize()
}
