//! The binary and text messages of the WebSocket.

use aircheck_api::{GapNotice, HEADER_BYTES, Hello, MessageHeader, PROTOCOL_VERSION, Payload, ServerText};
use aircheck_engine::source::PcmEncoding;
use aircheck_engine::{Format, Gap, Stamp, Timestamp};
use bytes::Bytes;

use crate::rendition::codec::OpusBitrate;

/// Returns the encoding of a payload's samples; `None` for Opus.
#[must_use]
pub const fn samples(payload: Payload) -> Option<PcmEncoding> {
    match payload {
        Payload::F32 => Some(PcmEncoding::F32Le),
        Payload::S16 => Some(PcmEncoding::S16Le),
        Payload::Opus => None,
    }
}

/// Returns the binary message of one block or packet: header and payload.
#[must_use]
pub fn binary(payload: Payload, stamp: Stamp, bytes: &[u8]) -> Bytes {
    let header = MessageHeader {
        payload,
        payload_bytes: bytes.len() as u32,
        sequence: stamp.sequence,
        captured_at_nanos: stamp.captured_at.unix_nanos(),
    };
    let mut message = Vec::with_capacity(HEADER_BYTES + bytes.len());
    message.extend(header.to_bytes());
    message.extend_from_slice(bytes);
    message.into()
}

/// The layout of Opus packets in a stream, in frames at 48 kHz, and their bitrate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketLayout {
    /// Length of a packet: packet *n* starts at *n* times it.
    pub packet_frames: u32,
    /// Frames by which a decoded packet is older than the sound that it was made of.
    pub pre_skip_frames: u16,
    /// The bitrate at which packets are encoded.
    pub bitrate: OpusBitrate,
}

/// Returns the first message: the format of the stream, and for Opus the layout of its packets.
#[must_use]
pub fn hello(format: Format, payload: Payload, layout: Option<PacketLayout>, listener: u64) -> String {
    let hello = Hello {
        version: PROTOCOL_VERSION,
        listener,
        payload,
        rate_hz: if payload == Payload::Opus { 48_000 } else { format.rate_hz() },
        channels: format.channels(),
        block_frames: format.block_frames(),
        block_seconds: format.block_span().as_secs_f64(),
        now: Timestamp::now().unix_seconds(),
        packet_frames: layout.map(|layout| layout.packet_frames),
        pre_skip_frames: layout.map(|layout| layout.pre_skip_frames),
        bitrate: layout.map(|layout| layout.bitrate.bits_per_second()),
    };
    ServerText::Hello(hello).to_json()
}

/// Returns the notice of a gap in JSON, which is the same in every rendition with notices.
#[must_use]
pub fn gap(gap: Gap) -> String {
    GapNotice { from: gap.from, blocks: gap.items, reason: gap.reason.label().into() }.to_json()
}

/// Returns the notice of a gap as a line of JSON.
#[must_use]
pub fn line_of_gap(of: Gap) -> String {
    format!("{}\n", gap(of))
}

/// Returns the notice of a gap as a server-sent event. The id is the last missing number, so that a listener that reconnects
/// does not get the notice again.
#[must_use]
pub fn event_of_gap(of: Gap) -> String {
    format!("id: {}\nevent: gap\ndata: {}\n\n", of.from + of.items - 1, gap(of))
}
