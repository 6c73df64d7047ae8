//! Mounts that are pushed to a real Icecast, and heard there.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;
#[path = "common/truth.rs"]
mod truth;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use aircheck_api::TokenHash;
use serde_json::Value;

use common::{Server, assert_identity, curl, eventually, tone_and_rms};
use truth::scrape::Metrics;

/// An Icecast, ended when dropped.
struct Icecast {
    child: Child,
    address: SocketAddr,
}

impl Icecast {
    /// Starts it at a free port.
    fn start(directory: &Path) -> Self {
        let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        // Another connection of this machine may take the port before it does.
        eventually("an Icecast", || Self::start_at(directory, free()))
    }

    /// Starts it at this address; `None` if it ends because the address is taken.
    fn start_at(directory: &Path, address: SocketAddr) -> Option<Self> {
        let (config, logs, port) = (directory.join("icecast.xml"), directory.display(), address.port());
        // It refuses to run as root, and so is told to change to another account.
        let text = format!(
            "<icecast><limits><sources>4</sources><burst-size>0</burst-size></limits><authentication>\
             <source-password>hackme</source-password><admin-password>admin</admin-password></authentication>\
             <hostname>localhost</hostname><listen-socket><port>{port}</port><bind-address>127.0.0.1</bind-address>\
             </listen-socket><paths><logdir>{logs}</logdir><webroot>/usr/share/icecast2/web</webroot>\
             <adminroot>/usr/share/icecast2/admin</adminroot></paths><security><changeowner><user>nobody</user>\
             <group>nogroup</group></changeowner></security></icecast>"
        );
        std::fs::write(&config, text).unwrap();
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o777)).unwrap();
        let mut command = Command::new("icecast2");
        command.arg("-c").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("icecast2 runs: Debian's package is icecast2");
        let mut icecast = Self { child, address };
        // Its answer and not the connection, because one to a free port may meet itself.
        let url = format!("http://{address}/status-json.xsl");
        eventually("Icecast's answer, or its end", || {
            let answers = curl(&["--fail", "--max-time", "2", &url]).output().unwrap().status.success();
            let has_ended = icecast.child.try_wait().unwrap().is_some();
            (answers || has_ended).then_some(!has_ended)
        })
        .then_some(icecast)
    }

    /// Returns what ffmpeg hears at a mount in a second: the pitch and level of the left channel.
    fn heard(&self, path: &str) -> (f64, f64) {
        let url = format!("http://{}/{path}", self.address);
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-v", "error", "-nostdin", "-t", "1", "-i", &url, "-ac", "1", "-ar", "48000", "-f", "f32le", "-"]);
        let output = ffmpeg.output().expect("ffmpeg runs: Debian's package is ffmpeg");
        let samples = output.stdout.chunks_exact(4).map(|it| f32::from_le_bytes([it[0], it[1], it[2], it[3]]));
        let samples: Vec<f32> = samples.collect();
        if samples.len() < 24_000 {
            (0.0, 0.0)
        } else {
            tone_and_rms(&samples[9600..], 48_000, &[404.0, 440.0, 480.0, 880.0])
        }
    }
}

impl Drop for Icecast {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until the push to this URL meets a condition.
fn push_when(server: &Server, to: &str, condition: impl Fn(&Value) -> bool) -> Value {
    eventually(&format!("a push to {to}"), || {
        let status = server.json("api/v1/status");
        status["pushes"].as_array().unwrap().iter().find(|push| push["to"] == to && condition(push)).cloned()
    })
}

#[test]
fn icecast_gets_opus_and_mp3_and_is_connected_again_after_it_was_killed() {
    let directory = tempfile::tempdir().unwrap();
    let icecast = Icecast::start(directory.path());
    let (address, port) = (icecast.address, icecast.address.port());
    let push = |login: &str, path: &str| format!("icecast://{login}@127.0.0.1:{port}/{path}");
    let to = |path: &str| format!("icecast://127.0.0.1:{port}/{path}");
    let pushes = [push("source:hackme", "live.ogg"), push("hackme", "live.mp3"), push("s3cret", "other.ogg")];
    let flags = ["--source", "tone:440", "--push", &pushes[0], "--push", &pushes[1], "--push", &pushes[2]];
    let server = Server::start(&flags);
    for path in ["live.ogg", "live.mp3"] {
        let connected = push_when(&server, &to(path), |push| push["listener"].is_u64());
        assert_eq!((&connected["failure"], &connected["connections"]), (&Value::Null, &1.into()));
        eventually(path, || Some(icecast.heard(path)).filter(|(hz, rms)| *hz == 440.0 && (*rms - 0.177).abs() < 0.02));
        // A consumer like any other: its row has an account and a lag.
        let row = server.row_when(&to(path), |row| row["delivered"].as_u64() > Some(50));
        assert_identity(&row);
        assert_eq!((&row["lost"], &row["id"]), (&0.into(), &connected["listener"]));
    }
    let refused = push_when(&server, &to("other.ogg"), |push| push["failure"].is_string());
    assert_eq!(refused["failure"], "the server refuses the password (give that of its source clients)");
    let metrics = Metrics::of(server.address);
    let of = |path: &str| format!("to=\"{}\"", to(path));
    assert_eq!(metrics.sum("aircheck_push_up", &[&of("live.ogg"), "mount=\"main\""]), 1.0);
    assert_eq!(metrics.sum("aircheck_push_up", &[&of("other.ogg")]), 0.0);
    assert!((0.0..2.0).contains(&metrics.sum("aircheck_push_lag_seconds", &[&of("live.mp3")])));

    drop(icecast);
    push_when(&server, &to("live.ogg"), |push| {
        push["failure"].as_str().is_some_and(|why| why.contains("cannot connect"))
    });
    let icecast = eventually("the port", || Icecast::start_at(directory.path(), address));
    let again = push_when(&server, &to("live.ogg"), |push| push["listener"].is_u64());
    assert_eq!(again["connections"], 2);
    eventually("the sound again", || Some(icecast.heard("live.ogg")).filter(|(hz, _)| *hz == 440.0));
    let shown =
        server.log() + &server.text("api/v1/status") + &server.text("api/v1/listeners") + &server.text("metrics");
    assert!(!shown.contains("hackme") && !shown.contains("s3cret"), "a password is shown");
}

#[test]
fn another_aircheck_takes_what_is_pushed_and_tells_when_its_mount_is_taken() {
    let edge = Server::start(&["--source", "put"]);
    let target = format!("icecast://any@{}/mounts/main", edge.address);
    // Whoever listens here needs a token, and the one that this server connects to does not.
    let config = tempfile::NamedTempFile::new().unwrap();
    let token = TokenHash::of("ac_ear");
    std::fs::write(&config, format!("[[token]]\nname = 'ear'\nhash = '{token}'\nscopes = ['listen']\n")).unwrap();
    let config = config.path().to_str().unwrap();
    let server = Server::start(&["--config", config, "--source", "tone:440", "--push", &target]);
    eventually("the sound at the edge", || Some(edge.json("api/v1/status")).filter(|status| status["state"] == "live"));
    let second = Server::start(&["--source", "tone:880", "--push", &target]);
    let to = format!("icecast://{}/mounts/main", edge.address);
    let refused = push_when(&second, &to, |push| push["failure"].is_string());
    let why = refused["failure"].as_str().unwrap();
    assert!(why.starts_with("the server refuses the mount: HTTP/1.1 409 Conflict"), "{why}");
    // With its end, the place is free for the other one.
    drop(server);
    push_when(&second, &to, |push| push["listener"].is_u64());
    eventually("the other sound", || {
        let command = format!("curl -sN '{}' | head -c 96000", edge.url("stream.pcm"));
        let bytes = Command::new("sh").args(["-c", &command]).output().unwrap().stdout;
        let left: Vec<f32> = bytes.chunks_exact(4).map(|it| f32::from(i16::from_le_bytes([it[0], it[1]]))).collect();
        (tone_and_rms(&left, 48_000, &[440.0, 880.0]).0 == 880.0).then_some(())
    });
}
