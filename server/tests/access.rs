//! Tokens from outside: each way to give one, each way to be refused, and what ends when a token is taken out.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use aircheck_api::{TokenHash, sign_url};
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use common::{Listener, Server, TEST_TIMEOUT, curl, eventually, raw, refused, signal, write_segment};

const KITCHEN: &str = "ac_kitchen-radio-token";
const PROMETHEUS: &str = "ac_prometheus-token";
const BOSS: &str = "ac_boss-token";
const ALL: [(&str, &str, &str); 3] = [
    ("kitchen", KITCHEN, "'listen'"),
    ("prometheus", PROMETHEUS, "'stats'"),
    ("boss", BOSS, "'listen', 'stats', 'admin'"),
];

/// A server with tokens, and its file.
struct Guarded {
    server: Server,
    file: PathBuf,
    _directory: TempDir,
}

impl Guarded {
    fn start(flags: &[&str]) -> Self {
        Self::start_with(flags, |command| command)
    }

    fn start_with(flags: &[&str], prepare: impl FnOnce(&mut Command) -> &mut Command) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("aircheck.toml");
        write(&file, &ALL);
        let config = ["--source", "tone:440", "--config", file.to_str().unwrap()];
        let server = Server::start_with(&[&config, flags].concat(), prepare);
        Self { server, file, _directory: directory }
    }

    /// Requests `path` with this token; returns the status and the whole answer.
    fn ask(&self, token: Option<&str>, path: &str) -> (u16, String) {
        let header = token.map(|token| format!("Authorization: Bearer {token}"));
        let arguments = header.as_ref().map_or(vec![], |header| vec!["--header", header]);
        self.server.ask(&arguments, path)
    }

    /// Requests the head of `path` with arguments of curl.
    fn status(&self, arguments: &[&str], path: &str) -> u16 {
        let arguments = [&["--head"], arguments].concat();
        self.server.ask(&arguments, path).0
    }

    fn rows(&self) -> Vec<Value> {
        let (status, answer) = self.ask(Some(BOSS), "api/v1/listeners");
        assert_eq!(status, 200, "{answer}");
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    fn row(&self, name: &str) -> Value {
        eventually(name, || self.rows().into_iter().find(|row| row["name"] == name))
    }

    /// Writes the file anew and has the server read it.
    fn reload(&self, tokens: &[(&str, &str, &str)]) {
        write(&self.file, tokens);
        signal(self.server.pid(), "HUP");
    }
}

fn write(file: &Path, tokens: &[(&str, &str, &str)]) {
    let table = |(name, token, scopes): &(&str, &str, &str)| {
        format!("[[token]]\nname = '{name}'\nhash = '{}'\nscopes = [{scopes}]\n", TokenHash::of(token))
    };
    std::fs::write(file, tokens.iter().map(table).collect::<String>()).unwrap();
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Returns the value of the cookie that an answer sets, as `NAME=VALUE`, and its attributes.
fn cookie(answer: &str) -> (String, String) {
    let line = answer.lines().find_map(|line| line.strip_prefix("set-cookie: ")).expect("a cookie");
    let (cookie, attributes) = line.split_once("; ").unwrap();
    (cookie.to_owned(), attributes.to_owned())
}

const STREAMS: [&str; 7] =
    ["stream", "stream.wav", "stream.pcm", "stream.flac", "stream.opus", "stream.json", "recording.wav?from=0&to=1"];
const FIGURES: [&str; 6] =
    ["api/v1/status", "api/v1/listeners", "api/v1/audience", "metrics", "api/v1/events", "api/v1/watch"];

#[test]
fn each_path_takes_its_scope() {
    let guarded = Guarded::start(&[]);
    for path in STREAMS {
        let (status, answer) = guarded.ask(None, path);
        assert_eq!(status, 401, "{path}: {answer}");
        for scheme in ["Bearer", "Basic"] {
            assert!(answer.contains(&format!("www-authenticate: {scheme} realm=\"aircheck\"\r\n")), "{answer}");
        }
        assert!(answer.contains("listening takes a token"), "{answer}");
    }
    for path in FIGURES {
        for token in [None, Some("ac_wrong"), Some(KITCHEN), Some(PROMETHEUS)] {
            let header = token.map_or(String::new(), |token| format!("Authorization: Bearer {token}"));
            let expected = match token {
                None | Some("ac_wrong") => 401,
                Some(KITCHEN) => 403,
                _ => 200,
            };
            assert_eq!(guarded.status(&["--header", &header], path), expected, "{path} by {token:?}");
        }
    }
    let (_, answer) = guarded.ask(Some(KITCHEN), "metrics");
    assert!(answer.contains("the token `kitchen` lacks the scope `stats`, which this path takes"), "{answer}");
    let (status, answer) = guarded.ask(Some(PROMETHEUS), "stream.wav");
    assert!(status == 403 && answer.contains("the token `prometheus` lacks the scope `listen:main`"), "{answer}");
    for (token, status) in [(KITCHEN, 403), (PROMETHEUS, 403), (BOSS, 404)] {
        let header = format!("Authorization: Bearer {token}");
        assert_eq!(guarded.server.ask(&["--request", "DELETE", "--header", &header], "api/v1/listeners/99").0, status);
    }
    for open in ["", "page.js", "icon.svg", "healthz", "readyz", "api/v1/session"] {
        assert_eq!(guarded.status(&[], open), 200, "/{open} is open");
    }
    let metrics = guarded.ask(Some(PROMETHEUS), "metrics").1;
    let refused = |reason: &str| {
        let series = format!("aircheck_listeners_refused_total{{reason=\"{reason}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&series)?.parse::<u32>().ok()).unwrap()
    };
    assert!(refused("token") >= 7 && refused("scope") >= 7, "{metrics}");
}

#[test]
fn sound_comes_by_bearer_by_basic_and_by_a_url_with_a_password() {
    let guarded = Guarded::start(&[]);
    let address = guarded.server.address;
    let (header, user) = (format!("Authorization: Bearer {KITCHEN}"), format!("any:{KITCHEN}"));
    let with_password = format!("http://any:{KITCHEN}@{address}/stream.wav");
    let plain = guarded.server.url("stream.wav");
    for arguments in [
        &["--header", &header, &plain][..],
        &["--user", &user, &plain],
        &["--user", &format!("{KITCHEN}:"), &plain],
        &[&with_password],
    ] {
        let mut listening = curl(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut head = [0; 2000];
        std::io::Read::read_exact(listening.stdout.as_mut().unwrap(), &mut head).unwrap();
        listening.kill().unwrap();
        listening.wait().unwrap();
        assert!(head.starts_with(b"RIFF"), "{arguments:?}");
    }
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-i", &with_password, "-t", "0.5", "-f", "s16le", "-"])
        .stdin(Stdio::null())
        .output()
        .expect("ffmpeg runs: Debian's package is ffmpeg");
    assert!(output.status.success() && output.stdout.len() > 40_000, "{output:?}");
    if Command::new("mpv").arg("--version").stdout(Stdio::null()).status().is_ok() {
        let arguments =
            ["--no-config", "--vo=null", "--ao=null", "--length=0.5", "--msg-level=all=error", &with_password];
        let status = Command::new("mpv").args(arguments).stdin(Stdio::null()).status().unwrap();
        assert!(status.success(), "mpv");
    } else {
        eprintln!("skipped: no mpv");
    }
}

#[test]
fn a_row_has_the_name_of_its_token() {
    let guarded = Guarded::start(&[]);
    let _by_token = Listener::of(
        curl(&["--user", &format!("x:{KITCHEN}"), &guarded.server.url("stream.pcm?name=by-token")])
            .stdout(Stdio::null()),
    );
    assert_eq!(guarded.row("by-token")["token"], "kitchen");
    let open = Server::start(&["--source", "tone:440"]);
    let _anonymous = Listener::of(curl(&[&open.url("stream.pcm?name=x")]).stdout(Stdio::null()));
    assert_eq!(open.row_when("x", |_| true)["token"], Value::Null);
}

#[test]
fn a_signed_url_opens_one_stream_until_it_expires() {
    let guarded = Guarded::start(&[]);
    let sign = |path: &str, query: &str, seconds: i64| {
        sign_url(&TokenHash::of(KITCHEN), path, query, unix_now().saturating_add_signed(seconds))
    };
    let good = sign("/stream.opus", "name=tv", 60);
    assert_eq!(guarded.status(&[], &good), 200);
    let _listener = Listener::of(curl(&[&guarded.server.url(&good)]).stdout(Stdio::null()));
    assert_eq!(guarded.row("tv")["token"], "kitchen");
    let expired = sign("/stream.opus", "name=tv", -1);
    for (url, sentence) in [
        (expired.clone(), "this URL has expired"),
        (good.replace("name=tv", "name=radio"), "does not fit this URL"),
        (good.replace("opus", "wav"), "does not fit this URL"),
        (format!("{good}&from=0"), "does not fit this URL"),
        (good.replace("expires=", "expires=9"), "does not fit this URL"),
    ] {
        let (status, answer) = guarded.ask(None, &url);
        assert!(status == 403 && answer.contains(sentence), "{url}: {answer}");
    }
    // It opens nothing but streams, whatever its token may do.
    let metrics = sign_url(&TokenHash::of(BOSS), "/metrics", "", unix_now() + 60);
    assert_eq!(guarded.status(&[], &metrics), 401);
    assert_eq!(guarded.status(&[], &sign_url(&TokenHash::of(PROMETHEUS), "/stream.wav", "", unix_now() + 60)), 403);
    let recording = sign("/recording.wav", "from=2026-01-01T00:00:00Z&to=2026-01-01T00:01:00Z", 60);
    assert_eq!(guarded.status(&[], &recording), 404, "the parameters are read, and nothing is recorded");
}

/// Returns the URL in an answer that is an M3U, as path, query without the signing, and expiry.
fn in_playlist(answer: &str) -> (String, u64) {
    let url = answer.lines().last().unwrap();
    let (_, path) = url.split_once("://").unwrap().1.split_once('/').unwrap();
    let (before, signed) = path.split_once("expires=").unwrap_or_else(|| panic!("it is not signed: {answer}"));
    (path.to_owned(), signed.split('&').next().unwrap().parse().unwrap_or_else(|_| panic!("{before}: {answer}")))
}

#[test]
fn a_playlist_leads_to_a_url_that_the_player_may_open_and_to_nothing_more() {
    let guarded = Guarded::start(&[]);
    let (status, answer) = guarded.ask(None, "listen.m3u");
    assert!(status == 401 && answer.contains("www-authenticate: Basic"), "{answer}");
    assert_eq!(guarded.ask(Some(PROMETHEUS), "listen.m3u").0, 403, "a playlist takes the scope of its stream");

    // By a token: for a day, and without the token.
    let (status, answer) = guarded.ask(Some(KITCHEN), "listen.m3u?format=opus&name=radio");
    assert!(status == 200 && !answer.contains(KITCHEN), "{answer}");
    let (path, expires) = in_playlist(&answer);
    assert!(path.starts_with("stream.opus?name=radio&expires="), "{path}");
    assert!((unix_now() + 86_300..=unix_now() + 86_400).contains(&expires), "{expires}");
    let _listener = Listener::of(curl(&[&guarded.server.url(&path)]).stdout(Stdio::null()));
    assert_eq!(guarded.row("radio")["token"], "kitchen");
    for changed in [path.replace("opus", "wav"), path.replace("radio", "tv"), path.replace("expires=1", "expires=2")] {
        assert_eq!(guarded.status(&[], &changed), 403, "{changed}");
    }
    // By one with more scopes: it opens the stream alone.
    let (path, _) = in_playlist(&guarded.ask(Some(BOSS), "listen.m3u").1);
    let (_, query) = path.split_once('?').unwrap();
    assert_eq!(guarded.status(&[], &path), 200);
    assert_eq!(guarded.status(&[], &format!("api/v1/status?{query}")), 401);

    // By a signed URL: until that expires, and not a second longer.
    let sign = |query: &str, expires| sign_url(&TokenHash::of(KITCHEN), "/listen.m3u", query, expires);
    for expires in [unix_now() + 60, unix_now() + 90 * 86_400] {
        let (status, answer) = guarded.ask(None, &sign("format=flac&name=tv", expires));
        assert_eq!(status, 200, "{answer}");
        let (path, inner) = in_playlist(&answer);
        assert!(path.starts_with("stream.flac?name=tv&expires=") && inner == expires, "{path}");
        assert_eq!(guarded.status(&[], &path), 200);
        assert_eq!(guarded.status(&[], &sign("format=flac&name=tv", expires).replace("flac", "wav")), 403);
    }
    assert_eq!(guarded.ask(None, &sign("", unix_now() - 1)).0, 403, "it has expired");

    // By the cookie of a sign-in.
    let header = format!("Authorization: Bearer {BOSS}");
    let (_, answer) = guarded.server.ask(&["--request", "POST", "--header", &header], "api/v1/session");
    let (_, answer) = guarded.server.ask(&["--cookie", &cookie(&answer).0], "listen.pls?format=wav");
    let file = answer.lines().find_map(|line| line.strip_prefix("File1=")).unwrap();
    let (path, expires) = in_playlist(file);
    assert!(guarded.status(&[], &path) == 200 && expires <= unix_now() + 86_400, "{path}");

    // It ends with its token.
    guarded.reload(&ALL[..2]);
    eventually("the token's end", || (guarded.status(&[], &path) == 403).then_some(()));
    // Where listening takes no token, nothing is signed.
    let open = Server::start(&["--source", "tone:440"]);
    assert!(open.text("listen.m3u").ends_with("/stream.mp3\n"));
}

#[test]
fn a_player_plays_a_playlist_that_was_signed() {
    let guarded = Guarded::start(&[]);
    let url = sign_url(&TokenHash::of(KITCHEN), "/listen.m3u", "format=flac&name=player", unix_now() + 60);
    // As VLC and hardware do, this reads the file and opens what it finds there. ffmpeg takes an M3U for HLS.
    let (status, answer) = guarded.ask(None, &url);
    assert_eq!(status, 200, "{answer}");
    let found = answer.lines().last().unwrap().to_owned();
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-nostdin", "-i", &found, "-t", "1", "-f", "null", "-"]);
    let output = ffmpeg.output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn the_page_signs_in_and_out_by_a_cookie() {
    let guarded = Guarded::start(&[]);
    let header = format!("Authorization: Bearer {BOSS}");
    let sign_in = |more: &[&str]| {
        guarded.server.ask(&[&["--request", "POST", "--header", &header], more].concat(), "api/v1/session")
    };
    let (status, answer) = sign_in(&[]);
    assert_eq!(status, 200, "{answer}");
    let permissions = r#""token":"boss","takes_token":true,"listen":true,"has_figures":true,"stats":true,"admin":true"#;
    let body = format!(r#"{{{permissions},"host":"{}"}}"#, guarded.server.address);
    assert!(answer.ends_with(&body), "{answer}");
    let (value, attributes) = cookie(&answer);
    assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Strict; Max-Age=2592000");
    assert!(value.starts_with("aircheck=") && !answer.contains(BOSS));
    let https = format!("Origin: https://{}", guarded.server.address);
    assert!(cookie(&sign_in(&["--header", &https]).1).1.ends_with("; Secure"));

    assert_eq!(guarded.status(&["--cookie", &value], "stream.wav"), 200);
    assert_eq!(guarded.status(&["--cookie", &value], "api/v1/status"), 200);
    let changed = format!("{}x", value.strip_suffix(value.chars().last().unwrap()).unwrap());
    assert_eq!(guarded.status(&["--cookie", &changed], "api/v1/status"), 401);
    let (_, answer) = guarded.server.ask(&["--cookie", &value], "api/v1/session");
    assert!(answer.contains(r#""token":"boss""#), "{answer}");
    // A session cannot begin another one, and so has an end.
    let origin = format!("Origin: http://{}", guarded.server.address);
    let again = ["--request", "POST", "--cookie", &value, "--header", &origin];
    let (status, answer) = guarded.server.ask(&again, "api/v1/session");
    assert!(status == 401 && !answer.contains("set-cookie"), "{answer}");

    let (status, answer) = guarded.server.ask(&["--request", "DELETE", "--cookie", &value], "api/v1/session");
    assert_eq!(
        (status, cookie(&answer)),
        (200, ("aircheck=".to_owned(), "Path=/; HttpOnly; SameSite=Strict; Max-Age=0".to_owned()))
    );
    let (status, answer) = guarded.server.ask(&["--request", "POST"], "api/v1/session");
    assert!(status == 401 && answer.contains("www-authenticate: Bearer realm=\"aircheck\"\r\n"), "{answer}");
    let (status, answer) = guarded.server.ask(&["--request", "PUT"], "api/v1/session");
    assert!(status == 405 && answer.contains("allow: GET, HEAD, POST, DELETE"), "{answer}");
    // The page of a program of this machine, and without tokens.
    let open = Server::start(&["--source", "tone:440"]);
    let session = open.json("api/v1/session");
    assert_eq!(
        session,
        serde_json::json!({ "token": null, "takes_token": false, "listen": true, "has_figures": true, "stats": true, "admin": true,
            "host": open.address.to_string() })
    );
    assert_eq!(open.ask(&["--request", "POST"], "api/v1/session").0, 409);
}

#[test]
fn a_browser_is_offered_basic_where_it_navigates_and_not_in_a_script() {
    let guarded = Guarded::start(&[]);
    for (field, is_offered) in [
        ("Accept: */*", true),
        ("Sec-Fetch-Mode: navigate", true),
        ("Sec-Fetch-Mode: no-cors", false),
        ("Sec-Fetch-Mode: cors", false),
        ("Accept: text/event-stream", false),
    ] {
        let (status, answer) = guarded.server.ask(&["--header", field], "stream");
        assert_eq!((status, answer.contains("Basic realm")), (401, is_offered), "{field}: {answer}");
    }
}

#[test]
fn another_site_can_use_neither_a_cookie_nor_a_password_that_the_browser_has() {
    let guarded = Guarded::start(&["--allow-origin", "https://radio.example"]);
    let header = format!("Authorization: Bearer {BOSS}");
    let value = cookie(&guarded.server.ask(&["--request", "POST", "--header", &header], "api/v1/session").1).0;
    let own = format!("Origin: http://{}", guarded.server.address);
    let password = format!("x:{BOSS}");
    for credentials in [["--cookie", &value], ["--user", &password]] {
        for foreign in [
            &["--header", "Origin: https://evil.example"][..],
            &["--header", "Origin: https://radio.example"],
            &["--header", "Origin: null"],
            &["--header", "Sec-Fetch-Site: cross-site"],
            &["--header", "Sec-Fetch-Site: same-site"],
            &["--header", "Host: evil.example", "--header", "Origin: http://evil.example"],
            &["--header", "Host: evil.example", "--header", "Sec-Fetch-Site: same-origin"],
        ] {
            for (method, path) in [("DELETE", "api/v1/listeners/99"), ("GET", "api/v1/listeners"), ("GET", "metrics")] {
                let arguments = [&["--request", method], &credentials[..], foreign].concat();
                let (status, answer) = guarded.server.ask(&arguments, path);
                assert_eq!(status, 403, "{arguments:?} {path}: {answer}");
                assert!(!answer.contains("access-control"), "{answer}");
            }
        }
    }
    // Without a word of the browser on where it comes from, a cookie changes nothing.
    let delete = ["--request", "DELETE", "--cookie", &value];
    let (status, answer) = guarded.server.ask(&delete, "api/v1/listeners/99");
    assert!(status == 403 && answer.contains("a sign-in is for this server's own page"), "{answer}");
    for good in [&["--header", &own][..], &["--header", "Sec-Fetch-Site: same-origin"]] {
        assert_eq!(guarded.server.ask(&[&delete, good].concat(), "api/v1/listeners/99").0, 404);
    }
}

#[test]
fn wrong_tokens_are_throttled_by_address_and_right_ones_are_never_locked_out() {
    let guarded = Guarded::start(&[]);
    for _ in 0..10 {
        assert_eq!(guarded.ask(Some("ac_wrong"), "stream.wav").0, 401);
    }
    let (status, answer) = guarded.ask(Some("ac_wrong"), "stream.wav");
    assert!(status == 429 && answer.contains("\r\nretry-after: "), "{answer}");
    assert_eq!(guarded.ask(Some("ac_wrong"), "api/v1/session").0, 429);
    assert_eq!(
        guarded.status(&["--user", &format!("x:{KITCHEN}")], "stream.wav"),
        200,
        "the right one, from the same address"
    );
    assert_eq!(guarded.status(&[], "stream.wav"), 401, "none at all");
    let other = ["--interface", "127.0.0.9", "--header", "Authorization: Bearer ac_wrong"];
    assert_eq!(guarded.status(&other, "stream.wav"), 401, "another address");
    guarded.server.wait_for_log("127.0.0.1 has sent more than 10 wrong tokens within a minute");
    assert_eq!(guarded.server.log().matches("wrong tokens").count(), 1, "{}", guarded.server.log());
}

#[test]
fn a_token_that_is_taken_out_ends_its_listeners_and_sessions() {
    let guarded = Guarded::start(&[]);
    let listen = |token: &str, path: &str| {
        let user = format!("x:{token}");
        Listener::of(curl(&["--user", &user, &guarded.server.url(path)]).stdout(Stdio::null()))
    };
    let mut wav = listen(KITCHEN, "stream.wav?name=wav");
    let mut opus = listen(KITCHEN, "stream.opus?name=opus");
    let mut stays = listen(BOSS, "stream.pcm?name=stays");
    let mut watch = listen(PROMETHEUS, "api/v1/watch");
    let mut events = listen(PROMETHEUS, "api/v1/events");
    for name in ["wav", "opus", "stays"] {
        guarded.row(name);
    }
    let header = format!("Authorization: Bearer {KITCHEN}");
    let session = cookie(&guarded.server.ask(&["--request", "POST", "--header", &header], "api/v1/session").1).0;
    assert_eq!(guarded.status(&["--cookie", &session], "stream.wav"), 200);

    // Bad files change nothing.
    std::fs::write(&guarded.file, "[[token]]\nname = 'kitchen'\n").unwrap();
    signal(guarded.server.pid(), "HUP");
    guarded.server.wait_for_log("nothing is changed, because the settings are wrong: ");
    guarded.server.wait_for_log("aircheck.toml:1: `token` number 1: `hash` is missing");
    guarded.reload(&[]);
    guarded.server.wait_for_log("the tokens are kept, because the file has none");
    assert_eq!(guarded.rows().len(), 3);

    // The kitchen gets a new token, the statistics none.
    guarded.reload(&[("kitchen", "ac_new", "'listen'"), ALL[2]]);
    for listener in [&mut wav, &mut opus, &mut watch, &mut events] {
        assert!(listener.wait().success(), "curl has got a complete answer");
    }
    guarded.server.wait_for_log("ended 2 that listened by the token `kitchen`: it was taken out or changed");
    assert_eq!(guarded.rows().len(), 1);
    assert_eq!(guarded.row("stays")["token"], "boss");
    assert_eq!(guarded.status(&["--cookie", &session], "stream.wav"), 401);
    assert_eq!(guarded.ask(Some(KITCHEN), "stream.wav").0, 401);
    assert_eq!(guarded.status(&["--user", "x:ac_new"], "stream.wav"), 200);
    let (_, metrics) = guarded.ask(Some(BOSS), "metrics");
    assert!(metrics.contains("{reason=\"revoked\"} 2"), "{metrics}");

    // A scope that is taken away is as good as the token.
    guarded.reload(&[("boss", BOSS, "'stats', 'admin'")]);
    assert!(stays.wait().success());
}

#[test]
fn a_token_that_is_taken_out_ends_the_download_of_a_recording() {
    let folder = tempfile::tempdir().unwrap();
    // More than the buffers of both ends hold.
    write_segment(folder.path(), "aircheck-20200101T000000Z-0000000000", 120);
    let guarded = Guarded::start(&["--record", folder.path().to_str().unwrap()]);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&guarded.server.address.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    write!(
        stream,
        "GET /recording.wav?from=2020-01-01T00:00:00Z&to=2020-01-01T00:02:00Z HTTP/1.1\r\nHost: localhost\r\n\
         Authorization: Bearer {KITCHEN}\r\n\r\n"
    )
    .unwrap();
    let mut head = String::new();
    let mut body = BufReader::new(stream);
    while body.read_line(&mut head).unwrap() > 2 {}
    let length = head.to_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let length: usize = length.unwrap_or_else(|| panic!("{head}"));
    guarded.reload(&ALL[1..]);
    guarded.server.wait_for_log("the tokens are prometheus, boss");
    // Its end may come as a reset, because bytes are missing.
    let mut bytes = Vec::new();
    let _ = body.read_to_end(&mut bytes);
    assert!(bytes.len() < length, "all {length} bytes have come");
}

#[test]
fn settings_that_need_a_restart_are_named() {
    let guarded = Guarded::start(&[]);
    let tokens = std::fs::read_to_string(&guarded.file).unwrap();
    std::fs::write(&guarded.file, format!("max_listeners = 7\nbuffer = '2s'\n{tokens}")).unwrap();
    signal(guarded.server.pid(), "HUP");
    guarded.server.wait_for_log("restart the service for the changes of max_listeners: ");
    guarded.server.wait_for_log("the mount `main`: buffer is 2s, was 1s");
    guarded.server.wait_for_log("the tokens are the same");
}

#[test]
fn no_credential_is_ever_logged() {
    let guarded = Guarded::start_with(&[], |command| command.env("RUST_LOG", "trace"));
    let header = format!("Authorization: Bearer {BOSS}");
    let value = cookie(&guarded.server.ask(&["--request", "POST", "--header", &header], "api/v1/session").1).0;
    let url = sign_url(&TokenHash::of(KITCHEN), "/stream.wav", "name=signed", unix_now() + 60);
    let _listener = Listener::of(curl(&[&guarded.server.url(&url)]).stdout(Stdio::null()));
    guarded.row("signed");
    for token in [BOSS, "ac_wrong-token"] {
        guarded.ask(Some(token), "metrics");
        guarded.status(&["--user", &format!("x:{token}")], "stream.wav");
    }
    guarded.status(&["--cookie", &value], "stream.wav");
    guarded.ask(None, &url.replace("name=signed", "name=altered"));
    guarded.reload(&[("kitchen", "ac_new-token", "'listen'")]);
    guarded.server.wait_for_log("by the token `kitchen`");
    guarded.server.terminate();
    guarded.server.wait_for_log("SIGTERM");
    let log = guarded.server.log();
    let signature = url.rsplit_once('=').unwrap().1;
    let hash = TokenHash::of(BOSS).to_string();
    for secret in
        [BOSS, KITCHEN, "ac_wrong-token", "ac_new-token", value.split_once('=').unwrap().1, signature, &hash[7..]]
    {
        assert!(!log.contains(secret), "{secret} is in the log: {log}");
    }
}

#[test]
fn it_does_not_start_beyond_loopback_without_a_token() {
    for address in ["0.0.0.0:0", "[::]:0"] {
        let (code, stderr) = refused(&["--source", "tone:440", "--listen", address]);
        assert_eq!((code, stderr.lines().count()), (2, 1), "{stderr}");
        assert!(stderr.contains("aircheck token new") && stderr.contains("--insecure-public"), "{stderr}");
    }
    let public = Server::start(&["--source", "tone:440", "--listen", "0.0.0.0:0"]);
    public.wait_for_log("NOT PRIVATE");
    let guarded = Guarded::start(&["--listen", "0.0.0.0:0"]);
    guarded.server.wait_for_log("listening takes a token: kitchen, boss");
    assert!(!guarded.server.log().contains("NOT PRIVATE"), "{}", guarded.server.log());
}

#[test]
fn without_tokens_figures_are_for_this_machine_alone() {
    let server = Server::start(&["--source", "tone:440"]);
    for path in ["api/v1/status", "metrics"] {
        assert_eq!(server.ask(&[], path).0, 200);
        for field in [
            "X-Forwarded-For: 192.0.2.7",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Host: studio.example",
            "X-Real-IP: 192.0.2.7",
            "Forwarded: for=192.0.2.7",
            "Via: 1.1 proxy",
        ] {
            let (status, answer) = server.ask(&["--header", field], path);
            assert!(status == 403 && answer.contains("aircheck token new"), "{field}: {answer}");
        }
    }
    assert_eq!(server.ask(&["--head", "--header", "X-Forwarded-For: 192.0.2.7"], "stream.wav").0, 200);
}

#[test]
fn figures_can_have_an_address_of_their_own() {
    let guarded = Guarded::start(&["--admin-listen", "127.0.0.1:0"]);
    guarded.server.wait_for_log("figures and changes at http://127.0.0.1:");
    let log = guarded.server.log();
    let admin = log.split_once("figures and changes at ").unwrap().1.lines().next().unwrap();
    let header = format!("Authorization: Bearer {BOSS}");
    let status = |url: &str| {
        let output =
            curl(&["--head", "--header", &header, "--output", "/dev/null", "--write-out", "%{http_code}", url]);
        let mut output = output;
        String::from_utf8(output.output().unwrap().stdout).unwrap()
    };
    for path in FIGURES {
        assert_eq!(
            (status(&format!("{admin}{path}")).as_str(), status(&guarded.server.url(path)).as_str()),
            ("200", "404"),
            "{path}"
        );
        assert!(!guarded.ask(Some(BOSS), path).1.contains(admin.trim_start_matches("http://").trim_end_matches('/')));
    }
    for path in ["", "stream.wav", "api/v1/session"] {
        assert_eq!(
            (status(&format!("{admin}{path}")).as_str(), status(&guarded.server.url(path)).as_str()),
            ("404", "200"),
            "{path}"
        );
    }
    for path in ["healthz", "readyz"] {
        assert_eq!(
            (status(&format!("{admin}{path}")).as_str(), status(&guarded.server.url(path)).as_str()),
            ("200", "200")
        );
    }
    let (_, session) = guarded.ask(Some(BOSS), "api/v1/session");
    assert!(session.contains(r#""listen":true,"has_figures":false,"stats":false,"admin":false"#), "{session}");
}

#[test]
fn another_site_may_play_the_streams_and_read_nothing_else() {
    let server = Server::start(&["--source", "tone:440", "--allow-origin", "https://radio.example"]);
    let site = ["--header", "Origin: https://radio.example"];
    // `<audio src>` sends no Origin.
    let element = [
        "--header",
        "Sec-Fetch-Site: cross-site",
        "--header",
        "Sec-Fetch-Mode: no-cors",
        "--header",
        "Sec-Fetch-Dest: audio",
        "--header",
        "Referer: https://radio.example/",
    ];
    for path in ["stream.wav", "stream.opus", "stream?format=flac"] {
        let (status, answer) = server.ask(&[&["--head"], &site[..]].concat(), path);
        assert!(status == 200 && answer.contains("access-control-allow-origin: https://radio.example"), "{answer}");
        let (status, answer) = server.ask(&[&["--head"], &element[..]].concat(), path);
        assert!(status == 200 && answer.contains("cross-origin-resource-policy: cross-origin"), "{answer}");
        assert!(!answer.contains("access-control-allow-origin"), "{answer}");
    }
    for path in ["api/v1/status", "api/v1/listeners", "metrics", "api/v1/session"] {
        for foreign in [&site[..], &element] {
            let (status, answer) = server.ask(&[&["--head"], foreign].concat(), path);
            assert_eq!(status, 403, "{path}: {answer}");
            assert!(!answer.contains("access-control") && answer.contains("resource-policy: same-origin"), "{answer}");
        }
    }
    let evil = [&element[..6], &["--header", "Referer: https://radio.example.evil/"]].concat();
    assert_eq!(server.ask(&[&["--head"], &evil[..]].concat(), "stream.wav").0, 403);
    assert_eq!(server.ask(&[&["--head"], &element[..6]].concat(), "stream.wav").0, 403, "without Referer");
    let own = server.ask(&["--head"], "stream.wav").1;
    assert!(own.contains("cross-origin-resource-policy: same-origin"), "{own}");
}

#[test]
fn a_page_works_behind_a_proxy_that_changes_its_host() {
    let server = Server::start(&["--source", "tone:440"]);
    let origin = ["--header", "Origin: https://radio.example"];
    let same = [&origin[..], &["--header", "Sec-Fetch-Site: same-origin"]].concat();
    for path in ["page.js", "stream.wav", "api/v1/status", "api/v1/session"] {
        assert_eq!(server.ask(&[&["--head"], &same[..]].concat(), path).0, 200, "{path}");
    }
    // By plain HTTP, browsers do not say that it is the same site. The page loads, and can say what is wrong.
    assert_eq!(server.ask(&[&["--head"], &origin[..]].concat(), "page.js").0, 200);
    let (status, answer) = server.ask(&origin, "api/v1/status");
    assert!(status == 403 && answer.contains("behind a proxy, let it pass on Host"), "{answer}");
    assert_eq!(
        server.ask(&[&["--head", "--header", "Sec-Fetch-Site: cross-site"], &origin[..]].concat(), "page.js").0,
        403
    );
    // A name that was rebound to this machine is no proxy.
    let rebound = ["--head", "--header", "Host: evil.example", "--header", "Sec-Fetch-Site: same-origin"];
    assert_eq!(server.ask(&rebound, "page.js").0, 403);
}

#[test]
fn garbage_in_authorization_has_a_clear_answer() {
    let guarded = Guarded::start(&[]);
    for value in ["Bearer", "Basic %%%", "Basic", "Digest username=\"x\"", "Bearer \u{fc}", "\u{1f980}", ""] {
        let request = format!(
            "GET /stream.wav HTTP/1.1\r\nHost: {}\r\nAuthorization: {value}\r\nConnection: close\r\n\r\n",
            guarded.server.address
        );
        let answer = String::from_utf8_lossy(&raw(guarded.server.address, request.as_bytes())).into_owned();
        assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("{\"error\":\""), "{value:?}: {answer}");
    }
}
