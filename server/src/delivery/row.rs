//! A listener's row in `/api/v1/listeners`.

use std::time::Duration;

use aircheck_api::{LatencyByStage, ListenerRow, Percentiles, Verdict};
use aircheck_engine::{Summary, Timestamp};

use crate::delivery::listener::Listener;
use crate::delivery::own_histograms::Measure;
use crate::delivery::state::state;

impl Listener {
    /// Returns the listener's row.
    #[must_use]
    pub fn row(&self, now: Timestamp) -> ListenerRow {
        let standing = self.standing(now);
        let snapshot = &standing.snapshot;
        // Together, because the shard holds the listener's lock for the length of a write.
        let measures = [Measure::Gap, Measure::Lag, Measure::Queue, Measure::Socket, Measure::Read, Measure::Ear];
        let ([gaps, lag, queue, socket, read, ear], open_gap) = self.summaries(measures);
        let seconds = |blocks| self.mount().seconds(blocks);
        let lag = percentiles_of(lag, seconds);
        let verdict = standing.verdict(&self.limits());
        ListenerRow {
            id: self.id(),
            name: self.name().to_owned(),
            mount: self.mount().name().to_owned(),
            remote: self.client().to_string(),
            via: self.client().via(),
            token: self.granted().as_ref().map(|token| token.name.clone()),
            format: self.rendition().name().into(),
            overflow: self.overflow().label().to_owned(),
            connected_at: self.connected_at().unix_seconds(),
            offered: snapshot.offered,
            delivered: snapshot.delivered,
            lost: snapshot.lost.total(),
            queued: snapshot.queued,
            lag_seconds: seconds(standing.lag()),
            lag_at_least_seconds: Some(seconds(*standing.lag_bounds().start())),
            lag_at_most_seconds: Some(seconds(*standing.lag_bounds().end())),
            burst_seconds: seconds(standing.burst),
            max_lag_seconds: self.limits().max_lag.map(seconds),
            lag_p50_seconds: lag.p50,
            lag_p99_seconds: lag.p99,
            lag_max_seconds: lag.max,
            gaps: gaps.map_or(0, |gaps| gaps.count) + u64::from(open_gap > 0),
            gap_max_blocks: gaps.map_or(0, |gaps| gaps.max).max(open_gap),
            undelivered_seconds: seconds(standing.undelivered),
            undelivered_lost_seconds: seconds(standing.undelivered_lost),
            socket_queued_bytes: standing.socket_bytes,
            socket_queued_seconds: seconds(standing.socket),
            unread_seconds: seconds(standing.unread),
            stale_seconds: seconds(standing.stale),
            verdict,
            state: state(&standing, verdict, seconds),
            fault: (verdict != Verdict::Ok).then(|| standing.fault()),
            latency_seconds: latencies([queue, socket, read, ear], standing.waiting),
        }
    }
}

/// Returns the lag that a listener did not request, in seconds.
#[must_use]
pub fn unrequested_seconds(row: &ListenerRow) -> f64 {
    (row.lag_seconds - row.burst_seconds).max(0.0)
}

/// Returns the same in milliseconds, for the order of rows. Below a tenth of a second it counts as none: it is a block or two, and
/// in the order of their lag, the rows of healthy listeners would never rest.
#[must_use]
pub fn steady_lag_millis(row: &ListenerRow) -> u64 {
    let millis = (unrequested_seconds(row) * 1000.0) as u64;
    if millis < 100 { 0 } else { millis }
}

/// Converts the latencies of stages `queue`, `socket`, `read` and `ear`. A packet has waited for so long in the socket.
fn latencies([queue, socket, read, ear]: [Option<Summary>; 4], waiting: Duration) -> LatencyByStage {
    let mut socket = percentiles(socket);
    // A packet that still waits has waited that long already.
    socket.max = socket.max.map(|max| max.max(waiting.as_secs_f64()));
    LatencyByStage {
        queue: percentiles(queue),
        socket,
        read: read.map(|read| percentiles(Some(read))),
        ear: ear.map(|ear| percentiles(Some(ear))),
    }
}

/// Converts figures in microseconds.
#[must_use]
pub fn percentiles(micros: Option<Summary>) -> Percentiles {
    percentiles_of(micros, |micros| Duration::from_micros(micros).as_secs_f64())
}

fn percentiles_of(summary: Option<Summary>, seconds: impl Fn(u64) -> f64) -> Percentiles {
    summary.map_or_else(Percentiles::default, |summary| Percentiles {
        p50: Some(seconds(summary.p50)),
        p99: Some(seconds(summary.p99)),
        max: Some(seconds(summary.max)),
    })
}
