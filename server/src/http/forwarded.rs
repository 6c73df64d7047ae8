//! Fields in which proxies tell the client of a request: `Forwarded` (RFC 7239) and the older `X-Forwarded-For`,
//! `X-Forwarded-Proto` and `X-Forwarded-Host`.
//!
//! Any client can write them, so they count only where a trusted proxy has sent the request. Each proxy adds the address that it
//! sees at the end, so the client is the last address that is not a trusted proxy's. What stands before it is the client's own word.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use hyper::header::{HOST, HeaderMap, HeaderValue};

use crate::access::policy::PROXY_FIELDS;
use crate::delivery::remote::Client;
use crate::http::trusted_proxies::TrustedProxies;

/// An address with its port, if that is told.
type Node = (IpAddr, Option<u16>);

/// The client of a request, and how that has addressed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Forwarding {
    pub(super) client: Client,
    /// The scheme by which the client reaches the proxy, if the proxy tells it.
    pub(super) scheme: Option<Scheme>,
    /// The `Host` that the client has sent, if the proxy tells it. It is not checked.
    pub(super) host: Option<String>,
}

/// A scheme of web addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    fn read(text: &str) -> Option<Self> {
        match text.trim() {
            text if text.eq_ignore_ascii_case("http") || text.eq_ignore_ascii_case("ws") => Some(Self::Http),
            text if text.eq_ignore_ascii_case("https") || text.eq_ignore_ascii_case("wss") => Some(Self::Https),
            _ => None,
        }
    }

    /// Returns its name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

impl Forwarding {
    /// Reads the fields of a request. `connection` is the client at the far end of its connection, which may be a proxy.
    pub(super) fn read(headers: &HeaderMap, connection: Client, proxies: &TrustedProxies) -> Self {
        let is_forwarded = PROXY_FIELDS.iter().any(|name| headers.contains_key(*name));
        if !is_forwarded || !proxies.contain(connection.ip()) {
            return Self { client: connection, scheme: None, host: None };
        }
        let forwarded = all(headers, "forwarded").map(|text| elements(&text));
        let by_forwarded = forwarded.map(|elements| last_untrusted(elements, |element| element.node(), proxies));
        let addresses = all(headers, "x-forwarded-for");
        let by_address = addresses.as_deref().map(|text| {
            let nodes = text.split(',').map(|node| read_node(node.trim())).collect();
            last_untrusted(nodes, |node| *node, proxies)
        });
        let told = match (&by_forwarded, &by_address) {
            // A proxy writes one of them and passes the other on as the client has sent it. Which one is not known.
            (Some(one), Some(other)) if ip(one) != ip(other) => None,
            (Some(Some((node, _))), _) | (_, Some(Some((node, _)))) => Some(*node),
            _ => None,
        };
        let element = by_forwarded.flatten().map(|(_, element)| element);
        let (proto, host) = element.map_or((None, None), |element| (element.proto, element.host));
        let scheme = proto.or_else(|| last(headers, "x-forwarded-proto")).and_then(|proto| Scheme::read(&proto));
        let host = host.or_else(|| last(headers, "x-forwarded-host"));
        Self { client: Client::behind(connection.peer(), told), scheme, host }
    }
}

impl Forwarding {
    /// Returns the URL by which the client reaches this server, as far as a proxy tells that: what it does not tell is as for the
    /// request that came to `own_url`. The host must have been checked.
    pub(super) fn url(&self, headers: &HeaderMap, own_url: &str) -> Option<String> {
        if self.scheme.is_none() && self.host.is_none() {
            return None;
        }
        let host = self.host.as_deref().or_else(|| headers.get(HOST).map(text))?;
        let own_scheme = own_url.split_once("://").and_then(|(scheme, _)| Scheme::read(scheme));
        let scheme = self.scheme.or(own_scheme).unwrap_or(Scheme::Http);
        Some(format!("{}://{host}/", scheme.name()))
    }
}

/// Returns the URL by which a request has reached this server: as a proxy tells it, or else by the `Host` of the request, or that of
/// `own_url`, the address that it came to.
pub(super) fn reached_url(forwarding: &Forwarding, headers: &HeaderMap, own_url: &str) -> String {
    forwarding.url(headers, own_url).unwrap_or_else(|| {
        // A Unix socket's URL has no host.
        let (scheme, own_host) = own_url.split_once("://").unwrap_or(("http", "localhost"));
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        format!("{scheme}://{}/", host.unwrap_or(own_host.trim_end_matches('/')))
    })
}

/// Returns the address of a client that is told.
fn ip<T>(told: &Option<(Node, T)>) -> Option<IpAddr> {
    told.as_ref().map(|((address, _), _)| address.to_canonical())
}

/// Returns the last of `hops` that is not a trusted proxy, or the first one if all are; `None` if it hides its address.
fn last_untrusted<T>(hops: Vec<T>, node: impl Fn(&T) -> Option<Node>, proxies: &TrustedProxies) -> Option<(Node, T)> {
    let mut first = None;
    for hop in hops.into_iter().rev() {
        let node = node(&hop)?;
        if !proxies.contain(node.0) {
            return Some((node, hop));
        }
        first = Some((node, hop));
    }
    first
}

/// Returns the values of all fields with this name as one list; `None` if there is none. A value that is not ASCII stands as `?`.
fn all(headers: &HeaderMap, name: &str) -> Option<String> {
    let values: Vec<_> = headers.get_all(name).iter().map(text).collect();
    (!values.is_empty()).then(|| values.join(","))
}

/// Returns the last value of a list, which the nearest proxy has written.
fn last(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get_all(name).iter().next_back().map(text)?;
    value.rsplit(',').next().map(|value| value.trim().to_owned())
}

fn text(value: &HeaderValue) -> &str {
    value.to_str().unwrap_or("?")
}

/// One proxy's part of `Forwarded`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Element {
    forwarded_for: Option<String>,
    proto: Option<String>,
    host: Option<String>,
}

impl Element {
    fn node(&self) -> Option<Node> {
        self.forwarded_for.as_deref().and_then(read_node)
    }
}

/// Reads a value of `Forwarded` (RFC 7239, section 4). Where it breaks the grammar, what a client has sent cannot be told from what a
/// proxy has added, so all of it counts as one element that tells nothing.
fn elements(text: &str) -> Vec<Element> {
    parse(text).unwrap_or_else(|| vec![Element::default()])
}

fn parse(text: &str) -> Option<Vec<Element>> {
    let mut elements = Vec::new();
    let mut element = Element::default();
    let mut rest = text.trim_start();
    loop {
        if let Some(after) = rest.strip_prefix(|end| end == ',' || end == ';') {
            if rest.starts_with(',') {
                elements.push(std::mem::take(&mut element));
            }
            rest = after.trim_start();
            continue;
        }
        if rest.is_empty() {
            elements.push(element);
            // Empty elements are permitted, as in any list (RFC 9110, section 5.6.1).
            elements.retain(|element| *element != Element::default());
            return Some(elements);
        }
        let (name, after) = rest.split_once('=')?;
        if !is_token(name) {
            return None;
        }
        let (value, after) = value(after)?;
        let slot = match () {
            () if name.eq_ignore_ascii_case("for") => Some(&mut element.forwarded_for),
            () if name.eq_ignore_ascii_case("proto") => Some(&mut element.proto),
            () if name.eq_ignore_ascii_case("host") => Some(&mut element.host),
            () => None,
        };
        if let Some(slot) = slot
            && slot.replace(value).is_some()
        {
            return None;
        }
        rest = after.trim_start();
        if !(rest.is_empty() || rest.starts_with([',', ';'])) {
            return None;
        }
    }
}

/// Reads a token or a quoted string. Returns it, and what follows.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ';', ' ', '\t']).unwrap_or(text.len());
        let (token, after) = text.split_at(end);
        // Some proxies leave out the quotes that a colon and brackets take.
        let is_node = |token: &str| token.bytes().all(|byte| is_token_byte(byte) || matches!(byte, b':' | b'[' | b']'));
        return (!token.is_empty() && is_node(token)).then(|| (token.to_owned(), after));
    };
    let (mut value, mut is_escaped) = (String::new(), false);
    for (at, character) in quoted.char_indices() {
        match character {
            '\\' if !is_escaped => is_escaped = true,
            '"' if !is_escaped => return Some((value, &quoted[at + 1..])),
            _ => {
                value.push(character);
                is_escaped = false;
            }
        }
    }
    None
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

/// Returns whether a byte may stand in a token (RFC 9110, section 5.6.2).
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Reads an address, with its port or not; `None` for `unknown` and names that hide it.
fn read_node(text: &str) -> Option<Node> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some((address, None));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some((address.ip(), Some(address.port())));
    }
    let bracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    if let Some(address) = bracketed.and_then(|text| text.parse::<Ipv6Addr>().ok()) {
        return Some((address.into(), None));
    }
    // A port may be hidden while the address is not: `192.0.2.1:_x` (RFC 7239, section 6).
    let (address, port) = text.rsplit_once(':')?;
    let is_hidden = port.starts_with('_') && is_token(port);
    let address = address.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(address);
    is_hidden.then(|| address.parse().ok()).flatten().map(|address| (address, None))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderName;

    use super::*;

    /// Returns the client, the scheme and the host of a request with these fields, from a connection of this address.
    fn read(from: &str, fields: &[(&str, &str)]) -> (String, Option<&'static str>, Option<String>) {
        let networks = ["127.0.0.1/32", "10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap());
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let connection = Client::direct(SocketAddr::new(from.parse().unwrap(), 9));
        let Forwarding { client, scheme, host } =
            Forwarding::read(&headers, connection, &TrustedProxies::new(networks.to_vec()));
        let shown =
            if client.is_proxied() { format!("{client} via {}", client.via().unwrap()) } else { client.to_string() };
        (shown, scheme.map(Scheme::name), host)
    }

    fn client(fields: &[(&str, &str)]) -> String {
        read("127.0.0.1", fields).0
    }

    #[test]
    fn fields_from_an_untrusted_peer_change_nothing() {
        let fields = [("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=192.0.2.1;proto=https;host=x")];
        assert_eq!(read("198.51.100.1", &fields), ("198.51.100.1:9".to_owned(), None, None));
        assert_eq!(read("11.0.0.1", &fields), ("11.0.0.1:9".to_owned(), None, None));
    }

    #[test]
    fn a_request_of_the_proxy_itself_has_no_proxy() {
        assert_eq!(client(&[("user-agent", "check")]), "127.0.0.1:9");
        assert_eq!(read("::ffff:10.1.2.3", &[("x-forwarded-for", "192.0.2.1")]).0, "192.0.2.1 via 10.1.2.3");
    }

    #[test]
    fn the_client_is_the_last_address_that_is_no_trusted_proxy() {
        for (list, found) in [
            ("192.0.2.1", "192.0.2.1"),
            ("203.0.113.9, 192.0.2.1", "192.0.2.1"),
            ("203.0.113.9,192.0.2.1 , 10.0.0.7", "192.0.2.1"),
            ("127.0.0.1, 192.0.2.1, 10.0.0.7,10.0.0.8", "192.0.2.1"),
            ("10.0.0.3, 10.0.0.7", "10.0.0.3"),
            ("192.0.2.1:5555", "192.0.2.1:5555"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:5555", "[2001:db8::1]:5555"),
            ("192.0.2.1, fd00::7", "192.0.2.1"),
            // What comes before is the client's own word.
            ("garbage, 192.0.2.1", "192.0.2.1"),
            ("unknown", "127.0.0.1:9"),
            ("192.0.2.1, unknown", "127.0.0.1:9"),
            ("192.0.2.1, unknown, 10.0.0.7", "127.0.0.1:9"),
            ("192.0.2.1,", "127.0.0.1:9"),
            ("", "127.0.0.1:9"),
            ("192.0.2.256", "127.0.0.1:9"),
        ] {
            assert_eq!(client(&[("x-forwarded-for", list)]), format!("{found} via 127.0.0.1"), "{list}");
        }
        let lines =
            [("x-forwarded-for", "203.0.113.9"), ("x-forwarded-for", "192.0.2.1"), ("x-forwarded-for", "10.0.0.7")];
        assert_eq!(client(&lines), "192.0.2.1 via 127.0.0.1");
        assert_eq!(client(&[("via", "1.1 proxy")]), "127.0.0.1:9 via 127.0.0.1");
    }

    #[test]
    fn the_examples_of_rfc_7239_are_read() {
        for (value, found) in [
            (r#"for="_gazonk""#, "127.0.0.1:9"),
            (r#"For="[2001:db8:cafe::17]:4711""#, "[2001:db8:cafe::17]:4711"),
            ("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"),
            ("for=192.0.2.43, for=198.51.100.17", "198.51.100.17"),
            (r#"for=192.0.2.43, for="[2001:db8:cafe::17]""#, "2001:db8:cafe::17"),
            ("for=192.0.2.43,for=198.51.100.17;by=203.0.113.60;proto=http;host=example.com", "198.51.100.17"),
            (r#"for=_hidden, for=_SEVKISEK"#, "127.0.0.1:9"),
            (r#"for="192.0.2.43:47011""#, "192.0.2.43:47011"),
            (r#"for="192.0.2.43:_port""#, "192.0.2.43"),
            (r#"by="x\"y,z;";for=192.0.2.43"#, "192.0.2.43"),
        ] {
            assert_eq!(client(&[("forwarded", value)]), format!("{found} via 127.0.0.1"), "{value}");
        }
    }

    #[test]
    fn a_client_that_breaks_the_grammar_of_forwarded_hides_and_forges_nothing() {
        for begun in
            [r#"for=203.0.113.9;x=""#, r#"for=203.0.113.9;x="\"#, "for=203.0.113.9 for=1", "=", "for", r#"for="a"b"#]
        {
            for added in ["for=192.0.2.1", r#"for="[2001:db8::1]:5""#] {
                let value = format!("{begun}, {added}");
                assert_eq!(client(&[("forwarded", &value)]), "127.0.0.1:9 via 127.0.0.1", "{value}");
            }
        }
        assert_eq!(client(&[("forwarded", "for=203.0.113.9;for=192.0.2.1")]), "127.0.0.1:9 via 127.0.0.1");
    }

    #[test]
    fn two_fields_that_tell_different_clients_tell_none() {
        let both = |forwarded, address| client(&[("forwarded", forwarded), ("x-forwarded-for", address)]);
        assert_eq!(both("for=192.0.2.1", "192.0.2.1"), "192.0.2.1 via 127.0.0.1");
        assert_eq!(both("for=203.0.113.9", "192.0.2.1"), "127.0.0.1:9 via 127.0.0.1");
        assert_eq!(both("for=unknown", "192.0.2.1"), "127.0.0.1:9 via 127.0.0.1");
    }

    #[test]
    fn scheme_and_host_are_those_of_the_nearest_proxy_or_of_the_client_s_element() {
        let of = |fields: &[(&str, &str)]| {
            let (_, scheme, host) = read("127.0.0.1", fields);
            (scheme, host)
        };
        let both = [("x-forwarded-proto", "https"), ("x-forwarded-host", "radio.example")];
        assert_eq!(of(&both), (Some("https"), Some("radio.example".to_owned())));
        let forged =
            [("x-forwarded-proto", "https"), ("x-forwarded-proto", "ftp, http"), ("x-forwarded-host", "evil,good")];
        assert_eq!(of(&forged), (Some("http"), Some("good".to_owned())));
        let element =
            [("forwarded", "for=203.0.113.9;host=evil, for=192.0.2.1;proto=https;host=\"good:8443\", for=10.0.0.1")];
        assert_eq!(of(&element), (Some("https"), Some("good:8443".to_owned())));
        assert_eq!(of(&[("x-forwarded-proto", "gopher")]), (None, None));
    }
}
