//! The standard error: a progress line redrawn in place on a terminal, an ordinary log anywhere else.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use crate::check::ledger::Notice;
use crate::listen::gap_log::{self as notices, Limiter};
use crate::listen::progress::View;
use crate::listen::received::Received;

/// Fast enough to look alive, slow enough to be read.
pub(crate) const REDRAW_EVERY: Duration = Duration::from_millis(200);
/// In a log, where every line stays.
const LOG_EVERY: Duration = Duration::from_secs(5);
/// Of a terminal that doesn't tell.
const USUAL_WIDTH: usize = 80;

/// Where progress and notices go. That nobody reads them is never an error.
#[derive(Debug)]
pub(crate) struct Screen {
    in_place: bool,
    colour: bool,
    /// Whether there is a progress line under the cursor.
    drawn: bool,
    next_at: Instant,
    limiter: Limiter,
}

impl Screen {
    /// For the process's stderr.
    pub(crate) fn stderr(now: Instant) -> Self {
        let in_place = stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let colour = in_place && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let next_at = if in_place { now } else { now + LOG_EVERY };
        Self { in_place, colour, drawn: false, next_at, limiter: Limiter::default() }
    }

    /// A line that stays.
    pub(crate) fn line(&mut self, text: &str) {
        let clear = if self.drawn { "\r\x1b[2K" } else { "" };
        self.drawn = false;
        write(&format!("{clear}{text}\n"));
    }

    /// A notice, unless there were too many of late.
    pub(crate) fn notice(&mut self, notice: &Notice, received: &Received, now: Instant) {
        self.tell_rest(now, false);
        if self.limiter.admit(notice, now) {
            self.line(&notices::line(notice, received));
        }
    }

    /// Whether a progress line is due.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        now >= self.next_at
    }

    /// Shows the state.
    pub(crate) fn progress(&mut self, view: &View, now: Instant) {
        self.tell_rest(now, false);
        if self.in_place {
            // Not the last column: some terminals wrap as soon as it is filled.
            let line = view.line(width().saturating_sub(1), self.colour);
            write(&format!("\r{line}\x1b[K"));
            self.drawn = true;
            self.next_at = now + REDRAW_EVERY;
        } else {
            self.line(&view.log_line());
            self.next_at = now + LOG_EVERY;
        }
    }

    /// Shows a line of state, cut to what fits.
    pub(crate) fn status(&mut self, line: &str, now: Instant) {
        if !self.is_due(now) {
            return;
        }
        if self.in_place {
            let line: String = line.chars().take(width().saturating_sub(1)).collect();
            write(&format!("\r{line}\x1b[K"));
            self.drawn = true;
            self.next_at = now + REDRAW_EVERY;
        } else {
            self.line(line);
            self.next_at = now + LOG_EVERY;
        }
    }

    /// Leaves the screen to what comes after: no progress line, nothing untold.
    pub(crate) fn finish(&mut self, now: Instant) {
        self.tell_rest(now, true);
        if self.drawn {
            write("\r\x1b[2K");
            self.drawn = false;
        }
    }

    fn tell_rest(&mut self, now: Instant, at_once: bool) {
        if let Some(rest) = self.limiter.rest(now, at_once) {
            self.line(&rest);
        }
    }
}

/// One write, so that lines of other programs don't get into ours.
fn write(text: &str) {
    let _ = stderr().write_all(text.as_bytes());
}

/// Columns of the terminal now: it may have been resized since the last line.
fn width() -> usize {
    let told = std::env::var("COLUMNS").ok().and_then(|columns| columns.trim().parse().ok());
    let asked = || rustix::termios::tcgetwinsize(stderr()).ok().map(|size| usize::from(size.ws_col));
    told.filter(|&columns| columns > 0).or_else(|| asked().filter(|&columns| columns > 0)).unwrap_or(USUAL_WIDTH)
}
