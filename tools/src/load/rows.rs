//! The server's own account of its listeners, against what they got.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::time::sleep;

use crate::client::http as client;
use crate::client::url::Address;
use crate::failure::Failure;
use crate::load::account::Standing;
use crate::load::measures::Kind;
use crate::load::shared::Slot;

/// How often the server is asked again where it seems to know of less than came: a count may be a moment older than what
/// it counts.
const ASK_MOST: usize = 5;
/// How long what the server has delivered may be on its way.
const ON_ITS_WAY: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How many disagreements are told in words.
const TOLD_MOST: usize = 5;

/// A listener as the server counts it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct Row {
    name: String,
    remote: String,
    /// Blocks written to its connection.
    pub(crate) delivered: u64,
    /// Blocks that it never gets.
    pub(crate) lost: u64,
    /// How many times blocks were missing.
    pub(crate) gaps: u64,
}

/// What the comparison comes to.
#[derive(Debug, Default)]
pub(crate) struct Compared {
    /// The rows, by the listener's number.
    pub(crate) rows: HashMap<u64, Row>,
    /// How many disagree.
    pub(crate) wrong: u64,
    /// The first of them in words.
    pub(crate) told: Vec<String>,
}

/// What a listener had before its row was asked for.
struct Before {
    slot: Rc<Slot>,
    standing: Standing,
    blocks: Option<u64>,
}

/// Compares all that stream with their rows. What came before the server was asked, it must have counted; what it has
/// counted must come to those who read.
///
/// # Errors
///
/// When the server doesn't answer.
pub(crate) async fn compare(address: &Address, slots: &[Rc<Slot>]) -> Result<Compared, Failure> {
    let mut compared = Compared::default();
    for asked in 1..=ASK_MOST {
        let before: Vec<Before> = slots.iter().filter(|slot| stays(slot)).map(Before::of).collect();
        compared = Compared { rows: ask(address, &before).await?, ..Compared::default() };
        for before in &before {
            before.was_counted(&mut compared);
        }
        if compared.wrong == 0 || asked == ASK_MOST {
            came(&before, &mut compared).await;
            break;
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(compared)
}

/// What each that has read to the end must have got at least, now that all have left.
pub(crate) fn all_came(slot: &Slot, row: &Row) -> Option<String> {
    let listener = slot.listener.borrow();
    let blocks = listener.standing().1?;
    (blocks < row.delivered)
        .then(|| format!("load-{}: the server delivered {} blocks, and {blocks} came", listener.number, row.delivered))
}

/// Whether a listener is one whose row must be there: those who leave may still read when the server has forgotten them.
fn stays(slot: &Slot) -> bool {
    slot.streams() && !slot.is_leaving()
}

async fn ask(address: &Address, before: &[Before]) -> Result<HashMap<u64, Row>, Failure> {
    let document = client::document(address, "/api/v1/listeners").await?;
    let rows: Vec<Row> = serde_json::from_slice(&document).map_err(|error| Failure::NoAnswer {
        authority: address.authority().to_owned(),
        why: format!("its table of listeners can't be read: {error}"),
    })?;
    let mut by_name: HashMap<String, Vec<Row>> = HashMap::new();
    for row in rows {
        by_name.entry(row.name.clone()).or_default().push(row);
    }
    let mut found = HashMap::new();
    for before in before {
        let listener = before.slot.listener.borrow();
        let Some(mut rows) = by_name.remove(&format!("load-{}", listener.number)) else { continue };
        // Another load may be running, with the same names.
        let own = before.slot.local.get().map(|local| local.to_string());
        let index =
            if rows.len() == 1 { Some(0) } else { rows.iter().position(|row| Some(&row.remote) == own.as_ref()) };
        if let Some(index) = index {
            found.insert(listener.number, rows.swap_remove(index));
        }
    }
    Ok(found)
}

/// Waits for what was on its way to those who read, and tells who did not get it.
async fn came(before: &[Before], compared: &mut Compared) {
    let healthy = || before.iter().filter(|before| before.slot.kind() == Kind::Healthy);
    let give_up_at = Instant::now() + ON_ITS_WAY;
    while Instant::now() < give_up_at && healthy().any(|before| before.misses(compared).is_some()) {
        sleep(LOOK_EVERY).await;
    }
    for before in healthy() {
        if let Some(why) = before.misses(compared) {
            compared.tell(why);
        }
    }
}

impl Before {
    fn of(slot: &Rc<Slot>) -> Self {
        let (standing, blocks) = slot.listener.borrow().standing();
        Self { slot: Rc::clone(slot), standing, blocks }
    }

    fn number(&self) -> u64 {
        self.slot.listener.borrow().number
    }

    fn was_counted(&self, compared: &mut Compared) {
        let number = self.number();
        let Some(Row { delivered, lost, .. }) = compared.rows.get(&number).cloned() else {
            // It may have ended meanwhile, which is told elsewhere.
            if stays(&self.slot) {
                compared.tell(format!("load-{number}: the server has no row for it"));
            }
            return;
        };
        if let Some(blocks) = self.blocks.filter(|&blocks| blocks > delivered) {
            compared.tell(format!("load-{number}: {blocks} blocks came, and the server counts {delivered}"));
        } else if self.blocks.is_some() && self.standing.lost > lost {
            let holes = self.standing.lost;
            compared.tell(format!("load-{number}: {holes} blocks are missing, and the server counts {lost}"));
        } else if lost == 0 && self.slot.listener.borrow().has_holes() {
            compared.tell(format!("load-{number}: sound is missing, and the server counts no loss"));
        }
    }

    fn misses(&self, compared: &Compared) -> Option<String> {
        if !stays(&self.slot) {
            return None;
        }
        let number = self.number();
        let row = compared.rows.get(&number)?;
        let listener = self.slot.listener.borrow();
        let (standing, blocks) = listener.standing();
        if let Some(blocks) = blocks.filter(|&blocks| blocks < row.delivered) {
            let delivered = row.delivered;
            return Some(format!("load-{number}: the server delivered {delivered} blocks, and {blocks} came"));
        }
        // Who has numbers is told of every loss.
        (listener.has_numbers() && standing.lost < row.lost).then(|| {
            format!("load-{number}: the server counts {} lost blocks, and {} are missing", row.lost, standing.lost)
        })
    }
}

impl Compared {
    /// Enters a disagreement.
    pub(crate) fn tell(&mut self, why: String) {
        self.wrong += 1;
        if self.told.len() < TOLD_MOST {
            self.told.push(why);
        }
    }
}
