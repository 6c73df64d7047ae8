//! The whole audience: the listeners of a server, and those of other servers, its edges.

use serde::{Deserialize, Serialize};

use crate::ListenerRow;

/// The version of [`EdgeReport`]. Another one cannot be read; a field more is no other version.
pub const REPORT_VERSION: u32 = 1;

/// What an edge tells of its listeners once a second, as a message of NATS. Its subject ends with the name of the edge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EdgeReport {
    /// The version, [`REPORT_VERSION`].
    pub report_version: u32,
    /// The run of the edge, which no other run and no other edge has.
    pub run: String,
    /// When the figures were taken, in nanoseconds of a clock of the edge that never jumps.
    pub made_nanos: u64,
    /// Whether the edge ends, in order, and has no listeners any more.
    #[serde(default)]
    pub is_last: bool,
    /// Over all its listeners.
    #[serde(flatten)]
    pub totals: AudienceTotals,
    /// The rows of those furthest behind, the furthest first.
    pub rows: Vec<ListenerRow>,
}

/// Totals over the listeners of one server. At every moment `offered = delivered + lost + queued`, in blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AudienceTotals {
    /// Listeners that are present.
    pub listeners: u64,
    /// Those of them that have fallen behind.
    pub behind: u64,
    /// The lag of the one furthest behind, without the part that it requested; `null` without listeners.
    pub worst_lag_seconds: Option<f64>,
    /// Blocks since the start of the server, of present listeners and those that are gone.
    pub offered: u64,
    /// Blocks written to their connections.
    pub delivered: u64,
    /// Blocks that they never get.
    pub lost: u64,
    /// Blocks that wait for those that are present.
    pub queued: u64,
}

/// The document of `/api/v1/audience`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Audience {
    /// The server's clock.
    pub now: f64,
    /// Listeners here and at the edges that are heard.
    pub listeners: u64,
    /// Listeners that edges told of before they fell silent. Whether these are still there is not known.
    pub silent_listeners: u64,
    /// Listeners among both whose rows their edges have not sent: only those furthest behind are.
    pub left_off: u64,
    /// The totals of this server.
    pub here: AudienceTotals,
    /// The edges, by name.
    pub edges: Vec<EdgeStatus>,
    /// The rows, those of this server included.
    pub rows: Vec<AudienceRow>,
}

/// An edge as a server knows it that gathers its reports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EdgeStatus {
    /// Its name.
    pub name: String,
    /// How old its figures are.
    pub age_seconds: f64,
    /// Whether they are so old that they count in no total: it has fallen silent, or its reports come late.
    #[serde(rename = "silent")]
    pub is_silent: bool,
    /// Its listeners whose rows it has not sent.
    pub left_off: u64,
    /// Over all its listeners.
    #[serde(flatten)]
    pub totals: AudienceTotals,
}

/// A row of the audience: that of a listener at its server, with the name of that.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AudienceRow {
    /// The edge; `null` for the server that was asked. `id` is unique at its edge alone.
    pub edge: Option<String>,
    /// How old the figures are.
    pub age_seconds: f64,
    /// Whether the edge has fallen silent.
    #[serde(rename = "silent")]
    pub is_silent: bool,
    /// The figures.
    #[serde(flatten)]
    pub row: ListenerRow,
}

/// The state of the gathering, in the status.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GatherStatus {
    /// The NATS server and the subject.
    pub from: String,
    /// Whether the connection to NATS is there.
    #[serde(rename = "connected")]
    pub is_connected: bool,
    /// The reason why it is not; `null` while it is.
    pub failure: Option<String>,
    /// How often it was made again.
    pub reconnects: u64,
    /// Edges that are heard.
    pub edges: u64,
    /// Edges that have fallen silent a moment ago.
    pub silent_edges: u64,
    /// Edges that were silent for so long that they are no longer shown.
    pub dropped_edges: u64,
    /// How often messages found the subscription full, because this server was too slow.
    pub slow_consumer_events: u64,
    /// The messages that came, by what became of them.
    pub messages: ReportMessages,
}

/// Messages with reports, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReportMessages {
    /// Reports that are shown, or were until a newer one came.
    pub taken: u64,
    /// Reports that came after a newer one.
    pub late: u64,
    /// Reports of another server with the name of an edge that is heard.
    pub foreign: u64,
    /// Reports of further edges than can be gathered.
    pub full: u64,
    /// Messages that are longer than any report.
    pub too_long: u64,
    /// Messages of another version.
    pub version: u64,
    /// Other messages.
    pub malformed: u64,
}

impl ReportMessages {
    /// Returns the counts with their names.
    #[must_use]
    pub fn by_name(&self) -> [(&'static str, u64); 7] {
        let Self { taken, late, foreign, full, too_long, version, malformed } = *self;
        [
            ("taken", taken),
            ("late", late),
            ("foreign", foreign),
            ("full", full),
            ("too_long", too_long),
            ("version", version),
            ("malformed", malformed),
        ]
    }
}

/// The state of the reports that a server sends, in the status.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReportStatus {
    /// The NATS server and the subject.
    pub to: String,
    /// The name under which it reports.
    pub name: String,
    /// Whether the connection to NATS is there.
    #[serde(rename = "connected")]
    pub is_connected: bool,
    /// The reason why it is not; `null` while it is.
    pub failure: Option<String>,
    /// How often it was made again.
    pub reconnects: u64,
    /// Reports that were handed to NATS.
    pub sent: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_fields_of_the_listener_beside_its_edge() {
        let row = serde_json::json!({
            "edge": "berlin", "age_seconds": 0.5, "silent": false,
            "id": 1, "name": "", "remote": "", "format": "wav", "overflow": "", "connected_at": 0.0, "offered": 7,
            "delivered": 7, "lost": 0, "queued": 0, "lag_seconds": 0.25, "lag_p50_seconds": null,
            "lag_p99_seconds": null, "lag_max_seconds": null, "gaps": 0, "gap_max_blocks": 0, "socket_queued_bytes": 0,
            "socket_queued_seconds": 0.0,
        });
        let row: AudienceRow = serde_json::from_value(row).unwrap();
        assert_eq!((row.edge.as_deref(), row.row.id, row.row.lag_seconds), (Some("berlin"), 1, 0.25));
        let json = serde_json::to_value(&row).unwrap();
        assert_eq!((&json["edge"], &json["offered"], &json["silent"]), (&"berlin".into(), &7.into(), &false.into()));
    }
}
