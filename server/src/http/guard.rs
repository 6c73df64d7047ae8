//! Refuses requests that come from other web sites: a microphone is private.
//!
//! A server on loopback can be reached from every web page that its user opens. Such a page can point a name of its own
//! at 127.0.0.1 (DNS rebinding), which shows in the `Host` header; or it can send requests across origins, which browsers
//! report in `Origin` or `Sec-Fetch-Site`.

use std::net::IpAddr;

use hyper::header::{self, HeaderMap};

use crate::telemetry::metrics::RefusalReason;

/// The reason of a refusal, for the count, and its sentence, for the answer.
pub(super) type Refused = (RefusalReason, String);

/// Checks a request's headers.
pub(super) fn check(headers: &HeaderMap, hosts: &[String], origins: &[String]) -> Result<(), Refused> {
    let host = field(headers, header::HOST.as_str());
    if let Some(host) = host
        && !host_is_ours(host, hosts)
    {
        let sentence = format!(
            "the name `{host}` is not one of this server's (use its address, or start it with --allow-host {})",
            without_port(host)
        );
        return Err((RefusalReason::Host, sentence));
    }
    if let Some(origin) = field(headers, header::ORIGIN.as_str()) {
        let own =
            host.is_some_and(|host| origin.strip_prefix("http://").or(origin.strip_prefix("https://")) == Some(host));
        if !own && !allows(origins, origin) {
            let sentence = format!(
                "the web site {origin} may not use this server (start it with --allow-origin {origin} to allow that)"
            );
            return Err((RefusalReason::Origin, sentence));
        }
        return Ok(());
    }
    // Requests of an element such as `<audio>` have no `Origin`, but browsers report that they come from another site. A
    // link may come from there: the page that it opens is ours.
    let foreign = matches!(field(headers, "sec-fetch-site"), Some("cross-site" | "same-site"));
    let followed =
        field(headers, "sec-fetch-mode") == Some("navigate") && field(headers, "sec-fetch-dest") == Some("document");
    if foreign && !followed {
        return Err((
            RefusalReason::Origin,
            "another web site may not use this server (start it with --allow-origin to allow that)".to_owned(),
        ));
    }
    Ok(())
}

/// Returns whether `origin` is on the list of sites that may read the streams.
pub(super) fn allows(origins: &[String], origin: &str) -> bool {
    origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin))
}

/// Returns a field's value as text. One that is not ASCII becomes a value that matches nothing.
fn field<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}

/// Returns whether a `Host` header names this server. An address cannot be rebound, and `localhost` is always this machine.
fn host_is_ours(host: &str, hosts: &[String]) -> bool {
    let name = without_port(host);
    let address = name.trim_start_matches('[').trim_end_matches(']');
    address.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(name))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{HeaderName, HeaderValue};

    fn verdict(fields: &[(&str, &str)]) -> Option<RefusalReason> {
        let headers = fields
            .iter()
            .map(|(name, value)| (HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap()))
            .collect();
        let hosts = ["studio.example".to_owned()];
        let origins = ["https://radio.example".to_owned()];
        check(&headers, &hosts, &origins).err().map(|(reason, _)| reason)
    }

    #[test]
    fn addresses_localhost_and_configured_names_are_ours() {
        for host in
            ["127.0.0.1:8700", "127.0.0.1", "[::1]:8700", "[::1]", "192.0.2.7:80", "localhost:8700", "Studio.Example:1"]
        {
            assert_eq!(verdict(&[("host", host)]), None, "{host}");
        }
        for host in ["evil.example", "evil.example:8700", "127.0.0.1.evil.example", "localhost.evil.example", ""] {
            assert_eq!(verdict(&[("host", host)]), Some(RefusalReason::Host), "{host}");
        }
    }

    #[test]
    fn another_site_is_refused() {
        let host = ("host", "127.0.0.1:8700");
        for (fields, refused) in [
            (vec![("origin", "http://127.0.0.1:8700")], false),
            (vec![("origin", "https://radio.example")], false),
            (vec![("origin", "https://evil.example")], true),
            (vec![("origin", "http://127.0.0.1:3000")], true),
            (vec![("origin", "null")], true),
            (vec![("sec-fetch-site", "same-origin")], false),
            (vec![("sec-fetch-site", "none")], false),
            (vec![("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")], true),
            (vec![("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors")], true),
            (
                vec![("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")],
                false,
            ),
            (
                vec![("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")],
                true,
            ),
        ] {
            let verdict = verdict(&[&[host], &fields[..]].concat());
            assert_eq!(verdict, refused.then_some(RefusalReason::Origin), "{fields:?}");
        }
    }
}
