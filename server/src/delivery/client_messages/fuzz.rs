//! Fuzz targets of what a WebSocket listener can send: frames, and the texts in them.

use aircheck_api::ClientText;
use aircheck_fuzz::{assert_one_line, text};
use bolero::check;

use super::{ClientMessage, ClientMessages, MAX_CONTROL_BYTES, MAX_MESSAGE_BYTES};

/// Most bytes that are kept between two reads: a text, and a control frame with the longest header.
const MAX_KEPT_BYTES: usize = MAX_MESSAGE_BYTES + MAX_CONTROL_BYTES + 14;
const JSON_WORDS: [&str; 24] = [
    "{",
    "}",
    "\"heard\"",
    "\"clock\"",
    "\"sequence\"",
    "\"at\"",
    ":",
    ",",
    "7",
    "-1",
    "1e999",
    "1790000000.5",
    "null",
    "true",
    "[",
    "]",
    "18446744073709551615",
    "\\u0000",
    "\u{fc}",
    "{\"heard\":{\"sequence\":7,\"at\":1.5}}",
    "{\"clock\":1.5}",
    "\"",
    "0.0",
    " ",
];

fn take_all(messages: &mut ClientMessages, taken: &mut Vec<ClientMessage>) {
    taken.extend(std::iter::from_fn(|| messages.take()));
    let kept = messages.bytes.capacity() + messages.text.as_ref().map_or(0, Vec::capacity);
    assert!(kept <= MAX_KEPT_BYTES, "{kept} bytes are kept");
}

/// The first byte says how many bytes come at a time. However they come, they make the same messages.
#[test]
fn frames() {
    check!().for_each(|bytes: &[u8]| {
        let Some((part, bytes)) = bytes.split_first() else { return };
        let (mut whole, mut parts) = (ClientMessages::default(), ClientMessages::default());
        let (mut of_whole, mut of_parts) = (Vec::new(), Vec::new());
        whole.push(bytes);
        take_all(&mut whole, &mut of_whole);
        for part in bytes.chunks(usize::from(*part).max(1)) {
            parts.push(part);
            take_all(&mut parts, &mut of_parts);
        }
        assert_eq!(of_whole, of_parts);
        let ends = |message: &ClientMessage| matches!(message, ClientMessage::Close(_) | ClientMessage::Refused(..));
        let end = of_whole.iter().position(ends);
        assert!(end.is_none_or(|end| end + 1 == of_whole.len()), "a message follows the end: {of_whole:?}");
        for message in &of_whole {
            if let ClientMessage::Text(text) = message {
                assert!(text.len() <= MAX_MESSAGE_BYTES);
            }
        }
    });
}

#[test]
fn client_text() {
    check!().with_max_len(48).for_each(|bytes: &[u8]| {
        let text = text(bytes, &JSON_WORDS);
        match ClientText::parse(&text) {
            Ok(said) => assert_eq!(ClientText::parse(&said.to_json()), Ok(said), "{text:?}"),
            Err(sentence) => {
                assert_one_line(&sentence);
                assert!(sentence.starts_with("expected {"), "{sentence}");
            }
        }
    });
}
