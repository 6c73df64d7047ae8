//! The endless body of a listener's response: takes packets from its ring as fast as its connection takes them.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use aircheck_engine::{Consumer, Timestamp};
use bytes::Bytes;
use http_body::{Body, Frame};

use crate::encode::Encoding;
use crate::listeners::Presence;
use crate::metrics::MountMetrics;

/// The body of a stream. It ends when the stream does, or when somebody disconnects the listener.
#[derive(Debug)]
pub struct StreamBody {
    /// Dropped before `presence`, so that the account is final when the listener is taken off the list.
    packets: Consumer<Bytes>,
    encoding: Encoding,
    /// What goes out before anything else.
    header: Option<Bytes>,
    /// A packet whose gap has just gone out.
    after_gap: Option<Bytes>,
    /// The end has been told.
    over: bool,
    metrics: MountMetrics,
    presence: Presence,
}

impl StreamBody {
    /// A body that starts with `header` and goes on with `packets`.
    #[must_use]
    pub fn new(
        packets: Consumer<Bytes>,
        encoding: Encoding,
        header: Option<Bytes>,
        metrics: MountMetrics,
        presence: Presence,
    ) -> Self {
        Self { packets, encoding, header, after_gap: None, over: false, metrics, presence }
    }

    /// The next piece, and whether it is a block.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<(Bytes, bool)>> {
        if let Some(header) = self.header.take() {
            return Poll::Ready(Some((header, false)));
        }
        if let Some(packet) = self.after_gap.take() {
            return Poll::Ready(Some((packet, true)));
        }
        if self.over {
            return Poll::Ready(None);
        }
        let now = Timestamp::now();
        let told = match ready!(self.packets.poll_recv(context, now)) {
            Ok(delivery) => {
                let queued = now.since(delivery.item.stamp.dispatched_at);
                self.metrics.delivered(self.presence.listener().seconds(delivery.lag_items), queued);
                let packet = delivery.item.value.clone();
                let Some(gap) = delivery.gap else { return Poll::Ready(Some((packet, true))) };
                self.metrics.gap(gap.blocks);
                match self.encoding.encode_gap(gap) {
                    Some(told) => {
                        self.after_gap = Some(packet);
                        Some(told)
                    }
                    None => return Poll::Ready(Some((packet, true))),
                }
            }
            Err(end) => {
                self.over = true;
                end.gap.and_then(|gap| {
                    self.metrics.gap(gap.blocks);
                    self.encoding.encode_gap(gap)
                })
            }
        };
        Poll::Ready(told.map(|told| (told, false)))
    }
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = ready!(self.poll_piece(context));
        Poll::Ready(piece.map(|(bytes, is_block)| {
            self.presence.listener().hand_over(bytes.len(), is_block);
            Ok(Frame::data(bytes))
        }))
    }
}
