//! The server's rows against the listeners' own accounts.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use aircheck_api::ListenerRow;
use tokio::time::sleep;

use super::account::Counts;
use super::handle::ListenerHandle;
use super::measures::ListenerKind;
use crate::client::{Address, ApiClient, TIMEOUT};
use crate::failure::Failure;

/// How often the server is asked while it seems to count less than came: a count may be a moment older than the blocks.
const MAX_QUESTIONS: usize = 5;
/// How long blocks that the server has delivered may be on their way.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(5);
const CHECK_INTERVAL: Duration = Duration::from_millis(20);
/// How many disagreements are kept in words.
const MAX_WORDS: usize = 5;

/// The result of a comparison.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    /// The rows, by the listener's number.
    pub(crate) rows: HashMap<u64, ListenerRow>,
    /// Number of disagreements.
    pub(crate) disagreements: u64,
    /// The first of them in words.
    pub(crate) words: Vec<String>,
    /// Frozen listeners without a row: the server has ended them, which a listener that does not read can't see.
    pub(crate) ended_frozen: u64,
}

/// A listener's account from before the request for its row.
struct Before {
    handle: Rc<ListenerHandle>,
    counts: Counts,
    blocks: Option<u64>,
}

/// Compares all listeners that have a stream with their rows. Blocks that came before the server was asked must be
/// counted there; blocks that it counts must come to listeners that read.
///
/// # Errors
///
/// If the server does not answer.
pub(crate) async fn compare(address: &Address, handles: &[Rc<ListenerHandle>]) -> Result<Comparison, Failure> {
    let mut api = ApiClient::new(address.clone(), TIMEOUT);
    let mut comparison = Comparison::default();
    for question in 1..=MAX_QUESTIONS {
        let before: Vec<Before> = handles.iter().filter(|handle| stays(handle)).map(Before::of).collect();
        comparison = Comparison { rows: rows_of(&before, api.listeners().await?), ..Comparison::default() };
        for before in &before {
            before.check_counted(&mut comparison);
        }
        if comparison.disagreements == 0 || question == MAX_QUESTIONS {
            check_arrived(&before, &mut comparison).await;
            break;
        }
        sleep(CHECK_INTERVAL).await;
    }
    Ok(comparison)
}

/// Returns how a listener that has left and read to the end disagrees with its row.
pub(crate) fn disagreement_at_end(handle: &ListenerHandle, row: &ListenerRow) -> Option<String> {
    let listener = handle.listener.borrow();
    let blocks = listener.counts().1?;
    (blocks < row.delivered)
        .then(|| format!("{}: the server delivered {} blocks, and {blocks} came", listener.name(), row.delivered))
}

/// Returns whether a listener must have a row. One that leaves may still read when the server has forgotten it.
fn stays(handle: &ListenerHandle) -> bool {
    handle.is_streaming() && !handle.is_leaving()
}

fn rows_of(before: &[Before], rows: Vec<ListenerRow>) -> HashMap<u64, ListenerRow> {
    let mut by_name: HashMap<String, Vec<ListenerRow>> = HashMap::new();
    for row in rows {
        by_name.entry(row.name.clone()).or_default().push(row);
    }
    let mut found = HashMap::new();
    for before in before {
        let listener = before.handle.listener.borrow();
        let Some(mut rows) = by_name.remove(&listener.name()) else { continue };
        // Another load may be running, with the same names.
        let own = before.handle.local.get().map(|local| local.to_string());
        let index =
            if rows.len() == 1 { Some(0) } else { rows.iter().position(|row| Some(&row.remote) == own.as_ref()) };
        if let Some(index) = index {
            found.insert(listener.number, rows.swap_remove(index));
        }
    }
    found
}

/// Waits until blocks that were on their way have come to the listeners that read, and enters those that did not come.
async fn check_arrived(before: &[Before], comparison: &mut Comparison) {
    let healthy = || before.iter().filter(|before| before.handle.kind == ListenerKind::Healthy);
    let give_up_at = Instant::now() + ARRIVAL_TIMEOUT;
    while Instant::now() < give_up_at && healthy().any(|before| before.missing(comparison).is_some()) {
        sleep(CHECK_INTERVAL).await;
    }
    for before in healthy() {
        if let Some(why) = before.missing(comparison) {
            comparison.disagree(why);
        }
    }
}

impl Before {
    fn of(handle: &Rc<ListenerHandle>) -> Self {
        let (counts, blocks) = handle.listener.borrow().counts();
        Self { handle: Rc::clone(handle), counts, blocks }
    }

    /// Checks that the server counts all blocks that came and all that are missing.
    fn check_counted(&self, comparison: &mut Comparison) {
        let listener = self.handle.listener.borrow();
        let name = listener.name();
        let Some(row) = comparison.rows.get(&listener.number) else {
            if self.handle.kind == ListenerKind::Frozen {
                comparison.ended_frozen += 1;
            } else if stays(&self.handle) {
                comparison.disagree(format!("{name}: the server has no row for it"));
            }
            return;
        };
        let (delivered, lost) = (row.delivered, row.lost);
        // Where blocks have no numbers, silence looks like sound that the source delivered, but it counts as lost.
        let counted = if listener.has_numbers() { delivered } else { delivered + lost };
        if let Some(blocks) = self.blocks.filter(|&blocks| blocks > counted) {
            comparison.disagree(format!("{name}: {blocks} blocks came, and the server counts {counted}"));
        } else if self.blocks.is_some() && self.counts.lost > lost {
            let missing = self.counts.lost;
            comparison.disagree(format!("{name}: {missing} blocks are missing, and the server counts {lost}"));
        } else if lost == 0 && listener.has_holes() {
            comparison.disagree(format!("{name}: sound is missing, and the server counts no loss"));
        }
    }

    /// Returns how the listener has less than the server says.
    fn missing(&self, comparison: &Comparison) -> Option<String> {
        if !stays(&self.handle) {
            return None;
        }
        let listener = self.handle.listener.borrow();
        let (row, name) = (comparison.rows.get(&listener.number)?, listener.name());
        let (counts, blocks) = listener.counts();
        if let Some(blocks) = blocks.filter(|&blocks| blocks < row.delivered) {
            return Some(format!("{name}: the server delivered {} blocks, and {blocks} came", row.delivered));
        }
        // A stream with numbers tells every loss.
        (listener.has_numbers() && counts.lost < row.lost)
            .then(|| format!("{name}: the server counts {} lost blocks, and {} are missing", row.lost, counts.lost))
    }
}

impl Comparison {
    /// Enters a disagreement.
    pub(crate) fn disagree(&mut self, why: String) {
        self.disagreements += 1;
        if self.words.len() < MAX_WORDS {
            self.words.push(why);
        }
    }
}
