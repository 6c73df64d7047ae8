//! The table's columns: what each shows of a listener, and which of them fit.

use aircheck_api::{ListenerRow, Verdict};

use super::order::SortKey;
use super::row;
use super::snapshot::Snapshot;
use super::theme::Tone;
use crate::table::{Align, COLUMN_GAP};
use crate::units::{self, NOTHING};

/// A column. They stand in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Column {
    Name,
    Mount,
    Remote,
    Format,
    Lag,
    Bounds,
    Trend,
    Requested,
    Fault,
    Waits,
    State,
    Lost,
    Share,
    Gaps,
    P99,
    Max,
    Queue,
    Socket,
    Read,
    Ear,
    Here,
}

use Column::{
    Bounds, Ear, Fault, Format, Gaps, Here, Lag, Lost, Max, Mount, Name, P99, Queue, Read, Remote, Requested, Share,
    Socket, State, Trend, Waits,
};

/// The look of a column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) title: &'static str,
    pub(crate) align: Align,
    /// Its least width.
    cells: usize,
}

/// All columns by importance: where there is little room, the last one goes first. The smallest terminal has three.
const BY_IMPORTANCE: [Column; 21] = [
    Name, Lag, Lost, Mount, Bounds, Fault, Trend, Requested, Format, State, Waits, P99, Share, Max, Gaps, Remote,
    Queue, Socket, Read, Ear, Here,
];
/// Most cells of names and trends, which with states share the room that is left over.
const MAX_NAME_CELLS: usize = 28;
const MAX_TREND_CELLS: usize = 20;
/// The most cells of a state: the longest that the server says, of a probably slow listener behind a proxy.
const MAX_STATE_CELLS: usize = 71;

/// Returns the columns that fit into `cells`, each with its width.
pub(crate) fn fitting(snapshot: &Snapshot, cells: usize) -> Vec<(Column, usize)> {
    let mut chosen: Vec<Column> = Vec::new();
    let mut used = 0;
    for column in BY_IMPORTANCE {
        let more = column.layout().cells + if chosen.is_empty() { 0 } else { COLUMN_GAP };
        if column.is_wanted(snapshot) && used + more <= cells {
            used += more;
            chosen.push(column);
        }
    }
    let mut spare = cells.saturating_sub(used);
    let mut widened = |column: Column, most: usize| {
        let least = column.layout().cells;
        let more = if chosen.contains(&column) { spare.min(most - least) } else { 0 };
        spare -= more;
        least + more
    };
    let (name, state, trend) =
        (widened(Name, MAX_NAME_CELLS), widened(State, MAX_STATE_CELLS), widened(Trend, MAX_TREND_CELLS));
    let width = |column| match column {
        Name => name,
        State => state,
        Trend => trend,
        other => other.layout().cells,
    };
    chosen.sort();
    chosen.into_iter().map(|column| (column, width(column))).collect()
}

impl Column {
    /// Returns the look.
    pub(crate) const fn layout(self) -> Layout {
        const fn left(title: &'static str, cells: usize) -> Layout {
            Layout { title, align: Align::Left, cells }
        }
        const fn right(title: &'static str, cells: usize) -> Layout {
            Layout { title, align: Align::Right, cells }
        }
        match self {
            // An IPv4 address and its port on this machine, for a listener without a name.
            Name => left("listener", 15),
            // A name has up to 32 letters, and most are short.
            Mount => left("mount", 10),
            // An IPv4 address and its port; the line below the table has longer ones.
            Remote => left("address", 21),
            Format => left("format", 6),
            Lag => right("lag", 7),
            // From a tenth to a thousand seconds.
            Bounds => left("between", 14),
            Trend => left("last min", 10),
            Requested => right("requested", 9),
            Fault => left("fault", 13),
            Waits => left("most of the lag", 19),
            State => left("state", 30),
            // A million blocks: a listener that stood still for three hours.
            Lost => right("lost", 9),
            Share => right("of all", 7),
            Gaps => right("gaps", 6),
            P99 => right("lag p99", 7),
            Max => right("lag max", 7),
            Queue => right("queue p50", 9),
            Socket => right("socket p50", 10),
            Read => right("read p50", 9),
            Ear => right("ear p50", 9),
            Here => right("here for", 11),
        }
    }

    /// Returns the key that sorts rows by this column.
    pub(crate) const fn key(self) -> Option<SortKey> {
        match self {
            Name => Some(SortKey::Name),
            Lag => Some(SortKey::Lag),
            Lost => Some(SortKey::Lost),
            Here => Some(SortKey::Connected),
            _ => None,
        }
    }

    /// Returns whether a cell of it has content.
    fn is_wanted(self, snapshot: &Snapshot) -> bool {
        match self {
            Mount => snapshot.rows.iter().any(|row| row.mount != snapshot.status.mount),
            Requested => snapshot.rows.iter().any(|row| row::requested_seconds(row).is_some()),
            Bounds => snapshot.rows.iter().any(|row| row::bounds(row).is_some()),
            State => snapshot.rows.iter().any(|row| row::state(row).is_some()),
            Read => snapshot.rows.iter().any(|row| row.latency_seconds.read.is_some()),
            Ear => snapshot.rows.iter().any(|row| row.latency_seconds.ear.is_some()),
            _ => true,
        }
    }

    /// Returns the text of a row's cell, and its look.
    pub(crate) fn cell(self, row: &ListenerRow, snapshot: &Snapshot, cells: usize) -> (String, Tone) {
        let verdict = tone(row.verdict);
        let stages = &row.latency_seconds;
        let or_nothing = |text: Option<String>| {
            let tone = if text.is_some() { Tone::Plain } else { Tone::Quiet };
            (text.unwrap_or_else(|| NOTHING.to_owned()), tone)
        };
        let time = |span: Option<f64>| or_nothing(span.map(|span| units::latency(Some(span))));
        match self {
            Name => (row::title(row), Tone::Plain),
            Mount => (row.mount.clone(), Tone::Quiet),
            Remote => (row::address(row), Tone::Quiet),
            Format => (row.format.to_string(), Tone::Plain),
            Lag => (units::lag(row::unrequested_seconds(row)), verdict),
            Bounds => or_nothing(row::bounds(row)),
            Trend => (snapshot.bars(row, cells), if verdict == Tone::Plain { Tone::Quiet } else { verdict }),
            Requested => or_nothing(row::requested_seconds(row).map(|lag| format!("+ {}", units::lag(lag)))),
            Fault => match row::fault(row) {
                Some(fault) => (fault.to_owned(), verdict),
                None => (NOTHING.to_owned(), Tone::Quiet),
            },
            Waits => or_nothing(row::largest_part(row)),
            State => or_nothing(row::state(row).map(str::to_owned)),
            Lost => (units::grouped(row.lost), if row.lost > 0 { Tone::Bad } else { Tone::Quiet }),
            Share if row.lost > 0 => (units::percent(row.lost, row.offered), Tone::Plain),
            Share => or_nothing(None),
            Gaps => (units::grouped(row.gaps), if row.gaps > 0 { Tone::Plain } else { Tone::Quiet }),
            P99 => or_nothing(row.lag_p99_seconds.map(units::lag)),
            Max => or_nothing(row.lag_max_seconds.map(units::lag)),
            Queue => time(stages.queue.p50),
            Socket => time(stages.socket.p50),
            Read => time(stages.read.and_then(|read| read.p50)),
            Ear => time(stages.ear.and_then(|ear| ear.p50)),
            Here => (units::age(snapshot.status.now - row.connected_at), Tone::Quiet),
        }
    }
}

const fn tone(verdict: Verdict) -> Tone {
    match verdict {
        Verdict::Ok | Verdict::Unknown => Tone::Plain,
        Verdict::Behind => Tone::Warning,
        Verdict::FarBehind => Tone::Bad,
    }
}
