//! The document of `/api/v1/audience`: the listeners here, and those of the edges whose reports are gathered.

use std::cmp::Reverse;

use aircheck_api::{Audience, AudienceRow, ListenerRow};
use aircheck_engine::Timestamp;
use bytes::Bytes;

use crate::audience::edges::Seen;
use crate::audience::report;
use crate::delivery::steady_lag_millis;
use crate::http::listener_table::{ListenerTable, MAX_WORST_ROWS};
use crate::http::server::Server;
use crate::http::table_query::{Sort, TableQuery};

/// Returns the document with the rows that `query` selects: those of this server from `table`, and those of the edges.
pub(super) fn audience(server: &Server, table: &ListenerTable, query: &TableQuery) -> Audience {
    let now = Timestamp::now();
    let edges = server.gathering().map(|gathering| gathering.seen(now)).unwrap_or_default();
    let here = report::totals(server.listeners(), table.rows());
    let heard = |is_silent| edges.iter().filter(move |edge: &&Seen| edge.is_silent == is_silent);
    let listeners =
        |edges: &mut dyn Iterator<Item = &Seen>| edges.map(|edge| edge.report.totals.listeners).sum::<u64>();
    let statuses: Vec<_> = edges.iter().map(Seen::status).collect();
    Audience {
        now: now.unix_seconds(),
        listeners: here.listeners + listeners(&mut heard(false)),
        silent_listeners: listeners(&mut heard(true)),
        left_off: statuses.iter().map(|edge| edge.left_off).sum(),
        here,
        rows: rows(table, &edges, query),
        edges: statuses,
    }
}

/// Returns the rows that `query` selects. Rows that are equal in its order are in that of the edges, this server first.
fn rows(table: &ListenerTable, edges: &[Seen], query: &TableQuery) -> Vec<AudienceRow> {
    let of_edges = edges.iter().flat_map(|edge| edge.report.rows.iter().map(move |row| (Some(edge), row)));
    let all = table.rows().iter().map(|row| (None, row)).chain(of_edges);
    let mut rows: Vec<(Option<&Seen>, &ListenerRow)> =
        all.filter(|(_, row)| query.selects(&row.name, &row.mount)).collect();
    match query.sort {
        Sort::Id => rows.sort_by_key(|(edge, row)| (edge.map(|edge| &edge.name), row.id)),
        Sort::Lag => rows.sort_by_key(|(_, row)| Reverse(steady_lag_millis(row))),
        Sort::Lost => rows.sort_by_key(|(_, row)| Reverse(row.lost)),
        Sort::Name => rows.sort_by(|(_, one), (_, other)| one.name.cmp(&other.name)),
    }
    rows.truncate(query.limit.unwrap_or(usize::MAX));
    let row = |(edge, row): (Option<&Seen>, &ListenerRow)| AudienceRow {
        edge: edge.map(|edge| edge.name.clone()),
        age_seconds: edge.map_or(0.0, Seen::age_seconds),
        is_silent: edge.is_some_and(|edge| edge.is_silent),
        row: row.clone(),
    };
    rows.into_iter().map(row).collect()
}

/// Returns the document with the rows of those furthest behind as JSON, at most a moment old, for all pages to which it is pushed.
pub(super) fn recent_audience(server: &Server) -> Bytes {
    let query = TableQuery { limit: Some(MAX_WORST_ROWS), sort: Sort::Lag, ..TableQuery::default() };
    // Fails for maps without string keys and for failing writers, of which there are none.
    let make = |_| serde_json::to_vec(&audience(server, &server.recent_worst(), &query)).unwrap_or_default().into();
    server.pushed_audience().recent(make).as_ref().clone()
}
