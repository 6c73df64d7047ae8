//! What the server says of itself and of its listeners, as far as it is shown.
//!
//! Whatever is text is cleaned here, where it comes in: a listener chooses its own name, and nothing in it may reach the
//! terminal as anything but letters. Names of fields are those of the server's JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use crate::units as words;

/// Longer than any name that a server takes: a bound for what is no aircheck's.
const TEXT_MOST: usize = 300;

/// `/api/v1/status`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Status {
    /// `live`, `silent` or `ended`.
    #[serde(deserialize_with = "plain")]
    pub(crate) state: String,
    pub(crate) source: Source,
    pub(crate) format: Sound,
    /// Unix seconds by the server's clock, as is `now`.
    pub(crate) started_at: f64,
    pub(crate) now: f64,
    pub(crate) capture: Capture,
    /// A level for each channel.
    pub(crate) level: Vec<Level>,
    #[serde(default)]
    pub(crate) latency_seconds: Latencies,
    pub(crate) listeners: u64,
    pub(crate) max_listeners: u64,
    /// The lag that is too much for a listener without a limit of its own.
    pub(crate) buffer_seconds: f64,
    pub(crate) recording: Option<Recording>,
}

/// Where the sound comes from.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Source {
    #[serde(deserialize_with = "plain")]
    pub(crate) description: String,
    /// Why there is none any more.
    #[serde(default, deserialize_with = "plain_if_any")]
    pub(crate) failure: Option<String>,
}

/// What the sound is.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Sound {
    pub(crate) rate_hz: u32,
    pub(crate) channels: u16,
    pub(crate) block_seconds: f64,
}

/// What the capture has done so far, in blocks.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Capture {
    pub(crate) blocks: u64,
    pub(crate) lost_overflow: u64,
    pub(crate) lost_xrun: u64,
}

/// How loud a channel is; nothing where there is no sound.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Level {
    pub(crate) peak_dbfs: Option<f64>,
    pub(crate) rms_dbfs: Option<f64>,
}

/// What is recorded at the server.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Recording {
    pub(crate) lost: u64,
    #[serde(default, deserialize_with = "plain_if_any")]
    pub(crate) failing: Option<String>,
}

/// Seconds by stage.
pub(crate) type Latencies = BTreeMap<String, Spread>;

/// A distribution in seconds; nothing before the first value.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) struct Spread {
    pub(crate) p50: Option<f64>,
    pub(crate) p99: Option<f64>,
}

/// A row of `/api/v1/listeners`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Row {
    pub(crate) id: u64,
    #[serde(deserialize_with = "plain")]
    pub(crate) name: String,
    #[serde(deserialize_with = "plain")]
    pub(crate) remote: String,
    #[serde(deserialize_with = "plain")]
    pub(crate) format: String,
    #[serde(deserialize_with = "plain")]
    pub(crate) overflow: String,
    pub(crate) connected_at: f64,
    pub(crate) offered: u64,
    pub(crate) lost: u64,
    pub(crate) lag_seconds: f64,
    #[serde(default)]
    pub(crate) burst_seconds: f64,
    #[serde(default)]
    pub(crate) max_lag_seconds: Option<f64>,
    pub(crate) lag_p99_seconds: Option<f64>,
    pub(crate) lag_max_seconds: Option<f64>,
    pub(crate) gaps: u64,
    pub(crate) gap_max_blocks: u64,
    pub(crate) socket_queued_seconds: f64,
    #[serde(default)]
    pub(crate) unread_seconds: f64,
    /// `server`, `network` or `listener`, while it is behind.
    #[serde(default, deserialize_with = "plain_if_any")]
    pub(crate) fault: Option<String>,
    #[serde(default)]
    pub(crate) latency_seconds: Latencies,
}

fn plain<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    String::deserialize(from).map(|text| clean(&text))
}

fn plain_if_any<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Option::<String>::deserialize(from).map(|text| text.map(|text| clean(&text)))
}

/// Nothing that steers a terminal, and nothing that joins or restyles its neighbours: terminals don't agree how wide
/// that is, and the columns to its right would not stand below each other.
fn clean(text: &str) -> String {
    let alone: String =
        text.chars().filter(|c| !matches!(c, '\u{200b}'..='\u{200d}' | '\u{fe00}'..='\u{fe0f}')).collect();
    words::quoted(&alone, TEXT_MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_steers_the_terminal() {
        let row: Row = serde_json::from_value(serde_json::json!({
            "id": 1, "name": "a\u{1b}[2J\r\n\u{9b}b\u{202e}\u{200d}", "remote": "[::1]:5", "format": "wav",
            "overflow": "skip-to-live", "connected_at": 0.0, "offered": 1, "lost": 0, "lag_seconds": 0.0,
            "lag_p99_seconds": null, "lag_max_seconds": null, "gaps": 0, "gap_max_blocks": 0,
            "socket_queued_seconds": 0.0, "fault": "\u{7}",
        }))
        .unwrap();
        assert_eq!(row.name, "a\u{fffd}[2J\u{fffd}\u{fffd}\u{fffd}b\u{fffd}");
        assert_eq!(row.fault.unwrap(), "\u{fffd}");
    }
}
