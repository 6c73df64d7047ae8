//! The header of the PROXY protocol, versions 1 and 2, with which a connection may begin (HAProxy's
//! `doc/proxy-protocol.txt`). A proxy that does not speak HTTP tells its client's address by it.
//!
//! Only the connections of trusted proxies are looked at. Others could write anything.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncReadExt as _, Interest};

use crate::delivery::remote::{Client, Remote};
use crate::http::transport::Transport;

/// The beginning of version 1.
const TEXT: &[u8] = b"PROXY ";
/// The longest header of version 1, with its end (section 2.1).
const MAX_TEXT_BYTES: usize = 107;
/// The beginning of version 2.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, version and command, family and protocol, and the number of bytes after these.
const FIXED_BYTES: usize = 16;
/// The longest header of version 2 that is taken: addresses of Unix sockets are 216 bytes, and proxies add names of certificates
/// and numbers of requests, some hundred bytes in all.
const MAX_BYTES: usize = 2048;

/// The source of a connection, as its header tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A client at this address.
    Client(SocketAddr),
    /// A client of which the proxy tells nothing, or whose address is of another kind.
    Unknown,
    /// The proxy itself, which looks whether the server is there.
    Proxy,
}

impl Source {
    /// Returns the client of a connection from `peer`.
    pub(super) fn client(self, peer: Remote) -> Client {
        match self {
            Self::Client(address) => Client::behind(peer, Some((address.ip(), Some(address.port())))),
            Self::Unknown => Client::behind(peer, None),
            Self::Proxy => Client::direct(peer),
        }
    }
}

/// The beginning of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beginning {
    /// It is no header.
    Other,
    /// More bytes are needed to tell.
    Incomplete,
    /// A header of so many bytes.
    Header(usize, Source),
    /// A header that breaks the protocol.
    Wrong(&'static str),
}

/// The reason why no header can be taken.
#[derive(Debug)]
pub(super) enum HeaderError {
    /// The connection is broken.
    Broken,
    /// The header breaks the protocol.
    Wrong(&'static str),
}

impl From<io::Error> for HeaderError {
    fn from(_: io::Error) -> Self {
        Self::Broken
    }
}

/// Takes the header off the beginning of a connection, and returns its source; `None` if the connection begins with something else,
/// which stays in it. Waits until that is known.
pub(super) async fn take(stream: &mut Transport) -> Result<Option<Source>, HeaderError> {
    let transport: &Transport = stream;
    let look = || match look(transport)? {
        // What stays in the socket is no reason to look again before more arrives.
        Beginning::Incomplete => Err(io::ErrorKind::WouldBlock.into()),
        beginning => Ok(beginning),
    };
    let beginning = match transport {
        Transport::Plain(socket) => socket.async_io(Interest::READABLE, look).await?,
        Transport::Unix(socket) => socket.async_io(Interest::READABLE, look).await?,
        Transport::Tls(_) => Beginning::Other,
    };
    match beginning {
        Beginning::Header(bytes, source) => {
            stream.read_exact(&mut vec![0; bytes]).await?;
            Ok(Some(source))
        }
        Beginning::Wrong(sentence) => Err(HeaderError::Wrong(sentence)),
        Beginning::Other | Beginning::Incomplete => Ok(None),
    }
}

/// Looks at what has arrived, and leaves it there.
fn look(stream: &Transport) -> io::Result<Beginning> {
    let mut buffer = [0; MAX_BYTES];
    let (_, arrived) = recv(stream, &mut buffer, RecvFlags::PEEK)?;
    // Without bytes, the far end has closed the connection.
    Ok(if arrived == 0 { Beginning::Other } else { parse(&buffer[..arrived]) })
}

fn parse(bytes: &[u8]) -> Beginning {
    let begins_like = |header: &[u8]| bytes.iter().zip(header).all(|(byte, expected)| byte == expected);
    if begins_like(TEXT) {
        if bytes.len() < TEXT.len() { Beginning::Incomplete } else { parse_text(bytes) }
    } else if begins_like(SIGNATURE) {
        if bytes.len() < FIXED_BYTES { Beginning::Incomplete } else { parse_binary(bytes) }
    } else {
        Beginning::Other
    }
}

/// Reads version 1: a line such as `PROXY TCP4 192.0.2.1 192.0.2.2 56324 443`.
fn parse_text(bytes: &[u8]) -> Beginning {
    let head = &bytes[..bytes.len().min(MAX_TEXT_BYTES)];
    let Some(end) = head.windows(2).position(|pair| pair == b"\r\n") else {
        return if head.len() < MAX_TEXT_BYTES {
            Beginning::Incomplete
        } else {
            Beginning::Wrong("its PROXY header has no end within 107 bytes")
        };
    };
    let source = std::str::from_utf8(&head[TEXT.len()..end]).ok().and_then(|line| {
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            // What follows is to be ignored (section 2.1).
            ["UNKNOWN", ..] => Some(Source::Unknown),
            [family @ ("TCP4" | "TCP6"), from, to, from_port, to_port] => {
                let is_of_family = |address: &IpAddr| address.is_ipv4() == (family == "TCP4");
                let address = |text: &str| text.parse::<IpAddr>().ok().filter(is_of_family);
                let (from, _, port, _) = (address(from)?, address(to)?, port(from_port)?, port(to_port)?);
                Some(Source::Client(SocketAddr::new(from, port)))
            }
            _ => None,
        }
    });
    match source {
        Some(source) => Beginning::Header(end + 2, source),
        None => Beginning::Wrong("its PROXY header is not one of version 1"),
    }
}

/// Reads a port: digits without a zero before them.
fn port(text: &str) -> Option<u16> {
    let is_canonical = text == "0" || !text.starts_with('0');
    (is_canonical && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

/// Reads version 2, of which [`FIXED_BYTES`] are there.
fn parse_binary(bytes: &[u8]) -> Beginning {
    let length = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    let total = FIXED_BYTES + length;
    let is_local = match bytes[12] {
        0x20 => true,
        0x21 => false,
        _ => return Beginning::Wrong("its PROXY header is of another version, or has another command"),
    };
    if total > MAX_BYTES {
        return Beginning::Wrong("its PROXY header has more than 2048 bytes");
    }
    let Some(rest) = bytes.get(FIXED_BYTES..total) else { return Beginning::Incomplete };
    if is_local {
        return Beginning::Header(total, Source::Proxy);
    }
    // Both addresses, then both ports; other fields may follow, and are not needed.
    let source = match bytes[13] {
        0x11 => rest.first_chunk::<12>().map(|it| {
            let address = Ipv4Addr::new(it[0], it[1], it[2], it[3]);
            Source::Client(SocketAddr::new(address.into(), u16::from_be_bytes([it[8], it[9]])))
        }),
        0x21 => rest.first_chunk::<36>().and_then(|it| {
            let address: Ipv6Addr = it.first_chunk::<16>().copied()?.into();
            Some(Source::Client(SocketAddr::new(address.into(), u16::from_be_bytes([it[32], it[33]]))))
        }),
        // Not specified, datagrams, Unix sockets (section 2.2).
        0x00 | 0x12 | 0x22 | 0x31 | 0x32 => Some(Source::Unknown),
        _ => return Beginning::Wrong("its PROXY header has addresses of an unknown kind"),
    };
    source.map_or(Beginning::Wrong("its PROXY header is too short for its addresses"), |source| {
        Beginning::Header(total, source)
    })
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns what a header of version 2 with these parts is taken for.
    fn binary(version_and_command: u8, family: u8, rest: &[u8]) -> Beginning {
        parse(&binary_header(version_and_command, family, rest))
    }

    fn binary_header(version_and_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[version_and_command, family], &length, rest].concat()
    }

    fn client(address: &str) -> Source {
        Source::Client(address.parse().unwrap())
    }

    #[test]
    fn the_specification_s_examples_of_version_1_are_read() {
        let widest = b"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
        for (line, source) in [
            (&b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"[..], client("192.168.0.1:56324")),
            (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", client("255.255.255.255:65535")),
            (&widest[..], client("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535")),
            (b"PROXY TCP6 ::1 2001:db8::1 0 1\r\n", client("[::1]:0")),
            (b"PROXY UNKNOWN\r\n", Source::Unknown),
            (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", Source::Unknown),
        ] {
            let then_http = [line, b"GET / HTTP/1.1\r\n\r\n"].concat();
            assert_eq!(parse(&then_http), Beginning::Header(line.len(), source), "{}", line.escape_ascii());
            for cut in 1..line.len() {
                assert_eq!(parse(&line[..cut]), Beginning::Incomplete, "{}", line[..cut].escape_ascii());
            }
        }
    }

    #[test]
    fn other_lines_of_version_1_are_wrong() {
        for line in [
            "PROXY \r\n",
            "PROXY TCP4\r\n",
            "PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
            "PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
            "PROXY TCP4 192.0.2.1 2001:db8::1 1 2\r\n",
            "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n",
            "PROXY TCP4 \u{fffd} 192.0.2.2 1 2\r\n",
        ] {
            assert!(matches!(parse(line.as_bytes()), Beginning::Wrong(_)), "{line:?}");
        }
        let endless = [TEXT, &[b'x'; MAX_TEXT_BYTES]].concat();
        assert_eq!(parse(&endless[..MAX_TEXT_BYTES - 1]), Beginning::Incomplete);
        assert!(matches!(parse(&endless[..MAX_TEXT_BYTES]), Beginning::Wrong(_)));
    }

    #[test]
    fn version_2_is_read_with_what_follows_its_addresses() {
        let four = [192, 0, 2, 1, 192, 0, 2, 2, 0xdc, 0x04, 0x01, 0xbb];
        let six: [u8; 36] = std::array::from_fn(|at| match at {
            0 => 0x20,
            1 => 0x01,
            15 => 7,
            32 => 1,
            _ => 0,
        });
        // A field of type 4 (PP2_TYPE_NOOP) with 3 bytes.
        let field = [4, 0, 3, 1, 2, 3];
        for (command, family, rest, source) in [
            (0x21, 0x11, &four[..], client("192.0.2.1:56324")),
            (0x21, 0x11, &[&four[..], &field].concat(), client("192.0.2.1:56324")),
            (0x21, 0x21, &six[..], client("[2001::7]:256")),
            (0x21, 0x31, &[0; 216], Source::Unknown),
            (0x21, 0x12, &four, Source::Unknown),
            (0x21, 0x00, &[], Source::Unknown),
            (0x21, 0x00, &field, Source::Unknown),
            (0x20, 0x00, &[], Source::Proxy),
            (0x20, 0x11, &four, Source::Proxy),
        ] {
            let header = binary_header(command, family, rest);
            assert_eq!(parse(&header), Beginning::Header(header.len(), source), "{command:x} {family:x}");
            let then_tls = [&header[..], &[22, 3, 1]].concat();
            assert_eq!(parse(&then_tls), Beginning::Header(header.len(), source));
            for cut in 1..header.len() {
                assert_eq!(parse(&header[..cut]), Beginning::Incomplete, "{cut} bytes");
            }
        }
    }

    #[test]
    fn other_headers_of_version_2_are_wrong() {
        for (command, family, rest) in [
            (0x11, 0x11, &[0; 12][..]),
            (0x31, 0x11, &[0; 12]),
            (0x22, 0x11, &[0; 12]),
            (0x21, 0x11, &[0; 11]),
            (0x21, 0x21, &[0; 35]),
            (0x21, 0x41, &[0; 36]),
            (0x21, 0x13, &[0; 36]),
            (0x21, 0x11, &[0; MAX_BYTES - FIXED_BYTES + 1]),
        ] {
            assert!(matches!(binary(command, family, rest), Beginning::Wrong(_)), "{command:x} {family:x}");
        }
        // The length alone tells that it is too long.
        let head = [SIGNATURE, &[0x21, 0x11, 0xff, 0xff]].concat();
        assert!(matches!(parse(&head), Beginning::Wrong(_)));
        assert_eq!(
            binary(0x21, 0x11, &[0; MAX_BYTES - FIXED_BYTES]),
            Beginning::Header(MAX_BYTES, client("0.0.0.0:0"))
        );
    }

    #[test]
    fn requests_and_tls_are_no_headers() {
        for bytes in
            [&b"GET / HTTP/1.1\r\n"[..], b"PROPFIND / HTTP/1.1\r\n", b"PUT ", b"PROXY\r\n", b"\r\nGET /", &[22, 3, 1]]
        {
            assert_eq!(parse(bytes), Beginning::Other, "{}", bytes.escape_ascii());
        }
    }
}
