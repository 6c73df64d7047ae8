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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use aircheck_api::Metadata;

    use super::*;
    use crate::metadata::MetadataLog;

    /// Returns a packet of these bytes, whose sound has the metadata of block `sequence` in `log`.
    fn packet(log: &MetadataLog, sequence: u64) -> Packet {
        let mut packet = Packet::chunk(b"x\n", Default::default());
        packet.set_metadata(log.at(sequence));
        packet
    }

    fn log(titles: &[(&str, u64)]) -> Arc<MetadataLog> {
        let log = Arc::<MetadataLog>::default();
        for (title, sequence) in titles {
            log.set(Metadata { title: Some((*title).to_owned()), artist: None }, *sequence);
        }
        log
    }

    #[test]
    fn a_listener_is_told_once_also_when_it_has_lost_the_first_block() {
        let log = log(&[("a", 10), ("b", 20), ("c", 30)]);
        let told = |numbers: &[u64]| -> Vec<u64> {
            let mut titles = Titles::default();
            let due = |sequence: &u64| {
                let packet = packet(&log, *sequence);
                let due = titles.due(&packet).map(|change| change.notice.sequence);
                titles.advance(&packet);
                due
            };
            numbers.iter().filter_map(due).collect()
        };
        assert_eq!(told(&[8, 9, 10, 11, 20, 21]), [10, 20]);
        assert_eq!(told(&[15, 16]), [10], "it came later");
        assert_eq!(told(&[15, 33, 34]), [10, 30], "it has lost all of the second one");
    }

    #[test]
    fn each_form_has_its_notice_before_the_packet() {
        let log = log(&[("a", 0)]);
        let json = r#"{"metadata":{"title":"a"},"sequence":0}"#;
        let appended = |form, wire| {
            let mut bytes = Vec::new();
            Titles::default().append(&packet(&log, 0), form, wire, &mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        };
        assert_eq!(appended(NoticeForm::Line, Wire::Plain), format!("{json}\n"));
        assert_eq!(appended(NoticeForm::Line, Wire::Chunked), format!("28\r\n{json}\n\r\n"));
        assert_eq!(appended(NoticeForm::Event, Wire::Plain), format!("event: metadata\ndata: {json}\n\n"));
        assert_eq!(appended(NoticeForm::Message, Wire::WebSocket), format!("\u{fffd}'{json}"));
    }
}
