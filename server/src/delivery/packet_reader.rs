//! The reader of a listener's ring: takes packets out as the limit of lag permits, and records each of them.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aircheck_engine::{Consumer, Delivery, End, Gap, Item, RecvError, Timestamp};
use tokio::time::{Sleep, sleep};

use crate::delivery::listener::Listener;
use crate::delivery::listeners::Registration;
use crate::delivery::standing::Decision;
use crate::rendition::encoder::Encoded;
use crate::rendition::encoders::{Subscription, Tail};

/// Time until a held listener, with too much waiting below its ring, is checked again.
const HOLD_INTERVAL: Duration = Duration::from_millis(20);

/// The reading end of one listener's ring.
#[derive(Debug)]
pub struct PacketReader {
    /// Dropped before `registration`, so that the account is final when the listener is taken off the list.
    packets: Consumer<Encoded>,
    tail: Tail,
    hold: Option<Pin<Box<Sleep>>>,
    registration: Registration,
}

/// The next content of the ring.
#[derive(Debug)]
pub enum Next {
    /// A packet.
    Packet {
        /// Blocks that are missing directly before it.
        gap: Option<Gap>,
        /// The packet.
        item: Arc<Item<Encoded>>,
    },
    /// The end.
    End {
        /// Blocks that are missing between the last packet and the end.
        gap: Option<Gap>,
        /// Packets that the encoder still had when the stream ended.
        tail: Tail,
    },
}

impl Next {
    /// Returns the blocks that are missing before it.
    #[must_use]
    pub fn gap(&self) -> Option<Gap> {
        match self {
            Self::Packet { gap, .. } | Self::End { gap, .. } => *gap,
        }
    }
}

impl PacketReader {
    /// Makes the reader of a registered listener.
    #[must_use]
    pub fn new(subscription: Subscription, registration: Registration) -> Self {
        let Subscription { packets, tail } = subscription;
        Self { packets, tail, hold: None, registration }
    }

    /// Returns the listener.
    #[must_use]
    pub fn listener(&self) -> &Arc<Listener> {
        self.registration.listener()
    }

    /// Polls whether a packet or the end is there. If not, the task is woken when it is.
    pub fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.packets.poll_ready(context)
    }

    /// Polls for the next packet or the end, as the listener's limit of lag permits. Must not be called after the end.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Next> {
        loop {
            ready!(self.packets.poll_ready(context));
            ready!(self.poll_hold(context));
            if let Some(next) = self.try_next() {
                return Poll::Ready(next);
            }
        }
    }

    /// Polls whether the listener is no longer held.
    pub fn poll_hold(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(hold) = &mut self.hold {
            ready!(hold.as_mut().poll(context));
            self.hold = None;
        }
        Poll::Ready(())
    }

    /// Takes the next packet or the end, unless the ring is empty or the listener is held. Must not be called after the
    /// end.
    pub fn try_next(&mut self) -> Option<Next> {
        if self.hold.is_some() {
            return None;
        }
        let now = Timestamp::now();
        let listener = self.registration.listener();
        match listener.decide(now) {
            Decision::Deliver => {}
            Decision::SkipToLive => self.packets.skip_to_newest(),
            Decision::End => listener.end_as_too_late(),
            Decision::Hold => {
                self.hold = Some(Box::pin(sleep(HOLD_INTERVAL)));
                return None;
            }
        }
        let next = match self.packets.try_recv(now) {
            Ok(Delivery { gap, lag_items, item }) => {
                let stamp = item.stamp;
                let queued = now.since(stamp.dispatched_at);
                let first = gap.map_or(stamp.sequence, |gap| gap.from);
                listener.record_taken(first..stamp.sequence + 1, lag_items, queued, now);
                Next::Packet { gap, item }
            }
            Err(RecvError::Empty) => return None,
            Err(RecvError::Ended(End { gap, .. })) => Next::End { gap, tail: Arc::clone(&self.tail) },
        };
        if let Some(gap) = next.gap() {
            listener.record_gap(gap.blocks);
        }
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use aircheck_api::{Rendition, SourceKind};
    use aircheck_engine::source::{PcmEncoding, Tone};
    use aircheck_engine::{Overflow, Stream, StreamOptions, SubscribeOptions};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::delivery::histograms::MountHistograms;
    use crate::delivery::listener::JoinRequest;
    use crate::delivery::listeners::Listeners;
    use crate::delivery::socket::tracked_stream::TrackedStream;
    use crate::delivery::standing::Limits;
    use crate::mount::Mount;
    use crate::rendition::encoders::Encoders;
    use crate::rendition::encoding::Encoding;

    #[tokio::test]
    async fn the_kernel_is_asked_once_for_a_packet_and_never_for_the_totals() {
        let stream = Stream::start(Box::new(Tone::new(440.0)), StreamOptions::default()).unwrap();
        let mount = Mount::new(&stream, SourceKind::Tone).unwrap();
        let accepting = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (far_end, accepted) = tokio::join!(TcpStream::connect(accepting.local_addr().unwrap()), accepting.accept());
        let (near_end, remote) = accepted.unwrap();
        let tracked = TrackedStream::new(near_end, remote).unwrap();
        let encoders = Encoders::new(mount.hub().clone(), mount.format(), 100, 100);
        let options = SubscribeOptions::default();
        let subscription = encoders.subscribe(Encoding::Pcm(PcmEncoding::S16Le), options).unwrap();
        let listeners = Listeners::new(1);
        let request = JoinRequest {
            name: String::new(),
            mount,
            rendition: Rendition::Pcm,
            histograms: Arc::clone(&MountHistograms::default().renditions[&Rendition::Pcm]),
            overflow: Overflow::SkipToLive,
            limits: Limits { behind: 25, far_behind: 75, max_lag: Some(100) },
            tally: Arc::clone(subscription.packets.tally()),
            socket: Arc::clone(tracked.socket()),
            hang_up: Arc::default(),
        };
        let mut reader = PacketReader::new(subscription, listeners.join(request).unwrap());
        for packets in 1..20 {
            assert!(matches!(std::future::poll_fn(|context| reader.poll_next(context)).await, Next::Packet { .. }));
            assert_eq!(listeners.totals().by_rendition[&Rendition::Pcm].present, 1);
            assert!(tracked.socket().asked.load(Ordering::Relaxed) <= packets);
        }
        assert!(tracked.socket().asked.load(Ordering::Relaxed) > 0, "or nothing is followed");
        drop(far_end);
        stream.stop();
    }
}
