//! Sources that are lost in every way, scripted: what the stream makes of them is counted.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::outages::Substitute;
use crate::{Capture, Consumer, Delivery, Origin, Stream, StreamOptions, SubscribeOptions, Timestamp, TryRecvError};

const BLOCK: Duration = Duration::from_millis(10);
const WAIT: Duration = Duration::from_secs(20);

/// The way in which a scripted source ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It reports that it has failed, and keeps the capture.
    Fails,
    /// It falls silent, keeps the capture, and hangs for ever when it is stopped.
    Hangs,
    /// It ends.
    Ends,
    /// It pauses for this many milliseconds and goes on for good.
    Pauses(u64),
    Lasts,
}

/// A source that writes a constant level in periods of 5 ms for a while, and then meets its fate. Of two channels, the first
/// is louder and the second softer than the level, which is their mean.
#[derive(Clone, Copy, Debug)]
struct Script {
    rate_hz: u32,
    channels: u16,
    level: f32,
    span: Duration,
    fate: Fate,
}

const SCRIPT: Script =
    Script { rate_hz: 48_000, channels: 1, level: 0.5, span: Duration::from_millis(300), fate: Fate::Lasts };

#[derive(Debug)]
struct RunningScript {
    _stop: mpsc::Sender<()>,
    hangs: bool,
}

impl Running for RunningScript {
    fn stop(self: Box<Self>) {
        if self.hangs {
            loop {
                thread::park();
            }
        }
    }
}

impl Source for Script {
    fn rate_hz(&self) -> u32 {
        self.rate_hz
    }

    fn channels(&self) -> u16 {
        self.channels
    }

    fn description(&self) -> String {
        "script".to_owned()
    }

    fn start(self: Box<Self>, mut capture: Capture) -> Result<Box<dyn Running>, SourceError> {
        let (stop, stopped) = mpsc::channel::<()>();
        let script = *self;
        thread::spawn(move || {
            let period = Duration::from_millis(5);
            let frames = (script.rate_hz / 200) as usize;
            let levels = if script.channels == 2 { [1.6, 0.4] } else { [1.0; 2] }.map(|part| part * script.level);
            let samples: Vec<f32> = levels.into_iter().cycle().take(frames * usize::from(script.channels)).collect();
            let start = Timestamp::now();
            let mut due = start;
            let mut has_paused = false;
            loop {
                if due.since(start) >= script.span && !has_paused {
                    match script.fate {
                        Fate::Fails => capture.reporter().fail("unplugged".to_owned()),
                        Fate::Pauses(millis) => {
                            let pause = Duration::from_millis(millis);
                            thread::sleep(pause);
                            due = due + pause;
                            has_paused = true;
                            continue;
                        }
                        Fate::Ends => return,
                        Fate::Hangs => {}
                        Fate::Lasts => {
                            has_paused = true;
                            continue;
                        }
                    }
                    // Keeps the capture, as a callback does that cpal never drops.
                    loop {
                        thread::park();
                    }
                }
                let wait = (due + period).since(Timestamp::now());
                if !matches!(stopped.recv_timeout(wait), Err(RecvTimeoutError::Timeout)) {
                    return;
                }
                // The dispatcher of a busy machine may not run for as long as the ring can hold.
                while !capture.has_room() {
                    thread::sleep(Duration::from_millis(1));
                }
                capture.write(&samples, due);
                due = due + period;
            }
        });
        Ok(Box::new(RunningScript { _stop: stop, hangs: self.fate == Fate::Hangs }))
    }
}

/// A fallback of a constant level, which fails after a number of portions.
struct Level {
    portions: u32,
}

impl Level {
    fn open(portions: u32) -> Result<Box<dyn Pull>, String> {
        Ok(Box::new(Self { portions }))
    }
}

impl Pull for Level {
    fn rate_hz(&self) -> u32 {
        48_000
    }

    fn channels(&self) -> u16 {
        1
    }

    fn description(&self) -> String {
        "level".to_owned()
    }

    fn pull(&mut self, samples: &mut [f32]) -> Result<usize, String> {
        self.portions = self.portions.checked_sub(1).ok_or("gone")?;
        samples.fill(0.25);
        Ok(samples.len())
    }
}

/// Opens one source after the other.
#[derive(Debug)]
struct Scripts {
    outcomes: Mutex<Vec<Result<Script, ReopenError>>>,
    attempts: AtomicUsize,
}

impl Scripts {
    fn new(outcomes: impl IntoIterator<Item = Result<Script, ReopenError>>) -> Arc<Self> {
        let mut outcomes: Vec<_> = outcomes.into_iter().collect();
        outcomes.reverse();
        Arc::new(Self { outcomes: Mutex::new(outcomes), attempts: AtomicUsize::new(0) })
    }
}

impl Reopen for Scripts {
    fn reopen(&self) -> Result<Box<dyn Source>, ReopenError> {
        self.attempts.fetch_add(1, Ordering::Relaxed);
        let mut outcomes = self.outcomes.lock().unwrap();
        // The last outcome is for ever.
        let outcome = if outcomes.len() > 1 { outcomes.pop() } else { outcomes.last().cloned() };
        outcome.unwrap().map(|script| Box::new(script) as Box<dyn Source>)
    }
}

fn absent() -> Result<Script, ReopenError> {
    Err(ReopenError::Absent("not there".to_owned()))
}

fn start(supervised: Supervised) -> (Stream, Consumer<crate::Block>) {
    let stream = Stream::start(Box::new(supervised), StreamOptions::default()).unwrap();
    let buffer = SubscribeOptions { buffer: 4000, ..SubscribeOptions::default() };
    let consumer = stream.subscribe(buffer).unwrap();
    (stream, consumer)
}

/// A run of blocks of one origin.
#[derive(Clone, Debug, PartialEq)]
struct Stretch {
    origin: Origin,
    blocks: u64,
    /// The highest sample. Of silence, without its first block, in which the sound before it fades out.
    peak: f32,
    /// When the first of them was captured, and when it was heard.
    captured_at: Timestamp,
    heard_at: Timestamp,
}

/// What a consumer received.
#[derive(Debug, Default)]
struct Heard {
    stretches: Vec<Stretch>,
    /// Blocks in gaps.
    gaps: u64,
    next: Option<u64>,
    /// Largest difference of time and position since the first block, in seconds.
    skew: f64,
    first: Option<(u64, Timestamp)>,
    /// The largest step between two samples of the first channel.
    step: f32,
    last: Option<f32>,
}

impl Heard {
    fn take(&mut self, Delivery { gap, item, .. }: &Delivery<crate::Block>) {
        if let Some(gap) = gap {
            assert_eq!(gap.reason, crate::Loss::Source);
            self.gaps += gap.items;
        }
        let missing = gap.map_or(0, |gap| gap.items);
        assert_eq!(item.stamp.sequence, self.next.unwrap_or(item.stamp.sequence - missing) + missing);
        self.next = Some(item.stamp.sequence + 1);
        let (position, at) = *self.first.get_or_insert((item.position(), item.stamp.captured_at));
        let by_position = (item.position() - position) as f64 / f64::from(item.format().rate_hz());
        self.skew = self.skew.max((item.stamp.captured_at.offset_from(at) as f64 / 1e9 - by_position).abs());
        let of_block = item.samples().iter().fold(0.0_f32, |peak, sample| peak.max(sample.abs()));
        for sample in item.samples().iter().step_by(usize::from(item.format().channels())) {
            if let Some(last) = self.last.replace(*sample) {
                self.step = self.step.max((sample - last).abs());
            }
        }
        match self.stretches.last_mut() {
            Some(last) if last.origin == item.origin() => {
                last.blocks += 1;
                last.peak = last.peak.max(of_block);
            }
            _ => {
                let peak = if item.origin() == Origin::Missing { 0.0 } else { of_block };
                let (captured_at, heard_at) = (item.stamp.captured_at, Timestamp::now());
                self.stretches.push(Stretch { origin: item.origin(), blocks: 1, peak, captured_at, heard_at });
            }
        }
    }

    fn origins(&self) -> Vec<Origin> {
        self.stretches.iter().map(|stretch| stretch.origin).collect()
    }

    /// Asserts that sound begins and ends with a fade everywhere: one from or to the level of the source, 0.5, takes 384 samples.
    fn assert_fades(&self) {
        assert!(self.step < 0.002, "a step of {}: {self:?}", self.step);
    }

    fn blocks(&self, origin: Origin) -> u64 {
        self.stretches.iter().filter(|stretch| stretch.origin == origin).map(|stretch| stretch.blocks).sum()
    }
}

/// Listens until `is_enough`.
fn listen(consumer: &mut Consumer<crate::Block>, mut is_enough: impl FnMut(&Heard) -> bool) -> Heard {
    let mut heard = Heard::default();
    let deadline = Instant::now() + WAIT;
    while !is_enough(&heard) {
        assert!(Instant::now() < deadline, "{heard:?}");
        match consumer.recv_timeout(WAIT) {
            Ok(delivery) => heard.take(&delivery),
            Err(TryRecvError::Empty) => panic!("nothing comes: {heard:?}"),
            Err(TryRecvError::Ended(end)) => panic!("{end}: {heard:?}"),
        }
    }
    heard
}

/// Listens over one hole.
fn over_a_hole(first: Fate, reopen: Arc<Scripts>) -> (Stream, Heard) {
    let supervised = Supervised::new(Box::new(Script { fate: first, ..SCRIPT })).reopen(reopen);
    let (stream, mut consumer) = start(supervised);
    let heard = listen(&mut consumer, |heard| {
        heard.stretches.len() == 3 && heard.stretches.last().is_some_and(|last| last.blocks >= 20)
    });
    (stream, heard)
}

fn assert_true_hole(stream: &Stream, heard: &Heard) {
    assert_eq!(heard.origins(), [Origin::Source, Origin::Missing, Origin::Source]);
    let hole = &heard.stretches[1];
    assert_eq!(hole.peak, 0.0, "silence");
    heard.assert_fades();
    let stats = stream.capture();
    // A few blocks before the subscription were not heard, but none of them was missing.
    assert_eq!(stats.lost_source(), hole.blocks + heard.gaps);
    assert_eq!((stats.lost_xrun(), stats.lost_overflow()), (0, 0));
    assert!(heard.skew < 0.008, "position and time differ by {} s", heard.skew);
    // All that was due while the source was down is lost, but for the block that was not complete, and no silence came
    // before its time.
    let (down, lost) = (stats.outages().down(Timestamp::now()), BLOCK * stats.lost_source() as u32);
    assert!(lost + BLOCK > down, "down for {down:?}, and {lost:?} are lost");
    let silence = BLOCK * hole.blocks as u32;
    let most = heard.stretches[2].heard_at.since(hole.captured_at);
    assert!(silence <= most, "{silence:?} of silence within {most:?}");
    assert!(stats.is_open() && stats.failure().is_none() && stats.outages().current().is_none());
}

#[test]
fn a_source_that_fails_comes_back() {
    let (stream, heard) = over_a_hole(Fate::Fails, Scripts::new([absent(), Ok(SCRIPT)]));
    assert_true_hole(&stream, &heard);
    assert_eq!(stream.capture().outages().restarts(), 1);
    assert!(heard.stretches[1].blocks >= 50, "the first look found nothing: {heard:?}");
}

#[test]
fn a_source_that_falls_silent_and_hangs_comes_back() {
    let (stream, heard) = over_a_hole(Fate::Hangs, Scripts::new([Ok(SCRIPT)]));
    assert_true_hole(&stream, &heard);
    assert!(heard.gaps > 0, "the second that it took to notice is a gap");
}

/// A muted microphone delivers nothing but zeros, which is sound.
#[test]
fn digital_silence_is_no_loss() {
    let reopen = Scripts::new([Ok(SCRIPT)]);
    let supervised = Supervised::new(Box::new(Script { level: 0.0, ..SCRIPT })).reopen(Arc::clone(&reopen) as _);
    let (_stream, mut consumer) = start(supervised);
    let heard = listen(&mut consumer, |heard| heard.blocks(Origin::Source) > 200);
    assert_eq!((heard.origins(), heard.gaps), (vec![Origin::Source], 0), "{heard:?}");
    assert_eq!(reopen.attempts.load(Ordering::Relaxed), 0);
}

#[test]
fn a_source_comes_back_with_another_format() {
    let other = Script { rate_hz: 44_100, channels: 2, level: 0.25, ..SCRIPT };
    let (stream, heard) = over_a_hole(Fate::Fails, Scripts::new([Ok(other)]));
    assert_true_hole(&stream, &heard);
    let format = stream.format();
    assert_eq!((format.rate_hz(), format.channels()), (48_000, 1), "the format of the stream stays");
    assert!((heard.stretches[2].peak - 0.25).abs() < 0.03, "{heard:?}");
}

/// The second source dies at once, again and again.
#[test]
fn attempts_to_open_a_source_that_fails_become_rarer() {
    let reopen = Scripts::new([Err(ReopenError::Failed("busy".to_owned()))]);
    let supervised = Supervised::new(Box::new(Script { fate: Fate::Fails, ..SCRIPT })).reopen(Arc::clone(&reopen) as _);
    let (stream, mut consumer) = start(supervised);
    listen(&mut consumer, |heard| heard.blocks(Origin::Missing) > 450);
    let attempts = reopen.attempts.load(Ordering::Relaxed);
    // At once, and then after 0.5, 1, 2 and 4 s.
    assert!((2..=4).contains(&attempts), "{attempts} attempts within 4.5 s");
    assert_eq!(stream.capture().outages().current().unwrap().reason, "busy");
}

/// An absent device is heard soon after its return, however long it was away.
#[test]
fn an_absent_source_is_looked_for_at_a_steady_pace() {
    let reopen = Scripts::new([absent()]);
    let supervised = Supervised::new(Box::new(Script { fate: Fate::Fails, ..SCRIPT })).reopen(Arc::clone(&reopen) as _);
    let (_stream, mut consumer) = start(supervised);
    listen(&mut consumer, |heard| heard.blocks(Origin::Missing) > 450);
    let attempts = reopen.attempts.load(Ordering::Relaxed);
    // After 0, 0.5, 1 s and so on; fewer where the thread that looks did not run.
    assert!((2..=10).contains(&attempts), "{attempts} looks within 4.5 s");
}

#[test]
fn the_fallback_is_heard_after_its_time_and_left_when_the_source_is_back() {
    let after = Duration::from_millis(200);
    let supervised = Supervised::new(Box::new(Script { fate: Fate::Fails, ..SCRIPT }))
        .reopen(Scripts::new([absent(), absent(), Ok(SCRIPT)]))
        .on_loss(OnLoss::Fallback { after })
        .fallback(Box::new(|| Level::open(u32::MAX)));
    let (stream, mut consumer) = start(supervised);
    let heard = listen(&mut consumer, |heard| heard.stretches.len() == 4 && heard.stretches[3].blocks > 20);
    assert_eq!(heard.origins(), [Origin::Source, Origin::Missing, Origin::Fallback, Origin::Source]);
    let silence = heard.stretches[1].blocks + heard.gaps;
    // More only where the supervisor's thread did not run.
    assert!(silence >= 20, "silence of 200 ms: {silence} blocks");
    assert_eq!((heard.stretches[2].peak, heard.stretches[3].peak), (0.25, 0.5), "{heard:?}");
    heard.assert_fades();
    let stats = stream.capture();
    assert_eq!((stats.lost_source(), stats.fallback()), (silence, heard.stretches[2].blocks));
    assert_eq!(stats.lost_overflow() + stats.lost_xrun(), 0);
    assert!(heard.skew < 0.008, "position and time differ by {} s", heard.skew);
}

#[test]
fn a_fallback_that_fails_is_silence() {
    let supervised = Supervised::new(Box::new(Script { fate: Fate::Fails, ..SCRIPT }))
        .reopen(Scripts::new([absent()]))
        .on_loss(OnLoss::Fallback { after: Duration::ZERO })
        .fallback(Box::new(|| Err("gone".to_owned())));
    let (stream, mut consumer) = start(supervised);
    let heard = listen(&mut consumer, |heard| heard.blocks(Origin::Missing) > 20);
    assert_eq!(heard.blocks(Origin::Fallback), 0);
    assert_eq!(stream.capture().outages().current().unwrap().substitute, Substitute::Silence);
}

#[test]
fn a_fallback_that_comes_at_once_or_fails_while_it_plays_fades() {
    let supervised = Supervised::new(Box::new(Script { fate: Fate::Fails, ..SCRIPT }))
        .reopen(Scripts::new([absent(), absent(), Ok(SCRIPT)]))
        .on_loss(OnLoss::Fallback { after: Duration::ZERO })
        .fallback(Box::new(|| Level::open(20)));
    let (_stream, mut consumer) = start(supervised);
    let heard = listen(&mut consumer, |heard| heard.stretches.len() == 5 && heard.stretches[4].blocks > 20);
    let fallback = &heard.stretches[2];
    assert_eq!((fallback.origin, fallback.blocks, fallback.peak), (Origin::Fallback, 20, 0.25), "{heard:?}");
    assert_eq!(heard.origins()[3..], [Origin::Missing, Origin::Source]);
    assert_eq!((heard.stretches[1].blocks, heard.stretches[3].peak), (1, 0.0), "{heard:?}");
    heard.assert_fades();
}

#[test]
fn with_the_policy_end_the_stream_ends_with_its_source() {
    let supervised = Supervised::new(Box::new(Script { fate: Fate::Fails, ..SCRIPT }))
        .reopen(Scripts::new([Ok(SCRIPT)]))
        .on_loss(OnLoss::End);
    let (stream, mut consumer) = start(supervised);
    loop {
        match consumer.recv_timeout(WAIT) {
            Ok(_) => {}
            Err(TryRecvError::Ended(_)) => break,
            Err(TryRecvError::Empty) => panic!("nothing comes"),
        }
    }
    assert_eq!(stream.capture().failure(), Some("unplugged"));
}

#[test]
fn a_source_that_ends_is_over_unless_there_is_a_fallback() {
    let (stream, mut consumer) = start(Supervised::new(Box::new(Script { fate: Fate::Ends, ..SCRIPT })));
    while consumer.recv_timeout(WAIT).is_ok() {}
    assert!(stream.capture().failure().is_none());

    let supervised = Supervised::new(Box::new(Script { fate: Fate::Ends, ..SCRIPT }))
        .on_loss(OnLoss::Fallback { after: Duration::ZERO })
        .fallback(Box::new(|| Ok(Box::new(crate::source::Tone::new(440.0).into_pull()))));
    let (_stream, mut consumer) = start(supervised);
    let heard = listen(&mut consumer, |heard| heard.blocks(Origin::Fallback) > 100);
    assert_eq!(heard.origins().first(), Some(&Origin::Source));
}

/// A pipe that pauses and goes on is not opened again.
#[test]
fn a_source_that_pauses_gets_the_stream_back() {
    let supervised = Supervised::new(Box::new(Script { fate: Fate::Pauses(2500), ..SCRIPT }))
        .on_loss(OnLoss::Fallback { after: Duration::ZERO })
        .fallback(Box::new(|| Ok(Box::new(crate::source::Tone::new(440.0).into_pull()))));
    let (stream, mut consumer) = start(supervised);
    let heard = listen(&mut consumer, |heard| {
        heard.stretches.len() > 1
            && heard.stretches.last().is_some_and(|last| last.origin == Origin::Source && last.blocks > 20)
    });
    assert_eq!(heard.origins(), [Origin::Source, Origin::Missing, Origin::Fallback, Origin::Source], "{heard:?}");
    assert_eq!(stream.capture().outages().restarts(), 0);
    assert!(heard.skew < 0.008, "position and time differ by {} s", heard.skew);
}

#[test]
fn a_stream_can_wait_for_its_first_source() {
    let supervised = Supervised::waiting("microphone".to_owned(), "not there yet".to_owned(), 48_000, 2)
        .reopen(Scripts::new([absent(), Ok(SCRIPT)]));
    let (stream, mut consumer) = start(supervised);
    assert!(!stream.capture().is_open());
    let heard = listen(&mut consumer, |heard| heard.blocks(Origin::Source) > 20);
    assert_eq!(heard.origins(), [Origin::Missing, Origin::Source]);
    assert_eq!(heard.stretches[1].peak, 0.5, "one channel goes to both");
}
