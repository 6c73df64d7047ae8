//! What happens in a simulation: a configuration and a list of events, both made from a seed.

use std::time::Duration;

use super::device::Stamping;
use super::rng::Rng;
use crate::{Format, OverflowPolicy, Start, SubscribeOptions};

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1000 * MILLI;
/// Samples of a block, at most: a schedule must be short.
const MAX_BLOCK_SAMPLES: u64 = 256;
/// The longest period of a device, in blocks.
pub(super) const MAX_PERIOD_BLOCKS: u64 = 3;
/// Most consumers of each fan-out in one schedule.
const MAX_SUBSCRIPTIONS: u64 = 6;

/// What stays the same during a schedule.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) format: Format,
    pub(super) is_live: bool,
    pub(super) await_consumers: usize,
    pub(super) history: usize,
    pub(super) stamps: Stamps,
    /// Whether the source is another server, whose blocks come as they are.
    pub(super) is_hop: bool,
    pub(super) drift_ppm: i64,
    /// Whether the device hands over integers.
    pub(super) integers: bool,
    pub(super) encoder: Option<Encoder>,
}

/// An encoder that makes items of several blocks, and fans them out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Encoder {
    pub(super) group: usize,
    pub(super) history: usize,
    pub(super) options: SubscribeOptions,
    /// Whether lag is measured against the dispatcher's head.
    pub(super) shares_head: bool,
}

/// How good the device's timestamps are, and so how exact positions must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stamps {
    /// Right. Losses are reported or not.
    Exact,
    /// Late by up to this many ns. Losses are reported or not.
    Jittery(u64),
    /// Right, except for bursts after the sound server was frozen. Nothing is lost.
    Frozen,
    /// Right, except for single early ones. Nothing is lost.
    Early,
    /// Anything: positions are not checked.
    Wild,
}

/// An event, and how long after the one before it happens, in ns.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) after: u64,
    pub(super) event: Event,
}

/// Which fan-out a consumer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Blocks,
    Packets,
}

/// A consumer, by its number among those of a fan-out; a greater number starts from the first again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Which {
    pub(super) stage: Stage,
    pub(super) number: usize,
}

#[derive(Clone, Debug)]
pub(super) enum Event {
    /// The device hands over a period.
    Period {
        frames: u64,
        stamping: Stamping,
    },
    /// The device loses sound, and reports it or not.
    Lose {
        frames: u64,
        is_reported: bool,
    },
    /// A block of another server comes, after some that are missing: `on_hop` of them were sent, and did not come. It comes once
    /// more if `again`.
    Relay {
        missing: u64,
        on_hop: u64,
        again: bool,
    },
    /// The dispatcher has a turn.
    Dispatch,
    /// The encoder has a turn, for some blocks. What it makes of the ones with a bit in `remember` is only remembered.
    Encode {
        blocks: usize,
        remember: u32,
    },
    Subscribe(Stage, SubscribeOptions),
    Take(Which, usize),
    TakeBatch {
        which: Which,
        max: usize,
        forget: bool,
    },
    PollReady(Which),
    PollRecv(Which),
    SkipToNewest(Which),
    /// Takes an item and keeps it.
    Hold(Which),
    LetGo(Which),
    Close(Which),
    Leave(Which),
    Leak(Which),
    /// The source ends by itself.
    Finish,
    /// The source fails.
    Fail,
    /// The stream is stopped.
    Stop,
    /// The dispatcher's thread dies.
    DropDispatcher,
    /// The encoder's thread dies.
    DropEncoder,
}

/// Returns the consumer that an event is about.
pub(super) fn consumer_of(event: &Event) -> Option<Which> {
    match *event {
        Event::Take(which, _)
        | Event::TakeBatch { which, .. }
        | Event::PollReady(which)
        | Event::PollRecv(which)
        | Event::SkipToNewest(which)
        | Event::Hold(which)
        | Event::LetGo(which)
        | Event::Close(which)
        | Event::Leave(which)
        | Event::Leak(which) => Some(which),
        _ => None,
    }
}

/// A configuration and its events.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    pub(super) config: Config,
    pub(super) steps: Vec<Step>,
}

impl Schedule {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let config = config(&mut rng);
        let steps = Scheduler::new(config.clone(), rng).run();
        Self { config, steps }
    }
}

fn config(rng: &mut Rng) -> Config {
    let channels = rng.pick(&[1, 1, 1, 2, 2, 3, 6, 32]);
    let rate_hz = rng.pick(&[8, 100, 441, 1000, 1000, 1001, 2000, 8000, 11_025, 44_100, 48_000]);
    let longest = (MAX_BLOCK_SAMPLES * 1000 / channels / rate_hz).clamp(1, 100);
    let block = Duration::from_millis(rng.between(1, longest));
    let format = Format::new(rate_hz as u32, channels as u16, block).unwrap();
    let is_live = !rng.once_in(4);
    let stamps = match rng.between(0, if is_live { 9 } else { 0 }) {
        0..=2 => Stamps::Exact,
        3..=5 => Stamps::Jittery(rng.between(0, 20 * MILLI)),
        6 => Stamps::Frozen,
        7 => Stamps::Early,
        _ => Stamps::Wild,
    };
    let is_hop = is_live && stamps == Stamps::Exact && rng.once_in(2);
    let drift_ppm = if matches!(stamps, Stamps::Jittery(_)) { rng.between(0, 200) as i64 - 100 } else { 0 };
    let encoder = rng.once_in(2).then(|| Encoder {
        group: rng.pick(&[1, 1, 2, 3, 5, 10]),
        history: rng.pick(&[0, 0, 1, 4, 12]),
        options: options(rng, is_live, false),
        shares_head: rng.once_in(2),
    });
    Config {
        format,
        is_live,
        await_consumers: if is_live { 0 } else { rng.pick(&[0, 0, 2, 3]) },
        history: rng.pick(&[0, 0, 1, 3, 8, 20]),
        stamps,
        is_hop,
        drift_ppm,
        integers: rng.once_in(3),
        encoder,
    }
}

/// Options of a consumer. One that `may_start_anywhere` may ask for the past or the future.
fn options(rng: &mut Rng, is_live: bool, may_start_anywhere: bool) -> SubscribeOptions {
    use OverflowPolicy::{Block, Disconnect, DropNewest, Latest, SkipToLive};
    let overflow = if is_live {
        rng.pick(&[SkipToLive, SkipToLive, SkipToLive, DropNewest, DropNewest, Latest, Disconnect])
    } else {
        rng.pick(&[Block, Block, Block, SkipToLive, DropNewest, Latest, Disconnect])
    };
    let start = match rng.between(0, 5) {
        0 | 1 if may_start_anywhere => Start::Back(rng.pick(&[0, 1, 2, 5, 10, 30, u64::MAX])),
        2 if may_start_anywhere => Start::From(rng.pick(&[0, 1, 5, 20, 50, u64::MAX])),
        _ => Start::Live,
    };
    let buffer = rng.pick(&[0, 1, 1, 2, 3, 5, 8, 16, 40]);
    SubscribeOptions { overflow, buffer, start, histograms: rng.once_in(2) }
}

/// An actor's next turn, and the mean time between its turns.
#[derive(Clone, Copy, Debug)]
struct Actor {
    role: Role,
    at: u64,
    interval: u64,
}

#[derive(Clone, Copy, Debug)]
enum Role {
    Device,
    Dispatcher,
    Encoder,
    Consumer(Which),
    /// Subscribes, closes, drops.
    Manager,
}

/// Gives each actor its turns, by random rates with stalls.
struct Scheduler {
    config: Config,
    rng: Rng,
    actors: Vec<Actor>,
    steps: Vec<Step>,
    now: u64,
    /// Frames of a period.
    period: u64,
    /// Periods so far, and those since the last bad timestamp.
    periods: u64,
    calm_periods: u64,
    /// When the frozen sound server goes on.
    frozen_to: u64,
    sound: u64,
    subscriptions: [u64; 2],
}

impl Scheduler {
    fn new(config: Config, mut rng: Rng) -> Self {
        let frames = u64::from(config.format.block_frames());
        let mut period = match rng.between(0, 3) {
            0 => rng.between(1, frames),
            1 => frames,
            _ => rng.between(1, frames * MAX_PERIOD_BLOCKS),
        };
        if !config.is_live {
            // The pacer writes a block at most.
            period = period.min(frames);
        }
        if config.is_hop {
            period = frames;
        }
        let block = config.format.block_span().as_nanos() as u64;
        let period_span = config.format.span(period).as_nanos() as u64;
        let mut actors = vec![
            Actor { role: Role::Device, at: 0, interval: period_span },
            Actor { role: Role::Dispatcher, at: 1, interval: rng.pick(&[block / 2, block, block * 2]) },
            Actor { role: Role::Manager, at: 0, interval: block * rng.between(2, 12) },
        ];
        if config.encoder.is_some() {
            actors.push(Actor { role: Role::Encoder, at: 2, interval: block * rng.between(1, 4) });
        }
        Self {
            config,
            rng,
            actors,
            steps: Vec::new(),
            now: 0,
            period,
            periods: 0,
            calm_periods: 0,
            frozen_to: 0,
            sound: 0,
            subscriptions: [0; 2],
        }
    }

    fn run(mut self) -> Vec<Step> {
        // Some are long enough for several of the windows of 2 s in which losses are found.
        let events = if self.rng.once_in(10) { self.rng.between(300, 600) } else { self.rng.between(20, 140) };
        while (self.steps.len() as u64) < events {
            let Some(next) = (0..self.actors.len()).min_by_key(|actor| self.actors[*actor].at) else { break };
            let actor = self.actors[next];
            let after = actor.at.saturating_sub(self.now);
            self.now += after;
            let count = self.steps.len();
            self.turn(actor.role);
            if let Some(step) = self.steps.get_mut(count) {
                step.after = after;
            }
            let stall = if self.rng.once_in(40) { self.rng.between(2, 60) } else { 0 };
            let is_device = matches!(actor.role, Role::Device);
            let jitter = if is_device { 0 } else { self.rng.between(0, actor.interval) };
            // A device that stalls catches up.
            let stall = if is_device { 0 } else { stall };
            let actor = &mut self.actors[next];
            actor.at += actor.interval / if is_device { 1 } else { 2 } + jitter + stall * actor.interval + 1;
        }
        if self.rng.once_in(3) {
            let event = match self.rng.between(0, 9) {
                0..=1 => Event::Finish,
                2..=3 => Event::Fail,
                4..=7 => Event::Stop,
                8 => Event::DropDispatcher,
                _ => Event::DropEncoder,
            };
            let at = self.rng.between(self.steps.len() as u64 / 2, self.steps.len() as u64) as usize;
            self.steps.insert(at, Step { after: 0, event });
        }
        self.steps
    }

    fn add(&mut self, event: Event) {
        self.steps.push(Step { after: 0, event });
    }

    fn turn(&mut self, role: Role) {
        match role {
            Role::Device if self.config.is_hop => self.relay(),
            Role::Device => self.device(),
            Role::Dispatcher => self.add(Event::Dispatch),
            Role::Encoder => {
                let blocks = self.rng.pick(&[1, 1, 2, 5, 40]);
                let remember = match self.rng.between(0, 15) {
                    0 => u32::MAX,
                    1 => self.rng.next() as u32,
                    _ => 0,
                };
                self.add(Event::Encode { blocks, remember });
            }
            Role::Consumer(which) => self.consumer(which),
            Role::Manager => self.manager(),
        }
    }

    fn device(&mut self) {
        let rate = u64::from(self.config.format.rate_hz());
        self.periods += 1;
        self.calm_periods += 1;
        let frames = match self.rng.between(0, 9) {
            0 => 0,
            1 => self.rng.between(1, self.period),
            _ => self.period,
        };
        let can_lose = self.config.is_live
            && self.periods > 2
            && matches!(self.config.stamps, Stamps::Exact | Stamps::Jittery(_) | Stamps::Wild);
        if can_lose && self.rng.once_in(20) {
            let nanos = match self.rng.between(0, 9) {
                0..=1 => 0,
                2..=4 => self.rng.between(0, 3 * MILLI),
                5..=8 => self.rng.between(0, 500 * MILLI),
                _ => self.rng.between(61, 4000) * SECOND,
            };
            let lost = nanos * rate / SECOND;
            let is_reported = self.rng.once_in(2) && nanos < 60 * SECOND;
            self.add(Event::Lose { frames: lost, is_reported });
        }
        let stamping = match self.config.stamps {
            Stamps::Exact => Stamping::Late(0),
            Stamps::Jittery(most) => Stamping::Late(self.rng.between(0, most)),
            Stamps::Frozen => {
                // The next one comes when the sound of this one is over, and the window in which it was.
                let calm = if self.frozen_to > 0 { self.frozen_to + 3 * rate } else { 0 };
                if self.sound >= calm && self.periods > 5 && self.rng.once_in(15) {
                    self.frozen_to = self.sound + self.rng.between(100, 1300) * MILLI * rate / SECOND;
                }
                let held_back = self.frozen_to.saturating_sub(self.sound) * SECOND / rate;
                // Everything comes at once then, or had all come late by a little more than what counts as a loss.
                let is_late = held_back > 0 && self.frozen_to % 2 == 1;
                Stamping::Late(if is_late { 100 * MILLI } else { held_back })
            }
            Stamps::Early => {
                if self.calm_periods > 8 && self.rng.once_in(12) {
                    self.calm_periods = 0;
                    let milli = self.rng.pick(&[1, 40, 70, 500, 5000, 3_600_000]);
                    Stamping::Early(milli * MILLI)
                } else {
                    Stamping::Late(0)
                }
            }
            Stamps::Wild => match self.rng.between(0, 9) {
                0 => Stamping::Frozen,
                1 => Stamping::Any(self.rng.pick(&[0, 1, u64::MAX, u64::MAX / 2, 1_790_000_000 * SECOND])),
                2 => Stamping::Any(self.rng.next()),
                3 => Stamping::Early(self.rng.between(0, 100 * SECOND)),
                4 => Stamping::Late(self.rng.between(0, 100 * SECOND)),
                _ => Stamping::Late(0),
            },
        };
        self.sound += frames;
        self.add(Event::Period { frames, stamping });
    }

    /// A block of another server, mostly the next one. A listener is late by the losses between, however few items it has.
    fn relay(&mut self) {
        let missing = if self.rng.once_in(6) { self.rng.pick(&[1, 1, 2, 5, 30, 1000]) } else { 0 };
        let on_hop = match self.rng.between(0, 3) {
            0 => 0,
            1 => self.rng.between(0, missing),
            // More than are missing, as a server that was started anew may say.
            2 => self.rng.pick(&[missing + 1, u64::MAX]),
            _ => missing,
        };
        let again = self.rng.once_in(10);
        self.add(Event::Relay { missing, on_hop, again });
    }

    fn consumer(&mut self, which: Which) {
        let event = match self.rng.between(0, 29) {
            0..=8 => Event::Take(which, self.rng.pick(&[1, 1, 2, 3, 50])),
            9..=16 => {
                Event::TakeBatch { which, max: self.rng.pick(&[0, 1, 2, 5, usize::MAX]), forget: self.rng.once_in(20) }
            }
            17..=20 => Event::PollReady(which),
            21..=24 => Event::PollRecv(which),
            25 => Event::SkipToNewest(which),
            26..=27 => Event::Hold(which),
            28 => Event::LetGo(which),
            _ => match self.rng.between(0, 5) {
                0 => Event::Close(which),
                1..=2 => Event::Leave(which),
                3 => Event::Leak(which),
                _ => Event::Take(which, 1),
            },
        };
        self.add(event);
    }

    fn manager(&mut self) {
        let stage = if self.config.encoder.is_some() && self.rng.once_in(2) { Stage::Packets } else { Stage::Blocks };
        let number = self.subscriptions[stage as usize];
        if number >= MAX_SUBSCRIPTIONS {
            return;
        }
        // Mostly fit for the stream.
        let is_live = self.config.is_live != self.rng.once_in(20);
        let options = options(&mut self.rng, is_live, true);
        self.add(Event::Subscribe(stage, options));
        if options.overflow == OverflowPolicy::Block && self.config.is_live {
            return;
        }
        self.subscriptions[stage as usize] += 1;
        let which = Which { stage, number: number as usize };
        let block = self.config.format.block_span().as_nanos() as u64;
        let interval = block * self.rng.pick(&[1, 1, 2, 4, 10, 50]);
        self.actors.push(Actor { role: Role::Consumer(which), at: self.now + 1, interval });
    }
}
