//! Sound whose blocks contain their own numbers, and parsers of received streams: the ground truth about a listener.

use std::io::{BufRead as _, BufWriter, Write as _};
use std::ops::Range;
use std::path::Path;

use serde_json::Value;

pub(crate) const BLOCK_SECONDS: f64 = 0.01;
pub(crate) const BLOCK_BYTES: usize = FRAMES * FRAME_BYTES;
/// Bytes of a block among server-sent events: its silence is written `0.0,`.
pub(crate) const EVENT_BYTES: usize = 3990;
const RATE_HZ: u32 = 48_000;
const FRAMES: usize = 480;
const FRAME_BYTES: usize = 4;
const MARK_BYTES: usize = 2 * FRAME_BYTES;
const WAV_HEADER_BYTES: usize = 44;
/// A binary message: its header and a block.
const MESSAGE_BYTES: usize = 24 + BLOCK_BYTES;
/// Of a WebSocket's frame that is longer than 125 and shorter than 64 Ki bytes (RFC 6455, section 5.2).
const FRAME_HEADER_BYTES: usize = 4;

/// Writes a file of 48 kHz, stereo, 16 bits, whose blocks of 10 ms are silent except for their marks; returns it as a
/// source.
pub(crate) fn source(directory: &Path, seconds: u32) -> String {
    let path = directory.join("numbered.wav");
    let mut file = BufWriter::new(std::fs::File::create(&path).unwrap());
    let bytes_per_second = RATE_HZ * FRAME_BYTES as u32;
    let bytes = seconds * bytes_per_second;
    let (riff, format) = (36 + bytes, [[16, 0, 0, 0], [1, 0, 2, 0]].concat());
    let (rate, layout) = ([RATE_HZ, bytes_per_second].map(u32::to_le_bytes).concat(), [4, 0, 16, 0]);
    for part in [&b"RIFF"[..], &riff.to_le_bytes(), b"WAVEfmt ", &format, &rate, &layout, b"data", &bytes.to_le_bytes()]
    {
        file.write_all(part).unwrap();
    }
    for number in 0..u64::from(seconds) * 100 {
        file.write_all(&mark(number)).unwrap();
        file.write_all(&[0; BLOCK_BYTES - MARK_BYTES]).unwrap();
    }
    file.flush().unwrap();
    format!("wav:{}", path.display())
}

/// Returns the first two frames of a block: its number and the number's complement, which no other two frames equal.
fn mark(number: u64) -> [u8; MARK_BYTES] {
    let number = u32::try_from(number).unwrap();
    let mut mark = [0; MARK_BYTES];
    mark[..FRAME_BYTES].copy_from_slice(&number.to_le_bytes());
    mark[FRAME_BYTES..].copy_from_slice(&(!number).to_le_bytes());
    mark
}

/// Returns the mark as in JSON: samples from -1 to 1.
fn mark_json(number: u64) -> String {
    let samples = mark(number);
    let samples = samples.chunks_exact(2).map(|bytes| f32::from(i16::from_le_bytes([bytes[0], bytes[1]])) / 32_768.0);
    samples.map(|sample| serde_json::to_string(&sample).unwrap() + ",").collect()
}

/// The format of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Format {
    Pcm,
    Wav,
    Json,
    Sse,
    /// Samples of 16 bits by WebSocket.
    Ws,
}

impl Format {
    /// All formats; those that curl can read come first.
    pub(crate) const ALL: [Self; 5] = [Self::Pcm, Self::Wav, Self::Json, Self::Sse, Self::Ws];

    /// Returns its name in rows and metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Pcm => "pcm",
            Self::Wav => "wav",
            Self::Json => "json",
            Self::Sse => "sse",
            Self::Ws => "ws",
        }
    }

    /// Returns whether the stream reports gaps.
    pub(crate) fn reports_gaps(self) -> bool {
        matches!(self, Self::Json | Self::Sse | Self::Ws)
    }

    /// Returns path and query.
    pub(crate) fn path(self, query: &str) -> String {
        match self {
            Self::Ws => format!("stream?payload=s16&{query}"),
            _ => format!("stream?format={}&{query}", self.label()),
        }
    }

    /// Returns the header fields of its requests without the host.
    pub(crate) fn fields(self) -> &'static str {
        match self {
            // The key is RFC 6455's own example.
            Self::Ws => {
                "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            }
            _ => "",
        }
    }

    /// Returns the bytes of a block on the wire, approximately for JSON.
    pub(crate) fn block_bytes(self) -> usize {
        match self {
            Self::Pcm | Self::Wav => BLOCK_BYTES,
            Self::Ws => MESSAGE_BYTES + FRAME_HEADER_BYTES,
            Self::Json | Self::Sse => EVENT_BYTES,
        }
    }
}

/// The blocks that were received so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Received {
    /// The numbers of all whole blocks.
    pub(crate) numbers: Vec<u64>,
    /// The number of silent blocks, which replace lost ones.
    pub(crate) silent: u64,
    /// The numbers that are missing between the first and the last block.
    pub(crate) holes: Vec<Range<u64>>,
    /// The gaps that the stream itself reports.
    pub(crate) reported_gaps: Vec<Range<u64>>,
    /// When block 0 was captured, in Unix seconds, if the stream has capture times.
    pub(crate) epoch: Option<f64>,
}

impl Received {
    fn block(&mut self, number: u64) {
        let next = self.next().unwrap_or(number);
        assert!(number >= next, "block {number} comes after {next}");
        if number > next {
            self.holes.push(next..number);
        }
        self.numbers.push(number);
    }

    /// Returns the number of blocks.
    pub(crate) fn blocks(&self) -> usize {
        self.numbers.len()
    }

    /// Returns one past the number of the last block.
    pub(crate) fn next(&self) -> Option<u64> {
        self.numbers.last().map(|number| number + 1)
    }

    /// Returns the gap before the first block, if the stream reports one.
    fn leading_gap(&self) -> Option<&Range<u64>> {
        self.reported_gaps.first().filter(|gap| self.numbers.first() == Some(&gap.end))
    }

    /// Returns the number of the first block that was due; `None` before the first block.
    pub(crate) fn first(&self) -> Option<u64> {
        self.leading_gap().map(|gap| gap.start).or(self.numbers.first().copied())
    }

    /// Returns the number of blocks that are missing up to the last one.
    pub(crate) fn missing(&self) -> u64 {
        self.holes.iter().chain(self.leading_gap()).map(|hole| hole.end - hole.start).sum()
    }
}

/// A parser of streams of numbered sound, which may come in parts of any size.
#[derive(Debug)]
pub(crate) struct StreamParser {
    format: Format,
    rest: Vec<u8>,
    id: Option<u64>,
    gap_next: bool,
    pub(crate) received: Received,
}

impl StreamParser {
    pub(crate) fn new(format: Format) -> Self {
        Self { format, rest: Vec::new(), id: None, gap_next: false, received: Received::default() }
    }

    /// Parses the next bytes. Fails if they violate the interface.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        let rest = std::mem::take(&mut self.rest);
        let taken = match self.format {
            Format::Pcm => self.blocks(&rest),
            // The header comes first.
            Format::Wav if self.id.is_none() => {
                let header = if rest.len() < WAV_HEADER_BYTES { 0 } else { WAV_HEADER_BYTES };
                self.id = (header > 0).then_some(0);
                header + self.blocks(&rest[header..])
            }
            Format::Wav => self.blocks(&rest),
            Format::Json | Format::Sse => self.lines(&rest),
            Format::Ws => self.frames(&rest),
        };
        self.rest = rest;
        self.rest.drain(..taken);
    }

    /// Parses complete blocks of samples; returns their length in bytes.
    fn blocks(&mut self, bytes: &[u8]) -> usize {
        if self.format == Format::Wav && self.id.is_none() {
            return 0;
        }
        let blocks = bytes.chunks_exact(BLOCK_BYTES);
        let taken = bytes.len() - blocks.remainder().len();
        for block in blocks {
            let (head, tail) = block.split_at(MARK_BYTES);
            assert!(tail == &[0; BLOCK_BYTES - MARK_BYTES][..], "the samples of a block have moved");
            if head == [0; MARK_BYTES] {
                self.received.silent += 1;
                continue;
            }
            let number = u32::from_le_bytes(head[..4].try_into().unwrap()).into();
            assert_eq!(head, mark(number), "no block begins like this");
            self.received.block(number);
        }
        taken
    }

    /// Parses complete frames of a server's WebSocket; returns their length in bytes.
    fn frames(&mut self, bytes: &[u8]) -> usize {
        const TEXT: u8 = 0x81;
        const BINARY: u8 = 0x82;
        const CLOSE: u8 = 0x88;
        const PING: u8 = 0x89;
        let mut rest = bytes;
        while let [kind, length, after @ ..] = rest {
            let (length, after) = match (length, after) {
                (126, [high, low, after @ ..]) => (usize::from(u16::from_be_bytes([*high, *low])), after),
                (0..126, after) => (usize::from(*length), after),
                (126, _) => break,
                (length, _) => panic!("a frame of length {length}"),
            };
            let Some((payload, after)) = after.split_at_checked(length) else { break };
            match *kind {
                BINARY => self.message(payload),
                TEXT => {
                    let text = std::str::from_utf8(payload).unwrap();
                    if text.starts_with("{\"gap\"") {
                        self.gap(text);
                    } else {
                        assert!(text.starts_with("{\"hello\"") && self.received.numbers.is_empty(), "{text}");
                    }
                }
                CLOSE => assert!(after.is_empty(), "no frame comes after the close frame"),
                PING => {}
                kind => panic!("a frame of kind {kind:#x}"),
            }
            rest = after;
        }
        bytes.len() - rest.len()
    }

    fn message(&mut self, message: &[u8]) {
        assert_eq!(message.len(), MESSAGE_BYTES);
        let number = u64::from_le_bytes(message[8..16].try_into().unwrap());
        let captured_at = u64::from_le_bytes(message[16..24].try_into().unwrap()) as f64 / 1e9;
        let block = &message[24..];
        assert!(block.starts_with(&mark(number)), "message {number} holds another block");
        assert!(block[MARK_BYTES..] == [0; BLOCK_BYTES - MARK_BYTES], "the samples of a block have moved");
        self.received.epoch.get_or_insert(captured_at - number as f64 * BLOCK_SECONDS);
        self.received.block(number);
    }

    /// Parses complete lines; returns their length in bytes.
    fn lines(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        let mut line = Vec::new();
        loop {
            line.clear();
            // Reading from memory does not fail.
            rest.read_until(b'\n', &mut line).unwrap();
            let Some((b'\n', line)) = line.split_last() else { return bytes.len() - rest.len() - line.len() };
            self.line(std::str::from_utf8(line).unwrap());
        }
    }

    fn line(&mut self, line: &str) {
        if let Some(id) = line.strip_prefix("id: ") {
            self.id = Some(id.parse().unwrap());
        } else if let Some(event) = line.strip_prefix("event: ") {
            assert_eq!(event, "gap");
            self.gap_next = true;
        } else if !line.is_empty() {
            let (data, is_gap) = match self.format {
                Format::Sse => (line.strip_prefix("data: ").unwrap(), self.gap_next),
                _ => (line, line.starts_with("{\"gap\"")),
            };
            if is_gap {
                self.gap(data);
            } else {
                self.block_json(data);
            }
            self.gap_next = false;
        }
    }

    fn gap(&mut self, data: &str) {
        let gap: Value = serde_json::from_str(data).unwrap();
        let (from, blocks) = (gap["gap"]["from"].as_u64().unwrap(), gap["gap"]["blocks"].as_u64().unwrap());
        assert!(self.format != Format::Sse || self.id == Some(from + blocks - 1), "{data} has the id {:?}", self.id);
        self.received.reported_gaps.push(from..from + blocks);
    }

    fn block_json(&mut self, data: &str) {
        let after = data.strip_prefix("{\"sequence\":").unwrap();
        let number: u64 = after.split(',').next().unwrap().parse().unwrap();
        let head = format!("{number},\"position\":{},\"captured_at\":", number * FRAMES as u64);
        let (captured_at, samples) = after.strip_prefix(&head).unwrap().split_once(",\"samples\":[").unwrap();
        assert!(samples.starts_with(&mark_json(number)) && samples.ends_with(",0.0]}"), "{data}");
        assert!(self.format == Format::Json || self.id == Some(number), "{number} has the id {:?}", self.id);
        let epoch = || captured_at.parse::<f64>().unwrap() - number as f64 * BLOCK_SECONDS;
        self.received.epoch.get_or_insert_with(epoch);
        self.received.block(number);
    }
}
