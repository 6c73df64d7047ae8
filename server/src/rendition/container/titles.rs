//! Metadata as one listener gets it: before the packet with which it begins, once.

use crate::metadata::Change;
use crate::rendition::packet::{Packet, TEXT, Wire, push_frame};

/// The form of a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeForm {
    /// A line of JSON.
    Line,
    /// A server-sent event. It has no id, so that a listener that reconnects goes on after the last block that it got.
    Event,
    /// A text message of the WebSocket.
    Message,
}

/// The metadata that one listener was told.
///
/// Each packet says what is known of its sound, so a listener that joins late, or has lost blocks, gets what belongs to the first packet
/// that it hears.
#[derive(Debug, Default)]
pub struct Titles {
    /// The number of the last change that was told, or 0.
    told: u64,
}

impl Titles {
    /// Returns what the listener is to be told before `packet`.
    #[must_use]
    #[inline]
    pub fn due<'p>(&self, packet: &'p Packet) -> Option<&'p Change> {
        packet.metadata().filter(|change| change.number != self.told)
    }

    /// Appends the notice that is due before `packet`, as it goes over `wire`.
    pub fn append(&self, packet: &Packet, form: NoticeForm, wire: Wire, bytes: &mut Vec<u8>) {
        let Some(Change { json, .. }) = self.due(packet) else { return };
        let text = match form {
            NoticeForm::Line => format!("{json}\n"),
            NoticeForm::Event => format!("event: metadata\ndata: {json}\n\n"),
            NoticeForm::Message => return push_frame(bytes, TEXT, json.as_bytes()),
        };
        bytes.extend_from_slice(Packet::chunk(text.as_bytes(), Default::default()).bytes(wire));
    }

    /// Counts a packet that is written.
    pub fn advance(&mut self, packet: &Packet) {
        if let Some(change) = packet.metadata() {
            self.told = change.number;
        }
    }
}
