//! One listener: its stream so far, and what was measured of it. It has no socket and no clock; items and the time are
//! arguments.

use std::time::{Duration, Instant};

use aircheck_api::{HEADER_BYTES, MessageHeader};

use super::account::{Account, Counts};
use super::clocks::Clocks;
use super::measures::{ListenerKind, Measure, Measures, STALL};
use super::plan::Plan;
use super::reader::{Item, Reader};

/// Frames of Opus in a millisecond.
const OPUS_FRAMES_PER_MS: u64 = 48;

/// How a listener ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It left, and read all that was on its way.
    Left,
    /// It left, but not all that was on its way came.
    Torn,
    /// The stream ended properly.
    Finished,
    /// The server closed the connection before the stream's end.
    Closed,
    /// The connection broke, or the server ended this listener.
    Broken(String),
    /// The server refused it.
    Refused { status: u16, why: String },
    /// It had no stream for another reason.
    Failed(String),
    /// Its stream could not be read.
    Malformed(String),
}

/// One listener.
#[derive(Debug)]
pub(crate) struct Listener {
    /// The number in its name.
    pub(crate) number: u64,
    pub(crate) kind: ListenerKind,
    stream: Option<StreamCheck>,
    pub(crate) began_at: Instant,
    /// When bytes of the stream came last.
    read_at: Option<Instant>,
    longest_pause: Duration,
    /// The length of a block, or of the longest page of Ogg so far: what comes in one piece.
    piece: Duration,
    /// Bytes of the stream, without its HTTP or WebSocket framing.
    pub(crate) bytes: u64,
    /// Whether it is still measured; not once it leaves.
    is_measured: bool,
}

/// The check of a stream that has begun.
#[derive(Debug)]
struct StreamCheck {
    reader: Reader,
    account: Account,
}

impl Listener {
    /// Makes a listener that connects now.
    pub(crate) fn new(number: u64, kind: ListenerKind, now: Instant) -> Self {
        Self {
            number,
            kind,
            stream: None,
            began_at: now,
            read_at: None,
            longest_pause: Duration::ZERO,
            piece: Duration::ZERO,
            bytes: 0,
            is_measured: true,
        }
    }

    /// Returns its name, which is unique within the run.
    pub(crate) fn name(&self) -> String {
        format!("load-{}", self.number)
    }

    /// Begins its stream. `sample_bytes` is the length of a sample, if the server tells it.
    pub(crate) fn begin(&mut self, plan: &Plan, sample_bytes: Option<u64>) {
        self.piece = plan.format.map_or(Duration::ZERO, |format| Duration::from_secs_f64(format.block_seconds));
        let reader = Reader::new(&plan.url, plan.format.as_ref(), sample_bytes);
        self.stream = Some(StreamCheck { reader, account: Account::new(plan) });
    }

    /// Returns whether it has a stream.
    pub(crate) fn has_stream(&self) -> bool {
        self.stream.is_some()
    }

    /// Takes a piece of the body that came at `now`.
    ///
    /// # Errors
    ///
    /// If it can't be read.
    pub(crate) fn take(
        &mut self,
        bytes: &[u8],
        now: Instant,
        clocks: Clocks,
        measures: &mut Measures,
    ) -> Result<(), Ending> {
        let Self { is_measured, piece, .. } = *self;
        let mut longest = piece;
        if let Some(StreamCheck { reader, account }) = &mut self.stream {
            let mut enter = |item: Item| {
                account.enter(&item);
                if let Item::Sound { frames } = item {
                    longest = longest.max(Duration::from_micros(frames * 1000 / OPUS_FRAMES_PER_MS));
                }
                if is_measured {
                    record_latency(&item, now, clocks, measures);
                }
            };
            reader.push(bytes, &mut enter).map_err(Ending::Malformed)?;
        }
        self.piece = longest;
        self.came(bytes.len(), now, measures);
        Ok(())
    }

    /// Takes a message of the WebSocket with a block.
    pub(crate) fn take_block(&mut self, header: &MessageHeader, now: Instant, clocks: Clocks, measures: &mut Measures) {
        let MessageHeader { sequence, captured_at_nanos, payload_bytes, .. } = *header;
        let item = Item::Block { sequence, position: None, captured_at_nanos };
        self.enter(&item);
        if self.is_measured {
            record_latency(&item, now, clocks, measures);
        }
        self.came(HEADER_BYTES + payload_bytes as usize, now, measures);
    }

    /// Takes a finding that has no bytes of its own.
    pub(crate) fn enter(&mut self, item: &Item) {
        if let Some(StreamCheck { account, .. }) = &mut self.stream {
            account.enter(item);
        }
    }

    fn came(&mut self, bytes: usize, now: Instant, measures: &mut Measures) {
        self.bytes += bytes as u64;
        if bytes > 0 && self.is_measured {
            match self.read_at.replace(now) {
                Some(last) => self.pause(now - last, measures),
                None => measures.record(Measure::FirstByte, now - self.began_at),
            }
        }
    }

    fn pause(&mut self, pause: Duration, measures: &mut Measures) {
        self.longest_pause = self.longest_pause.max(pause);
        if pause > STALL + self.piece {
            measures.record(Measure::Stall, pause);
        }
    }

    /// Enters the pause that lasts at `now`, and measures nothing more.
    pub(crate) fn end_measuring(&mut self, now: Instant, measures: &mut Measures) {
        if let Some(last) = self.read_at.filter(|_| self.is_measured) {
            self.pause(now - last, measures);
            measures.record(Measure::LongestPause, self.longest_pause);
        }
        self.is_measured = false;
    }

    /// Returns whether its stream may end here.
    pub(crate) fn is_complete(&self) -> bool {
        self.stream.as_ref().is_none_or(|stream| stream.reader.is_complete())
    }

    /// Returns its account, and how many whole blocks came if they can be counted.
    pub(crate) fn counts(&self) -> (Counts, Option<u64>) {
        let Some(StreamCheck { reader, account }) = &self.stream else { return (Counts::default(), None) };
        let counts = account.counts();
        match reader {
            Reader::Bytes(counter) => {
                let blocks = counter.blocks();
                (Counts { blocks: blocks.unwrap_or(0), ..counts }, blocks)
            }
            Reader::Lines(_) | Reader::Messages => (counts, Some(counts.blocks)),
            // Packets and blocks are of different lengths, so the last block is never known to be whole.
            Reader::Pages(_) => (counts, None),
        }
    }

    /// Returns whether its blocks come with their numbers.
    pub(crate) fn has_numbers(&self) -> bool {
        matches!(&self.stream, Some(StreamCheck { reader: Reader::Lines(_) | Reader::Messages, .. }))
    }

    /// Returns whether sound is missing in its stream, even less than a block.
    pub(crate) fn has_holes(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.account.has_holes())
    }
}

fn record_latency(item: &Item, now: Instant, clocks: Clocks, measures: &mut Measures) {
    if let Item::Block { captured_at_nanos, .. } = item
        && let Some(latency) = clocks.latency(*captured_at_nanos, now)
    {
        measures.record(Measure::Latency, latency);
    }
}

#[cfg(test)]
mod tests {
    use aircheck_api::StreamFormat;

    use super::super::url::LoadUrl;
    use super::*;

    const FORMAT: StreamFormat = StreamFormat { rate_hz: 200, channels: 1, block_frames: 2, block_seconds: 0.01 };

    struct Bench {
        listener: Listener,
        measures: Measures,
        start: Instant,
    }

    impl Bench {
        fn new(url: &str, format: Option<StreamFormat>) -> Self {
            let start = Instant::now();
            let plan = Plan { url: LoadUrl::parse(url).unwrap(), format };
            let mut listener = Listener::new(1, ListenerKind::Healthy, start);
            listener.begin(&plan, Some(2));
            Self { listener, measures: Measures::new().unwrap(), start }
        }

        fn take(&mut self, text: &str, after_ms: u64) -> Result<(), Ending> {
            let now = self.start + Duration::from_millis(after_ms);
            let clocks = Clocks { epoch: self.start, server_ns: Some(1e18) };
            let Self { listener, measures, .. } = self;
            listener.take(text.as_bytes(), now, clocks, measures)
        }

        fn max_ms(&mut self, measure: Measure) -> Option<u64> {
            self.measures.roll();
            self.measures.percentiles(measure).map(|p| (p.max.unwrap() * 1e3) as u64)
        }
    }

    #[test]
    fn the_first_byte_and_stalls_are_measured() {
        let mut bench = Bench::new("h:1/stream.pcm", Some(FORMAT));
        assert_eq!(bench.max_ms(Measure::FirstByte), None);
        for after_ms in [30, 40, 150, 360] {
            bench.take("abcd", after_ms).unwrap();
        }
        assert_eq!(bench.max_ms(Measure::FirstByte), Some(30));
        // 110 ms is a block and the 100 ms that are no stall.
        assert_eq!((bench.max_ms(Measure::Stall), bench.measures.count(Measure::Stall)), (Some(210), 1));
        assert_eq!((bench.listener.bytes, bench.listener.counts().1), (16, Some(4)));
        let end = bench.start + Duration::from_millis(500);
        bench.listener.end_measuring(end, &mut bench.measures);
        assert_eq!(bench.max_ms(Measure::LongestPause), Some(210), "the pause of 140 ms at the end is shorter");
    }

    #[test]
    fn latency_ends_with_the_end_of_the_block() {
        let mut bench = Bench::new("h:1/stream.json", None);
        let line = r#"{"sequence":1,"position":2,"captured_at":1000000000.01,"samples":[0.0]}"#;
        bench.take(line, 30).unwrap();
        bench.take("\n", 50).unwrap();
        assert_eq!(bench.max_ms(Measure::Latency), Some(40));
        assert_eq!(bench.listener.counts().1, Some(1));
    }

    #[test]
    fn a_stream_that_cannot_be_read_ends_the_listener() {
        let mut bench = Bench::new("h:1/stream.json", None);
        assert!(matches!(bench.take("<html>\n", 30), Err(Ending::Malformed(_))));
    }
}
