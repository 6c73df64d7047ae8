//! The status of the server, for `/api/v1/status` and `/api/v1/watch`, and its mounts, for `/api/v1/mounts`.

use std::sync::Arc;

use aircheck_api::{
    CaptureStatus, ChannelLevel, HlsStatus, LoudnessStatus, MountRow, RealtimeStatus, SourceLatency, SourceStatus,
    Status, StreamFormat, StreamState,
};
use aircheck_engine::{Format, RealtimeOutcome, Timestamp};
use bytes::Bytes;

use crate::delivery::percentiles;
use crate::http::metadata;
use crate::http::server::Server;
use crate::mount::Mount;
use crate::mount::meter::{self, Meter};
use crate::mounts::{ConfiguredMount, ServedMount};
use crate::sink::hls::{Account, Packager};

/// Returns the document of `/api/v1/status` about a mount.
pub(super) fn status(server: &Server, served: &ServedMount) -> Status {
    let ServedMount { mount, encoders, .. } = served;
    let config = served.config();
    let (format, capture, state) = (mount.format(), mount.capture(), mount.state());
    let (outage, hop) = (capture.outages().current(), served.hop());
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        mount: mount.name().to_owned(),
        on_air: state == StreamState::Live,
        state,
        source: SourceStatus {
            description: capture.outages().source().unwrap_or_else(|| mount.description().to_owned()),
            kind: mount.kind(),
            failure: failure(mount),
            lost_since: outage.map(|outage| outage.since.unix_seconds()),
            down_seconds: capture.outages().down(Timestamp::now()).as_secs_f64(),
            restarts: capture.outages().restarts(),
        },
        format: stream_format(format),
        started_at: server.started_at().unix_seconds(),
        now: Timestamp::now().unix_seconds(),
        head_sequence: mount.hub().head().next().checked_sub(1),
        capture: CaptureStatus {
            blocks: capture.blocks(),
            lost_overflow: capture.lost_overflow(),
            lost_xrun: capture.lost_xrun(),
            lost_source: capture.lost_source(),
            lost_hop: capture.lost_hop(),
            lost_in_bursts: capture.lost_in_bursts(),
            fallback: capture.fallback(),
            realtime: realtime(capture.realtime().outcome()),
            drift_ppm: capture.drift().map(|drift| drift.ppm),
            drift_error_ppm: capture.drift().map(|drift| drift.error_ppm),
            waiting_seconds: capture.waiting().as_secs_f64(),
        },
        level: levels(mount),
        loudness: loudness(mount.meter()),
        latency_seconds: SourceLatency {
            ring: percentiles(mount.ring_micros().summary()),
            hop: hop.as_ref().map(|hop| percentiles(hop.hop_micros.summary())).unwrap_or_default(),
        },
        listeners: server.listeners().count(),
        max_listeners: server.config().http.max_listeners,
        buffer_seconds: config.delivery.buffer.as_secs_f64(),
        max_lag_seconds: config.delivery.max_lag.map(|max_lag| max_lag.as_secs_f64()),
        socket_buffer_seconds: config.delivery.socket_buffer.as_secs_f64(),
        encoders: encoders.running(),
        recording: served.recording().map(|recording| recording.status()),
        hop: hop.map(|hop| hop.status(capture.lost_hop())),
        publish: served.publishing().map(|account| account.status()),
        hls: hls(served),
        notifications: server.notifier().accounts(mount.name()),
        last_notification: server.notifier().last(),
        metadata: metadata::status(mount),
        pushes: served.pushes.statuses(),
        gather: server.gathering().map(|gathering| gathering.status(Timestamp::now())),
        report: server.reporting().map(|reporting| reporting.status()),
        urls: server.urls().to_vec(),
    }
}

fn hls(served: &ServedMount) -> Vec<HlsStatus> {
    let possible = served.hls.possible();
    let status = |packager: &Packager| {
        let Account { offered, delivered, lost, queued, segments, playlist_requests, segment_requests, is_running } =
            packager.account();
        let format = packager.variant().name().to_owned();
        HlsStatus {
            format,
            is_running,
            segments,
            playlist_requests,
            segment_requests,
            offered,
            delivered,
            lost,
            queued,
        }
    };
    possible.map(|packager| status(packager)).collect()
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
pub(super) fn recent_status(server: &Server, served: &ServedMount) -> Bytes {
    // Fails for maps without string keys and for failing writers, of which there are none.
    let make = |_| serde_json::to_vec(&status(server, served)).unwrap_or_default().into();
    served.status.recent(make).as_ref().clone()
}

/// Returns the document of `/api/v1/mounts`, at most a moment old, for all pages to which it is pushed.
pub(super) fn recent_mounts(server: &Server) -> Bytes {
    // Fails for maps without string keys and for failing writers, of which there are none.
    let make = |_| serde_json::to_vec(&mounts(server)).unwrap_or_default().into();
    server.mount_list().recent(make).as_ref().clone()
}

/// Returns the document of `/api/v1/mounts`.
pub(super) fn mounts(server: &Server) -> Vec<MountRow> {
    let totals = server.listeners().totals();
    let behind = server.listeners().furthest_of_each_mount();
    let row = |configured: &Arc<ConfiguredMount>| {
        let name = configured.name();
        let served = configured.served();
        let mount = served.as_ref().ok().map(|served| &served.mount);
        let renditions = totals.by_mount.get(name).into_iter().flat_map(|renditions| renditions.values());
        let worst = behind.get(name).zip(mount).map(|(blocks, mount)| mount.seconds(*blocks));
        MountRow {
            name: name.to_owned(),
            state: configured.state_of_stream(),
            source: mount
                .map_or_else(|| configured.config().capture.source.to_string(), |mount| mount.description().to_owned()),
            failure: match &served {
                Ok(served) => failure(&served.mount),
                Err(why) => Some(why.clone()),
            },
            format: mount.map(|mount| stream_format(mount.format())),
            head_sequence: mount.and_then(|mount| mount.hub().head().next().checked_sub(1)),
            level: mount.map(|mount| levels(mount)).unwrap_or_default(),
            listeners: renditions.map(|totals| totals.present).sum(),
            worst_lag_seconds: worst,
            stream: format!("/mounts/{name}/stream"),
        }
    };
    server.mounts().all().iter().map(row).collect()
}

/// Returns why the source of a mount fails now, if it does.
fn failure(mount: &Mount) -> Option<String> {
    let capture = mount.capture();
    capture.failure().map(str::to_owned).or_else(|| capture.outages().current().map(|outage| outage.reason.clone()))
}

fn stream_format(format: Format) -> StreamFormat {
    StreamFormat {
        rate_hz: format.rate_hz(),
        channels: format.channels(),
        block_frames: format.block_frames(),
        block_seconds: format.block_span().as_secs_f64(),
    }
}

fn levels(mount: &Mount) -> Vec<ChannelLevel> {
    let decibels = |level: f32| level.is_finite().then_some(level);
    let meter = mount.meter();
    let channel = |(level, clips): (meter::Level, u64)| ChannelLevel {
        peak_dbfs: decibels(level.peak_dbfs),
        rms_dbfs: decibels(level.rms_dbfs),
        clips,
    };
    meter.levels().zip(meter.clips()).map(channel).collect()
}
