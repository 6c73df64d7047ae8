//! The recording: a WAV of 32-bit floats, exactly the samples that came.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use hound::{SampleFormat, WavSpec, WavWriter};

use crate::client::format::Format;
use crate::failure::{Failure, io_words};

const SAMPLE_BYTES: u64 = 4;
/// A WAV states its length in 32 bits, header included, which has less than 100 bytes here.
const MAX_DATA_BYTES: u64 = u32::MAX as u64 - 100;

/// A WAV file being written. Its header is brought up to date every second, so that even a killed process leaves a
/// file that plays.
pub(crate) struct Recording {
    writer: WavWriter<BufWriter<File>>,
    path: PathBuf,
    format: Format,
    frames: u64,
    frames_in_header: u64,
}

impl Recording {
    /// Makes the file, in place of one that may be there.
    ///
    /// # Errors
    ///
    /// [`Failure::Write`], as for everything here.
    pub(crate) fn create(path: &Path, format: Format) -> Result<Self, Failure> {
        let spec = WavSpec {
            channels: format.channels,
            sample_rate: format.rate_hz,
            bits_per_sample: 32,
            sample_format: SampleFormat::Float,
        };
        let writer = WavWriter::create(path, spec).map_err(|error| failure(path, &error))?;
        Ok(Self { writer, path: path.to_owned(), format, frames: 0, frames_in_header: 0 })
    }

    /// Appends whole frames.
    ///
    /// # Errors
    ///
    /// Also when the file holds as much as a WAV can.
    pub(crate) fn write(&mut self, samples: &[f32]) -> Result<(), Failure> {
        if self.bytes() + samples.len() as u64 * SAMPLE_BYTES > MAX_DATA_BYTES {
            let why = "it is full, a WAV holds no more than 4 GiB; use --for to end sooner".to_owned();
            return Err(Failure::Write { path: self.path.clone(), why });
        }
        for &sample in samples {
            self.writer.write_sample(sample).map_err(|error| failure(&self.path, &error))?;
        }
        self.frames += (samples.len() / usize::from(self.format.channels)) as u64;
        if self.frames - self.frames_in_header >= u64::from(self.format.rate_hz) {
            self.writer.flush().map_err(|error| failure(&self.path, &error))?;
            self.frames_in_header = self.frames;
        }
        Ok(())
    }

    /// Completes the file.
    ///
    /// # Errors
    ///
    /// The last samples may be missing then.
    pub(crate) fn finish(self) -> Result<Written, Failure> {
        let written = Written { path: self.path, frames: self.frames, format: self.format };
        match self.writer.finalize() {
            Ok(()) => Ok(written),
            Err(error) => Err(failure(&written.path, &error)),
        }
    }

    fn bytes(&self) -> u64 {
        self.frames * u64::from(self.format.channels) * SAMPLE_BYTES
    }
}

/// A recording that is complete.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    /// The file.
    pub(crate) path: PathBuf,
    /// Frames in it.
    pub(crate) frames: u64,
    format: Format,
}

impl Written {
    /// Bytes of sound in it.
    pub(crate) fn bytes(&self) -> u64 {
        self.frames * u64::from(self.format.channels) * SAMPLE_BYTES
    }
}

fn failure(path: &Path, error: &hound::Error) -> Failure {
    let why = match error {
        hound::Error::IoError(error) => io_words(error),
        other => other.to_string(),
    };
    Failure::Write { path: path.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: Format = Format { rate_hz: 100, channels: 3 };

    #[test]
    fn samples_come_back_bit_for_bit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("take.wav");
        let samples = [0.1, -0.0, f32::MIN_POSITIVE, 1.5, -1.0, f32::NAN];
        let mut recording = Recording::create(&path, FORMAT).unwrap();
        recording.write(&samples).unwrap();
        assert_eq!(recording.finish().unwrap().frames, 2);
        let mut reader = hound::WavReader::open(&path).unwrap();
        assert_eq!((reader.spec().sample_rate, reader.spec().channels), (100, 3));
        let read: Vec<u32> = reader.samples::<f32>().map(|sample| sample.unwrap().to_bits()).collect();
        assert_eq!(read, samples.map(f32::to_bits));
    }

    #[test]
    fn what_is_over_a_second_old_survives_a_kill() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("take.wav");
        let mut recording = Recording::create(&path, FORMAT).unwrap();
        for _ in 0..150 {
            recording.write(&[0.5; 3]).unwrap();
        }
        assert_eq!(hound::WavReader::open(&path).unwrap().duration(), 100);
        std::mem::forget(recording);
    }

    #[test]
    fn a_full_file_is_an_error_before_its_length_wraps() {
        let directory = tempfile::tempdir().unwrap();
        let mut recording = Recording::create(&directory.path().join("take.wav"), FORMAT).unwrap();
        recording.frames = MAX_DATA_BYTES / SAMPLE_BYTES / 3;
        let error = recording.write(&[0.0; 3]).unwrap_err();
        assert!(error.to_string().contains("4 GiB"), "{error}");
    }

    #[test]
    fn a_path_that_can_t_be_written_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let error = Recording::create(directory.path(), FORMAT).err().unwrap().to_string();
        assert!(error.contains("can't write") && error.contains("Is a directory"), "{error}");
    }
}
