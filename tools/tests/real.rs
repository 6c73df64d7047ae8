//! `aircheckctl listen` against the real `aircheck`, over TCP: it records the samples that were served, and counts what
//! the server counts.

mod aircheck;

use std::path::{Path, PathBuf};

use aircheck::{Listening, Server, eventually, number};
use hound::{SampleFormat, WavSpec, WavWriter};

/// A block of 10 ms has 480 frames.
const RATE_HZ: u32 = 48_000;

/// Noise that no codec would survive, as a stereo WAV of 32-bit floats, and its bits.
fn noise(path: &Path, frames: u32) -> Vec<u32> {
    let spec = WavSpec { channels: 2, sample_rate: RATE_HZ, bits_per_sample: 32, sample_format: SampleFormat::Float };
    let mut writer = WavWriter::create(path, spec).expect("a file");
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut bits = Vec::new();
    for _ in 0..2 * frames {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let sample = (state as i32) as f32 / 2_147_483_648.0;
        writer.write_sample(sample).expect("space for it");
        bits.push(sample.to_bits());
    }
    writer.finalize().expect("space for it");
    bits
}

fn bits(path: &Path) -> Vec<u32> {
    let mut reader = hound::WavReader::open(path).expect("a WAV");
    assert_eq!((reader.spec().channels, reader.spec().sample_rate), (2, RATE_HZ));
    reader.samples::<f32>().map(|sample| sample.expect("whole samples").to_bits()).collect()
}

#[test]
fn the_recording_has_the_bits_that_were_served() {
    let directory = tempfile::tempdir().expect("a directory");
    let [served, taken]: [PathBuf; 2] = ["in.wav", "take.wav"].map(|name| directory.path().join(name));
    // Not a whole number of blocks, so that the last one is short.
    let frames = 2 * RATE_HZ + 123;
    let expected = noise(&served, frames);
    let mut server = Server::start(&["--source", &format!("wav:{}", served.display())]);
    let taken_name = taken.to_str().expect("UTF-8");
    let ended = Listening::start(&[&server.url("?from=0&name=check"), "-o", taken_name, "--strict"]).finish();

    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.count("received", "frame"), Some(u64::from(frames)), "{ended:?}");
    assert!(ended.summary.contains("lost      nothing"), "{ended:?}");
    let heard = bits(&taken);
    assert_eq!(heard.len(), expected.len());
    assert!(heard == expected, "as many samples, but others");
    let status = eventually("the server's end", || server.child.try_wait().expect("its status"));
    assert!(status.success(), "{status}");
}

/// The listener stands still until it has lost two seconds, comes back, and is then disconnected by the server, so that
/// nothing is on its way when the two accounts are compared.
#[test]
fn a_listener_that_stood_still_counts_as_the_server_does() {
    let server = Server::start(&["--source", "tone:440"]);
    let listening = Listening::start(&[&server.url("?name=slow&buffer=200ms"), "--strict"]);
    server.row_when("slow", |row| number(row, "delivered") > 20);

    // First its socket has to fill, then its ring.
    listening.signal("STOP");
    server.row_when("slow", |row| number(row, "lost") >= 200);
    listening.signal("CONT");

    // It is told of the gap with the next block, and goes on at the live head.
    let row = server.row_when("slow", |row| {
        number(row, "gaps") > 0 && row["lag_seconds"].as_f64().expect("seconds") < 0.2 && number(row, "queued") == 0
    });
    assert!(number(&row, "gap_max_blocks") >= 200, "{row}");
    server.ask("DELETE", &format!("/api/v1/listeners/{}", row["id"]));
    let ended = listening.finish();
    assert!(ended.notices.contains("gap: "), "{ended:?}");
    assert!(!ended.summary.contains("faults"), "every loss is announced: {ended:?}");

    let lost = ended.count("lost", "block").expect("it lost some");
    let received = ended.count("received", "block").expect("it received some");
    eventually("an empty table", || (server.ask("GET", "/api/v1/listeners").trim() == "[]").then_some(()));
    // Blocks that were still in its ring when it was ended never left the server: `left`.
    let format = r#"format="ws""#;
    let left = server.metric("aircheck_lost_blocks_total", &[format, r#"reason="left""#]);
    let all_lost = server.metric("aircheck_lost_blocks_total", &[format]);
    assert_eq!(lost, all_lost - left, "{row} {ended:?}");
    assert_eq!(received, server.metric("aircheck_delivered_blocks_total", &[format]), "{row} {ended:?}");
    // On a machine that keeps up nothing is lost between the row and the end; elsewhere it can only become more.
    assert!(lost >= number(&row, "lost"), "{row} {ended:?}");
    if server.metric("aircheck_capture_lost_blocks_total", &[]) == 0
        && ended.count("lost", "gap") == row["gaps"].as_u64()
    {
        assert_eq!(lost, number(&row, "lost"), "{row} {ended:?}");
    }
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.notices.contains("aircheckctl: the server ended this listener: closed (code 1008)"), "{ended:?}");
}

#[test]
fn strict_exits_with_3_after_a_loss() {
    let server = Server::start(&["--source", "tone:440"]);
    let listening = Listening::start(&[&server.url("?name=slow&buffer=200ms"), "--strict"]);
    server.row_when("slow", |row| number(row, "delivered") > 20);
    listening.signal("STOP");
    server.row_when("slow", |row| number(row, "lost") > 0);
    listening.signal("CONT");
    // Some blocks after the gap, so that the notice has come.
    let row = server.row_when("slow", |row| number(row, "gaps") > 0);
    server.row_when("slow", |later| {
        number(later, "delivered") > number(&row, "delivered") + 20 && number(later, "queued") == 0
    });
    listening.signal("INT");
    let ended = listening.finish();
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.notices.contains("aircheckctl: --strict: "), "{ended:?}");
    // It closed the WebSocket, so the server has no row for it any more.
    eventually("an empty table", || (server.ask("GET", "/api/v1/listeners").trim() == "[]").then_some(()));
}
