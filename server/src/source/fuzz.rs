//! The fuzz target of WAV files, which may come from anybody.

use std::fs;

use aircheck_engine::source::{Pull, Wav};
use aircheck_fuzz::{assert_one_line, edited};
use bolero::check;

/// Samples that are pulled at most of one file.
const MAX_SAMPLES: usize = 1 << 16;

/// Makes a file of `frames` frames.
fn wav(channels: u16, bits_per_sample: u16, sample_format: hound::SampleFormat, frames: u16) -> Vec<u8> {
    let spec = hound::WavSpec { channels, sample_rate: 48_000, bits_per_sample, sample_format };
    let mut file = std::io::Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut file, spec).unwrap();
    for sample in 0..frames * channels {
        match sample_format {
            hound::SampleFormat::Float => writer.write_sample(f32::from(sample) / 1000.0).unwrap(),
            hound::SampleFormat::Int => writer.write_sample(i32::from(sample) & 0x7f).unwrap(),
        }
    }
    writer.finalize().unwrap();
    file.into_inner()
}

#[test]
fn wav_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.wav");
    let int = hound::SampleFormat::Int;
    let files =
        [wav(1, 16, int, 30), wav(2, 24, int, 30), wav(2, 32, hound::SampleFormat::Float, 30), wav(1, 8, int, 3)];
    let bases: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    check!().for_each(|bytes: &[u8]| {
        let file = edited(bytes, &bases);
        fs::write(&path, &file).unwrap();
        for looped in [false, true] {
            let mut wav = match Wav::open(&path, looped) {
                Ok(wav) => wav,
                Err(error) => {
                    let error = error.to_string();
                    assert_one_line(&error);
                    assert!(error.contains("a.wav: "), "{error}");
                    continue;
                }
            };
            assert!(wav.rate_hz() > 0 && wav.channels() > 0, "{wav:?}");
            let mut samples = [0.0; 480];
            let mut pulled = 0;
            while pulled < MAX_SAMPLES {
                match wav.pull(&mut samples) {
                    Ok(0) => break,
                    Ok(count) => pulled += count,
                    Err(error) => {
                        assert_one_line(&error);
                        break;
                    }
                }
            }
            // A sample takes a byte at least, so there are no more than bytes.
            assert!(looped || pulled <= file.len(), "{pulled} samples of {} bytes", file.len());
        }
    });
}
