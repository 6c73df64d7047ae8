//! Values that arguments of several commands take.

use std::time::Duration;

/// Reads a span, as people write it; an error says how.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    aircheck_api::span::parse(text).ok_or_else(|| "write it as 60ms, 10s, 2m or 1h 30m".to_owned())
}

/// Reads a span that is not empty.
pub(crate) fn positive_span(text: &str) -> Result<Duration, String> {
    match span(text)? {
        Duration::ZERO => Err("it must be more than 0".to_owned()),
        span => Ok(span),
    }
}
