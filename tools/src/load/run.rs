//! The loop of a run: listeners that connect, leave and are replaced, and the end.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use aircheck_api::{ListenerRow, Rendition};
use tokio::task::spawn_local;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::args::LoadArgs;
use super::clocks::Clocks;
use super::comparison::{self, Comparison};
use super::handle::{ListenerHandle, Shared};
use super::listener::{Ending, Listener};
use super::log::SecondsLog;
use super::measures::{ListenerKind, Measure, Measures};
use super::progress::Progress;
use super::session;
use super::totals::{KindTotals, Troubles};
use crate::check::ServerClock;
use crate::failure::Failure;
use crate::signals::Signals;
use crate::status_line::{Room, StatusLine};

/// How often listeners are started, ended and counted.
const TICK: Duration = Duration::from_millis(20);
/// How long all listeners together may take to leave: longer than each of them may.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(4);

/// Why a run is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// `--for` has passed.
    Time,
    /// A signal came.
    Signal,
    /// All streams ended properly.
    StreamEnded,
    /// No stream is left, and they did not end properly.
    Died(String),
    /// There never was a stream.
    Nothing(String),
}

/// A run.
pub(crate) struct LoadRun<'a> {
    args: &'a LoadArgs,
    server: SocketAddr,
    shared: Rc<Shared>,
    /// Listeners that have not ended, oldest first.
    handles: Vec<Rc<ListenerHandle>>,
    /// Listeners that have ended, in the order of [`ListenerKind::ALL`].
    ended: [KindTotals; 3],
    started: u64,
    began_at: Instant,
    /// When the last listener of the ramp was started.
    complete_at: Option<Instant>,
    churned: u64,
    /// Whether this machine's clock is the server's.
    same_machine: bool,
    clock: ServerClock,
    ask_at: Instant,
    log: Option<SecondsLog>,
    rolled_at: Instant,
    /// The longest delay of this process itself.
    late: Duration,
}

impl<'a> LoadRun<'a> {
    /// Prepares a run on a server that was reached before.
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
            handles: Vec::new(),
            ended: Default::default(),
            started: 0,
            began_at: now,
            complete_at: None,
            churned: 0,
            same_machine,
            clock: ServerClock::default(),
            ask_at: now,
            log,
            rolled_at: now,
            late: Duration::ZERO,
        }
    }

    /// Returns when the run began.
    pub(crate) fn began_at(&self) -> Instant {
        self.began_at
    }

    /// Returns how many listeners were replaced.
    pub(crate) fn churned(&self) -> u64 {
        self.churned
    }

    /// Returns the longest delay of this process itself.
    pub(crate) fn late(&self) -> Duration {
        self.late
    }

    /// Runs until there is a reason to stop.
    ///
    /// # Errors
    ///
    /// If the log can't be written.
    pub(crate) async fn run(&mut self, signals: &mut Signals, status: &mut StatusLine) -> std::io::Result<Stop> {
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
            self.ramp_up(now);
            self.churn(now);
            self.collect(now);
            self.ask_time(now);
            if now - self.rolled_at >= Duration::from_secs(1) {
                self.each_second(now, status)?;
            }
            if let Some(stop) = self.reason_to_stop(now) {
                return Ok(stop);
            }
            due = Instant::now() + TICK;
        }
    }

    /// Starts the listeners that are due.
    fn ramp_up(&mut self, now: Instant) {
        let due = 1 + ((now - self.began_at).as_secs_f64() * self.args.ramp) as u64;
        while self.complete_at.is_none() && self.started < due.min(self.args.listeners) {
            let healthy = self.args.healthy();
            let kind = match self.started {
                n if n < healthy => ListenerKind::Healthy,
                n if n < healthy + self.args.slow => ListenerKind::Slow,
                _ => ListenerKind::Frozen,
            };
            self.start(kind, now);
        }
        if self.complete_at.is_none() && self.started >= self.args.listeners {
            self.complete_at = Some(now);
            self.shared.is_frozen.set(true);
        }
    }

    fn start(&mut self, kind: ListenerKind, now: Instant) {
        self.started += 1;
        let handle = ListenerHandle::new(Listener::new(self.started, kind, now));
        spawn_local(session::listen(Rc::clone(&self.shared), Rc::clone(&handle), self.server));
        self.handles.push(handle);
    }

    /// Replaces the oldest healthy listeners at the rate of `--churn`.
    fn churn(&mut self, now: Instant) {
        let Some(since) = self.complete_at else { return };
        let due = ((now - since).as_secs_f64() * self.args.churn) as u64;
        while self.churned < due {
            let mut healthy = self.handles.iter().filter(|handle| handle.kind == ListenerKind::Healthy);
            let oldest = healthy.find(|handle| handle.is_streaming() && !handle.is_leaving());
            let Some(oldest) = oldest else { return };
            oldest.leave();
            self.churned += 1;
            self.start(ListenerKind::Healthy, now);
        }
    }

    /// Counts the listeners that have ended.
    fn collect(&mut self, now: Instant) {
        // Looking through ten thousand each time would take a tenth of a core.
        if !self.shared.has_endings.take() {
            return;
        }
        let ended = &mut self.ended;
        self.handles.retain(|handle| {
            let ending = handle.ending.borrow();
            if let Some(ending) = &*ending {
                ended[handle.kind as usize].add(&handle.listener.borrow(), Some(ending), None, now);
            }
            ending.is_none()
        });
    }

    /// Asks a server on another machine for its time, which only a WebSocket can.
    fn ask_time(&mut self, now: Instant) {
        if self.same_machine || self.args.url.rendition != Some(Rendition::WebSocket) {
            return;
        }
        let epoch = self.shared.clocks.get().epoch;
        for (answer, answered) in self.shared.answers.borrow_mut().drain(..) {
            self.clock.learn(answer.asked, answer.now, (answered - epoch).as_secs_f64());
        }
        let seconds = (now - epoch).as_secs_f64();
        let server_ns = self.clock.offset(seconds).map(|offset| offset.seconds * 1e9);
        self.shared.clocks.set(Clocks { epoch, server_ns });
        let mut healthy = self.handles.iter().filter(|handle| handle.kind == ListenerKind::Healthy);
        let asker = healthy.find(|handle| handle.is_streaming());
        if let Some(asker) = asker.filter(|_| now >= self.ask_at) {
            self.ask_at = now + self.clock.ask();
            asker.ask_time(seconds);
        }
    }

    /// Measures the pace, writes the log and shows the progress.
    fn each_second(&mut self, now: Instant, status: &mut StatusLine) -> std::io::Result<()> {
        let seconds = (now - self.rolled_at).as_secs_f64();
        let mut paces: Vec<f64> = Vec::new();
        let mut bytes = 0;
        for handle in &self.handles {
            let read = handle.socket_bytes.get();
            let before = handle.socket_bytes_before.replace(read);
            bytes += read - before;
            // Listeners that came within this second have not read for all of it.
            if handle.kind == ListenerKind::Healthy && before > 0 {
                paces.push((read - before) as f64 / seconds);
            }
        }
        // The median, so that bursts and stalls of some don't count.
        paces.sort_by(f64::total_cmp);
        if let Some(&pace) = paces.get(paces.len() / 2).filter(|&&pace| pace > 0.0) {
            self.shared.pace.set(Some(pace));
        }
        let totals = self.totals(&Comparison::default(), now);
        let measures = self.shared.measures.borrow();
        let streaming = ListenerKind::ALL.map(|kind| {
            self.handles.iter().filter(|handle| handle.kind == kind && handle.is_streaming()).count() as u64
        });
        let progress = Progress {
            elapsed: now - self.began_at,
            streaming,
            wanted: self.args.listeners,
            bytes_per_second: bytes as f64 / seconds,
            lost: totals[ListenerKind::Healthy as usize].lost,
            refused: totals.iter().map(KindTotals::refusals).sum(),
            latency: measures[ListenerKind::Healthy as usize].recent(Measure::Latency),
            stalls: measures[ListenerKind::Healthy as usize].recent(Measure::Stall).len(),
        };
        if status.is_due(now) {
            let line = progress.line();
            status.draw(now, |room| match room {
                Room::Terminal { cells, .. } => line.chars().take(cells).collect(),
                Room::Log => line,
            });
        }
        drop(measures);
        self.roll(now)
    }

    /// Ends an interval of the measurements.
    ///
    /// # Errors
    ///
    /// If the log can't be written.
    pub(crate) fn roll(&mut self, now: Instant) -> std::io::Result<()> {
        let mut measures = self.shared.measures.borrow_mut();
        let start = self.rolled_at - self.began_at;
        if let Some(log) = &mut self.log {
            log.interval(&measures[ListenerKind::Healthy as usize], start, now - self.rolled_at)?;
        }
        measures.iter_mut().for_each(Measures::roll);
        self.rolled_at = now;
        Ok(())
    }

    fn reason_to_stop(&self, now: Instant) -> Option<Stop> {
        if let (Some(since), Some(span)) = (self.complete_at, self.args.span)
            && now - since >= span
        {
            return Some(Stop::Time);
        }
        // A frozen listener does not notice the end of its stream. The run goes on only if all are frozen.
        let notices = |handle: &Rc<ListenerHandle>| handle.kind != ListenerKind::Frozen || !self.shared.is_frozen.get();
        let all_frozen = self.args.frozen == self.args.listeners;
        if all_frozen && !self.handles.is_empty() || self.handles.iter().any(notices) {
            return None;
        }
        let sum = |count: fn(&KindTotals) -> u64| self.ended.iter().map(count).sum::<u64>();
        let first = |troubles: fn(&KindTotals) -> &Troubles| {
            self.ended.iter().map(troubles).find(|troubles| troubles.count > 0).map(|troubles| troubles.first.clone())
        };
        if let Some(why) = first(|totals| &totals.broken) {
            let (broken, all) = (sum(|totals| totals.broken.count), sum(|totals| totals.listeners));
            return Some(Stop::Died(format!("{broken} of {all} streams broke: {why}")));
        }
        if sum(|totals| totals.finished) > 0 {
            return Some(Stop::StreamEnded);
        }
        if let Some(why) = first(|totals| &totals.malformed).or_else(|| first(|totals| &totals.failed)) {
            return Some(Stop::Nothing(why));
        }
        let refused = self.ended.iter().find_map(|totals| totals.first_refusal.clone());
        // Until all have tried, others may still find a place.
        refused
            .filter(|_| self.complete_at.is_some())
            .map(|why| Stop::Nothing(format!("the server refused all {}: {why}", sum(KindTotals::refusals))))
    }

    /// Compares the listeners with the server's rows, and has all of them leave.
    ///
    /// # Errors
    ///
    /// If the server does not answer.
    pub(crate) async fn leave(&mut self, stop: &Stop) -> Result<Comparison, Failure> {
        let has_rows = self.shared.plan.format.is_some() && matches!(stop, Stop::Time | Stop::Signal);
        let mut comparison = if has_rows {
            comparison::compare(self.args.url.address(), &self.handles).await?
        } else {
            Comparison::default()
        };
        self.handles.iter().for_each(|handle| handle.leave());
        let until = Instant::now() + LEAVE_TIMEOUT;
        while Instant::now() < until && self.handles.iter().any(|handle| handle.ending.borrow().is_none()) {
            sleep(TICK).await;
        }
        for handle in &self.handles {
            let row = comparison.rows.get(&handle.listener.borrow().number);
            if let Some(row) = row.filter(|_| *handle.ending.borrow() == Some(Ending::Left))
                && let Some(why) = comparison::disagreement_at_end(handle, row)
            {
                comparison.disagree(why);
            }
        }
        Ok(comparison)
    }

    /// Returns the totals of all listeners, ended or not.
    pub(crate) fn totals(&self, comparison: &Comparison, now: Instant) -> [KindTotals; 3] {
        let mut totals = self.ended.clone();
        for handle in &self.handles {
            let listener = handle.listener.borrow();
            let row: Option<&ListenerRow> = comparison.rows.get(&listener.number);
            totals[listener.kind as usize].add(&listener, handle.ending.borrow().as_ref(), row, now);
        }
        totals
    }
}
