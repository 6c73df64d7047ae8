//! The metrics that Prometheus reads.
//!
//! Counters and gauges of the process go through the `metrics` crate and its Prometheus exporter. Histograms are written from our own
//! histograms, because the exporter's buckets are not exact and its histograms allocate where they are filled. The series of mounts and
//! of single listeners are written from these, because the exporter never forgets a series; theirs are gone with them. The series of
//! loudness and drift are not there before these are known. The exporter formats all of it.

mod edges;
mod exposition;
mod family;
mod histogram;
mod labels;
mod listeners;
mod mounts;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use aircheck_api::{LeaveReason, PublishStatus, PushStatus, RecordingStatus};
use aircheck_engine::SharedHistogram;
use metrics::Counter;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

pub use self::exposition::Exposition;
use self::histogram::HistogramFamily;
use self::labels::labels;
use crate::audience::gathering::Gathering;
use crate::audience::reporting::Reporting;
use crate::delivery::histograms::{MountHistograms, RenditionHistograms, StageHistograms};
use crate::delivery::listeners::Listeners;
use crate::delivery::shards::Shards;
use crate::hop::account::HopAccount;
use crate::mount::Mount;
use crate::notify;
use crate::sink::hls::Hls;
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
    gathered: Counter,
    dropped_log_lines: Counter,
    notifications: NotificationMetrics,
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
    /// Its sound in segments.
    pub hls: &'a Hls,
    /// Its recording, if there is one.
    pub recording: Option<RecordingStatus>,
    /// The hop from the server that is its source, if that is one.
    pub hop: Option<Arc<HopAccount>>,
    /// What is published of it, if anything is.
    pub publish: Option<PublishStatus>,
    /// The Icecast servers to which it is pushed.
    pub pushes: Vec<PushStatus>,
}

/// What the metrics show of the server besides its mounts.
#[derive(Debug)]
pub struct ServerView<'a> {
    /// The listeners of all mounts.
    pub listeners: &'a Listeners,
    /// The shards that write to them.
    pub shards: &'a Shards,
    /// What became of notifications.
    pub notifications: notify::Totals,
    /// The listeners of other servers, if they are gathered.
    pub gathering: Option<&'a Gathering>,
    /// The reports on the listeners here, if there are any.
    pub reporting: Option<&'a Reporting>,
}

/// The metrics of notifications.
#[derive(Debug)]
struct NotificationMetrics {
    delivered: Counter,
    failed: Counter,
    dropped: Counter,
    retried: Counter,
}

impl Default for Metrics {
    /// Makes the metrics of a server. Counters start from zero.
    fn default() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        let prometheus = recorder.handle();
        metrics::with_local_recorder(&recorder, || Self::register(prometheus))
    }
}

impl Metrics {
    /// Registers every series with the current recorder.
    fn register(prometheus: PrometheusHandle) -> Self {
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
            gathered: counter("aircheck_delivery_gathered_packets_total", &[]),
            dropped_log_lines: counter("aircheck_log_dropped_lines_total", &[]),
            notifications: NotificationMetrics::register(),
            rendering: Mutex::new(()),
        }
    }

    /// Counts a refused request.
    pub fn refuse(&self, reason: RefusalReason) {
        if let Some(counter) = self.refused.get(&reason) {
            counter.increment(1);
        }
    }

    /// Returns all metrics as text. `unopened` has the names of the mounts whose sources could not be opened yet.
    #[must_use]
    pub fn render(
        &self,
        exposition: Exposition,
        mounts: &[MountView<'_>],
        unopened: &[&str],
        server: &ServerView<'_>,
    ) -> String {
        let ServerView { listeners, shards, notifications, gathering, reporting } = *server;
        let _rendering = self.rendering.lock().unwrap_or_else(PoisonError::into_inner);
        self.gathered.absolute(shards.gathered());
        self.dropped_log_lines.absolute(log::dropped_lines());
        self.notifications.set(notifications);
        let totals = listeners.totals();
        for (reason, counter) in &self.left {
            counter.absolute(totals.left.get(reason).copied().unwrap_or_default());
        }
        let mut text = self.prometheus.render();
        for family in histograms(mounts) {
            family.write(&mut text);
        }
        mounts::write(&mut text, mounts, unopened, &totals);
        listeners::write(&mut text, listeners);
        edges::write(&mut text, gathering, reporting);
        exposition.convert(text)
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

fn histograms<'a>(mounts: &'a [MountView<'a>]) -> [HistogramFamily<'a>; 3] {
    let by_rendition = |pick: fn(&RenditionHistograms) -> &SharedHistogram| {
        let renditions = mounts.iter().flat_map(|view| view.histograms.renditions.iter().map(move |it| (view, it)));
        let series =
            renditions.map(|(view, (rendition, histograms))| (view.mount.name(), rendition.name(), pick(histograms)));
        series.collect()
    };
    let stages = |view: &'a MountView<'a>| {
        let StageHistograms { queue_micros, socket_micros, read_micros, ear_micros } = &*view.histograms.stages;
        let stages = [
            ("ring", view.mount.ring_micros()),
            ("queue", queue_micros),
            ("socket", socket_micros),
            ("read", read_micros),
            ("ear", ear_micros),
        ];
        let hop = view.hop.as_ref().map(|hop| ("hop", &hop.hop_micros));
        let name = view.mount.name();
        hop.into_iter().chain(stages).map(move |(stage, histogram)| (name, stage, histogram))
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
            help: "Time by stage. hop: from the server that is the source to this one; ring: from the capture of a block's first frame to its dispatch; queue: from there to \
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

fn describe() {
    use metrics::{describe_counter, describe_gauge};

    describe_gauge!("aircheck_build_info", "Version of the server.");
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
}

fn counter(name: &'static str, pairs: &[(&'static str, &'static str)]) -> Counter {
    let counter = metrics::counter!(name, labels(pairs));
    counter.absolute(0);
    counter
}
