//! What each key does.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::state::{Contact, Mode, State};

/// What a key asks for beyond another look of the screen.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Nothing,
    Quit,
    /// Disconnect this one.
    Kick {
        id: u64,
        title: String,
    },
}

/// Longest filter: as much as a name may have.
const FILTER_MOST: usize = 64;

/// The keys as the help shows them, most needed first.
pub(crate) const HELP: [(&str, &str); 10] = [
    ("↑ ↓", "select a listener"),
    ("PgUp PgDn", "a page up or down"),
    ("Home End", "the first, the last"),
    ("s", "sort by lag, lost, name, connected"),
    ("r", "reverse the order"),
    ("/", "filter by name or address; Esc clears"),
    ("k", "disconnect the selected one"),
    ("p", "hold the picture still"),
    ("?", "this help"),
    ("q  Esc", "quit"),
];

impl State {
    /// Does what `key` is for.
    pub(crate) fn press(&mut self, key: KeyEvent, now: f64) -> Wish {
        if key.kind == KeyEventKind::Release {
            return Wish::Nothing;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if control && key.code == KeyCode::Char('c') {
            return Wish::Quit;
        }
        match self.mode.clone() {
            Mode::Table if !control => self.press_in_table(key.code, now),
            Mode::Filter if !control => self.press_in_filter(key.code),
            Mode::Question { id, title } => self.answer(key.code, id, title),
            Mode::Help => {
                self.mode = Mode::Table;
                Wish::Nothing
            }
            Mode::Table | Mode::Filter => Wish::Nothing,
        }
    }

    fn press_in_table(&mut self, key: KeyCode, now: f64) -> Wish {
        // All but one of the rows, so that the eye finds its place again.
        let page = self.page.saturating_sub(1).max(1).cast_signed();
        match key {
            KeyCode::Esc if !self.filter.is_empty() => {
                self.filter.clear();
                self.settle();
            }
            KeyCode::Char('q') | KeyCode::Esc => return Wish::Quit,
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
            KeyCode::Char('k') => self.ask_to_kick(now),
            _ => {}
        }
        self.settle();
        Wish::Nothing
    }

    fn press_in_filter(&mut self, key: KeyCode) -> Wish {
        match key {
            KeyCode::Esc => {
                self.filter.clear();
                self.mode = Mode::Table;
            }
            KeyCode::Enter => self.mode = Mode::Table,
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(letter) if !letter.is_control() && self.filter.chars().count() < FILTER_MOST => {
                self.filter.push(letter);
            }
            // To look through what is left while it is being written.
            KeyCode::Down => self.select_by(1),
            KeyCode::Up => self.select_by(-1),
            _ => {}
        }
        self.settle();
        Wish::Nothing
    }

    fn ask_to_kick(&mut self, now: f64) {
        let chosen = self.selected_row().map(|row| (row.id, row.title()));
        match (&self.contact, chosen) {
            (Contact::Lost { .. }, _) => self.say("nobody can be disconnected without contact".to_owned(), now),
            (Contact::Fine, Some((id, title))) => self.mode = Mode::Question { id, title },
            (Contact::Fine, None) => self.say("select a listener first, with ↑ and ↓".to_owned(), now),
        }
    }

    /// Only a clear yes is one, and nothing but a no or a yes ends the question: keys that were meant for something else
    /// must not throw anybody out.
    fn answer(&mut self, key: KeyCode, id: u64, title: String) -> Wish {
        match key {
            KeyCode::Char('y' | 'Y') => {
                self.mode = Mode::Table;
                Wish::Kick { id, title }
            }
            KeyCode::Char('n' | 'N' | 'q') | KeyCode::Esc => {
                self.mode = Mode::Table;
                Wish::Nothing
            }
            _ => Wish::Nothing,
        }
    }
}
