//! Faults of the machine and of the process, which listeners survive: no free descriptor, a stopped process, a clock that is
//! set, a log that nobody reads, and the end while a thousand listen.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;
#[path = "common/http_client.rs"]
mod http_client;
#[path = "common/process.rs"]
mod process;
#[path = "common/truth.rs"]
mod truth;
#[path = "common/wall_clock.rs"]
mod wall_clock;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::{
    Listener, PRIORITY, Server, assert_identity, command_behind, command_with_priority, eventually, raw, signal,
    write_wav_at,
};
use http_client::{Response, websocket_frames};
use process::{load, raise_file_limit};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use truth::client::{Client, unix_now};
use truth::healthy::Healthy;
use truth::numbered::{self, Format};
use truth::scrape;
use wall_clock::WallClock;

/// Tests take turns: each has much to do, and some look at the processor time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a server with priority: a machine that gives it no time for a second takes sound from every listener.
fn start(flags: &[&str], prepare: impl FnOnce(&mut Command) -> &mut Command) -> Server {
    Server::launch(command_with_priority(), flags, prepare)
}

/// Descriptors that the server may have. It needs 20 and one for each listener.
const DESCRIPTORS: &str = "60";
const FAILURE: &str = "cannot accept a connection";
/// Silent connections, of which the server can accept few. Each second, it closes ten, and accepts others.
const SILENT: usize = 300;

#[test]
fn without_a_free_descriptor_listeners_hear_on_and_the_server_recovers() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let takes = directory.path().join("takes");
    let script = format!("ulimit -n {DESCRIPTORS} && exec \"$@\"");
    let shell = command_behind(&[&["sh", "-c", &script, "sh"][..], &PRIORITY[..]].concat());
    let source = numbered::source(directory.path(), 120);
    let record = ["--record", takes.to_str().unwrap(), "--record-split", "1s"];
    let server = Server::launch(shell, &[&["--source", &source], &record[..]].concat(), |command| command);
    let healthy = Healthy::start(&server, "buffer=5s");
    let load_before = load(server.pid(), Duration::from_secs(2));

    let silent: Vec<_> = (0..SILENT).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    server.wait_for_log(FAILURE);
    let load_during = load(server.pid(), Duration::from_secs(4));
    healthy.hear_more();
    assert!(server.log().contains("ulimit -n"), "{}", server.log());
    println!("{load_before:.2} of a core before, {load_during:.2} without a free descriptor");
    // An accept that is tried again at once takes a core, on a machine that has one to give.
    assert!(load_during < load_before + 0.4, "{load_before} and then {load_during} of a core");
    // Each line has the number of attempts in the ten seconds before it.
    let lines = || server.log().lines().filter(|line| line.contains(FAILURE)).map(str::to_owned).collect::<Vec<_>>();
    let lines = eventually("a second line", || Some(lines()).filter(|lines| lines.len() > 1));
    let (_, attempts) = lines[1].split_once("withheld=").unwrap();
    println!("{attempts} attempts in ten seconds");
    assert!((10..=110).contains(&attempts.parse::<u64>().unwrap()), "{lines:?}");

    drop(silent);
    assert_eq!(server.ask(&[], "healthz").0, 200);
    let late = Client::start(server.address, Format::Pcm, &format!("name={}&buffer=5s", Healthy::name("late")));
    eventually("its sound", || (late.received().blocks() > 20).then_some(()));
    healthy.assert_nothing_lost();
    // The ring of the recorder holds what it has no file for.
    let recording = eventually("the recording", || {
        let recording = server.json("api/v1/status")["recording"].clone();
        (recording["failing"].is_null() && recording["queued"].as_u64() < Some(100)).then_some(recording)
    });
    assert_eq!(recording["lost"], 0, "{recording}");
}

/// Time for which the server is stopped: sound that is computed or on disk catches up after the first, and pauses for the
/// second, which is more than ten seconds.
const STOPS: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(11)];

#[test]
fn a_stopped_server_tells_each_listener_its_true_hole() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let source = numbered::source(directory.path(), 120);
    // A listener is ended neither for the time in which its server stood still, nor for the lag after it.
    let server = start(&["--source", &source, "--idle-timeout", "3s", "--max-lag", "3s"], |command| command);
    let healthy = Healthy::start(&server, "buffer=1s");
    let held = Client::start(server.address, Format::Pcm, &format!("name={}&buffer=1s", Healthy::name("held")));
    eventually("its sound", || (held.received().blocks() > 0).then_some(()));
    let clients = healthy.clients.iter().map(|client| (client.format.label(), client)).chain([("held", &held)]);
    for stop in STOPS {
        let hold = held.hold();
        signal(server.pid(), "STOP");
        std::thread::sleep(stop);
        signal(server.pid(), "CONT");
        healthy.hear_more();
        drop(hold);
        for (name, client) in clients.clone() {
            // Received, told and counted one after the other, so that they are equal once nothing new is lost.
            let row = server.row_when(&Healthy::name(name), |row| {
                let received = client.received();
                let is_told = !client.format.reports_gaps() || received.reported_gaps == received.holes;
                let is_live = row["lag_seconds"].as_f64() < Some(0.5) && row["verdict"] == "ok";
                is_live && is_told && row["lost"].as_u64() == Some(received.missing())
            });
            assert_identity(&row);
            let received = client.received();
            println!("{name} after {stop:?}: {} blocks missing in {:?}", received.missing(), received.holes);
        }
        assert_eq!(server.ask(&[], "readyz").0, 200);
    }
    // The five seconds that came in one burst are more than its ring and the kernels hold. The others may have kept up.
    assert!(held.received().missing() > 100, "{:?}", held.received().holes);
    assert_eq!(scrape::captured_losses(server.address), 0, "the source has waited");
    assert!(!server.log().contains("left listener"), "{}", server.log());
}

/// Seconds of the wall clock beside the right time.
const CLOCK_STEPS: [i64; 5] = [0, 86_400, 0, -86_400, 0];

#[test]
fn a_clock_that_is_set_by_a_day_and_back_disturbs_no_listener() {
    let _alone = alone();
    let Some(clock) = WallClock::new() else { return };
    let directory = tempfile::tempdir().unwrap();
    let source = numbered::source(directory.path(), 120);
    let flags = ["--source", &source, "--idle-timeout", "3s", "--max-lag", "3s"];
    let server = start(&flags, |command| clock.give_to(command));
    let healthy = Healthy::start(&server, "buffer=5s");
    let file = directory.path().join("lines");
    let _lines = Listener::start(&server.url(&format!("stream.json?name={}&buffer=5s", Healthy::name("lines"))), &file);
    for step in CLOCK_STEPS {
        clock.set(step);
        // The server compares its clocks once a second.
        eventually("blocks with the new time", || {
            let late = unix_now() + step as f64 - last_captured_at(&file)?;
            late.abs().lt(&2.0).then_some(())
        });
        healthy.hear_more();
        for row in scrape::rows(server.address).values() {
            assert!(row["lag_seconds"].as_f64() < Some(2.0), "{step}: {row}");
            for stage in ["ring", "queue", "socket"] {
                let most = row["latency_seconds"][stage]["max"].as_f64();
                assert!(most.is_none_or(|most| most < 5.0), "{step}: {stage} of {row}");
            }
        }
        let status = server.json("api/v1/status");
        assert_eq!(status["state"], "live", "{status}");
    }
    healthy.assert_nothing_lost();
    let metrics = scrape::Metrics::of(server.address);
    for family in ["aircheck_latency_seconds", "aircheck_lag_seconds"] {
        let [sum, count] = ["sum", "count"].map(|part| metrics.sum(&format!("{family}_{part}"), &[]));
        assert!(count > 0.0 && (0.0..1.0).contains(&(sum / count)), "{family}: {sum} s in {count}");
    }
    assert!(!server.log().contains("left listener"), "{}", server.log());
}

/// Returns when the last whole line of a stream of JSON was captured.
fn last_captured_at(file: &Path) -> Option<f64> {
    let text = std::fs::read_to_string(file).ok()?;
    let last = text[..text.rfind('\n')?].lines().next_back()?;
    serde_json::from_str::<Value>(last).unwrap()["captured_at"].as_f64()
}

/// More lines than the log's queue and the pipe hold.
const LINES: usize = 2000;
/// Lines of other events.
const MAX_OTHER_LINES: usize = 100;

#[test]
fn a_log_whose_reader_is_stopped_delays_nothing_and_counts_the_lines_that_are_left_out() {
    const LINE: &str = "connection ended";

    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let source = numbered::source(directory.path(), 120);
    let (reader, writer) = std::io::pipe().unwrap();
    let mut server = start(&["--source", &source], |command| command.env("RUST_LOG", "debug").stderr(writer));
    let healthy = Healthy::start(&server, "buffer=5s");
    // Each makes a line of the level debug.
    let complain = |_| drop(raw(server.address, b"no request\r\n\r\n"));
    (0..LINES).for_each(complain);
    healthy.hear_more();
    assert_eq!(server.ask(&[], "readyz").0, 200);
    healthy.assert_nothing_lost();
    let dropped_lines = || scrape::Metrics::of(server.address).sum("aircheck_log_dropped_lines_total", &[]);
    let told = dropped_lines();
    assert!(told > 0.0, "{told}");
    // From here on it is read.
    let lines = std::thread::spawn(move || BufReader::new(reader).lines().map_while(Result::ok).collect::<Vec<_>>());
    std::thread::sleep(Duration::from_millis(500));
    (0..3).for_each(complain);
    server.terminate();
    assert_eq!(server.wait().code(), Some(0));
    let lines = lines.join().unwrap();
    let dropped =
        |line: &String| line.strip_prefix(" WARN ")?.split_once(" log lines were dropped")?.0.parse::<usize>().ok();
    let (read, left_out) =
        (lines.iter().filter(|line| line.contains(LINE)).count(), lines.iter().filter_map(dropped).sum::<usize>());
    println!("{read} lines read, {left_out} left out, {told} by the metrics");
    assert_eq!(left_out as f64, told);
    let all = read + left_out;
    assert!((LINES + 3..=LINES + 3 + MAX_OTHER_LINES).contains(&all), "{read} read and {left_out} left out of {LINES}");
}

/// More than one delivery shard takes.
const CROWD: usize = 1100;
/// Listeners that join at a time. Those that connect and then are late with their request are refused.
const JOINING: usize = 50;
/// The promise of the program's end.
const END_TIME: Duration = Duration::from_secs(5);
const WAV_HEADER_BYTES: usize = 44;
/// Of one channel in 16 bits. The last block of a source may be short.
const FRAME_BYTES: usize = 2;
const WEBSOCKET: [&str; 2] = ["payload=f32", "payload=opus"];
const HTTP: [&str; 6] = ["format=wav", "format=pcm", "format=json", "format=sse", "format=flac", "format=opus"];

#[test]
fn a_crowd_gets_the_proper_end_of_its_formats_within_five_seconds() {
    let _alone = alone();
    raise_file_limit();
    let directory = tempfile::tempdir().unwrap();
    // Few bytes, because the test is about the end. Each sample says where in the sound it is.
    let ramp = (0..80_000).map(|n| (n % 20_000) as i16);
    let source = write_wav_at(2000, &directory.path().join("ramp.wav"), 1, ramp);
    let most = CROWD.to_string();
    let flags = ["--source", &source, "--loop", "--block", "100ms", "--history", "0s", "--max-listeners", &most];
    let mut server = start(&flags, |command| command);
    let (address, hearing) = (server.address, Arc::new(AtomicUsize::new(0)));
    let heard_by = Arc::clone(&hearing);
    let crowd = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let joining = Arc::new(Semaphore::new(JOINING));
            let forms: Vec<_> = WEBSOCKET.iter().chain(&HTTP).collect();
            let task = |number: usize| {
                let query = *forms[number % forms.len()];
                let fields = if WEBSOCKET.contains(&query) { Format::Ws.fields() } else { "" };
                let request = format!("GET /stream?{query}&buffer=10s HTTP/1.1\r\nHost: {address}\r\n{fields}\r\n");
                (query, tokio::spawn(hear_all(address, request, Arc::clone(&joining), Arc::clone(&heard_by))))
            };
            let mut streams = BTreeMap::<_, Vec<_>>::new();
            for (query, task) in (0..CROWD).map(task).collect::<Vec<_>>() {
                let bytes = task.await.unwrap().unwrap_or_else(|error| panic!("{query}: {error}"));
                streams.entry(query).or_default().push(bytes);
            }
            streams
        })
    });
    eventually("a crowd that hears", || (hearing.load(Ordering::Relaxed) == CROWD).then_some(()));
    assert_eq!(server.json("api/v1/status")["listeners"], CROWD, "{}", server.json("api/v1/status"));
    let terminated_at = Instant::now();
    server.terminate();
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    let took = terminated_at.elapsed();
    let streams = crowd.join().unwrap();
    println!("{CROWD} listeners ended in {took:?}");
    assert!(took < END_TIME, "{took:?}");
    assert!(!server.log().contains("did not read the end"), "{}", server.log());
    for (query, streams) in streams {
        let responses: Vec<_> = streams.iter().map(|bytes| Response::parse(bytes)).collect();
        let ends: Vec<_> = responses.iter().map(|response| proper_end(query, response)).collect();
        assert!(ends.iter().all(|end| *end == ends[0]), "{query}: all end with the same block");
        match query {
            "format=flac" => decode(&responses[0].body, "flac"),
            "format=opus" => decode(&responses[0].body, "ogg"),
            _ => {}
        }
    }
}

/// Reads a stream to its end.
async fn hear_all(
    address: SocketAddr,
    request: String,
    joining: Arc<Semaphore>,
    hearing: Arc<AtomicUsize>,
) -> std::io::Result<Vec<u8>> {
    let permit = joining.acquire_owned().await.unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    let (mut bytes, mut reads) = (Vec::new(), 1);
    stream.read_buf(&mut bytes).await?;
    drop(permit);
    let is_stream = [&b"HTTP/1.1 200 "[..], b"HTTP/1.1 101 "].iter().any(|start| bytes.starts_with(start));
    assert!(is_stream, "{}", bytes.escape_ascii());
    while stream.read_buf(&mut bytes).await? > 0 {
        reads += 1;
        // The first ones may have the head and the format's header only.
        if reads == 5 {
            hearing.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(bytes)
}

/// Checks that a stream has the proper end of its format, and returns what is last in it, which is the same for all of that
/// format.
fn proper_end(query: &str, response: &Response) -> Vec<u8> {
    let body = &response.body[..];
    if WEBSOCKET.contains(&query) {
        let frames = websocket_frames(body);
        let [.., (kind, message), (0x88, close)] = &frames[..] else { panic!("{query}: no close message") };
        assert_eq!(*close, [&1000_u16.to_be_bytes()[..], b"finished"].concat(), "{query}");
        assert_eq!(*kind, 0x82, "{query}");
        return message.clone();
    }
    assert!(response.is_chunked && response.is_complete && response.after.is_empty(), "{query}: the last chunk");
    let last = match query {
        "format=wav" | "format=pcm" => {
            let header = if query == "format=wav" { WAV_HEADER_BYTES } else { 0 };
            assert_eq!((body.len() - header) % FRAME_BYTES, 0, "{query}: whole frames");
            &body[body.len() - FRAME_BYTES..]
        }
        "format=json" => {
            let text = std::str::from_utf8(body).unwrap();
            text.strip_suffix('\n').unwrap().lines().next_back().unwrap().as_bytes()
        }
        "format=sse" => {
            let text = std::str::from_utf8(body).unwrap();
            text.strip_suffix("\n\n").unwrap().rsplit("\n\n").next().unwrap().as_bytes()
        }
        "format=opus" => {
            let page = body.windows(4).rposition(|bytes| bytes == b"OggS").unwrap();
            assert_eq!(body[page + 5] & 4, 4, "the last page is marked as the last");
            // Numbers and checksum are the listener's own.
            &body[page + 26..]
        }
        "format=flac" => {
            // A frame's number and its two checksums are the listener's own. Behind the number, the header has the length of the block
            // and the rate.
            let frame = response.chunks.last().unwrap();
            let number_bytes = frame[4].leading_ones().max(1) as usize;
            &frame[4 + number_bytes + 4..frame.len() - 2]
        }
        _ => panic!("{query}"),
    };
    last.to_vec()
}

/// Has ffmpeg decode a stream without a complaint.
fn decode(bytes: &[u8], format: &str) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("heard");
    std::fs::write(&file, bytes).unwrap();
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "warning", "-nostdin", "-f", format, "-i"]).arg(file).args(["-f", "null", "-"]);
    let output = command.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{format}");
}
