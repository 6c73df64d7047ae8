//! The loop of a run: who comes, who leaves, when it is over.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::spawn_local;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::check::clock::Clock;
use crate::client::message;
use crate::failure::Failure;
use crate::listen::screen::Screen;
use crate::load::args::LoadArgs;
use crate::load::clocks::Clocks;
use crate::load::listener::{End, Listener};
use crate::load::log::SecondsLog;
use crate::load::measures::{Kind, Measure, Measures};
use crate::load::mount::Form;
use crate::load::progress::Progress;
use crate::load::reader::{Sent, masked};
use crate::load::rows::{self, Compared, Row};
use crate::load::shared::{Shared, Slot};
use crate::load::tally::{Tally, Troubles};
use crate::load::task;
use crate::signals::Signals;

/// How often is looked who is to come or go, and who has ended.
const TICK: Duration = Duration::from_millis(20);
/// For all to leave: longer than each of them may take.
const LEAVING: Duration = Duration::from_secs(4);

/// Why a run is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// `--for` has passed.
    Time,
    /// Somebody said so.
    Signal,
    /// All streams ended as they should.
    StreamEnded,
    /// No stream is left, and not because it ended.
    Died(String),
    /// There never was a stream.
    Nothing(String),
}

/// A run.
pub(crate) struct Crowd<'a> {
    args: &'a LoadArgs,
    server: SocketAddr,
    shared: Rc<Shared>,
    /// Those that have not ended, oldest first.
    slots: Vec<Rc<Slot>>,
    /// Those that have, in the order of [`Kind::ALL`].
    pub(crate) gone: [Tally; 3],
    started: u64,
    began_at: Instant,
    all_came_at: Option<Instant>,
    churned: u64,
    /// Whether this machine's clock is the server's.
    same_machine: bool,
    clock: Clock,
    ask_at: Instant,
    log: Option<SecondsLog>,
    rolled_at: Instant,
    /// The longest that this process itself was late.
    pub(crate) late: Duration,
}

impl<'a> Crowd<'a> {
    pub(crate) fn new(
        args: &'a LoadArgs,
        server: SocketAddr,
        shared: Rc<Shared>,
        same_machine: bool,
        log: Option<SecondsLog>,
    ) -> Self {
        let now = Instant::now();
        Self {
            args,
            server,
            shared,
            slots: Vec::new(),
            gone: Default::default(),
            started: 0,
            began_at: now,
            all_came_at: None,
            churned: 0,
            same_machine,
            clock: Clock::default(),
            ask_at: now,
            log,
            rolled_at: now,
            late: Duration::ZERO,
        }
    }

    /// Since when it runs.
    pub(crate) fn began_at(&self) -> Instant {
        self.began_at
    }

    /// How many have been replaced.
    pub(crate) fn churned(&self) -> u64 {
        self.churned
    }

    /// Runs until there is a reason to stop.
    ///
    /// # Errors
    ///
    /// When the log can't be written.
    pub(crate) async fn run(&mut self, signals: &mut Signals, screen: &mut Screen) -> std::io::Result<Stop> {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut due = Instant::now();
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = signals.stop() => return Ok(Stop::Signal),
            }
            let now = Instant::now();
            self.late = self.late.max(now.saturating_duration_since(due));
            self.come(now);
            self.churn(now);
            self.collect(now);
            self.ask_time(now);
            if now - self.rolled_at >= Duration::from_secs(1) {
                self.second(now, screen)?;
            }
            if let Some(stop) = self.over(now) {
                return Ok(stop);
            }
            due = Instant::now() + TICK;
        }
    }

    /// Those who are due by the ramp.
    fn come(&mut self, now: Instant) {
        let due = 1 + ((now - self.began_at).as_secs_f64() * self.args.ramp) as u64;
        while self.all_came_at.is_none() && self.started < due.min(self.args.listeners) {
            let healthy = self.args.healthy();
            let kind = match self.started {
                n if n < healthy => Kind::Healthy,
                n if n < healthy + self.args.slow => Kind::Slow,
                _ => Kind::Frozen,
            };
            self.start(kind, now);
        }
        if self.all_came_at.is_none() && self.started >= self.args.listeners {
            self.all_came_at = Some(now);
            self.shared.freeze.set(true);
        }
    }

    fn start(&mut self, kind: Kind, now: Instant) {
        self.started += 1;
        let slot = Slot::new(Listener::new(&self.shared.run, self.started, kind, now));
        spawn_local(task::listen(Rc::clone(&self.shared), Rc::clone(&slot), self.server));
        self.slots.push(slot);
    }

    /// The oldest healthy ones leave, and others come for them.
    fn churn(&mut self, now: Instant) {
        let Some(since) = self.all_came_at else { return };
        let due = ((now - since).as_secs_f64() * self.args.churn) as u64;
        while self.churned < due {
            let oldest =
                self.slots.iter().find(|slot| slot.kind() == Kind::Healthy && slot.streams() && !slot.is_leaving());
            let Some(oldest) = oldest else { return };
            oldest.leave();
            self.churned += 1;
            self.start(Kind::Healthy, now);
        }
    }

    /// Counts those who have ended.
    fn collect(&mut self, now: Instant) {
        let gone = &mut self.gone;
        self.slots.retain(|slot| {
            let end = slot.end.borrow();
            if let Some(end) = &*end {
                gone[slot.kind() as usize].enter(&slot.listener.borrow(), Some(end), None, now);
            }
            end.is_none()
        });
    }

    /// What the time is at a server on another machine, which only a WebSocket can ask.
    fn ask_time(&mut self, now: Instant) {
        if self.same_machine || self.args.mount.form != Form::Ws {
            return;
        }
        let epoch = self.shared.clocks.get().epoch;
        for (asked, server, answered) in self.shared.answers.borrow_mut().drain(..) {
            self.clock.learn(asked, server, (answered - epoch).as_secs_f64());
        }
        let seconds = (now - epoch).as_secs_f64();
        let server_ns = self.clock.offset(seconds).map(|offset| offset.seconds * 1e9);
        self.shared.clocks.set(Clocks { epoch, server_ns });
        let asker = self.slots.iter().find(|slot| slot.kind() == Kind::Healthy && slot.streams());
        if let Some(asker) = asker.filter(|_| now >= self.ask_at) {
            self.ask_at = now + self.clock.ask();
            asker.send(&masked(Sent::Text, message::clock(seconds).as_bytes()));
        }
    }

    /// What is done once a second: pace, log, progress.
    fn second(&mut self, now: Instant, screen: &mut Screen) -> std::io::Result<()> {
        let seconds = (now - self.rolled_at).as_secs_f64();
        let mut paces: Vec<f64> = Vec::new();
        let mut bytes = 0;
        for slot in &self.slots {
            let read = slot.listener.borrow().bytes;
            let before = slot.bytes_before.replace(read);
            bytes += read - before;
            // Those who came within this second have not read for all of it.
            if slot.kind() == Kind::Healthy && before > 0 {
                paces.push((read - before) as f64 / seconds);
            }
        }
        // The middle one: bursts and stalls of some must not count.
        paces.sort_by(f64::total_cmp);
        if let Some(&pace) = paces.get(paces.len() / 2).filter(|&&pace| pace > 0.0) {
            self.shared.pace.set(Some(pace));
        }
        let tallies = self.tallies(&Compared::default(), now);
        let measures = self.shared.measures.borrow();
        let streaming =
            Kind::ALL.map(|kind| self.slots.iter().filter(|slot| slot.kind() == kind && slot.streams()).count() as u64);
        let progress = Progress {
            elapsed: now - self.began_at,
            streaming,
            wanted: self.args.listeners,
            bytes_per_second: bytes as f64 / seconds,
            lost: tallies[Kind::Healthy as usize].lost,
            refused: tallies.iter().map(Tally::refusals).sum(),
            latency: measures[Kind::Healthy as usize].recent(Measure::Latency),
            stalls: measures[Kind::Healthy as usize].recent(Measure::Stall).len(),
        };
        screen.status(&progress.line(), now);
        drop(measures);
        self.roll(now)
    }

    /// Ends an interval of what is measured.
    pub(crate) fn roll(&mut self, now: Instant) -> std::io::Result<()> {
        let mut measures = self.shared.measures.borrow_mut();
        let start = self.rolled_at - self.began_at;
        if let Some(log) = &mut self.log {
            log.interval(&measures[Kind::Healthy as usize], start, now - self.rolled_at)?;
        }
        measures.iter_mut().for_each(Measures::roll);
        self.rolled_at = now;
        Ok(())
    }

    fn over(&self, now: Instant) -> Option<Stop> {
        if let (Some(since), Some(span)) = (self.all_came_at, self.args.span)
            && now - since >= span
        {
            return Some(Stop::Time);
        }
        // Who is frozen does not notice what becomes of the server, unless all are.
        let watches = |slot: &&Rc<Slot>| slot.kind() != Kind::Frozen || !self.shared.freeze.get();
        let all_frozen = self.args.frozen == self.args.listeners;
        if all_frozen && !self.slots.is_empty() || self.slots.iter().any(|slot| watches(&slot)) {
            return None;
        }
        let sum = |count: fn(&Tally) -> u64| self.gone.iter().map(count).sum::<u64>();
        let first = |troubles: fn(&Tally) -> &Troubles| {
            self.gone.iter().map(troubles).find(|troubles| troubles.count > 0).map(|troubles| troubles.first.clone())
        };
        if let Some(why) = first(|tally| &tally.broken) {
            let (broken, all) = (sum(|tally| tally.broken.count), sum(|tally| tally.listeners));
            return Some(Stop::Died(format!("{broken} of {all} streams broke: {why}")));
        }
        if sum(|tally| tally.finished) > 0 {
            return Some(Stop::StreamEnded);
        }
        if let Some(why) = first(|tally| &tally.malformed).or_else(|| first(|tally| &tally.failed)) {
            return Some(Stop::Nothing(why));
        }
        let refused = self.gone.iter().find_map(|tally| tally.refused_first.clone());
        // Others may still find a place, until all have tried.
        refused
            .filter(|_| self.all_came_at.is_some())
            .map(|why| Stop::Nothing(format!("the server refused all {}: {why}", sum(Tally::refusals))))
    }

    /// All leave, after the server was asked for its account of them.
    pub(crate) async fn leave(&mut self, stop: &Stop) -> Result<Compared, Failure> {
        let asks = self.shared.run.blocks.is_some() && matches!(stop, Stop::Time | Stop::Signal);
        let mut compared =
            if asks { rows::compare(&self.args.mount.address, &self.slots).await? } else { Compared::default() };
        self.slots.iter().for_each(|slot| slot.leave());
        let until = Instant::now() + LEAVING;
        while Instant::now() < until && self.slots.iter().any(|slot| slot.end.borrow().is_none()) {
            sleep(TICK).await;
        }
        for slot in &self.slots {
            let row = compared.rows.get(&slot.listener.borrow().number).cloned();
            if let Some(row) = row.filter(|_| *slot.end.borrow() == Some(End::Left))
                && let Some(why) = rows::all_came(slot, &row)
            {
                compared.tell(why);
            }
        }
        Ok(compared)
    }

    /// What all come to, ended or not.
    pub(crate) fn tallies(&self, compared: &Compared, now: Instant) -> [Tally; 3] {
        let mut tallies = self.gone.clone();
        for slot in &self.slots {
            let listener = slot.listener.borrow();
            let row: Option<&Row> = compared.rows.get(&listener.number);
            tallies[listener.kind as usize].enter(&listener, slot.end.borrow().as_ref(), row, now);
        }
        tallies
    }
}
