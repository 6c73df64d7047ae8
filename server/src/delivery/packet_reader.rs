//! What a listener gets next, whatever it listens with: packets out of its ring, as its limit of lag permits, with
//! everything about them recorded.

use std::future::Future as _;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aircheck_engine::{Consumer, Delivery, End, Gap, Item, RecvError, Timestamp};
use tokio::time::{Sleep, sleep};

use crate::delivery::listener::{Listener, Verdict};
use crate::delivery::listeners::Presence;
use crate::rendition::encoder::Encoded;
use crate::rendition::encoders::{Subscription, Tail};

/// How often a listener that is held, because too much waits below its ring, is looked at again.
const HELD: Duration = Duration::from_millis(20);

/// A listener's packets.
#[derive(Debug)]
pub struct Feed {
    /// Dropped before `presence`, so that the account is final when the listener is taken off the list.
    packets: Consumer<Encoded>,
    tail: Tail,
    held: Option<Pin<Box<Sleep>>>,
    presence: Presence,
}

/// What comes next.
#[derive(Debug)]
pub enum Fed {
    /// A packet, and what is missing before it.
    Packet {
        /// What is missing directly before it.
        gap: Option<Gap>,
        /// The packet.
        item: Arc<Item<Encoded>>,
    },
    /// There is no more; what is missing before the end.
    End {
        /// What is missing between the last packet and the end.
        gap: Option<Gap>,
        /// What the encoder still had.
        tail: Tail,
    },
}

impl Fed {
    /// What is missing before it.
    #[must_use]
    pub fn gap(&self) -> Option<Gap> {
        match self {
            Self::Packet { gap, .. } | Self::End { gap, .. } => *gap,
        }
    }
}

impl Feed {
    /// The packets of a listener who is present.
    #[must_use]
    pub fn new(subscription: Subscription, presence: Presence) -> Self {
        let Subscription { packets, tail } = subscription;
        Self { packets, tail, held: None, presence }
    }

    /// Whose they are.
    #[must_use]
    pub fn listener(&self) -> &Arc<Listener> {
        self.presence.listener()
    }

    /// Whether something can be taken, the end included; if not, the task is woken when it can.
    pub fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.packets.poll_ready(context)
    }

    /// Takes what comes next, as soon as it is there and the listener's limit of lag permits it. After the end, it must
    /// not be asked again.
    pub fn poll_take(&mut self, context: &mut Context<'_>) -> Poll<Fed> {
        loop {
            ready!(self.packets.poll_ready(context));
            ready!(self.poll_held(context));
            if let Some(fed) = self.try_take() {
                return Poll::Ready(fed);
            }
        }
    }

    /// Waits for as long as the listener is held.
    pub fn poll_held(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(held) = &mut self.held {
            ready!(held.as_mut().poll(context));
            self.held = None;
        }
        Poll::Ready(())
    }

    /// Takes what comes next if it is there and the listener is not held. After the end, likewise.
    pub fn try_take(&mut self) -> Option<Fed> {
        if self.held.is_some() {
            return None;
        }
        let now = Timestamp::now();
        let listener = self.presence.listener();
        match listener.judge(now) {
            Verdict::Deliver => {}
            Verdict::SkipToLive => self.packets.skip_to_newest(),
            Verdict::End => listener.end_as_too_late(),
            Verdict::Hold => {
                self.held = Some(Box::pin(sleep(HELD)));
                return None;
            }
        }
        let fed = match self.packets.try_recv(now) {
            Ok(Delivery { gap, lag_items, item }) => {
                let stamp = item.stamp;
                let queued = now.since(stamp.dispatched_at);
                let first = gap.map_or(stamp.sequence, |gap| gap.from);
                listener.took(first..stamp.sequence + 1, lag_items, queued, now);
                Fed::Packet { gap, item }
            }
            Err(RecvError::Empty) => return None,
            Err(RecvError::Ended(End { gap, .. })) => Fed::End { gap, tail: Arc::clone(&self.tail) },
        };
        if let Some(gap) = fed.gap() {
            listener.missed(gap.blocks);
        }
        Some(fed)
    }
}

/// Blocks whose bytes have yet to go out: the one that was taken last, and those before it that an encoder keeps until
/// it has a whole packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Begun {
    /// The sequence numbers that they bring the listener past, over those that are missing before them.
    pub numbers: Range<u64>,
    /// How many they are.
    pub blocks: u64,
}

impl Begun {
    /// One more was taken.
    pub fn take(&mut self, gap: Option<Gap>, sequence: u64) {
        let start = if self.blocks > 0 { self.numbers.start } else { gap.map_or(sequence, |gap| gap.from) };
        self.numbers = start..sequence + 1;
        self.blocks += 1;
    }
}
