//! The endless body of a listener's response: takes packets from its ring as fast as its connection takes them.

use std::convert::Infallible;
use std::future::Future as _;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aircheck_engine::{Consumer, Delivery, End, Gap, Timestamp};
use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::time::{Sleep, sleep};

use crate::encode::Encoding;
use crate::listener::Verdict;
use crate::listeners::Presence;

/// How often a listener that is held, because too much waits below its ring, is looked at again.
const HELD: Duration = Duration::from_millis(20);

/// The body of a stream. It ends when the stream does, or when somebody disconnects the listener.
#[derive(Debug)]
pub struct StreamBody {
    /// Dropped before `presence`, so that the account is final when the listener is taken off the list.
    packets: Consumer<Bytes>,
    encoding: Encoding,
    /// A block of silence, for a listener who wants one in place of each that is lost.
    silence: Option<Bytes>,
    /// What goes out before anything else: a header, or the news of a gap.
    first: Option<Bytes>,
    /// Lost blocks whose silence has yet to go out.
    silent: Range<u64>,
    /// A packet that waits for these.
    after: Option<Packet>,
    /// There is no more to take.
    over: bool,
    held: Option<Pin<Box<Sleep>>>,
    presence: Presence,
}

/// A block's bytes, and the sequence numbers that they bring the listener past.
#[derive(Debug)]
struct Packet {
    numbers: Range<u64>,
    bytes: Bytes,
}

impl StreamBody {
    /// A body that starts with `header` and goes on with `packets`; with `silence`, if there is such, for each block
    /// that is lost.
    #[must_use]
    pub fn new(
        packets: Consumer<Bytes>,
        encoding: Encoding,
        header: Option<Bytes>,
        silence: Option<Bytes>,
        presence: Presence,
    ) -> Self {
        Self { packets, encoding, silence, first: header, silent: 0..0, after: None, over: false, held: None, presence }
    }

    /// Waits until hyper has written what it was given before, so that no more than one packet is ever in its buffer.
    fn poll_clear(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let wire = self.presence.listener().wire();
        if wire.is_clear() {
            return Poll::Ready(());
        }
        // With nothing to hand over, the next packet's arrival is early enough.
        let waits = self.first.is_some() || !self.silent.is_empty() || self.after.is_some() || self.over;
        if waits || self.packets.poll_ready(context).is_ready() {
            wire.want_clear();
        }
        Poll::Pending
    }

    /// Waits for a packet, and for the listener's limit of lag to permit it; or for the end.
    fn poll_take(&mut self, context: &mut Context<'_>) -> Poll<()> {
        ready!(self.packets.poll_ready(context));
        if let Some(held) = &mut self.held {
            ready!(held.as_mut().poll(context));
            self.held = None;
        }
        let now = Timestamp::now();
        let listener = self.presence.listener();
        match listener.judge(now) {
            Verdict::Deliver => {}
            Verdict::SkipToLive => self.packets.skip_to_newest(),
            Verdict::End => listener.end_as_too_late(),
            Verdict::Hold => {
                let mut held = Box::pin(sleep(HELD));
                // It is new, so this only has it wake the task.
                let _ = held.as_mut().poll(context);
                self.held = Some(held);
                return Poll::Pending;
            }
        }
        match ready!(self.packets.poll_recv(context, now)) {
            Ok(delivery) => {
                self.taken(delivery, now);
                Poll::Ready(())
            }
            Err(End { gap, .. }) => {
                self.over = true;
                if let Some(gap) = gap {
                    self.missed(gap);
                }
                Poll::Ready(())
            }
        }
    }

    fn taken(&mut self, delivery: Delivery<Bytes>, now: Timestamp) {
        let stamp = delivery.item.stamp;
        let mut numbers = stamp.sequence..stamp.sequence + 1;
        if let Some(gap) = delivery.gap {
            self.missed(gap);
            numbers.start = gap.from;
        }
        self.presence.listener().took(numbers.clone(), delivery.lag_items, now.since(stamp.dispatched_at), now);
        // The silence brings the listener past what is missing, or else the packet does.
        numbers.start = numbers.start.max(self.silent.end);
        self.after = Some(Packet { numbers, bytes: delivery.item.value.clone() });
    }

    fn missed(&mut self, gap: Gap) {
        self.presence.listener().missed(gap.blocks);
        self.first = self.encoding.encode_gap(gap);
        if self.silence.is_some() {
            self.silent = gap.from..gap.from + gap.blocks;
        }
    }

    /// What goes out next of what was taken.
    fn next_piece(&mut self) -> Option<Bytes> {
        let listener = self.presence.listener();
        if let Some(first) = self.first.take() {
            listener.wire().hand_over();
            return Some(first);
        }
        let now = Timestamp::now();
        if let (Some(number), Some(silence)) = (self.silent.next(), &self.silence) {
            listener.hand_over(number..number + 1, silence.len(), false, now);
            return Some(silence.clone());
        }
        let Packet { numbers, bytes } = self.after.take()?;
        listener.hand_over(numbers, bytes.len(), true, now);
        Some(bytes)
    }
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        ready!(self.poll_clear(context));
        loop {
            if let Some(piece) = self.next_piece() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if self.over {
                return Poll::Ready(None);
            }
            ready!(self.poll_take(context));
        }
    }
}
