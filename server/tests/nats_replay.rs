//! The replay of a subject, in a real NATS server with JetStream: what it keeps, and what is fetched from it.

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

use std::io::Read as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use hound::SampleFormat;
use serde_json::Value;

use common::{Server, TEST_TIMEOUT, curl, eventually};
use cut::Way;
use hop::{FRAMES, Lines, assert_accounts, edge, lost_of, noise, samples};
use nats::Nats;
use truth::scrape::Metrics;

/// A NATS server with JetStream.
const JETSTREAM: &str = "jetstream { store_dir: js, max_memory_store: 64MB }";
/// Subject of all tests, and the stream with its replay.
const SUBJECT: &str = "radio.one";
const STREAM: &str = "AIRCHECK_radio_one";

/// Starts a server that plays `source` and publishes it with a replay.
fn origin(nats: &Nats, source: &str, replay: &str) -> Server {
    origin_as(nats, source, replay, "exact")
}

/// Starts it like [`origin`], and publishes in this form.
fn origin_as(nats: &Nats, source: &str, replay: &str, form: &str) -> Server {
    let url = nats.url(SUBJECT);
    Server::start(&["--source", source, "--publish", &url, "--replay", replay, "--publish-format", form])
}

/// Starts an edge whose history has all that the replay has, however late that is, and whose listeners may be as late.
fn edge_with_all(nats: &Nats) -> Server {
    Server::start(&["--source", &nats.url(SUBJECT), "--hop-wait", "30s", "--history", "1m", "--buffer", "1m"])
}

/// Returns the account of a replay, once it is kept.
fn kept(origin: &Server) -> Value {
    eventually("a replay", || {
        let replay = origin.json("api/v1/status")["publish"]["replay"].clone();
        (replay["kept"] == true).then_some(replay)
    })
}

/// Returns what NATS says of the stream.
fn info(nats: &Nats) -> Value {
    let answer = nats.client().request(&format!("$JS.API.STREAM.INFO.{STREAM}"), "");
    serde_json::from_slice(&answer).unwrap()
}

fn sent(origin: &Server) -> u64 {
    origin.json("api/v1/status")["publish"]["sent"].as_u64().unwrap()
}

fn filled(edge: &Server) -> u64 {
    edge.json("api/v1/status")["hop"]["messages"]["filled"].as_u64().unwrap()
}

/// Cuts the way until the origin has sent so many blocks. `meanwhile` is done again and again.
fn miss(way: &Way, origin: &Server, blocks: u64, mut meanwhile: impl FnMut()) {
    way.cut();
    // What was sent before may have come.
    let before = sent(origin);
    eventually("blocks that are missed", || {
        meanwhile();
        (sent(origin) >= before + blocks).then_some(())
    });
    way.mend();
}

fn wav(path: &Path) -> String {
    format!("wav:{}", path.display())
}

#[test]
fn what_a_broken_connection_has_cost_is_fetched_and_comes_in_order_bit_for_bit() {
    let nats = Nats::start(JETSTREAM);
    for format in [SampleFormat::Int, SampleFormat::Float] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("noise.wav");
        let sound = noise(&file, 60, format);
        let origin = origin(&nats, &wav(&file), "1m");
        kept(&origin);
        let way = Way::to(nats.port());
        let url = format!("nats://127.0.0.1:{}/{SUBJECT}", way.port());
        // Long enough for a machine that has much else to do.
        let edge = Server::start(&["--source", &url, "--hop-wait", "30s", "--buffer", "1m"]);
        let first = eventually("a block", || edge.json("api/v1/status")["head_sequence"].as_u64()) as usize;
        // Samples cost the server of a debug build less than lines.
        let listener = edge.url(&format!("stream.pcm?sample=f32le&buffer=1m&from={first}"));
        let mut listener = curl(&[&listener]).stdout(Stdio::piped()).spawn().unwrap();
        let mut heard = listener.stdout.take().unwrap();
        let mut client = nats.client();
        let mut foreign = client.next_of(SUBJECT);
        foreign[24..32].copy_from_slice(&7_u64.to_le_bytes());
        for round in 0..3 {
            // What a second publisher sends lies between the blocks that are looked for.
            let blocks = if round == 2 { 200 } else { 40 };
            miss(&way, &origin, blocks, || (0..20).for_each(|_| client.publish(SUBJECT, &foreign)));
            if round == 2 {
                // It breaks again while they are fetched, and what was asked for is not answered.
                let before = filled(&edge);
                eventually("the first of them", || (filled(&edge) > before).then_some(()));
                way.hold();
                let goal = sent(&origin) + 10;
                eventually("some more that are missed", || (sent(&origin) > goal).then_some(()));
                miss(&way, &origin, 10, || {});
            }
            let mut bytes = vec![0; 150 * FRAMES * 4];
            heard.read_exact(&mut bytes).unwrap();
            let samples = bytes.chunks_exact(4).map(|it| f32::from_le_bytes(it.try_into().unwrap()));
            let expected = &sound[(first + 150 * round) * FRAMES..][..150 * FRAMES];
            assert!(samples.eq(expected.iter().copied()), "other samples: {}", edge.rows()[0]);
        }
        let head = |server: &Server| server.json("api/v1/status")["head_sequence"].as_u64();
        let goal = head(&origin);
        eventually("the end of the last hole", || (head(&edge) > goal).then_some(()));
        let (status, rows) = (edge.json("api/v1/status"), edge.rows());
        let _ = listener.kill();
        let _ = listener.wait();
        assert_eq!(rows[0]["lost"], 0, "{rows:?}");
        assert_eq!((&status["hop"]["lost_blocks"], &status["capture"]["lost_source"]), (&0.into(), &0.into()));
        let metrics = Metrics::of(edge.address);
        assert!(metrics.sum("aircheck_hop_messages_total", &["result=\"filled\""]) >= 290.0);
        edge.wait_for_log("were fetched from the replay");
        assert_accounts(&edge);
        assert_accounts(&origin);
    }
}

#[test]
fn what_comes_too_late_or_is_not_asked_for_is_lost_on_the_hop() {
    let nats = Nats::start(JETSTREAM);
    let origin = origin(&nats, "tone:440", "1m");
    kept(&origin);
    for (wait, blocks) in [("off", 20), ("100ms", 60)] {
        let way = Way::to(nats.port());
        let url = format!("nats://127.0.0.1:{}/{SUBJECT}", way.port());
        let edge = Server::start(&["--source", &url, "--hop-wait", wait]);
        let mut lines = Lines::of(&edge);
        let mut lost = Vec::new();
        lines.block(&mut lost);
        miss(&way, &origin, blocks, || {});
        lines.block_with("what is lost", &mut lost, |_, _, lost| (lost_of(lost, "hop") >= blocks).then_some(()));
        (0..100).for_each(|_| drop(lines.block(&mut lost)));
        let status = edge.json("api/v1/status");
        assert_eq!(filled(&edge), 0, "{status}");
        assert_eq!(status["capture"]["lost_hop"], lost_of(&lost, "hop"), "{status} {lost:?}");
        assert!(lost.iter().all(|(reason, _)| reason == "hop"), "{lost:?}");
        assert_accounts(&edge);
    }
}

#[test]
fn a_replay_is_bounded_and_made_anew_where_it_is_gone() {
    let nats = Nats::start(JETSTREAM);
    let first = origin(&nats, "tone:440", "2s");
    let replay = kept(&first);
    assert_eq!((&replay["stream"], &replay["span_seconds"]), (&STREAM.into(), &2.0.into()));
    let max_bytes = replay["max_bytes"].as_u64().unwrap();
    eventually("more than it may keep", || (sent(&first) > 400).then_some(()));
    // 200 blocks, of which the oldest goes within the server's own interval. What comes late leaves it with fewer for a while.
    let told = eventually("two seconds of sound", || {
        Some(info(&nats)).filter(|told| told["state"]["messages"].as_u64() >= Some(190))
    });
    let (config, state) = (&told["config"], &told["state"]);
    assert_eq!(config["subjects"], serde_json::json!([SUBJECT]), "{told}");
    assert_eq!((&config["storage"], &config["discard"]), (&"memory".into(), &"old".into()), "{told}");
    assert_eq!((&config["max_age"], &config["max_bytes"]), (&2_000_000_000_u64.into(), &max_bytes.into()), "{told}");
    let bytes = state["bytes"].as_u64().unwrap();
    // They have an eighth to spare.
    assert!(state["messages"].as_u64() <= Some(300), "{told}");
    assert!(bytes <= max_bytes && bytes * 3 / 2 > max_bytes - 65_536, "{bytes} of {max_bytes}: {told}");

    // Another span, with the same stream.
    let created = told["created"].clone();
    drop(first);
    let second = origin(&nats, "tone:440", "10s");
    kept(&second);
    // What was captured before it was connected.
    let lost_before = second.json("api/v1/status")["publish"]["lost"].clone();
    let told = info(&nats);
    assert_eq!((&told["config"]["max_age"], &told["created"]), (&10_000_000_000_u64.into(), &created), "{told}");
    // Somebody takes it away.
    nats.client().request(&format!("$JS.API.STREAM.DELETE.{STREAM}"), "");
    assert!(info(&nats)["error"].is_object());
    eventually("the stream", || info(&nats)["state"]["messages"].as_u64().filter(|messages| *messages > 10));
    let publish = second.json("api/v1/status")["publish"].clone();
    assert_eq!((&publish["replay"]["failures"], &publish["lost"]), (&0.into(), &lost_before), "{publish}");
    let metrics = Metrics::of(second.address);
    assert_eq!(metrics.sum("aircheck_publish_replay_up", &[]), 1.0);
    assert_accounts(&second);
}

#[test]
fn without_a_replay_that_is_told_and_the_sound_goes_on_live() {
    let users = "authorization { users = [ { user: studio, password: secret, permissions: { publish: { deny: [\"$JS.API.>\"] } } } ] }";
    let cases = [
        ("", "", "JetStream does not answer"),
        (
            "jetstream { store_dir: js, max_memory_store: 1MB }",
            "",
            "has no 3 MB of memory for it (raise its max_memory_store",
        ),
        (&format!("{JETSTREAM}\n{users}"), "studio:secret@", "NATS refuses"),
    ];
    for (lines, user, text) in cases {
        let mut nats = Nats::start(lines);
        let url = format!("nats://{user}127.0.0.1:{}/{SUBJECT}", nats.port());
        let origin = Server::start(&["--source", "tone:440", "--publish", &url, "--replay", "10s"]);
        origin.wait_for_log(text);
        let publish = eventually("a failure", || {
            let publish = origin.json("api/v1/status")["publish"].clone();
            publish["replay"]["failure"].as_str().filter(|failure| failure.contains(text))?;
            Some(publish)
        });
        assert_eq!((&publish["replay"]["kept"], &publish["connected"]), (&false.into(), &true.into()), "{publish}");
        let metrics = Metrics::of(origin.address);
        assert_eq!(metrics.sum("aircheck_publish_replay_up", &[]), 0.0);
        assert!(metrics.sum("aircheck_publish_replay_failures_total", &[]) >= 1.0);
        let edge = edge(&url);
        let mut lines = Lines::of(&edge);
        let mut lost = Vec::new();
        (0..100).for_each(|_| drop(lines.block(&mut lost)));
        assert_eq!(lost, []);
        assert_eq!(edge.json("api/v1/status")["hop"]["messages"]["past"], 0);
        assert_eq!(origin.log().matches("has no replay").count(), 1, "it is told once");
        assert_accounts(&origin);
        if user.is_empty() {
            // It is tried again.
            nats.kill();
            nats.configure(JETSTREAM);
            nats.restart();
            kept(&origin);
        }
    }
}

#[test]
fn an_edge_that_starts_again_has_the_history_of_the_time_before() {
    let nats = Nats::start(JETSTREAM);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("noise.wav");
    let sound = noise(&file, 60, SampleFormat::Int);
    let origin = origin(&nats, &wav(&file), "1m");
    kept(&origin);
    let first = edge(&nats.url(SUBJECT));
    let mut lines = Lines::of(&first);
    let seen = lines.next()["sequence"].as_u64().unwrap();
    eventually("some seconds of sound", || (sent(&origin) > seen + 500).then_some(()));
    drop((lines, first));
    let second = edge_with_all(&nats);
    // The listener goes on with the block after the last one that it got.
    let mut lines = Lines::at(&second, &format!("stream.json?buffer=1m&from={}", seen + 1));
    for n in seen + 1..=seen + 501 {
        let block = lines.next();
        assert_eq!(block["sequence"], n, "{block}");
        assert!(samples(&block) == sound[n as usize * FRAMES..][..FRAMES], "block {n} has other samples");
    }
    let status = second.json("api/v1/status");
    assert!(status["hop"]["messages"]["past"].as_u64() > Some(500), "{status}");
    assert_eq!((&status["hop"]["lost_blocks"], &status["capture"]["lost_source"]), (&0.into(), &0.into()), "{status}");
    assert_eq!((&status["hop"]["messages"]["duplicate"], &status["hop"]["messages"]["late"]), (&0.into(), &0.into()));
    // What was captured seconds before the start is no latency of this server: its blocks would be at five seconds and less.
    for stage in ["ring", "hop"] {
        let latency = &status["latency_seconds"][stage];
        assert!(latency["max"].as_f64().unwrap() < 3.0, "{stage}: {latency}");
    }
    let log = second.log();
    assert!(log.find("the history begins") < log.find("on air"), "nobody listens before: {log}");
    assert_accounts(&second);
}

/// Sets the title of a server, and returns the number of its first block.
fn set_title(server: &Server, title: &str) -> u64 {
    let body = format!("{{\"title\":\"{title}\"}}");
    let (code, text) = server.ask(&["--request", "PUT", "--data", &body], "api/v1/mounts/main/metadata");
    assert_eq!(code, 200, "{text}");
    server.json("api/v1/mounts/main/metadata")["sequence"].as_u64().unwrap()
}

/// Returns the lines of what a listener hears from a block on, until a title that it waits for.
fn until_title(server: &Server, from: &str, title: &str) -> Vec<Value> {
    let mut lines = Lines::at(server, &format!("stream.json?buffer=10s{from}"));
    let (mut all, start) = (Vec::new(), Instant::now());
    loop {
        let line = lines.next();
        assert!(start.elapsed() < TEST_TIMEOUT, "no title `{title}` in {:?}", titles(&all));
        all.push(line.clone());
        if line["metadata"]["title"] == title {
            all.push(lines.next());
            return all;
        }
    }
}

/// Returns the titles in these lines with the numbers of their first blocks, which are those of the blocks that follow.
fn titles(lines: &[Value]) -> Vec<(String, u64)> {
    let pairs = lines.windows(2).filter(|pair| pair[0].get("metadata").is_some());
    pairs
        .map(|pair| {
            assert!(pair[1]["samples"].is_array(), "{}", pair[1]);
            let title = pair[0]["metadata"]["title"].as_str().unwrap_or_default().to_owned();
            (title, pair[1]["sequence"].as_u64().unwrap())
        })
        .collect()
}

#[test]
fn titles_come_with_the_same_blocks_as_at_the_origin() {
    for form in ["exact", "opus"] {
        assert_titles_come(form);
    }
}

/// Asserts that titles come so to edges that are there, come later or have missed some, in this form.
fn assert_titles_come(form: &str) {
    let nats = Nats::start(JETSTREAM);
    let origin = origin_as(&nats, "tone:440", "1m", form);
    kept(&origin);
    let live = edge(&nats.url(SUBJECT));
    let (first, second) = std::thread::scope(|scope| {
        let heard = scope.spawn(|| until_title(&live, "", "two"));
        eventually("a listener", || (live.rows().len() == 1).then_some(()));
        let first = set_title(&origin, "one");
        eventually("sound", || (sent(&origin) > first + 50).then_some(()));
        let second = set_title(&origin, "two");
        assert_eq!(titles(&heard.join().unwrap()), [("one".to_owned(), first), ("two".to_owned(), second)]);
        (first, second)
    });
    // An edge that comes later has the newest title, and those of its history in their places.
    eventually("sound", || (sent(&origin) > second + 50).then_some(()));
    let later = edge_with_all(&nats);
    let heard = until_title(&later, &format!("&from={}", first.saturating_sub(10)), "two");
    assert_eq!(titles(&heard), [("one".to_owned(), first), ("two".to_owned(), second)]);
    let without_history = Server::start(&["--source", &nats.url(SUBJECT), "--history", "0s"]);
    let heard = until_title(&without_history, "", "two");
    assert_eq!(heard.len(), 2, "before the first block: {heard:?}");
    // So has one that was there, after the connection has missed it.
    let way = Way::to(nats.port());
    let url = format!("nats://127.0.0.1:{}/{SUBJECT}", way.port());
    let cut_off = Server::start(&["--source", &url, "--hop-wait", "10s"]);
    let third = std::thread::scope(|scope| {
        let heard = scope.spawn(|| until_title(&cut_off, "", "three"));
        eventually("a listener", || (cut_off.rows().len() == 1).then_some(()));
        way.cut();
        let third = set_title(&origin, "three");
        eventually("blocks that are missed", || (sent(&origin) > third + 20).then_some(()));
        way.mend();
        assert_eq!(titles(&heard.join().unwrap()).last(), Some(&("three".to_owned(), third)));
        third
    });
    assert!(filled(&cut_off) > 0 && third > second);
    // A new run has no title until it has one of its own.
    drop(origin);
    let _origin = origin_as(&nats, "tone:880", "1m", form);
    eventually("no title", || live.json("api/v1/mounts/main/metadata")["title"].is_null().then_some(()));
}
