//! The standing of a listener at one moment: its lag, the verdict on it, and where the cause is.

use std::ops::RangeInclusive;
use std::time::Duration;

use aircheck_api::{Fault, Verdict};
use aircheck_engine::Snapshot;

use crate::delivery::progress::Reading;

/// Limits of one listener. Those of its lag are in blocks, without the requested lag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From here on its verdict is [`Verdict::Behind`].
    pub behind: u64,
    /// From here on its verdict is [`Verdict::FarBehind`].
    pub far_behind: u64,
    /// Beyond this it is skipped to live, or ended if its overflow policy is `disconnect`.
    pub max_lag: Option<u64>,
    /// The length of its ring, beyond which it loses blocks, or is ended if its overflow policy is `disconnect`.
    pub buffer: u64,
    /// It is ended once its program has read nothing for this long.
    pub idle_timeout: Option<Duration>,
}

/// The lag of a listener at one moment, by the places where it waits, in blocks.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The account.
    pub snapshot: Snapshot,
    /// The part of the lag that was not handed to the connection: queued in the ring, or lost there.
    pub undelivered: u64,
    /// The part of `undelivered` that is lost: refused by the full ring since the listener last took from it.
    pub undelivered_lost: u64,
    /// The part that was handed over and is not acknowledged by the listener's machine.
    pub socket: u64,
    /// The part that the listener's machine has received and its program has not read.
    pub unread: u64,
    /// The part of `socket` that is merely on its way: on a long path, that of a listener which keeps up is as long.
    pub on_its_way: u64,
    /// Bounds of `unread` that hold in any case, as far as acknowledgements and the receive window of the listener's machine
    /// show it.
    pub unread_bounds: RangeInclusive<u64>,
    /// The sound in the listener's machine that it will hear late, in blocks: delivered, unread, and not requested. It is less than
    /// `unread` where blocks between those were lost.
    pub stale: u64,
    /// How its reading has gone on lately.
    pub reading: Reading,
    /// The requested part of the whole lag.
    pub burst: u64,
    /// Bytes of the blocks that are queued in the ring, nearly.
    pub ring_bytes: u64,
    /// Bytes that were handed over and are not acknowledged.
    pub socket_bytes: u64,
    /// Bytes that are acknowledged and unread.
    pub unread_bytes: u64,
    /// Whether the listener's machine keeps packets from being sent: its receive window is too small.
    pub is_window_limited: bool,
    /// How long the oldest unacknowledged packet has waited.
    pub waiting: Duration,
    /// For how long the listener's machine has answered nothing, although an answer was due.
    pub unanswered: Duration,
    /// Whether that proves that the machine is gone.
    pub is_gone: bool,
    /// Whether its connection is that of a proxy, so that acknowledgements tell what this has taken.
    pub is_proxied: bool,
    /// Whether its own program has lately answered a ping or told what is heard.
    pub is_heard_from: bool,
}

/// The decision on the next packet of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Deliver it.
    Deliver,
    /// Deliver the newest packet instead: the listener is too far behind.
    SkipToLive,
    /// Wait: packets that were delivered before are already too far behind.
    Hold,
    /// End the listener.
    End,
}

impl Standing {
    /// Returns how far the last block that was read is behind the live head, in blocks.
    #[must_use]
    pub fn lag(&self) -> u64 {
        self.undelivered + self.socket + self.unread
    }

    /// Returns the least and the most that the lag can be, in blocks.
    #[must_use]
    pub fn lag_bounds(&self) -> RangeInclusive<u64> {
        let before = self.undelivered + self.socket;
        before + self.unread_bounds.start()..=before + self.unread_bounds.end()
    }

    /// Returns one past the sequence number of the last block that its program has read.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.snapshot.next_sequence.saturating_sub(self.socket + self.unread)
    }

    /// Returns whether something waits for its program to read: in the ring, in the socket or on its machine.
    #[must_use]
    pub fn has_unread(&self) -> bool {
        self.snapshot.queued + self.socket + self.unread > 0
    }

    /// Returns the lag without the requested part.
    #[must_use]
    pub fn unrequested(&self) -> u64 {
        self.lag() - self.burst
    }

    /// Returns the least and the most that this can be, in blocks.
    #[must_use]
    pub fn unrequested_bounds(&self) -> RangeInclusive<u64> {
        let (least, most) = self.lag_bounds().into_inner();
        least.saturating_sub(self.burst)..=most - self.burst
    }

    /// Returns the lag on which its verdict is: the unrequested one without what is merely on its way, in blocks.
    #[must_use]
    pub fn overdue(&self) -> u64 {
        self.unrequested().saturating_sub(self.on_its_way)
    }

    /// Returns how bad the overdue lag is.
    #[must_use]
    pub fn verdict(&self, limits: &Limits) -> Verdict {
        match self.overdue() {
            lag if lag >= limits.far_behind => Verdict::FarBehind,
            lag if lag >= limits.behind => Verdict::Behind,
            _ => Verdict::Ok,
        }
    }

    /// Returns where the cause of the lag is. Of what is beyond a proxy, nothing is seen.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self.place() {
            Fault::Listener | Fault::Network if self.is_proxied => Fault::Proxy,
            place => place,
        }
    }

    /// Returns where most of the sound waits, with a proxy as if it were the listener.
    pub(super) fn place(&self) -> Fault {
        // Compared in bytes: a packet that follows a gap stands for many blocks.
        if self.is_window_limited || self.unread_bytes > self.socket_bytes + self.ring_bytes {
            Fault::Listener
        } else if self.socket > 0 {
            Fault::Network
        } else {
            Fault::Server
        }
    }
}

#[cfg(test)]
impl Standing {
    /// Returns the standing of a listener whose sound waits in these places, all of it known.
    pub(super) fn of(undelivered: u64, socket: u64, unread: u64, burst: u64) -> Self {
        let snapshot = Snapshot {
            offered: 0,
            delivered: 0,
            lost: aircheck_engine::LossCounts::default(),
            queued: 0,
            first_sequence: 0,
            next_sequence: 0,
            lag_items: undelivered,
            burst_items: burst,
        };
        Self {
            snapshot,
            undelivered,
            undelivered_lost: undelivered,
            socket,
            unread,
            on_its_way: 0,
            unread_bounds: unread..=unread,
            stale: unread,
            reading: Reading::default(),
            burst,
            ring_bytes: 0,
            socket_bytes: socket,
            unread_bytes: unread,
            is_window_limited: false,
            waiting: Duration::ZERO,
            unanswered: Duration::ZERO,
            is_gone: false,
            is_proxied: false,
            is_heard_from: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_follows_from_the_lag_that_was_not_asked_for() {
        let limits = Limits { behind: 25, far_behind: 75, max_lag: None, buffer: 100, idle_timeout: None };
        assert_eq!(Standing::of(10, 10, 4, 0).verdict(&limits), Verdict::Ok);
        assert_eq!(Standing::of(10, 10, 5, 0).verdict(&limits), Verdict::Behind);
        assert_eq!(Standing::of(75, 0, 0, 0).verdict(&limits), Verdict::FarBehind);
        assert_eq!(Standing::of(500, 0, 0, 480).verdict(&limits), Verdict::Ok);
    }

    #[test]
    fn a_verdict_follows_from_the_estimate_and_never_from_a_bound() {
        let limits = Limits { behind: 25, far_behind: 75, max_lag: None, buffer: 100, idle_timeout: None };
        let uncertain = Standing { unread_bounds: 0..=9000, ..Standing::of(5, 2, 1, 0) };
        assert_eq!((uncertain.unrequested(), uncertain.verdict(&limits)), (8, Verdict::Ok));
        let late = Standing { unread_bounds: 0..=9000, ..Standing::of(5, 2, 80, 0) };
        assert_eq!((late.unrequested(), late.verdict(&limits)), (87, Verdict::FarBehind));
    }

    #[test]
    fn what_is_on_its_way_is_no_accusation() {
        let limits = Limits { behind: 25, far_behind: 75, max_lag: None, buffer: 100, idle_timeout: None };
        let far = Standing { on_its_way: 18, ..Standing::of(9, 20, 0, 0) };
        assert_eq!((far.lag(), far.overdue(), far.verdict(&limits)), (29, 11, Verdict::Ok));
        assert_eq!(Standing { on_its_way: 18, ..Standing::of(9, 30, 4, 0) }.verdict(&limits), Verdict::Behind);
    }

    #[test]
    fn the_fault_is_where_most_packets_wait() {
        assert_eq!(Standing::of(50, 0, 0, 0).fault(), Fault::Server);
        assert_eq!(Standing::of(50, 3, 2, 0).fault(), Fault::Network);
        assert_eq!(Standing::of(50, 3, 4, 0).fault(), Fault::Listener);
        assert_eq!(Standing { is_window_limited: true, ..Standing::of(50, 3, 0, 0) }.fault(), Fault::Listener);
    }

    #[test]
    fn beyond_a_proxy_the_fault_is_the_proxy_s() {
        let behind =
            |undelivered, socket, unread| Standing { is_proxied: true, ..Standing::of(undelivered, socket, unread, 0) };
        assert_eq!(behind(50, 0, 0).fault(), Fault::Server);
        assert_eq!(behind(50, 3, 2).fault(), Fault::Proxy);
        assert_eq!(behind(50, 3, 4).fault(), Fault::Proxy);
    }
}
