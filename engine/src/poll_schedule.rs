//! The times at which the dispatcher polls the capture ring: a callback cannot wake it, so it predicts the next block.
//!
//! Each block in the ring says when it was complete, how long the period was that completed it, and how much of that
//! period was left for the next block. So the schedule knows how blocks come however late it polls: a block in each
//! period, three at once in a long one, or one in each second period. From that it knows in which period the next block
//! will be complete, and when that period will come. The times of jittery periods are smoothed.
//!
//! Some sound servers hand over several periods at once. The schedule then expects the next ones as long after these as
//! these came after the ones before.

use std::time::Duration;

use crate::{Format, Timestamp};

/// Wait after the moment at which a block is expected, beside the usual deviation: the dispatcher and the device's thread
/// are woken by the same clock, and the latter has work to do first.
const MARGIN: Duration = Duration::from_micros(20);
/// Longest time without a poll, a third of the capture ring: a device may change its ways.
const MAX_INTERVAL: Duration = Duration::from_millis(100);
/// First wait after a poll that was too early.
const MIN_RETRY_INTERVAL: Duration = Duration::from_micros(20);
/// Longest wait while blocks are late: a silent source costs 200 polls a second.
const MAX_RETRY_INTERVAL: Duration = Duration::from_millis(5);
/// Each retry waits this part of the lateness so far. So waiting adds at most an eighth to the device's own lateness,
/// and a long silence does not keep the processor busy.
const RETRY_PART: u32 = 8;
/// Blocks came at once if less than this part of a block is between them.
const AT_ONCE_PART: u32 = 4;
/// Time without a block after which several periods that came at once are complete.
const SETTLE_TIMEOUT: Duration = Duration::from_millis(1);
/// Batches over which deviations from the expected moment are averaged.
const SMOOTHING: i64 = 8;

/// The period that completed a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Completion {
    /// When it was handed over.
    pub arrived_at: Timestamp,
    /// Frames of the period.
    pub period_frames: u32,
    /// Frames of the period after the end of the block.
    pub left_frames: u32,
}

/// Predicts when the next block comes. Unlike a wake-up from the callback, this costs the capture thread nothing.
#[derive(Debug)]
pub(crate) struct PollSchedule {
    format: Format,
    /// Whether blocks come at their own pace. If not, the next one may be there at once.
    is_live: bool,
    due: Timestamp,
    /// The last poll that found nothing: what is found next came after it, whatever the source says.
    empty_at: Timestamp,
    last: Batch,
    before: Batch,
    /// Whether `due` is the moment at which the last batch is complete, and not that of the next one.
    is_settling: bool,
    /// Batches since the expected moment was last far off, up to [`SMOOTHING`].
    averaged: i64,
    /// When the last batch was expected, corrected by a part of its deviation.
    smoothed: Timestamp,
    /// How far batches usually come from the expected moment.
    deviation: Duration,
}

/// Blocks that came at once.
#[derive(Clone, Copy, Debug)]
struct Batch {
    blocks: u64,
    /// When the first came.
    started_at: Timestamp,
    /// Time since the batch before.
    interval: Duration,
    /// Of the last block.
    completion: Completion,
}

impl Batch {
    /// Returns the time from the first block to the last.
    fn length(&self) -> Duration {
        self.completion.arrived_at.since(self.started_at)
    }

    /// Returns whether one period cannot have completed all these blocks.
    fn is_of_several_periods(&self, format: Format) -> bool {
        (self.blocks - 1) * u64::from(format.block_frames()) >= u64::from(self.completion.period_frames)
    }
}

impl PollSchedule {
    /// Creates a schedule. Before it knows better, it expects a block in each block's length.
    pub(crate) fn new(format: Format, is_live: bool, now: Timestamp) -> Self {
        let completion = Completion { arrived_at: now, period_frames: format.block_frames(), left_frames: 0 };
        let batch = Batch { blocks: 1, started_at: now, interval: format.block_span(), completion };
        Self {
            format,
            is_live,
            due: if is_live { now + format.block_span() } else { now },
            empty_at: now,
            last: batch,
            before: batch,
            is_settling: false,
            averaged: 0,
            smoothed: now,
            deviation: Duration::ZERO,
        }
    }

    /// Notes that a poll found the blocks that these periods have completed.
    pub(crate) fn came(&mut self, blocks: &[Completion], now: Timestamp) {
        if !self.is_live {
            self.due = now;
            return;
        }
        for completion in blocks {
            // No source can mislead it by more than the time between two polls.
            let arrived_at = if completion.arrived_at > now {
                self.empty_at + now.since(self.empty_at) / 2
            } else {
                completion.arrived_at.max(self.empty_at)
            };
            self.add(Completion { arrived_at, ..*completion });
        }
        let complete_at = self.last.completion.arrived_at + SETTLE_TIMEOUT;
        // The rest of a batch may be on its way.
        let is_burst = [&self.before, &self.last].into_iter().any(|batch| batch.is_of_several_periods(self.format));
        self.is_settling = is_burst && now < complete_at;
        self.due = if self.is_settling { complete_at } else { self.next() };
    }

    /// Notes that a poll found no block. Returns how long to wait before the next poll.
    pub(crate) fn pause(&mut self, now: Timestamp) -> Duration {
        self.empty_at = now;
        if now >= self.due && std::mem::take(&mut self.is_settling) {
            self.due = self.next();
        }
        if now < self.due {
            return self.due.since(now);
        }
        (now.since(self.due) / RETRY_PART).max(self.deviation / 2).clamp(MIN_RETRY_INTERVAL, MAX_RETRY_INTERVAL)
    }

    /// Returns when to poll for the next batch.
    fn next(&self) -> Timestamp {
        let length = self.last.length().min(self.before.length());
        self.smoothed + self.interval() + length + self.deviation / 2 + MARGIN
    }

    /// Adds a block to the last batch, or begins a new one with it.
    fn add(&mut self, completion: Completion) {
        let arrived_at = completion.arrived_at;
        if arrived_at.since(self.last.completion.arrived_at) < self.format.block_span() / AT_ONCE_PART {
            self.last.blocks += 1;
            self.last.completion = completion;
            return;
        }
        let expected = self.smoothed + self.interval();
        let interval = arrived_at.since(self.last.started_at);
        self.before =
            std::mem::replace(&mut self.last, Batch { blocks: 1, started_at: arrived_at, interval, completion });
        let deviation = arrived_at.offset_from(expected);
        if deviation.unsigned_abs() > self.format.block_span().as_nanos() as u64 / 2 {
            self.averaged = 0;
        }
        self.averaged = (self.averaged + 1).min(SMOOTHING);
        self.smoothed = expected.offset_by(deviation / self.averaged);
        if self.averaged > 1 {
            let usual = self.deviation.as_nanos() as i64;
            self.deviation = Duration::from_nanos((usual + (deviation.abs() - usual) / SMOOTHING) as u64);
        }
    }

    /// Returns the time from the last batch to the next one. Two batches in a row must show it, because a single one that
    /// is longer may be what a stall has left.
    fn interval(&self) -> Duration {
        let (last, before) = (&self.last, &self.before);
        let interval = if last.is_of_several_periods(self.format) && before.is_of_several_periods(self.format) {
            last.interval.min(before.interval)
        } else {
            let period = last.completion.period_frames.min(before.completion.period_frames).max(1);
            let block = self.format.block_frames();
            let missing = block - last.completion.left_frames.min(block - 1);
            self.format.span(u64::from(missing.div_ceil(period)) * u64::from(period))
        };
        interval.min(MAX_INTERVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_millis(10);
    const START: Timestamp = Timestamp::from_nanos(1_000_000_000_000);

    fn format() -> Format {
        Format::new(48_000, 1, PERIOD).unwrap()
    }

    #[test]
    fn it_sleeps_until_the_block_is_due_and_then_polls_less_and_less_often() {
        let mut schedule = PollSchedule::new(format(), true, START);
        let due = START + PERIOD;
        assert_eq!(schedule.pause(START), PERIOD);
        assert_eq!(schedule.pause(due), MIN_RETRY_INTERVAL);
        assert_eq!(schedule.pause(due + Duration::from_millis(8)), Duration::from_millis(1));
        assert_eq!(schedule.pause(due + Duration::from_secs(60)), MAX_RETRY_INTERVAL);
    }

    /// Periods of a device: when each is handed over, and its frames.
    type Periods = Vec<(Timestamp, u32)>;

    /// What a schedule made of a device.
    #[derive(Debug)]
    struct Outcome {
        /// How late each block was seen.
        late: Vec<Duration>,
        /// How often the thread was woken.
        wakes: usize,
    }

    impl Outcome {
        /// Returns the lateness that `percent` of the blocks from number 20 on, after the schedule has learned, do not
        /// exceed.
        fn percentile(&self, percent: usize) -> Duration {
            let mut late = self.late[20..].to_vec();
            late.sort_unstable();
            late[(late.len() - 1) * percent / 100]
        }
    }

    /// Returns how these periods complete blocks.
    fn completions(periods: &Periods) -> Vec<Completion> {
        let block = u64::from(format().block_frames());
        let (mut written, mut end, mut blocks) = (0, block, Vec::new());
        for (arrived_at, frames) in periods {
            written += u64::from(*frames);
            while end <= written {
                let (arrived_at, period_frames) = (*arrived_at, *frames);
                blocks.push(Completion { arrived_at, period_frames, left_frames: (written - end) as u32 });
                end += block;
            }
        }
        blocks
    }

    /// Polls as the schedule says, on a thread that wakes `slack` of the next block's number late, until all are seen.
    /// `told` is what the schedule is told of a block.
    fn simulate(
        blocks: &[Completion],
        slack: impl Fn(usize) -> Duration,
        told: impl Fn(&Completion) -> Completion,
    ) -> Outcome {
        let mut schedule = PollSchedule::new(format(), true, START);
        let mut outcome = Outcome { late: Vec::new(), wakes: 0 };
        let mut now = START;
        while outcome.late.len() < blocks.len() {
            let seen = outcome.late.len();
            let found = &blocks[seen..];
            let found = &found[..found.iter().take_while(|block| block.arrived_at <= now).count()];
            if found.is_empty() {
                outcome.wakes += 1;
                now = now + schedule.pause(now) + slack(seen);
            } else {
                outcome.late.extend(found.iter().map(|block| now.since(block.arrived_at)));
                // What it takes to dispatch.
                now = now + micros(5);
                schedule.came(&found.iter().map(&told).collect::<Vec<_>>(), now);
            }
        }
        outcome
    }

    fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    /// A thread that wakes 5 to 64 us late.
    fn slack(number: usize) -> Duration {
        micros(5 + number as u64 * 7_919 % 60)
    }

    /// Returns a number from 0 to 1 that looks random.
    fn noise(number: u64) -> f64 {
        ((number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Ten seconds of periods of `frames` from `start` on, of which so many are handed over `at_once`, 30 us apart, and up
    /// to `jitter` late.
    fn device(start: Timestamp, frames: u32, at_once: u64, jitter: Duration) -> Periods {
        let count = 480_000 / u64::from(frames) / at_once * at_once;
        let at = |n: u64| {
            let burst = (n / at_once + 1) * at_once;
            let late = jitter.mul_f64(noise(burst)) + micros(30) * (n % at_once) as u32;
            (start + format().span(burst * u64::from(frames)) + late, frames)
        };
        (0..count).map(at).collect()
    }

    #[test]
    fn one_late_poll_does_not_make_all_later_ones_late() {
        for phase in (0..10).map(Duration::from_millis) {
            // Once, the thread does not run for 7 ms.
            let slack = |number| if number == 100 { Duration::from_millis(7) } else { micros(5) };
            let blocks = completions(&device(START + phase, 480, 1, Duration::ZERO));
            let Outcome { late, wakes } = simulate(&blocks[..200], slack, |block| *block);
            assert!(late[20..100].iter().chain(&late[120..]).all(|late| *late < micros(60)), "{phase:?}: {late:?}");
            assert!(wakes < 2 * 200, "{wakes} wakes");
        }
    }

    /// Guards against a schedule that expects a block in each period. With periods of 30 ms, one block was seen 1.2 ms
    /// late in the median, after 37 wakes a period; with periods of 320 frames, 3.2 ms late.
    #[test]
    fn it_learns_how_blocks_come() {
        // Frames of a period, periods at once, wakes for each block or, where there are fewer of them, each hand-over.
        let devices = [
            (480, 1, 1.2),
            // What PulseAudio hands over.
            (1440, 1, 1.3),
            (480, 3, 2.3),
            (120, 12, 2.4),
            (256, 4, 2.5),
            // What ALSA's plug-in for it hands over, and other lengths that are no part of a block.
            (320, 1, 1.2),
            (441, 1, 1.2),
            (1024, 1, 1.2),
            (85, 1, 1.2),
            // Portions of the pacer.
            (96, 1, 1.2),
            (2400, 1, 1.5),
        ];
        for (frames, at_once, most_wakes) in devices {
            for phase in [0, 3_300, 9_990].map(micros) {
                let periods = device(START + phase, frames, at_once, Duration::ZERO);
                let blocks = completions(&periods);
                let outcome = simulate(&blocks, slack, |block| *block);
                let what = format!("{at_once} periods of {frames} frames at once, {phase:?} later");
                // Periods that come at once do so within this time.
                let length = micros(30) * (at_once as u32 - 1);
                assert!(outcome.percentile(50) <= micros(100) + length / 2, "{what}: {:?}", outcome.percentile(50));
                // The rest of what comes at once may be seen when all of it must be there.
                let most = if at_once == 1 { micros(150) } else { SETTLE_TIMEOUT + micros(100) };
                assert!(outcome.percentile(95) <= most, "{what}: {:?}", outcome.percentile(95));
                let times = blocks.len().min(periods.len() / at_once as usize);
                let wakes = outcome.wakes as f64 / times as f64;
                assert!(wakes <= most_wakes, "{what}: {wakes} wakes");
            }
        }
    }

    #[test]
    fn jitter_costs_few_wakes_and_little_time() {
        for (frames, at_once) in [(480, 1), (1440, 1), (320, 1), (1024, 1), (96, 1)] {
            for jitter in [50, 500, 2_000, 5_000].map(micros) {
                let periods = device(START, frames, at_once, jitter);
                let blocks = completions(&periods);
                let outcome = simulate(&blocks, slack, |block| *block);
                let what = format!("periods of {frames} frames with jitter of {jitter:?}");
                // The mean deviation from the middle is a quarter of it.
                assert!(outcome.percentile(50) <= micros(60) + jitter / 5, "{what}: {:?}", outcome.percentile(50));
                assert!(outcome.percentile(99) <= micros(110) + jitter, "{what}: {:?}", outcome.percentile(99));
                let wakes = outcome.wakes as f64 / blocks.len().min(periods.len()) as f64;
                assert!(wakes <= 2.3, "{what}: {wakes} wakes");
            }
        }
    }

    #[test]
    fn it_learns_again_when_the_device_changes_its_ways() {
        let ways = [(480, 1), (1440, 1), (480, 3), (320, 1), (1440, 1), (96, 1), (4800, 1), (480, 1)];
        let mut periods = Periods::new();
        for (frames, at_once) in ways {
            let start = periods.last().map_or(START, |(at, _)| *at);
            periods.extend(
                device(start, frames, at_once, micros(50))
                    .into_iter()
                    .filter(|(at, _)| at.since(start) < Duration::from_secs(2)),
            );
        }
        let blocks = completions(&periods);
        let outcome = simulate(&blocks, slack, |block| *block);
        assert!(outcome.percentile(50) <= micros(100), "{:?}", outcome.percentile(50));
        assert!(outcome.percentile(95) <= micros(200), "{:?}", outcome.percentile(95));
        // The longest period before a change, and no time in which the capture ring fills.
        assert!(outcome.percentile(100) <= MAX_INTERVAL, "{:?}", outcome.percentile(100));
        assert!(outcome.wakes <= 2 * blocks.len(), "{} wakes", outcome.wakes);
    }

    /// Guards against a schedule that takes a burst for the device's way, and sleeps until the capture ring is full.
    #[test]
    fn a_burst_after_a_stall_is_not_taken_for_a_habit() {
        for frames in [480, 1440, 96] {
            for stall in [50, 150, 300, 1500].map(Duration::from_millis) {
                let from = START + Duration::from_secs(1);
                let mut periods = device(START, frames, 1, Duration::ZERO);
                for (at, _) in &mut periods {
                    if *at >= from && at.since(from) < stall {
                        *at = from + stall;
                    }
                }
                let mut in_one = periods.clone();
                in_one.retain(|(at, _)| *at != from + stall);
                let held = frames * (periods.len() - in_one.len()) as u32;
                let next = in_one.iter().position(|(at, _)| *at > from).unwrap();
                in_one.insert(next, (from + stall, held));
                for periods in [periods, in_one] {
                    let blocks = completions(&periods);
                    let outcome = simulate(&blocks, slack, |block| *block);
                    let after = outcome.late.iter().zip(&blocks).filter(|(_, block)| block.arrived_at > from + stall);
                    let most = after.map(|(late, _)| *late).max().unwrap();
                    assert!(most < Duration::from_millis(31), "{frames} frames, {stall:?}: {most:?}");
                    assert!(outcome.percentile(50) <= micros(100), "{frames} frames, {stall:?}");
                }
            }
        }
    }

    #[test]
    fn one_long_pause_between_bursts_does_not_make_the_next_one_late() {
        let pause = Duration::from_millis(60);
        let mut periods = device(START, 480, 3, Duration::ZERO);
        periods[300..].iter_mut().for_each(|(at, _)| *at = *at + pause);
        let blocks = completions(&periods);
        let late = simulate(&blocks, slack, |block| *block).late;
        // Not the first of them, which comes in the pause.
        assert!(late[303..].iter().all(|late| *late <= SETTLE_TIMEOUT + micros(100)), "{:?}", &late[300..320]);
    }

    /// Times of hand-over that are wrong cost wakes, and a little time.
    #[test]
    fn a_source_with_wrong_times_is_read_in_time() {
        let blocks = completions(&device(START, 480, 1, Duration::ZERO));
        type Told = fn(&Completion) -> Completion;
        let told: [(&str, Told); 6] = [
            ("never", |block| Completion { arrived_at: Timestamp::default(), ..*block }),
            ("in the far future", |block| Completion { arrived_at: Timestamp::from_nanos(u64::MAX), ..*block }),
            ("5 ms early", |block| Completion { arrived_at: block.arrived_at - Duration::from_millis(5), ..*block }),
            ("5 ms late", |block| Completion { arrived_at: block.arrived_at + Duration::from_millis(5), ..*block }),
            ("in periods of no frames", |block| Completion { period_frames: 0, left_frames: u32::MAX, ..*block }),
            ("in endless periods", |block| Completion { period_frames: u32::MAX, left_frames: u32::MAX, ..*block }),
        ];
        for (what, told) in told {
            let outcome = simulate(&blocks, slack, told);
            // In an endless period, it waits for as long as it ever does.
            let most = if what == "in endless periods" { MAX_INTERVAL } else { Duration::from_millis(1) };
            assert!(outcome.percentile(50) <= most, "{what}: {:?}", outcome.percentile(50));
            assert!(outcome.wakes < 20 * blocks.len(), "{what}: {} wakes", outcome.wakes);
        }
    }

    #[test]
    fn a_source_that_can_wait_is_polled_at_once() {
        let mut schedule = PollSchedule::new(format(), false, START);
        assert_eq!(schedule.pause(START), MIN_RETRY_INTERVAL);
        let completion = Completion { arrived_at: START, period_frames: 48_000, left_frames: 0 };
        schedule.came(&[completion; 32], START + PERIOD);
        assert_eq!(schedule.pause(START + PERIOD), MIN_RETRY_INTERVAL);
        assert_eq!(schedule.pause(START + PERIOD * 2), PERIOD / RETRY_PART);
    }
}
