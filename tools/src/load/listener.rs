//! One listener: what of its stream has come, and what that says. It knows no socket; bytes and the time are given to
//! it.

use std::time::{Duration, Instant};

use crate::load::account::{Account, Blocks, Standing};
use crate::load::chunked::Body;
use crate::load::clocks::Clocks;
use crate::load::head::{Head, NoStream, Request};
use crate::load::measures::{Kind, Measure, Measures, STALL};
use crate::load::mount::{Form, Mount};
use crate::load::reader::{Frames, Item, Lines, Pages, Plain, Reader};

/// What all listeners of a run have in common.
#[derive(Debug)]
pub(crate) struct Run {
    /// What they listen to.
    pub(crate) mount: Mount,
    /// Of aircheck: how its blocks are. Only such a server knows names.
    pub(crate) blocks: Option<Blocks>,
}

/// How a listener ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It left, and read what was on its way.
    Left,
    /// It left, but not all that was on its way came.
    Torn,
    /// The stream ended as it should.
    Finished,
    /// The connection broke, or the server ended it without the stream's end.
    Broken(String),
    /// It never had a stream.
    NoStream(NoStream),
    /// Its stream made no sense.
    Malformed(String),
}

/// What is to be done for a listener after its bytes were read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Todo {
    /// Send this.
    Pong(Vec<u8>),
    /// Enter what the server says of the time.
    Clock { asked: f64, now: f64 },
}

/// One listener.
#[derive(Debug)]
pub(crate) struct Listener {
    /// The number in its name.
    pub(crate) number: u64,
    pub(crate) kind: Kind,
    request: Request,
    /// As far as it has come, until it is whole.
    head: Vec<u8>,
    stream: Option<Stream>,
    pub(crate) began_at: Instant,
    /// When bytes of the stream came last.
    pub(crate) read_at: Option<Instant>,
    /// Bytes of the stream, without what carries them.
    pub(crate) bytes: u64,
    /// Whether what it does is still measured: not once it leaves.
    pub(crate) measured: bool,
}

/// A stream that has begun.
#[derive(Debug)]
struct Stream {
    body: Option<Body>,
    reader: Reader,
    account: Account,
}

impl Listener {
    /// A listener that connects now.
    pub(crate) fn new(run: &Run, number: u64, kind: Kind, now: Instant) -> Self {
        let name = run.blocks.map(|_| format!("load-{number}"));
        Self {
            number,
            kind,
            request: Request::new(&run.mount, name.as_deref()),
            head: Vec::new(),
            stream: None,
            began_at: now,
            read_at: None,
            bytes: 0,
            measured: true,
        }
    }

    /// What it asks for.
    pub(crate) fn request(&self) -> &[u8] {
        self.request.text.as_bytes()
    }

    /// Whether it has a stream.
    pub(crate) fn streams(&self) -> bool {
        self.stream.is_some()
    }

    /// Takes in what came at `now`.
    ///
    /// # Errors
    ///
    /// How it ended, if it did.
    pub(crate) fn take(
        &mut self,
        bytes: &[u8],
        now: Instant,
        run: &Run,
        clocks: Clocks,
        measures: &mut Measures,
        todo: &mut Vec<Todo>,
    ) -> Result<(), End> {
        if self.stream.is_some() {
            return self.take_body(bytes, now, run, clocks, measures, todo);
        }
        self.head.extend(bytes);
        let Some((head, length)) = self.request.answer(&self.head).map_err(End::NoStream)? else { return Ok(()) };
        self.stream = Some(Stream::new(run, head));
        let rest = std::mem::take(&mut self.head).split_off(length);
        self.take_body(&rest, now, run, clocks, measures, todo)
    }

    fn take_body(
        &mut self,
        mut bytes: &[u8],
        now: Instant,
        run: &Run,
        clocks: Clocks,
        measures: &mut Measures,
        todo: &mut Vec<Todo>,
    ) -> Result<(), End> {
        let Some(Stream { body, reader, account }) = &mut self.stream else { return Ok(()) };
        let before = self.bytes;
        let measured = self.measured;
        let mut closed = None;
        loop {
            let piece = match body {
                Some(body) => body.piece(&mut bytes).map_err(End::Malformed)?,
                None => Some(std::mem::take(&mut bytes)).filter(|piece| !piece.is_empty()),
            };
            let Some(piece) = piece else { break };
            self.bytes += piece.len() as u64;
            let told = reader.push(piece, &mut |item| {
                account.enter(&item);
                match item {
                    Item::Block { captured_at_ns, .. } => {
                        if let Some(latency) = clocks.latency(captured_at_ns, now).filter(|_| measured) {
                            measures.record(Measure::Latency, latency);
                        }
                    }
                    Item::Ping(bytes) => todo.push(Todo::Pong(bytes)),
                    Item::Clock { asked, now } => todo.push(Todo::Clock { asked, now }),
                    Item::Closed { code, why } => closed = Some((code, why)),
                    Item::Gap(_) | Item::Sound { .. } | Item::Hole { .. } => {}
                }
            });
            told.map_err(End::Malformed)?;
        }
        let is_over = body.as_ref().is_some_and(Body::is_over);
        if self.bytes > before && self.measured {
            match self.read_at.replace(now) {
                Some(last) => record_stall(measures, run, now - last),
                None => measures.record(Measure::FirstByte, now - self.began_at),
            }
        }
        match closed {
            Some((1000, _)) => Err(End::Finished),
            Some((code, why)) => Err(End::Broken(format!("the server ended it: {why} (code {code})"))),
            None if is_over => Err(End::Finished),
            None => Ok(()),
        }
    }

    /// Enters the pause that lasts at `now`, as it would be lost else when the listener ends.
    pub(crate) fn pause(&self, run: &Run, now: Instant, measures: &mut Measures) {
        if let Some(last) = self.read_at.filter(|_| self.measured) {
            record_stall(measures, run, now - last);
        }
    }

    /// What its account comes to, and how many blocks that is if whole blocks can be counted.
    pub(crate) fn standing(&self) -> (Standing, Option<u64>) {
        let Some(Stream { reader, account, .. }) = &self.stream else { return (Standing::default(), None) };
        let standing = account.standing();
        match reader {
            Reader::Plain(plain) => {
                let blocks = plain.blocks();
                (Standing { blocks: blocks.unwrap_or(0), ..standing }, blocks)
            }
            Reader::Lines(_) | Reader::Frames(_) => (standing, Some(standing.blocks)),
            // Packets and blocks are of different lengths, so that the last block is never known to be whole.
            Reader::Pages(_) => (standing, None),
        }
    }

    /// Whether its blocks come with their numbers.
    pub(crate) fn has_numbers(&self) -> bool {
        let reader = self.stream.as_ref().map(|stream| &stream.reader);
        matches!(reader, Some(Reader::Lines(_) | Reader::Frames(_)))
    }

    /// Whether anything is missing in its stream, be it less than a block.
    pub(crate) fn has_holes(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.account.has_holes())
    }
}

impl Stream {
    fn new(run: &Run, head: Head) -> Self {
        let block_bytes = match (run.blocks, head.sample_bytes) {
            // Silence in place of what was lost counts as nothing that was delivered.
            _ if run.mount.asks_for("gaps=silence") => None,
            (Some(blocks), Some(sample_bytes)) => Some(blocks.frames * blocks.channels * sample_bytes),
            _ => None,
        };
        let form = run.mount.form;
        let reader = match form {
            Form::Json | Form::Sse => Reader::Lines(Lines::new(form == Form::Sse)),
            Form::Ws => Reader::Frames(Frames::default()),
            Form::Opus => Reader::Pages(Pages::default()),
            Form::Wav | Form::Pcm | Form::Flac | Form::Other => {
                Reader::Plain(Plain::new(block_bytes, form == Form::Wav))
            }
        };
        let packets = form == Form::Ws && run.mount.asks_for("payload=opus");
        Self { body: head.body, reader, account: Account::new(run.blocks, packets) }
    }
}

fn record_stall(measures: &mut Measures, run: &Run, pause: Duration) {
    let block = run.blocks.map_or(Duration::ZERO, |blocks| Duration::from_secs_f64(blocks.seconds));
    if pause > STALL + block {
        measures.record(Measure::Stall, pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCKS: Blocks = Blocks { frames: 2, seconds: 0.01, channels: 1 };

    struct Bench {
        run: Run,
        listener: Listener,
        measures: Measures,
        start: Instant,
    }

    impl Bench {
        fn new(url: &str, blocks: Option<Blocks>) -> Self {
            let start = Instant::now();
            let run = Run { mount: Mount::parse(url).unwrap(), blocks };
            let listener = Listener::new(&run, 1, Kind::Healthy, start);
            Self { run, listener, measures: Measures::new().unwrap(), start }
        }

        fn take(&mut self, text: &str, after_ms: u64) -> Result<(), End> {
            let now = self.start + Duration::from_millis(after_ms);
            let clocks = Clocks { epoch: self.start, server_ns: Some(1e18) };
            let Self { run, listener, measures, .. } = self;
            listener.take(text.as_bytes(), now, run, clocks, measures, &mut Vec::new())
        }

        fn spread(&mut self, measure: Measure) -> Option<u64> {
            self.measures.roll();
            self.measures.spread(measure).map(|spread| spread.max / 1_000_000)
        }
    }

    const HEAD: &str = "HTTP/1.1 200 OK\r\nX-Audio-Sample: s16le\r\nTransfer-Encoding: chunked\r\n\r\n";

    #[test]
    fn the_first_byte_and_stalls_are_measured() {
        let mut bench = Bench::new("h:1/stream.pcm", Some(BLOCKS));
        bench.take(HEAD, 20).unwrap();
        assert_eq!(bench.spread(Measure::FirstByte), None, "the head is not the stream");
        for after_ms in [30, 40, 150, 360] {
            bench.take("4\r\nabcd\r\n", after_ms).unwrap();
        }
        assert_eq!(bench.spread(Measure::FirstByte), Some(30));
        // 110 ms is a block and the 100 ms that are no stall.
        assert_eq!((bench.spread(Measure::Stall), bench.measures.count(Measure::Stall)), (Some(210), 1));
        assert_eq!((bench.listener.bytes, bench.listener.standing().1), (16, Some(4)));
        assert_eq!(bench.take("0\r\n\r\n", 370), Err(End::Finished));
    }

    #[test]
    fn latency_is_from_the_capture_to_the_end_of_the_block() {
        let mut bench = Bench::new("h:1/stream.json", None);
        let line = r#"{"sequence":1,"position":2,"captured_at":1000000000.01,"samples":[0.0]}"#;
        bench.take("HTTP/1.1 200 OK\r\n\r\n", 20).unwrap();
        bench.take(line, 30).unwrap();
        bench.take("\n", 50).unwrap();
        assert_eq!(bench.spread(Measure::Latency), Some(40));
        assert_eq!(bench.listener.standing().1, Some(1));
    }

    #[test]
    fn what_ends_is_told() {
        let mut bench = Bench::new("h:1/stream.json", None);
        bench.take("HTTP/1.1 200 OK\r\n\r\n", 20).unwrap();
        assert!(matches!(bench.take("<html>\n", 30), Err(End::Malformed(_))));
        let mut bench = Bench::new("h:1", None);
        assert!(matches!(bench.take("HTTP/1.1 404 Not Found\r\n\r\n", 20), Err(End::NoStream(_))));
    }
}
