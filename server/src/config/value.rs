//! From text to the value of a setting, within its bounds.

use std::fmt::Display;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use aircheck_engine::Overflow;

use crate::config::{Config, Key};
use aircheck_api::span::{self, Short};

/// The engine's bounds of a block.
const BLOCK: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_millis(100);
/// The shortest ring is one block, which is checked once both are known. A minute behind is no longer live, and with
/// blocks of 1 ms makes rings of 60,000 handles, half a megabyte for each listener.
const BUFFER: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);
/// None is allowed: it only means no burst and no resume. Ten minutes of 48 kHz stereo are 230 MB, all of which is
/// held in memory.
const HISTORY: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(600);
/// An objective that a healthy listener keeps: it is a block or two behind while its machine is busy with others, which
/// is checked once the block is known. Beyond ten minutes there is no ring or history to be behind in.
const MAX_LAG: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(600);
/// Shorter than 10 ms, and the kernel runs dry between a wake-up and the next; longer than 10 s, and a listener's lag is
/// the kernel's before it is ours.
const SOCKET_BUFFER: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(10);
/// Each listener is a file descriptor and, at the default buffer, at most 64 KiB: 100,000 are 6.5 GB.
const MAX_LISTENERS: RangeInclusive<usize> = 1..=100_000;
/// The engine's bounds of a rate.
const RATE_HZ: RangeInclusive<u32> = 1..=768_000;
/// The engine's bounds of a channel count.
const CHANNELS: RangeInclusive<u16> = 1..=32;

impl Config {
    /// Reads one setting. What is wrong is the end of a sentence that begins with the setting's name.
    pub(super) fn read(&mut self, key: Key, text: &str) -> Result<(), String> {
        let text = text.trim();
        match key {
            Key::Source => self.source = text.parse().map_err(|e: super::UnknownSource| e.predicate())?,
            Key::Loop => self.looped = switch(text).ok_or_else(|| unlike(key, text))?,
            Key::Listen => self.listen = address(text).ok_or_else(|| unlike(key, text))?,
            Key::Block => self.block = span(key, text, &BLOCK)?,
            Key::Buffer => self.buffer = span(key, text, &BUFFER)?,
            Key::History => self.history = span(key, text, &HISTORY)?,
            Key::Overflow => self.overflow = policy(text)?,
            Key::MaxLag if text.eq_ignore_ascii_case("off") => self.max_lag = None,
            Key::MaxLag => self.max_lag = Some(span(key, text, &MAX_LAG)?),
            Key::SocketBuffer => self.socket_buffer = span(key, text, &SOCKET_BUFFER)?,
            Key::MaxListeners => self.max_listeners = number(key, text, &MAX_LISTENERS)?,
            Key::Record if text.is_empty() => return Err(unlike(key, text)),
            Key::Record => self.record = (!text.eq_ignore_ascii_case("off")).then(|| text.into()),
            Key::RecordSplit => self.record_split = text.parse()?,
            Key::Rate => self.rate_hz = Some(number(key, text, &RATE_HZ)?),
            Key::Channels => self.channels = Some(number(key, text, &CHANNELS)?),
            Key::Sample => self.sample = Some(text.parse().map_err(|_| unlike(key, text))?),
            Key::AllowHosts => self.allow_hosts = list(key, text, host)?,
            Key::AllowOrigins => self.allow_origins = list(key, text, origin)?,
        }
        Ok(())
    }
}

/// That `text` is not what the setting takes.
fn unlike(key: Key, text: impl Display) -> String {
    format!("must be {}, not `{text}`", key.takes())
}

fn switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// An address with its port. Names other than localhost are refused: one name may be several addresses.
fn address(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("localhost:") {
        Some(port) => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse().ok()?))),
        None => text.parse().ok(),
    }
}

fn span(key: Key, text: &str, bounds: &RangeInclusive<Duration>) -> Result<Duration, String> {
    let span = span::parse(text).ok_or_else(|| unlike(key, text))?;
    if bounds.contains(&span) {
        return Ok(span);
    }
    Err(format!("must be from {} to {}, not {}", Short(*bounds.start()), Short(*bounds.end()), Short(span)))
}

fn policy(text: &str) -> Result<Overflow, String> {
    match text.parse() {
        Ok(Overflow::Block) => {
            Err(format!("{}: live sound does not wait for a listener", unlike(Key::Overflow, Overflow::Block)))
        }
        Ok(policy) => Ok(policy),
        Err(_) => Err(unlike(Key::Overflow, text)),
    }
}

fn number<N: FromStr + PartialOrd>(key: Key, text: &str, bounds: &RangeInclusive<N>) -> Result<N, String> {
    text.parse().ok().filter(|number| bounds.contains(number)).ok_or_else(|| unlike(key, text))
}

/// Words with commas between.
fn list(key: Key, text: &str, read: fn(&str) -> Option<String>) -> Result<Vec<String>, String> {
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    words.map(|word| read(word).ok_or_else(|| unlike(key, word))).collect()
}

/// A host name as it stands in a request, in lower case: letters, digits, hyphens, underscores and dots.
fn host(word: &str) -> Option<String> {
    let label_is_good =
        |label: &str| !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    word.split('.').all(label_is_good).then(|| word.to_ascii_lowercase())
}

/// An origin as a browser sends it: scheme and host in lower case, and no port where it is the scheme's own
/// (RFC 6454, section 6.2).
fn origin(word: &str) -> Option<String> {
    let word = word.to_ascii_lowercase();
    let (scheme, authority) = word.split_once("://")?;
    let scheme_is_good = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    // A colon inside the brackets of an IPv6 address is not the port's.
    let (name, port) = match authority.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port.parse::<u16>().ok()?)),
        _ => (authority, None),
    };
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let name_is_good = match address {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host(name).is_some(),
    };
    if !scheme_is_good || !name_is_good {
        return None;
    }
    match (scheme, port) {
        (_, None) | ("http", Some(80)) | ("https", Some(443)) => Some(format!("{scheme}://{name}")),
        (_, Some(port)) => Some(format!("{scheme}://{name}:{port}")),
    }
}

#[cfg(test)]
mod tests {
    use aircheck_engine::Format;

    use super::*;

    #[test]
    fn the_bounds_of_the_format_are_the_engines() {
        let block = *BLOCK.start();
        for (rate_hz, channels, block) in
            [(*RATE_HZ.start(), 1, block), (*RATE_HZ.end(), *CHANNELS.end(), *BLOCK.end())]
        {
            assert!(Format::new(rate_hz, channels, block).is_ok());
        }
        assert!(Format::new(RATE_HZ.end() + 1, 1, block).is_err());
        assert!(Format::new(1, CHANNELS.end() + 1, block).is_err());
        assert!(Format::new(1, 1, *BLOCK.end() + Duration::from_nanos(1)).is_err());
        assert!(Format::new(1, 1, *BLOCK.start() - Duration::from_nanos(1)).is_err());
    }

    #[test]
    fn what_messages_say_are_the_bounds() {
        let bounds = |low: String, high: String| format!("from {low} to {high}");
        for (key, bounds) in [
            (Key::MaxListeners, bounds(MAX_LISTENERS.start().to_string(), MAX_LISTENERS.end().to_string())),
            (Key::Rate, bounds(RATE_HZ.start().to_string(), RATE_HZ.end().to_string())),
            (Key::Channels, bounds(CHANNELS.start().to_string(), CHANNELS.end().to_string())),
        ] {
            assert!(key.takes().ends_with(&bounds), "{key:?}: {}", key.takes());
        }
    }

    #[test]
    fn origins_are_what_browsers_send() {
        let good = [
            ("https://radio.example", "https://radio.example"),
            ("HTTPS://Radio.Example:443", "https://radio.example"),
            ("http://radio.example:80", "http://radio.example"),
            ("http://radio.example:443", "http://radio.example:443"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://[::1]", "http://[::1]"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ];
        for (word, sent) in good {
            assert_eq!(origin(word).as_deref(), Some(sent));
        }
        let bad = [
            "",
            "*",
            "null",
            "radio.example",
            "https://",
            "://x",
            "https://radio.example/",
            "https://a/b",
            "https://u@h",
            "https://*.example",
            "https://h:x",
            "https://h:70000",
            "https://h:",
            "http://[::1",
            "http://::1",
            "http://[x]",
        ];
        for word in bad {
            assert_eq!(origin(word), None, "{word}");
        }
    }
}
