//! The endless body of a listener's response: takes packets from its ring as fast as its connection takes them.

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

/// The body of a stream. It ends when the stream does, or when somebody disconnects the listener.
#[derive(Debug)]
pub struct StreamBody {
    packets: PacketReader,
    framing: Framing,
    /// What goes out before anything else: a header, or the news of a gap.
    first: Option<Bytes>,
    /// Lost blocks whose silence has yet to go out, and the silence of one.
    silent: Range<u64>,
    silence: Bytes,
    /// A packet that waits for these.
    after: Option<Bytes>,
    /// The blocks that go out with the next packet.
    pending: PendingBlocks,
    /// There is no more to take; what goes out last.
    over: bool,
    last: Option<Bytes>,
    gathering: Option<Gathering>,
}

/// For a listener who would rather have packets seldom than soon.
#[derive(Debug)]
struct Gathering {
    every: Duration,
    /// Until it is over, nothing is taken.
    pause: Pin<Box<Sleep>>,
    bytes: BytesMut,
}

impl StreamBody {
    /// What `packets` gives, as `framing` has it. Packets are gathered for `gather`, if that is anything, and then go out
    /// together; until then they wait in the listener's ring, and count as its lag.
    #[must_use]
    pub fn new(packets: PacketReader, mut framing: Framing, gather: Duration) -> Self {
        let first = framing.header();
        let (silent, silence) = (0..0, Bytes::new());
        let gathering = (!gather.is_zero()).then(|| Gathering {
            every: gather,
            // At first, what is there goes out at once.
            pause: Box::pin(sleep(Duration::ZERO)),
            bytes: BytesMut::new(),
        });
        Self {
            packets,
            framing,
            first,
            silent,
            silence,
            after: None,
            pending: PendingBlocks::default(),
            over: false,
            last: None,
            gathering,
        }
    }

    /// Waits until hyper has written what it was given before, so that no more than one packet is ever in its buffer.
    fn poll_clear(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.packets.listener().socket().is_clear() {
            return Poll::Ready(());
        }
        // With nothing to hand over, the next packet's arrival is early enough. Who gathers is not woken by that.
        let waits = self.gathering.is_some()
            || self.first.is_some()
            || !self.silent.is_empty()
            || self.after.is_some()
            || self.over;
        if waits || self.packets.poll_ready(context).is_ready() {
            self.packets.listener().socket().want_clear();
        }
        Poll::Pending
    }

    fn taken(&mut self, taken: &Next) {
        if let Some(gap) = taken.gap() {
            self.missed(gap);
        }
        match taken {
            Next::Packet { gap, item } => {
                // Silence brings the listener past what is missing, or else the packet does.
                let gap = gap.filter(|_| self.silent.is_empty());
                self.pending.add(gap, item.stamp.sequence);
                self.after = self.framing.packet(&item.value);
            }
            Next::End { tail, .. } => {
                self.over = true;
                self.last = self.framing.end(tail.get().map_or(&[], Vec::as_slice));
            }
        }
    }

    fn missed(&mut self, gap: Gap) {
        match self.framing.instead(gap) {
            GapFill::Nothing => {}
            GapFill::News(news) => self.first = Some(news),
            GapFill::Silence(silence, numbers) => (self.silence, self.silent) = (silence, numbers),
        }
    }

    /// What goes out next of what was taken.
    fn next_piece(&mut self) -> Option<Bytes> {
        let listener = self.packets.listener();
        if let Some(first) = self.first.take() {
            listener.socket().write();
            return Some(first);
        }
        let now = Timestamp::now();
        if let Some(number) = self.silent.next() {
            listener.write(number..number + 1, self.silence.len(), 0, now);
            return Some(self.silence.clone());
        }
        let bytes = self.after.take().or_else(|| self.last.take())?;
        match mem::take(&mut self.pending) {
            PendingBlocks { blocks: 0, .. } => drop(listener.socket().write()),
            PendingBlocks { numbers, blocks } => listener.write(numbers, bytes.len(), blocks, now),
        }
        Some(bytes)
    }

    /// Waits until enough time has passed, and takes all that is there by then.
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
        gathering.pause.as_mut().reset(Instant::now() + gathering.every);
        let mut bytes = mem::take(&mut gathering.bytes);
        while !self.over
            && let Some(taken) = self.packets.try_next()
        {
            self.taken(&taken);
            // Silence in place of lost blocks is not gathered: there may be hours of it.
            for piece in [self.first.take(), self.after.take()].into_iter().flatten() {
                bytes.extend_from_slice(&piece);
            }
        }
        if !bytes.is_empty() {
            self.after = Some(bytes.split().freeze());
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
        ready!(self.poll_clear(context));
        loop {
            if let Some(piece) = self.next_piece() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if self.over {
                return Poll::Ready(None);
            }
            if self.gathering.is_some() {
                ready!(self.poll_gathered(context));
                continue;
            }
            let taken = ready!(self.packets.poll_next(context));
            self.taken(&taken);
        }
    }
}
