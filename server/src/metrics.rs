//! What Prometheus reads.
//!
//! The process's totals go through the `metrics` crate and its Prometheus exporter. Per-listener series are written
//! here, from the list of listeners, because the exporter never forgets a series: these are gone with the listener.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aircheck_engine::Loss;
use metrics::{Counter, Gauge, Histogram, Label};
use metrics_exporter_prometheus::formatting::{sanitize_label_value, write_help_line, write_type_line};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use crate::listeners::{LEFT, Listeners, Totals};
use crate::meter::Meter;
use crate::mount::Mount;

/// Most listeners with a series of their own: those who lag most. A scrape stays below 100 lines for them, and
/// Prometheus below the few thousand series that one target should have.
const LISTENER_SERIES: usize = 100;

/// Bounds in seconds: from one block of 10 ms to what only a stalled listener reaches.
const LAG_BOUNDS: [f64; 11] = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];
/// Bounds in seconds: from a quick hand-over to a second.
const LATENCY_BOUNDS: [f64; 12] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0];
/// Bounds in blocks: from one to ten seconds of 10 ms blocks.
const GAP_BOUNDS: [f64; 10] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0];

/// Why a request to listen was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There are as many listeners as there may be.
    Limit,
    /// There are as many connections as there may be.
    Connections,
    /// The `Host` header names somebody else.
    Host,
    /// Another web site asks.
    Origin,
    /// The stream has ended.
    Ended,
}

impl Refusal {
    const ALL: [Self; 5] = [Self::Limit, Self::Connections, Self::Host, Self::Origin, Self::Ended];

    const fn label(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::Connections => "connections",
            Self::Host => "host",
            Self::Origin => "origin",
            Self::Ended => "ended",
        }
    }
}

/// The metrics of one server.
#[derive(Debug)]
pub struct Metrics {
    prometheus: PrometheusHandle,
    capture_blocks: Counter,
    capture_overflow: Counter,
    capture_xrun: Counter,
    capture_up: Gauge,
    refused: [Counter; Refusal::ALL.len()],
    levels: Vec<[Gauge; 2]>,
    mounts: Vec<MountTotals>,
    by_mount: Vec<MountMetrics>,
    ring: Histogram,
    /// Held from the first count to the last line, so that one answer does not mix moments.
    rendering: Mutex<()>,
}

/// What a listener's body records as it goes.
#[derive(Clone, Debug)]
pub struct MountMetrics {
    lag_seconds: Histogram,
    gap_blocks: Histogram,
    queue_seconds: Histogram,
}

#[derive(Debug)]
struct MountTotals {
    mount: Mount,
    present: Gauge,
    offered: Counter,
    delivered: Counter,
    lost: [Counter; Loss::ALL.len()],
    left: Counter,
}

impl MountMetrics {
    /// A block was taken from the ring, this far behind the live head and this long after its dispatch.
    pub fn delivered(&self, lag_seconds: f64, queued: Duration) {
        self.lag_seconds.record(lag_seconds);
        self.queue_seconds.record(queued.as_secs_f64());
    }

    /// So many blocks were missing in a row.
    pub fn gap(&self, blocks: u64) {
        self.gap_blocks.record(blocks as f64);
    }
}

impl Metrics {
    /// Metrics that all start from zero, for a stream of `channels` channels.
    #[must_use]
    pub fn new(channels: u16) -> Arc<Self> {
        let bounds = [
            ("aircheck_lag_seconds", &LAG_BOUNDS[..]),
            ("aircheck_latency_seconds", &LATENCY_BOUNDS[..]),
            ("aircheck_gap_blocks", &GAP_BOUNDS[..]),
        ];
        let builder = bounds.into_iter().fold(PrometheusBuilder::new(), |builder, (name, bounds)| {
            // Fails only for an empty list of bounds, and then the exporter's summary is better than nothing.
            builder
                .set_buckets_for_metric(Matcher::Full(name.to_owned()), bounds)
                .unwrap_or_else(|_| PrometheusBuilder::new())
        });
        let recorder = builder.build_recorder();
        let metrics = metrics::with_local_recorder(&recorder, || Self::register(&recorder, channels));
        Arc::new(metrics)
    }

    /// Registers every series of the table with the recorder that is current.
    fn register(recorder: &PrometheusRecorder, channels: u16) -> Self {
        describe();
        let queue = metrics::histogram!("aircheck_latency_seconds", "stage" => "queue");
        metrics::counter!("aircheck_capture_restarts_total").absolute(0);
        Self {
            prometheus: recorder.handle(),
            capture_blocks: counter("aircheck_capture_blocks_total", vec![]),
            capture_overflow: counter("aircheck_capture_lost_blocks_total", labels([("reason", "overflow")])),
            capture_xrun: counter("aircheck_capture_lost_blocks_total", labels([("reason", "xrun")])),
            capture_up: metrics::gauge!("aircheck_capture_up"),
            refused: Refusal::ALL
                .map(|why| counter("aircheck_listeners_refused_total", labels([("reason", why.label())]))),
            levels: (0..channels)
                .map(|channel| {
                    ["peak", "rms"].map(|kind| {
                        let labels =
                            vec![Label::new("channel", channel.to_string()), Label::from_static_parts("kind", kind)];
                        metrics::gauge!("aircheck_capture_level_dbfs", labels)
                    })
                })
                .collect(),
            mounts: Mount::ALL
                .map(|mount| {
                    let format = ("format", mount.label());
                    let lost = |reason| counter("aircheck_lost_blocks_total", labels([format, ("reason", reason)]));
                    MountTotals {
                        mount,
                        present: metrics::gauge!("aircheck_listeners", labels([format])),
                        offered: counter("aircheck_offered_blocks_total", labels([format])),
                        delivered: counter("aircheck_delivered_blocks_total", labels([format])),
                        lost: Loss::ALL.map(|reason| lost(reason.label())),
                        left: lost(LEFT),
                    }
                })
                .into(),
            by_mount: Mount::ALL
                .map(|mount| {
                    let format = labels([("format", mount.label())]);
                    MountMetrics {
                        lag_seconds: metrics::histogram!("aircheck_lag_seconds", format.clone()),
                        gap_blocks: metrics::histogram!("aircheck_gap_blocks", format),
                        queue_seconds: queue.clone(),
                    }
                })
                .into(),
            ring: metrics::histogram!("aircheck_latency_seconds", "stage" => "ring"),
            rendering: Mutex::new(()),
        }
    }

    /// What a listener of this mount records to.
    #[must_use]
    pub fn mount(&self, mount: Mount) -> MountMetrics {
        self.by_mount[mount as usize].clone()
    }

    /// Somebody was refused.
    pub fn refuse(&self, why: Refusal) {
        self.refused[why as usize].increment(1);
    }

    /// A block reached the dispatcher this long after its first frame was captured.
    pub fn dispatched(&self, latency: Duration) {
        self.ring.record(latency.as_secs_f64());
    }

    /// Folds recorded histogram values together. Without it they pile up between scrapes; call it every few
    /// seconds.
    pub fn upkeep(&self) {
        self.prometheus.run_upkeep();
    }

    /// Everything in Prometheus's text format.
    #[must_use]
    pub fn render(&self, capture: &aircheck_engine::CaptureTally, meter: &Meter, listeners: &Listeners) -> String {
        let _rendering = self.rendering.lock().unwrap_or_else(PoisonError::into_inner);
        self.capture_blocks.absolute(capture.blocks());
        self.capture_overflow.absolute(capture.lost_overflow());
        self.capture_xrun.absolute(capture.lost_xrun());
        self.capture_up.set(if capture.is_open() { 1.0 } else { 0.0 });
        for ([peak, rms], level) in self.levels.iter().zip(meter.levels()) {
            peak.set(f64::from(level.peak_dbfs));
            rms.set(f64::from(level.rms_dbfs));
        }
        let totals = listeners.totals();
        for series in &self.mounts {
            series.set(totals.get(&series.mount).unwrap_or(&Totals::default()));
        }
        let mut text = self.prometheus.render();
        write_listeners(&mut text, listeners);
        text
    }
}

impl MountTotals {
    fn set(&self, totals: &Totals) {
        self.present.set(totals.present as f64);
        self.offered.absolute(totals.offered);
        self.delivered.absolute(totals.delivered);
        for (counter, lost) in self.lost.iter().zip(totals.lost) {
            counter.absolute(lost);
        }
        self.left.absolute(totals.left);
    }
}

fn write_listeners(text: &mut String, listeners: &Listeners) {
    const NAME: &str = "aircheck_listener_lag_seconds";
    let mut lags: Vec<_> = listeners.present().into_iter().map(|listener| (listener.lag_seconds(), listener)).collect();
    lags.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    lags.truncate(LISTENER_SERIES);
    let help =
        "How far each listener is behind the live head, what waits in the kernel included; the 100 that lag most.";
    write_help_line(text, NAME, None, None, help);
    write_type_line(text, NAME, None, None, "gauge");
    for (lag, listener) in lags {
        let (id, name, format) = (listener.id(), sanitize_label_value(listener.name()), listener.mount().label());
        // Writing to a string can't fail.
        let _ = writeln!(text, r#"{NAME}{{listener="{id}",name="{name}",format="{format}"}} {lag}"#);
    }
}

fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};

    describe_counter!("aircheck_capture_blocks_total", "Blocks captured.");
    describe_counter!(
        "aircheck_capture_lost_blocks_total",
        "Blocks lost at the capture: by overflow (the dispatcher was late) or xrun (the device missed them)."
    );
    describe_gauge!("aircheck_capture_up", "Whether the source is open.");
    describe_counter!("aircheck_capture_restarts_total", "How often the source was opened again.");
    describe_gauge!("aircheck_capture_level_dbfs", "Level of a channel over the last 300 ms; full scale is 0.");
    describe_gauge!("aircheck_listeners", "Who listens now.");
    describe_counter!("aircheck_listeners_refused_total", "Requests that were refused.");
    describe_counter!("aircheck_offered_blocks_total", "Blocks offered to listeners.");
    describe_counter!("aircheck_delivered_blocks_total", "Blocks handed to listeners' connections.");
    describe_counter!(
        "aircheck_lost_blocks_total",
        "Blocks that listeners never get; reason left: still queued when the listener went."
    );
    describe_histogram!(
        "aircheck_lag_seconds",
        "How far a delivered block was behind the live head when it was taken from the listener's ring."
    );
    describe_histogram!("aircheck_gap_blocks", "Blocks missing in a row.");
    describe_histogram!(
        "aircheck_latency_seconds",
        "Time by stage: ring, from the capture of a block's first frame to its dispatch; queue, from there to a \
         listener's connection."
    );
}

fn labels<const N: usize>(labels: [(&'static str, &'static str); N]) -> Vec<Label> {
    labels.map(|(key, value)| Label::from_static_parts(key, value)).into()
}

fn counter(name: &'static str, labels: Vec<Label>) -> Counter {
    let counter = metrics::counter!(name, labels);
    counter.absolute(0);
    counter
}
