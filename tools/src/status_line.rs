//! The standard error: a status line redrawn in place on a terminal, an ordinary log anywhere else.

use std::io::{IsTerminal, Write, stderr};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Fast enough to look alive, slow enough to be read.
pub(crate) const REDRAW_INTERVAL: Duration = Duration::from_millis(200);
/// The interval in a log, where every line stays.
const LOG_INTERVAL: Duration = Duration::from_secs(5);
/// Width of a terminal that does not say its own.
const DEFAULT_WIDTH: usize = 80;

/// The line, and the log above it. A reader that is gone is never an error.
#[derive(Debug)]
pub(crate) struct StatusLine {
    in_place: bool,
    has_colour: bool,
    /// Whether the line is under the cursor.
    is_drawn: bool,
    next_at: Instant,
}

/// Where a status goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// Into a terminal with so many cells.
    Terminal { cells: usize, has_colour: bool },
    /// Into a log.
    Log,
}

impl StatusLine {
    /// Makes the line of the process's stderr.
    pub(crate) fn stderr(now: Instant) -> Self {
        let in_place = stderr().is_terminal() && can_redraw();
        let has_colour = in_place && wants_colour();
        let next_at = if in_place { now } else { now + LOG_INTERVAL };
        Self { in_place, has_colour, is_drawn: false, next_at }
    }

    /// Writes a line that stays.
    pub(crate) fn log(&mut self, text: &str) {
        let clear = if self.is_drawn { "\r\x1b[2K" } else { "" };
        self.is_drawn = false;
        write(&format!("{clear}{text}\n"));
    }

    /// Returns whether the status is to be drawn again.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        now >= self.next_at
    }

    /// Draws the status that `status` makes for the room there is.
    pub(crate) fn draw(&mut self, now: Instant, status: impl FnOnce(Room) -> String) {
        if self.in_place {
            // Not the last column: some terminals wrap as soon as it is filled.
            let line = status(Room::Terminal { cells: width().saturating_sub(1), has_colour: self.has_colour });
            write(&format!("\r{line}\x1b[K"));
            self.is_drawn = true;
            self.next_at = now + REDRAW_INTERVAL;
        } else {
            self.log(&status(Room::Log));
            self.next_at = now + LOG_INTERVAL;
        }
    }

    /// Removes the line, so that other output can follow.
    pub(crate) fn clear(&mut self) {
        if self.is_drawn {
            write("\r\x1b[2K");
            self.is_drawn = false;
        }
    }
}

/// Writes everything at once, so that lines of other programs don't get into ours.
fn write(text: &str) {
    let _ = stderr().write_all(text.as_bytes());
}

/// Returns the columns of the terminal now: it may have been resized since the last line.
fn width() -> usize {
    let told = std::env::var("COLUMNS").ok().and_then(|columns| columns.trim().parse().ok());
    told.filter(|&columns| columns > 0).or_else(|| columns(stderr())).unwrap_or(DEFAULT_WIDTH)
}

/// Returns the columns of a terminal, if it is one.
pub(crate) fn columns(terminal: impl AsFd) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(terminal).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// Returns whether the terminal can draw over its text.
pub(crate) fn can_redraw() -> bool {
    std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Returns whether the user wants colours: not if `NO_COLOR` is set to anything (no-color.org).
pub(crate) fn wants_colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
