//! A server that says what the test wants: one connection, one answer, by `std::net` alone.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

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
