//! Bitrates as people write them: `96k`, `96000`.

/// Reads a bitrate: a whole number of bits per second, or of thousands of them with a `k` behind it.
///
/// ```
/// use aircheck_api::bitrate::parse;
///
/// assert_eq!(parse("96k"), Some(96_000));
/// assert_eq!(parse("96000"), Some(96_000));
/// assert_eq!(parse("96 kbit/s"), None);
/// ```
#[must_use]
pub fn parse(text: &str) -> Option<u32> {
    match text.strip_suffix(['k', 'K']) {
        Some(thousands) => thousands.parse::<u32>().ok()?.checked_mul(1000),
        None => text.parse().ok(),
    }
}
