//! One listener as the API shows it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::Fault;

/// A row of `/api/v1/listeners`. Times are Unix seconds, spans are seconds.
///
/// At every moment `offered = delivered + lost + queued`, in blocks counted from the listener's first one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListenerRow {
    /// Unique while the server runs.
    pub id: u64,
    /// The name that the listener gave itself, or an empty string.
    pub name: String,
    /// The mount that it listens to; empty from an older server.
    #[serde(default)]
    pub mount: String,
    /// Address and port of the listener's program: the connection's far end, or what a trusted proxy there tells of it, which is often
    /// no port.
    pub remote: String,
    /// The address of the proxy through which it listens; `null` without one.
    #[serde(default)]
    pub via: Option<String>,
    /// The name of the token that it listens by; `null` if it needed none.
    #[serde(default)]
    pub token: Option<String>,
    /// The name of the [`Rendition`](crate::Rendition) that it listens to; a newer server may have more of them.
    pub format: Cow<'static, str>,
    /// The overflow policy.
    pub overflow: String,
    /// When it connected.
    pub connected_at: f64,
    /// Blocks since its first one.
    pub offered: u64,
    /// Blocks written to its connection.
    pub delivered: u64,
    /// Blocks that it never gets.
    pub lost: u64,
    /// Blocks in its ring, and the one that is being written.
    pub queued: u64,
    /// The distance from the last block that its program has read to the live head, as far as the server can see.
    pub lag_seconds: f64,
    /// The least and the most that this distance can be, as far as acknowledgements and the receive window of its machine show it;
    /// `null` from an older server. Both are equal to `lag_seconds` where that is exact.
    #[serde(default)]
    pub lag_at_least_seconds: Option<f64>,
    /// See `lag_at_least_seconds`.
    #[serde(default)]
    pub lag_at_most_seconds: Option<f64>,
    /// The part of the lag that the listener requested with `burst` or `from`.
    #[serde(default)]
    pub burst_seconds: f64,
    /// The lag beyond which it is skipped to live or ended; `null` without a limit.
    #[serde(default)]
    pub max_lag_seconds: Option<f64>,
    /// The median of its lag over the blocks that were due to it, without the requested part.
    pub lag_p50_seconds: Option<f64>,
    /// The 99th percentile of the same.
    pub lag_p99_seconds: Option<f64>,
    /// The maximum of the same.
    pub lag_max_seconds: Option<f64>,
    /// Number of gaps, with one that still grows.
    pub gaps: u64,
    /// Blocks of the longest gap.
    pub gap_max_blocks: u64,
    /// The part of the lag that the server has not handed to the connection: queued in its ring, or lost there.
    #[serde(default)]
    pub undelivered_seconds: f64,
    /// The part of `undelivered_seconds` that is lost, because the ring was full.
    #[serde(default)]
    pub undelivered_lost_seconds: f64,
    /// Bytes handed to the connection and not yet acknowledged by the listener's machine.
    pub socket_queued_bytes: u64,
    /// The part of the lag in these bytes.
    pub socket_queued_seconds: f64,
    /// The part of the lag that the listener's machine has received and its program has not read.
    #[serde(default)]
    pub unread_seconds: f64,
    /// The sound in the listener's machine that it will hear late when it reads again: delivered, unread, and not requested.
    #[serde(default)]
    pub stale_seconds: f64,
    /// The server's verdict on the lag.
    #[serde(default)]
    pub verdict: Verdict,
    /// What the listener does, in words: `reads` if all is well. Empty from an older server.
    #[serde(default)]
    pub state: String,
    /// The place where the cause of the lag is; `null` while `verdict` is `ok`.
    #[serde(default)]
    pub fault: Option<Fault>,
    /// Latencies by stage.
    #[serde(default)]
    pub latency_seconds: LatencyByStage,
}

/// The server's verdict on a listener's lag, without the requested part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The listener keeps up.
    #[default]
    Ok,
    /// It has used a quarter of its buffer, or half of its limit of lag.
    Behind,
    /// It has used three quarters of its buffer or of its limit of lag.
    FarBehind,
    /// A verdict of a newer server.
    #[serde(other)]
    Unknown,
}

/// Latencies of one listener by stage, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LatencyByStage {
    /// From the dispatch of a block to the listener's connection.
    #[serde(default)]
    pub queue: Percentiles,
    /// From the connection until the listener's machine has acknowledged the block.
    #[serde(default)]
    pub socket: Percentiles,
    /// From the capture of a block until the acknowledgement of the listener's machine proves that its program has read it.
    /// Absent without such proofs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<Percentiles>,
    /// From the capture of a block until the listener's player says that it is heard. Absent without such reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ear: Option<Percentiles>,
}

/// Median, 99th percentile and maximum in seconds; `null` before the first value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// The median.
    pub p50: Option<f64>,
    /// The 99th percentile.
    pub p99: Option<f64>,
    /// The maximum.
    #[serde(default)]
    pub max: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_with_names_of_a_newer_server_is_read() {
        let row = serde_json::json!({
            "id": 1, "name": "", "remote": "", "format": "mp3", "overflow": "pause", "connected_at": 0.0, "offered": 0,
            "delivered": 0, "lost": 0, "queued": 0, "lag_seconds": 0.0, "lag_p50_seconds": null,
            "lag_p99_seconds": null, "lag_max_seconds": null, "gaps": 0, "gap_max_blocks": 0, "socket_queued_bytes": 0,
            "socket_queued_seconds": 0.0, "verdict": "hopeless", "fault": "moon",
        });
        let row: ListenerRow = serde_json::from_value(row).unwrap();
        assert_eq!((&*row.format, row.verdict, row.fault), ("mp3", Verdict::Unknown, Some(Fault::Unknown)));
    }
}
