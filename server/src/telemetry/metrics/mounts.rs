//! The series that belong to a mount. Each has the label `mount`, and is gone with it.
//!
//! They are written from the mounts' own counts, because the exporter never forgets a series.

use std::collections::BTreeMap;
use std::fmt::Display;

use aircheck_api::{HopStatus, PublishStatus, PushStatus, RecordingStatus, Rendition, ReplayStatus};
use aircheck_engine::{CaptureStats, Drift, Loss, Substitute, Timestamp};
use metrics::Label;

use super::family::write_family;
use super::labels::{labels, mount_label};
use super::{LEFT, MountView};
use crate::delivery::listeners::{RenditionTotals, Totals};
use crate::mount::loudness::{Loudness, TruePeak};
use crate::sink::hls::Account;

/// A series: its labels besides that of the mount, and its value.
type Series<V> = (Vec<Label>, V);

/// Writes all series of these mounts, and those of the names in `unopened`, whose sources could not be opened yet.
pub(super) fn write(text: &mut String, mounts: &[MountView<'_>], unopened: &[&str], totals: &Totals) {
    write_capture(text, mounts, unopened);
    write_meter(text, mounts);
    write_clock(text, mounts);
    write_listeners(text, mounts, totals);
    write_recordings(text, mounts);
    write_hops(text, mounts);
    write_published(text, mounts);
    write_hls(text, mounts);
    write_pushes(text, mounts);
}

fn write_capture(text: &mut String, mounts: &[MountView<'_>], unopened: &[&str]) {
    let counter = |text: &mut String, name, help, value: fn(&CaptureStats) -> u64| {
        write_mounts(text, mounts, (name, "counter", help), |view| vec![(vec![], value(view.mount.capture()))]);
    };
    write_mounts(text, mounts, ("aircheck_block_seconds", "gauge", "Length of a block."), |view| {
        vec![(vec![], view.mount.format().block_span().as_secs_f64())]
    });
    counter(text, "aircheck_capture_blocks_total", "Blocks captured from the source.", CaptureStats::blocks);
    let help = "Blocks lost at the capture: overflow (the dispatcher was late), xrun (the device missed them), source (the source \
                was lost, or came in a burst after a pause) or hop (they did not come from the server that is the source).";
    write_mounts(text, mounts, ("aircheck_capture_lost_blocks_total", "counter", help), |view| {
        let capture = view.mount.capture();
        let lost = [
            ("overflow", capture.lost_overflow()),
            ("xrun", capture.lost_xrun()),
            ("source", capture.lost_source()),
            ("hop", capture.lost_hop()),
        ];
        lost.map(|(reason, blocks)| (labels(&[("reason", reason)]), blocks)).into()
    });
    let help = "Blocks of the fallback, which were heard instead of the source.";
    counter(text, "aircheck_capture_fallback_blocks_total", help, CaptureStats::fallback);
    let help = "Number of times that the source was opened again.";
    counter(text, "aircheck_capture_restarts_total", help, |capture| capture.outages().restarts());
    let help = "Time for which the source was lost.";
    write_mounts(text, mounts, ("aircheck_capture_down_seconds_total", "counter", help), |view| {
        vec![(vec![], view.mount.capture().outages().down(Timestamp::now()).as_secs_f64())]
    });
    let up = |view: &MountView<'_>| (mount_label(view.mount.name()), u8::from(view.mount.capture().is_open()));
    let down = |name: &&str| (mount_label(name), 0);
    let series = mounts.iter().map(up).chain(unopened.iter().map(down));
    write_family(text, "aircheck_capture_up", "gauge", "Whether the source is open and not lost.", series);
    text.push('\n');
    let help = "Whether the fallback is heard instead of the source.";
    write_mounts(text, mounts, ("aircheck_fallback", "gauge", help), |view| {
        let outage = view.mount.capture().outages().current();
        vec![(vec![], u8::from(outage.is_some_and(|outage| outage.substitute == Substitute::Fallback)))]
    });
}

/// Writes levels, clips, loudness and true peaks. There is no loudness before the first sound, nor for a rate that has none.
fn write_meter(text: &mut String, mounts: &[MountView<'_>]) {
    let channel = |channel: u16| Label::new("channel", channel.to_string());
    let help = "Level of a channel over the last 300 ms; full scale is 0.";
    write_mounts(text, mounts, ("aircheck_capture_level_dbfs", "gauge", help), |view| {
        let levels = (0..).zip(view.mount.meter().levels());
        let kinds = levels.flat_map(|(number, level)| {
            [("peak", level.peak_dbfs), ("rms", level.rms_dbfs)]
                .map(|(kind, level)| (vec![channel(number), Label::from_static_parts("kind", kind)], level))
        });
        kinds.collect()
    });
    let help =
        "Runs of three or more samples of a channel in a row at full scale: the sound is too loud for its source.";
    write_mounts(text, mounts, ("aircheck_capture_clips_total", "counter", help), |view| {
        (0..).zip(view.mount.meter().clips()).map(|(number, clips)| (vec![channel(number)], clips)).collect()
    });
    let loudness = |view: &MountView<'_>| view.mount.meter().loudness();
    let help = "Loudness by EBU R128: of the last 0.4 s (momentary), of the last 3 s (short_term), and of everything since the start, \
                gated (integrated).";
    write_mounts(text, mounts, ("aircheck_loudness_lufs", "gauge", help), |view| {
        let windows = loudness(view).map(|Loudness { momentary_lufs, short_term_lufs, integrated_lufs, .. }| {
            [("momentary", momentary_lufs), ("short_term", short_term_lufs), ("integrated", integrated_lufs)]
        });
        let windows = windows.into_iter().flatten();
        windows.map(|(window, lufs)| (labels(&[("window", window)]), lufs)).collect()
    });
    let help = "Loudness range since the start, by EBU Tech 3342.";
    write_mounts(text, mounts, ("aircheck_loudness_range_lu", "gauge", help), |view| {
        loudness(view).map(|loudness| (vec![], loudness.range_lu)).into_iter().collect()
    });
    let help = "The largest true peak of a channel since the start; full scale is 0.";
    write_mounts(text, mounts, ("aircheck_true_peak_dbtp", "gauge", help), |view| {
        let peaks = loudness(view).map(|_| view.mount.meter().true_peaks()).into_iter().flatten();
        (0..).zip(peaks).map(|(number, peak): (u16, &TruePeak)| (vec![channel(number)], peak.dbtp())).collect()
    });
}

/// Writes the series of the sources' clocks. There are none before the drift is known.
fn write_clock(text: &mut String, mounts: &[MountView<'_>]) {
    let help = "Sound that stands in the pipe in front of the source, and is late by as much.";
    write_mounts(text, mounts, ("aircheck_capture_waiting_seconds", "gauge", help), |view| {
        vec![(vec![], view.mount.capture().waiting().as_secs_f64())]
    });
    let drift = |view: &MountView<'_>, figure: fn(Drift) -> f64| {
        view.mount.capture().drift().map(|drift| (vec![], figure(drift))).into_iter().collect()
    };
    let help = "How much faster the source's clock is than the system's, in parts per million.";
    write_mounts(text, mounts, ("aircheck_capture_drift_ppm", "gauge", help), |view| drift(view, |drift| drift.ppm));
    let help = "Two standard errors of the drift: the true one is as close as this in 19 of 20 cases.";
    write_mounts(text, mounts, ("aircheck_capture_drift_error_ppm", "gauge", help), |view| {
        drift(view, |drift| drift.error_ppm)
    });
}

/// Writes the totals over the listeners of each rendition.
fn write_listeners(text: &mut String, mounts: &[MountView<'_>], totals: &Totals) {
    let none = BTreeMap::new();
    let of_none = RenditionTotals::default();
    let by_rendition = |view: &MountView<'_>, value: fn(&RenditionTotals) -> u64| {
        let of_mount = totals.by_mount.get(view.mount.name()).unwrap_or(&none);
        let series =
            |rendition: Rendition| (format_label(rendition), value(of_mount.get(&rendition).unwrap_or(&of_none)));
        Rendition::ALL.map(series).into()
    };
    let help = "Listeners that are present.";
    write_mounts(text, mounts, ("aircheck_listeners", "gauge", help), |view| by_rendition(view, |it| it.present));
    let help = "Blocks offered to listeners.";
    write_mounts(text, mounts, ("aircheck_offered_blocks_total", "counter", help), |view| {
        by_rendition(view, |it| it.offered)
    });
    let help = "Blocks written to listeners' connections.";
    write_mounts(text, mounts, ("aircheck_delivered_blocks_total", "counter", help), |view| {
        by_rendition(view, |it| it.delivered)
    });
    let help = "Blocks that listeners never get. late: skipped because of the limit of lag; left: still queued when the listener left.";
    write_mounts(text, mounts, ("aircheck_lost_blocks_total", "counter", help), |view| {
        let of_mount = totals.by_mount.get(view.mount.name()).unwrap_or(&none);
        let lost = Rendition::ALL.into_iter().flat_map(|rendition| {
            let totals = of_mount.get(&rendition).unwrap_or(&of_none);
            let reasons = Loss::ALL.iter().zip(totals.lost).map(|(reason, blocks)| (reason.label(), blocks));
            let left = std::iter::once((LEFT, totals.left_queued));
            reasons.chain(left).map(move |(reason, blocks)| {
                ([format_label(rendition), labels(&[("reason", reason)])].concat(), blocks)
            })
        });
        lost.collect()
    });
}

fn format_label(rendition: Rendition) -> Vec<Label> {
    labels(&[("format", rendition.name())])
}

/// Writes the series of the recordings, of mounts that have one.
fn write_recordings(text: &mut String, mounts: &[MountView<'_>]) {
    type Figure = fn(&RecordingStatus) -> Option<u64>;
    let gauges: [(&str, &'static str, &str, Figure); 4] = [
        ("aircheck_record_up", "gauge", "Whether the recorder can write.", |it| Some(u64::from(it.failing.is_none()))),
        ("aircheck_record_blocks_total", "counter", "Blocks of sound in recorded files.", |it| Some(it.blocks)),
        (
            "aircheck_record_lost_blocks_total",
            "counter",
            "Blocks that are silent or missing in recorded files.",
            |it| Some(it.lost),
        ),
        (
            "aircheck_record_disk_free_bytes",
            "gauge",
            "Bytes that are free on the recording's disk, at the last look.",
            |it| it.free_bytes,
        ),
    ];
    for (name, kind, help, figure) in gauges {
        write_mounts(text, mounts, (name, kind, help), |view| {
            view.recording.as_ref().and_then(figure).map(|value| (vec![], value)).into_iter().collect()
        });
    }
}

/// Writes the series of mounts whose source is another server.
fn write_hops(text: &mut String, mounts: &[MountView<'_>]) {
    let statuses: Vec<_> =
        mounts.iter().map(|view| view.hop.as_ref().map(|hop| hop.status(view.mount.capture().lost_hop()))).collect();
    let hops: Vec<_> = mounts.iter().zip(&statuses).filter_map(|(view, hop)| Some((view, hop.as_ref()?))).collect();
    type Figure = fn(&HopStatus) -> Option<f64>;
    let figures: [(&str, &'static str, &str, Figure); 6] = [
        (
            "aircheck_hop_connected",
            "gauge",
            "Whether the connection to NATS is there from which the sound comes.",
            |it| Some(f64::from(u8::from(it.is_connected))),
        ),
        ("aircheck_hop_reconnects_total", "counter", "Number of times that it was made again.", |it| {
            Some(it.reconnects as f64)
        }),
        (
            "aircheck_hop_epochs_total",
            "counter",
            "Runs of the server that is the source which have been heard.",
            |it| Some(it.epochs as f64),
        ),
        (
            "aircheck_hop_slow_consumer_total",
            "counter",
            "Number of times that messages found the subscription full, because this server was too slow.",
            |it| Some(it.slow_consumer_events as f64),
        ),
        (
            "aircheck_hop_clock_offset_seconds",
            "gauge",
            "How far this server's clock is ahead of that of the server that is the source.",
            |it| it.clock_offset_seconds,
        ),
        ("aircheck_hop_clock_error_seconds", "gauge", "The offset is right to this.", |it| it.clock_error_seconds),
    ];
    for (name, kind, help, figure) in figures {
        let series = hops.iter().filter_map(|(view, hop)| Some((mount_label(view.mount.name()), figure(hop)?)));
        write_all(text, (name, kind, help), series.collect());
    }
    let help = "Messages from the server that is the source, each of a block, or with Opus of 20 ms. taken: of the stream; filled: such as were \
                missing, and were fetched from the replay; past: such as were fetched for the history at the start; late: too late; duplicate: come \
                already; foreign: of a second publisher; format, version, malformed: such as cannot be taken.";
    let series = hops.iter().flat_map(|(view, hop)| {
        let label = mount_label(view.mount.name());
        hop.messages
            .by_name()
            .map(move |(result, count)| ([label.clone(), labels(&[("result", result)])].concat(), count))
    });
    write_all(text, ("aircheck_hop_messages_total", "counter", help), series.collect());
}

/// Writes the series of what is published for other servers.
fn write_published(text: &mut String, mounts: &[MountView<'_>]) {
    type Figure = fn(&PublishStatus) -> u64;
    let figures: [(&str, &'static str, &str, Figure); 6] = [
        (
            "aircheck_publish_connected",
            "gauge",
            "Whether the connection to NATS is there on which the sound is published.",
            |it| u64::from(it.is_connected),
        ),
        ("aircheck_publish_reconnects_total", "counter", "Number of times that it was made again.", |it| it.reconnects),
        ("aircheck_publish_offered_blocks_total", "counter", "Blocks that were to be published.", |it| it.offered),
        ("aircheck_publish_sent_blocks_total", "counter", "Blocks that were handed to NATS.", |it| it.sent),
        (
            "aircheck_publish_lost_blocks_total",
            "counter",
            "Blocks that were not published: NATS was away or too slow, or the capture had lost them.",
            |it| it.lost,
        ),
        ("aircheck_publish_queued_blocks", "gauge", "Blocks that wait to be published.", |it| it.queued),
    ];
    for (name, kind, help, figure) in figures {
        write_mounts(text, mounts, (name, kind, help), |view| {
            view.publish.as_ref().map(|publish| (vec![], figure(publish))).into_iter().collect()
        });
    }
    type ReplayFigure = fn(&ReplayStatus) -> u64;
    let of_replays: [(&str, &'static str, &str, ReplayFigure); 2] = [
        (
            "aircheck_publish_replay_up",
            "gauge",
            "Whether JetStream keeps the last minutes of what is published.",
            |it| it.is_kept.into(),
        ),
        (
            "aircheck_publish_replay_failures_total",
            "counter",
            "Number of times that the stream of the replay could not be made or looked at.",
            |it| it.failures,
        ),
    ];
    for (name, kind, help, figure) in of_replays {
        write_mounts(text, mounts, (name, kind, help), |view| {
            let replay = view.publish.as_ref().and_then(|publish| publish.replay.as_ref());
            replay.map(|replay| (vec![], figure(replay))).into_iter().collect()
        });
    }
}

/// Writes the accounts of those that make the segments of HLS. Their blocks are in no total of listeners. Each account is read once, so
/// that its figures are of one moment.
fn write_hls(text: &mut String, mounts: &[MountView<'_>]) {
    let mut accounts: Vec<(Vec<Label>, Account)> = Vec::new();
    for view in mounts {
        for packager in view.hls.possible() {
            let format = labels(&[("format", packager.variant().name())]);
            accounts.push(([mount_label(view.mount.name()), format].concat(), packager.account()));
        }
    }
    let mut write = |family, figure: fn(&Account) -> u64| {
        write_all(text, family, accounts.iter().map(|(labels, account)| (labels.clone(), figure(account))).collect());
    };
    let help = "Whether segments of HLS are being made, because somebody asks for them.";
    write(("aircheck_hls_running", "gauge", help), |it| it.is_running.into());
    write(("aircheck_hls_segments_total", "counter", "Segments of HLS that were made."), |it| it.segments);
    let help = "Blocks offered for segments of HLS.";
    write(("aircheck_hls_offered_blocks_total", "counter", help), |it| it.offered);
    let help = "Blocks taken for segments of HLS.";
    write(("aircheck_hls_delivered_blocks_total", "counter", help), |it| it.delivered);
    let help = "Blocks that are silence in segments of HLS, or in none of them.";
    write(("aircheck_hls_lost_blocks_total", "counter", help), |it| it.lost);
    let requests = accounts.iter().flat_map(|(of_format, account)| {
        let kinds = [("playlist", account.playlist_requests), ("segment", account.segment_requests)];
        kinds.map(|(kind, requests)| ([of_format.clone(), labels(&[("kind", kind)])].concat(), requests))
    });
    let help = "Requests for playlists and segments of HLS that came to this server, and not to a cache before it.";
    write_all(text, ("aircheck_hls_requests_total", "counter", help), requests.collect());
}

/// Writes the series of the Icecast servers to which mounts are pushed.
fn write_pushes(text: &mut String, mounts: &[MountView<'_>]) {
    type Figure = fn(&PushStatus) -> Option<f64>;
    let figures: [(&str, &'static str, &str, Figure); 3] = [
        ("aircheck_push_up", "gauge", "Whether an Icecast server takes the sound that is pushed to it.", |it| {
            Some(if it.listener.is_some() { 1.0 } else { 0.0 })
        }),
        ("aircheck_push_connections_total", "counter", "Number of times that it was connected.", |it| {
            Some(it.connections as f64)
        }),
        ("aircheck_push_lag_seconds", "gauge", "How far it is behind the live head, while it takes the sound.", |it| {
            it.lag_seconds
        }),
    ];
    for (name, kind, help, figure) in figures {
        write_mounts(text, mounts, (name, kind, help), |view| {
            let series = |push: &PushStatus| Some((vec![Label::new("to", push.to.clone())], figure(push)?));
            view.pushes.iter().filter_map(series).collect()
        });
    }
}

/// Writes a family of series, those of each mount with its label. Without a series, nothing is written.
fn write_mounts<'v, V: Display>(
    text: &mut String,
    mounts: &'v [MountView<'v>],
    (name, kind, help): (&str, &'static str, &str),
    series: impl Fn(&'v MountView<'v>) -> Vec<Series<V>>,
) {
    let with_mount = |view: &'v MountView<'v>| {
        let label = mount_label(view.mount.name());
        series(view).into_iter().map(move |(labels, value)| ([label.clone(), labels].concat(), value))
    };
    write_all(text, (name, kind, help), mounts.iter().flat_map(with_mount).collect());
}

/// Writes a family of series. Without a series, nothing is written.
fn write_all<V: Display>(text: &mut String, (name, kind, help): (&str, &'static str, &str), series: Vec<Series<V>>) {
    if !series.is_empty() {
        write_family(text, name, kind, help, series);
        text.push('\n');
    }
}
