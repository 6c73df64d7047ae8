//! A packet as all listeners of an encoder share it: framed once, for the connections that carry it.

use std::ops::Range;
use std::sync::Arc;

use aircheck_api::EpochNotice;
use aircheck_engine::{Loss, Origin};

use crate::metadata::Change;
use crate::rendition::codec::flac::frame::Frame;
use crate::rendition::container::ogg::page::Page;

/// The way in which a connection carries packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// As chunks of HTTP/1.1 (RFC 9112, section 7.1).
    Chunked,
    /// As they are: HTTP/1.0 has no chunks.
    Plain,
    /// As messages of a WebSocket (RFC 6455, section 5). A server's frames are not masked, so listeners can share them.
    WebSocket,
}

/// The parts of a packet that have numbers, which each listener gets anew: its own stream begins at its own start.
#[derive(Clone, Debug, Default)]
pub enum Numbered {
    /// None.
    #[default]
    Nothing,
    /// Pages of Ogg.
    Pages(Box<[Page]>),
    /// Frames of FLAC.
    Frames(Box<[Frame]>),
}

/// Bytes made from one or more blocks, with their framing around them.
#[derive(Clone, Debug)]
pub struct Packet {
    /// A chunk of HTTP/1.1, or whole WebSocket messages.
    framed: Box<[u8]>,
    /// Where the bytes of the rendition are in it.
    payload: Range<usize>,
    numbered: Numbered,
    origin: Origin,
    /// The run of another server that its sound is of.
    epoch: EpochNotice,
    /// What is known of its sound.
    metadata: Option<Arc<Change>>,
    ends: Ends,
}

/// Where a packet ends in all packets of its encoder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// In their bytes, framed and not.
    framed: u64,
    payload: u64,
    /// In the records of TLS that they take.
    records: u64,
}

/// The bytes that TLS adds to each of its records: none on a connection without TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordOverhead(pub u8);

/// The most bytes that a record of TLS carries (RFC 8446, section 5.1).
pub const MAX_RECORD_BYTES: usize = 1 << 14;

impl RecordOverhead {
    /// Returns the bytes that go over a connection for so many bytes of its own kind, such as a head or a notice.
    #[must_use]
    pub fn sealed(self, bytes: usize) -> u64 {
        self.sealed_in(bytes, bytes.div_ceil(MAX_RECORD_BYTES) as u64)
    }

    /// Returns the bytes that go over a connection for so many bytes in so many records.
    #[must_use]
    #[inline]
    pub fn sealed_in(self, bytes: usize, records: u64) -> u64 {
        bytes as u64 + self.of_records(records)
    }

    fn of_records(self, records: u64) -> u64 {
        u64::from(self.0) * records
    }
}

impl Ends {
    /// Returns where the packet ends in the bytes of a connection that carried all packets, with the `overhead` of its records.
    #[must_use]
    #[inline]
    pub fn sealed(&self, wire: Wire, overhead: RecordOverhead) -> u64 {
        let bytes = if wire == Wire::Plain { self.payload } else { self.framed };
        bytes + overhead.of_records(self.records)
    }
}

impl Packet {
    /// Frames bytes of a rendition as a chunk.
    ///
    /// ```
    /// use aircheck_server::rendition::packet::{Numbered, Packet, Wire};
    ///
    /// let packet = Packet::chunk(b"0123456789abcdef", Numbered::Nothing);
    /// assert_eq!(packet.bytes(Wire::Chunked), b"10\r\n0123456789abcdef\r\n");
    /// assert_eq!(packet.bytes(Wire::Plain), b"0123456789abcdef");
    /// ```
    ///
    /// No bytes make no chunk: an empty one would end the response.
    #[must_use]
    pub fn chunk(payload: &[u8], numbered: Numbered) -> Self {
        if payload.is_empty() {
            return Self::new(Vec::new(), 0..0, numbered);
        }
        let head = format!("{:x}\r\n", payload.len());
        let framed = [head.as_bytes(), payload, b"\r\n"].concat();
        Self::new(framed, head.len()..head.len() + payload.len(), numbered)
    }

    /// Frames each of these messages, which have their kinds with them, as a message of a WebSocket.
    #[must_use]
    pub fn messages<'m>(messages: impl IntoIterator<Item = (u8, &'m [u8])>) -> Self {
        let mut framed = Vec::new();
        for (kind, message) in messages {
            push_frame(&mut framed, kind, message);
        }
        let payload = 0..framed.len();
        Self::new(framed, payload, Numbered::Nothing)
    }

    fn new(framed: Vec<u8>, payload: Range<usize>, numbered: Numbered) -> Self {
        Self {
            framed: framed.into(),
            payload,
            numbered,
            origin: Origin::Source,
            epoch: EpochNotice::default(),
            metadata: None,
            ends: Ends::default(),
        }
    }

    /// Notes where the sound of its blocks comes from, which is the same for all of it.
    pub(crate) fn set_origin(&mut self, origin: Origin) {
        self.origin = origin;
    }

    /// Returns where the sound of its blocks comes from.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Returns the reason for which its blocks count as lost, if they did not come: it carries silence or a notice in their place.
    #[must_use]
    #[inline]
    pub fn loss(&self) -> Option<Loss> {
        self.origin.loss()
    }

    /// Notes the run of another server that its sound is of, which is the same for all of it.
    pub(crate) fn set_epoch(&mut self, epoch: EpochNotice) {
        self.epoch = epoch;
    }

    /// Returns the run of another server that its sound is of; the default for sound of this one.
    #[must_use]
    #[inline]
    pub fn epoch(&self) -> EpochNotice {
        self.epoch
    }

    /// Attaches what is known of the sound, which is the same for all of it.
    pub(crate) fn set_metadata(&mut self, metadata: Option<Arc<Change>>) {
        self.metadata = metadata;
    }

    /// Returns what is known of the sound.
    #[must_use]
    #[inline]
    pub fn metadata(&self) -> Option<&Change> {
        self.metadata.as_deref()
    }

    /// Places the packet behind the one that ends at these positions, and returns where it ends itself.
    pub(crate) fn place(&mut self, before: Ends) -> Ends {
        self.ends = Ends {
            framed: before.framed + self.framed.len() as u64,
            payload: before.payload + self.payload.len() as u64,
            records: before.records + self.records(),
        };
        self.ends
    }

    /// Returns the number of TLS records that the packet takes. It is the same however a connection carries it, so that one count is
    /// enough for all connections.
    #[must_use]
    #[inline]
    pub fn records(&self) -> u64 {
        self.framed.len().div_ceil(MAX_RECORD_BYTES) as u64
    }

    /// Returns the number of TLS records that the packet takes with bytes of a listener's own before it, `bytes` in all.
    #[must_use]
    #[inline]
    pub fn records_of(&self, bytes: usize) -> u64 {
        self.records().max(bytes.div_ceil(MAX_RECORD_BYTES) as u64)
    }

    /// Returns the bytes that go over a connection.
    #[must_use]
    #[inline]
    pub fn bytes(&self, wire: Wire) -> &[u8] {
        match wire {
            Wire::Chunked | Wire::WebSocket => &self.framed,
            Wire::Plain => &self.framed[self.payload.clone()],
        }
    }

    /// Returns the Ogg pages in the packet.
    #[must_use]
    #[inline]
    pub fn pages(&self) -> &[Page] {
        if let Numbered::Pages(pages) = &self.numbered { pages } else { &[] }
    }

    /// Returns the frames of FLAC in the packet.
    #[must_use]
    pub fn frames(&self) -> &[Frame] {
        if let Numbered::Frames(frames) = &self.numbered { frames } else { &[] }
    }

    /// Returns where the bytes of the rendition are in [`bytes`](Self::bytes).
    #[must_use]
    #[inline]
    pub fn payload(&self, wire: Wire) -> Range<usize> {
        if wire == Wire::Plain { 0..self.payload.len() } else { self.payload.clone() }
    }

    /// Returns where the packet ends in all packets of its encoder.
    #[must_use]
    #[inline]
    pub fn ends(&self) -> Ends {
        self.ends
    }

    /// Returns the bytes that go over a connection for the packet, with the `overhead` of its records.
    #[must_use]
    #[inline]
    pub fn sealed_len(&self, wire: Wire, overhead: RecordOverhead) -> u64 {
        self.bytes(wire).len() as u64 + overhead.of_records(self.records())
    }
}

/// Kinds of WebSocket frames (RFC 6455, section 5.2).
pub const TEXT: u8 = 1;
/// A frame of bytes.
pub const BINARY: u8 = 2;
/// A frame that ends the session.
pub const CLOSE: u8 = 8;
/// A frame that asks for a pong.
pub const PING: u8 = 9;
/// A frame that answers a ping.
pub const PONG: u8 = 10;

/// Appends a whole WebSocket message in one frame without a mask.
pub fn push_frame(bytes: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    /// The bit that says that no frame of this message follows.
    const FIN: u8 = 0x80;
    bytes.push(FIN | kind);
    match payload.len() {
        length @ ..126 => bytes.push(length as u8),
        length @ ..0x1_0000 => {
            bytes.push(126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(payload);
}
