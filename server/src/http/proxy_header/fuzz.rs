//! The fuzz target of headers of the PROXY protocol.

use aircheck_fuzz::{assert_one_line, edited};
use bolero::check;

use super::*;

/// A header is the same however its bytes arrive, and whatever follows it.
#[test]
fn header() {
    let text = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\nGET / HTTP/1.1\r\n";
    let head = |family, length| [SIGNATURE, &[0x21, family, 0, length]].concat();
    let bases = [text.to_vec(), [head(0x11, 14), vec![7; 20]].concat(), [head(0x21, 36), vec![9; 40]].concat()];
    let bases = bases.each_ref().map(Vec::as_slice);
    check!().with_max_len(256).for_each(|bytes: &[u8]| {
        let bytes = edited(bytes, &bases);
        let whole = parse(&bytes);
        match whole {
            Beginning::Header(length, _) => {
                assert!(length <= bytes.len() && length <= MAX_BYTES, "{length} of {} bytes", bytes.len());
                assert_eq!(parse(&bytes[..length]), whole, "what follows it changes it");
            }
            Beginning::Wrong(sentence) => assert_one_line(sentence),
            Beginning::Incomplete => assert!(bytes.len() < MAX_BYTES, "{} bytes are not enough", bytes.len()),
            Beginning::Other => {}
        }
        for length in 0..bytes.len() {
            let part = parse(&bytes[..length]);
            assert!(part == whole || part == Beginning::Incomplete, "{part:?} of {length} bytes, and then {whole:?}");
        }
    });
}
