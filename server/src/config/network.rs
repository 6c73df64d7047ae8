//! Networks of trusted proxies.

use std::net::IpAddr;

use ipnet::IpNet;

use super::notation::Notation;
use super::value::ValueError;

/// A network, or a single address.
pub(super) struct Network;

impl Notation for Network {
    type Value = IpNet;
    const TAKES: &str = "networks or addresses such as 10.0.0.0/8, 127.0.0.1 or fd00::/8";

    fn read(text: &str) -> Result<IpNet, ValueError> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(IpNet::from(address.to_canonical()));
        }
        let network: IpNet = text.parse().map_err(|_| ValueError::Form)?;
        if network.network() != network.addr() {
            let exact = network.trunc();
            return Err(ValueError::Because(format!("must name a whole network such as {exact}, not {text}")));
        }
        Ok(network)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_or_an_address_is_read() {
        for (text, read) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("127.0.0.1", "127.0.0.1/32"),
            ("::1", "::1/128"),
            ("fd00::/8", "fd00::/8"),
            ("::ffff:192.0.2.1", "192.0.2.1/32"),
        ] {
            assert_eq!(Network::read(text).unwrap().to_string(), read);
        }
        for text in ["", "10.0.0.0/33", "10.0.0/8", "localhost", "10.0.0.0/", "10.0.0.0/-1", "[::1]", "127.0.0.1:80"] {
            assert_eq!(Network::read(text), Err(ValueError::Form), "{text}");
        }
        let Err(ValueError::Because(sentence)) = Network::read("10.1.0.0/8") else { panic!("it is inexact") };
        assert_eq!(sentence, "must name a whole network such as 10.0.0.0/8, not 10.1.0.0/8");
    }
}
