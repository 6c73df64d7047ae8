//! The thread that watches a source, fills its holes, and opens it again.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, TryRecvError};
use std::thread;
use std::time::Duration;

use super::fallback_player::FallbackPlayer;
use super::live::{CHECK_INTERVAL, Live, Loss, START_TIMEOUT, dispose, open_with};
use super::switch::Order;
use super::{OnLoss, OpenFallback, Reopen, ReopenError, Supervised};
use crate::lease::{Lent, Slot};
use crate::outages::Substitute;
use crate::source::back_off::BackOff;
use crate::source::interface::{Running, Source};
use crate::{CaptureStats, Format, Timestamp};

/// Time from one look for an absent device to the next. A look costs about a millisecond.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// A source that delivered for this long was well: if it is lost again, it is opened again at once.
const HEALTHY_SPAN: Duration = Duration::from_secs(10);
/// Silence that is written at once where the supervisor is late. Anything beyond is a gap, because the capture ring holds a
/// third of a second.
const MAX_CATCH_UP: Duration = Duration::from_millis(100);
/// How long to wait for a source that writes in this moment.
const TAKE_TIMEOUT: Duration = Duration::from_secs(1);

/// A source that is being opened on another thread.
type Opening = mpsc::Receiver<Result<Opened, ReopenError>>;

/// A source that was opened again.
struct Opened {
    running: Box<dyn Running>,
    slot: Arc<Slot>,
    description: String,
}

/// The time without the source.
#[derive(Debug)]
pub(super) struct Hole {
    lent: Box<Lent>,
    since: Timestamp,
    opening: Option<Opening>,
    /// A source that is open and has not written since the hole began.
    live: Option<Live>,
    /// The description of `live`, if it was opened again.
    restarted: Option<String>,
    next_attempt: Timestamp,
    fallback: Option<Box<FallbackPlayer>>,
    /// Whether the fallback has failed in this hole.
    fallback_failed: bool,
    /// Whether the sound before the hole has faded out.
    has_faded: bool,
    block: Box<[f32]>,
}

/// The state of the supervisor.
#[derive(Debug)]
pub(super) enum State {
    Up(Live),
    Down(Hole),
}

/// The supervisor, on its own thread.
pub(super) struct Supervisor {
    pub(super) format: Format,
    pub(super) reopen: Option<Arc<dyn Reopen>>,
    pub(super) on_loss: OnLoss,
    pub(super) fallback: Option<OpenFallback>,
    /// Whether a source from which nothing comes is still there.
    pub(super) may_pause: bool,
    /// Time without a write after which a source is lost.
    pub(super) quiet_span: Duration,
    pub(super) stats: Arc<CaptureStats>,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) back_off: BackOff,
}

/// The reason why a source gives the writer back.
enum Parting {
    Lost(Loss),
    Replaced(Box<Supervised>),
    Stopped,
}

impl Supervisor {
    pub(super) fn run(mut self, mut state: State) {
        loop {
            let next = match state {
                State::Up(live) => self.watch(live),
                State::Down(hole) => self.bridge(hole),
            };
            match next {
                Some(next) => state = next,
                None => return,
            }
        }
    }

    /// Watches a source until it is lost. Returns nothing at the end of the stream.
    fn watch(&mut self, mut live: Live) -> Option<State> {
        let parting = loop {
            match self.next_order(CHECK_INTERVAL) {
                Some(Order::Stop) => break Parting::Stopped,
                Some(Order::Source(other)) => break Parting::Replaced(other),
                Some(Order::OnLoss(on_loss, fallback)) => (self.on_loss, self.fallback) = (on_loss, fallback),
                None => {}
            }
            if let Some(loss) =
                live.check(self.quiet_span, &self.stats).filter(|loss| !(self.may_pause && matches!(loss, Loss::Quiet)))
            {
                break Parting::Lost(loss);
            }
        };
        let Some(lent) = take(&live.slot) else {
            // Its thread has crashed inside a write, and the stream with it.
            self.stats.fail("the source's thread has crashed".to_owned());
            return None;
        };
        match parting {
            Parting::Lost(loss) => self.lose(live, lent, &loss),
            Parting::Replaced(other) => Some(self.replace(live, lent, *other)),
            Parting::Stopped => {
                dispose(live.running);
                None
            }
        }
    }

    /// Closes a source that delivers, because another one takes its place.
    fn replace(&mut self, live: Live, mut lent: Box<Lent>, other: Supervised) -> State {
        let now = Timestamp::now();
        let since = lent.begin_hole(live.started_at).min(now);
        dispose(live.running);
        self.stats.set_open(false);
        self.stats.outages().begin(since, "another source takes its place".to_owned());
        let mut hole = self.hole(lent, since, now);
        self.take(other, &mut hole, now);
        State::Down(hole)
    }

    /// Takes everything of `other` but its format, and begins to open its source.
    fn take(&mut self, other: Supervised, hole: &mut Hole, now: Timestamp) {
        let Supervised { first, reopen, on_loss, fallback, may_pause, quiet_span, is_hop, .. } = other;
        hole.lent.writer.set_hop(is_hop);
        (self.reopen, self.on_loss, self.fallback) = (reopen, on_loss, fallback);
        (self.may_pause, self.quiet_span) = (may_pause, quiet_span);
        if let Some(live) = hole.live.take() {
            dispose(live.running);
        }
        // One that is being opened is closed by its thread, because it is taken by nobody.
        (hole.opening, hole.next_attempt) = (None, now);
        match first {
            Ok(source) => hole.opening = Some(self.open(|| Ok(source))),
            Err(reason) => self.stats.outages().explain(reason),
        }
    }

    /// Decides what follows the loss of a source.
    fn lose(&mut self, live: Live, mut lent: Box<Lent>, loss: &Loss) -> Option<State> {
        let now = Timestamp::now();
        if !self.outlives(loss) {
            self.end(live, loss);
            return None;
        }
        let since = lent.begin_hole(live.started_at).min(now);
        self.stats.set_open(false);
        self.stats.outages().begin(since, loss.reason());
        if now.since(live.started_at) >= HEALTHY_SPAN {
            self.back_off.reset();
        }
        let mut hole = self.hole(lent, since, now + self.back_off.pause());
        self.back_off.lengthen();
        if self.reopen.is_some() || !matches!(loss, Loss::Quiet) {
            dispose(live.running);
        } else {
            // A pipe that pauses stays open.
            hole.live = Some(live);
        }
        Some(State::Down(hole))
    }

    /// Returns whether the stream goes on after this loss.
    fn outlives(&self, loss: &Loss) -> bool {
        match self.on_loss {
            OnLoss::End => false,
            OnLoss::Fallback { .. } => true,
            // A pipe that pauses is still there. One that has ended is over.
            OnLoss::Silence => self.reopen.is_some() || matches!(loss, Loss::Quiet),
        }
    }

    /// Ends the stream with its source.
    fn end(&self, live: Live, loss: &Loss) {
        // The end of a file or of a pipe is no failure.
        if self.reopen.is_some() || !matches!(loss, Loss::Ended) {
            self.stats.fail(loss.reason());
        }
        dispose(live.running);
    }

    /// Begins without a source.
    pub(super) fn hole_from_start(&self, mut lent: Box<Lent>, reason: String, now: Timestamp) -> Hole {
        lent.writer.resume_at(now);
        self.stats.set_open(false);
        self.stats.outages().begin(now, reason);
        self.hole(lent, now, now)
    }

    fn hole(&self, lent: Box<Lent>, since: Timestamp, next_attempt: Timestamp) -> Hole {
        Hole {
            lent,
            since,
            opening: None,
            live: None,
            restarted: None,
            next_attempt,
            fallback: None,
            fallback_failed: false,
            has_faded: false,
            block: vec![0.0; self.format.block_samples()].into(),
        }
    }

    /// Fills a hole at the pace of the sound until the source is back. Returns nothing at the end of the stream.
    fn bridge(&mut self, mut hole: Hole) -> Option<State> {
        let block = self.format.block_span();
        loop {
            let now = Timestamp::now();
            self.fill(&mut hole, now);
            if let Some(loss) = hole.live.as_ref().and_then(Live::end).filter(|loss| !self.outlives(loss)) {
                if let Some(live) = hole.live {
                    self.end(live, &loss);
                }
                return None;
            }
            self.seek(&mut hole, now);
            if let Some(mut live) = hole.live.take() {
                if live.is_alive() {
                    return Some(self.resume(hole, live, now));
                }
                hole.live = Some(live);
            }
            let due = hole.lent.writer.due() + block;
            match self.next_order(due.since(Timestamp::now()).min(block)) {
                Some(Order::Stop) => {
                    if let Some(live) = hole.live {
                        dispose(live.running);
                    }
                    return None;
                }
                Some(Order::Source(other)) => self.take(*other, &mut hole, now),
                Some(Order::OnLoss(on_loss, fallback)) => (self.on_loss, self.fallback) = (on_loss, fallback),
                None => {}
            }
        }
    }

    /// Writes the blocks that are due at `now`.
    fn fill(&mut self, hole: &mut Hole, now: Timestamp) {
        let block = self.format.block_span();
        // Before blocks are skipped, because it belongs to the sound that was heard last.
        if !hole.has_faded && hole.lent.writer.due() + block <= now {
            hole.lent.writer.write_silence();
            hole.has_faded = true;
        }
        let late = now.since(hole.lent.writer.due());
        if late > MAX_CATCH_UP + block {
            hole.lent.writer.skip_missing(self.format.blocks_in(late - MAX_CATCH_UP));
        }
        while hole.lent.writer.due() + block <= now {
            self.choose_fallback(hole);
            if hole.fallback.as_mut().is_some_and(|player| player.fill(&mut hole.block)) {
                hole.lent.writer.write_fallback(&hole.block);
                continue;
            }
            if hole.fallback.take().is_some() {
                hole.fallback_failed = true;
                self.stats.outages().substitute(Substitute::Silence);
            }
            hole.lent.writer.write_silence();
        }
    }

    /// Starts the fallback when it is due.
    fn choose_fallback(&self, hole: &mut Hole) {
        let OnLoss::Fallback { after } = self.on_loss else { return };
        if hole.fallback.is_some() || hole.fallback_failed || hole.lent.writer.due().since(hole.since) < after {
            return;
        }
        let Some(open) = &self.fallback else { return };
        match open().and_then(|pull| FallbackPlayer::new(pull, self.format)) {
            Ok(player) => {
                hole.fallback = Some(Box::new(player));
                self.stats.outages().substitute(Substitute::Fallback);
            }
            Err(error) => {
                hole.fallback_failed = true;
                self.stats.outages().explain(format!("the fallback fails: {error}"));
            }
        }
    }

    /// Takes the next step towards a source that delivers again: gives up one that is open and silent, begins to open it
    /// again, or takes the one that was opened.
    fn seek(&mut self, hole: &mut Hole, now: Timestamp) {
        if let Some(live) = hole.live.take() {
            hole.live = self.keep_or_give_up(live, hole, now);
            return;
        }
        let Some(opening) = &hole.opening else {
            if let Some(reopen) = self.reopen.clone().filter(|_| now >= hole.next_attempt) {
                hole.opening = Some(self.open(move || reopen.reopen()));
            }
            return;
        };
        let outcome = match opening.try_recv() {
            Ok(outcome) => outcome,
            Err(TryRecvError::Empty) => return,
            Err(TryRecvError::Disconnected) => Err(ReopenError::Failed("opening the source has crashed".to_owned())),
        };
        hole.opening = None;
        self.take_opened(outcome, hole, now);
    }

    /// Returns a source that is open and has not written yet, unless it never will.
    fn keep_or_give_up(&mut self, live: Live, hole: &mut Hole, now: Timestamp) -> Option<Live> {
        let is_over = live.slot.has_ended() || live.slot.failure().is_some();
        // A pipe that pauses is not opened again, and has all the time that it needs.
        if self.reopen.is_none() {
            return (!is_over).then_some(live);
        }
        if !is_over && now.since(live.started_at) <= START_TIMEOUT {
            return Some(live);
        }
        self.stats.outages().explain(live.slot.failure().unwrap_or("nothing comes from the source").to_owned());
        dispose(live.running);
        hole.next_attempt = now + self.back_off.pause();
        self.back_off.lengthen();
        None
    }

    /// Takes the source that was opened, or sets the time of the next attempt.
    fn take_opened(&mut self, outcome: Result<Opened, ReopenError>, hole: &mut Hole, now: Timestamp) {
        match outcome {
            Ok(Opened { running, slot, description }) => {
                hole.live = Some(Live::new(running, slot));
                hole.restarted = Some(description);
            }
            Err(ReopenError::Absent(reason)) => {
                self.stats.outages().explain(reason);
                hole.next_attempt = now + LOOK_INTERVAL;
            }
            Err(ReopenError::Failed(reason)) => {
                self.stats.outages().explain(reason);
                self.back_off.lengthen();
                hole.next_attempt = now + self.back_off.pause();
            }
        }
    }

    /// Begins to open the source on a thread of its own.
    fn open(&self, open: impl FnOnce() -> Result<Box<dyn Source>, ReopenError> + Send + 'static) -> Opening {
        let (format, stats) = (self.format, Arc::clone(&self.stats));
        let (done, opening) = mpsc::channel();
        // Without a thread, the sender is dropped, and that is a failed attempt.
        let _ = thread::Builder::new().name("source-opening".into()).spawn(move || {
            let slot = Arc::new(Slot::default());
            let outcome = open().and_then(|source| {
                let description = source.description();
                let running =
                    open_with(source, &slot, format, &stats).map_err(|error| ReopenError::Failed(error.to_string()))?;
                Ok(Opened { running, slot, description })
            });
            if let Err(mpsc::SendError(Ok(opened))) = done.send(outcome) {
                opened.running.stop();
            }
        });
        opening
    }

    /// Gives the writer to a source that delivers again.
    fn resume(&mut self, mut hole: Hole, mut live: Live, now: Timestamp) -> State {
        if let Some(mut player) = hole.fallback.take() {
            if player.fill_last(&mut hole.block) {
                hole.lent.writer.write_fallback(&hole.block);
            } else {
                hole.lent.writer.write_silence();
            }
        }
        hole.lent.end_hole();
        self.stats.set_open(true);
        self.stats.outages().end(now, hole.restarted);
        live.resume(now);
        live.slot.lend(hole.lent);
        State::Up(live)
    }

    /// Waits for an order, for `span` at most.
    fn next_order(&self, span: Duration) -> Option<Order> {
        match self.orders.recv_timeout(span) {
            Ok(order) => Some(order),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Order::Stop),
        }
    }
}

/// Takes the writer out of the slot, and waits while the source is writing.
fn take(slot: &Slot) -> Option<Box<Lent>> {
    /// A write takes microseconds.
    const RETRY_INTERVAL: Duration = Duration::from_micros(200);
    for _ in 0..TAKE_TIMEOUT.as_micros() / RETRY_INTERVAL.as_micros() {
        if let Some(lent) = slot.take() {
            return Some(lent);
        }
        thread::sleep(RETRY_INTERVAL);
    }
    None
}
