//! Random messages: none makes the parser panic, and one that is read is the one that would be written.

use aircheck_api::Metadata;
use aircheck_engine::Timestamp;
use aircheck_fuzz::edited;
use bolero::check;

use super::{ClockAnswer, Head, HopFormat, SampleEncoding, read, read_samples, write};
use crate::hop::numbers::NewestBlock;
use crate::hop::title::Title;

fn good() -> Vec<u8> {
    let head = Head {
        encoding: Some(SampleEncoding::S16),
        origin: aircheck_engine::Origin::Source,
        format: HopFormat { rate_hz: 8000, channels: 1, block_frames: 8 },
        frames: 8,
        epoch: 1,
        serial: 2,
        sequence: 3,
        captured_nanos: 4,
        sent_nanos: 5,
    };
    write(&head, &[0.5; 8])
}

#[test]
fn messages() {
    let good = good();
    let metadata = Metadata { title: Some("a".to_owned()), artist: Some("b".to_owned()) };
    let title = Title { epoch: 1, sequence: 2, metadata }.to_bytes();
    check!().with_max_len(96).for_each(|bytes: &[u8]| {
        for message in [bytes.to_vec(), edited(bytes, &[&good, &title])] {
            if let Ok((head, body)) = read(&message) {
                let mut samples = Vec::new();
                if let Some(encoding) = head.encoding {
                    read_samples(encoding, body, &mut samples);
                }
                assert_eq!(samples.len(), head.frames as usize * usize::from(head.format.channels));
                let again = write(&head, &samples);
                assert_eq!(read(&again).map(|(head, _)| head), Ok(head));
            }
            let _ = ClockAnswer::read(&message);
            if let Some(Ok(title)) = Title::read(&message) {
                assert_eq!(Title::read(&title.to_bytes()), Some(Ok(title)));
            }
            let _ = NewestBlock::read(&message, Timestamp::default());
        }
    });
}
