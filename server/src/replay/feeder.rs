//! The thread that feeds one replay with blocks, at the pace of the sound.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use aircheck_engine::{
    Block, Consumer, EndReason, Format, Item, OverflowPolicy, Publisher, Stamp, Start, SubscribeOptions, Timestamp,
    TryRecvError,
};

use super::places::ReplayPlace;
use super::timeline::Leg;
use crate::mount::Mount;
use crate::sink::recorder::{Found, Recording, RunReader};

/// Longest wait without a look at whether the listener or the stream has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Time between two looks for sound that is not in a file yet.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);
/// Longest wait for sound that should be in a file soon. The recorder flushes twice a second; a disk may stall.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// The history is used if it has this much sound before the next block, so that it does not lose that block meanwhile.
const HISTORY_MARGIN: Duration = Duration::from_millis(200);
/// Room for blocks that come while the pace holds them back, besides the history.
const LIVE_BUFFER: Duration = Duration::from_secs(5);

/// The feeder of one replay.
#[derive(Debug)]
pub(super) struct Feeder {
    mount: Arc<Mount>,
    recording: Arc<Recording>,
    blocks: Publisher<Block>,
    reader: RunReader,
    format: Format,
    history: u64,
    /// The runs to play, that of `reader` first.
    legs: Vec<Leg>,
    /// The number of the next block.
    next: u64,
    /// Since when the next block has been awaited.
    waiting_since: Option<Timestamp>,
    _place: ReplayPlace,
}

/// What to do next.
enum Step {
    /// Play this block.
    Play(u64, Block, Timestamp),
    /// Look again in a moment.
    Wait,
    /// Look again at once: there is nothing before the number that is next now.
    Again,
    /// Go on with the live stream.
    Live,
}

impl Feeder {
    /// Makes a feeder for `blocks`, from their next number on. `legs` begins with the run of `reader`.
    pub(super) fn new(
        mount: Arc<Mount>,
        recording: Arc<Recording>,
        blocks: Publisher<Block>,
        reader: RunReader,
        legs: Vec<Leg>,
        history: Duration,
        place: ReplayPlace,
    ) -> Self {
        let (format, next) = (mount.format(), blocks.next_sequence());
        let history = format.blocks_in(history);
        Self { mount, recording, blocks, reader, format, history, legs, next, waiting_since: None, _place: place }
    }

    /// Feeds the replay until its listener leaves or the stream ends.
    pub(super) fn run(mut self) {
        let mut pace = Pace { start: Timestamp::now(), blocks: 0, span: self.format.block_span() };
        let mut live: Option<Consumer<Block>> = None;
        loop {
            // The encoder leaves when its listener has left.
            if self.blocks.consumers() == 0 {
                return;
            }
            let step = match &mut live {
                Some(consumer) => match consumer.recv_timeout(LOOK_INTERVAL) {
                    Ok(delivery) => {
                        let Item { stamp, value } = &*delivery.item;
                        Step::Play(stamp.sequence + self.ahead(), value.clone(), stamp.captured_at)
                    }
                    Err(TryRecvError::Empty) => continue,
                    Err(TryRecvError::Ended(end)) => {
                        if let Some(gap) = end.gap {
                            self.blocks.advance_to(gap.from + gap.items + self.ahead());
                        }
                        return self.blocks.finish(end.reason);
                    }
                },
                None if self.mount.hub().is_ended() => return self.blocks.finish(EndReason::Finished),
                None => self.step(),
            };
            match step {
                Step::Play(number, block, captured_at) => {
                    if !pace.wait(&mut self.blocks) {
                        return;
                    }
                    self.play(number, block, captured_at);
                }
                Step::Wait => thread::sleep(RETRY_INTERVAL),
                Step::Again => {}
                Step::Live => match self.join_live() {
                    Some(consumer) => live = Some(consumer),
                    None => return self.blocks.finish(EndReason::Finished),
                },
            }
        }
    }

    fn play(&mut self, number: u64, block: Block, captured_at: Timestamp) {
        self.next = number + 1;
        self.waiting_since = None;
        let stamp = Stamp { sequence: number, captured_at, dispatched_at: Timestamp::now(), preceding: 0 };
        self.blocks.push(stamp, block);
        self.blocks.flush();
    }

    /// Returns how far the numbers of the replay are ahead of those of the live stream.
    fn ahead(&self) -> u64 {
        self.legs.last().map_or(0, |leg| leg.base.max(0) as u64)
    }

    fn join_live(&self) -> Option<Consumer<Block>> {
        let options = SubscribeOptions {
            overflow: OverflowPolicy::DropNewest,
            buffer: self.format.blocks_in(LIVE_BUFFER) as usize,
            start: Start::From(self.next.saturating_sub(self.ahead())),
            histograms: false,
        };
        self.mount.hub().subscribe(options).ok()
    }

    /// Returns whether the history has the next block, and will have it for a while.
    fn is_in_history(&self) -> bool {
        let (is_last_leg, head) = (self.legs.len() == 1, self.mount.hub().head().next());
        let oldest = (head + self.format.blocks_in(HISTORY_MARGIN)).saturating_sub(self.history);
        is_last_leg && self.next >= self.ahead() + oldest
    }

    fn step(&mut self) -> Step {
        if self.is_in_history() {
            return Step::Live;
        }
        let Some(leg) = self.legs.first().copied() else { return Step::Live };
        let frames = u64::from(self.format.block_frames());
        let position = (self.next as i64 - leg.base).max(0) as u64 * frames;
        // The number of the first block that begins at or after a position.
        let number = |position: u64| (leg.base + position.div_ceil(frames) as i64).max(0) as u64;
        match self.reader.read(position, frames) {
            Ok(Found::Sound(samples, _)) if samples.len() < self.format.block_samples() => {
                if self.legs.len() == 1 {
                    return self.wait();
                }
                // The end of an earlier run. Only the last block of a stream may be short, so this one is left out.
                self.next += 1;
                Step::Again
            }
            Ok(Found::Sound(samples, captured_at)) => {
                // Timestamps get the steps of the wall clock added when they are shown; the recorded time has them already.
                let shown = Timestamp::from_nanos(captured_at);
                let step = shown.unix_nanos() as i64 - captured_at as i64;
                Step::Play(self.next, Block::of(self.format, &samples), shown.offset_by(-step))
            }
            Ok(Found::Hole(to)) => {
                self.next = self.next.max(number(to));
                Step::Again
            }
            Ok(Found::Beyond) if self.legs.len() > 1 => {
                self.legs.remove(0);
                let next = self.legs[0];
                self.reader = RunReader::new(Arc::clone(self.recording.index()), next.run);
                self.next = self.next.max(next.base.max(0) as u64);
                Step::Again
            }
            Ok(Found::Beyond) => self.wait(),
            Err((error, end)) => {
                tracing::warn!("cannot play a part of the recording, skipping it: {error}");
                self.next = self.next.max(number(end)).max(self.next + 1);
                Step::Again
            }
        }
    }

    /// Waits for the recorder, or goes on with the live stream if that is in vain.
    fn wait(&mut self) -> Step {
        let now = Timestamp::now();
        let since = *self.waiting_since.get_or_insert(now);
        if self.recording.is_writing() && now.since(since) < MAX_WAIT { Step::Wait } else { Step::Live }
    }
}

/// The pace of the sound.
struct Pace {
    start: Timestamp,
    /// Blocks that were played since the start.
    blocks: u32,
    span: Duration,
}

impl Pace {
    /// Waits until the next block is due. Returns false if the listener has left meanwhile.
    fn wait(&mut self, blocks: &mut Publisher<Block>) -> bool {
        loop {
            let (due, now) = (self.start + self.span * self.blocks, Timestamp::now());
            let early = due.since(now);
            if early.is_zero() {
                break;
            }
            thread::sleep(early.min(LOOK_INTERVAL));
            if blocks.consumers() == 0 {
                return false;
            }
        }
        self.blocks += 1;
        // Restarted now and then, so that the count stays small.
        if self.blocks >= 1 << 20 {
            self.start = self.start + self.span * self.blocks;
            self.blocks = 0;
        }
        true
    }
}
