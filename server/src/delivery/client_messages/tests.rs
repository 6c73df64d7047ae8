//! Tests of the messages of WebSocket listeners: each rule, any split of the bytes, and garbage.

use std::io;

use proptest::collection::vec;
use proptest::prelude::*;
use tungstenite::protocol::frame::{CloseFrame, Frame};
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

use super::*;

const FINAL: u8 = 0x80;
const CONTINUE: u8 = 0;
const TEXT: u8 = 1;
const BYTES: u8 = 2;
const PING: u8 = 9;
const PONG: u8 = 10;

/// The most that is kept of incomplete messages: a text, and a control frame with the longest header.
const MAX_KEPT_BYTES: usize = MAX_MESSAGE_BYTES + MAX_CONTROL_BYTES + 14;

/// Makes the frame of a client. `first` is the first byte of its header.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let header = FrameHeader {
        is_final: first & 0x80 != 0,
        rsv1: first & 0x40 != 0,
        rsv2: first & 0x20 != 0,
        rsv3: first & 0x10 != 0,
        opcode: OpCode::from(first & 0x0f),
        mask: Some([0x12, 0xa5, 0x00, 0xff]),
    };
    let mut bytes = Vec::new();
    Frame::from_payload(header, payload.to_vec().into()).format(&mut bytes).unwrap();
    bytes
}

fn text(text: &str) -> ClientMessage {
    ClientMessage::Text(text.to_owned())
}

fn kept_bytes(messages: &ClientMessages) -> usize {
    messages.bytes.capacity() + messages.text.as_ref().map_or(0, Vec::capacity)
}

/// Pushes the parts one after the other and returns all messages. Checks that memory is bounded all the time.
fn read_parts<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> Vec<ClientMessage> {
    let (mut messages, mut taken) = (ClientMessages::default(), Vec::new());
    for part in parts {
        messages.push(part);
        taken.extend(std::iter::from_fn(|| messages.take()));
        assert!(kept_bytes(&messages) <= MAX_KEPT_BYTES, "{} bytes are kept", kept_bytes(&messages));
    }
    taken
}

/// Returns the messages of these bytes, and checks that they are the same when bytes come one by one.
fn read(bytes: &[u8]) -> Vec<ClientMessage> {
    let taken = read_parts([bytes]);
    assert_eq!(read_parts(bytes.chunks(1)), taken, "one by one");
    taken
}

/// Returns the messages as tungstenite's server reads them.
fn read_with_tungstenite(bytes: Vec<u8>) -> Vec<ClientMessage> {
    struct Connection(Cursor<Vec<u8>>);
    impl io::Read for Connection {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }
    impl io::Write for Connection {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let config =
        WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE_BYTES)).max_frame_size(Some(MAX_MESSAGE_BYTES));
    let mut socket = WebSocket::from_raw_socket(Connection(Cursor::new(bytes)), Role::Server, Some(config));
    let mut taken = Vec::new();
    loop {
        let last = match socket.read() {
            Ok(Message::Text(text)) => {
                taken.push(ClientMessage::Text(text.as_str().to_owned()));
                continue;
            }
            Ok(Message::Ping(payload)) => {
                taken.push(ClientMessage::Ping(payload.to_vec()));
                continue;
            }
            Ok(Message::Pong(payload)) => {
                taken.extend(pong(&payload));
                continue;
            }
            Ok(Message::Close(close)) => ClientMessage::Close(close.map(|close| close.code.into())),
            Ok(Message::Binary(_)) => BINARY,
            Err(Error::Capacity(_)) => TOO_LONG,
            // The bytes are at their end.
            Err(Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)) => return taken,
            Err(Error::Protocol(_) | Error::Utf8(_)) => NOT_A_MESSAGE,
            other => panic!("{other:?}"),
        };
        taken.push(last);
        return taken;
    }
}

/// Returns the message of a pong; `None` if it does not carry a number.
fn pong(payload: &[u8]) -> Option<ClientMessage> {
    payload.try_into().ok().map(|number| ClientMessage::Pong(u64::from_be_bytes(number)))
}

#[test]
fn texts_pings_and_pongs_with_a_number_are_taken_in_order() {
    let bytes = [
        frame(FINAL | TEXT, b"one"),
        frame(FINAL | PING, b"two"),
        frame(FINAL | PONG, b"none"),
        frame(FINAL | PONG, &7_u64.to_be_bytes()),
        frame(FINAL | TEXT, b""),
        frame(FINAL | TEXT, "dr\u{fc}\u{1f399}".as_bytes()),
    ];
    let messages = [
        text("one"),
        ClientMessage::Ping(b"two".to_vec()),
        ClientMessage::Pong(7),
        text(""),
        text("dr\u{fc}\u{1f399}"),
    ];
    assert_eq!(read(&bytes.concat()), messages);
}

#[test]
fn fragments_are_joined_around_control_frames() {
    // The fragments part a character.
    let bytes = [
        frame(TEXT, b"a\xc3"),
        frame(FINAL | PING, b"!"),
        frame(CONTINUE, b""),
        frame(FINAL | PONG, b""),
        frame(FINAL | CONTINUE, b"\xbcb"),
        frame(FINAL | TEXT, b"next"),
    ];
    assert_eq!(read(&bytes.concat()), [ClientMessage::Ping(b"!".to_vec()), text("a\u{fc}b"), text("next")]);
}

#[test]
fn a_close_is_the_last_message() {
    for (payload, code) in [
        (&b""[..], None),
        (b"\x03\xe8", Some(1000)),
        (b"\x03\xe9bye", Some(1001)),
        (b"\x0f\xa0", Some(4000)),
        // Codes that must not be sent.
        (b"\x03\xed", Some(1002)),
        (b"\x00\x00", Some(1002)),
    ] {
        let bytes = [frame(FINAL | CLOSE, payload), frame(FINAL | TEXT, b"late")].concat();
        assert_eq!(read(&bytes), [ClientMessage::Close(code)], "{payload:?}");
    }
}

#[test]
fn bytes_that_are_no_message_are_refused() {
    let unmasked = [FINAL | TEXT, 2, b'h', b'i'].to_vec();
    let too_soon = [frame(TEXT, b"a"), frame(FINAL | TEXT, b"b")].concat();
    let binary_within = [frame(TEXT, b"a"), frame(FINAL | BYTES, b"b")].concat();
    let parted = [frame(TEXT, b"\xc3"), frame(FINAL | CONTINUE, b"")].concat();
    for (case, bytes) in [
        ("no mask", unmasked),
        ("the first reserved bit", frame(FINAL | 0x40 | TEXT, b"a")),
        ("the second reserved bit", frame(FINAL | 0x20 | TEXT, b"a")),
        ("the third reserved bit", frame(FINAL | 0x10 | PING, b"a")),
        ("a reserved data frame", frame(FINAL | 3, b"a")),
        ("a reserved control frame", frame(FINAL | 11, b"a")),
        ("a ping in fragments", frame(PING, b"a")),
        ("a pong in fragments", frame(PONG, b"a")),
        ("a close in fragments", frame(CLOSE, b"")),
        ("a ping of 126 bytes", frame(FINAL | PING, &[0; 126])),
        ("a fragment of nothing", frame(FINAL | CONTINUE, b"a")),
        ("a text within a text", too_soon),
        ("bytes within a text", binary_within),
        ("a text that is not UTF-8", frame(FINAL | TEXT, b"\xff")),
        ("a text that ends within a character", parted),
        ("a close of one byte", frame(FINAL | CLOSE, b"\x03")),
        ("a close with a reason that is not UTF-8", frame(FINAL | CLOSE, b"\x03\xe8\xff")),
    ] {
        let bytes = [frame(FINAL | TEXT, b"before"), bytes, frame(FINAL | TEXT, b"after")].concat();
        let refused = ClientMessage::Refused(CloseCode::Protocol, "this is not a WebSocket message");
        assert_eq!(read(&bytes), [text("before"), refused], "{case}");
    }
}

#[test]
fn binary_messages_are_refused() {
    for first in [BYTES, FINAL | BYTES] {
        let refused = ClientMessage::Refused(CloseCode::Unsupported, "binary messages are not taken");
        assert_eq!(read(&frame(first, b"abc")), [refused]);
    }
}

#[test]
fn the_largest_messages_are_taken() {
    let longest = "a".repeat(1024);
    assert_eq!(read(&frame(FINAL | TEXT, longest.as_bytes())), [text(&longest)]);
    let fragments = [
        frame(TEXT, &longest.as_bytes()[..1000]),
        frame(CONTINUE, &longest.as_bytes()[1000..1001]),
        frame(FINAL | PING, &[7; 125]),
        frame(FINAL | CONTINUE, &longest.as_bytes()[1001..]),
    ];
    assert_eq!(read(&fragments.concat()), [ClientMessage::Ping(vec![7; 125]), text(&longest)]);
}

#[test]
fn long_messages_are_refused_by_their_header() {
    let refused = || ClientMessage::Refused(CloseCode::Size, "messages are too long");
    let header = |first: u8, length: u64| [&[first, FINAL | 127][..], &length.to_be_bytes(), &[0; 4]].concat();
    for length in [1025, 0x1_0000, u64::from(u32::MAX) + 2, u64::MAX] {
        for kind in [TEXT, BYTES, PING] {
            assert_eq!(read(&header(FINAL | kind, length)), [refused()], "{length} bytes of kind {kind}");
        }
    }
    for length in [25, 1025, u64::MAX] {
        let fragments = [frame(TEXT, &[b'a'; 1000]), header(FINAL | CONTINUE, length)];
        assert_eq!(read(&fragments.concat()), [refused()], "{length} bytes more");
    }
}

#[test]
fn nothing_follows_a_refusal() {
    let mut messages = ClientMessages::default();
    messages.push(&frame(FINAL | BYTES, b"abc"));
    assert_eq!(messages.take(), Some(BINARY));
    messages.push(&frame(FINAL | TEXT, b"late"));
    assert_eq!(messages.take(), None);
    assert_eq!(kept_bytes(&messages), 0);
}

#[test]
fn a_silent_listener_takes_no_memory() {
    let mut messages = ClientMessages::default();
    assert_eq!(kept_bytes(&messages), 0);
    let bytes = [frame(TEXT, b"one"), frame(FINAL | CONTINUE, b"two"), frame(FINAL | PING, b"!")].concat();
    let (start, end) = bytes.split_at(20);
    messages.push(start);
    assert_eq!(messages.take(), Some(text("onetwo")));
    assert_eq!(messages.take(), None);
    assert!(kept_bytes(&messages) > 0);
    messages.push(end);
    assert_eq!(messages.take(), Some(ClientMessage::Ping(b"!".to_vec())));
    assert_eq!(messages.take(), None);
    assert_eq!(kept_bytes(&messages), 0);
}

#[test]
fn clients_read_the_frames_that_end_a_session() {
    let read = |frame: Vec<u8>| {
        let mut socket = WebSocket::from_raw_socket(Cursor::new(frame), Role::Client, None);
        match socket.read().unwrap() {
            Message::Close(close) => close,
            other => panic!("{other:?}"),
        }
    };
    let longest = "r".repeat(123);
    for (code, reason) in [(CloseCode::Normal, "finished"), (CloseCode::Size, ""), (CloseCode::Policy, &*longest)] {
        assert_eq!(read(close_frame(code, reason)), Some(CloseFrame { code, reason: reason.into() }));
    }
    assert_eq!(read(close_answer(Some(4000))), Some(CloseFrame { code: 4000.into(), reason: "".into() }));
    assert_eq!(read(close_answer(None)), None);
}

/// A message, and the bytes of it.
fn any_message() -> impl Strategy<Value = (Vec<u8>, Option<ClientMessage>)> {
    let control = || vec(any::<u8>(), 0..=MAX_CONTROL_BYTES);
    prop_oneof![
        // A text in fragments of any lengths, with pongs between them.
        3 => ("\\PC{0,250}", vec(0_usize..300, 0..5)).prop_map(|(text, lengths)| {
            let (mut bytes, mut rest, mut kind) = (Vec::new(), text.as_bytes(), TEXT);
            for length in lengths {
                let (fragment, after) = rest.split_at(length.min(rest.len()));
                bytes.extend([frame(kind, fragment), frame(FINAL | PONG, b"between")].concat());
                (rest, kind) = (after, CONTINUE);
            }
            bytes.extend(frame(FINAL | kind, rest));
            (bytes, Some(ClientMessage::Text(text)))
        }),
        1 => control().prop_map(|payload| (frame(FINAL | PING, &payload), Some(ClientMessage::Ping(payload)))),
        1 => control().prop_map(|payload| (frame(FINAL | PONG, &payload), pong(&payload))),
        1 => any::<u64>().prop_map(|number| (frame(FINAL | PONG, &number.to_be_bytes()), Some(ClientMessage::Pong(number)))),
    ]
}

/// A frame that may break any rule. Payloads are ASCII: tungstenite refuses bytes that are not UTF-8 before the last
/// fragment, which would be a difference.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        8 => prop::sample::select(vec![TEXT, CONTINUE, FINAL | CONTINUE, FINAL | TEXT, FINAL | PING, FINAL | PONG]),
        1 => any::<u8>(),
    ];
    let length = prop_oneof![8 => 0_usize..10, 1 => 120_usize..130, 1 => 0_usize..1030];
    // Fragments of bytes are refused at once here, and at their end by tungstenite.
    (first.prop_filter("not bytes in fragments", |first| first & 0x8f != BYTES), length, prop::bool::weighted(0.98))
        .prop_map(|(first, length, is_masked)| {
            let payload = vec![b'7'; length];
            if is_masked {
                return frame(first, &payload);
            }
            let mut bytes = Vec::new();
            push_frame(&mut bytes, first & 0x0f, &payload);
            bytes
        })
}

/// Cuts the bytes into parts of these lengths in turns.
fn split<'b>(mut bytes: &'b [u8], lengths: &'b [usize]) -> impl Iterator<Item = &'b [u8]> {
    lengths.iter().cycle().map_while(move |&length| {
        let part = bytes.split_off(..length.min(bytes.len()))?;
        (!part.is_empty()).then_some(part)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn any_messages_are_taken_however_their_bytes_are_split(
        messages in vec(any_message(), 0..12),
        lengths in vec(1_usize..1500, 1..20),
    ) {
        let (bytes, messages): (Vec<_>, Vec<_>) = messages.into_iter().unzip();
        let (bytes, messages): (_, Vec<_>) = (bytes.concat(), messages.into_iter().flatten().collect());
        prop_assert_eq!(read_parts(split(&bytes, &lengths)), messages);
    }

    #[test]
    fn rules_are_those_of_tungstenite(frames in vec(any_frame(), 0..20), lengths in vec(1_usize..300, 1..20)) {
        let bytes = frames.concat();
        prop_assert_eq!(read_parts(split(&bytes, &lengths)), read_with_tungstenite(bytes));
    }

    #[test]
    fn garbage_takes_no_more_memory_and_never_panics(
        garbage in vec(any::<u8>(), 0..4096),
        lengths in vec(1_usize..4096, 1..20),
    ) {
        let taken = read_parts(split(&garbage, &lengths));
        prop_assert_eq!(read_parts([&garbage[..]]), taken);
    }
}
