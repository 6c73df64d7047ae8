//! The endless body of `/api/v1/events`: the log of events, as server-sent events.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use aircheck_api::Event;
use aircheck_engine::{Consumer, Gap, Timestamp};
use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Without events, a comment is sent this often: below the minute after which proxies close a connection.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// Sends events as they happen, until the server ends.
#[derive(Debug)]
pub(super) struct EventsBody {
    events: Consumer<Event>,
    /// The event that follows the notice of a gap.
    after_gap: Option<Bytes>,
    keep_alive: Interval,
    over: bool,
}

impl EventsBody {
    pub(super) fn new(events: Consumer<Event>) -> Self {
        // The first tick comes at once, and shows the reader that the connection works.
        let mut keep_alive = interval(KEEP_ALIVE_INTERVAL);
        keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { events, after_gap: None, keep_alive, over: false }
    }

    fn poll_text(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(event) = self.after_gap.take() {
            return Poll::Ready(Some(event));
        }
        if self.over {
            return Poll::Ready(None);
        }
        match self.events.poll_recv(context, Timestamp::now()) {
            Poll::Ready(Ok(delivery)) => {
                let event = text(delivery.item.stamp.sequence, &delivery.item.value);
                Poll::Ready(Some(match delivery.gap {
                    Some(gap) => {
                        self.after_gap = Some(event);
                        gap_text(gap)
                    }
                    None => event,
                }))
            }
            Poll::Ready(Err(end)) => {
                self.over = true;
                Poll::Ready(end.gap.map(gap_text))
            }
            Poll::Pending => self.keep_alive.poll_tick(context).map(|_| Some(Bytes::from_static(b":\n\n"))),
        }
    }
}

fn text(number: u64, event: &Event) -> Bytes {
    // Fails for maps without string keys and for failing writers, of which there are none.
    let json = serde_json::to_string(event).unwrap_or_default();
    format!("id: {number}\nevent: {}\ndata: {}\n\n", event.kind.name(), json).into()
}

/// Returns the notice of missed events, for a reader that is too slow or comes back too late.
fn gap_text(gap: Gap) -> Bytes {
    let last = gap.from + gap.items - 1;
    format!("id: {last}\nevent: gap\ndata: {{\"event\":\"gap\",\"from\":{},\"events\":{}}}\n\n", gap.from, gap.items)
        .into()
}

impl Body for EventsBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.poll_text(context).map(|text| text.map(|text| Ok(Frame::data(text))))
    }
}
