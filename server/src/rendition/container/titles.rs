//! Metadata as one listener gets it: before the packet with which it begins, once.

use crate::metadata::Change;
use crate::rendition::packet::Packet;

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
}
