//! The endless body of a listener's response: writes packets as fast as the connection takes them.

use std::convert::Infallible;
use std::mem;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aircheck_engine::{Gap, Timestamp};
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};
use tokio::time::{Instant, Sleep, sleep};

use crate::delivery::packet_reader::{Next, PacketReader, PendingBlocks};
use crate::rendition::container::framing::{Framing, GapFill};

/// The body of a stream. It ends with the stream, or when the listener is disconnected.
#[derive(Debug)]
pub struct StreamBody {
    packets: PacketReader,
    framing: Framing,
    /// Bytes that are written before anything else: a header, or the notice of a gap.
    head_bytes: Option<Bytes>,
    /// Lost blocks whose silence is still to be written, and the silence of one block.
    silent_numbers: Range<u64>,
    silence: Bytes,
    /// The packet that is written after these.
    packet: Option<Bytes>,
    /// Blocks that are written with the next packet.
    pending: PendingBlocks,
    /// Whether the ring is empty for good.
    is_over: bool,
    /// Bytes that are written last.
    end_bytes: Option<Bytes>,
    gathering: Option<Gathering>,
}

/// The state of a listener that gets its packets several at a time.
#[derive(Debug)]
struct Gathering {
    interval: Duration,
    /// The wait before packets are taken from the ring again.
    pause: Pin<Box<Sleep>>,
    bytes: BytesMut,
}

impl StreamBody {
    /// Makes the body of the packets that `packets` reads, framed by `framing`. With a `gather` above zero, packets wait in
    /// the listener's ring for that long, count as its lag there, and are written together.
    #[must_use]
    pub fn new(packets: PacketReader, mut framing: Framing, gather: Duration) -> Self {
        let head_bytes = framing.header();
        let gathering = (!gather.is_zero()).then(|| Gathering {
            interval: gather,
            // The first time, packets that are there are written at once.
            pause: Box::pin(sleep(Duration::ZERO)),
            bytes: BytesMut::new(),
        });
        Self {
            packets,
            framing,
            head_bytes,
            silent_numbers: 0..0,
            silence: Bytes::new(),
            packet: None,
            pending: PendingBlocks::default(),
            is_over: false,
            end_bytes: None,
            gathering,
        }
    }

    /// Polls whether hyper has written all earlier bytes, so that its buffer never holds more than one packet.
    fn poll_flushed(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.packets.listener().socket().is_flushed() {
            return Poll::Ready(());
        }
        // Without anything to write, the arrival of the next packet is early enough. Gathering listeners are not woken by
        // single packets.
        let has_bytes = self.gathering.is_some()
            || self.head_bytes.is_some()
            || !self.silent_numbers.is_empty()
            || self.packet.is_some()
            || self.is_over;
        if has_bytes || self.packets.poll_ready(context).is_ready() {
            self.packets.listener().socket().await_flush();
        }
        Poll::Pending
    }

    fn accept(&mut self, next: &Next) {
        if let Some(gap) = next.gap() {
            self.fill(gap);
        }
        match next {
            Next::Packet { gap, item } => {
                // Silence, if there is any, brings the listener past the gap; else the packet does.
                let gap = gap.filter(|_| self.silent_numbers.is_empty());
                self.pending.add(gap, item.stamp.sequence);
                self.packet = self.framing.packet(&item.value);
            }
            Next::End { tail, .. } => {
                self.is_over = true;
                self.end_bytes = self.framing.end(tail.get().map_or(&[], Vec::as_slice));
            }
        }
    }

    fn fill(&mut self, gap: Gap) {
        match self.framing.fill(gap) {
            GapFill::Nothing => {}
            GapFill::Notice(notice) => self.head_bytes = Some(notice),
            GapFill::Silence(silence, numbers) => (self.silence, self.silent_numbers) = (silence, numbers),
        }
    }

    /// Returns the next bytes to write, made of packets that were taken from the ring.
    fn next_bytes(&mut self) -> Option<Bytes> {
        let listener = self.packets.listener();
        if let Some(first) = self.head_bytes.take() {
            listener.socket().begin_write();
            return Some(first);
        }
        let now = Timestamp::now();
        if let Some(number) = self.silent_numbers.next() {
            listener.record_write(number..number + 1, self.silence.len(), 0, now);
            return Some(self.silence.clone());
        }
        let bytes = self.packet.take().or_else(|| self.end_bytes.take())?;
        match mem::take(&mut self.pending) {
            PendingBlocks { blocks: 0, .. } => drop(listener.socket().begin_write()),
            PendingBlocks { numbers, blocks } => listener.record_write(numbers, bytes.len(), blocks, now),
        }
        Some(bytes)
    }

    /// Polls whether the pause is over, and then takes all packets from the ring.
    fn poll_gathered(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(gathering) = &mut self.gathering else { return Poll::Ready(()) };
        let listener = self.packets.listener();
        listener.wake_at_end(context.waker());
        if listener.is_ending() {
            ready!(self.packets.poll_ready(context));
        } else {
            ready!(gathering.pause.as_mut().poll(context));
        }
        ready!(self.packets.poll_hold(context));
        gathering.pause.as_mut().reset(Instant::now() + gathering.interval);
        let mut bytes = mem::take(&mut gathering.bytes);
        while !self.is_over
            && let Some(next) = self.packets.try_next()
        {
            self.accept(&next);
            // Silence in place of lost blocks is not gathered, because there may be hours of it.
            for part in [self.head_bytes.take(), self.packet.take()].into_iter().flatten() {
                bytes.extend_from_slice(&part);
            }
        }
        if !bytes.is_empty() {
            self.packet = Some(bytes.split().freeze());
        }
        if let Some(gathering) = &mut self.gathering {
            gathering.bytes = bytes;
        }
        Poll::Ready(())
    }
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        ready!(self.poll_flushed(context));
        loop {
            if let Some(bytes) = self.next_bytes() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            if self.is_over {
                return Poll::Ready(None);
            }
            if self.gathering.is_some() {
                ready!(self.poll_gathered(context));
                continue;
            }
            let next = ready!(self.packets.poll_next(context));
            self.accept(&next);
        }
    }
}
