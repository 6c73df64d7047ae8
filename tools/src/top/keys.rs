//! The effect of each key.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::row;
use super::state::{Contact, Mode, State};

/// An effect of a key beyond the screen.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Nothing,
    Quit,
    /// Disconnect this listener.
    Disconnect {
        id: u64,
        title: String,
    },
}

/// Longest filter, as long as a name.
const MAX_FILTER_CHARS: usize = 64;

/// The keys as the help shows them, the most important first.
pub(crate) const HELP: [(&str, &str); 10] = [
    ("↑ ↓", "select a listener"),
    ("PgUp PgDn", "a page up or down"),
    ("Home End", "the first, the last"),
    ("s", "sort by lag, lost, name, connected"),
    ("r", "reverse the order"),
    ("/", "filter by name or address; Esc clears"),
    ("k", "disconnect the selected listener"),
    ("p", "hold the figures still"),
    ("?", "this help"),
    ("q  Esc", "quit"),
];

impl State {
    /// Applies a key.
    pub(crate) fn press(&mut self, key: KeyEvent, now: f64) -> Action {
        if key.kind == KeyEventKind::Release {
            return Action::Nothing;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if control && key.code == KeyCode::Char('c') {
            return Action::Quit;
        }
        match self.mode.clone() {
            Mode::Table if !control => self.press_in_table(key.code, now),
            Mode::Filter if !control => self.press_in_filter(key.code),
            Mode::Question { id, title } => self.answer(key.code, id, title),
            Mode::Help => {
                self.mode = Mode::Table;
                Action::Nothing
            }
            Mode::Table | Mode::Filter => Action::Nothing,
        }
    }

    fn press_in_table(&mut self, key: KeyCode, now: f64) -> Action {
        // All rows but one, so that the eye finds its place again.
        let page = self.page.saturating_sub(1).max(1).cast_signed();
        match key {
            KeyCode::Esc if !self.filter.is_empty() => {
                self.filter.clear();
                self.settle();
            }
            KeyCode::Char('q') | KeyCode::Esc => return Action::Quit,
            KeyCode::Down => self.select_by(1),
            KeyCode::Up => self.select_by(-1),
            KeyCode::PageDown => self.select_by(page),
            KeyCode::PageUp => self.select_by(-page),
            KeyCode::Home => self.select_at(0),
            KeyCode::End => self.select_at(usize::MAX),
            KeyCode::Char('s') => self.order.cycle(),
            KeyCode::Char('r') => self.order.is_reversed = !self.order.is_reversed,
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Char('p') => self.pause(),
            KeyCode::Char('?') => self.mode = Mode::Help,
            KeyCode::Char('k') => self.ask_to_disconnect(now),
            _ => {}
        }
        self.settle();
        Action::Nothing
    }

    fn press_in_filter(&mut self, key: KeyCode) -> Action {
        match key {
            KeyCode::Esc => {
                self.filter.clear();
                self.mode = Mode::Table;
            }
            KeyCode::Enter => self.mode = Mode::Table,
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(letter) if !letter.is_control() && self.filter.chars().count() < MAX_FILTER_CHARS => {
                self.filter.push(letter);
            }
            // Moves among the matches while the filter is edited.
            KeyCode::Down => self.select_by(1),
            KeyCode::Up => self.select_by(-1),
            _ => {}
        }
        self.settle();
        Action::Nothing
    }

    fn ask_to_disconnect(&mut self, now: f64) {
        let chosen = self.selected_row().map(|row| (row.id, row::title(row)));
        match (&self.contact, chosen) {
            (Contact::Lost { .. }, _) => self.say("cannot disconnect without contact".to_owned(), now),
            (Contact::Fine, Some((id, title))) => self.mode = Mode::Question { id, title },
            (Contact::Fine, None) => self.say("select a listener first, with ↑ and ↓".to_owned(), now),
        }
    }

    /// Answers the question. Only a yes or a no ends it: keys that were meant for something else must not disconnect a
    /// listener.
    fn answer(&mut self, key: KeyCode, id: u64, title: String) -> Action {
        match key {
            KeyCode::Char('y' | 'Y') => {
                self.mode = Mode::Table;
                Action::Disconnect { id, title }
            }
            KeyCode::Char('n' | 'N' | 'q') | KeyCode::Esc => {
                self.mode = Mode::Table;
                Action::Nothing
            }
            _ => Action::Nothing,
        }
    }
}
