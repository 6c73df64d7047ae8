//! Looks at everybody, many times a second: who falls behind, who must be ended, whether sound comes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aircheck_engine::{Loss, LossCounts, Overflow, Timestamp};
use tokio::time::{MissedTickBehavior, interval};

use crate::delivery::listener::Listener;
use crate::mount::event_log::What;
use crate::mount::station::{OnAir, Station};

/// How often everybody is looked at: often enough for a limit of some blocks, at a microsecond or two for each.
const EVERY: Duration = Duration::from_millis(100);
/// Losses of one listener, or of the source, are told at most this often, summed up.
const LOSSES_EVERY: Duration = Duration::from_secs(1);
/// A listener that has been ended, and has read nothing for so long, does not read its end.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Looks at the station's listeners and source for as long as it is polled.
pub(crate) async fn watch(station: Arc<Station>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watch = Watch::default();
    loop {
        ticks.tick().await;
        watch.look(&station, Timestamp::now());
    }
}

/// What was seen before.
#[derive(Debug, Default)]
struct Watch {
    listeners: BTreeMap<u64, Seen>,
    /// Whether sound came at the last look; `None` before it ever did.
    is_live: Option<bool>,
    captured_losses: Told,
}

/// What was seen of one listener.
#[derive(Debug, Default)]
struct Seen {
    is_behind: bool,
    losses: Told,
    /// When it last read on after it had been ended, and where it was then.
    last_words: Option<(Timestamp, LastWords)>,
}

/// Blocks delivered, bytes that have not left this machine, and blocks unread: who reads changes one of them.
type LastWords = (u64, u64, u64);

/// Losses that were told already.
#[derive(Debug, Default)]
struct Told {
    blocks: u64,
    at: Option<Timestamp>,
}

impl Told {
    /// How many of `blocks` are to be told now: all that have not been, unless that was a moment ago.
    fn fresh(&mut self, blocks: u64, now: Timestamp) -> Option<u64> {
        let fresh = blocks - self.blocks;
        if fresh == 0 || self.at.is_some_and(|at| now.since(at) < LOSSES_EVERY) {
            return None;
        }
        *self = Self { blocks, at: Some(now) };
        Some(fresh)
    }
}

impl Watch {
    fn look(&mut self, station: &Station, now: Timestamp) {
        let present = station.listeners().present();
        // Both are in the order of their numbers.
        self.listeners.retain(|id, _| present.binary_search_by_key(id, |listener| listener.id()).is_ok());
        for listener in &present {
            self.listeners.entry(listener.id()).or_default().look(station, listener, now);
        }
        self.look_at_source(station, now);
    }

    fn look_at_source(&mut self, station: &Station, now: Timestamp) {
        let on_air = station.on_air();
        // Where it has ended, nothing is lost, and every listener hears of it.
        let live = on_air != OnAir::Silent;
        match (self.is_live, live) {
            (Some(true), false) => station.events().tell(What::SourceLost),
            (Some(false), true) => station.events().tell(What::SourceBack),
            _ => {}
        }
        if on_air == OnAir::Live || self.is_live.is_some() {
            self.is_live = Some(live);
        }
        let lost = station.capture().lost_xrun() + station.capture().lost_overflow();
        if let Some(blocks) = self.captured_losses.fresh(lost, now) {
            station.events().tell(What::Xrun { blocks });
        }
    }
}

impl Seen {
    fn look(&mut self, station: &Station, listener: &Listener, now: Timestamp) {
        let standing = listener.standing(now);
        let (unwanted, limits) = (standing.unwanted(), listener.limits());
        if !self.is_behind && unwanted >= limits.behind {
            self.is_behind = true;
            let what = What::FellBehind { lag_seconds: listener.seconds(unwanted), fault: standing.fault() };
            station.events().tell_of(listener, what);
        } else if self.is_behind && unwanted * 2 <= limits.behind {
            self.is_behind = false;
            station.events().tell_of(listener, What::CaughtUp { lag_seconds: listener.seconds(unwanted) });
        }
        // What nobody could have delivered, or what a listener chose not to get, is not its trouble.
        let lost = &standing.snapshot.lost;
        let own = lost.total() - lost.of(Loss::Conflated) - lost.of(Loss::Source);
        if let Some(blocks) = self.losses.fresh(own, now) {
            station.events().tell_of(listener, What::Skipped { blocks, reason: main_reason(lost) });
        }
        if listener.overflow() == Overflow::Disconnect && limits.max_lag.is_some_and(|most| unwanted > most) {
            listener.end_as_too_late();
        }
        if listener.has_ended() {
            let progress = (standing.snapshot.delivered, standing.queued_bytes, standing.unread);
            match self.last_words {
                Some((since, last)) if last == progress && now.since(since) >= LAST_WORDS => listener.hang_up(),
                Some((_, last)) if last == progress => {}
                _ => self.last_words = Some((now, progress)),
            }
        }
    }
}

/// Why a listener lost most of what it lost, of the reasons that are told.
fn main_reason(lost: &LossCounts) -> Loss {
    let told = [Loss::Overflow, Loss::Skipped, Loss::Late, Loss::History];
    told.into_iter().max_by_key(|reason| lost.of(*reason)).unwrap_or(Loss::Overflow)
}
