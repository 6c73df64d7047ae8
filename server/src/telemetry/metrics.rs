//! What Prometheus reads.
//!
//! The process's counters and gauges go through the `metrics` crate and its Prometheus exporter. Histograms are written
//! from our own recorders, because the exporter's buckets are not exact and its histograms allocate where they are
//! filled. Per-listener series are written from the list of listeners, because the exporter never forgets a series:
//! these are gone with the listener.

mod exposition;
mod histogram;

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use aircheck_engine::{CaptureTally, Format, Loss, Precision, SharedRecorder, Timestamp};
use metrics::{Counter, Gauge, Label};
use metrics_exporter_prometheus::formatting::{sanitize_label_value, write_help_line, write_type_line};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

pub use self::exposition::Exposition;
use self::histogram::Family;
use crate::delivery::listener::{Listener, MAX_MICROS, Standing};
use crate::delivery::listeners::{LEFT, Leaving, Listeners, Totals};
use crate::mount::meter::Meter;
use crate::rendition::name::Mount;
use crate::sink::recorder::{RecordStatus, Recording};

/// Most listeners with series of their own: those who lag most. With six series each, Prometheus stays below the few
/// thousand that one target should have.
const LISTENER_SERIES: usize = 100;

/// Bounds in microseconds: from one block of 10 ms to what only a stalled listener reaches.
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
/// Gaps are told apart up to so many blocks: over two hours of 10 ms.
const GAP_MOST: u64 = 1 << 20;

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
    left: [Counter; Leaving::ALL.len()],
    levels: Vec<[Gauge; 2]>,
    mounts: Vec<MountTotals>,
    recorders: Vec<Arc<MountRecorders>>,
    ring_micros: Arc<SharedRecorder>,
    /// Held from the first count to the last line, so that one answer does not mix moments.
    rendering: Mutex<()>,
}

/// What the listeners of a mount record as they go.
#[derive(Debug)]
pub struct MountRecorders {
    /// One value for each block that one of them was due: how far behind it was, not counting what it asked for.
    pub lag_micros: SharedRecorder,
    /// Blocks missing in a row.
    pub gap_blocks: SharedRecorder,
    /// Stage `queue`, of all mounts: from the dispatcher to the listener's connection.
    pub queue_micros: Arc<SharedRecorder>,
    /// Stage `socket`, of all mounts: from there out of this machine's send queue.
    pub socket_micros: Arc<SharedRecorder>,
    /// Stage `ear`, of all listeners that report it: from the capture to where it is heard.
    pub ear_micros: Arc<SharedRecorder>,
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

impl Metrics {
    /// Metrics that all start from zero, for a stream of `format` whose stage `ring` is recorded in `ring_micros`.
    #[must_use]
    pub fn new(format: Format, ring_micros: Arc<SharedRecorder>) -> Arc<Self> {
        let recorder = PrometheusBuilder::new().build_recorder();
        let prometheus = recorder.handle();
        Arc::new(metrics::with_local_recorder(&recorder, || Self::register(prometheus, format, ring_micros)))
    }

    /// Registers every series of the table with the recorder that is current.
    fn register(prometheus: PrometheusHandle, format: Format, ring_micros: Arc<SharedRecorder>) -> Self {
        describe();
        metrics::counter!("aircheck_capture_restarts_total").absolute(0);
        metrics::gauge!("aircheck_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        metrics::gauge!("aircheck_block_seconds").set(format.block_span().as_secs_f64());
        let micros = || Arc::new(SharedRecorder::new(MAX_MICROS, Precision::TwoDigits));
        let (queue, socket, ear) = (micros(), micros(), micros());
        Self {
            prometheus,
            capture_blocks: counter("aircheck_capture_blocks_total", vec![]),
            capture_overflow: counter("aircheck_capture_lost_blocks_total", labels([("reason", "overflow")])),
            capture_xrun: counter("aircheck_capture_lost_blocks_total", labels([("reason", "xrun")])),
            capture_up: metrics::gauge!("aircheck_capture_up"),
            refused: Refusal::ALL
                .map(|why| counter("aircheck_listeners_refused_total", labels([("reason", why.label())]))),
            left: Leaving::ALL.map(|why| counter("aircheck_listeners_left_total", labels([("reason", why.label())]))),
            levels: (0..format.channels())
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
            recorders: Mount::ALL
                .map(|_| {
                    Arc::new(MountRecorders {
                        lag_micros: SharedRecorder::new(MAX_MICROS, Precision::TwoDigits),
                        gap_blocks: SharedRecorder::new(GAP_MOST, Precision::TwoDigits),
                        queue_micros: Arc::clone(&queue),
                        socket_micros: Arc::clone(&socket),
                        ear_micros: Arc::clone(&ear),
                    })
                })
                .into(),
            ring_micros,
            rendering: Mutex::new(()),
        }
    }

    /// What a listener of this mount records to.
    #[must_use]
    pub fn recorders(&self, mount: Mount) -> &Arc<MountRecorders> {
        &self.recorders[mount as usize]
    }

    /// Somebody was refused.
    pub fn refuse(&self, why: Refusal) {
        self.refused[why as usize].increment(1);
    }

    /// Everything, as `exposition` has it. Nothing here waits for a listener.
    #[must_use]
    pub fn render(
        &self,
        exposition: Exposition,
        capture: &CaptureTally,
        meter: &Meter,
        listeners: &Listeners,
        recording: Option<&Recording>,
    ) -> String {
        let _rendering = self.rendering.lock().unwrap_or_else(PoisonError::into_inner);
        self.capture_blocks.absolute(capture.blocks());
        self.capture_overflow.absolute(capture.lost_overflow());
        self.capture_xrun.absolute(capture.lost_xrun());
        self.capture_up.set(if capture.is_open() { 1.0 } else { 0.0 });
        for ([peak, rms], level) in self.levels.iter().zip(meter.levels()) {
            peak.set(f64::from(level.peak_dbfs));
            rms.set(f64::from(level.rms_dbfs));
        }
        // Before the histograms: to look at a listener counts what has become overdue.
        let standings = standings(listeners);
        let totals = listeners.totals();
        for series in &self.mounts {
            series.set(totals.by_mount.get(&series.mount).unwrap_or(&Totals::default()));
        }
        for (counter, count) in self.left.iter().zip(totals.left) {
            counter.absolute(count);
        }
        let mut text = self.prometheus.render();
        for family in self.histograms() {
            family.write(&mut text);
        }
        if let Some(recording) = recording {
            write_recording(&mut text, &recording.status());
        }
        write_listeners(&mut text, &standings);
        exposition.of(text)
    }

    fn histograms(&self) -> [Family<'_>; 3] {
        let by_mount = |pick: fn(&MountRecorders) -> &SharedRecorder| {
            Mount::ALL.map(|mount| (mount.label(), pick(self.recorders(mount)))).into()
        };
        // The stages after the ring are the same of every mount.
        let any = self.recorders(Mount::Wav);
        [
            Family {
                name: "aircheck_lag_seconds",
                help: "How far listeners were behind the live head at each block that they were due, whether they got \
                       it or lost it; what they asked for (burst) is not counted.",
                bounds: &LAG_BOUNDS,
                scale: 1_000_000,
                label: "format",
                series: by_mount(|recorders| &recorders.lag_micros),
            },
            Family {
                name: "aircheck_gap_blocks",
                help: "Blocks that a listener missed in a row.",
                bounds: &GAP_BOUNDS,
                scale: 1,
                label: "format",
                series: by_mount(|recorders| &recorders.gap_blocks),
            },
            Family {
                name: "aircheck_latency_seconds",
                help: "Time by stage. ring: from the capture of a block's first frame to its dispatch; queue: from \
                       there to a listener's connection; socket: from there out of this machine's kernel, \
                       acknowledged by the listener's; ear: from the capture to where it is heard, by players that report it.",
                bounds: &LATENCY_BOUNDS,
                scale: 1_000_000,
                label: "stage",
                series: vec![
                    ("ring", &self.ring_micros),
                    ("queue", &any.queue_micros),
                    ("socket", &any.socket_micros),
                    ("ear", &any.ear_micros),
                ],
            },
        ]
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

fn write_recording(text: &mut String, status: &RecordStatus) {
    let series = [
        ("aircheck_record_up", "gauge", "Whether the recorder can write.", u64::from(status.failing.is_none())),
        ("aircheck_record_blocks_total", "counter", "Blocks of sound in recorded files.", status.blocks),
        ("aircheck_record_lost_blocks_total", "counter", "Blocks that are silent or missing in them.", status.lost),
    ];
    for (name, kind, help, value) in series {
        write_help_line(text, name, None, None, help);
        write_type_line(text, name, None, None, kind);
        // Writing to a string can't fail.
        let _ = writeln!(text, "{name} {value}");
    }
    text.push('\n');
}

/// A gauge of each of the listeners that lag most: its name, what it tells, an additional label, and its value.
type ListenerGauge = (&'static str, &'static str, &'static str, fn(&Listener, &Standing) -> f64);

const LISTENER_GAUGES: [ListenerGauge; 6] = [
    (
        "aircheck_listener_lag_seconds",
        "How far each listener is behind the live head, as far as that can be seen from here; the 100 that lag most.",
        "",
        |listener, standing| listener.seconds(standing.lag()),
    ),
    ("aircheck_listener_burst_seconds", "How much of that lag it asked for.", "", |listener, standing| {
        listener.seconds(standing.burst)
    }),
    (
        "aircheck_listener_lag_part_seconds",
        "Where its lag is. ring: waits here, or was refused; socket: sent or to be sent, not acknowledged; listener: \
         taken in by its machine, not read by its program.",
        r#",part="ring""#,
        |listener, standing| listener.seconds(standing.ring),
    ),
    ("aircheck_listener_lag_part_seconds", "", r#",part="socket""#, |listener, standing| {
        listener.seconds(standing.socket)
    }),
    ("aircheck_listener_lag_part_seconds", "", r#",part="listener""#, |listener, standing| {
        listener.seconds(standing.unread)
    }),
    ("aircheck_listener_lost_blocks", "Blocks that it has lost so far.", "", |_, standing| {
        standing.snapshot.lost.total() as f64
    }),
];

/// Those who lag most, and where they stand.
fn standings(listeners: &Listeners) -> Vec<(Standing, Arc<Listener>)> {
    let now = Timestamp::now();
    let mut standings: Vec<_> =
        listeners.present().into_iter().map(|listener| (listener.standing(now), listener)).collect();
    standings.sort_by_key(|(standing, listener)| (std::cmp::Reverse(standing.lag()), listener.id()));
    standings.truncate(LISTENER_SERIES);
    standings
}

fn write_listeners(text: &mut String, standings: &[(Standing, Arc<Listener>)]) {
    let names: Vec<_> = standings.iter().map(|(_, listener)| sanitize_label_value(listener.name())).collect();
    let mut family = "";
    for (name, help, label, value) in LISTENER_GAUGES {
        if name != family {
            family = name;
            write_help_line(text, name, None, None, help);
            write_type_line(text, name, None, None, "gauge");
        }
        for ((standing, listener), listener_name) in standings.iter().zip(&names) {
            let (id, format, value) = (listener.id(), listener.mount().label(), value(listener, standing));
            // Writing to a string can't fail.
            let _ =
                writeln!(text, r#"{name}{{listener="{id}",name="{listener_name}",format="{format}"{label}}} {value}"#);
        }
    }
}

fn describe() {
    use metrics::{describe_counter, describe_gauge};

    describe_gauge!("aircheck_build_info", "Which version this is.");
    describe_gauge!("aircheck_block_seconds", "How long a block sounds.");
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
    describe_counter!("aircheck_listeners_left_total", "Listeners who are gone, and why.");
    describe_counter!("aircheck_offered_blocks_total", "Blocks offered to listeners.");
    describe_counter!("aircheck_delivered_blocks_total", "Blocks written to listeners' connections.");
    describe_counter!(
        "aircheck_lost_blocks_total",
        "Blocks that listeners never get; reason late: skipped because of the lag limit; left: still queued when the \
         listener went."
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
