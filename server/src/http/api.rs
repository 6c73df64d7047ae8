//! The status of the server, for `/api/v1/status` and `/api/v1/watch`.

use aircheck_api::{
    CaptureStatus, ChannelLevel, LoudnessStatus, RealtimeStatus, SourceLatency, SourceStatus, Status, StreamFormat,
    StreamState,
};
use aircheck_engine::{RealtimeOutcome, Timestamp};
use bytes::Bytes;

use crate::delivery::percentiles;
use crate::http::server::{ServedMount, Server};
use crate::mount::meter::Meter;

/// Returns the document of `/api/v1/status`.
pub(super) fn status(server: &Server) -> Status {
    let ServedMount { mount, encoders, recording, .. } = &**server.first_mount();
    let (config, format, capture, state) = (server.config(), mount.format(), mount.capture(), mount.state());
    let outage = capture.outages().current();
    let decibels = |level: f32| level.is_finite().then_some(level);
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        on_air: state == StreamState::Live,
        state,
        source: SourceStatus {
            description: capture.outages().source().unwrap_or_else(|| mount.description().to_owned()),
            kind: mount.kind(),
            failure: capture.failure().map(str::to_owned).or(outage.as_ref().map(|outage| outage.reason.clone())),
            lost_since: outage.map(|outage| outage.since.unix_seconds()),
            down_seconds: capture.outages().down(Timestamp::now()).as_secs_f64(),
            restarts: capture.outages().restarts(),
        },
        format: StreamFormat {
            rate_hz: format.rate_hz(),
            channels: format.channels(),
            block_frames: format.block_frames(),
            block_seconds: format.block_span().as_secs_f64(),
        },
        started_at: server.started_at().unix_seconds(),
        now: Timestamp::now().unix_seconds(),
        head_sequence: mount.hub().head().next().checked_sub(1),
        capture: CaptureStatus {
            blocks: capture.blocks(),
            lost_overflow: capture.lost_overflow(),
            lost_xrun: capture.lost_xrun(),
            lost_source: capture.lost_source(),
            fallback: capture.fallback(),
            realtime: realtime(capture.realtime().outcome()),
            drift_ppm: capture.drift().map(|drift| drift.ppm),
            drift_error_ppm: capture.drift().map(|drift| drift.error_ppm),
            waiting_seconds: capture.waiting().as_secs_f64(),
        },
        level: mount
            .meter()
            .levels()
            .zip(mount.meter().clips())
            .map(|(level, clips)| ChannelLevel {
                peak_dbfs: decibels(level.peak_dbfs),
                rms_dbfs: decibels(level.rms_dbfs),
                clips,
            })
            .collect(),
        loudness: loudness(mount.meter()),
        latency_seconds: SourceLatency { ring: percentiles(mount.ring_micros().summary()) },
        listeners: server.listeners().count(),
        max_listeners: config.http.max_listeners,
        buffer_seconds: config.delivery.buffer.as_secs_f64(),
        max_lag_seconds: config.delivery.max_lag.map(|max_lag| max_lag.as_secs_f64()),
        socket_buffer_seconds: config.delivery.socket_buffer.as_secs_f64(),
        encoders: encoders.running(),
        recording: recording.as_ref().map(|recording| recording.status()),
        notifications: server.notifier().accounts(),
        last_notification: server.notifier().last(),
        urls: server.urls().to_vec(),
    }
}

fn realtime(outcome: RealtimeOutcome) -> RealtimeStatus {
    let RealtimeOutcome { priority, priority_refusal, locked_bytes, lock_refusal, .. } = outcome;
    RealtimeStatus { priority, priority_refusal, locked_bytes, lock_refusal }
}

fn loudness(meter: &Meter) -> Option<LoudnessStatus> {
    let loudness = meter.loudness()?;
    let decibels = |level: f64| level.is_finite().then_some(level);
    Some(LoudnessStatus {
        momentary_lufs: decibels(loudness.momentary_lufs),
        short_term_lufs: decibels(loudness.short_term_lufs),
        integrated_lufs: decibels(loudness.integrated_lufs),
        range_lu: loudness.range_lu,
        true_peak_dbtp: meter.true_peaks().iter().map(|peak| decibels(peak.dbtp())).collect(),
    })
}

/// Returns the same as JSON, at most a moment old, for all pages to which it is pushed.
pub(super) fn recent_status(server: &Server) -> Bytes {
    // Fails for maps without string keys and for failing writers, of which there are none.
    let make = |_| serde_json::to_vec(&status(server)).unwrap_or_default().into();
    server.shared_status().recent(make).as_ref().clone()
}
