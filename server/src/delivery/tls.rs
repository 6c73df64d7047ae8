//! The TLS of a listener's connection, after its handshake: seals what is sent, and opens what comes.
//!
//! What is followed on a connection are the bytes that the kernel takes, so those of the records. Their lengths are known before
//! they are made: each packet has
//! [records of its own](crate::rendition::packet::Packet::records), and each record is longer than what it carries by an
//! overhead that depends on the cipher suite alone.

use std::io::{self, Read as _, Write as _};

use tokio_rustls::rustls::{self, CipherSuite, ProtocolVersion, ServerConnection};

use crate::rendition::packet::RecordOverhead;

/// Bytes of a record's header.
const HEADER_BYTES: u8 = 5;
/// Bytes of the tag that proves that a record is genuine, in all cipher suites.
const TAG_BYTES: u8 = 16;
/// Before TLS 1.3, AES-GCM has a part of its nonce in each record.
const NONCE_BYTES: u8 = 8;
/// In TLS 1.3, a byte says what a record carries.
const TYPE_BYTES: u8 = 1;
/// Bytes of an alert, of which `close_notify` is one.
pub(super) const ALERT_BYTES: usize = 2;

/// The reason why the TLS of a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsFailure {
    #[error("a TLS record from it is not genuine: {0}")]
    NotGenuine(rustls::Error),
    /// TLS 1.2 can't change its keys, which AES-GCM uses up in 16 million records.
    #[error("the keys of its TLS 1.2 connection are used up (TLS 1.3 changes them)")]
    KeysUsedUp,
}

impl TlsFailure {
    /// Returns the failure of TLS that an error tells of, if it does.
    pub(super) fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

/// The TLS of one connection.
#[derive(Debug)]
pub struct Tls {
    connection: ServerConnection,
    overhead: RecordOverhead,
}

impl Tls {
    /// Takes over a connection whose handshake is complete, and that has nothing to write.
    #[must_use]
    pub fn new(connection: ServerConnection) -> Self {
        let of_version = if connection.protocol_version() == Some(ProtocolVersion::TLSv1_3) {
            TYPE_BYTES
        } else {
            match connection.negotiated_cipher_suite().map(|suite| suite.suite()) {
                Some(
                    CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
                    | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
                ) => 0,
                _ => NONCE_BYTES,
            }
        };
        Self { connection, overhead: RecordOverhead(HEADER_BYTES + of_version + TAG_BYTES) }
    }

    /// Returns by how much each record is longer than what it carries.
    pub(super) fn overhead(&self) -> RecordOverhead {
        self.overhead
    }

    /// Seals `bytes` in so many records, and appends these to `sealed`. Returns how many bytes TLS has put before them: a change of
    /// keys, once in millions of records or when the far end asks for it.
    pub(super) fn seal(&mut self, bytes: &[u8], records: u64, sealed: &mut Vec<u8>) -> io::Result<u64> {
        let start = sealed.len();
        for part in bytes.chunks(bytes.len().div_ceil(records.max(1) as usize).max(1)) {
            self.connection.writer().write_all(part)?;
            self.take_sealed(sealed)?;
        }
        let expected = bytes.len() as u64 + records * u64::from(self.overhead.0);
        let used_up = || io::Error::other(TlsFailure::KeysUsedUp);
        ((sealed.len() - start) as u64).checked_sub(expected).ok_or_else(used_up)
    }

    /// Appends the record that says that nothing follows.
    pub(super) fn seal_end(&mut self, sealed: &mut Vec<u8>) -> io::Result<()> {
        self.connection.send_close_notify();
        self.take_sealed(sealed)
    }

    fn take_sealed(&mut self, sealed: &mut Vec<u8>) -> io::Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(sealed)?;
        }
        Ok(())
    }

    /// Opens the records in `sealed`, bytes that came from the socket, and appends what they carried to `opened`. A record that is
    /// not complete waits for the next bytes. Returns whether more may come: the far end has not said that nothing follows.
    ///
    /// # Errors
    ///
    /// When a record is not genuine. The answer to that, an alert, waits to be [written](Self::take_alert).
    pub(super) fn open(&mut self, mut sealed: &[u8], opened: &mut Vec<u8>) -> io::Result<bool> {
        loop {
            let failed = |error| io::Error::other(TlsFailure::NotGenuine(error));
            let state = self.connection.process_new_packets().map_err(failed)?;
            let bytes = state.plaintext_bytes_to_read();
            if bytes > 0 {
                let before = opened.len();
                opened.resize(before + bytes, 0);
                self.connection.reader().read_exact(&mut opened[before..])?;
            }
            if state.peer_has_closed() {
                return Ok(false);
            }
            if sealed.is_empty() {
                return Ok(true);
            }
            self.connection.read_tls(&mut sealed)?;
        }
    }

    /// Returns what is to be written after [`open`](Self::open) has failed.
    pub(super) fn take_alert(&mut self) -> Vec<u8> {
        let mut alert = Vec::new();
        // Writing to memory does not fail.
        let _ = self.take_sealed(&mut alert);
        alert
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
    use tokio_rustls::rustls::pki_types::{PrivateKeyDer, ServerName};
    use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};

    use super::*;
    use crate::rendition::packet::MAX_RECORD_BYTES;

    /// Returns both sides of a connection with this cipher suite, after their handshake.
    fn connect(suite: CipherSuite) -> (Tls, ClientConnection) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let mut provider = ring::default_provider();
        provider.cipher_suites.retain(|it| it.suite() == suite);
        let provider: Arc<CryptoProvider> = provider.into();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let versions = [provider.cipher_suites[0].version()];
        let client =
            ClientConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&versions).unwrap();
        let client = client.with_root_certificates(roots).with_no_client_auth();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let server = ServerConfig::builder_with_provider(provider).with_protocol_versions(&versions).unwrap();
        let server = server.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
        let mut client = ClientConnection::new(client.into(), ServerName::try_from("localhost").unwrap()).unwrap();
        let mut server = ServerConnection::new(server.into()).unwrap();
        while server.is_handshaking() || client.is_handshaking() || server.wants_write() {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).unwrap();
            server.read_tls(&mut &bytes[..]).unwrap();
            server.process_new_packets().unwrap();
            bytes.clear();
            while server.wants_write() {
                server.write_tls(&mut bytes).unwrap();
            }
            receive(&mut client, &bytes);
        }
        (Tls::new(server), client)
    }

    /// Returns what records carry to a client.
    fn receive(client: &mut ClientConnection, mut sealed: &[u8]) -> Vec<u8> {
        let mut received = Vec::new();
        while !sealed.is_empty() {
            client.read_tls(&mut sealed).unwrap();
            let bytes = client.process_new_packets().unwrap().plaintext_bytes_to_read();
            let before = received.len();
            received.resize(before + bytes, 0);
            client.reader().read_exact(&mut received[before..]).unwrap();
        }
        received
    }

    fn suites() -> impl Iterator<Item = CipherSuite> {
        let provider = ring::default_provider();
        // A certificate for RSA would make no other records.
        let suites = provider.cipher_suites.into_iter().map(|suite| suite.suite());
        suites.filter(|suite| !format!("{suite:?}").contains("_RSA_"))
    }

    #[test]
    fn records_are_as_long_as_their_overhead_tells_with_each_cipher_suite() {
        for suite in suites() {
            let (mut tls, mut client) = connect(suite);
            for (bytes, records) in [(1, 1), (967, 1), (MAX_RECORD_BYTES, 1), (16_390, 2), (40_000, 3)] {
                let (sent, mut sealed) = (vec![7; bytes], Vec::new());
                assert_eq!(tls.seal(&sent, records, &mut sealed).unwrap(), 0, "{suite:?}");
                assert_eq!(sealed.len() as u64, bytes as u64 + records * u64::from(tls.overhead().0), "{suite:?}");
                assert!(receive(&mut client, &sealed) == sent);
            }
            let mut end = Vec::new();
            tls.seal_end(&mut end).unwrap();
            assert_eq!(end.len() as u64, tls.overhead().sealed(ALERT_BYTES), "{suite:?}");
            client.read_tls(&mut &end[..]).unwrap();
            assert!(client.process_new_packets().unwrap().peer_has_closed());
        }
    }

    #[test]
    fn a_change_of_keys_is_counted_before_the_packet_that_it_goes_with() {
        let (mut tls, mut client) = connect(CipherSuite::TLS13_AES_128_GCM_SHA256);
        client.refresh_traffic_keys().unwrap();
        let mut bytes = Vec::new();
        client.writer().write_all(b"request").unwrap();
        client.write_tls(&mut bytes).unwrap();
        let mut opened = Vec::new();
        assert!(tls.open(&bytes, &mut opened).unwrap());
        assert_eq!(opened, b"request");
        let mut sealed = Vec::new();
        // A message of 5 bytes.
        assert_eq!(tls.seal(&[1; 100], 1, &mut sealed).unwrap(), 5 + u64::from(tls.overhead().0));
        assert_eq!(receive(&mut client, &sealed), [1; 100]);
        sealed.clear();
        assert_eq!(tls.seal(&[2; 100], 1, &mut sealed).unwrap(), 0);
        assert_eq!(receive(&mut client, &sealed), [2; 100]);
    }

    #[test]
    fn a_record_is_opened_once_it_is_complete_and_a_bad_one_ends_the_connection_with_an_alert() {
        let (mut tls, mut client) = connect(CipherSuite::TLS13_AES_128_GCM_SHA256);
        let mut bytes = Vec::new();
        client.writer().write_all(b"ping").unwrap();
        client.write_tls(&mut bytes).unwrap();
        let mut opened = Vec::new();
        for byte in &bytes[..bytes.len() - 1] {
            assert!(tls.open(&[*byte], &mut opened).unwrap());
        }
        assert_eq!(opened, b"");
        assert!(tls.open(&bytes[bytes.len() - 1..], &mut opened).unwrap());
        assert_eq!(opened, b"ping");
        bytes.clear();
        client.writer().write_all(b"forged").unwrap();
        client.write_tls(&mut bytes).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        let error = tls.open(&bytes, &mut opened).unwrap_err();
        assert!(matches!(TlsFailure::of(&error), Some(TlsFailure::NotGenuine(_))), "{error}");
        assert_eq!(opened, b"ping");
        assert!(!tls.take_alert().is_empty());
    }
}
