//! Start, refused starts, and orderly ends of the program.

mod common;

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use common::{Listener, Server, eventually, refused, signal, write_wav};

#[test]
fn every_stream_ends_properly_at_a_signal() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::start(&["--source", "tone:440"]);
    let paths = ["stream.wav", "stream.pcm", "stream.json", "stream?format=sse"];
    let mut listeners: Vec<_> = paths
        .iter()
        .map(|path| {
            let separator = if path.contains('?') { '&' } else { '?' };
            let file = directory.path().join(path.replace(['.', '?', '='], "-"));
            Listener::start(&server.url(&format!("{path}{separator}name={}", path.len())), &file)
        })
        .collect();
    for path in paths {
        server.row_when(&path.len().to_string(), |row| row["delivered"].as_u64().unwrap() > 0);
    }
    server.terminate();
    for (listener, path) in listeners.iter_mut().zip(paths) {
        // curl fails if a chunked response is cut off.
        assert!(listener.wait().success(), "{path}");
    }
    assert!(server.wait().success());
}

#[test]
fn a_frozen_listener_does_not_delay_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::start(&["--source", "tone:440"]);
    let frozen = Listener::start(&server.url("stream.wav?name=frozen"), &directory.path().join("frozen"));
    server.row_when("frozen", |row| row["delivered"].as_u64().unwrap() > 0);
    signal(frozen.pid(), "STOP");
    server.row_when("frozen", |row| row["queued"].as_u64().unwrap() > 10);
    signal(server.pid(), "INT");
    assert!(server.wait().success());
}

#[test]
fn stdin_is_streamed_and_its_end_ends_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let heard = directory.path().join("heard");
    let flags = ["--source", "stdin", "--rate", "8000", "--channels", "1", "--sample", "s16le"];
    let bytes: Vec<u8> = (0..8000_i32).flat_map(|n| ((n * 3 - 12_000) as i16).to_le_bytes()).collect();
    let mut pipe = None;
    let mut server = Server::start_with(&flags, |command| {
        let (reader, writer) = std::io::pipe().unwrap();
        pipe = Some(writer);
        command.stdin(reader)
    });
    let mut pipe = pipe.unwrap();
    let mut listener = Listener::start(&server.url("stream.pcm?name=one"), &heard);
    server.row_when("one", |_| true);
    pipe.write_all(&bytes).unwrap();
    drop(pipe);
    assert!(listener.wait().success());
    assert!(server.wait().success(), "{}", server.log());
    assert!(std::fs::read(&heard).unwrap() == bytes);
}

#[test]
fn stdin_that_ends_inside_a_frame_is_an_error() {
    let mut server = Server::start_with(&["--source", "stdin"], |command| {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(&[0; 4 * 100 + 3]).unwrap();
        command.stdin(reader)
    });
    assert_eq!(server.wait().code(), Some(1));
    assert!(server.log().contains("stdin: ended inside a frame, 3 of 4 bytes"), "{}", server.log());
}

#[test]
fn without_a_microphone_the_demo_sound_plays_with_a_notice() {
    let server = Server::start(&[]);
    server.wait_for_log("NOT A MICROPHONE");
    let status = server.json("api/v1/status");
    assert_eq!(status["source"]["kind"], "demo");
    eventually("sound", || (server.json("api/v1/status")["state"] == "live").then_some(()));
}

#[test]
fn listening_beyond_loopback_is_logged_as_a_warning() {
    let server = Server::start(&["--source", "tone:440", "--listen", "0.0.0.0:0"]);
    server.wait_for_log("NOT PRIVATE");
}

#[test]
fn a_closed_terminal_ends_it() {
    let directory = tempfile::tempdir().unwrap();
    let (log, pid) = (directory.path().join("log"), directory.path().join("pid"));
    // `script` gives the shell a terminal of its own, which closes when `script` is killed.
    let line = format!(
        "echo $$ > {}; exec {} --source tone:440 --listen 127.0.0.1:0 2> {}",
        pid.display(),
        env!("CARGO_BIN_EXE_aircheck"),
        log.display()
    );
    let mut terminal = std::process::Command::new("script")
        .args(["--quiet", "--command", &line, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("script runs: Debian's package is bsdutils");
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let said = |text: &str| eventually(text, || read(&log).contains(text).then_some(()));
    said("on air");
    let pid: u32 = read(&pid).trim().parse().unwrap();
    // While the terminal is there, it is the sign to read the settings again.
    signal(pid, "HUP");
    said("read the settings again");
    terminal.kill().unwrap();
    terminal.wait().unwrap();
    said("SIGHUP of a closed terminal received: ending every stream");
    eventually("its end", || (!Path::new(&format!("/proc/{pid}")).exists()).then_some(()));
}

#[test]
fn a_failed_start_prints_one_line_and_its_exit_code() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    std::fs::write(path("junk.wav"), "this is no sound").unwrap();
    std::fs::write(path("cut.wav"), b"RIFF\x10\0\0\0WAVEfmt ").unwrap();
    std::fs::write(path("key.toml"), "source = \"tone:440\"\nlissten = \"127.0.0.1:1\"\n").unwrap();
    std::fs::write(path("type.toml"), "block = 10\n").unwrap();
    let taken = Server::start(&["--source", "tone:440"]);
    let taken_address = taken.address.to_string();
    let cases: Vec<(Vec<String>, i32, &str)> = vec![
        (vec!["--source".into(), format!("wav:{}", path("missing.wav"))], 1, "missing.wav"),
        (vec!["--source".into(), format!("wav:{}", path("junk.wav"))], 1, "junk.wav"),
        (vec!["--source".into(), format!("wav:{}", path("cut.wav"))], 1, "cut off"),
        (vec!["--source".into(), "mic:Nobody's Microphone".into()], 1, "icrophone"),
        (vec!["--source".into(), "tone:440".into(), "--listen".into(), taken_address], 1, "--listen"),
        (vec!["--source".into(), "cassette".into()], 2, "--source"),
        (vec!["--block".into(), "1h".into()], 2, "--block"),
        (vec!["--overflow".into(), "block".into()], 2, "--overflow"),
        (vec!["--nonsense".into()], 2, "--nonsense"),
        (vec!["--config".into(), path("missing.toml")], 2, "missing.toml"),
        (vec!["--config".into(), path("key.toml")], 2, "key.toml:2"),
        (vec!["--config".into(), path("type.toml")], 2, "type.toml:1"),
        (vec!["check-config".into(), path("key.toml")], 2, "lissten"),
    ];
    for (arguments, code, named) in cases {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let (got, stderr) = refused(&arguments);
        assert_eq!(got, code, "{arguments:?}: {stderr}");
        let lines: Vec<_> = stderr.lines().collect();
        assert_eq!(lines.len(), 1, "{arguments:?}: {stderr}");
        assert!(lines[0].contains(named), "{arguments:?}: {stderr}");
    }
}

#[test]
fn the_environment_and_a_file_configure_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("aircheck.toml");
    std::fs::write(&file, "source = \"tone:440\"\nblock = \"20ms\"\nmax_listeners = 7\n").unwrap();
    let server = Server::start_with(&["--config", file.to_str().unwrap()], |command| {
        command.env("AIRCHECK_BLOCK", "5ms").stderr(Stdio::null())
    });
    let status = server.json("api/v1/status");
    assert_eq!(status["format"]["block_seconds"], 0.005);
    assert_eq!(status["max_listeners"], 7);
}

#[test]
fn a_signal_right_after_the_start_ends_with_code_0() {
    for _ in 0..5 {
        let mut server = Server::start(&["--source", "tone:440"]);
        server.terminate();
        assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    }
}

#[test]
fn a_source_that_ends_at_once_is_no_error() {
    let directory = tempfile::tempdir().unwrap();
    let source = write_wav(&directory.path().join("short.wav"), 1, [1]);
    for _ in 0..10 {
        let mut server = Server::start(&["--source", &source, "--block", "1ms"]);
        assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    }
}

#[test]
fn a_log_that_cannot_be_written_does_not_end_the_sound() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut server =
        Server::start_with(&["--source", "tone:440", "--listen", "0.0.0.0:0"], |command| command.stderr(full));
    eventually("sound", || (server.json("api/v1/status")["state"] == "live").then_some(()));
    server.terminate();
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_log_that_is_not_read_stops_neither_the_sound_nor_the_end() {
    // Held open and never read. The first twenty lines of events are not throttled, and names make them long.
    let (_reader, writer) = std::io::pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&writer, 4096).unwrap();
    let mut server = Server::start_with(&["--source", "tone:440"], |command| command.stderr(writer));
    let brief = server.url(&format!("stream.wav?name={}", "%F0%9F%8E%99".repeat(64)));
    let directory = tempfile::tempdir().unwrap();
    let _healthy = Listener::start(&server.url("stream.wav?name=healthy"), &directory.path().join("healthy"));
    let long_name = "🎙".repeat(64);
    for _ in 0..30 {
        let _brief = Listener::start(&brief, &directory.path().join("brief"));
        server.row_when(&long_name, |_| true);
        assert_eq!(server.ask(&[], "healthz").0, 200);
    }
    let delivered = |row: &serde_json::Value| row["delivered"].as_u64().unwrap();
    let before = delivered(&server.row_when("healthy", |_| true));
    server.row_when("healthy", |row| delivered(row) > before + 20);
    server.terminate();
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn an_encoder_restarts_with_blocks_of_100_ms() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&["--source", "tone:440", "--block", "100ms"]);
    eventually("a history", || (server.json("api/v1/status")["head_sequence"].as_u64()? > 10).then_some(()));
    for _ in 0..12 {
        let listener = Listener::start(&server.url("stream.wav?name=one"), &directory.path().join("one"));
        server.row_when("one", |row| row["delivered"].as_u64().unwrap() > 0);
        drop(listener);
        eventually("the end of the encoder", || (server.json("api/v1/status")["encoders"] == 0).then_some(()));
    }
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

#[test]
fn the_soft_limit_of_open_files_is_raised_and_told() {
    for (max_listeners, told) in [
        ("500", "up to 500 listeners: 900 files may be open"),
        ("501", "900 files may be open, and 501 listeners need 901 (allow more: `ulimit -Hn`"),
    ] {
        let shell = common::command_behind(&["sh", "-c", "ulimit -Sn 100 && ulimit -Hn 900 && exec \"$@\"", "sh"]);
        let server =
            Server::launch(shell, &["--source", "tone:440", "--max-listeners", max_listeners], |command| command);
        server.wait_for_log(told);
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
        let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
        assert!(files.split_whitespace().take(2).eq(["900", "900"]), "{files}");
    }
}
