//! The terminal, which is restored however the program ends.

use std::io::{self, IsTerminal, Stdout, stdin, stdout};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;

use super::draw::draw;
use super::state::State;
use super::theme::Theme;
use crate::status_line::{can_redraw, wants_colour};

/// The alternate screen in raw mode, until dropped. ratatui's own hook restores the terminal before the message of a
/// panic is printed, so that it can be read.
#[derive(Debug)]
pub(crate) struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    theme: Theme,
}

impl Screen {
    /// Takes the terminal.
    pub(crate) fn take() -> io::Result<Self> {
        Ok(Self { terminal: ratatui::try_init()?, theme: Theme { has_colour: wants_colour() } })
    }

    /// Draws what has changed.
    pub(crate) fn draw(&mut self, state: &mut State, now: f64) -> io::Result<()> {
        self.terminal.draw(|frame| draw(frame, state, self.theme, now)).map(|_| ())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // After a panic the hook has done it; again would put the cursor over the panic's message.
        if !std::thread::panicking() {
            ratatui::restore();
        }
    }
}

/// Returns whether there is a terminal that can be drawn on and read from.
pub(crate) fn is_there() -> bool {
    stdout().is_terminal() && stdin().is_terminal() && can_redraw()
}
