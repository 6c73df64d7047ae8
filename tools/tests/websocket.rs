//! The real `aircheckctl listen` against servers that break the protocol: each ends it with one line.

mod scripted;

use std::time::Duration;

use aircheck_api::Payload;
use scripted::{Scripted, binary, block, close, finish, listen, say, send, until_gone};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// Listening to `server` fails with one line that says `words`.
fn assert_fails(server: &Scripted, words: &str) {
    let ended = listen(&[&server.url("/?name=x")]);
    assert_eq!(ended.code, 1, "{words}: {ended:?}");
    let complaint = ended.complaint();
    assert!(complaint.contains(words), "{complaint:?} should say {words:?}");
}

#[test]
fn an_unreadable_message_ends_it_with_one_line() {
    let message = |payload| binary(payload, 0, Duration::from_secs(1), &[0; 64]);
    let changed = |at: usize, value: u8| {
        let mut message = message(Payload::F32);
        message[at] = value;
        Message::binary(message)
    };
    let cases = [
        (changed(0, 2), "version 2"),
        (changed(1, 7), "unknown kind 7"),
        (Message::binary(message(Payload::Opus)), "Opus"),
        (Message::binary(vec![1; 23]), "23 bytes is shorter than its header"),
        (changed(4, 63), "announces 63 bytes, and 64 follow"),
        (Message::binary(binary(Payload::F32, 0, Duration::from_secs(1), &[0; 12])), "not whole frames"),
        (Message::binary(vec![1; 11 << 20]), "longer than any block"),
        (Message::text("sound \u{1b}[31m"), "not a JSON object: sound \u{fffd}[31m"),
    ];
    for (message, words) in cases {
        let server = Scripted::websocket(Payload::F32, |socket| {
            say(socket, message);
            until_gone(socket);
        });
        assert_fails(&server, words);
    }
}

#[test]
fn an_unusable_hello_ends_it_with_one_line() {
    assert_fails(&Scripted::websocket(Payload::Opus, finish), "does not decode");
    let hello = scripted::hello(Payload::F32);
    let cases = [
        (hello.replace(r#""version":1"#, r#""version":2"#), "version 2, and this aircheckctl 1"),
        (hello.replace("f32", "s24"), "unknown variant `s24`"),
        (hello.replace("48000", "0"), "0 Hz"),
        (hello.replace(r#""channels":2"#, r#""channels":33"#), "33 channels"),
        (hello.replace(r#""block_frames":8"#, r#""block_frames":0"#), "0 frames"),
        (r#"{"gap":{"from":1,"blocks":1,"reason":"overflow"}}"#.to_owned(), "not a hello"),
        ("hello".to_owned(), "not a JSON object: hello"),
    ];
    for (text, words) in cases {
        let server = Scripted::silent(|socket| {
            say(socket, Message::text(text));
            until_gone(socket);
        });
        assert_fails(&server, words);
    }
    let binary_first = Scripted::silent(|socket| {
        say(socket, block(0));
        until_gone(socket);
    });
    assert_fails(&binary_first, "not a hello");
}

#[test]
fn a_server_that_dies_or_ends_the_listener_is_a_failure() {
    assert_fails(&Scripted::websocket(Payload::F32, |socket| say(socket, block(0))), "connection lost");
    let ended = Scripted::websocket(Payload::F32, |socket| {
        say(socket, block(0));
        close(socket, CloseCode::Policy, "too_slow");
    });
    assert_fails(&ended, "the server ended this listener: too_slow (code 1008)");
}

#[test]
fn an_answer_that_is_no_websocket_is_a_failure() {
    let json = r#"{"error":"this is no WebSocket of version 13"}"#;
    let refused = format!("HTTP/1.1 426 Upgrade Required\r\nContent-Length: {}\r\n\r\n{json}", json.len());
    let cases = [
        (refused.as_str(), "the server refused: this is no WebSocket of version 13 (HTTP 426)"),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "refused: not found (HTTP 404)"),
        (
            "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n",
            "(HTTP 503); try again in 5 s",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "HTTP 200 instead of a WebSocket"),
        (
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: bm9uc2Vuc2U=\r\n\r\n",
            "another protocol than the WebSocket",
        ),
        ("220 mail.example ESMTP\r\n", "no HTTP answer"),
        ("", "no HTTP answer"),
    ];
    for (answer, words) in cases {
        let answer = answer.to_owned();
        assert_fails(&Scripted::http(move |tcp| send(tcp, &answer)), words);
    }
}
