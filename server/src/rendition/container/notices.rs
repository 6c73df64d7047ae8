//! Notices as one listener gets them between its packets: of a new run of another server, and of titles.

use aircheck_api::ServerText;

use crate::rendition::container::titles::Titles;
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

impl NoticeForm {
    /// Appends the notice `json`, as it goes over `wire`. `event` is its name as an event.
    fn append(self, event: &str, json: &str, wire: Wire, bytes: &mut Vec<u8>) {
        let text = match self {
            Self::Line => format!("{json}\n"),
            Self::Event => format!("event: {event}\ndata: {json}\n\n"),
            Self::Message => return push_frame(bytes, TEXT, json.as_bytes()),
        };
        bytes.extend_from_slice(Packet::chunk(text.as_bytes(), Default::default()).bytes(wire));
    }
}

/// The notices of one listener.
///
/// Each packet says what run its sound is of, so a listener that has lost the first block of one is told with the first that it gets. One that
/// joins is told of no run: it has heard no other.
#[derive(Debug)]
pub struct Notices {
    form: NoticeForm,
    titles: Titles,
    /// The run of the last packet.
    epoch: Option<u32>,
}

impl Notices {
    /// Makes the notices of a listener that joins, in this form.
    #[must_use]
    pub fn new(form: NoticeForm) -> Self {
        Self { form, titles: Titles::default(), epoch: None }
    }

    /// Returns their form.
    #[must_use]
    pub fn form(&self) -> NoticeForm {
        self.form
    }

    /// Returns whether the listener may have to be told something before `packet`: also before the first one, because of those that come with it.
    #[must_use]
    #[inline]
    pub fn may_be_due(&self, packet: &Packet) -> bool {
        self.epoch != Some(packet.epoch().number) || self.titles.due(packet).is_some()
    }

    /// Appends what it is to be told before `packet`, as it goes over `wire`.
    pub fn append(&self, packet: &Packet, wire: Wire, bytes: &mut Vec<u8>) {
        if self.begins_epoch(packet) {
            self.form.append("epoch", &ServerText::Epoch(packet.epoch()).to_json(), wire, bytes);
        }
        if let Some(change) = self.titles.due(packet) {
            self.form.append("metadata", &change.json, wire, bytes);
        }
    }

    /// Counts a packet that is written.
    pub fn advance(&mut self, packet: &Packet) {
        self.epoch = Some(packet.epoch().number);
        self.titles.advance(packet);
    }

    fn begins_epoch(&self, packet: &Packet) -> bool {
        self.epoch.is_some_and(|epoch| epoch != packet.epoch().number)
    }
}

#[cfg(test)]
mod tests {
    use aircheck_api::{EpochNotice, Metadata};

    use super::*;
    use crate::metadata::MetadataLog;

    /// Returns a packet of the run `number`, whose first block is 20.
    fn packet(number: u32) -> Packet {
        let mut packet = Packet::chunk(b"x\n", Default::default());
        packet.set_epoch(EpochNotice { number, sequence: 20 });
        packet
    }

    #[test]
    fn a_new_run_is_told_once_also_to_who_has_lost_its_first_block_and_not_to_who_joins() {
        let mut notices = Notices::new(NoticeForm::Line);
        let told = [1, 1, 2, 2, 4].map(|number| {
            let (packet, mut bytes) = (packet(number), Vec::new());
            notices.append(&packet, Wire::Plain, &mut bytes);
            assert!(notices.may_be_due(&packet) || bytes.is_empty());
            notices.advance(&packet);
            assert!(!notices.may_be_due(&packet));
            String::from_utf8(bytes).unwrap()
        });
        let notice = |number: u32| format!("{{\"epoch\":{{\"number\":{number},\"sequence\":20}}}}\n");
        assert_eq!(told, ["".to_owned(), "".to_owned(), notice(2), "".to_owned(), notice(4)]);
    }

    #[test]
    fn each_form_has_its_notices_before_the_packet_the_run_before_the_title() {
        let log = MetadataLog::default();
        log.set(Metadata { title: Some("a".to_owned()), artist: None }, 0);
        let title = r#"{"metadata":{"title":"a"},"sequence":0}"#;
        let run = r#"{"epoch":{"number":1,"sequence":20}}"#;
        let appended = |form, wire| {
            let (mut notices, mut bytes) = (Notices::new(form), Vec::new());
            notices.advance(&packet(0));
            let mut packet = packet(1);
            packet.set_metadata(log.at(0));
            notices.append(&packet, wire, &mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        };
        assert_eq!(appended(NoticeForm::Line, Wire::Plain), format!("{run}\n{title}\n"));
        assert_eq!(appended(NoticeForm::Line, Wire::Chunked), format!("25\r\n{run}\n\r\n28\r\n{title}\n\r\n"));
        let events = format!("event: epoch\ndata: {run}\n\nevent: metadata\ndata: {title}\n\n");
        assert_eq!(appended(NoticeForm::Event, Wire::Plain), events);
        assert_eq!(appended(NoticeForm::Message, Wire::WebSocket), format!("\u{fffd}${run}\u{fffd}'{title}"));
    }
}
