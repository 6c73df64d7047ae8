//! The fuzz target of coded sound, which source clients send.

use std::io::Cursor;

use aircheck_fuzz::{assert_one_line, edited};
use bolero::check;
use ogg::{PacketWriteEndInfo, PacketWriter};
use symphonia::core::formats::probe::Hint;
use symphonia::core::io::ReadOnlySource;

use super::Decoder;

/// Portions that are decoded at most of one input.
const MAX_PORTIONS: usize = 1000;

/// Makes an Ogg Opus of so many packets of silence, with a title.
fn opus(packets: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = PacketWriter::new(&mut bytes);
    let head = [&b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0"[..]].concat();
    let tags = [&b"OpusTags\x01\0\0\0a\x01\0\0\0\x07\0\0\0title=b"[..]].concat();
    writer.write_packet(head, 1, PacketWriteEndInfo::EndPage, 0).unwrap();
    writer.write_packet(tags, 1, PacketWriteEndInfo::EndPage, 0).unwrap();
    for number in 1..=packets {
        let end = if number == packets { PacketWriteEndInfo::EndStream } else { PacketWriteEndInfo::NormalPacket };
        // A packet of 20 ms without sound in it (RFC 6716, section 3.1).
        writer.write_packet(vec![0xfc, 0xff, 0xfe], 1, end, number * 960).unwrap();
    }
    drop(writer);
    bytes
}

fn wav() -> Vec<u8> {
    let spec = hound::WavSpec {
        channels: 2,
        sample_rate: 48_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut file = Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut file, spec).unwrap();
    (0..400_i16).for_each(|sample| writer.write_sample(sample).unwrap());
    writer.finalize().unwrap();
    file.into_inner()
}

/// Decodes as what a client sends, and as a file.
fn decode(bytes: &[u8]) -> Vec<Result<usize, String>> {
    let owned = bytes.to_vec();
    let sources: [Box<dyn symphonia::core::io::MediaSource>; 2] =
        [Box::new(ReadOnlySource::new(Cursor::new(owned.clone()))), Box::new(Cursor::new(owned))];
    let decoded = sources.into_iter().map(|source| {
        let mut decoder = Decoder::open(source, &Hint::new())?;
        for portions in 0..MAX_PORTIONS {
            let Some(portion) = decoder.next()? else { return Ok(portions) };
            assert!(portion.rate_hz > 0 && portion.channels > 0, "{} Hz, {} ch", portion.rate_hz, portion.channels);
            assert!(portion.samples.len().is_multiple_of(usize::from(portion.channels)));
        }
        Ok(MAX_PORTIONS)
    });
    decoded.collect()
}

#[test]
fn whole_files_are_decoded() {
    assert_eq!(decode(&opus(5)), [Ok(5), Ok(5)]);
    assert_eq!(decode(&wav()), [Ok(1), Ok(1)]);
}

#[test]
fn coded_sound() {
    let files = [opus(5), wav()];
    let bases: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    check!().for_each(|bytes: &[u8]| {
        for error in decode(&edited(bytes, &bases)).into_iter().filter_map(Result::err) {
            assert_one_line(&error);
        }
    });
}
