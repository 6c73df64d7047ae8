//! The proxies whose word about their clients is taken.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use aircheck_engine::Timestamp;
use ipnet::IpNet;

use crate::mount::throttle::Throttle;

/// The networks of trusted proxies.
#[derive(Debug)]
pub(super) struct TrustedProxies {
    networks: Vec<IpNet>,
    complaints: Mutex<Throttle>,
}

impl TrustedProxies {
    /// Trusts the proxies in these networks.
    pub(super) fn new(networks: Vec<IpNet>) -> Self {
        Self { networks, complaints: Mutex::default() }
    }

    /// Returns whether a proxy at this address is trusted. An IPv4 address in IPv6 is that IPv4 address.
    pub(super) fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// Logs that a proxy does not speak as it should, but not too often: where a proxy passes bytes on as they come, its clients can
    /// cause this.
    pub(super) fn complain(&self, proxy: IpAddr, sentence: &str) {
        let passed = self.complaints.lock().unwrap_or_else(PoisonError::into_inner).pass(Timestamp::now());
        if let Some(withheld) = passed {
            tracing::warn!(withheld, "closed a connection of the proxy {}: {sentence}", proxy.to_canonical());
        }
    }
}
