//! The hop from one server to another, through a real NATS server.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;
#[path = "common/hop.rs"]
mod hop;
#[path = "common/nats.rs"]
mod nats;
#[path = "common/truth.rs"]
mod truth;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use hound::SampleFormat;
use serde_json::Value;

use common::{Server, assert_identity, eventually, refused, write_wav_at};
use hop::{FRAMES, Lines, assert_accounts, edge, impatient_edge, lost_of, noise, origin, samples};
use nats::Nats;
use truth::scrape::Metrics;

#[test]
fn a_file_comes_out_of_an_edge_bit_for_bit_with_its_numbers_and_times() {
    let nats = Nats::start("");
    for format in [SampleFormat::Int, SampleFormat::Float] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("noise.wav");
        let sound = noise(&file, 60, format);
        let url = nats.url("radio.one");
        let origin = origin(&format!("wav:{}", file.display()), &url);
        let edge = edge(&url);
        let (mut here, mut there) = (Lines::of(&origin), Lines::of(&edge));
        let mut lost = Vec::new();
        let first = there.next();
        let mut original = here.next();
        for n in first["sequence"].as_u64().unwrap()..first["sequence"].as_u64().unwrap() + 300 {
            let block = if n == first["sequence"] { first.clone() } else { there.block(&mut lost) };
            assert_eq!(block["sequence"], n);
            assert_eq!(block["position"], n * FRAMES as u64);
            let expected = &sound[n as usize * FRAMES..][..FRAMES];
            assert!(samples(&block) == expected, "block {n} of {format:?} has other samples");
            while original["sequence"].as_u64().unwrap() < n {
                original = here.next();
            }
            if n % 50 == 0 && original["sequence"] == n {
                let status = edge.json("api/v1/status");
                let apart = block["captured_at"].as_f64().unwrap() - original["captured_at"].as_f64().unwrap();
                // Both are this machine's clock, as each process read it at its start. Times follow the offset by 0.1 ms a block.
                let error = status["hop"]["clock_error_seconds"].as_f64().unwrap();
                assert!(apart.abs() <= error + 0.002, "{apart} s apart, with an error of {error}");
            }
        }
        assert_eq!(lost, []);
        let status = edge.json("api/v1/status");
        let hop = &status["hop"];
        assert_eq!(
            (&hop["connected"], &hop["epochs"], &hop["lost_blocks"]),
            (&true.into(), &1.into(), &0.into()),
            "{hop}"
        );
        assert_eq!((&status["source"]["kind"], &hop["from"]), (&"nats".into(), &url.clone().into()));
        assert!(status["latency_seconds"]["hop"]["p99"].as_f64().is_some_and(|p99| p99 > 0.0), "{status}");
        let metrics = Metrics::of(edge.address);
        let hops = metrics.sum("aircheck_latency_seconds_count", &["stage=\"hop\""]);
        let taken = metrics.sum("aircheck_hop_messages_total", &["result=\"taken\""]);
        assert!(hops > 0.0 && hops <= taken, "{hops} of {taken}");
        assert_accounts(&origin);
    }
}

#[test]
fn a_nats_server_that_goes_and_comes_costs_a_counted_gap_and_no_listener() {
    let mut nats = Nats::start("");
    let url = nats.url("radio.one");
    let origin = origin("tone:440", &url);
    let edge = impatient_edge(&url);
    let mut lines = Lines::of(&edge);
    let first = lines.next()["sequence"].as_u64().unwrap();
    let mut lost = Vec::new();
    (0..50).for_each(|_| drop(lines.block(&mut lost)));
    nats.kill();
    eventually("both to notice", || {
        let is_lost = |server: &Server, end: &str| server.json("api/v1/status")[end]["failure"].is_string();
        (is_lost(&origin, "publish") && is_lost(&edge, "hop")).then_some(())
    });
    // Silence comes meanwhile, at the pace of the sound.
    let since = Instant::now();
    eventually("silence", || {
        assert_accounts(&origin);
        (edge.json("api/v1/status")["capture"]["lost_hop"].as_u64() > Some(100)).then_some(())
    });
    assert!(since.elapsed().as_secs() < 30);
    nats.restart();
    let mut last = first + 50;
    let back = lines.block_with("sound", &mut lost, |_, block, _| {
        last = block["sequence"].as_u64().unwrap();
        samples(&block).iter().any(|sample| sample.abs() > 0.1).then_some(block)
    });
    (0..100).for_each(|_| last = lines.block(&mut lost)["sequence"].as_u64().unwrap());
    // The listener was told of each block that it did not get, and of none else.
    assert_eq!(lost_of(&lost, "hop"), lost.iter().map(|(_, blocks)| blocks).sum::<u64>(), "{lost:?}");
    let status = edge.json("api/v1/status");
    assert_eq!(status["capture"]["lost_hop"], lost_of(&lost, "hop"), "{status}");
    assert_eq!((&status["capture"]["lost_source"], &status["capture"]["lost_overflow"]), (&0.into(), &0.into()));
    assert_eq!((&status["hop"]["reconnects"], &status["hop"]["epochs"]), (&1.into(), &1.into()), "{status}");
    assert_eq!(status["hop"]["failure"], Value::Null);
    let row = &edge.rows()[0];
    assert_eq!(row["lost"], lost_of(&lost, "hop"), "{row}");
    assert_accounts(&edge);
    assert_accounts(&origin);
    // Numbers are still those of the origin.
    let captured_at = back["captured_at"].as_f64().unwrap();
    let original = Lines::of(&origin).next();
    let blocks = (original["captured_at"].as_f64().unwrap() - captured_at) / 0.01;
    let numbers = original["sequence"].as_f64().unwrap() - back["sequence"].as_f64().unwrap();
    assert!((blocks - numbers).abs() < 1.0, "{blocks} blocks later by time, {numbers} by number");
}

#[test]
fn an_origin_that_starts_anew_begins_an_epoch_and_an_edge_that_does_goes_on() {
    let nats = Nats::start("");
    let url = nats.url("radio.one");
    let first_origin = origin("tone:440", &url);
    let first_edge = impatient_edge(&url);
    let mut lines = Lines::of(&first_edge);
    // It does not read until the new run has gone on for a second. All that is between holds less than two.
    let mut slow = Lines::at(&first_edge, "stream.json?buffer=100ms");
    slow.next();
    let mut lost = Vec::new();
    let first = (0..200).map(|_| lines.block(&mut lost)["sequence"].as_u64().unwrap()).last().unwrap();
    drop(first_origin);
    let second_origin = origin("tone:880", &url);
    let (mut last, mut announced) = (first, None);
    lines.block_with("the second epoch", &mut lost, |lines, block, _| {
        if announced.is_none() && !lines.epochs.is_empty() {
            announced = Some(block["sequence"].clone());
        }
        let sequence = block["sequence"].as_u64().unwrap();
        assert!(sequence > last, "numbers go on");
        last = sequence;
        announced.is_some().then_some(())
    });
    // It is told before the first block of the new run, which is the first after the silence.
    assert_eq!(lines.epochs, [serde_json::json!({"number": 1, "sequence": announced})]);
    assert_eq!(first_edge.json("api/v1/status")["hop"]["epochs"], 2);
    for _ in 0..100 {
        let sequence = lines.block(&mut lost)["sequence"].as_u64().unwrap();
        assert_eq!(sequence, last + 1);
        last = sequence;
    }
    assert!(lost_of(&lost, "hop") > 0 && lost.iter().all(|(reason, _)| reason == "hop"), "{lost:?}");
    // Who has lost the first block of the run is told of it, too.
    let told =
        slow.block_with("the notice", &mut Vec::new(), |slow, block, _| (!slow.epochs.is_empty()).then_some(block));
    assert_eq!(slow.epochs, lines.epochs);
    assert!(told["sequence"].as_u64() > announced.and_then(|first| first.as_u64()), "{told}");
    assert_accounts(&first_edge);
    first_edge.wait_for_log(" begins at ");
    // Another edge has the numbers of the origin, and one that starts anew goes on with them.
    for _ in 0..2 {
        let other = edge(&url);
        let (mut here, mut there) = (Lines::of(&second_origin), Lines::of(&other));
        let (original, block) = (here.next(), there.next());
        let apart = block["sequence"].as_f64().unwrap() - original["sequence"].as_f64().unwrap();
        assert!(apart.abs() < 500.0, "{original} {block}");
        let by_time = (block["captured_at"].as_f64().unwrap() - original["captured_at"].as_f64().unwrap()) / 0.01;
        assert!((apart - by_time).abs() < 1.0, "{apart} blocks by number, {by_time} by time");
    }
}

#[test]
fn what_does_not_belong_on_the_subject_is_counted_told_and_not_heard() {
    let nats = Nats::start("max_payload: 32MB");
    let url = nats.url("radio.one");
    let _origin = origin("tone:440", &url);
    let edge = edge(&url);
    let mut client = nats.client();
    let block = client.next_of("radio.one");
    let changed = |at: usize, to: &[u8]| {
        let mut message = block.clone();
        message[at..at + to.len()].copy_from_slice(to);
        message
    };
    let wrong = [
        ("version", changed(4, &[3]), "version 3"),
        ("malformed", b"hello".to_vec(), "not from an aircheck server"),
        ("malformed", changed(40, &(1_u64 << 57).to_le_bytes()), "far ahead"),
        ("malformed", vec![0; 10_000_000], "not from an aircheck server"),
        ("malformed", [&block[..], &[0; 20_000_000]].concat(), "too long"),
        ("format", changed(8, &44_100_u32.to_le_bytes()), "44100 Hz"),
        ("foreign", changed(24, &7_u64.to_le_bytes()), "a second publisher"),
        ("duplicate", block.clone(), "come twice"),
        ("foreign", changed(24, &7_u64.to_le_bytes()), "a second publisher"),
    ];
    for (result, message, _) in &wrong {
        // A run that was silent for a while gives way to another one, so the run is heard of in the moment before that.
        let messages = if *result == "foreign" { vec![&block, message] } else { vec![message] };
        client.publish_all("radio.one", &messages);
        // A block that has come only just is a second copy; it is late once it is far behind.
        let counted = eventually(result, || {
            let hop = edge.json("api/v1/status")["hop"].clone();
            let counts = &hop["messages"];
            let late = if *result == "duplicate" { counts["late"].as_u64().unwrap() } else { 0 };
            Some(counts[*result].as_u64().unwrap() + late).filter(|count| *count > 0)
        });
        let is_counted = |of: &str| of == *result || (*result == "duplicate" && of == "foreign");
        let expected = wrong.iter().filter(|(of, ..)| is_counted(of)).count() as u64;
        assert!(counted <= expected, "{result}: {counted}");
    }
    eventually("four malformed ones, and three second copies", || {
        let counts = edge.json("api/v1/status")["hop"]["messages"].clone();
        let copies = counts["duplicate"].as_u64().unwrap() + counts["late"].as_u64().unwrap();
        (counts["malformed"] == 4 && copies == 3).then_some(())
    });
    for text in ["version 3", "not from an aircheck server", "44100 Hz", "a second publisher"] {
        edge.wait_for_log(text);
    }
    let metrics = Metrics::of(edge.address);
    assert_eq!(metrics.sum("aircheck_hop_messages_total", &["result=\"malformed\""]), 4.0);
    let mut lines = Lines::of(&edge);
    let mut lost = Vec::new();
    let from = lines.block(&mut lost)["sequence"].as_u64().unwrap();
    (0..50).for_each(|n| assert_eq!(lines.block(&mut lost)["sequence"], from + 1 + n));
    assert_eq!(lost, []);
    let status = edge.json("api/v1/status");
    let lost = |key: &str| status["capture"][key].as_u64().unwrap();
    assert_eq!((lost("lost_hop"), lost("lost_source"), lost("lost_overflow")), (0, 0, 0), "nothing is lost by it");
    assert_eq!(status["hop"]["epochs"], 1, "nothing of it is heard");
}

#[test]
fn a_server_that_cannot_be_heard_is_told_in_one_line() {
    let nats = Nats::start(
        "authorization { users = [ { user: studio, password: secret }, \
         { user: guest, password: guest, permissions: { publish: { deny: [\">\"] }, subscribe: { deny: [\"radio.>\"] } } } ] }",
    );
    let check = |url: &str, texts: &[&str]| {
        let (code, stderr) = refused(&["--source", url]);
        let line = stderr.lines().last().unwrap_or_default();
        assert_eq!(code, 1, "{stderr}");
        assert!(texts.iter().all(|text| line.contains(text)), "{line}");
        assert!(!stderr.contains("secret") && !stderr.contains("wrong!"), "{stderr}");
    };
    check("nats://127.0.0.1:1/radio.one", &["cannot connect to NATS at 127.0.0.1:1", "start a NATS server there"]);
    check(&nats.url("radio.one"), &["refuses these credentials", "correct user and password"]);
    check(&nats.url_as("studio:wrong!", "radio.one"), &["refuses these credentials"]);
    check(&nats.url_as("guest:guest", "radio.one"), &["NATS refuses", "radio.one", "permit that"]);
    check(&nats.url_as("studio:secret", "radio.one"), &["nothing comes within 3s", "--publish"]);

    // A server that cannot publish is on the air all the same, and says why.
    for (user, text) in [("guest:guest", "NATS refuses"), ("studio:wrong!", "refuses these credentials")] {
        let server = Server::start(&["--source", "tone:440", "--publish", &nats.url_as(user, "radio.one")]);
        server.wait_for_log(text);
        let publish = eventually("lost blocks", || {
            let publish = server.json("api/v1/status")["publish"].clone();
            (publish["lost"].as_u64() > Some(50)).then_some(publish)
        });
        assert_eq!((&publish["connected"], &publish["sent"]), (&false.into(), &0.into()), "{publish}");
        assert!(publish["failure"].as_str().unwrap().contains(text), "{publish}");
        assert_accounts(&server);
        assert!(
            !server.log().contains("wrong!") && server.log().matches("cannot publish").count() == 1,
            "{}",
            server.log()
        );
    }
    // With the right password, both work.
    let url = nats.url_as("studio:secret", "radio.two");
    let _origin = origin("tone:440", &url);
    let edge = edge(&url);
    assert!(!edge.log().contains("secret"));
    assert_eq!(edge.json("api/v1/status")["hop"]["from"], nats.url("radio.two"));
}

#[test]
fn an_edge_that_is_told_to_wait_is_there_before_its_origin() {
    let nats = Nats::start("");
    let url = nats.url("radio.one");
    let edge = Server::start(&["--source", &url, "--wait-for-source"]);
    assert_eq!(edge.json("api/v1/mounts")[0]["state"], "silent");
    let _origin = origin("tone:440", &url);
    eventually("the stream", || (edge.json("api/v1/mounts")[0]["state"] == "live").then_some(()));
    let mut lines = Lines::of(&edge);
    assert!(samples(&lines.next()).len() == FRAMES);
}

#[test]
fn a_nats_server_that_stands_still_holds_nobody_up() {
    let nats = Nats::start("");
    let url = nats.url("radio.one");
    let origin = origin("tone:440", &url);
    let edge = impatient_edge(&url);
    let mut lines = Lines::of(&edge);
    lines.next();
    nats.signal("STOP");
    eventually("the publisher gives it up", || {
        assert_accounts(&origin);
        (origin.json("api/v1/status")["publish"]["connected"] == false).then_some(())
    });
    nats.signal("CONT");
    let mut lost = Vec::new();
    lines.block_with("sound", &mut lost, |_, _, _| {
        let status = edge.json("api/v1/status");
        (status["state"] == "live" && status["hop"]["failure"].is_null()).then_some(())
    });
    for _ in 0..100 {
        lines.block(&mut lost);
    }
    assert!(lost.iter().all(|(reason, _)| reason == "hop"), "{lost:?}");
    assert_accounts(&edge);
    assert_accounts(&origin);
}

/// Returns the message of a block of `epoch`, made from one that an origin has sent. Its samples are all the same.
/// Is a NATS server that reads no more than it must to be connected, and lives.
fn take_nothing(mut stream: TcpStream) {
    let info = r#"{"server_id":"A","server_name":"A","version":"2.11.0","proto":1,"host":"127.0.0.1","port":4222,"headers":true,"max_payload":1048576}"#;
    stream.write_all(format!("INFO {info}\r\n").as_bytes()).unwrap();
    let lines = BufReader::new(stream.try_clone().unwrap()).lines();
    assert!(lines.map(Result::unwrap).any(|line| line == "PING"));
    while stream.write_all(b"PONG\r\n").is_ok() {
        thread::sleep(Duration::from_millis(500));
    }
}

#[test]
fn an_origin_ends_while_nats_takes_nothing_and_says_that() {
    let nats = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("nats://{}/radio.one", nats.local_addr().unwrap());
    thread::spawn(move || {
        for stream in nats.incoming() {
            thread::spawn(|| take_nothing(stream.unwrap()));
        }
    });
    let directory = tempfile::tempdir().unwrap();
    // 6 MB a second fill all buffers on the way.
    let file = directory.path().join("wide.wav");
    let source = write_wav_at(192_000, &file, 16, std::iter::repeat_n(1000, 16 * 192_000));
    let mut origin = Server::start(&["--source", &source, "--loop", "--publish", &url]);
    let publish = || origin.json("api/v1/status")["publish"].clone();
    let before = eventually("a publisher", || {
        let publish = publish();
        (publish["connected"] == true).then(|| publish["lost"].as_u64())
    });
    eventually("a full ring", || (publish()["lost"].as_u64() > before).then_some(()));
    origin.terminate();
    assert!(origin.wait().success());
    origin.wait_for_log("the stream is not published to its end: NATS does not take it");
}

fn message(of: &[u8], epoch: u64, serial: u64, sequence: u64) -> Vec<u8> {
    let mut message = of.to_vec();
    for (at, number) in [(24, epoch), (32, serial), (40, sequence)] {
        message[at..at + 8].copy_from_slice(&number.to_le_bytes());
    }
    message
}

#[test]
fn losses_on_the_hop_and_before_it_have_their_own_reasons() {
    let nats = Nats::start("");
    let url = nats.url("radio.one");
    let mut client = nats.client();
    let block = {
        let _origin = origin("tone:440", &nats.url("radio.two"));
        client.next_of("radio.two")
    };
    // An origin by hand. At first it sends until it is heard.
    let epoch = 1_790_000_000_000_000_000;
    let mut number = 1000;
    let (edge, mut lines) = std::thread::scope(|scope| {
        let starting = scope.spawn(|| {
            let edge = edge(&url);
            let mut lines = Lines::of(&edge);
            lines.block(&mut Vec::new());
            (edge, lines)
        });
        while !starting.is_finished() {
            number += 1;
            client.publish("radio.one", &message(&block, epoch, number, number));
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        starting.join().unwrap()
    });
    let mut serial = number;
    // Serial numbers and sequence numbers that are left out before a block: 5 were lost on the hop, and 7 before it.
    for (serials, sequences) in [(0, 0), (5, 5), (0, 0), (0, 7), (0, 0), (0, 0)] {
        serial += 1 + serials;
        number += 1 + sequences;
        client.publish("radio.one", &message(&block, epoch, serial, number));
    }
    let mut lost = Vec::new();
    while lines.block(&mut lost)["sequence"].as_u64().unwrap() < number {}
    assert_eq!(lost, [("hop".to_owned(), 5), ("source".to_owned(), 7)]);
    let capture = edge.json("api/v1/status")["capture"].clone();
    assert_eq!((&capture["lost_hop"], &capture["lost_source"]), (&5.into(), &7.into()), "{capture}");
    let metrics = Metrics::of(edge.address);
    for (reason, blocks) in [("reason=\"hop\"", 5.0), ("reason=\"source\"", 7.0)] {
        assert_eq!(metrics.sum("aircheck_capture_lost_blocks_total", &[reason]), blocks, "{reason}");
        assert_eq!(metrics.sum("aircheck_lost_blocks_total", &[reason, "format=\"json\""]), blocks, "{reason}");
    }
    assert_identity(&edge.rows()[0]);
}

#[test]
fn a_nats_server_that_takes_no_message_of_that_size_is_told() {
    let nats = Nats::start("max_payload: 1000");
    let server = Server::start(&["--source", "tone:440", "--publish", &nats.url("radio.one")]);
    server.wait_for_log("a block takes a message of 1984 bytes, and the NATS server takes 1000 (raise its max_payload");
    let publish = eventually("lost blocks", || {
        let publish = server.json("api/v1/status")["publish"].clone();
        (publish["lost"].as_u64() > Some(10)).then_some(publish)
    });
    assert_eq!(publish["sent"], 0, "{publish}");
    assert_accounts(&server);
}

#[test]
fn a_subject_is_changed_while_the_sound_goes_on() {
    let nats = Nats::start("");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("aircheck.toml");
    let write = |subject: &str| {
        let text = format!("[[mount]]\nname = 'hall'\nsource = 'tone:440'\npublish = '{}'\n", nats.url(subject));
        std::fs::write(&file, text).unwrap();
    };
    write("radio.one");
    let server = Server::start(&["--config", file.to_str().unwrap()]);
    let mut client = nats.client();
    let epoch = |message: Vec<u8>| message[24..32].to_vec();
    let before = epoch(client.next_of("radio.one"));
    write("radio.two");
    common::signal(server.pid(), "HUP");
    assert_eq!(epoch(client.next_of("radio.two")), before, "the stream is the same");
    server.wait_for_log("publish is nats://");
    assert_accounts(&server);
}
