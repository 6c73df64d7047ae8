//! The engine's parts, driven one event at a time, and the checks of the way from the device to the fan-outs.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::device::{self, Device, Stamping};
use super::ensure;
use super::listener::{Listener, Packet, Payload, Taken};
use super::log::{Before, Entry, Log};
use super::schedule::{self, Config, Event, MAX_PERIOD_BLOCKS, Stage, Stamps, Step};
use crate::dispatcher::{self, Dispatcher};
use crate::{
    Block, Capture, CaptureStats, Consumer, EndReason, Format, Hub, Item, Loss, Origin, OverflowPolicy, Publisher,
    PublisherOptions, Relay, RelayedBlock, Stamp, SubscribeError, SubscribeOptions, Timestamp, TryRecvError,
};

const MILLI: i64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;
/// Most blocks of one turn of the dispatcher.
const MAX_BATCH: u64 = 32;
/// Silent losses longer than this are found within [`found_after`], and shorter ones may be taken for drift.
const SURELY_FOUND: u64 = 85_000_000;
/// Turns after which a stream that was ended must have ended.
const MAX_LAST_TURNS: usize = 500;

/// Everything that is simulated.
pub(super) struct World {
    config: Config,
    now: u64,
    device: Device,
    capture: Option<Capture>,
    stats: Arc<CaptureStats>,
    ring: Ring,
    losses: Losses,
    dispatcher: Option<Dispatcher>,
    stop: Arc<std::sync::atomic::AtomicBool>,
    observer: Option<Consumer<Block>>,
    /// Whether as many consumers have come as the first block waits for.
    has_begun: bool,
    blocks: Outlet<Block>,
    encoder: Option<Encoder>,
    packets: Outlet<Packet>,
}

/// A fan-out's consumers, and what went through it.
struct Outlet<T: Payload> {
    hub: Hub<T>,
    log: Log,
    /// The head that lag is measured against.
    head: u64,
    listeners: Vec<Listener<T>>,
    is_over: bool,
}

/// What must be in the capture ring.
#[derive(Debug, Default)]
struct Ring {
    blocks: VecDeque<RingBlock>,
    capacity: u64,
    /// What was lost since the last block.
    lost: RingBlock,
    /// The sequence number that comes next, to the capture and to the fan-out.
    next: u64,
    dispatched_next: u64,
    /// Frames that were handed over before the end of the last dispatched block.
    passed: u64,
    has_short_block: bool,
}

/// A block in the ring, and what is missing before it.
#[derive(Clone, Copy, Debug, Default)]
struct RingBlock {
    sequence: u64,
    overflowed: u64,
    /// Losses by the device, and their blocks.
    losses: u64,
    lost_blocks: u64,
    /// Blocks of another server that it did not have itself, and those that were lost on the way from there.
    left_out: u64,
    lost_on_hop: u64,
}

/// What the device lost.
#[derive(Debug, Default)]
struct Losses {
    /// Reported, and not yet counted.
    reported: bool,
    /// Silent losses: frames, and how many were handed over before.
    silent: Vec<(u64, u64)>,
    /// Losses that the capture has declared.
    declared: u64,
    /// Whether a silent loss is not surely declared yet.
    has_undeclared: bool,
}

/// An encoder: makes one packet of several blocks.
struct Encoder {
    input: Listener<Block>,
    publisher: Publisher<Packet>,
    group: usize,
    shares_head: bool,
    /// Blocks of the packet that was begun.
    begun: Vec<Stamp>,
    packets: u64,
    /// Whether its input has ended, why, and one past the last sequence number.
    end: Option<(EndReason, u64)>,
}

impl World {
    pub(super) fn new(config: &Config) -> Result<Self, String> {
        let Config { format, is_live, history, .. } = *config;
        let (capture, reader, stats) = Capture::new(format, is_live);
        let (publisher, hub) =
            Publisher::new(PublisherOptions { history, live: is_live, ..PublisherOptions::default() });
        let dispatcher =
            Dispatcher::new(format, reader, Arc::clone(&stats), publisher, history, config.await_consumers);
        let subscribe = |options| hub.subscribe(options).map_err(|error| error.to_string());
        // It takes everything after each turn, so it never loses anything.
        let observing = SubscribeOptions {
            overflow: OverflowPolicy::DropNewest,
            buffer: 2 * MAX_BATCH as usize,
            ..Default::default()
        };
        let observer = subscribe(observing)?;
        let log = Log::new(1, history as u64);
        let mut packet_options = PublisherOptions { live: is_live, ..PublisherOptions::default() };
        let mut encoder_options = None;
        if let Some(encoder) = config.encoder {
            let input = Listener::new(subscribe(encoder.options)?, encoder.options, &log);
            let head = encoder.shares_head.then(|| hub.head().clone());
            let (history, group) = (encoder.history, encoder.group);
            packet_options = PublisherOptions { history, group, head, ..packet_options };
            encoder_options = Some((encoder, input));
        }
        let packet_log = Log::new(packet_options.group as u64, packet_options.history as u64);
        let (publisher, packet_hub) = Publisher::new(packet_options);
        let encoder = encoder_options.map(|(encoder, input)| Encoder {
            input,
            publisher,
            group: encoder.group,
            shares_head: encoder.shares_head,
            begun: Vec::new(),
            packets: 0,
            end: None,
        });
        let frames = u64::from(format.block_frames());
        // 320 ms, or 8 blocks.
        let capacity = (32 * u64::from(format.rate_hz())).div_ceil(100 * frames).max(8);
        Ok(Self {
            config: config.clone(),
            now: Device::new(format, 0).time_of(0),
            device: Device::new(format, config.drift_ppm),
            capture: Some(capture),
            stats,
            ring: Ring { capacity, ..Ring::default() },
            losses: Losses::default(),
            stop: Arc::clone(dispatcher.stop_flag()),
            dispatcher: Some(dispatcher),
            observer: Some(observer),
            has_begun: false,
            blocks: Outlet { hub, log, head: 0, listeners: Vec::new(), is_over: false },
            packets: Outlet {
                hub: packet_hub,
                log: packet_log,
                head: 0,
                listeners: Vec::new(),
                is_over: encoder.is_none(),
            },
            encoder,
        })
    }

    fn time(&self) -> Timestamp {
        Timestamp::from_nanos(self.now)
    }

    /// Plays an event, and checks everything. Returns what happened in a few words.
    pub(super) fn play(&mut self, step: &Step) -> Result<String, String> {
        self.now += step.after;
        let outcome = match step.event.clone() {
            Event::Period { frames, stamping } => self.period(frames, stamping)?,
            Event::Relay { missing, on_hop, again } => self.relay(missing, on_hop, again)?,
            Event::Lose { frames, is_reported } => self.lose(frames, is_reported),
            Event::Dispatch => self.dispatch()?,
            Event::Encode { blocks, remember } => self.encode(blocks, remember)?,
            Event::Subscribe(Stage::Blocks, options) => self.blocks.subscribe(options, self.config.is_live)?,
            Event::Subscribe(Stage::Packets, options) => self.packets.subscribe(options, self.config.is_live)?,
            Event::Finish => self.finish_source(false)?,
            Event::Fail => {
                // A source that has ended cannot fail.
                if self.capture.is_some() {
                    self.stats.fail("unplugged".into());
                }
                self.finish_source(true)?
            }
            Event::Stop => {
                self.finish_source(true)?;
                self.stop.store(true, Ordering::Release);
                "stopped".into()
            }
            Event::DropDispatcher => {
                self.drop_dispatcher()?;
                "dropped".into()
            }
            Event::DropEncoder => {
                if let Some(encoder) = self.encoder.take() {
                    drop(encoder);
                    self.packets.abandon()?;
                }
                "dropped".into()
            }
            ref event => match schedule::consumer_of(event).map(|which| which.stage) {
                Some(Stage::Packets) => self.packets.consume(event, Timestamp::from_nanos(self.now))?,
                _ => self.blocks.consume(event, Timestamp::from_nanos(self.now))?,
            },
        };
        self.check_heads()?;
        Ok(outcome)
    }

    /// The packets' lag follows the blocks' head where that is shared.
    fn check_heads(&mut self) -> Result<(), String> {
        let head = self.blocks.hub.head().next();
        ensure!(head == self.blocks.head, "the head is at {head} instead of {}", self.blocks.head);
        if self.config.encoder.is_some_and(|encoder| encoder.shares_head) {
            self.packets.head = head;
        }
        let head = self.packets.hub.head().next();
        ensure!(head == self.packets.head, "the packets' head is at {head} instead of {}", self.packets.head);
        Ok(())
    }

    fn period(&mut self, frames: u64, stamping: Stamping) -> Result<String, String> {
        let Some(capture) = &mut self.capture else { return Ok("the source has ended".into()) };
        if !self.config.is_live && !capture.has_room() {
            return Ok("no room".into());
        }
        let (samples, captured_at) = self.device.period(frames, stamping);
        let before = Counts::of(&self.stats);
        self.now = self.now.max(self.device.time_of(self.device.next));
        capture.begin_period(frames as usize, captured_at, Timestamp::from_nanos(self.now));
        if self.config.integers {
            capture.append(&device::integers(&samples));
        } else {
            capture.append(&device::floats(&samples));
        }
        ensure!(self.stats.written_at() == Some(captured_at) || captured_at == Timestamp::default(), "another time");
        self.follow_capture(before)
    }

    fn relay(&mut self, missing: u64, on_hop: u64, again: bool) -> Result<String, String> {
        let Some(capture) = &mut self.capture else { return Ok("the source has ended".into()) };
        let frames = u64::from(self.config.format.block_frames());
        if missing > 0 {
            self.device.lose(missing * frames);
        }
        let sequence = self.device.next / frames;
        let (samples, captured_at) = self.device.period(frames, Stamping::Late(0));
        let before = Counts::of(&self.stats);
        self.now = self.now.max(self.device.time_of(self.device.next));
        let block = RelayedBlock {
            epoch: 1,
            sequence,
            captured_at,
            origin: Origin::Source,
            lost_on_hop: on_hop,
            is_past: false,
            samples: &device::floats(&samples),
        };
        let relayed = capture.relay(&block);
        ensure!(relayed == Relay::Taken { sequence }, "block {sequence}: {relayed:?}");
        let repeated = again.then(|| capture.relay(&block));
        ensure!(matches!(repeated, None | Some(Relay::Late)), "block {sequence} again: {repeated:?}");
        let counts = Counts::of(&self.stats);
        let (hop, source) = (counts.hop - before.hop, counts.source - before.source);
        let right = on_hop.min(missing);
        ensure!(
            (hop, source) == (right, missing - right),
            "{hop} lost on the hop and {source} at the source of {missing}"
        );
        self.follow_capture(before)
    }

    /// Checks what the capture has counted since `before`.
    fn follow_capture(&mut self, before: Counts) -> Result<String, String> {
        let counts = Counts::of(&self.stats);
        let (written, refused, missed) =
            (counts.blocks - before.blocks, counts.overflow - before.overflow, counts.xrun - before.xrun);
        let (on_hop, left_out) = (counts.hop - before.hop, counts.source - before.source);
        ensure!(
            counts.next == before.next + written + refused + missed + on_hop + left_out,
            "{before:?} and {counts:?}: not every number is a block or a loss"
        );
        let ring = &mut self.ring;
        if missed > 0 {
            let may = self.losses.reported || self.losses.has_undeclared || self.config.stamps == Stamps::Wild;
            ensure!(may, "{missed} blocks declared lost, and the device lost nothing");
            self.losses.declared += 1;
            ring.lost.losses += 1;
            ring.lost.lost_blocks += missed;
        } else {
            // One inside a block that is lost already is not counted again.
            ensure!(!self.losses.reported || ring.lost.losses > 0, "a reported loss was not counted");
        }
        self.losses.reported = false;
        ring.lost.lost_on_hop += on_hop;
        ring.lost.left_out += left_out;
        ring.next += missed + on_hop + left_out;
        for _ in 0..written {
            ring.blocks.push_back(RingBlock { sequence: ring.next, ..ring.lost });
            ring.lost = RingBlock::default();
            ring.next += 1;
        }
        ring.lost.overflowed += refused;
        ring.next += refused;
        let queued = ring.blocks.len() as u64;
        ensure!(queued <= ring.capacity, "{queued} blocks in a capture ring for {}", ring.capacity);
        ensure!(refused == 0 || queued == ring.capacity, "{refused} blocks lost to a ring with {queued} blocks");
        let may_refuse = self.config.is_live || self.capture.is_none() && refused == 1;
        ensure!(refused == 0 || may_refuse, "{refused} blocks lost of a source that waits");
        Ok(format!("{written} written, {refused} refused, {missed} missed"))
    }

    fn lose(&mut self, frames: u64, is_reported: bool) -> String {
        if self.capture.is_none() || self.stats.written_at().is_none() {
            return "there is no sound to lose from".into();
        }
        self.device.lose(frames);
        if is_reported {
            self.stats.xrun_reported();
            self.losses.reported = true;
            // Its frames are found with it, and those of silent losses, too: they are what is missing in time.
        } else if frames > 0 {
            self.losses.silent.push((frames, self.device.handed_over));
            self.losses.has_undeclared = true;
        }
        "lost".into()
    }

    /// Ends the source. One that waits for room does so for its last, short block, too, unless it is stopped.
    fn finish_source(&mut self, is_stopped: bool) -> Result<String, String> {
        let has_room = self.capture.as_ref().is_some_and(Capture::has_room);
        if !self.config.is_live && !is_stopped && !has_room {
            return Ok("no room".into());
        }
        let Some(capture) = self.capture.take() else { return Ok("has ended".into()) };
        let before = Counts::of(&self.stats);
        // A loss that was reported after the last period is not seen any more.
        self.losses.reported = false;
        drop(capture);
        ensure!(!self.stats.is_open(), "open after the end");
        self.ring.has_short_block = true;
        self.follow_capture(before)
    }

    fn drop_dispatcher(&mut self) -> Result<(), String> {
        if self.dispatcher.take().is_some() {
            self.blocks.abandon()?;
            if let Some(encoder) = &mut self.encoder {
                encoder.input.abandon(self.blocks.head)?;
            }
        }
        Ok(())
    }

    fn dispatch(&mut self) -> Result<String, String> {
        let now = self.time();
        let Some(dispatcher) = &mut self.dispatcher else { return Ok("gone".into()) };
        let before = self.blocks.log.before();
        let others = self.blocks.listeners.iter().chain(self.encoder.as_ref().map(|encoder| &encoder.input));
        // New ones are admitted when they are counted; otherwise the last turn admits them at its end.
        let counts_consumers = self.config.await_consumers > 0 && !self.has_begun;
        // The observer is one, too.
        self.has_begun |= 1 + others.filter(|listener| !listener.is_over()).count() >= self.config.await_consumers;
        let is_stopping = self.stop.load(Ordering::Relaxed);
        let step = dispatcher.step(now);
        let dispatched = self.observe(now)?;
        ensure!(dispatched <= MAX_BATCH, "{dispatched} blocks in one turn");
        ensure!((step == dispatcher::Step::Dispatched) == (dispatched > 0), "{step:?} with {dispatched} blocks");
        let rest = self.ring.blocks.len();
        ensure!(dispatched == 0 || self.has_begun || is_stopping, "begun before all consumers came");
        if rest > 0 && dispatched < MAX_BATCH {
            let encoder_holds = self.encoder.as_ref().is_some_and(|encoder| encoder.input.holds_the_source());
            let holds = || self.blocks.listeners.iter().any(Listener::holds_the_source);
            // Held by a consumer that is full by now, or because some have not come yet.
            let is_held = !self.config.is_live && !is_stopping;
            if !is_held || dispatched == 0 && self.has_begun && !encoder_holds && !holds() {
                return Err(format!("{step:?}, and {rest} blocks wait in the capture ring"));
            }
        }
        if step == dispatcher::Step::Ended {
            ensure!(self.capture.is_none() || is_stopping, "ended while the source was open");
            ensure!(rest == 0, "ended with {rest} blocks in the capture ring");
            let dispatcher = self.dispatcher.take().ok_or("gone")?;
            dispatcher.finish();
            self.observe(now)?;
            self.blocks.log.next = self.ring.next;
        }
        self.blocks.head = self.blocks.log.next;
        let (log, head, reason) = (&self.blocks.log, self.blocks.head, self.reason());
        let admitting = match step {
            dispatcher::Step::Ended if !counts_consumers => Before { next: log.next, ..before },
            _ => before,
        };
        for listener in self.blocks.listeners.iter_mut().chain(self.encoder.as_mut().map(|encoder| &mut encoder.input))
        {
            if step == dispatcher::Step::Ended {
                listener.follow_then_finish(log, admitting, reason, head)?;
            } else {
                listener.follow(log, admitting, head, is_stopping)?;
            }
        }
        if step == dispatcher::Step::Ended {
            self.blocks.is_over = true;
        }
        Ok(format!("{step:?}: {dispatched} blocks"))
    }

    /// Returns why the stream ends when the source does.
    fn reason(&self) -> EndReason {
        if self.stats.failure().is_some() { EndReason::Failed } else { EndReason::Finished }
    }

    /// Takes what the dispatcher has sent, checks it, and writes it into the log. Returns the number of blocks.
    fn observe(&mut self, now: Timestamp) -> Result<u64, String> {
        let mut count = 0;
        let Some(mut observer) = self.observer.take() else { return Ok(0) };
        loop {
            match observer.try_recv_at(now) {
                Ok(delivery) => {
                    count += 1;
                    let gap = delivery.gap.map_or(0, |gap| gap.items);
                    self.observe_block(&delivery.item, gap, now)?;
                }
                Err(TryRecvError::Empty) => {
                    self.observer = Some(observer);
                    return Ok(count);
                }
                Err(TryRecvError::Ended(end)) => {
                    let lost = self.ring.next - self.ring.dispatched_next;
                    let told = end.gap.map_or(0, |gap| gap.items);
                    ensure!(told == lost, "{lost} blocks lost at the end, and told of {told}");
                    ensure!(end.reason == self.reason(), "{end:?}");
                    let (came, passed) = (self.device.handed_over, self.ring.passed);
                    let is_whole = self.ring.lost.losses == 0 && self.ring.lost.overflowed == 0;
                    ensure!(came == passed || !is_whole, "{came} frames came, and {passed} went out");
                    return Ok(count);
                }
            }
        }
    }

    fn observe_block(&mut self, item: &Arc<Item<Block>>, gap: u64, now: Timestamp) -> Result<(), String> {
        let frames = u64::from(self.config.format.block_frames());
        let ring = &mut self.ring;
        let block = ring.blocks.pop_front().ok_or("a block came that was not in the capture ring")?;
        let sequence = item.stamp.sequence;
        ensure!(sequence == block.sequence, "block {sequence} came instead of {}", block.sequence);
        let missing = block.overflowed + block.lost_blocks + block.left_out + block.lost_on_hop;
        ensure!(gap == missing, "{missing} blocks are missing before block {sequence}, and a gap of {gap} was told");
        ring.dispatched_next = sequence + 1;
        ensure!(item.position() == sequence * frames, "block {sequence} is not on the grid");
        ensure!(item.stamp.dispatched_at == now && item.stamp.preceding == 0, "{:?}", item.stamp);
        let length = u64::from(item.frames());
        let is_last = ring.has_short_block && ring.blocks.is_empty();
        ensure!(length == frames || is_last && length > 0, "{length} frames in block {sequence}");
        // An overflow loses whole blocks; a loss by the device, some samples before and after it, too.
        let least = block.overflowed * frames;
        let most = least + block.losses * 4 * (frames - 1).max(1) + if block.losses > 0 { frames } else { 0 };
        let (handed_over, frame) = self.device.find(item.samples(), ring.passed + least)?;
        let left_out = handed_over - ring.passed;
        ensure!(left_out <= most, "{left_out} frames left out before block {sequence}, and {most} at most: {block:?}");
        ring.passed = handed_over + length;
        self.check_place(item, frame, handed_over)?;
        if block.lost_on_hop > 0 {
            // A ring that was full meanwhile lost some, too: the ones lost on the hop are told first.
            self.blocks.log.lose_on_hop_to(self.blocks.log.next + block.lost_on_hop);
        }
        self.blocks.log.add(Entry {
            first: sequence,
            next: sequence + 1,
            is_live: true,
            content: Block::content(item),
        });
        Ok(())
    }

    /// Checks that a block's position and capture time are those of its first frame, as well as the timestamps permit.
    fn check_place(&self, item: &Item<Block>, frame: u64, handed_over: u64) -> Result<(), String> {
        let rate = u64::from(self.config.format.rate_hz());
        let in_frames = |nanos: u64| (nanos * rate).div_ceil(SECOND);
        let span = |frames: u64| (u128::from(frames) * u128::from(SECOND) / u128::from(rate)) as i64;
        let Losses { silent, declared, .. } = &self.losses;
        let jitter = match self.config.stamps {
            Stamps::Exact | Stamps::Frozen | Stamps::Early => 0,
            // Drift of 100 ppm is followed 0.8 ms later.
            Stamps::Jittery(most) => most + 2 * MILLI as u64,
            Stamps::Wild => return Ok(()),
        };
        // How many frames a loss is follows from its time, at the nominal rate.
        let drift = (self.device.next - self.device.handed_over) * self.config.drift_ppm.unsigned_abs() / 1_000_000;
        // Each loss is rounded to a frame.
        let inexact = declared + 2 + drift + in_frames(jitter) * (declared + 1);
        let ahead = inexact;
        let found = |(frames, at): &&(u64, u64)| {
            *frames > in_frames(SURELY_FOUND + 2 * jitter)
                && handed_over >= at + in_frames(found_after(self.config.format))
        };
        let hidden: u64 = silent.iter().filter(|loss| !found(loss)).map(|loss| loss.0).sum();
        let behind = hidden + inexact;
        let (position, sequence) = (item.position(), item.stamp.sequence);
        ensure!(
            (frame.saturating_sub(behind)..=frame + ahead).contains(&position),
            "block {sequence} is at position {position}, and its first frame is {frame} (-{behind} +{ahead})"
        );
        let right = self.device.time_of(frame);
        let error = item.stamp.captured_at.as_nanos() as i64 - right as i64;
        let late = match self.config.stamps {
            Stamps::Frozen => 2 * MILLI,
            _ => 0,
        } + jitter as i64
            + span(declared + 2);
        let early = match self.config.stamps {
            Stamps::Early => 60 * MILLI,
            _ => 0,
        } + span(behind)
            + span(ahead);
        ensure!(
            (-early..=late).contains(&error),
            "block {sequence} was captured {error} ns after its stamp says (-{early} +{late})"
        );
        Ok(())
    }

    fn encode(&mut self, blocks: usize, remember: u32) -> Result<String, String> {
        let now = self.time();
        let (is_live, is_stopping) = (self.config.is_live, self.stop.load(Ordering::Relaxed));
        let Some(mut encoder) = self.encoder.take() else { return Ok("gone".into()) };
        let (head, mut before, mut sent) = (self.blocks.head, None, 0);
        let mut taken = 0;
        while taken < blocks {
            // A source that waits is asked before each packet, and its packets go out one by one.
            if !is_live {
                before.get_or_insert(self.packets.log.before());
                if !encoder.publisher.has_room(1) {
                    break;
                }
            }
            if encoder.begun.len() == encoder.group {
                let is_remembered = remember >> (encoder.packets % 32) & 1 == 1;
                encoder.emit(&mut self.packets, is_remembered, &mut before);
                sent += 1;
            } else {
                match encoder.input.take(head, now)? {
                    Taken::Empty => break,
                    Taken::Item(item, gap) => {
                        taken += 1;
                        if gap.is_some() && !encoder.begun.is_empty() {
                            encoder.emit(&mut self.packets, false, &mut before);
                            sent += 1;
                        }
                        if let Some(gap) = gap.filter(|gap| gap.reason == Loss::Hop) {
                            let next = gap.from + gap.items;
                            before.get_or_insert(self.packets.log.before());
                            encoder.publisher.lose_to(next, Loss::Hop);
                            self.packets.log.lose_on_hop_to(next);
                        }
                        encoder.begun.push(item.stamp);
                    }
                    Taken::Ended(end) => {
                        let next = encoder.input.end_of_sequence();
                        encoder.end = Some((end.reason, next));
                        if encoder.begun.is_empty() {
                            break;
                        }
                        encoder.emit(&mut self.packets, false, &mut before);
                        sent += 1;
                        break;
                    }
                }
            }
            if !is_live {
                before.get_or_insert(self.packets.log.before());
                encoder.publisher.flush();
            }
        }
        encoder.publisher.flush();
        let before = before.unwrap_or(self.packets.log.before());
        if !encoder.shares_head {
            self.packets.head = self.packets.log.next;
        }
        // Two packets for one look at the room: the second may be refused.
        let forced = is_stopping || is_live || encoder.end.is_some() || sent > 0;
        for listener in &mut self.packets.listeners {
            listener.follow(&self.packets.log, before, self.packets.head, forced)?;
        }
        if let Some((reason, next)) = encoder.end {
            encoder.publisher.advance_to(next);
            encoder.publisher.finish(reason);
            self.packets.log.next = self.packets.log.next.max(next);
            if !encoder.shares_head {
                self.packets.head = self.packets.log.next;
            }
            let (next, head) = (self.packets.log.next, self.packets.head);
            self.packets.is_over = true;
            for listener in &mut self.packets.listeners {
                listener.finish(reason, next, head)?;
            }
            return Ok(format!("took {taken}, sent {sent} and ended"));
        }
        self.encoder = Some(encoder);
        Ok(format!("took {taken} and sent {sent}"))
    }

    /// Ends everything that has not ended, and checks the ends.
    pub(super) fn conclude(&mut self) -> Result<(), String> {
        self.finish_source(true)?;
        if !self.config.is_live {
            // Consumers that the source waits for may have been leaked.
            self.stop.store(true, Ordering::Release);
        }
        for _ in 0..MAX_LAST_TURNS {
            if self.dispatcher.is_none() {
                break;
            }
            self.now += 1000;
            self.dispatch()?;
        }
        ensure!(self.dispatcher.is_none(), "the dispatcher does not end");
        for _ in 0..MAX_LAST_TURNS {
            self.check_heads()?;
            if self.encoder.is_none() {
                break;
            }
            self.now += 1000;
            self.encode(16, 0)?;
        }
        if self.encoder.take().is_some() {
            ensure!(!self.config.is_live, "the encoder does not end");
            self.packets.abandon()?;
        }
        self.check_heads()?;
        let now = self.time();
        self.blocks.conclude(now)?;
        self.packets.conclude(now)
    }
}

impl Encoder {
    /// Makes a packet of the blocks that were begun.
    fn emit(&mut self, packets: &mut Outlet<Packet>, is_remembered: bool, before: &mut Option<Before>) {
        let (Some(first), Some(last)) = (self.begun.first(), self.begun.last()) else { return };
        let preceding = self.begun.len() as u32 - 1;
        let stamp = Stamp { preceding, dispatched_at: first.dispatched_at, ..*last };
        let content = self.packets;
        self.packets += 1;
        self.begun.clear();
        if is_remembered {
            self.publisher.remember(stamp, Packet(content));
        } else {
            before.get_or_insert(packets.log.before());
            self.publisher.push(stamp, Packet(content));
        }
        packets.log.add(Entry { first: stamp.first(), next: stamp.next(), is_live: !is_remembered, content });
    }
}

impl<T: Payload> Outlet<T> {
    fn subscribe(&mut self, options: SubscribeOptions, is_live: bool) -> Result<String, String> {
        let refused = options.overflow == OverflowPolicy::Block && is_live;
        match self.hub.subscribe(options) {
            Err(SubscribeError::BlockOnLive) if refused => Ok("refused: live".into()),
            Err(SubscribeError::Ended) if self.is_over => Ok("refused: ended".into()),
            Err(error) => Err(error.to_string()),
            Ok(_) if refused || self.is_over => Err("was not refused".into()),
            Ok(consumer) => {
                self.listeners.push(Listener::new(consumer, options, &self.log));
                Ok(format!("consumer {}", self.listeners.len() - 1))
            }
        }
    }

    fn consume(&mut self, event: &Event, now: Timestamp) -> Result<String, String> {
        let which = schedule::consumer_of(event).ok_or("no event of a consumer")?;
        let (head, count) = (self.head, self.listeners.len());
        if count == 0 {
            return Ok("no consumer".into());
        }
        let listener = &mut self.listeners[which.number % count];
        let outcome = match *event {
            Event::Take(_, times) => {
                let mut outcome = String::new();
                for _ in 0..times {
                    let taken = listener.take(head, now)?;
                    outcome = taken.to_string();
                    if !matches!(taken, Taken::Item(..)) {
                        break;
                    }
                }
                outcome
            }
            Event::TakeBatch { max, forget, .. } => listener.take_batch(max, forget, head, now)?,
            Event::PollReady(_) => listener.poll_ready(head, now)?,
            Event::PollRecv(_) => listener.poll_recv(head, now)?,
            Event::Hold(_) => {
                let taken = listener.take(head, now)?;
                let outcome = taken.to_string();
                if let Taken::Item(item, _) = taken {
                    listener.hold(item);
                }
                outcome
            }
            Event::LetGo(_) => {
                listener.let_go()?;
                "let go".into()
            }
            Event::SkipToNewest(_) => {
                listener.skip_to_newest();
                "requested".into()
            }
            Event::Close(_) => {
                listener.close()?;
                "closed".into()
            }
            Event::Leave(_) => {
                listener.leave()?;
                "left".into()
            }
            Event::Leak(_) => {
                listener.leak();
                "leaked".into()
            }
            _ => return Err("no event of a consumer".into()),
        };
        listener.check(head)?;
        Ok(outcome)
    }

    fn abandon(&mut self) -> Result<(), String> {
        self.is_over = true;
        self.listeners.iter_mut().try_for_each(|listener| listener.abandon(self.head))
    }

    fn conclude(&mut self, now: Timestamp) -> Result<(), String> {
        ensure!(self.is_over || self.listeners.is_empty(), "it has not ended");
        for (number, listener) in self.listeners.iter_mut().enumerate() {
            listener.conclude(self.head, now).map_err(|fault| format!("consumer {number} at last: {fault}"))?;
        }
        Ok(())
    }
}

/// Returns the sound after which a silent loss must have been found, in ns: two windows of four slots, of which each is half a second
/// and maybe a period, and two periods more.
fn found_after(format: Format) -> u64 {
    let longest_period = MAX_PERIOD_BLOCKS * format.block_span().as_nanos() as u64;
    (2 * 4 * (SECOND / 2 + longest_period) + 2 * longest_period).max(6 * SECOND)
}

/// The capture's counts at one moment.
#[derive(Clone, Copy, Debug)]
struct Counts {
    blocks: u64,
    overflow: u64,
    xrun: u64,
    /// Blocks of another server that it did not have itself, and those that were lost on the way from there.
    source: u64,
    hop: u64,
    next: u64,
}

impl Counts {
    fn of(stats: &CaptureStats) -> Self {
        Self {
            blocks: stats.blocks(),
            overflow: stats.lost_overflow(),
            xrun: stats.lost_xrun(),
            source: stats.lost_source(),
            hop: stats.lost_hop(),
            next: stats.next_sequence(),
        }
    }
}
