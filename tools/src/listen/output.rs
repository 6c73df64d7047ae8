//! The file of `-o`: a WAV of 32-bit floats, exactly the samples that came.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use aircheck_api::StreamFormat;
use hound::{SampleFormat, WavSpec, WavWriter};

use crate::failure::{Failure, io_words};

const SAMPLE_BYTES: u64 = 4;
/// A WAV states its length in 32 bits, header included, and the header has less than 100 bytes here.
const MAX_DATA_BYTES: u64 = u32::MAX as u64 - 100;

/// A WAV file being written. Its header is brought up to date every second, so that even a killed process leaves a
/// file that plays.
pub(crate) struct OutputFile {
    writer: WavWriter<BufWriter<File>>,
    path: PathBuf,
    format: StreamFormat,
    frames: u64,
    frames_in_header: u64,
}

impl OutputFile {
    /// Creates the file; an existing one is replaced.
    pub(crate) fn create(path: &Path, format: StreamFormat) -> Result<Self, Failure> {
        let spec = WavSpec {
            channels: format.channels,
            sample_rate: format.rate_hz,
            bits_per_sample: 32,
            sample_format: SampleFormat::Float,
        };
        let writer = WavWriter::create(path, spec).map_err(|error| failure(path, &error))?;
        Ok(Self { writer, path: path.to_owned(), format, frames: 0, frames_in_header: 0 })
    }

    /// Appends whole frames. It is a failure if the file holds as much as a WAV can.
    pub(crate) fn write(&mut self, samples: &[f32]) -> Result<(), Failure> {
        if self.bytes() + samples.len() as u64 * SAMPLE_BYTES > MAX_DATA_BYTES {
            let why = "it is full, as a WAV holds at most 4 GiB (use --for to end sooner)".to_owned();
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

    /// Completes the file. After a failure the last samples may be missing.
    pub(crate) fn finish(self) -> Result<Written, Failure> {
        let bytes = self.bytes();
        self.writer.finalize().map_err(|error| failure(&self.path, &error))?;
        Ok(Written { path: self.path, frames: self.frames, bytes })
    }

    fn bytes(&self) -> u64 {
        self.frames * u64::from(self.format.channels) * SAMPLE_BYTES
    }
}

/// A file that is complete.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) path: PathBuf,
    pub(crate) frames: u64,
    /// Bytes of sound in it.
    pub(crate) bytes: u64,
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

    const FORMAT: StreamFormat = StreamFormat { rate_hz: 100, channels: 3, block_frames: 1, block_seconds: 0.01 };

    /// A file, and what holds its directory.
    fn create() -> (tempfile::TempDir, OutputFile) {
        let directory = tempfile::tempdir().unwrap();
        let file = OutputFile::create(&directory.path().join("take.wav"), FORMAT).unwrap();
        (directory, file)
    }

    #[test]
    fn samples_come_back_bit_for_bit() {
        let (_directory, mut file) = create();
        let samples = [0.1, -0.0, f32::MIN_POSITIVE, 1.5, -1.0, f32::NAN];
        file.write(&samples).unwrap();
        let written = file.finish().unwrap();
        assert_eq!((written.frames, written.bytes), (2, 24));
        let mut reader = hound::WavReader::open(&written.path).unwrap();
        assert_eq!((reader.spec().sample_rate, reader.spec().channels), (100, 3));
        let read: Vec<u32> = reader.samples::<f32>().map(|sample| sample.unwrap().to_bits()).collect();
        assert_eq!(read, samples.map(f32::to_bits));
    }

    #[test]
    fn sound_older_than_a_second_survives_a_kill() {
        let (_directory, mut file) = create();
        (0..150).for_each(|_| file.write(&[0.5; 3]).unwrap());
        assert_eq!(hound::WavReader::open(&file.path).unwrap().duration(), 100);
        std::mem::forget(file);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_an_error_with_the_reason() {
        let (directory, mut file) = create();
        // Before its length wraps.
        file.frames = MAX_DATA_BYTES / SAMPLE_BYTES / 3;
        let error = file.write(&[0.0; 3]).unwrap_err();
        assert!(error.to_string().contains("4 GiB"), "{error}");
        let error = OutputFile::create(directory.path(), FORMAT).err().unwrap().to_string();
        assert!(error.contains("cannot write") && error.contains("Is a directory"), "{error}");
    }
}
