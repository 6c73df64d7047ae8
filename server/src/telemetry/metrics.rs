//! The metrics that Prometheus reads.
//!
//! Counters and gauges go through the `metrics` crate and its Prometheus exporter. Histograms are written from our own
//! histograms, because the exporter's buckets are not exact and its histograms allocate where they are filled. The series
//! of single listeners are written from the list of listeners, because the exporter never forgets a series; these are
//! gone with the listener. The series of loudness and drift are not there before these are known. The exporter formats all of it.

mod exposition;
mod family;
mod histogram;
mod labels;
mod listeners;
mod loudness;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use aircheck_api::{LeaveReason, RecordingStatus, Rendition};
use aircheck_engine::{CaptureStats, Drift, Format, Loss, SharedHistogram, Substitute, Timestamp};
use metrics::{Counter, Gauge, Label};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

pub use self::exposition::Exposition;
use self::family::write_family;
use self::histogram::HistogramFamily;
use self::labels::labels;
use crate::delivery::histograms::{MountHistograms, RenditionHistograms, StageHistograms};
use crate::delivery::listeners::{Listeners, RenditionTotals};
use crate::delivery::shards::Shards;
use crate::mount::Mount;
use crate::notify;
use crate::telemetry::log;

/// The loss reason of blocks that were queued for a listener when it left.
const LEFT: &str = "left";

/// Bounds in microseconds: from half a block of 10 ms to the lag of a stalled listener.
const LAG_BOUNDS: [u64; 13] = [
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    30_000_000,
    120_000_000,
];
/// Bounds in microseconds: from a quick hand-over to a minute.
const LATENCY_BOUNDS: [u64; 15] = [
    100, 200, 500, 1_000, 2_000, 5_000, 10_000, 15_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000,
    60_000_000,
];
/// Bounds in blocks: from one to a hundred seconds of 10 ms blocks.
const GAP_BOUNDS: [u64; 11] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000];

/// The reason why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefusalReason {
    /// The limit of listeners is reached.
    Limit,
    /// The limit of connections is reached.
    Connections,
    /// The `Host` header has a name that is not allowed.
    Host,
    /// The request comes from another web site.
    Origin,
    /// The stream has ended.
    Ended,
    /// No token is given, or a wrong one.
    Token,
    /// The token has other scopes, or none is configured and the request comes from another machine.
    Scope,
    /// The address has sent too many wrong tokens.
    Throttled,
}

impl RefusalReason {
    const ALL: [Self; 8] = [
        Self::Limit,
        Self::Connections,
        Self::Host,
        Self::Origin,
        Self::Ended,
        Self::Token,
        Self::Scope,
        Self::Throttled,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::Connections => "connections",
            Self::Host => "host",
            Self::Origin => "origin",
            Self::Ended => "ended",
            Self::Token => "token",
            Self::Scope => "scope",
            Self::Throttled => "throttled",
        }
    }
}

/// The metrics of one server.
#[derive(Debug)]
pub struct Metrics {
    prometheus: PrometheusHandle,
    refused: BTreeMap<RefusalReason, Counter>,
    left: BTreeMap<LeaveReason, Counter>,
    renditions: BTreeMap<Rendition, RenditionMetrics>,
    gathered: Counter,
    dropped_log_lines: Counter,
    notifications: NotificationMetrics,
    /// By mount.
    captures: Vec<CaptureMetrics>,
    /// Held from the first count to the last line, so that no answer mixes two moments.
    rendering: Mutex<()>,
}

/// What the metrics show of a mount.
#[derive(Debug)]
pub struct MountView<'a> {
    /// The source on the air.
    pub mount: &'a Mount,
    /// What its listeners have recorded.
    pub histograms: &'a MountHistograms,
    /// Its recording, if there is one.
    pub recording: Option<RecordingStatus>,
}

/// The metrics of a mount's capture.
#[derive(Debug)]
struct CaptureMetrics {
    blocks: Counter,
    lost_overflow: Counter,
    lost_xrun: Counter,
    lost_source: Counter,
    fallback_blocks: Counter,
    restarts: Counter,
    up: Gauge,
    is_fallback: Gauge,
    /// Peak and RMS of each channel.
    levels: Vec<[Gauge; 2]>,
    clips: Vec<Counter>,
}

/// The metrics of notifications.
#[derive(Debug)]
struct NotificationMetrics {
    delivered: Counter,
    failed: Counter,
    dropped: Counter,
    retried: Counter,
}

/// The metrics of the listeners of one rendition.
#[derive(Debug)]
struct RenditionMetrics {
    present: Gauge,
    offered: Counter,
    delivered: Counter,
    lost: [Counter; Loss::ALL.len()],
    left: Counter,
}

impl Metrics {
    /// Makes the metrics of a server with these mounts. Counters start from zero.
    #[must_use]
    pub fn new<'a>(mounts: impl Iterator<Item = &'a Mount>) -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        let prometheus = recorder.handle();
        metrics::with_local_recorder(&recorder, || Self::register(prometheus, mounts))
    }

    /// Registers every series with the current recorder.
    fn register<'a>(prometheus: PrometheusHandle, mounts: impl Iterator<Item = &'a Mount>) -> Self {
        describe();
        metrics::gauge!("aircheck_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        let by_reason = |name: &'static str, reason| counter(name, &[("reason", reason)]);
        Self {
            prometheus,
            refused: RefusalReason::ALL
                .map(|reason| (reason, by_reason("aircheck_listeners_refused_total", reason.name())))
                .into(),
            left: LeaveReason::ALL
                .map(|reason| (reason, by_reason("aircheck_listeners_left_total", reason.name())))
                .into(),
            renditions: Rendition::ALL.map(|rendition| (rendition, RenditionMetrics::register(rendition))).into(),
            gathered: counter("aircheck_delivery_gathered_packets_total", &[]),
            dropped_log_lines: counter("aircheck_log_dropped_lines_total", &[]),
            notifications: NotificationMetrics::register(),
            captures: mounts.map(|mount| CaptureMetrics::register(mount.format())).collect(),
            rendering: Mutex::new(()),
        }
    }

    /// Counts a refused request.
    pub fn refuse(&self, reason: RefusalReason) {
        if let Some(counter) = self.refused.get(&reason) {
            counter.increment(1);
        }
    }

    /// Returns all metrics as text.
    #[must_use]
    pub fn render(
        &self,
        exposition: Exposition,
        mounts: &[MountView<'_>],
        listeners: &Listeners,
        shards: &Shards,
        notifications: notify::Totals,
    ) -> String {
        let _rendering = self.rendering.lock().unwrap_or_else(PoisonError::into_inner);
        self.captures.iter().zip(mounts).for_each(|(capture, view)| capture.set(view.mount));
        self.gathered.absolute(shards.gathered());
        self.dropped_log_lines.absolute(log::dropped_lines());
        self.notifications.set(notifications);
        let totals = listeners.totals();
        let none = RenditionTotals::default();
        for (rendition, metrics) in &self.renditions {
            metrics.set(totals.by_rendition.get(rendition).unwrap_or(&none));
        }
        for (reason, counter) in &self.left {
            counter.absolute(totals.left.get(reason).copied().unwrap_or_default());
        }
        let mut text = self.prometheus.render();
        for family in histograms(mounts) {
            family.write(&mut text);
        }
        for view in mounts {
            write_down_seconds(&mut text, view.mount);
            loudness::write(&mut text, view.mount.meter());
            write_clock(&mut text, view.mount.capture());
        }
        for recording in mounts.iter().filter_map(|view| view.recording.as_ref()) {
            write_recording(&mut text, recording);
        }
        listeners::write(&mut text, listeners);
        exposition.convert(text)
    }
}

impl CaptureMetrics {
    fn register(format: Format) -> Self {
        metrics::gauge!("aircheck_block_seconds").set(format.block_span().as_secs_f64());
        let lost = |reason| counter("aircheck_capture_lost_blocks_total", &[("reason", reason)]);
        let level = |channel: u16, kind| {
            let labels = vec![Label::new("channel", channel.to_string()), Label::from_static_parts("kind", kind)];
            metrics::gauge!("aircheck_capture_level_dbfs", labels)
        };
        let clips = |channel: u16| {
            metrics::counter!("aircheck_capture_clips_total", vec![Label::new("channel", channel.to_string())])
        };
        Self {
            blocks: counter("aircheck_capture_blocks_total", &[]),
            lost_overflow: lost("overflow"),
            lost_xrun: lost("xrun"),
            lost_source: lost("source"),
            fallback_blocks: counter("aircheck_capture_fallback_blocks_total", &[]),
            restarts: counter("aircheck_capture_restarts_total", &[]),
            is_fallback: metrics::gauge!("aircheck_fallback"),
            up: metrics::gauge!("aircheck_capture_up"),
            levels: (0..format.channels()).map(|channel| ["peak", "rms"].map(|kind| level(channel, kind))).collect(),
            clips: (0..format.channels()).map(clips).collect(),
        }
    }

    fn set(&self, mount: &Mount) {
        let capture = mount.capture();
        self.blocks.absolute(capture.blocks());
        self.lost_overflow.absolute(capture.lost_overflow());
        self.lost_xrun.absolute(capture.lost_xrun());
        self.lost_source.absolute(capture.lost_source());
        self.fallback_blocks.absolute(capture.fallback());
        self.restarts.absolute(capture.outages().restarts());
        self.up.set(if capture.is_open() { 1.0 } else { 0.0 });
        let outage = capture.outages().current();
        let is_fallback = outage.is_some_and(|outage| outage.substitute == Substitute::Fallback);
        self.is_fallback.set(if is_fallback { 1.0 } else { 0.0 });
        for ([peak, rms], level) in self.levels.iter().zip(mount.meter().levels()) {
            peak.set(f64::from(level.peak_dbfs));
            rms.set(f64::from(level.rms_dbfs));
        }
        for (counter, clips) in self.clips.iter().zip(mount.meter().clips()) {
            counter.absolute(clips);
        }
    }
}

impl NotificationMetrics {
    fn register() -> Self {
        let result = |result| counter("aircheck_notifications_total", &[("result", result)]);
        Self {
            delivered: result("delivered"),
            failed: result("failed"),
            dropped: result("dropped"),
            retried: result("retried"),
        }
    }

    fn set(&self, totals: notify::Totals) {
        self.delivered.absolute(totals.delivered);
        self.failed.absolute(totals.failed);
        self.dropped.absolute(totals.dropped);
        self.retried.absolute(totals.retried);
    }
}

impl RenditionMetrics {
    fn register(rendition: Rendition) -> Self {
        let format = ("format", rendition.name());
        let lost = |reason| counter("aircheck_lost_blocks_total", &[format, ("reason", reason)]);
        Self {
            present: metrics::gauge!("aircheck_listeners", labels(&[format])),
            offered: counter("aircheck_offered_blocks_total", &[format]),
            delivered: counter("aircheck_delivered_blocks_total", &[format]),
            lost: std::array::from_fn(|reason| lost(Loss::ALL[reason].label())),
            left: lost(LEFT),
        }
    }

    fn set(&self, totals: &RenditionTotals) {
        self.present.set(totals.present as f64);
        self.offered.absolute(totals.offered);
        self.delivered.absolute(totals.delivered);
        for (counter, lost) in self.lost.iter().zip(totals.lost) {
            counter.absolute(lost);
        }
        self.left.absolute(totals.left_queued);
    }
}

fn histograms<'a>(mounts: &'a [MountView<'a>]) -> [HistogramFamily<'a>; 3] {
    let by_rendition = |pick: fn(&RenditionHistograms) -> &SharedHistogram| {
        let renditions = mounts.iter().flat_map(|view| &view.histograms.renditions);
        renditions.map(|(rendition, histograms)| (rendition.name(), pick(histograms))).collect()
    };
    let stages = |view: &MountView<'a>| {
        let StageHistograms { queue_micros, socket_micros, read_micros, ear_micros } = &*view.histograms.stages;
        [
            ("ring", view.mount.ring_micros()),
            ("queue", queue_micros),
            ("socket", socket_micros),
            ("read", read_micros),
            ("ear", ear_micros),
        ]
    };
    [
        HistogramFamily {
            name: "aircheck_lag_seconds",
            help: "How far listeners were behind the live head at each block that was due to them, whether it was \
                   delivered or lost, without the requested lag (burst).",
            bounds: &LAG_BOUNDS,
            scale: 1_000_000,
            label: "format",
            series: by_rendition(|histograms| &histograms.lag_micros),
        },
        HistogramFamily {
            name: "aircheck_gap_blocks",
            help: "Blocks that a listener missed in a row.",
            bounds: &GAP_BOUNDS,
            scale: 1,
            label: "format",
            series: by_rendition(|histograms| &histograms.gap_blocks),
        },
        HistogramFamily {
            name: "aircheck_latency_seconds",
            help: "Time by stage. ring: from the capture of a block's first frame to its dispatch; queue: from there to \
                   a listener's connection; socket: from there until the listener's machine has acknowledged it; read: \
                   from the capture until the listener's program is proven to have read it, for listeners whose machine \
                   proves it; ear: from the capture until a player reports that it is heard.",
            bounds: &LATENCY_BOUNDS,
            scale: 1_000_000,
            label: "stage",
            series: mounts.iter().flat_map(stages).collect(),
        },
    ]
}

/// Writes the time without the source. The exporter's counters have whole numbers only.
fn write_down_seconds(text: &mut String, mount: &Mount) {
    const NAME: &str = "aircheck_capture_down_seconds_total";
    let seconds = mount.capture().outages().down(Timestamp::now()).as_secs_f64();
    write_family(text, NAME, "counter", "Time for which the source was lost.", [(vec![], seconds)]);
    text.push('\n');
}

/// Writes the series of the source's clock. There are none before the drift is known.
fn write_clock(text: &mut String, capture: &CaptureStats) {
    let waiting = (
        "aircheck_capture_waiting_seconds",
        "Sound that stands in the pipe in front of the source, and is late by as much.",
        capture.waiting().as_secs_f64(),
    );
    let drift = capture.drift().map(|Drift { ppm, error_ppm, .. }| {
        [
            (
                "aircheck_capture_drift_ppm",
                "How much faster the source's clock is than the system's, in parts per million.",
                ppm,
            ),
            (
                "aircheck_capture_drift_error_ppm",
                "Two standard errors of the drift: the true one is as close as this in 19 of 20 cases.",
                error_ppm,
            ),
        ]
    });
    for (name, help, value) in std::iter::once(waiting).chain(drift.into_iter().flatten()) {
        write_family(text, name, "gauge", help, [(vec![], value)]);
    }
    text.push('\n');
}

fn write_recording(text: &mut String, status: &RecordingStatus) {
    let series = [
        ("aircheck_record_up", "gauge", "Whether the recorder can write.", u64::from(status.failing.is_none())),
        ("aircheck_record_blocks_total", "counter", "Blocks of sound in recorded files.", status.blocks),
        (
            "aircheck_record_lost_blocks_total",
            "counter",
            "Blocks that are silent or missing in recorded files.",
            status.lost,
        ),
    ];
    let help = "Bytes that are free on the recording's disk, at the last look.";
    let free = status.free_bytes.map(|bytes| ("aircheck_record_disk_free_bytes", "gauge", help, bytes));
    for (name, kind, help, value) in series.into_iter().chain(free) {
        write_family(text, name, kind, help, [(vec![], value)]);
    }
    text.push('\n');
}

fn describe() {
    use metrics::{describe_counter, describe_gauge};

    describe_gauge!("aircheck_build_info", "Version of the server.");
    describe_gauge!("aircheck_block_seconds", "Length of a block.");
    describe_counter!("aircheck_capture_blocks_total", "Blocks captured from the source.");
    describe_counter!(
        "aircheck_capture_lost_blocks_total",
        "Blocks lost at the capture: overflow (the dispatcher was late), xrun (the device missed them) or source (the \
         source was lost)."
    );
    describe_gauge!("aircheck_capture_up", "Whether the source is open and not lost.");
    describe_gauge!("aircheck_fallback", "Whether the fallback is heard instead of the source.");
    describe_counter!(
        "aircheck_capture_fallback_blocks_total",
        "Blocks of the fallback, which were heard instead of the source."
    );
    describe_counter!("aircheck_capture_restarts_total", "Number of times that the source was opened again.");
    describe_gauge!("aircheck_capture_level_dbfs", "Level of a channel over the last 300 ms; full scale is 0.");
    describe_counter!(
        "aircheck_capture_clips_total",
        "Runs of three or more samples of a channel in a row at full scale: the sound is too loud for its source."
    );
    describe_gauge!("aircheck_listeners", "Listeners that are present.");
    describe_counter!("aircheck_listeners_refused_total", "Requests that were refused.");
    describe_counter!("aircheck_listeners_left_total", "Listeners that are gone, by reason.");
    describe_counter!(
        "aircheck_delivery_gathered_packets_total",
        "Packets of compressed sound that were written together with the one before, because a delivery thread had fallen \
         several packets behind its encoders when it came to the listener."
    );
    describe_counter!(
        "aircheck_log_dropped_lines_total",
        "Lines of the log that were dropped because standard error was not read."
    );
    describe_counter!(
        "aircheck_notifications_total",
        "Notifications to receivers. delivered; failed: refused by the receiver; dropped: given up because the queue was full \
         or they had waited for an hour; retried: tries that failed and are made again."
    );
    describe_counter!("aircheck_offered_blocks_total", "Blocks offered to listeners.");
    describe_counter!("aircheck_delivered_blocks_total", "Blocks written to listeners' connections.");
    describe_counter!(
        "aircheck_lost_blocks_total",
        "Blocks that listeners never get. late: skipped because of the limit of lag; left: still queued when the \
         listener left."
    );
}

fn counter(name: &'static str, pairs: &[(&'static str, &'static str)]) -> Counter {
    let counter = metrics::counter!(name, labels(pairs));
    counter.absolute(0);
    counter
}
