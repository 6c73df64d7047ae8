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

/// The web sites that may use a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sites {
    /// The server's own pages.
    Own,
    /// The same, and the sites of `--allow-origin`.
    Allowed,
    /// The server's own pages. The answer has no secrets, so a request is refused only if a browser says that it comes from
    /// another site: behind a proxy that changes the host, the page must load far enough to say what is wrong.
    OwnAsFarAsKnown,
}

/// How a client has reached this server, beyond what its request says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reached<'a> {
    /// The host by which it has reached a trusted proxy, if that tells it.
    pub(super) forwarded_host: Option<&'a str>,
    /// Whether it is known to speak HTTPS, with this server or with a trusted proxy.
    pub(super) is_https: bool,
}

/// Checks a request's headers. Returns the site that sent it, if that is an allowed one.
pub(super) fn check(
    headers: &HeaderMap,
    reached: Reached<'_>,
    sites: Sites,
    hosts: &[String],
    origins: &[String],
) -> Result<Option<String>, Refused> {
    let Reached { forwarded_host, is_https } = reached;
    let host = field(headers, header::HOST.as_str());
    check_host(host, hosts)?;
    check_host(forwarded_host, hosts)?;
    let fetch_site = field(headers, "sec-fetch-site");
    // No script can set this field. A page of this server sends it where a proxy has changed `Host`, and `Origin` still has
    // the name that the browser knows. A name that was rebound is in `Host`, and refused above.
    if fetch_site == Some("same-origin") {
        return Ok(None);
    }
    let foreign = matches!(fetch_site, Some("cross-site" | "same-site"));
    if let Some(origin) = field(headers, header::ORIGIN.as_str()) {
        // On the way to a page by plain HTTP, anyone can write it, also in the name of a server that speaks HTTPS. The other way
        // round, a proxy that is not trusted may have taken the TLS off.
        let plain = origin.strip_prefix("http://").filter(|_| !is_https);
        let origin_host = plain.or(origin.strip_prefix("https://"));
        // A browser tells no `Sec-Fetch-Site` with a WebSocket. Behind a proxy that changes `Host`, what that forwards counts.
        let own = origin_host.is_some() && (origin_host == host || origin_host == forwarded_host);
        if own || (sites == Sites::OwnAsFarAsKnown && !foreign) {
            return Ok(None);
        }
        if sites == Sites::Allowed && allows(origins, origin) {
            return Ok(Some(origin.to_owned()));
        }
        let advice = match sites {
            Sites::Allowed => format!("start it with --allow-origin {origin} to allow that"),
            _ if allows(origins, origin) => "--allow-origin permits streams only".to_owned(),
            _ => format!(
                "behind a proxy, let it pass on Host, or tell X-Forwarded-Host as a --trusted-proxy; --allow-origin \
                 {origin} permits streams only"
            ),
        };
        return Err((RefusalReason::Origin, format!("the web site {origin} may not use this path ({advice})")));
    }
    // Requests of an element such as `<audio>` have no `Origin`, but browsers report that they come from another site. A
    // link may come from there: the page that it opens is ours.
    let followed =
        field(headers, "sec-fetch-mode") == Some("navigate") && field(headers, "sec-fetch-dest") == Some("document");
    if !foreign || followed {
        return Ok(None);
    }
    // Such an element names its site in `Referer`, which no script can set to that of another site.
    let referring = field(headers, header::REFERER.as_str()).and_then(origin_of);
    match referring.filter(|origin| sites == Sites::Allowed && allows(origins, origin)) {
        Some(origin) => Ok(Some(origin.to_owned())),
        None => Err((
            RefusalReason::Origin,
            "another web site may not use this server (--allow-origin permits streams to a site that sends its Origin or \
             Referer)"
                .to_owned(),
        )),
    }
}

/// Checks a host name by which a client has reached the server, if there is one.
pub(super) fn check_host(host: Option<&str>, hosts: &[String]) -> Result<(), Refused> {
    match host.filter(|host| !host_is_ours(host, hosts)) {
        Some(host) => {
            let sentence = format!(
                "the name `{host}` is not one of this server's (use its address, or start it with --allow-host {})",
                without_port(host)
            );
            Err((RefusalReason::Host, sentence))
        }
        None => Ok(()),
    }
}

/// Returns whether `origin` is on the list of sites that may read the streams.
fn allows(origins: &[String], origin: &str) -> bool {
    origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin))
}

/// Returns the origin of a URL: what stands before its path.
fn origin_of(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    url.get(..scheme.len() + "://".len() + authority.len())
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
        verdict_for(Sites::Allowed, fields)
    }

    fn verdict_for(sites: Sites, fields: &[(&str, &str)]) -> Option<RefusalReason> {
        let headers = fields
            .iter()
            .map(|(name, value)| (HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap()))
            .collect();
        let hosts = ["studio.example".to_owned()];
        let origins = ["https://radio.example".to_owned()];
        check(&headers, Reached::default(), sites, &hosts, &origins).err().map(|(reason, _)| reason)
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
    #[test]
    fn an_allowed_site_has_streams_only_also_where_an_element_names_it() {
        let host = ("host", "127.0.0.1:8700");
        let by_origin = [host, ("origin", "https://radio.example")];
        let element = [host, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")];
        let by_referer = |referer| [&element[..], &[("referer", referer)]].concat();
        for referer in ["https://radio.example/", "https://radio.example", "https://Radio.example/a?b#c"] {
            assert_eq!(verdict_for(Sites::Allowed, &by_referer(referer)), None, "{referer}");
        }
        for referer in
            ["https://radio.example.evil/", "http://radio.example/", "https://evil/https://radio.example/", "x"]
        {
            assert_eq!(verdict_for(Sites::Allowed, &by_referer(referer)), Some(RefusalReason::Origin), "{referer}");
        }
        for sites in [Sites::Own, Sites::OwnAsFarAsKnown] {
            assert_eq!(verdict_for(sites, &by_referer("https://radio.example/")), Some(RefusalReason::Origin));
        }
        assert_eq!(verdict_for(Sites::Allowed, &by_origin), None);
        assert_eq!(verdict_for(Sites::Own, &by_origin), Some(RefusalReason::Origin));
    }

    #[test]
    fn the_same_site_is_known_behind_a_proxy_that_changes_the_host() {
        let fields = [("host", "127.0.0.1:8700"), ("origin", "https://studio.example")];
        let same = [&fields[..], &[("sec-fetch-site", "same-origin")]].concat();
        assert_eq!(verdict_for(Sites::Own, &same), None);
        // By plain HTTP a browser does not say so. The files of the page have no secrets.
        assert_eq!(verdict_for(Sites::Own, &fields), Some(RefusalReason::Origin));
        assert_eq!(verdict_for(Sites::OwnAsFarAsKnown, &fields), None);
        let other = [&fields[..], &[("sec-fetch-site", "cross-site")]].concat();
        assert_eq!(verdict_for(Sites::OwnAsFarAsKnown, &other), Some(RefusalReason::Origin));
        // Nor does it with a WebSocket. A trusted proxy that tells the host proves it, for that host alone.
        let headers: HeaderMap = fields
            .iter()
            .map(|(name, value)| (HeaderName::try_from(*name).unwrap(), HeaderValue::from_static(value)))
            .collect();
        let behind = |host| {
            let reached = Reached { forwarded_host: Some(host), is_https: false };
            check(&headers, reached, Sites::Own, &["studio.example".to_owned()], &[])
        };
        assert_eq!(behind("studio.example"), Ok(None));
        assert_eq!(behind("127.0.0.1:8700").unwrap_err().0, RefusalReason::Origin);
        assert_eq!(behind("evil.example").unwrap_err().0, RefusalReason::Host);
        // A name that was rebound is its own same site.
        let rebound = [("host", "evil.example"), ("sec-fetch-site", "same-origin")];
        assert_eq!(verdict_for(Sites::Own, &rebound), Some(RefusalReason::Host));
    }

    #[test]
    fn a_page_by_plain_http_is_not_that_of_a_server_that_speaks_https() {
        let verdict = |origin: &'static str, is_https| {
            let headers = [(header::HOST, "studio.example"), (header::ORIGIN, origin)];
            let headers = headers.map(|(name, value)| (name, HeaderValue::from_static(value))).into_iter().collect();
            let reached = Reached { forwarded_host: None, is_https };
            check(&headers, reached, Sites::Own, &["studio.example".to_owned()], &[]).map_err(|(reason, _)| reason)
        };
        assert_eq!(verdict("http://studio.example", true), Err(RefusalReason::Origin));
        assert_eq!(verdict("https://studio.example", true), Ok(None));
        assert_eq!(verdict("http://studio.example", false), Ok(None));
        assert_eq!(verdict("https://studio.example", false), Ok(None), "a proxy has taken the TLS off");
    }
}
