//! WAV files, read by hound.

use std::fmt;
use std::fs::File;
use std::io::{BufReader, Seek};
use std::path::{Path, PathBuf};

use hound::{SampleFormat, WavReader};

use crate::source::pull::Pull;

/// The most bits of a sample. A header may say any number.
const MAX_SAMPLE_BITS: u16 = 32;

/// A WAV file: 8, 16, 24 or 32-bit integers or 32-bit floats, at any rate, with up to 32 channels. Integers become
/// floats from -1 to 1; up to 24 bits of them survive exactly.
pub struct Wav {
    path: PathBuf,
    file: File,
    reader: WavReader<BufReader<File>>,
    looped: bool,
}

impl fmt::Debug for Wav {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wav").field("path", &self.path).field("looped", &self.looped).finish_non_exhaustive()
    }
}

/// The reason why a file cannot be streamed.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}", path = path.display())]
pub struct WavError {
    path: PathBuf,
    reason: String,
}

impl Wav {
    /// Opens the file. With `looped`, it starts again at its end.
    ///
    /// ```
    /// use aircheck_engine::source::Wav;
    ///
    /// let missing = Wav::open("there/is/none.wav", false).unwrap_err();
    /// assert!(missing.to_string().starts_with("there/is/none.wav: cannot be opened"));
    /// ```
    ///
    /// # Errors
    ///
    /// When the file cannot be read, is not a WAV file, has no channels, no rate or no sound, or has samples of another
    /// kind.
    pub fn open(path: impl AsRef<Path>, looped: bool) -> Result<Self, WavError> {
        let path = path.as_ref().to_path_buf();
        let failed = |reason: String| WavError { path: path.clone(), reason };
        let (file, reader) = open(&path).map_err(failed)?;
        Ok(Self { path, file, reader, looped })
    }

    /// Reads on until `samples` is full or the file ends.
    fn read(&mut self, samples: &mut [f32]) -> Result<usize, String> {
        let spec = self.reader.spec();
        let filled = match spec.sample_format {
            SampleFormat::Float => fill(samples, self.reader.samples::<f32>()),
            SampleFormat::Int => {
                // The largest magnitude of the type becomes 1: of 16 bits, -32768 becomes -1, and 32767 just below 1.
                let scale = 1.0 / (1_u64 << (spec.bits_per_sample - 1)) as f64;
                let integers = self.reader.samples::<i32>();
                fill(samples, integers.map(|value| value.map(|value| (f64::from(value) * scale) as f32)))
            }
        };
        filled.map_err(|error| format!("{}: {error}", self.path.display()))
    }
}

impl Pull for Wav {
    fn rate_hz(&self) -> u32 {
        self.reader.spec().sample_rate
    }

    fn channels(&self) -> u16 {
        self.reader.spec().channels
    }

    fn sample_bits(&self) -> Option<u16> {
        let spec = self.reader.spec();
        (spec.sample_format == SampleFormat::Int).then_some(spec.bits_per_sample)
    }

    fn description(&self) -> String {
        let looped = if self.looped { ", looped" } else { "" };
        format!("file “{}”{looped}", self.path.display())
    }

    fn pull(&mut self, samples: &mut [f32]) -> Result<usize, String> {
        let mut filled = self.read(samples)?;
        while self.looped && filled < samples.len() {
            // Not by the reader's own `seek`, which takes samples of 24 bits for three bytes, also where a file has them in
            // four.
            let again = self.file.rewind().map_err(|error| error.to_string()).and_then(|()| read_header(&self.file));
            self.reader = again.map_err(|error| format!("{}: cannot start again: {error}", self.path.display()))?;
            filled += self.read(&mut samples[filled..])?;
        }
        Ok(filled)
    }
}

fn open(path: &Path) -> Result<(File, WavReader<BufReader<File>>), String> {
    let mut file = File::open(path).map_err(|error| format!("cannot be opened: {error}"))?;
    let length = file.metadata().map_err(|error| format!("cannot be read: {error}"))?.len();
    let reader = read_header(&file)?;
    let spec = reader.spec();
    if spec.sample_rate == 0 {
        return Err("has a sample rate of 0 Hz in its header".to_owned());
    }
    if !(1..=MAX_SAMPLE_BITS).contains(&spec.bits_per_sample) {
        return Err(format!("has samples of {} bits (it takes 8, 16, 24 and 32)", spec.bits_per_sample));
    }
    if reader.duration() == 0 {
        return Err("has no sound in it".to_owned());
    }
    let frame_bytes = u64::from(spec.channels) * u64::from(spec.bits_per_sample.div_ceil(8));
    // Asking for the position takes the reader apart.
    let start = reader.into_inner().stream_position().map_err(|error| format!("cannot be read: {error}"))?;
    file.rewind().map_err(|error| format!("cannot be read: {error}"))?;
    let reader = read_header(&file)?;
    let there = length.saturating_sub(start) / frame_bytes;
    if there < u64::from(reader.duration()) {
        return Err(format!("is cut off: its header promises {} frames, {there} are there", reader.duration()));
    }
    Ok((file, reader))
}

fn read_header(file: &File) -> Result<WavReader<BufReader<File>>, String> {
    let file = file.try_clone().map_err(|error| format!("cannot be read: {error}"))?;
    WavReader::new(BufReader::new(file)).map_err(|error| match error {
        // hound's own error for a file that ends too early has no code; the system's errors have one.
        hound::Error::IoError(io) if io.raw_os_error().is_none() => "is cut off inside its header".to_owned(),
        hound::Error::IoError(io) => format!("cannot be read: {io}"),
        error => format!(
            "is not a WAV file that can be read: {error} (a file recorded from a live stream has no length in its \
             header; ffmpeg -i FILE NEW.wav adds it)"
        ),
    })
}

fn fill(to: &mut [f32], from: impl Iterator<Item = Result<f32, hound::Error>>) -> Result<usize, hound::Error> {
    let mut filled = 0;
    for (to, sample) in to.iter_mut().zip(from) {
        *to = sample?;
        filled += 1;
    }
    Ok(filled)
}
