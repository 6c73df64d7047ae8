//! The series of single listeners: those that are behind, and no others.
//!
//! A series costs memory in Prometheus for as long as its data is kept, so healthy listeners, which come and go all day,
//! have none. A listener that was behind has its series until it keeps up again ([`Listener::is_behind`]).

use std::cmp::Reverse;
use std::sync::Arc;

use aircheck_engine::Timestamp;
use metrics::Label;
use metrics_exporter_prometheus::LabelSet;
use metrics_exporter_prometheus::formatting::{write_help_line, write_metric_line, write_type_line};

use super::labels::label_set;
use crate::delivery::listener::Listener;
use crate::delivery::listeners::Listeners;
use crate::delivery::standing::Standing;

/// The most listeners with series of their own: those with the largest lag. With eight series each, the target stays below
/// the few thousand series that one should have.
const MAX_LISTENERS: usize = 100;

/// A gauge of a listener: name, help, the label `part` if it has one, and its value.
type ListenerGauge = (&'static str, &'static str, Option<&'static str>, fn(&Listener, &Standing) -> f64);

const GAUGES: [ListenerGauge; 8] = [
    (
        "aircheck_listener_lag_seconds",
        "How far a listener that has fallen behind is behind the live head, as far as the server can see; at most 100 \
         listeners.",
        None,
        |listener, standing| listener.mount().seconds(standing.lag()),
    ),
    (
        "aircheck_listener_lag_at_least_seconds",
        "The least that this lag can be, by what the listener's machine acknowledges and offers to take.",
        None,
        |listener, standing| listener.mount().seconds(*standing.lag_bounds().start()),
    ),
    ("aircheck_listener_lag_at_most_seconds", "The most that this lag can be.", None, |listener, standing| {
        listener.mount().seconds(*standing.lag_bounds().end())
    }),
    (
        "aircheck_listener_burst_seconds",
        "The part of that lag that the listener requested.",
        None,
        |listener, standing| listener.mount().seconds(standing.burst),
    ),
    (
        "aircheck_listener_lag_part_seconds",
        "Where that lag is. ring: queued for the listener in the server, or lost there; socket: handed to the kernel and \
         not acknowledged; listener: received by the listener's machine and not read by its program.",
        Some("ring"),
        |listener, standing| listener.mount().seconds(standing.undelivered),
    ),
    ("aircheck_listener_lag_part_seconds", "", Some("socket"), |listener, standing| {
        listener.mount().seconds(standing.socket)
    }),
    ("aircheck_listener_lag_part_seconds", "", Some("listener"), |listener, standing| {
        listener.mount().seconds(standing.unread)
    }),
    ("aircheck_listener_lost_blocks", "Blocks that the listener has lost so far.", None, |_, standing| {
        standing.snapshot.lost.total() as f64
    }),
];

/// Writes the series of the listeners that are behind.
pub(super) fn write(text: &mut String, listeners: &Listeners) {
    let standings = standings(listeners);
    let mut family = "";
    for (name, help, part, value) in GAUGES {
        if name != family {
            family = name;
            write_help_line(text, name, None, None, help);
            write_type_line(text, name, None, None, "gauge");
        }
        let part = part.map(|part| ("part", part));
        for (labels, standing, listener) in &standings {
            write_metric_line(text, name, None, labels, part, value(listener, standing), None);
        }
    }
}

/// Returns the listeners that are behind, the furthest first.
fn standings(listeners: &Listeners) -> Vec<(LabelSet, Standing, Arc<Listener>)> {
    let now = Timestamp::now();
    let behind = listeners.furthest_behind(MAX_LISTENERS, Listener::is_behind);
    let with_standing = |listener: Arc<Listener>| (labels(&listener), listener.standing(now), listener);
    let mut standings: Vec<_> = behind.into_iter().map(with_standing).collect();
    standings.sort_by_key(|(_, standing, listener)| (Reverse(standing.lag()), listener.id()));
    standings
}

fn labels(listener: &Listener) -> LabelSet {
    label_set(vec![
        Label::new("mount", listener.mount().name().to_owned()),
        Label::new("listener", listener.id().to_string()),
        Label::new("name", listener.name().to_owned()),
        Label::from_static_parts("format", listener.rendition().name()),
    ])
}
