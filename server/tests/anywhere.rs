//! Listeners that go on at another edge, with the number of the last block that they had.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;
#[path = "common/hop.rs"]
mod hop;
#[path = "common/nats.rs"]
mod nats;
#[path = "common/truth.rs"]
mod truth;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{Server, TEST_TIMEOUT, eventually, noise, signal, write_wav_at};
use hop::{Lines, assert_accounts, edge, lost_of};
use nats::Nats;
use truth::client::ChunkedResponse;
use truth::scrape::Metrics;

const RATE_HZ: u32 = 8000;
/// Frames of a block of 20 ms.
const FRAMES: usize = 160;
const LISTENERS: usize = 200;
/// Blocks that each listener hears at each of both edges: half a second.
const BLOCKS: usize = 25;
/// A number that is four seconds after 0.
const FAR: u64 = 200;
/// What the first listener waits until it comes back, so that the other edge has what this one had.
const MIN_PAUSE: Duration = Duration::from_millis(200);
/// What each waits longer than the one before it: 2 s for the last one, of which the other edge has the sound.
const PAUSE_STEP: Duration = Duration::from_millis(10);

/// Writes a minute of noise, each block of which is another. Returns it as a source, and the samples of each block as they are
/// written in JSON.
fn noise_file(directory: &Path) -> (String, Vec<String>) {
    let sound = noise(60 * RATE_HZ);
    let source = write_wav_at(RATE_HZ, &directory.join("noise.wav"), 1, sound.iter().copied());
    let json = |block: &[i16]| {
        let samples: Vec<f32> = block.iter().map(|sample| f32::from(*sample) / 32_768.0).collect();
        format!("{}}}", serde_json::to_string(&samples).unwrap())
    };
    (source, sound.chunks_exact(FRAMES).map(json).collect())
}

fn origin(source: &str, url: &str) -> Server {
    Server::start(&["--source", source, "--loop", "--block", "20ms", "--publish", url])
}

/// A rendition in which a listener can go on.
#[derive(Clone, Copy)]
enum Kind {
    Json,
    Events,
}

/// A connection that takes blocks with their numbers.
struct Listening {
    socket: TcpStream,
    response: ChunkedResponse,
    rest: Vec<u8>,
}

impl Listening {
    /// Connects, and goes on after the block `last`.
    fn start(address: SocketAddr, kind: Kind, last: Option<u64>) -> Self {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        let (path, fields) = match (kind, last) {
            (Kind::Json, None) => ("stream.json".to_owned(), String::new()),
            (Kind::Json, Some(last)) => (format!("stream.json?from={}", last + 1), String::new()),
            (Kind::Events, last) => {
                let last = last.map(|last| format!("Last-Event-ID: {last}\r\n")).unwrap_or_default();
                ("stream".to_owned(), format!("Accept: text/event-stream\r\n{last}"))
            }
        };
        write!(socket, "GET /{path} HTTP/1.1\r\nHost: {address}\r\n{fields}\r\n").unwrap();
        Self { socket, response: ChunkedResponse::default(), rest: Vec::new() }
    }

    /// Waits for what comes next, and passes on each block that is complete: its number and its samples. Returns whether the
    /// connection is still there.
    fn read(&mut self, mut block: impl FnMut(u64, &str)) -> bool {
        let mut bytes = [0; 16 * 1024];
        let Ok(count @ 1..) = self.socket.read(&mut bytes) else { return false };
        self.rest.extend(self.response.data(&bytes[..count]));
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = std::str::from_utf8(&line).unwrap().trim_end();
            let data = line.strip_prefix("data: ").unwrap_or(line);
            assert!(!data.starts_with("{\"gap\""), "{data}");
            if let Some(data) = data.strip_prefix("{\"sequence\":") {
                let (number, rest) = data.split_once(',').unwrap();
                block(number.parse().unwrap(), rest.split_once("\"samples\":").unwrap().1);
            }
        }
        true
    }
}

#[test]
fn listeners_of_an_edge_that_dies_go_on_at_another_one_without_losing_a_block() {
    let nats = Nats::start("");
    let url = nats.url("radio.one");
    let directory = tempfile::tempdir().unwrap();
    let (source, sound) = noise_file(directory.path());
    let origin = origin(&source, &url);
    let edges = [edge(&url), edge(&url)];
    let addresses = [&edges[0], &edges[1]].map(|edge| edge.address);
    let (sound, listening) = (&sound, &AtomicUsize::new(0));
    let listen = |index: usize| {
        let kind = [Kind::Json, Kind::Events][index % 2];
        let mut heard: Vec<u64> = Vec::new();
        for (edge, address) in addresses.into_iter().enumerate() {
            let mut listening_here = Listening::start(address, kind, heard.last().copied());
            let enough = heard.len() + BLOCKS;
            let mut is_told = false;
            let take = |heard: &mut Vec<u64>, number: u64, samples: &str| {
                assert!(heard.last().is_none_or(|last| last + 1 == number), "{number} comes after {:?}", heard.last());
                assert!(samples == sound[number as usize], "block {number} has other samples");
                heard.push(number);
            };
            while listening_here.read(|number, samples| take(&mut heard, number, samples)) {
                if heard.len() < enough {
                    continue;
                }
                if edge == 1 {
                    break;
                }
                if !is_told {
                    listening.fetch_add(1, Ordering::Relaxed);
                    is_told = true;
                }
            }
            assert!(heard.len() >= enough, "the connection to edge {edge} has ended");
            if edge == 0 {
                std::thread::sleep(MIN_PAUSE + PAUSE_STEP * index as u32);
            }
        }
        heard.len()
    };
    let heard: Vec<usize> = std::thread::scope(|scope| {
        let listeners: Vec<_> = (0..LISTENERS).map(|index| scope.spawn(move || listen(index))).collect();
        eventually("all listeners", || {
            let is_over = listeners.iter().any(|listener| listener.is_finished());
            (is_over || listening.load(Ordering::Relaxed) == LISTENERS).then_some(())
        });
        signal(edges[0].pid(), "KILL");
        listeners.into_iter().map(|listener| listener.join().unwrap()).collect()
    });
    assert_eq!(heard.len(), LISTENERS);
    let metrics = Metrics::of(edges[1].address);
    for reason in ["history", "hop", "overflow", "source", "skipped", "late"] {
        assert_eq!(metrics.sum("aircheck_lost_blocks_total", &[&format!("reason=\"{reason}\"")]), 0.0, "{reason}");
    }
    let delivered = metrics.sum("aircheck_delivered_blocks_total", &[]);
    assert!(delivered >= (LISTENERS * BLOCKS) as f64, "{delivered}");
    assert_accounts(&edges[1]);
    assert_accounts(&origin);
}

/// Returns the samples of `blocks` blocks from now on, by their numbers.
fn hear(server: &Server, blocks: usize) -> BTreeMap<u64, String> {
    let mut listening = Listening::start(server.address, Kind::Json, None);
    let mut heard = BTreeMap::new();
    while heard.len() < blocks {
        assert!(listening.read(|number, samples| assert!(heard.insert(number, samples.to_owned()).is_none())));
    }
    heard
}

/// Listens to all of them at once, and returns how far the numbers of the first one are ahead of each other one's, for the same samples.
fn offsets(servers: &[&Server]) -> Vec<i64> {
    let heard: Vec<_> = std::thread::scope(|scope| {
        let hearing: Vec<_> = servers.iter().map(|server| scope.spawn(|| hear(server, 4 * BLOCKS))).collect();
        hearing.into_iter().map(|hearing| hearing.join().unwrap()).collect()
    });
    let offset = |there: &BTreeMap<u64, String>| {
        let same = |(number, samples): (&u64, &String)| {
            let here = heard[0].iter().find(|(_, here)| *here == samples)?.0;
            Some(here.wrapping_sub(*number) as i64)
        };
        let offsets: Vec<i64> = there.iter().filter_map(same).collect();
        assert!(offsets.len() > BLOCKS && offsets.iter().all(|offset| *offset == offsets[0]), "{offsets:?}");
        offsets[0]
    };
    heard[1..].iter().map(offset).collect()
}

#[test]
fn numbers_go_on_over_a_restart_of_the_origin_and_are_the_same_at_every_edge() {
    let nats = Nats::start("");
    let url = nats.url("radio.one");
    let directory = tempfile::tempdir().unwrap();
    let (source, _) = noise_file(directory.path());
    let first_origin = origin(&source, &url);
    let lived_through = edge(&url);
    let mut lines = Lines::of(&lived_through);
    let mut lost = Vec::new();
    let mut last = 0;
    // So far that an origin which counts from 0 is noticed: a difference of up to two seconds could be a delay of its start.
    while last < FAR {
        last = lines.block(&mut lost)["sequence"].as_u64().unwrap();
    }
    assert_eq!(lost, []);
    drop(first_origin);
    let second_origin = origin(&source, &url);
    second_origin.wait_for_log("numbers go on after block ");
    let before = last;
    lines.block_with("the second run", &mut lost, |lines, block, _| {
        let sequence = block["sequence"].as_u64().unwrap();
        assert!(sequence > last, "numbers go on");
        last = sequence;
        (!lines.epochs.is_empty()).then_some(())
    });
    // The listener was told of each block that it did not get, and of none else.
    assert!(lost.iter().all(|(reason, _)| reason == "hop"), "{lost:?}");
    assert!(lost_of(&lost, "hop") < last - before, "{lost:?}");
    let started_after = edge(&url);
    assert_eq!(offsets(&[&second_origin, &lived_through, &started_after]), [0, 0]);
    for server in [&lived_through, &started_after] {
        let hop = server.json("api/v1/status")["hop"].clone();
        assert_eq!(hop["number_offset"], 0, "{hop}");
        assert_accounts(server);
    }
    // So a listener of the one goes on at the other.
    (0..2 * BLOCKS).for_each(|_| last = lines.block(&mut lost)["sequence"].as_u64().unwrap());
    signal(lived_through.pid(), "KILL");
    let mut listening = Listening::start(started_after.address, Kind::Events, Some(last));
    let mut first = None;
    while first.is_none() && listening.read(|number, _| first = first.or(Some(number))) {}
    assert_eq!(first, Some(last + 1));
}

#[test]
fn numbers_that_could_not_go_on_are_told() {
    let mut nats = Nats::start("");
    let url = nats.url("radio.one");
    let directory = tempfile::tempdir().unwrap();
    let (source, _) = noise_file(directory.path());
    let first_origin = origin(&source, &url);
    let lived_through = edge(&url);
    // An origin counts from 0 again if it cannot ask.
    eventually("a number", || {
        (lived_through.json("api/v1/status")["head_sequence"].as_u64() > Some(FAR)).then_some(())
    });
    nats.kill();
    drop(first_origin);
    let second_origin = origin(&source, &url);
    nats.restart();
    let offset = eventually("the second run", || {
        let hop = lived_through.json("api/v1/status")["hop"].clone();
        (hop["epochs"] == 2).then(|| hop["number_offset"].as_i64().unwrap())
    });
    assert!(offset > 100, "{offset}");
    lived_through.wait_for_log("do not go on where they were");
    let started_after = edge(&url);
    assert_eq!(offsets(&[&second_origin, &lived_through, &started_after]), [-offset, 0]);
    assert_eq!(started_after.json("api/v1/status")["hop"]["number_offset"], 0);
    assert_accounts(&lived_through);
}
