//! The table's columns: what each says of a listener, and which of them fit.

use super::api::{Row, Status};
use super::figures::{self, NOTHING};
use super::order::Key;
use super::picture::Picture;
use super::standing::Verdict;
use super::theme::Tone;

/// A column, in the order in which they stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    Name,
    Remote,
    Format,
    Lag,
    Trend,
    Asked,
    Fault,
    Waits,
    Lost,
    Share,
    Gaps,
    P99,
    Max,
    Queue,
    Socket,
    Ear,
    Here,
}

use Column::{
    Asked, Ear, Fault, Format, Gaps, Here, Lag, Lost, Max, Name, P99, Queue, Remote, Share, Socket, Trend, Waits,
};

/// As they stand.
const ALL: [Column; 17] =
    [Name, Remote, Format, Lag, Trend, Asked, Fault, Waits, Lost, Share, Gaps, P99, Max, Queue, Socket, Ear, Here];
/// As they fall away, the last one first. The first three are there in the smallest terminal.
const BY_IMPORTANCE: [Column; 17] =
    [Name, Lag, Lost, Fault, Trend, Asked, Waits, P99, Share, Max, Format, Gaps, Remote, Queue, Socket, Ear, Here];
/// Between two columns.
pub(crate) const GAP: usize = 2;
/// What names and trends may take of the room that is left over.
const NAME_MOST: usize = 28;
const TREND_MOST: usize = 20;

/// The columns that fit into `cells`, each with its width.
pub(crate) fn that_fit(picture: &Picture, cells: usize) -> Vec<(Column, usize)> {
    let mut chosen: Vec<Column> = Vec::new();
    let mut used = 0;
    for column in BY_IMPORTANCE {
        let more = column.least() + if chosen.is_empty() { 0 } else { GAP };
        if column.is_wanted(picture) && used + more <= cells {
            used += more;
            chosen.push(column);
        }
    }
    let mut spare = cells.saturating_sub(used);
    let mut wide = |column: Column, most: usize| {
        let more = if chosen.contains(&column) { spare.min(most - column.least()) } else { 0 };
        spare -= more;
        column.least() + more
    };
    let (name, trend) = (wide(Name, NAME_MOST), wide(Trend, TREND_MOST));
    let width = |column| match column {
        Name => name,
        Trend => trend,
        other => other.least(),
    };
    ALL.into_iter().filter(|column| chosen.contains(column)).map(|column| (column, width(column))).collect()
}

impl Column {
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Name => "listener",
            Remote => "address",
            Format => "format",
            Lag => "lag",
            Trend => "last min",
            Asked => "asked for",
            Fault => "fault",
            Waits => "waits in",
            Lost => "lost",
            Share => "of all",
            Gaps => "gaps",
            P99 => "lag p99",
            Max => "lag max",
            Queue => "queue p50",
            Socket => "socket p50",
            Ear => "ear p50",
            Here => "here for",
        }
    }

    /// What rows are sorted by when they are sorted by this.
    pub(crate) const fn key(self) -> Option<Key> {
        match self {
            Name => Some(Key::Name),
            Lag => Some(Key::Lag),
            Lost => Some(Key::Lost),
            Here => Some(Key::Connected),
            _ => None,
        }
    }

    /// Numbers stand at the right, below each other.
    pub(crate) const fn is_right(self) -> bool {
        !matches!(self, Name | Remote | Format | Trend | Fault | Waits)
    }

    /// The cells it takes at least.
    const fn least(self) -> usize {
        match self {
            // An IPv4 address and its port on this machine, for who has no name.
            Name => 15,
            // An IPv4 address and its port; longer ones are whole in the line below the table.
            Remote => 21,
            Format | Gaps => 6,
            Lag | P99 | Max | Share => 7,
            Trend => 10,
            // A million blocks, in lost ones: somebody who stood still for three hours.
            Asked | Lost | Queue | Ear => 9,
            Socket => 10,
            Fault => 13,
            Waits => 19,
            Here => 11,
        }
    }

    /// Whether there is something in it.
    fn is_wanted(self, picture: &Picture) -> bool {
        match self {
            Asked => picture.rows.iter().any(|row| row.asked_seconds().is_some()),
            Ear => picture.rows.iter().any(|row| row.latency_seconds.contains_key("ear")),
            _ => true,
        }
    }

    /// What it says of `row`, and how.
    pub(crate) fn cell(self, row: &Row, picture: &Picture, cells: usize) -> (String, Tone) {
        let status = &picture.status;
        let verdict = tone(row.verdict(status));
        let stage = |name| row.latency_seconds.get(name).and_then(|spread| spread.p50);
        let or_nothing = |text: Option<String>| {
            let tone = if text.is_some() { Tone::Plain } else { Tone::Quiet };
            (text.unwrap_or_else(|| NOTHING.to_owned()), tone)
        };
        let time = |span: Option<f64>| or_nothing(span.map(|span| figures::milliseconds(Some(span))));
        match self {
            Name => (row.title(), Tone::Plain),
            Remote => (row.remote.clone(), Tone::Quiet),
            Format => (row.format.clone(), Tone::Plain),
            Lag => (figures::seconds(Some(row.unwanted_seconds())), verdict),
            Trend => (picture.bars(row, cells), if verdict == Tone::Plain { Tone::Quiet } else { verdict }),
            Asked => or_nothing(row.asked_seconds().map(|asked| format!("+ {}", figures::seconds(Some(asked))))),
            Fault => fault(row, status),
            Waits => or_nothing(row.most()),
            Lost => (figures::count(row.lost), if row.lost > 0 { Tone::Bad } else { Tone::Quiet }),
            Share if row.lost > 0 => (figures::percent(row.lost, row.offered), Tone::Plain),
            Share => or_nothing(None),
            Gaps => (figures::count(row.gaps), if row.gaps > 0 { Tone::Plain } else { Tone::Quiet }),
            P99 => or_nothing(row.lag_p99_seconds.map(|lag| figures::seconds(Some(lag)))),
            Max => or_nothing(row.lag_max_seconds.map(|lag| figures::seconds(Some(lag)))),
            Queue => time(stage("queue")),
            Socket => time(stage("socket")),
            Ear => time(stage("ear")),
            Here => (figures::span(status.now - row.connected_at), Tone::Quiet),
        }
    }
}

fn fault(row: &Row, status: &Status) -> (String, Tone) {
    match row.blame(status) {
        Some(blame) => (blame.to_owned(), tone(row.verdict(status))),
        None => (NOTHING.to_owned(), Tone::Quiet),
    }
}

const fn tone(verdict: Verdict) -> Tone {
    match verdict {
        Verdict::Fine => Tone::Plain,
        Verdict::Behind => Tone::Warning,
        Verdict::FarBehind => Tone::Bad,
    }
}
