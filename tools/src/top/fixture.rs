//! A server's answers for tests.

use aircheck_api::{ListenerRow, Status};
use serde_json::json;

/// Returns the status of a server that has been on air for two minutes, in stereo, with a buffer of a second.
pub(crate) fn status() -> Status {
    serde_json::from_value(json!({
        "version": "0.1.0", "on_air": true, "state": "live",
        "source": {"description": "tone, 440 Hz", "kind": "tone", "failure": null},
        "format": {"rate_hz": 48000, "channels": 2, "block_frames": 480, "block_seconds": 0.01},
        "started_at": 1_790_000_000.0, "now": 1_790_000_125.0, "head_sequence": 12_499,
        "capture": {"blocks": 12_500, "lost_overflow": 0, "lost_xrun": 3},
        "level": [{"peak_dbfs": -6.0, "rms_dbfs": -9.0}, {"peak_dbfs": -40.0, "rms_dbfs": -43.0}],
        "loudness": {"momentary_lufs": -18.42, "short_term_lufs": -21.04, "integrated_lufs": -22.6, "range_lu": 4.2,
            "true_peak_dbtp": [-5.8, -39.9]},
        "latency_seconds": {"ring": {"p50": 0.000_21, "p99": 0.0012, "max": 0.1}},
        "listeners": 3, "max_listeners": 1000, "buffer_seconds": 1.0, "max_lag_seconds": null,
        "socket_buffer_seconds": 0.1, "encoders": 1, "recording": null, "urls": [],
    }))
    .expect("a status")
}

/// Returns the row of a listener that is `lag` seconds behind, all of it unread at its machine.
pub(crate) fn row(id: u64, name: &str, lag: f64) -> ListenerRow {
    serde_json::from_value(json!({
        "id": id, "name": name, "remote": format!("127.0.0.1:{}", 40_000 + id), "format": "wav",
        "overflow": "skip-to-live", "connected_at": 1_790_000_000.0 + id as f64, "offered": 1000, "delivered": 1000,
        "lost": 0, "queued": 0, "lag_seconds": lag, "burst_seconds": 0.0, "max_lag_seconds": null,
        "lag_p50_seconds": 0.01, "lag_p99_seconds": 0.03, "lag_max_seconds": lag, "gaps": 0, "gap_max_blocks": 0,
        "socket_queued_bytes": 0, "socket_queued_seconds": 0.0, "unread_seconds": lag,
        "verdict": if lag >= 0.75 { "far_behind" } else if lag >= 0.25 { "behind" } else { "ok" },
        "fault": if lag >= 0.25 { Some("listener") } else { None },
        "latency_seconds": {"queue": {"p50": 0.0003, "p99": 0.001, "max": 0.1}, "socket": {"p50": 0.0125}},
    }))
    .expect("a row")
}
