//! Why listening failed: each is one line that says what to do, where something can be done.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use crate::units as words;

/// A reason to exit with 1.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// No TCP connection.
    #[error("can't connect to {authority}: {why}{hint}")]
    Connect { authority: String, why: String, hint: &'static str },
    /// It took the connection, but what it says isn't HTTP, or it says nothing.
    #[error("no HTTP answer from {authority}: {why}")]
    NoAnswer { authority: String, why: String },
    /// Any status but 200, with the server's own words.
    #[error("the server refused: {why} (HTTP {status}){hint}")]
    Refused { status: u16, why: String, hint: String },
    /// 200, but no stream that could be understood.
    #[error("{authority} doesn't send an aircheck stream: {why}")]
    NotAStream { authority: String, why: String },
    /// It speaks HTTP, but its API isn't there or says something else.
    #[error("{authority} is no aircheck: {why}")]
    NotAircheck { authority: String, why: String },
    /// The terminal could not be used, or is gone.
    #[error("can't use the terminal: {0}; for plain text, say --once")]
    Terminal(String),
    /// The connection ended in the middle.
    #[error("connection lost: {0}")]
    Lost(String),
    /// A line that can't be read. Guessing on would make every count after it a guess.
    #[error("line {line} of the stream makes no sense: {why}: {excerpt}")]
    Malformed { line: u64, why: String, excerpt: String },
    /// Likewise a message of the WebSocket.
    #[error("message {number} of the stream makes no sense: {why}")]
    Message { number: u64, why: String },
    /// The WebSocket was closed for another reason than that the stream is over.
    #[error("the server ended it: {why} (code {code})")]
    Ended { code: u16, why: String },
    /// There is nothing to play on.
    #[error("there is no loudspeaker: {0}; connect one or start the sound server, or leave out --play")]
    NoSpeaker(String),
    /// There is, but it doesn't play, or not any more.
    #[error("can't play on {name}: {why}")]
    Speaker { name: String, why: String },
    /// Not a block in all the time there was.
    #[error("nothing came: no block within {}", words::span(*.0))]
    NothingCame(Duration),
    /// A signal, before the first block.
    #[error("nothing came: stopped before the first block")]
    StoppedEarly,
    /// The signals could not be watched, so a recording could not be finished properly.
    #[error("can't watch for Ctrl-C: {0}")]
    Signals(io::Error),
    /// The recording could not be made, written or completed.
    #[error("can't write {path}: {why}", path = .path.display())]
    Write { path: PathBuf, why: String },
}

/// Writes one line to stderr. That nobody reads it any more is no reason to fail.
pub(crate) fn complain(what: &str) {
    let _ = writeln!(io::stderr(), "aircheckctl: {what}");
}

/// An I/O error in words, without the number of the system's.
pub(crate) fn io_words(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// The innermost cause of an error, which says more than its wrappers.
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
