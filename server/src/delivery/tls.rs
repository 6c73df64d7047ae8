//! The TLS of a listener's connection, after its handshake: seals what is sent, and opens what comes.
//!
//! What is followed on a connection are the bytes that the kernel takes, so those of the records. Their lengths are known before
//! they are made: each packet has
//! [records of its own](crate::rendition::packet::Packet::records), and each record is longer than what it carries by an
//! overhead that depends on the cipher suite alone.

use std::io::{self, Read as _, Write as _};

use tokio_rustls::rustls::{CipherSuite, ProtocolVersion, ServerConnection};

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
        // TLS 1.2 can't change its keys, which AES-GCM uses up in 16 million records.
        let used_up = || io::Error::other("the keys of this TLS 1.2 connection are used up");
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
            let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
            let state = self.connection.process_new_packets().map_err(invalid)?;
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
