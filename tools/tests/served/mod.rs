//! A server that says what the test wants: one connection, one answer, by `std::net` alone. And the real `aircheckctl`,
//! run against it.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Far more than any of these takes: a hang must fail, not stop the run.
pub(crate) const HANG: Duration = Duration::from_secs(60);

/// The head of a stream's answer: 48 kHz stereo, chunked.
pub(crate) const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nX-Audio-Rate: 48000\r\n\
    X-Audio-Channels: 2\r\nTransfer-Encoding: chunked\r\n\r\n";
/// Frames of a block, of two samples each.
const FRAMES: usize = 8;

/// A server for one request.
pub(crate) struct Served {
    address: SocketAddr,
    thread: JoinHandle<String>,
}

impl Served {
    /// Waits for a request, then lets `answer` write to it. The connection is closed when that returns.
    pub(crate) fn new(answer: impl FnOnce(&mut TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let thread = thread::spawn(move || {
            let (mut tcp, _) = listener.accept().expect("a connection");
            tcp.set_nodelay(true).expect("Nagle off");
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && tcp.read(&mut byte).unwrap_or(0) == 1 {
                request.push(byte[0]);
            }
            answer(&mut tcp);
            String::from_utf8(request).expect("a request is ASCII")
        });
        Self { address, thread }
    }

    /// Gives the connection to `talk` as soon as it is there.
    pub(crate) fn raw(talk: impl FnOnce(TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let thread = thread::spawn(move || {
            let (tcp, _) = listener.accept().expect("a connection");
            tcp.set_nodelay(true).expect("Nagle off");
            talk(tcp);
            String::new()
        });
        Self { address, thread }
    }

    /// Its URL as a WebSocket's.
    pub(crate) fn websocket(&self, path: &str) -> String {
        format!("ws://{}{path}", self.address)
    }

    /// Its URL.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The request as it came.
    pub(crate) fn request(self) -> String {
        self.thread.join().expect("the server should not panic")
    }
}

/// Writes; a client that has gone is the test's to see, from its exit code.
pub(crate) fn send(tcp: &mut TcpStream, text: &str) {
    let _ = tcp.write_all(text.as_bytes());
}

/// The proper end of a chunked answer.
pub(crate) fn end(tcp: &mut TcpStream) {
    send(tcp, "0\r\n\r\n");
}

/// Waits until the client has gone.
pub(crate) fn until_closed(tcp: &mut TcpStream) {
    let mut byte = [0];
    while matches!(tcp.read(&mut byte), Ok(1)) {}
}

/// `text` as one chunk; nothing for no text, as an empty chunk is the end.
pub(crate) fn chunk(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{:x}\r\n{text}\r\n", text.len()) }
}

/// The samples of a block: full mantissas, both signs, and the ends of the range.
pub(crate) fn samples(sequence: u64) -> [f32; 2 * FRAMES] {
    let mut state = sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut samples = [0.0; 2 * FRAMES];
    for sample in &mut samples {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *sample = (state >> 40) as f32 / 8_388_608.0 - 1.0;
    }
    samples[0] = -0.0;
    samples[1] = f32::MIN_POSITIVE;
    samples[2] = 1.0;
    samples
}

/// The line of a block.
pub(crate) fn block(sequence: u64) -> String {
    let position = sequence * FRAMES as u64;
    let captured_at = 1_790_000_000.0 + position as f64 / 48_000.0;
    let samples: Vec<String> = samples(sequence).iter().map(|sample| format!("{sample:?}")).collect();
    let samples = samples.join(",");
    format!(r#"{{"sequence":{sequence},"position":{position},"captured_at":{captured_at:.6},"samples":[{samples}]}}"#)
        + "\n"
}

/// The line of a gap.
pub(crate) fn gap(from: u64, blocks: u64, reason: &str) -> String {
    format!(r#"{{"gap":{{"from":{from},"blocks":{blocks},"reason":"{reason}"}}}}"#) + "\n"
}

/// `aircheckctl listen`, about to start.
pub(crate) fn aircheckctl(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aircheckctl"));
    command.arg("listen").args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Its output, once it has ended.
pub(crate) fn finish(child: Child) -> Output {
    let (done, ended) = mpsc::channel();
    thread::spawn(move || done.send(child.wait_with_output()));
    ended.recv_timeout(HANG).expect("it should have ended").expect("its output")
}

/// How it ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) summary: String,
    pub(crate) notices: String,
}

impl Ended {
    /// The line of stderr that is a complaint, which must be exactly one.
    pub(crate) fn complaint(&self) -> &str {
        let complaints: Vec<&str> = self.notices.lines().filter(|line| line.starts_with("aircheckctl: ")).collect();
        assert_eq!(complaints.len(), 1, "one complaint in {self:?}");
        complaints[0]
    }
}

/// Listens until it ends.
pub(crate) fn listen(args: &[&str]) -> Ended {
    let output = finish(aircheckctl(args).spawn().expect("it should start"));
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    let code = output.status.code().expect("it should not die of a signal");
    Ended { code, summary: text(output.stdout), notices: text(output.stderr) }
}

/// The samples of a recording.
pub(crate) fn wav_bits(path: &Path) -> Vec<u32> {
    let mut reader = hound::WavReader::open(path).expect("a WAV");
    let spec = reader.spec();
    assert_eq!((spec.channels, spec.sample_rate, spec.bits_per_sample), (2, 48_000, 32));
    assert_eq!(spec.sample_format, hound::SampleFormat::Float);
    reader.samples::<f32>().map(|sample| sample.expect("whole samples").to_bits()).collect()
}
