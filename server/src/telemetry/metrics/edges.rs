//! The series of other servers whose listeners are gathered, one of each for an edge, and of the reports to and from them.
//!
//! Single listeners of edges have none: each edge has those itself.

use std::fmt::Display;

use aircheck_api::{EdgeStatus, GatherStatus, ReportStatus};
use aircheck_engine::Timestamp;
use metrics::Label;

use super::family::write_family;
use super::labels::labels;
use crate::audience::edges::Seen;
use crate::audience::gathering::Gathering;
use crate::audience::reporting::Reporting;

/// Writes the series of what there is.
pub(super) fn write(text: &mut String, gathering: Option<&Gathering>, reporting: Option<&Reporting>) {
    let now = Timestamp::now();
    if let Some(gathering) = gathering {
        write_gathering(text, &gathering.status(now));
        write_edges(text, &gathering.seen(now).iter().map(Seen::status).collect::<Vec<_>>());
    }
    if let Some(reporting) = reporting {
        write_reporting(text, &reporting.status());
    }
}

fn write_gathering(text: &mut String, status: &GatherStatus) {
    let help = "Whether the connection to NATS is there from which reports of edges come.";
    one(text, ("aircheck_gather_connected", "gauge", help), u64::from(status.is_connected));
    let help = "Number of times that it was made again.";
    one(text, ("aircheck_gather_reconnects_total", "counter", help), status.reconnects);
    let help = "Number of times that messages found the subscription full, because this server was too slow.";
    one(text, ("aircheck_gather_slow_consumer_total", "counter", help), status.slow_consumer_events);
    let help = "Edges that were silent for so long that they are no longer shown.";
    one(text, ("aircheck_gather_dropped_edges_total", "counter", help), status.dropped_edges);
    let help = "Messages from edges. taken: reports; late: come after a newer one; foreign: of a second server of the same name; full: of \
                further edges than can be gathered; too_long, version, malformed: such as cannot be read.";
    let results = status.messages.by_name().map(|(result, count)| (labels(&[("result", result)]), count));
    family(text, ("aircheck_gather_messages_total", "counter", help), results);
}

fn write_edges(text: &mut String, edges: &[EdgeStatus]) {
    if edges.is_empty() {
        return;
    }
    let label = |edge: &EdgeStatus| vec![Label::new("edge", edge.name.clone())];
    let help = "Whether an edge is heard. 0: it has fallen silent, or its reports come late.";
    let up = edges.iter().map(|edge| (label(edge), u8::from(!edge.is_silent)));
    family(text, ("aircheck_edge_up", "gauge", help), up);
    let help = "How old the figures of an edge are.";
    let ages = edges.iter().map(|edge| (label(edge), edge.age_seconds));
    family(text, ("aircheck_edge_report_age_seconds", "gauge", help), ages);
    // What a silent edge told last may no longer be true.
    let heard: Vec<_> = edges.iter().filter(|edge| !edge.is_silent).collect();
    type Figure = fn(&EdgeStatus) -> Option<f64>;
    let figures: [(&str, &'static str, &str, Figure); 7] = [
        ("aircheck_edge_listeners", "gauge", "Listeners of an edge.", |it| Some(it.totals.listeners as f64)),
        ("aircheck_edge_listeners_behind", "gauge", "Those of them that have fallen behind.", |it| {
            Some(it.totals.behind as f64)
        }),
        (
            "aircheck_edge_listeners_left_off",
            "gauge",
            "Those of them whose rows are not shown here, because they are not among the furthest behind.",
            |it| Some(it.left_off as f64),
        ),
        (
            "aircheck_edge_worst_lag_seconds",
            "gauge",
            "The lag of the listener of an edge that is furthest behind, without the requested lag (burst).",
            |it| it.totals.worst_lag_seconds,
        ),
        ("aircheck_edge_offered_blocks_total", "counter", "Blocks offered to listeners of an edge.", |it| {
            Some(it.totals.offered as f64)
        }),
        ("aircheck_edge_delivered_blocks_total", "counter", "Blocks written to their connections.", |it| {
            Some(it.totals.delivered as f64)
        }),
        ("aircheck_edge_lost_blocks_total", "counter", "Blocks that they never get.", |it| Some(it.totals.lost as f64)),
    ];
    for (name, kind, help, figure) in figures {
        let series: Vec<_> = heard.iter().filter_map(|edge| Some((label(edge), figure(edge)?))).collect();
        if !series.is_empty() {
            family(text, (name, kind, help), series);
        }
    }
}

fn write_reporting(text: &mut String, status: &ReportStatus) {
    let help = "Whether the connection to NATS is there on which this server reports on its listeners.";
    one(text, ("aircheck_report_connected", "gauge", help), u64::from(status.is_connected));
    let help = "Number of times that it was made again.";
    one(text, ("aircheck_report_reconnects_total", "counter", help), status.reconnects);
    one(text, ("aircheck_report_sent_total", "counter", "Reports that were handed to NATS."), status.sent);
}

fn one(text: &mut String, about: (&str, &'static str, &str), value: u64) {
    family(text, about, [(Vec::new(), value)]);
}

fn family<V: Display>(
    text: &mut String,
    (name, kind, help): (&str, &'static str, &str),
    series: impl IntoIterator<Item = (Vec<Label>, V)>,
) {
    write_family(text, name, kind, help, series);
    text.push('\n');
}
