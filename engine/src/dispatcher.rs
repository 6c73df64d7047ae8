//! The thread between the capture ring and the consumers: makes each block shared and immutable once, and fans it out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::capture_ring::{Header, block_words};
use crate::clock;
use crate::poll_schedule::{Completion, PollSchedule};
use crate::pool::Pool;
use crate::publisher::RECLAIM_ITEMS;
use crate::{Block, CaptureStats, EndReason, Format, Loss, Precision, Publisher, SharedHistogram, Stamp, Timestamp};

/// Most blocks in one batch, so that consumers do not wait for the end of a long backlog.
const MAX_BATCH_BLOCKS: usize = 32;
/// Longest latency of the stage `ring` that its histogram distinguishes: 67 s.
const MAX_MICROS: u64 = 1 << 26;

/// Time between two readings of the wall clock. After a step, times are wrong for at most this long.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(1);

/// Outcome of a [`Dispatcher::step`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Blocks went out.
    Dispatched,
    /// Nothing was to do.
    Idle,
    /// The source has ended, and all of its blocks went out.
    Ended,
}

/// State of the dispatcher. Time is an argument; only [`run`](Self::run) reads the clock.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    ring: rtrb::Consumer<u32>,
    format: Format,
    pool: Pool,
    publisher: Publisher<Block>,
    capture: Arc<CaptureStats>,
    /// Stage `ring`: from the capture of a block's first frame to here, in microseconds.
    ring_micros: Arc<SharedHistogram>,
    stop: Arc<AtomicBool>,
    turns: Arc<AtomicU64>,
    /// How the blocks of the last step came.
    completions: Vec<Completion>,
    /// Number of consumers that the first block waits for.
    awaited: usize,
}

impl Dispatcher {
    pub(crate) fn new(
        format: Format,
        ring: rtrb::Consumer<u32>,
        capture: Arc<CaptureStats>,
        publisher: Publisher<Block>,
        history: usize,
        awaited: usize,
    ) -> Self {
        Self {
            ring,
            format,
            // The history, what comes back with the next look, one batch on its way, and a spare one.
            pool: Pool::new(format, history + RECLAIM_ITEMS as usize + MAX_BATCH_BLOCKS + 1),
            publisher,
            capture,
            ring_micros: Arc::new(SharedHistogram::new(MAX_MICROS, Precision::TwoDigits)),
            stop: Arc::default(),
            turns: Arc::default(),
            completions: Vec::with_capacity(MAX_BATCH_BLOCKS),
            awaited,
        }
    }

    pub(crate) fn ring_micros(&self) -> &Arc<SharedHistogram> {
        &self.ring_micros
    }

    /// Returns the flag that ends the dispatcher after the blocks in the ring, even if a hanging device never drops the
    /// capture.
    pub(crate) fn stop_flag(&self) -> &Arc<AtomicBool> {
        &self.stop
    }

    /// Returns the count of turns, with blocks and without. It stands still only while the dispatcher hangs.
    pub(crate) fn turns(&self) -> &Arc<AtomicU64> {
        &self.turns
    }

    /// Moves the blocks in the capture ring to the consumers.
    pub(crate) fn step(&mut self, now: Timestamp) -> Step {
        // Read before the ring: no block is written after the end, so the ring then has the last ones.
        let stopping = self.stop.load(Ordering::Acquire);
        let ending = self.ring.is_abandoned() || stopping;
        let words = block_words(self.format);
        let mut taken = 0;
        self.completions.clear();
        if self.awaited > 0 && self.publisher.consumers() >= self.awaited {
            self.awaited = 0;
        }
        // A stream that is stopped does not wait for a consumer, which may never come or never read again.
        while taken < MAX_BATCH_BLOCKS
            && self.ring.slots() >= words
            && (stopping || (self.awaited == 0 && self.publisher.has_room(1)))
        {
            self.take_block(words, now);
            taken += 1;
        }
        if taken > 0 {
            for expired in self.publisher.flush() {
                self.pool.give(expired);
            }
            return Step::Dispatched;
        }
        if ending && self.ring.slots() < words {
            self.publisher.advance_to(self.capture.next_sequence());
            return Step::Ended;
        }
        // Admits new consumers and removes those that left, also while the source is silent.
        self.publisher.consumers();
        Step::Idle
    }

    /// Runs until the source ends, then ends every consumer after its queued blocks, with the failure of the source if it
    /// has failed. Blocks come at their own pace if the stream `is_live`.
    pub(crate) fn run(mut self, is_live: bool) {
        #[cfg(target_os = "linux")]
        raise_priority();
        let start = Timestamp::now();
        let mut schedule = PollSchedule::new(self.format, is_live, start);
        let mut followed_at = start;
        loop {
            self.turns.fetch_add(1, Ordering::Relaxed);
            match self.step(Timestamp::now()) {
                Step::Dispatched => schedule.came(&self.completions, Timestamp::now()),
                Step::Idle => {
                    let now = Timestamp::now();
                    if now.since(followed_at) >= FOLLOW_INTERVAL {
                        followed_at = now;
                        clock::follow_wall_clock();
                    }
                    thread::sleep(schedule.pause(now));
                }
                Step::Ended => break,
            }
        }
        self.finish();
    }

    /// Ends every consumer, after [`Step::Ended`].
    pub(crate) fn finish(self) {
        self.publisher.finish(if self.capture.failure().is_some() { EndReason::Failed } else { EndReason::Finished });
    }

    fn take_block(&mut self, words: usize, now: Timestamp) {
        let Ok(chunk) = self.ring.read_chunk(words) else { return };
        // Blocks never wrap around the ring's end.
        let (block, _) = chunk.as_slices();
        let Some((header, samples)) = block.split_first_chunk() else { return };
        let Header { sequence, captured_at, length, completion, lost_on_hop, epoch, is_past } =
            Header::from_words(header);
        self.completions.push(completion);
        let stamp = Stamp { sequence, captured_at, dispatched_at: now, preceding: 0 };
        let mut block = self.pool.take();
        if let Some(fresh) = Arc::get_mut(&mut block) {
            fresh.stamp = stamp;
            fresh.value.refill(length, epoch).copy_from_slice(bytemuck::cast_slice(samples));
        }
        chunk.commit_all();
        if lost_on_hop > 0 {
            let lost_to = self.publisher.next_sequence() + u64::from(lost_on_hop);
            self.publisher.lose_to(lost_to.min(sequence), Loss::Hop);
        }
        if !is_past {
            self.ring_micros.record(now.micros_since(captured_at));
        }
        self.publisher.push_item(block);
    }
}

/// Makes the calling thread punctual, as far as the system permits. With the default timer slack each wait may take
/// 50 us longer. Without the priority, which needs a privilege, a busy machine may stop the thread for longer than the
/// ring lasts.
#[cfg(target_os = "linux")]
fn raise_priority() {
    /// Above ordinary threads, below the sound server, which has -11.
    const NICENESS: i32 = -10;
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    // On Linux, no process id means the calling thread.
    let _ = rustix::process::setpriority_process(None, NICENESS);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Capture, PublisherOptions};

    #[test]
    fn it_follows_the_wall_clock_while_it_runs() {
        const HOUR_NANOS: u64 = 3_600_000_000_000;
        let format = Format::new(48_000, 1, Duration::from_millis(10)).unwrap();
        let (capture, ring, stats) = Capture::new(format, true);
        let (publisher, _hub) = Publisher::new(PublisherOptions::default());
        let dispatcher = Dispatcher::new(format, ring, stats, publisher, 0, 0);
        clock::pretend_step(HOUR_NANOS as i64);
        let now = Timestamp::now();
        assert_eq!(now.unix_nanos(), now.as_nanos() + HOUR_NANOS);
        let running = thread::spawn(move || dispatcher.run(true));
        // Hangs if the dispatcher does not look.
        while now.unix_nanos().abs_diff(now.as_nanos()) > HOUR_NANOS / 2 {
            thread::sleep(Duration::from_millis(10));
        }
        drop(capture);
        running.join().unwrap();
    }
}
