//! Everything that decides the screen: the snapshot, the order, the filter, the selection, a question. It has neither
//! clock nor terminal: times are arguments, in seconds.

use aircheck_api::ListenerRow;

use super::order::{self, Order};
use super::snapshot::Snapshot;
use super::watch::Update;
use crate::client::Disconnected;

/// How long a message stays.
const MESSAGE_SECONDS: f64 = 5.0;

/// The meaning of the keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    #[default]
    Table,
    /// The filter is edited.
    Filter,
    /// Asks whether this listener is to be disconnected.
    Question {
        id: u64,
        title: String,
    },
    Help,
}

/// Whether the server answers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Contact {
    Fine,
    Lost { since: f64, why: String },
}

/// Everything that decides the screen.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) authority: String,
    live: Snapshot,
    /// The snapshot that is held still.
    held: Option<Snapshot>,
    pub(crate) contact: Contact,
    pub(crate) mode: Mode,
    pub(crate) order: Order,
    pub(crate) filter: String,
    pub(crate) selected: Option<u64>,
    /// The place of the selected listener, for when it leaves.
    place: usize,
    /// The first row on the screen.
    first: usize,
    /// Number of rows that fit.
    pub(crate) page: usize,
    message: Option<(String, f64)>,
}

impl State {
    /// Begins with a snapshot of the server called `authority`.
    pub(crate) fn new(authority: String, snapshot: Snapshot) -> Self {
        Self {
            authority,
            live: snapshot,
            held: None,
            contact: Contact::Fine,
            mode: Mode::default(),
            order: Order::default(),
            filter: String::new(),
            selected: None,
            place: 0,
            first: 0,
            page: 1,
            message: None,
        }
    }

    /// Returns the snapshot that is shown.
    pub(crate) fn snapshot(&self) -> &Snapshot {
        self.held.as_ref().unwrap_or(&self.live)
    }

    /// Returns whether the snapshot is held still.
    pub(crate) fn is_paused(&self) -> bool {
        self.held.is_some()
    }

    /// Holds the snapshot still, or lets it go on.
    pub(crate) fn pause(&mut self) {
        self.held = if self.held.is_some() { None } else { Some(self.live.clone()) };
        self.settle();
    }

    /// Takes an update.
    pub(crate) fn take(&mut self, update: Update, now: f64) {
        match update {
            Update::Unreachable(why) => {
                let since = if let Contact::Lost { since, .. } = self.contact { since } else { now };
                self.contact = Contact::Lost { since, why };
                return;
            }
            Update::Status(status) => {
                if self.live.take_status(*status) {
                    // Another run of the server gives its numbers to other listeners.
                    (self.selected, self.held) = (None, None);
                    if matches!(self.mode, Mode::Question { .. }) {
                        self.mode = Mode::Table;
                    }
                }
            }
            Update::Listeners(rows) => self.live.take_rows(rows, now),
        }
        self.contact = Contact::Fine;
        self.settle();
    }

    /// Shows the result of disconnecting a listener for a while.
    pub(crate) fn disconnected(&mut self, title: &str, result: &Disconnected, now: f64) {
        self.say(
            match result {
                Disconnected::Done => format!("{title} disconnected"),
                Disconnected::HadLeft => format!("{title} had left by itself"),
                Disconnected::Failed(why) => format!("{title} could not be disconnected: {why}"),
            },
            now,
        );
    }

    /// Shows a line in place of the keys for a while.
    pub(crate) fn say(&mut self, text: String, now: f64) {
        self.message = Some((text, now + MESSAGE_SECONDS));
    }

    /// Returns the line that is shown in place of the keys.
    pub(crate) fn message(&self, now: f64) -> Option<&str> {
        self.message.as_ref().filter(|(_, until)| now < *until).map(|(text, _)| text.as_str())
    }

    /// Returns the rows that match the filter, in order.
    pub(crate) fn visible(&self) -> Vec<&ListenerRow> {
        let mut rows: Vec<&ListenerRow> =
            self.snapshot().rows.iter().filter(|row| order::matches(row, &self.filter)).collect();
        rows.sort_by(|a, b| self.order.compare(a, b));
        rows
    }

    /// Returns the selected row.
    pub(crate) fn selected_row(&self) -> Option<&ListenerRow> {
        let id = self.selected?;
        self.snapshot().rows.iter().find(|row| row.id == id)
    }

    /// Selects the row so many places away from the selected one; the first if there is none.
    pub(crate) fn select_by(&mut self, places: isize) {
        let at = self.selected.and_then(|id| self.visible_ids().iter().position(|other| *other == id));
        self.select_at(at.map_or(0, |at| at.saturating_add_signed(places)));
    }

    /// Selects the row at `place`, or the last one.
    pub(crate) fn select_at(&mut self, place: usize) {
        let ids = self.visible_ids();
        self.place = place.min(ids.len().saturating_sub(1));
        self.selected = ids.get(self.place).copied();
    }

    /// Returns the rows to draw if `page` fit, so that the selected one is among them.
    pub(crate) fn window(&mut self, page: usize) -> std::ops::Range<usize> {
        let ids = self.visible_ids();
        self.page = page.max(1);
        match self.selected.and_then(|id| ids.iter().position(|other| *other == id)) {
            Some(at) => self.first = self.first.clamp((at + 1).saturating_sub(self.page), at),
            // Without a selection, the worst matter.
            None => self.first = 0,
        }
        self.first = self.first.min(ids.len().saturating_sub(self.page));
        self.first..ids.len().min(self.first + self.page)
    }

    /// Keeps the selection after rows or the filter changed. If the listener is gone, the one in its place is selected.
    pub(crate) fn settle(&mut self) {
        let Some(id) = self.selected else { return };
        let ids = self.visible_ids();
        match ids.iter().position(|other| *other == id) {
            Some(at) => self.place = at,
            None => self.selected = ids.get(self.place.min(ids.len().saturating_sub(1))).copied(),
        }
    }

    fn visible_ids(&self) -> Vec<u64> {
        self.visible().iter().map(|row| row.id).collect()
    }
}
