//! What is shown, and how: the picture, the order, the filter, who is selected and what is being asked. Neither reads a
//! clock nor knows a terminal: times are given, in seconds.

use super::api::{Row, Status};
use super::order::{self, Order};
use super::picture::Picture;

/// How long a message stays.
const MESSAGE_SECONDS: f64 = 5.0;

/// What the keyboard is for at the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    #[default]
    Table,
    /// The filter is being written.
    Filter,
    /// Whether this one is to be disconnected.
    Question {
        id: u64,
        title: String,
    },
    Help,
}

/// What came from the server.
#[derive(Debug)]
pub(crate) enum News {
    Status(Box<Status>),
    Listeners(Vec<Row>),
    /// It can't be reached, or makes no sense any more.
    Silence(String),
}

/// Whether the server answers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Contact {
    Fine,
    Lost { since: f64, why: String },
}

/// What became of a wish to disconnect somebody.
#[derive(Debug)]
pub(crate) enum Kicked {
    Gone,
    /// It had left by itself.
    WasGone,
    Failed(String),
}

/// Everything that decides what the screen looks like.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) authority: String,
    live: Picture,
    /// The picture that is held still.
    held: Option<Picture>,
    pub(crate) contact: Contact,
    pub(crate) mode: Mode,
    pub(crate) order: Order,
    pub(crate) filter: String,
    pub(crate) selected: Option<u64>,
    /// Where the selected one stood last, for when it leaves.
    place: usize,
    /// The first row on the screen, and how many fit.
    first: usize,
    pub(crate) page: usize,
    message: Option<(String, f64)>,
}

impl State {
    /// Of the server called `authority`.
    pub(crate) fn new(authority: String, picture: Picture) -> Self {
        Self {
            authority,
            live: picture,
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

    /// What is shown.
    pub(crate) fn picture(&self) -> &Picture {
        self.held.as_ref().unwrap_or(&self.live)
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.held.is_some()
    }

    pub(crate) fn pause(&mut self) {
        self.held = if self.held.is_some() { None } else { Some(self.live.clone()) };
        self.settle();
    }

    /// Takes in what came.
    pub(crate) fn take(&mut self, news: News, now: f64) {
        match news {
            News::Silence(why) => {
                let since = if let Contact::Lost { since, .. } = self.contact { since } else { now };
                self.contact = Contact::Lost { since, why };
                return;
            }
            News::Status(status) => {
                if self.live.take_status(*status) {
                    // Its numbers are given again: this one would be somebody else.
                    (self.selected, self.held) = (None, None);
                    if matches!(self.mode, Mode::Question { .. }) {
                        self.mode = Mode::Table;
                    }
                }
            }
            News::Listeners(rows) => self.live.take_rows(rows, now),
        }
        self.contact = Contact::Fine;
        self.settle();
    }

    /// Says in passing what became of a wish.
    pub(crate) fn kicked(&mut self, title: &str, kicked: &Kicked, now: f64) {
        self.say(
            match kicked {
                Kicked::Gone => format!("{title} disconnected"),
                Kicked::WasGone => format!("{title} had left by itself"),
                Kicked::Failed(why) => format!("{title} could not be disconnected: {why}"),
            },
            now,
        );
    }

    /// A line in place of the keys, for a while.
    pub(crate) fn say(&mut self, text: String, now: f64) {
        self.message = Some((text, now + MESSAGE_SECONDS));
    }

    /// What there is to say.
    pub(crate) fn message(&self, now: f64) -> Option<&str> {
        self.message.as_ref().filter(|(_, until)| now < *until).map(|(text, _)| text.as_str())
    }

    /// The rows that fit the filter, in order.
    pub(crate) fn visible(&self) -> Vec<&Row> {
        let mut rows: Vec<&Row> = self.picture().rows.iter().filter(|row| order::matches(row, &self.filter)).collect();
        rows.sort_by(|a, b| self.order.compare(a, b));
        rows
    }

    /// The selected row.
    pub(crate) fn selected_row(&self) -> Option<&Row> {
        let id = self.selected?;
        self.picture().rows.iter().find(|row| row.id == id)
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

    /// The first and the last row to draw where `page` fit, so that the selected one is among them.
    pub(crate) fn window(&mut self, page: usize) -> std::ops::Range<usize> {
        let ids = self.visible_ids();
        self.page = page.max(1);
        match self.selected.and_then(|id| ids.iter().position(|other| *other == id)) {
            Some(at) => self.first = self.first.clamp((at + 1).saturating_sub(self.page), at),
            // Nobody is looked after: the worst are what matters.
            None => self.first = 0,
        }
        self.first = self.first.min(ids.len().saturating_sub(self.page));
        self.first..ids.len().min(self.first + self.page)
    }

    /// After rows or the filter changed: who is no longer there is not selected, but who now stands in its place.
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
