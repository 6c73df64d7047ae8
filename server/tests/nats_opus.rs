//! Opus on the hop from one server to another, through a real NATS server.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;
#[path = "common/cut.rs"]
mod cut;
#[path = "common/hop.rs"]
mod hop;
#[path = "common/nats.rs"]
mod nats;
#[path = "common/truth.rs"]
mod truth;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use common::{Listener, Server, assert_identity, eventually, refused, signal};
use cut::Way;
use hop::{Lines, assert_accounts, edge, lost_of, opus_origin, place_of, samples, write_chord, write_chord_frames};
use nats::Nats;
use truth::scrape::Metrics;

const SUBJECT: &str = "radio.one";
/// A NATS server with JetStream.
const JETSTREAM: &str = "jetstream { store_dir: js, max_memory_store: 64MB }";

fn wav(path: &Path) -> String {
    format!("wav:{}", path.display())
}

/// Writes the settings of a mount that is published in this form.
fn write_settings(path: &Path, source: &str, url: &str, form: &str) {
    let text = format!("[[mount]]\nname = 'hall'\nsource = '{source}'\npublish = '{url}'\npublish_format = '{form}'\n");
    std::fs::write(path, text).unwrap();
}

fn number_of(block: &Value) -> u64 {
    block["sequence"].as_u64().unwrap()
}

/// Returns so many blocks that a listener gets, none of which may be missing.
fn hear(lines: &mut Lines, count: usize) -> Vec<(u64, Vec<f32>)> {
    let mut lost = Vec::new();
    let blocks: Vec<_> =
        (0..count).map(|_| lines.block(&mut lost)).map(|block| (number_of(&block), samples(&block))).collect();
    assert_eq!(lost, []);
    assert!(blocks.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1), "numbers follow each other");
    blocks
}

/// Asserts that blocks are the sound of the file, each sample in its place.
fn assert_in_place(blocks: &[(u64, Vec<f32>)]) {
    let (late, signal_to_noise_db) = place_of(blocks);
    assert!(late == 0 && signal_to_noise_db > 12.0, "{late} frames late, {signal_to_noise_db} dB");
}

#[test]
fn opus_comes_out_of_an_edge_with_each_sample_in_its_place() {
    let nats = Nats::start("");
    for rate_hz in [48_000, 44_100] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("chord.wav");
        write_chord(&file, 60, rate_hz);
        let url = nats.url(SUBJECT);
        let origin = opus_origin(&wav(&file), &url, &[]);
        let edge = edge(&url);
        let (mut here, mut there) = (Lines::of(&origin), Lines::of(&edge));
        let blocks = hear(&mut there, 200);
        // The first ones are of a decoder that has just begun.
        assert_in_place(&blocks[10..]);
        // Times are the origin's: both are this machine's clock, as each process read it at its start.
        let (mut original, mut block) = (here.next(), there.next());
        while number_of(&original) != number_of(&block) {
            if number_of(&original) < number_of(&block) { original = here.next() } else { block = there.next() }
        }
        let status = edge.json("api/v1/status");
        let apart = block["captured_at"].as_f64().unwrap() - original["captured_at"].as_f64().unwrap();
        let error = status["hop"]["clock_error_seconds"].as_f64().unwrap();
        assert!(apart.abs() <= error + 0.002, "{apart} s apart, with an error of {error}");
        let hop = &status["hop"];
        assert_eq!((&hop["coding"], &hop["lost_blocks"], &hop["epochs"]), (&"opus".into(), &0.into(), &1.into()));
        assert_eq!(
            (&status["format"]["rate_hz"], &status["capture"]["lost_source"]),
            (&48_000.into(), &0.into()),
            "{status}"
        );
        // A message has two blocks.
        let metrics = Metrics::of(edge.address);
        let taken = metrics.sum("aircheck_hop_messages_total", &["result=\"taken\""]);
        let blocks = edge.json("api/v1/status")["capture"]["blocks"].as_f64().unwrap();
        assert!((taken * 2.0 - blocks).abs() < 20.0, "{taken} messages of {blocks} blocks");
        let status = origin.json("api/v1/status");
        let publish = &status["publish"];
        assert_eq!((&publish["coding"], &publish["bitrate"]), (&"opus".into(), &128_000.into()), "{publish}");
        assert!(publish["queued"].as_u64() < Some(50) && publish["sent"].as_u64() > Some(200), "{publish}");
        // A listener of the same packets shares their encoder; the other encoder is that of lines.
        let url = origin.url("stream.opus?bitrate=128k&gather=20ms");
        let _listener = Listener::start(&url, &directory.path().join("heard.opus"));
        eventually("the listener", || (origin.rows().len() == 2).then_some(()));
        assert_eq!((&status["encoders"], &origin.json("api/v1/status")["encoders"]), (&2.into(), &2.into()));
        assert_accounts(&origin);
        assert_accounts(&edge);
    }
}

#[test]
fn what_is_lost_or_does_not_belong_is_counted_by_its_blocks() {
    let nats = Nats::start("");
    let messages = {
        let _origin = opus_origin("tone:440", &nats.url(SUBJECT), &[]);
        nats.client().many_of(SUBJECT, 500)
    };
    assert!(
        messages.iter().all(|message| message[..6] == *b"AIRC\x02\x04"),
        "an edge of the version before says so of them"
    );
    // An origin by hand sends what a real one has sent, with losses.
    let url = nats.url("radio.two");
    let mut client = nats.client();
    let (sent, stop) = (std::sync::atomic::AtomicUsize::new(0), std::sync::atomic::AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let begun = Instant::now();
            let mut damaged = messages[380].clone();
            damaged.pop();
            for index in 0..messages.len() {
                std::thread::sleep(
                    (begun + Duration::from_millis(20 * index as u64)).saturating_duration_since(Instant::now()),
                );
                match index {
                    // Lost: one message, and two.
                    300 | 320 | 321 => {}
                    340 => client.publish_all("radio.two", &[&messages[340], &messages[340]]),
                    // In the wrong order.
                    360 => client.publish_all("radio.two", &[&messages[361], &messages[360]]),
                    361 => {}
                    // Its packet is not whole.
                    380 => client.publish("radio.two", &damaged),
                    390 => client.publish_all("radio.two", &[&messages[390][..], b"hello"]),
                    _ => client.publish("radio.two", &messages[index]),
                }
                sent.store(index, std::sync::atomic::Ordering::Release);
                if stop.load(std::sync::atomic::Ordering::Acquire) {
                    return;
                }
            }
        });
        let edge = edge(&url);
        let mut lines = Lines::of(&edge);
        let mut lost = Vec::new();
        let first = number_of(&lines.block(&mut lost));
        assert!(sent.load(std::sync::atomic::Ordering::Acquire) < 290, "the listener is there before the first loss");
        let end = u64::from_le_bytes(messages[440][40..48].try_into().unwrap());
        let mut heard = 1;
        while number_of(&lines.block(&mut lost)) < end {
            heard += 1;
            if heard % 100 == 0 {
                assert_accounts(&edge);
            }
        }
        heard += 1;
        let (status, rows) = (edge.json("api/v1/status"), edge.rows());
        stop.store(true, std::sync::atomic::Ordering::Release);
        // With each hole goes the block before it, whose last frames are in the message that is lost.
        let expected = [3, 5, 3, 3].map(|blocks| ("hop".to_owned(), blocks));
        assert_eq!(lost, expected);
        assert_eq!(heard + 14, end - first + 1);
        assert_eq!(
            (&status["capture"]["lost_hop"], &status["capture"]["lost_source"]),
            (&14.into(), &0.into()),
            "{status}"
        );
        let messages = &status["hop"]["messages"];
        assert_eq!(
            (&messages["duplicate"], &messages["late"], &messages["malformed"]),
            (&1.into(), &1.into(), &2.into())
        );
        assert_identity(&rows[0]);
        assert_eq!(rows[0]["lost"], 14, "{rows:?}");
        edge.wait_for_log("its packets are no Opus");
    });
}

#[test]
fn an_origin_and_an_edge_that_start_anew_go_on_with_the_numbers() {
    let nats = Nats::start("");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("chord.wav");
    write_chord(&file, 60, 48_000);
    let url = nats.url(SUBJECT);
    let first_origin = opus_origin(&wav(&file), &url, &[]);
    // The listener does not read while others start, and is to lose nothing meanwhile but what the hop has lost.
    let stays = Server::start(&["--source", &url, "--hop-wait", "30s", "--buffer", "1m"]);
    let mut lines = Lines::at(&stays, "stream.json?buffer=1m");
    hear(&mut lines, 50);
    // An edge that starts anew has the same sound in the same places.
    for _ in 0..2 {
        let other = edge(&url);
        assert_in_place(&hear(&mut Lines::of(&other), 100)[10..]);
        assert_accounts(&other);
    }
    drop(first_origin);
    let second_origin = opus_origin("tone:440", &url, &[]);
    let (mut lost, mut last) = (Vec::new(), 0);
    lines.block_with("the second epoch", &mut lost, |lines, block, _| {
        let number = number_of(&block);
        assert!(number > last, "numbers go on");
        last = number;
        (!lines.epochs.is_empty()).then_some(())
    });
    hear(&mut lines, 100);
    assert!(lost_of(&lost, "hop") > 0 && lost.iter().all(|(reason, _)| reason == "hop"), "{lost:?}");
    let hop = stays.json("api/v1/status")["hop"].clone();
    assert_eq!((&hop["epochs"], &hop["number_offset"]), (&2.into(), &0.into()), "{hop}");
    assert_accounts(&stays);
    assert_accounts(&second_origin);
}

#[test]
fn what_has_not_come_is_fetched_from_the_replay_and_decoded_in_order() {
    let nats = Nats::start(JETSTREAM);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("chord.wav");
    write_chord(&file, 60, 48_000);
    let origin = opus_origin(&wav(&file), &nats.url(SUBJECT), &["--replay", "1m"]);
    let replay = eventually("a replay", || {
        let replay = origin.json("api/v1/status")["publish"]["replay"].clone();
        (replay["kept"] == true).then_some(replay)
    });
    // A minute at 128 kbit/s is 0.96 MB, with heads, an eighth and 64 KB more 1.4.
    assert!((1_000_000..1_600_000).contains(&replay["max_bytes"].as_u64().unwrap()), "{replay}");
    let whole = edge(&nats.url(SUBJECT));
    let way = Way::to(nats.port());
    let broken =
        Server::start(&["--source", &format!("nats://127.0.0.1:{}/{SUBJECT}", way.port()), "--hop-wait", "10s"]);
    let (mut of_whole, mut of_broken) = (Lines::of(&whole), Lines::of(&broken));
    let sent = || origin.json("api/v1/status")["publish"]["sent"].as_u64().unwrap();
    let (mut one, mut other) = std::thread::scope(|scope| {
        let whole = scope.spawn(|| hear(&mut of_whole, 700));
        let mut blocks = hear(&mut of_broken, 100);
        for missed in [40, 200] {
            let before = sent();
            way.cut();
            eventually("blocks that are missed", || (sent() >= before + missed).then_some(()));
            way.mend();
            blocks.extend(hear(&mut of_broken, 50 + missed as usize));
        }
        (whole.join().unwrap(), blocks)
    });
    // Both decoders have had a second to come to the same state.
    let from = one[0].0.max(other[0].0) + 100;
    let to = one.last().unwrap().0.min(other.last().unwrap().0);
    assert!(from + 250 < to, "{from} to {to}");
    for blocks in [&mut one, &mut other] {
        blocks.retain(|(number, _)| (from..=to).contains(number));
    }
    assert!(one == other, "a decoder that has got all packets has the same samples");
    let status = broken.json("api/v1/status");
    assert_eq!((&status["hop"]["lost_blocks"], &status["capture"]["lost_source"]), (&0.into(), &0.into()), "{status}");
    let filled = status["hop"]["messages"]["filled"].as_u64().unwrap();
    assert!(filled >= 115, "{filled} messages");
    broken.wait_for_log("were fetched from the replay");
    assert_accounts(&broken);

    // An edge that starts has the history of the time before.
    let later = edge(&nats.url(SUBJECT));
    let first = hop::first_block(&later);
    let mut lines = Lines::at(&later, &format!("stream.json?buffer=10s&from={first}"));
    let history = hear(&mut lines, 300);
    assert_eq!(history[0].0, first);
    assert_in_place(&history[10..]);
    let status = later.json("api/v1/status");
    assert!(status["hop"]["messages"]["past"].as_u64() > Some(250), "{status}");
    assert_eq!((&status["hop"]["lost_blocks"], &status["capture"]["lost_source"]), (&0.into(), &0.into()), "{status}");
    assert!(status["latency_seconds"]["ring"]["max"].as_f64().unwrap() < 3.0, "{status}");
    assert_accounts(&later);
    assert_accounts(&origin);
}

#[test]
fn what_opus_cannot_carry_to_the_sample_is_refused_and_says_what_would_work() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("chord.wav");
    write_chord(&file, 1, 44_100);
    let publish = ["--publish", "nats://127.0.0.1:1/radio.one", "--publish-format", "opus"];
    for (arguments, text) in [
        (
            vec!["--source", &wav(&file), "--block", "5ms"],
            "choose another --block, such as 10ms, or --publish-format exact",
        ),
        (vec!["--source", "stdin", "--channels", "6"], "Opus: it carries 1 or 2 channels, and the source has 6"),
    ] {
        let (code, stderr) = refused(&[&arguments[..], &publish[..]].concat());
        let line = stderr.lines().last().unwrap_or_default();
        assert!(code == 1 && line.contains(text), "{code}: {stderr}");
    }
    // A mount that is on the air goes on as it was.
    let nats = Nats::start("");
    let settings = directory.path().join("aircheck.toml");
    let write = |form: &str| {
        let (source, url) = (wav(&file), nats.url(SUBJECT));
        let text = format!(
            "[[mount]]\nname = 'hall'\nsource = '{source}'\nloop = true\nblock = '5ms'\npublish = '{url}'\npublish_format = '{form}'\n"
        );
        std::fs::write(&settings, text).unwrap();
    };
    write("exact");
    let server = Server::start(&["--config", settings.to_str().unwrap()]);
    write("opus");
    signal(server.pid(), "HUP");
    server.wait_for_log("choose another --block");
    assert_eq!(server.json("api/v1/status")["publish"]["coding"], "s16");
    assert_accounts(&server);
}

#[test]
fn the_form_is_changed_while_the_sound_goes_on() {
    let nats = Nats::start("");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("aircheck.toml");
    let write = |form: &str| write_settings(&file, "tone:440", &nats.url(SUBJECT), form);
    write("opus");
    let server = Server::start(&["--config", file.to_str().unwrap()]);
    eventually("a publisher", || (server.json("api/v1/status")["publish"]["connected"] == true).then_some(()));
    let edge = edge(&nats.url(SUBJECT));
    let mut lines = Lines::of(&edge);
    let mut lost = Vec::new();
    for (format, coding) in [("exact", "f32"), ("opus:64k", "opus")] {
        write(format);
        signal(server.pid(), "HUP");
        lines.block_with(coding, &mut lost, |_, _, _| {
            (edge.json("api/v1/status")["hop"]["coding"] == *coding).then_some(())
        });
        // A listener may be a little behind what the status tells.
        (0..100).for_each(|_| drop(lines.block(&mut lost)));
    }
    assert!(lost.iter().all(|(reason, _)| reason == "hop"), "{lost:?}");
    let publish = server.json("api/v1/status")["publish"].clone();
    assert_eq!(publish["bitrate"], json!(64_000), "{publish}");
    assert_accounts(&server);
    assert_accounts(&edge);
}

#[test]
fn the_end_of_a_file_comes_with_what_the_codec_has_held_back() {
    let nats = Nats::start("");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("chord.wav");
    // Four seconds and a fifth of a block.
    write_chord_frames(&file, 4 * 48_000 + 100, 48_000);
    for form in ["opus:128k", "exact"] {
        let url = nats.url(&format!("radio.{}", &form[..4]));
        // Nobody listens to it, so nothing else holds up its end.
        let mut origin = Server::start(&["--source", &wav(&file), "--publish", &url, "--publish-format", form]);
        let edge = edge(&url);
        let mut lines = Lines::of(&edge);
        let mut blocks = Vec::new();
        while blocks.last().is_none_or(|(number, _)| *number < 400) {
            let line = lines.next();
            if line.get("epoch").is_none() {
                assert!(line.get("gap").is_none(), "{form}: {line} after {} blocks", blocks.len());
                blocks.push((number_of(&line), samples(&line)));
            }
        }
        assert_eq!((blocks[blocks.len() - 2].1.len(), blocks[blocks.len() - 1].1.len()), (480, 100), "{form}");
        assert_in_place(&blocks[blocks.len() - 100..]);
        assert!(origin.wait().success(), "{form}");
    }
}

#[test]
fn edges_must_be_started_again_where_the_form_changes_the_rate_and_the_log_says_so() {
    const WORDS: &str = "must be started again";
    let nats = Nats::start("");
    let directory = tempfile::tempdir().unwrap();
    let (file, settings) = (directory.path().join("chord.wav"), directory.path().join("aircheck.toml"));
    write_chord(&file, 60, 44_100);
    let write = |form: &str| write_settings(&settings, &wav(&file), &nats.url(SUBJECT), form);
    write("opus:96k");
    let server = Server::start(&["--config", settings.to_str().unwrap()]);
    let publish = || server.json("api/v1/status")["publish"].clone();
    write("opus:64k");
    signal(server.pid(), "HUP");
    eventually("the other bitrate", || (publish()["bitrate"] == 64_000).then_some(()));
    write("exact");
    signal(server.pid(), "HUP");
    server.wait_for_log("changes their sound from 48000 to 44100 Hz");
    assert_eq!(publish()["coding"], "s16");
    assert_eq!(server.log().matches(WORDS).count(), 1, "the other bitrate changes nothing for them");
}

#[test]
fn a_publisher_that_cannot_start_leaves_the_one_before() {
    let nats = Nats::start("");
    let directory = tempfile::tempdir().unwrap();
    let settings = directory.path().join("aircheck.toml");
    let write = |form: &str| write_settings(&settings, "tone:440", &nats.url(SUBJECT), form);
    write("exact");
    let server = Server::start(&["--config", settings.to_str().unwrap()]);
    let publish = || server.json("api/v1/status")["publish"].clone();
    eventually("a publisher", || (publish()["connected"] == true).then_some(()));
    // Files for the settings, and too few for a runtime.
    let open = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap();
    let open: Vec<u64> = open.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
    let second_free = (0..).filter(|number| !open.contains(number)).nth(1).unwrap();
    let limit = |files: &str| {
        let mut prlimit = Command::new("prlimit");
        prlimit.args(["--pid", &server.pid().to_string(), &format!("--nofile={files}:")]);
        assert!(prlimit.status().unwrap().success());
    };
    limit(&second_free.to_string());
    write("opus");
    signal(server.pid(), "HUP");
    server.wait_for_log("cannot publish: the system refused: ");
    limit("1000");
    let sent = publish()["sent"].as_u64().unwrap();
    assert_eq!(publish()["coding"], "f32");
    eventually("more blocks", || (publish()["sent"].as_u64() > Some(sent + 100)).then_some(()));
    signal(server.pid(), "HUP");
    eventually("the other form", || (publish()["coding"] == "opus").then_some(()));
    assert_accounts(&server);
}

#[test]
fn sound_that_the_origin_has_from_elsewhere_or_not_at_all_is_so_at_the_edge() {
    let nats = Nats::start("");
    for (more, key) in [(&[][..], "lost_source"), (&["--fallback", "tone:440", "--fallback-after", "0s"], "fallback")] {
        let url = nats.url(&format!("radio.{key}"));
        // No source client is there.
        let origin = opus_origin("put", &url, more);
        let edge = edge(&url);
        let capture = eventually(key, || {
            let capture = edge.json("api/v1/status")["capture"].clone();
            (capture[key].as_u64() > Some(100)).then_some(capture)
        });
        assert_eq!(capture["lost_hop"], 0, "{capture}");
        if key == "fallback" {
            // From now on, because there was no sound before the fallback began.
            hear(&mut Lines::of(&edge), 50);
        } else {
            assert_eq!(capture["blocks"], 0, "{capture}");
        }
        assert_accounts(&edge);
        assert_accounts(&origin);
    }
}
