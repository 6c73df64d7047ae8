//! A WAV file that is streamed through the whole server comes out bit for bit.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;

use std::path::Path;
use std::process::Command;

use common::{Listener, Server};
use hound::{SampleFormat, WavSpec, WavWriter};

/// Writes `frames` frames of noise, which no lossy codec keeps, and returns their bytes.
fn noise(path: &Path, spec: WavSpec, frames: u32) -> Vec<u8> {
    let mut writer = WavWriter::create(path, spec).unwrap();
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut bytes = Vec::new();
    for _ in 0..frames * u32::from(spec.channels) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        match spec.sample_format {
            SampleFormat::Float => {
                let sample = (state as i32) as f32 / 2_147_483_648.0;
                writer.write_sample(sample).unwrap();
                bytes.extend(sample.to_le_bytes());
            }
            SampleFormat::Int => {
                let sample = (state as i32) >> (32 - spec.bits_per_sample);
                writer.write_sample(sample).unwrap();
                bytes.extend(&sample.to_le_bytes()[..usize::from(spec.bits_per_sample / 8)]);
            }
        }
    }
    writer.finalize().unwrap();
    bytes
}

fn spec(channels: u16, sample_rate: u32, bits_per_sample: u16, sample_format: SampleFormat) -> WavSpec {
    WavSpec { channels, sample_rate, bits_per_sample, sample_format }
}

/// Streams a file of `spec` and compares what `path` gives, after `header` bytes, with the file's samples.
fn streams_unchanged(spec: WavSpec, path: &str, header: usize) {
    let directory = tempfile::tempdir().unwrap();
    let (source, heard) = (directory.path().join("in.wav"), directory.path().join("out"));
    // Not a whole number of blocks, so that the last one is short.
    let expected = noise(&source, spec, 2 * spec.sample_rate + 123);
    let mut server = Server::start(&["--source", &format!("wav:{}", source.display())]);
    let mut listener = Listener::start(&server.url(path), &heard);
    assert!(listener.wait().success(), "the stream ends properly");
    assert!(server.wait().success());
    let heard = std::fs::read(&heard).unwrap();
    assert_eq!(heard.len() - header, expected.len());
    assert!(heard[header..] == expected[..], "the same length with other samples");
}

#[test]
fn a_16_bit_file_comes_out_as_wav_bit_for_bit() {
    streams_unchanged(spec(2, 44_100, 16, SampleFormat::Int), "stream.wav?from=0", 44);
}

#[test]
fn a_24_bit_file_of_six_channels_comes_out_as_wav_bit_for_bit() {
    streams_unchanged(spec(6, 48_000, 24, SampleFormat::Int), "stream.wav?sample=s24le&from=0", 68);
}

#[test]
fn a_float_file_comes_out_as_wav_bit_for_bit() {
    streams_unchanged(spec(2, 48_000, 32, SampleFormat::Float), "stream.wav?sample=f32le&from=0", 68);
}

#[test]
fn a_float_file_comes_out_as_pcm_bit_for_bit() {
    streams_unchanged(spec(1, 11_025, 32, SampleFormat::Float), "stream.pcm?sample=f32le&from=0", 0);
}

#[test]
fn gathered_samples_come_out_bit_for_bit() {
    streams_unchanged(spec(2, 48_000, 16, SampleFormat::Int), "stream.pcm?from=0&gather=100ms", 0);
}

#[test]
fn a_float_file_comes_out_as_json_bit_for_bit() {
    let directory = tempfile::tempdir().unwrap();
    let (source, heard) = (directory.path().join("in.wav"), directory.path().join("out"));
    let expected = noise(&source, spec(2, 8000, 32, SampleFormat::Float), 16_123);
    let server = Server::start(&["--source", &format!("wav:{}", source.display())]);
    assert!(Listener::start(&server.url("stream.json?from=0"), &heard).wait().success());
    let mut bytes = Vec::new();
    for (number, line) in std::fs::read_to_string(&heard).unwrap().lines().enumerate() {
        let block: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(block["sequence"], number);
        assert_eq!(block["position"], number * 80);
        let samples = block["samples"].as_array().unwrap();
        bytes.extend(samples.iter().flat_map(|sample| (sample.as_f64().unwrap() as f32).to_le_bytes()));
    }
    assert!(bytes == expected);
}

#[test]
fn ffmpeg_decodes_the_stream_to_the_same_samples() {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("in.wav");
    let expected = noise(&source, spec(2, 48_000, 16, SampleFormat::Int), 96_000);
    let server = Server::start(&["--source", &format!("wav:{}", source.display())]);
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i", &server.url("stream.wav?from=0"), "-f", "s16le", "-"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(output.stdout == expected, "{} of {} bytes", output.stdout.len(), expected.len());
}
