//! Failures of a command, each in one line: what failed, why, and what would work.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::units;

/// Exit code of a usage error.
pub(crate) const USAGE: u8 = 2;
/// Exit code of `--strict` and of `load` when sound was lost.
pub(crate) const LOST: u8 = 3;

/// A reason to exit with 1.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// There is no TCP connection.
    #[error("cannot connect to {authority}: {why}{hint}")]
    Connect { authority: String, why: String, hint: &'static str },
    /// The connection is there, but what comes is not HTTP, or nothing comes.
    #[error("no HTTP answer from {authority}: {why}")]
    NoAnswer { authority: String, why: String },
    /// The answer has an error status; the words are the server's own.
    #[error("the server refused: {why} (HTTP {status}){hint}")]
    Refused { status: u16, why: String, hint: String },
    /// The answer is a success, but no stream that can be read.
    #[error("{authority} does not send an aircheck stream: {why}")]
    NotAStream { authority: String, why: String },
    /// The API is not there, or says something else.
    #[error("{authority} is not an aircheck server: {why}")]
    NotAircheck { authority: String, why: String },
    /// The terminal could not be used, or is gone.
    #[error("cannot use the terminal: {0} (--once prints plain text)")]
    Terminal(String),
    /// The connection ended within the stream.
    #[error("connection lost: {0}")]
    Lost(String),
    /// A message cannot be read. Reading on would make every later count a guess.
    #[error("cannot read message {number} of the stream: {why}")]
    Message { number: u64, why: String },
    /// The server closed the WebSocket for another reason than the end of the stream.
    #[error("the server ended this listener: {why} (code {code})")]
    Ended { code: u16, why: String },
    /// This program cannot play.
    #[cfg(not(feature = "play"))]
    #[error(
        "cannot play: this aircheckctl was built without the feature `play` (build it with that, or leave out --play)"
    )]
    CannotPlay,
    /// There is no output device.
    #[cfg(feature = "play")]
    #[error("no audio output device: {0} (connect one or start the sound server, or leave out --play)")]
    NoOutput(String),
    /// The output device does not play, or no longer.
    #[error("cannot play on {name}: {why}")]
    Output { name: String, why: String },
    /// No block came in time.
    #[error("nothing came: no block within {}", units::span(*.0))]
    NothingCame(Duration),
    /// A signal came before the first block.
    #[error("nothing came: stopped before the first block")]
    StoppedEarly,
    /// The signals could not be watched, so a recording could not be completed.
    #[error("cannot watch for Ctrl-C: {}", io_words(.0))]
    Signals(io::Error),
    /// A receiver did not take a notification.
    #[error("cannot notify {host}: {why}{hint}")]
    Notification { host: String, why: String, hint: &'static str },
    /// There is no report: a log cannot be read, or has nothing to show.
    #[error("{0}")]
    Report(String),
    /// A file could not be made, written or completed.
    #[error("cannot write {path}: {why}", path = .path.display())]
    Write { path: PathBuf, why: String },
}

impl Failure {
    /// Complains, and returns the exit code of a failure.
    pub(crate) fn exit(&self) -> ExitCode {
        complain(&self.to_string());
        ExitCode::FAILURE
    }
}

/// Writes one line to stderr. A reader that is gone is no reason to fail.
pub(crate) fn complain(what: &str) {
    let _ = writeln!(io::stderr(), "aircheckctl: {what}");
}

/// Returns an I/O error in words, without the number that the system gives it.
pub(crate) fn io_words(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// Returns the words of an error's innermost cause, which says more than its wrappers.
pub(crate) fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    match cause.downcast_ref::<io::Error>() {
        Some(error) => io_words(error),
        None => cause.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_io_error_is_words_only() {
        let refused = io::Error::from_raw_os_error(111);
        assert_eq!(io_words(&refused), "Connection refused");
    }
}
