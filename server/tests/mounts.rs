//! Several mounts from outside: each has its own sound, names, accounts and failures.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;
#[path = "common/truth.rs"]
mod truth;

use std::path::{Path, PathBuf};

use aircheck_api::TokenHash;
use serde_json::Value;
use tempfile::TempDir;

use common::{Listener, Server, curl, eventually, refused, write_wav};
use truth::scrape::Metrics;

/// A configuration file in a directory of its own.
struct File {
    directory: TempDir,
}

impl File {
    fn new(text: &str) -> Self {
        let file = Self { directory: tempfile::tempdir().unwrap() };
        std::fs::write(file.path("aircheck.toml"), text).unwrap();
        file
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn start(&self) -> Server {
        Server::start(&["--config", self.path("aircheck.toml").to_str().unwrap()])
    }
}

/// Returns the table of a mount.
fn mount(name: &str, source: &str, rest: &str) -> String {
    format!("[[mount]]\nname = '{name}'\nsource = '{source}'\n{rest}\n")
}

/// Returns the frequency in Hz of the tone in half a second of 16-bit samples, by the zeros that it crosses upwards.
fn hz(server: &Server, path: &str) -> f64 {
    let (rate_hz, channels) = (48_000, 1);
    let bytes = (rate_hz * channels).to_string();
    let command = format!("curl -sN '{}' | head -c {bytes}", server.url(path));
    let samples = std::process::Command::new("sh").args(["-c", &command]).output().unwrap().stdout;
    let samples: Vec<_> = samples.chunks_exact(2).map(|sample| i16::from_le_bytes([sample[0], sample[1]])).collect();
    let upwards = samples.windows(2).filter(|pair| pair[0] < 0 && pair[1] >= 0).count();
    upwards as f64 * f64::from(rate_hz) / samples.len() as f64
}

fn write_tone(path: &Path, seconds: u32) {
    write_wav(path, 1, (0..seconds * 48_000).map(|n| if n % 100 < 50 { 8000 } else { -8000 }));
}

#[test]
fn each_mount_has_its_own_sound_and_its_name_is_on_all_that_is_told() {
    let file =
        File::new(&(mount("hall", "tone:440", "") + &mount("studio", "tone:880", "buffer = '2s'\nblock = '20ms'")));
    let server = file.start();
    for (path, expected) in
        [("stream.pcm", 440.0), ("mounts/hall/stream.pcm", 440.0), ("mounts/studio/stream.pcm", 880.0)]
    {
        let hz = hz(&server, path);
        assert!((hz - expected).abs() < 5.0, "{path}: {hz} Hz");
    }
    let url = server.url("mounts/studio/stream.wav?name=kitchen");
    let _kitchen = Listener::start(&url, &file.path("kitchen.wav"));
    let _bar = Listener::start(&server.url("stream.opus?name=bar"), &file.path("bar.opus"));
    let studio = server.row_when("kitchen", |row| row["delivered"].as_u64() > Some(20));
    let hall = server.row_when("bar", |row| row["delivered"].as_u64() > Some(20));
    assert_eq!((&studio["mount"], &hall["mount"]), (&"studio".into(), &"hall".into()));
    let of_studio = server.json("api/v1/listeners?mount=studio");
    assert_eq!(of_studio.as_array().unwrap().len(), 1, "{of_studio}");

    let mounts = server.json("api/v1/mounts");
    let figures = |of: &Value| format!("{} {} {} {}", of["name"], of["state"], of["listeners"], of["stream"]);
    let expected = ["\"hall\" \"live\" 1 \"/mounts/hall/stream\"", "\"studio\" \"live\" 1 \"/mounts/studio/stream\""];
    assert_eq!(mounts.as_array().unwrap().iter().map(figures).collect::<Vec<_>>(), expected);
    let status = server.json("api/v1/status?mount=studio");
    assert_eq!((&status["mount"], &status["buffer_seconds"]), (&"studio".into(), &2.0.into()));
    assert_eq!(status["format"]["block_seconds"], 0.02);
    assert_eq!(server.json("api/v1/status")["mount"], "hall");

    let metrics = Metrics::of(server.address);
    for (name, labels) in [
        ("aircheck_capture_up", &["mount=\"hall\""][..]),
        ("aircheck_capture_up", &["mount=\"studio\""]),
        ("aircheck_listeners", &["mount=\"studio\"", "format=\"wav\""]),
        ("aircheck_listeners", &["mount=\"hall\"", "format=\"opus\""]),
    ] {
        assert_eq!(metrics.sum(name, labels), 1.0, "{name} {labels:?}");
    }
    let blocks = |mount| metrics.sum("aircheck_capture_blocks_total", &[mount]);
    assert!(blocks("mount=\"hall\"") > 1.5 * blocks("mount=\"studio\""), "its blocks are half as long");
    // Each family once, and each series of a mount with its name.
    let text = server.text("metrics");
    let of_process = ["build_info", "listeners_refused", "listeners_left", "gathered", "log_dropped", "notifications"];
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        assert!(line.contains("mount=") || of_process.iter().any(|word| line.contains(word)), "{line}");
    }
    let mut types: Vec<_> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
    let all = types.len();
    types.dedup();
    types.sort_unstable();
    types.dedup();
    assert_eq!(types.len(), all, "{text}");
}

#[test]
fn a_mount_that_is_not_there_or_not_permitted_is_refused_and_names_are_not_told() {
    let hash = TokenHash::of("ac_of-the-hall");
    let token = format!("[[token]]\nname = 'hall'\nhash = '{hash}'\nscopes = ['listen:hall']\n");
    let file = File::new(&(mount("hall", "tone:440", "") + &mount("studio", "tone:880", "") + &token));
    let server = file.start();
    let ask = |path: &str| server.ask(&["--head", "--header", "Authorization: Bearer ac_of-the-hall"], path).0;
    assert_eq!(ask("mounts/hall/stream.wav"), 200);
    assert_eq!(ask("stream.wav"), 200, "the first mount is at the top, too");
    assert_eq!(ask("mounts/studio/stream.wav"), 403);
    assert_eq!(ask("mounts/attic/stream.wav"), 403, "as if there were one");
    for form in ["mounts/NAME/listen.m3u", "mounts/NAME/recording.wav", "mounts/NAME/stream", "readyz?mount=NAME"] {
        let of = |name: &str| form.replace("NAME", name);
        assert_eq!((ask(&of("studio")), ask(&of("attic"))), (403, 403), "{form}");
        for name in ["hall", "studio", "attic"] {
            assert_eq!(server.ask(&[], &of(name)).0, 401, "{form} without a token");
        }
    }
    assert_eq!((ask("readyz?mount=hall"), server.ask(&[], "readyz").0), (200, 200));
    let permissions = |name: &str| server.ask(&[], &format!("api/v1/session?mount={name}")).1;
    let [studio, attic] =
        ["studio", "attic"].map(|name| permissions(name).split_once("\r\n\r\n").unwrap().1.to_owned());
    assert!(studio == attic && studio.contains(r#""listen":false"#), "{studio}, and {attic}");
    let file = File::new(&(mount("hall", "tone:440", "") + &mount("studio", "tone:880", "")));
    let server = file.start();
    for path in ["mounts/attic/stream.wav", "mounts/hall/stream.mid", "mounts/hall/api/v1/status", "mounts/"] {
        assert_eq!(server.ask(&[], path).0, 404, "{path}");
    }
    let (status, answer) = server.ask(&[], "mounts/attic/stream.wav");
    assert!(status == 404 && answer.contains("there is no mount `attic`"), "{answer}");
    let (_, playlist) = server.ask(&[], "mounts/studio/listen.m3u?format=opus");
    assert!(playlist.contains("/mounts/studio/stream.opus"), "{playlist}");
}

#[test]
fn a_source_that_cannot_be_opened_is_tried_again_while_others_are_heard() {
    let file = File::new("");
    let late = file.path("late.wav");
    let mounts = mount("hall", "tone:440", "") + &mount("late", &format!("wav:{}", late.display()), "loop = true");
    std::fs::write(file.path("aircheck.toml"), mounts).unwrap();
    let server = file.start();
    assert!((hz(&server, "stream.pcm") - 440.0).abs() < 5.0);
    let (status, answer) = server.ask(&[], "mounts/late/stream.wav");
    assert!(status == 503 && answer.to_ascii_lowercase().contains("retry-after"), "{answer}");
    assert!(answer.contains("the mount `late` is not on the air: source `wav`: "), "{answer}");
    let rows = server.json("api/v1/mounts");
    assert!(rows[1]["failure"].as_str().unwrap().contains("late.wav") && rows[1]["format"].is_null(), "{rows}");
    assert_eq!(Metrics::of(server.address).sum("aircheck_capture_up", &["mount=\"late\""]), 0.0);
    assert_eq!(server.ask(&[], "readyz").0, 503);
    assert_eq!(server.ask(&[], "readyz?mount=hall").0, 200);
    write_tone(&late, 2);
    eventually("the late mount", || (server.json("api/v1/mounts")[1]["state"] == "live").then_some(()));
    let hz = hz(&server, "mounts/late/stream.pcm");
    assert!((hz - 480.0).abs() < 5.0, "{hz} Hz");
    eventually("readiness", || (server.ask(&[], "readyz").0 == 200).then_some(()));
}

#[test]
fn the_service_goes_on_until_the_last_source_has_ended() {
    let file = File::new("");
    let (short, long) = (file.path("short.wav"), file.path("long.wav"));
    write_tone(&short, 1);
    write_tone(&long, 3);
    let wav = |name: &str, path: &Path| mount(name, &format!("wav:{}", path.display()), "");
    std::fs::write(file.path("aircheck.toml"), wav("short", &short) + &wav("long", &long)).unwrap();
    let mut server = file.start();
    let take = file.path("take.pcm");
    let mut of_short =
        curl(&["--output", take.to_str().unwrap(), &server.url("mounts/short/stream.pcm?from=0")]).spawn().unwrap();
    assert!(common::wait(&mut of_short).success(), "its stream ends properly");
    assert_eq!(std::fs::metadata(&take).unwrap().len(), 96_000);
    assert_eq!(server.json("api/v1/mounts")[0]["state"], "ended");
    assert_eq!(server.ask(&[], "healthz").0, 200, "the other mount is on the air");
    assert!(server.wait().success());
}

#[test]
fn each_mount_records_into_a_directory_of_its_own() {
    let file = File::new("");
    let takes = file.path("takes");
    let text = format!("record = '{}'\n", takes.display());
    let mounts = mount("hall", "tone:440", "")
        + &mount("studio", "tone:880", "record = 'off'")
        + &mount("attic", "tone:600", "");
    std::fs::write(file.path("aircheck.toml"), text + &mounts).unwrap();
    let server = file.start();
    for name in ["hall", "attic"] {
        eventually("a recording", || std::fs::read_dir(takes.join(name)).ok()?.next().map(|_| ()));
    }
    assert!(!takes.join("studio").exists());
    assert!(server.json("api/v1/status?mount=studio")["recording"].is_null());
}

#[test]
fn a_wrong_table_is_named_by_its_number() {
    let second = |table: &str| format!("{}{table}", mount("hall", "tone:440", ""));
    for (text, wrong) in [
        (second("[[mount]]\nname = 'b'\n"), "`mount` number 2: `source` is missing"),
        (second("[[mount]]\nsource = 'tone:1'\n"), "`mount` number 2: `name` is missing"),
        (second(&mount("hall", "tone:880", "")), "`mount` number 2: its name is that of another mount: `hall`"),
        (second(&mount("a/b", "tone:880", "")), "`mount` number 2: `name` must be up to 32 letters"),
        (
            second(&mount("b", "tone:880", "listen = '127.0.0.1:1'")),
            "`mount` number 2: unknown key `listen`; there are source",
        ),
        (
            second(&mount("b", "tone:880", "bufer = '1s'")),
            "`mount` number 2: unknown key `bufer`; did you mean `buffer`?",
        ),
        (second(&mount("b", "tone:880", "buffer = 1")), "`mount` number 2: `buffer` must be"),
        (second(&mount("b", "tone:880", "loop = true")), "`mount` number 2: `loop` goes only with the source wav:PATH"),
        (second(&mount("b", "wav", "")), "`mount` number 2: `source` must be wav:PATH"),
        (
            mount("a", "stdin", "") + &mount("b", "stdin", ""),
            "`mount` number 2: `source` stdin is read by the mount `a` already",
        ),
        (
            mount("a", "tone:1", "record = '/x/y'") + &mount("b", "tone:2", "record = '/x/./y/'"),
            "`mount` number 2: `record` /x/y is the directory of the mount `a` already",
        ),
        ("source = 'tone:1'\n".to_owned() + &mount("a", "tone:1", ""), "`source` goes into each [[mount]]"),
        ("mount = 'x'\n".to_owned(), "`mount` must be tables with name and source, each headed [[mount]]"),
    ] {
        let file = File::new(&text);
        let (code, line) = refused(&["--config", file.path("aircheck.toml").to_str().unwrap()]);
        assert!(code == 2 && line.contains(wrong), "{text}: {line}");
    }
}
