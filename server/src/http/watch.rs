//! The endless body of `/api/v1/watch`: the status and the listeners furthest behind, as server-sent events.
//!
//! Event `status` is the document of `/api/v1/status`, five times a second. Event `listeners` has the number of listeners
//! as `count`, and as `rows` the 200 that are furthest behind, twice a second, or once where there are many. Event `audience` comes with it
//! where the listeners of other servers are gathered: the document of `/api/v1/audience`, with as many rows. Event `mounts` is the document
//! of `/api/v1/mounts`, once a second where there are several, and else once and when that changes.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http_body::{Body, Frame};
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::http::api;
use crate::http::audience::recent_audience;
use crate::http::server::Server;
use crate::mounts::ServedMount;

/// The pace of the level meters.
const STATUS_INTERVAL: Duration = Duration::from_millis(200);
/// The table comes with every third status, so that a listener that stands still is seen within a second or two.
const TABLE_TICKS: u32 = 3;
/// The list of mounts comes with every fifth status: once a second, which is enough to see which of them sounds.
const MOUNTS_TICKS: u32 = 5;
/// With so many rows, which are 50 KB, the table comes half as often.
const MANY_LISTENERS: usize = 100;

/// What a page shows, pushed to it until it or the server ends. A reader that is too slow gets the newest, less often.
#[derive(Debug)]
pub(super) struct WatchBody {
    server: Arc<Server>,
    served: Arc<ServedMount>,
    closing: watch::Receiver<bool>,
    ticks: Interval,
    /// Ticks until the table is sent again.
    until_table: u32,
    /// Ticks until the list of mounts is looked at again.
    until_mounts: u32,
    /// The number of mounts in the list that was sent last.
    mounts: usize,
}

impl WatchBody {
    /// Makes the body, with the status of a mount. It ends once `closing` is true, or when the mount is removed.
    pub(super) fn new(server: Arc<Server>, served: Arc<ServedMount>, closing: watch::Receiver<bool>) -> Self {
        // The first tick comes at once.
        let mut ticks = interval(STATUS_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { server, served, closing, ticks, until_table: 0, until_mounts: 0, mounts: 0 }
    }

    fn events(&mut self) -> Bytes {
        let mut events = BytesMut::new();
        write_event(&mut events, "status", &api::recent_status(&self.server, &self.served));
        if self.until_table == 0 {
            let table = self.server.recent_worst();
            write_event(&mut events, "listeners", &table.pushed());
            if self.server.gathering().is_some() {
                write_event(&mut events, "audience", &recent_audience(&self.server));
            }
            let times = if table.count() > MANY_LISTENERS { 2 } else { 1 };
            self.until_table = TABLE_TICKS * times;
        }
        self.until_table -= 1;
        if self.until_mounts == 0 {
            let mounts = self.server.mounts().all().len();
            if mounts > 1 || mounts != self.mounts {
                write_event(&mut events, "mounts", &api::recent_mounts(&self.server));
            }
            (self.mounts, self.until_mounts) = (mounts, MOUNTS_TICKS);
        }
        self.until_mounts -= 1;
        events.freeze()
    }
}

fn write_event(events: &mut BytesMut, name: &str, json: &[u8]) {
    for part in [b"event: ", name.as_bytes(), b"\ndata: ", json, b"\n\n"] {
        events.put_slice(part);
    }
}

impl Body for WatchBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        ready!(self.ticks.poll_tick(context));
        if *self.closing.borrow() || self.served.mount.is_removed() {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(Frame::data(self.events()))))
    }
}
