//! An origin, its edges, and their accounts.
#![allow(dead_code, reason = "each test program uses a part of this")]
#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Instant;

use hound::{SampleFormat, WavSpec, WavWriter};
use serde_json::Value;

use crate::common::{Server, TEST_TIMEOUT, assert_identity, curl, eventually};
use crate::truth::scrape::Metrics;

/// A listener of lines of JSON, ended when dropped.
pub(crate) struct Lines {
    child: Child,
    reader: BufReader<std::process::ChildStdout>,
    /// The notices of new runs so far.
    pub(crate) epochs: Vec<Value>,
}

impl Lines {
    pub(crate) fn of(server: &Server) -> Self {
        Self::at(server, "stream.json?buffer=10s")
    }

    /// Listens to a path.
    pub(crate) fn at(server: &Server, path: &str) -> Self {
        let mut child = curl(&[&server.url(path)]).stdout(Stdio::piped()).spawn().unwrap();
        let reader = BufReader::new(child.stdout.take().unwrap());
        Self { child, reader, epochs: Vec::new() }
    }

    /// Returns the next line: a block, or a gap.
    pub(crate) fn next(&mut self) -> Value {
        let mut line = String::new();
        assert!(self.reader.read_line(&mut line).unwrap() > 0, "the stream has ended");
        serde_json::from_str(&line).unwrap()
    }

    /// Returns the next block, and counts the lost blocks before it by their reasons.
    pub(crate) fn block(&mut self, lost: &mut Vec<(String, u64)>) -> Value {
        loop {
            let line = self.next();
            if let Some(epoch) = line.get("epoch") {
                self.epochs.push(epoch.clone());
                continue;
            }
            let Some(gap) = line.get("gap") else { return line };
            lost.push((gap["reason"].as_str().unwrap().to_owned(), gap["blocks"].as_u64().unwrap()));
        }
    }

    /// Takes blocks as they come until `look` finds `what` in one: [`eventually`] pauses for longer than a block is, so that its listener
    /// would fall behind.
    pub(crate) fn block_with<T>(
        &mut self,
        what: &str,
        lost: &mut Vec<(String, u64)>,
        mut look: impl FnMut(&Self, Value, &[(String, u64)]) -> Option<T>,
    ) -> T {
        let start = Instant::now();
        loop {
            let block = self.block(lost);
            if let Some(found) = look(self, block, lost) {
                return found;
            }
            assert!(start.elapsed() < TEST_TIMEOUT, "timeout while waiting for {what}; lost: {lost:?}");
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn samples(block: &Value) -> Vec<f32> {
    block["samples"].as_array().unwrap().iter().map(|sample| sample.as_f64().unwrap() as f32).collect()
}

/// Starts a server that plays `source` and publishes it.
pub(crate) fn origin(source: &str, url: &str) -> Server {
    let server = Server::start(&["--source", source, "--publish", url]);
    eventually("a publisher", || (server.json("api/v1/status")["publish"]["connected"] == true).then_some(()));
    server
}

/// Starts a server that plays `source` and publishes it as Opus.
pub(crate) fn opus_origin(source: &str, url: &str, more: &[&str]) -> Server {
    let arguments = ["--source", source, "--publish", url, "--publish-format", "opus:128k"];
    let server = Server::start(&[&arguments[..], more].concat());
    eventually("a publisher", || (server.json("api/v1/status")["publish"]["connected"] == true).then_some(()));
    server
}

/// Starts an edge that waits for sound as long as a loaded machine may take: if it loses anything, the hop has lost it.
pub(crate) fn edge(url: &str) -> Server {
    edge_with(url, &["--hop-wait", "30s"])
}

/// Starts an edge that soon puts silence where nothing comes, as an edge does by default.
pub(crate) fn impatient_edge(url: &str) -> Server {
    edge_with(url, &[])
}

/// Starts an edge whose encoders may be far behind, because seconds of sound come at once after a cut.
pub(crate) fn edge_with(url: &str, more: &[&str]) -> Server {
    Server::start(&[&["--source", url, "--buffer", "10s"], more].concat())
}

/// Asserts that each block is accounted for at both ends: of the capture, of the publisher and of each listener.
pub(crate) fn assert_accounts(server: &Server) {
    let metrics = Metrics::of(server.figures_address());
    let status = server.json("api/v1/status");
    if let Some(publish) = status["publish"].as_object() {
        let [offered, sent, lost, queued] =
            ["offered", "sent", "lost", "queued"].map(|key| publish[key].as_u64().unwrap());
        assert_eq!(offered, sent + lost + queued, "{publish:?}");
        let of = |name: &str| metrics.sum(&format!("aircheck_publish_{name}"), &[]);
        assert_eq!(of("offered_blocks_total"), of("sent_blocks_total") + of("lost_blocks_total") + of("queued_blocks"));
    }
    if !status["hop"].is_null() {
        let first_sequence = first_block(server);
        let of = |status: &Value| {
            let count = |key: &str| status["capture"][key].as_u64().unwrap();
            ["blocks", "lost_overflow", "lost_xrun", "lost_source", "lost_hop", "fallback"]
                .map(count)
                .iter()
                .sum::<u64>()
        };
        // The head is read after the counts, and then before them.
        let next = |status: &Value| status["head_sequence"].as_u64().unwrap() + 1 - first_sequence;
        let later = server.json("api/v1/status");
        assert!(of(&status) <= next(&later) + 33 && next(&status) <= of(&later), "{status} {later}");
    }
    server.rows().iter().for_each(assert_identity);
}

/// Returns the number of the first block that an edge has taken.
pub(crate) fn first_block(edge: &Server) -> u64 {
    eventually("the first block in the log", || {
        let log = edge.log();
        let (_, rest) = log.split_once(", with block ")?;
        rest.split_whitespace().next()?.parse().ok()
    })
}

pub(crate) fn lost_of(lost: &[(String, u64)], reason: &str) -> u64 {
    lost.iter().filter(|(of, _)| of == reason).map(|(_, blocks)| blocks).sum()
}

/// Returns the sound of an instrument at a time in seconds: a chord whose loudness and pitch change, so that no shift fits as well as none.
pub(crate) fn chord(t: f64) -> f32 {
    let tone = |hz: f64, depth: f64| (std::f64::consts::TAU * hz * t + depth * (5.0 * t).sin()).sin();
    ((0.2 * tone(331.0, 40.0) + 0.15 * tone(1277.0, 90.0)) * (1.2 + (11.0 * t).sin()) / 2.0) as f32
}

/// Writes so many seconds of [`chord`], mono.
pub(crate) fn write_chord(path: &Path, seconds: u32, rate_hz: u32) {
    write_chord_frames(path, seconds * rate_hz, rate_hz);
}

/// Writes so many frames of it.
pub(crate) fn write_chord_frames(path: &Path, frames: u32, rate_hz: u32) {
    let spec = WavSpec { channels: 1, sample_rate: rate_hz, bits_per_sample: 16, sample_format: SampleFormat::Int };
    let mut writer = WavWriter::create(path, spec).unwrap();
    for frame in 0..frames {
        writer.write_sample((chord(f64::from(frame) / f64::from(rate_hz)) * 32_767.0).round() as i16).unwrap();
    }
    writer.finalize().unwrap();
}

/// Returns by how many frames blocks of [`chord`] at 48 kHz come late, from -600 to 600, and there the ratio of the signal to what differs from
/// it, in dB. Block *n* begins at *n* times 10 ms.
pub(crate) fn place_of(blocks: &[(u64, Vec<f32>)]) -> (i64, f64) {
    const MOST: i64 = 600;
    let start = blocks[0].0 as i64 * FRAMES as i64 - MOST;
    let end = (blocks[blocks.len() - 1].0 as i64 + 1) * FRAMES as i64 + MOST;
    let original: Vec<f32> = (start..end).map(|frame| chord(frame as f64 / 48_000.0)).collect();
    let ratio_db = |late: i64| {
        let (mut signal, mut noise) = (0.0, 0.0);
        for (number, samples) in blocks {
            let from = *number as i64 * FRAMES as i64 - late - start;
            for (sample, original) in samples.iter().zip(&original[from as usize..]).step_by(7) {
                signal += f64::from(*original).powi(2);
                noise += f64::from(sample - original).powi(2);
            }
        }
        10.0 * (signal / noise).log10()
    };
    (-MOST..=MOST).map(|late| (late, ratio_db(late))).max_by(|(_, one), (_, other)| one.total_cmp(other)).unwrap()
}

/// Frames of a block of 10 ms at 48 kHz.
pub(crate) const FRAMES: usize = 480;

/// Writes noise of so many seconds, 48 kHz, and returns its samples. No sample stands twice in a row, and blocks differ.
pub(crate) fn noise(path: &Path, seconds: usize, format: SampleFormat) -> Vec<f32> {
    let bits_per_sample = if format == SampleFormat::Int { 16 } else { 32 };
    let spec = WavSpec { channels: 1, sample_rate: 48_000, bits_per_sample, sample_format: format };
    let mut writer = WavWriter::create(path, spec).unwrap();
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut samples = Vec::new();
    for _ in 0..seconds * 48_000 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if format == SampleFormat::Int {
            let sample = (state >> 48) as i16;
            writer.write_sample(sample).unwrap();
            samples.push(f32::from(sample) / 32_768.0);
        } else {
            let sample = (state as i32) as f32 / 2_147_483_648.0;
            writer.write_sample(sample).unwrap();
            samples.push(sample);
        }
    }
    writer.finalize().unwrap();
    samples
}
