//! The far end of a listener's connection, and the client there or behind proxies.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The far end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remote {
    /// At an address.
    Tcp(SocketAddr),
    /// A program on this machine, through a Unix socket.
    Unix,
}

impl Remote {
    /// Returns the address that it counts for: a Unix socket's is this machine's own.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        match self {
            Self::Tcp(address) => address.ip(),
            Self::Unix => Ipv4Addr::LOCALHOST.into(),
        }
    }
}

impl From<SocketAddr> for Remote {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

/// The program that a request comes from: at the far end of the connection, or behind a trusted proxy there. Shows as its address,
/// with its port where that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    peer: Remote,
    /// Apart, because most of thousands of listeners have no proxy that is trusted.
    proxied: Option<Box<Proxied>>,
}

/// A client's address as a proxy tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Proxied {
    /// Only some proxies tell the port, too.
    At(IpAddr, Option<u16>),
    /// The proxy does not tell it.
    Unknown,
}

impl Client {
    /// Makes the client at the far end of a connection.
    #[must_use]
    pub fn direct(peer: impl Into<Remote>) -> Self {
        Self { peer: peer.into(), proxied: None }
    }

    /// Makes a client behind the proxy at `peer`, with the address and port that this tells of it.
    #[must_use]
    pub fn behind(peer: Remote, told: Option<(IpAddr, Option<u16>)>) -> Self {
        let proxied = told.map_or(Proxied::Unknown, |(address, port)| Proxied::At(address, port));
        Self { peer, proxied: Some(Box::new(proxied)) }
    }

    /// Returns the far end of the connection: the client itself, or the nearest proxy.
    #[must_use]
    pub fn peer(&self) -> Remote {
        self.peer
    }

    /// Returns the address that the client counts for. An unknown client counts for its proxy's.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        match self.proxied.as_deref() {
            Some(Proxied::At(address, _)) => *address,
            Some(Proxied::Unknown) | None => self.peer.ip(),
        }
    }

    /// Returns whether the client is behind a proxy.
    #[must_use]
    pub fn is_proxied(&self) -> bool {
        self.proxied.is_some()
    }

    /// Returns the address of the nearest proxy, or `unix`; `None` without a proxy.
    #[must_use]
    pub fn via(&self) -> Option<String> {
        self.proxied.as_ref().map(|_| match self.peer {
            Remote::Tcp(address) => address.ip().to_canonical().to_string(),
            Remote::Unix => Remote::Unix.to_string(),
        })
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.proxied.as_deref() {
            Some(Proxied::At(address, Some(port))) => SocketAddr::new(*address, *port).fmt(f),
            Some(Proxied::At(address, None)) => address.fmt(f),
            Some(Proxied::Unknown) | None => self.peer.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_shows_as_far_as_its_address_is_known() {
        let proxy = SocketAddr::from(([127, 0, 0, 1], 40_000));
        let shown = |client: Client| (client.to_string(), client.ip().to_string(), client.via());
        let via = || Some("127.0.0.1".to_owned());
        assert_eq!(shown(Client::direct(proxy)), ("127.0.0.1:40000".into(), "127.0.0.1".into(), None));
        let address = "2001:db8::1".parse().unwrap();
        let behind = |told| shown(Client::behind(proxy.into(), told));
        assert_eq!(behind(Some((address, None))), ("2001:db8::1".into(), "2001:db8::1".into(), via()));
        assert_eq!(behind(Some((address, Some(7)))), ("[2001:db8::1]:7".into(), "2001:db8::1".into(), via()));
        assert_eq!(behind(None), ("127.0.0.1:40000".into(), "127.0.0.1".into(), via()));
        assert_eq!(Client::behind(Remote::Unix, None).via().unwrap(), "unix");
    }
}
