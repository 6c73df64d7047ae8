//! A server that says what the test wants: one connection, one answer, by `std::net` and tungstenite. And the real
//! `aircheckctl`, run against it.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use aircheck_api::{GapNotice, Hello, MessageHeader, PROTOCOL_VERSION, Payload, ServerText};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Message, WebSocket, accept};

/// Far more than any of these takes: a hang must fail, not stop the run.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);
/// Frames of a block, of two samples each.
pub(crate) const FRAMES: usize = 8;

/// The server's end of a WebSocket.
pub(crate) type Socket = WebSocket<TcpStream>;

/// A server for one connection.
pub(crate) struct Scripted {
    address: SocketAddr,
    thread: JoinHandle<String>,
}

impl Scripted {
    /// Waits for a request, then lets `answer` write to it. The connection is closed when that returns.
    pub(crate) fn http(answer: impl FnOnce(&mut TcpStream) + Send + 'static) -> Self {
        Self::raw(move |mut tcp| {
            let request = request(&mut tcp);
            answer(&mut tcp);
            request
        })
    }

    /// Waits for a request for a WebSocket, and lets `answer` write to it, which gets the request's key.
    pub(crate) fn raw_websocket(answer: impl FnOnce(&mut TcpStream, &str) + Send + 'static) -> Self {
        Self::raw(move |mut tcp| {
            let request = request(&mut tcp);
            let key = request.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.to_owned())
            });
            answer(&mut tcp, &key.expect("a key"));
            request
        })
    }

    /// Accepts a WebSocket, and lets `talk` write to it. The listener gets no hello.
    pub(crate) fn silent(talk: impl FnOnce(&mut Socket) + Send + 'static) -> Self {
        Self::raw(move |tcp| {
            let mut socket = accept(tcp).expect("it should ask for a WebSocket");
            talk(&mut socket);
            String::new()
        })
    }

    /// Does the same after a hello for stereo at 48 kHz.
    pub(crate) fn websocket(payload: Payload, talk: impl FnOnce(&mut Socket) + Send + 'static) -> Self {
        Self::silent(move |socket| {
            say(socket, Message::text(hello(payload)));
            talk(socket);
        })
    }

    /// Sends the messages of a stream of floats, and ends it properly.
    pub(crate) fn stream(messages: Vec<Message>) -> Self {
        Self::websocket(Payload::F32, |socket| {
            messages.into_iter().for_each(|message| say(socket, message));
            finish(socket);
        })
    }

    fn raw(talk: impl FnOnce(TcpStream) -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let thread = thread::spawn(move || {
            let (tcp, _) = listener.accept().expect("a connection");
            tcp.set_nodelay(true).expect("Nagle off");
            talk(tcp)
        });
        Self { address, thread }
    }

    /// Returns its URL.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Returns the request as it came.
    pub(crate) fn request(self) -> String {
        self.thread.join().expect("the server should not panic")
    }
}

fn request(tcp: &mut TcpStream) -> String {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && tcp.read(&mut byte).unwrap_or(0) == 1 {
        request.push(byte[0]);
    }
    String::from_utf8(request).expect("a request is ASCII")
}

/// Writes; a client that has gone is the test's to see, from its exit code.
pub(crate) fn send(tcp: &mut TcpStream, text: &str) {
    let _ = tcp.write_all(text.as_bytes());
}

/// Waits until the client has gone.
pub(crate) fn until_closed(tcp: &mut TcpStream) {
    let mut byte = [0];
    while matches!(tcp.read(&mut byte), Ok(1)) {}
}

/// Returns `text` as one chunk; an empty chunk would be the end.
pub(crate) fn chunk(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{:x}\r\n{text}\r\n", text.len()) }
}

/// Sends a message, as [`send`].
pub(crate) fn say(socket: &mut Socket, message: Message) {
    let _ = socket.send(message);
}

/// Ends a stream, and waits until the listener has gone.
pub(crate) fn close(socket: &mut Socket, code: CloseCode, reason: &str) {
    let _ = socket.close(Some(CloseFrame { code, reason: reason.into() }));
    until_gone(socket);
}

/// Ends a stream properly.
pub(crate) fn finish(socket: &mut Socket) {
    close(socket, CloseCode::Normal, "finished");
}

/// Waits until the listener has gone.
pub(crate) fn until_gone(socket: &mut Socket) {
    while socket.read().is_ok() {}
}

/// Returns the hello of a stereo stream at 48 kHz, with a member that no version knows.
pub(crate) fn hello(payload: Payload) -> String {
    let hello = Hello {
        version: PROTOCOL_VERSION,
        listener: 1,
        payload,
        rate_hz: 48_000,
        channels: 2,
        block_frames: FRAMES as u32,
        block_seconds: FRAMES as f64 / 48_000.0,
        now: 1.5,
        packet_frames: None,
        pre_skip_frames: None,
        bitrate: None,
    };
    ServerText::Hello(hello).to_json().replace(r#""now":1.5"#, r#""now":1.5,"new":[]"#)
}

/// Returns the samples of a block: full mantissas, both signs, and the ends of the range.
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

/// Returns the payload of a block.
pub(crate) fn floats(sequence: u64) -> Vec<u8> {
    samples(sequence).iter().flat_map(|sample| sample.to_le_bytes()).collect()
}

/// Returns a binary message.
pub(crate) fn binary(payload: Payload, sequence: u64, captured_at: Duration, bytes: &[u8]) -> Vec<u8> {
    let captured_at_nanos = captured_at.as_nanos() as u64;
    let header = MessageHeader { payload, payload_bytes: bytes.len() as u32, sequence, captured_at_nanos };
    [&header.to_bytes(), bytes].concat()
}

/// Returns the message of a block.
pub(crate) fn block(sequence: u64) -> Message {
    Message::binary(binary(Payload::F32, sequence, Duration::from_secs(1_790_000_000), &floats(sequence)))
}

/// Returns the message of a gap.
pub(crate) fn gap(from: u64, blocks: u64, reason: &str) -> Message {
    Message::text(GapNotice { from, blocks, reason: reason.to_owned().into() }.to_json())
}

/// Returns a block as a line of `/stream.json`.
pub(crate) fn line(sequence: u64) -> String {
    let position = sequence * FRAMES as u64;
    let captured_at = 1_790_000_000.0 + position as f64 / 48_000.0;
    let samples: Vec<String> = samples(sequence).iter().map(|sample| format!("{sample:?}")).collect();
    let samples = samples.join(",");
    format!(r#"{{"sequence":{sequence},"position":{position},"captured_at":{captured_at:.6},"samples":[{samples}]}}"#)
        + "\n"
}

/// Returns `aircheckctl listen`, about to start.
pub(crate) fn aircheckctl(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aircheckctl"));
    command.arg("listen").args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Returns the output of a program, once it has ended.
pub(crate) fn output(child: Child) -> Output {
    let (done, ended) = mpsc::channel();
    thread::spawn(move || done.send(child.wait_with_output()));
    ended.recv_timeout(TIMEOUT).expect("it should have ended").expect("its output")
}

/// How a program ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) summary: String,
    pub(crate) notices: String,
}

impl Ended {
    /// Returns the line of stderr that is a complaint, which must be exactly one.
    pub(crate) fn complaint(&self) -> &str {
        let complaints: Vec<&str> = self.notices.lines().filter(|line| line.starts_with("aircheckctl: ")).collect();
        assert_eq!(complaints.len(), 1, "one complaint in {self:?}");
        complaints[0]
    }
}

/// Waits for the end of a program.
pub(crate) fn end(child: Child) -> Ended {
    let Output { status, stdout, stderr } = output(child);
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    let code = status.code().expect("it should not die of a signal");
    Ended { code, summary: text(stdout), notices: text(stderr) }
}

/// Listens until it ends.
pub(crate) fn listen(args: &[&str]) -> Ended {
    end(aircheckctl(args).spawn().expect("it should start"))
}

/// Returns the samples of a recording.
pub(crate) fn wav_bits(path: &Path) -> Vec<u32> {
    let mut reader = hound::WavReader::open(path).expect("a WAV");
    let spec = reader.spec();
    assert_eq!((spec.channels, spec.sample_rate, spec.bits_per_sample), (2, 48_000, 32));
    assert_eq!(spec.sample_format, hound::SampleFormat::Float);
    reader.samples::<f32>().map(|sample| sample.expect("whole samples").to_bits()).collect()
}
