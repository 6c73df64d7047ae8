//! Healthy listeners of numbered sound, which lose nothing whatever happens beside them.

use std::net::SocketAddr;

use super::client::Client;
use super::numbered::Format;
use super::scrape;
use crate::common::{Server, assert_identity, eventually};

/// The formats, of which each is read by one listener.
const FORMATS: [Format; 4] = [Format::Pcm, Format::Wav, Format::Json, Format::Sse];
/// The names of listeners that must lose nothing begin with this.
const HEALTHY: &str = "healthy";

/// A healthy listener of each format.
pub(crate) struct Healthy {
    address: SocketAddr,
    pub(crate) clients: [Client; 4],
}

impl Healthy {
    /// Starts them with the parameters `query`, and waits for their sound.
    pub(crate) fn start(server: &Server, query: &str) -> Self {
        let clients = FORMATS.map(|format| {
            Client::start(server.address, format, &format!("name={}&{query}", Self::name(format.label())))
        });
        let healthy = Self { address: server.figures_address(), clients };
        healthy.hear_more();
        healthy
    }

    /// Returns the name of a listener that must lose nothing.
    pub(crate) fn name(label: &str) -> String {
        format!("{HEALTHY}-{label}")
    }

    /// Waits until each has heard another half second.
    pub(crate) fn hear_more(&self) {
        let blocks = || self.clients.each_ref().map(|client| client.received().blocks());
        let before = blocks();
        eventually("more sound", || blocks().iter().zip(&before).all(|(now, before)| *now > before + 50).then_some(()));
    }

    /// Asserts that they hear on, and have lost nothing but what the capture has lost for all on a busy machine: by what they
    /// read, and by the server's rows. The account of each other listener must add up.
    pub(crate) fn assert_nothing_lost(&self) {
        self.hear_more();
        let captured = scrape::captured_losses(self.address);
        let rows = scrape::rows(self.address);
        rows.values().for_each(assert_identity);
        for client in &self.clients {
            let received = client.received();
            assert!(rows.contains_key(&Self::name(client.format.label())), "{:?} is gone", client.format);
            assert!(received.missing() <= captured, "{:?} lost {:?}", client.format, received.holes);
        }
        for (_, row) in rows.iter().filter(|(name, _)| name.starts_with(HEALTHY)) {
            assert!(row["lost"].as_u64().unwrap() <= captured, "{row}");
        }
    }
}
