//! Host names and origins of web sites, as requests carry them.

use std::net::Ipv6Addr;

use super::notation::Notation;
use super::value::ValueError;

/// A host name as it stands in a request, in lower case: letters, digits, hyphens, underscores and dots.
pub(super) struct HostName;

impl Notation for HostName {
    type Value = String;
    const TAKES: &str = "host names such as radio.example, without scheme or port";

    fn read(text: &str) -> Result<String, ValueError> {
        if is_host(text) { Ok(text.to_ascii_lowercase()) } else { Err(ValueError::Form) }
    }
}

/// The origin of a web site as a browser sends it: scheme and host in lower case, and no port where it is the scheme's
/// own (RFC 6454, section 6.2).
pub(super) struct WebOrigin;

impl Notation for WebOrigin {
    type Value = String;
    const TAKES: &str = "origins such as https://radio.example or http://localhost:3000, without a path";

    fn read(text: &str) -> Result<String, ValueError> {
        origin(&text.to_ascii_lowercase()).ok_or(ValueError::Form)
    }
}

fn is_host(text: &str) -> bool {
    let is_good =
        |label: &str| !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    text.split('.').all(is_good)
}

fn origin(text: &str) -> Option<String> {
    let (scheme, authority) = text.split_once("://")?;
    let scheme_is_good = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    // A colon inside the brackets of an IPv6 address is not the port's.
    let (name, port) = match authority.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port.parse::<u16>().ok()?)),
        _ => (authority, None),
    };
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let name_is_good = match address {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => is_host(name),
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
    use super::*;

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
            assert_eq!(WebOrigin::read(word).as_deref(), Ok(sent));
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
            assert_eq!(WebOrigin::read(word), Err(ValueError::Form), "{word}");
        }
    }
}
