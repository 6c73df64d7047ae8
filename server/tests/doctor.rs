//! `aircheck doctor` on real things: a sound server that plays, is silent, frozen or missing, a taken address, a disk that
//! cannot be written to, low limits, wrong settings.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;
#[path = "../../engine/tests/common/pulse.rs"]
#[allow(dead_code, reason = "the engine's tests use the rest")]
mod pulse;
#[path = "common/tone.rs"]
mod tone;

use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

use common::{Server, command, command_behind, eventually, may_mount, refused};
use pulse::{PulseServer, Way};
use serde_json::Value;

/// The longest that a doctor may take, whatever hangs, on a machine that runs other tests.
const DOCTOR_TIMEOUT: Duration = Duration::from_secs(40);

/// What a doctor said.
struct Visit {
    code: i32,
    report: Value,
}

impl Visit {
    /// Runs `program doctor --json FLAGS`. Without `--listen`, on a free port.
    fn to(mut program: Command, flags: &[&str]) -> Self {
        program.args(["doctor", "--json"]).args(flags);
        if !flags.contains(&"--listen") {
            program.args(["--listen", "127.0.0.1:0"]);
        }
        let begin = Instant::now();
        let Output { status, stdout, stderr } = program.stdin(Stdio::null()).output().unwrap();
        assert!(begin.elapsed() < DOCTOR_TIMEOUT, "it took {:?}", begin.elapsed());
        let report: Value = serde_json::from_slice(&stdout).unwrap_or_else(|error| {
            panic!("{error}: {} {}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr))
        });
        let code = status.code().unwrap();
        assert_eq!(report["can_go_on_the_air"], code == 0, "{report:#}");
        for finding in report["findings"].as_array().unwrap() {
            assert!(finding["level"] == "ok" || finding["advice"].is_string(), "what is to be done? {finding}");
        }
        Self { code, report }
    }

    /// Returns the findings of an area and a level.
    fn texts(&self, area: &str, level: &str) -> Vec<String> {
        let findings = self.report["findings"].as_array().unwrap().iter();
        let of_both = findings.filter(|finding| finding["area"] == area && finding["level"] == level);
        of_both.map(|finding| format!("{} → {} {}", finding["text"], finding["advice"], finding["command"])).collect()
    }

    fn says(&self, area: &str, level: &str, words: &str) -> bool {
        self.texts(area, level).iter().any(|text| text.contains(words))
    }
}

#[test]
fn a_microphone_that_plays_is_told_from_a_muted_one() {
    let sound_server = PulseServer::start();
    let program = || sound_server.command(env!("CARGO_BIN_EXE_aircheck"), Way::Pulse);
    // The sink behind the microphone plays nothing.
    let mute = Visit::to(program(), &["--source", "mic"]);
    assert!(mute.code == 0 && mute.says("source", "note", "digital silence"), "{:#}", mute.report);
    let source = "“vmic”, 48000 Hz, 1 ch, PulseAudio, the default: this is the source";
    assert!(mute.says("inputs", "ok", source), "{:#}", mute.report);
    assert_eq!(mute.texts("inputs", "ok").len(), 2, "the monitor of the sink is an input: {:#}", mute.report);
    let monitor = Visit::to(program(), &["--source", "mic:mic_in.monitor"]);
    let source = monitor.texts("inputs", "ok").into_iter().filter(|text| text.contains("this is the source"));
    assert!(source.eq(monitor.texts("inputs", "ok").into_iter().take(1)), "{:#}", monitor.report);
    assert!(!monitor.says("inputs", "ok", "the default: this"), "{:#}", monitor.report);
    let tone = Visit::to(program(), &["--source", "tone:440"]);
    assert!(tone.says("inputs", "ok", "“vmic”") && !tone.says("inputs", "ok", "source"), "{:#}", tone.report);

    let _player = tone::play(&sound_server);
    eventually("the tone", || {
        let visit = Visit::to(program(), &["--source", "mic:vmic"]);
        assert_eq!(visit.code, 0, "{:#}", visit.report);
        visit.says("source", "ok", "peak -12.0 dBFS").then_some(())
    });
    let wrong = Visit::to(program(), &["--source", "mic:guitar"]);
    assert!(wrong.code == 1 && wrong.says("source", "fault", "called `guitar`"), "{:#}", wrong.report);
    let other = Visit::to(program(), &["--source", "mic:vmic", "--rate", "768000"]);
    assert!(other.code == 1 && other.says("source", "fault", "`vmic` cannot be opened"), "{:#}", other.report);
}

#[test]
fn a_sound_server_that_does_not_answer_is_not_waited_for() {
    let sound_server = PulseServer::start();
    let program = || sound_server.command(env!("CARGO_BIN_EXE_aircheck"), Way::Pulse);
    sound_server.signal("STOP");
    // More programs ask than may wait for its answer.
    let lists: Vec<_> = (0..10)
        .map(|_| program().arg("devices").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
        .collect();
    for list in lists {
        let list = list.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&list.stderr);
        assert!(list.status.code() == Some(1) && text.contains("does not answer"), "{text}");
    }
    let visit = Visit::to(program(), &["--source", "mic"]);
    // A source that needs no sound server is not kept from the air by it.
    let tone = Visit::to(program(), &["--source", "tone:440"]);
    assert_eq!(tone.code, 0, "{:#}", tone.report);
    sound_server.signal("CONT");
    assert!(visit.code == 1 && visit.says("source", "fault", "does not answer"), "{:#}", visit.report);
    // The rest is told all the same.
    assert!(visit.says("address", "ok", "free") && visit.says("recording", "ok", "nothing"), "{:#}", visit.report);
}

#[test]
fn without_a_sound_server_the_demo_or_nothing_goes_on_the_air() {
    let visit = Visit::to(command(), &[]);
    assert!(visit.code == 0 && visit.says("source", "note", "the demo sound would be played"), "{:#}", visit.report);
    assert!(visit.says("source", "note", "PULSE_SERVER is unix:/nonexistent/pulse.sock"), "{:#}", visit.report);
    let visit = Visit::to(command(), &["--source", "tone:440"]);
    assert!(visit.code == 0 && visit.says("inputs", "ok", "none"), "{:#}", visit.report);
    let visit = Visit::to(command(), &["--source", "mic"]);
    assert!(visit.code == 1 && visit.says("source", "fault", "there is no microphone"), "{:#}", visit.report);
    let visit = Visit::to(command(), &["--source", "mic", "--wait-for-source"]);
    assert!(visit.code == 0 && visit.says("source", "note", "until it is there"), "{:#}", visit.report);
}

#[test]
fn a_taken_address_is_told_with_its_owner() {
    let server = Server::start(&["--source", "tone:440"]);
    let listen = server.address.to_string();
    let visit = Visit::to(command(), &["--source", "tone:440", "--listen", &listen]);
    let words = format!("an aircheck is on the air at {listen} already");
    assert!(visit.code == 1 && visit.says("address", "fault", &words), "{:#}", visit.report);

    // This one accepts, and never says anything.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = other.local_addr().unwrap().to_string();
    let visit = Visit::to(command(), &["--source", "tone:440", "--listen", &listen]);
    assert!(visit.code == 1 && visit.says("address", "fault", "another program listens there"), "{:#}", visit.report);
    assert!(visit.says("address", "fault", "ss --listening"), "{:#}", visit.report);

    let visit = Visit::to(command(), &["--source", "tone:440", "--listen", "0.0.0.0:0"]);
    assert!(visit.code == 1 && visit.says("settings", "fault", "aircheck token new"), "{:#}", visit.report);
    let visit = Visit::to(command(), &["--source", "tone:440", "--listen", "0.0.0.0:0", "--insecure-public"]);
    assert!(
        visit.code == 0 && visit.says("address", "note", "a port of 0.0.0.0 is free, and open"),
        "{:#}",
        visit.report
    );
}

#[test]
fn a_disk_that_cannot_be_written_to_is_a_fault() {
    if !may_mount() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let shown = disk.to_str().unwrap();
    let on_disk = |options: &str| {
        let script = format!("mount -t tmpfs -o {options} tmpfs {shown} && exec \"$0\" \"$@\"");
        command_behind(&["unshare", "--mount", "sh", "-c", &script])
    };
    let flags = ["--source", "tone:440", "--record", shown];
    let visit = Visit::to(on_disk("ro"), &flags);
    assert!(visit.code == 1 && visit.says("recording", "fault", "Read-only file system"), "{:#}", visit.report);
    let below = format!("{shown}/takes");
    let visit = Visit::to(on_disk("ro"), &["--source", "tone:440", "--record", &below]);
    assert!(visit.code == 1 && visit.says("recording", "fault", "cannot be made in"), "{:#}", visit.report);
    // It goes on the air, and records nothing yet.
    let visit = Visit::to(on_disk("size=20m"), &flags);
    assert!(visit.code == 0 && visit.says("recording", "note", "until there is room"), "{:#}", visit.report);
    let visit =
        Visit::to(on_disk("size=200m"), &[&flags[..], &["--record-reserve", "5MB", "--record-keep", "30d"]].concat());
    assert!(visit.code == 0 && visit.says("recording", "ok", "at 691 MB an hour"), "{:#}", visit.report);
    assert!(visit.says("recording", "note", "--record-keep 30d takes up to 498 GB"), "{:#}", visit.report);
}

#[test]
fn low_limits_are_noted_with_the_lines_that_raise_them() {
    let capabilities = ["setpriv", "--bounding-set", "-sys_nice,-ipc_lock", "--inh-caps", "-sys_nice,-ipc_lock"];
    let limits = ["prlimit", "--rtprio=0", "--memlock=0", "--nofile=100"];
    let limited = command_behind(&[&capabilities[..], &limits[..]].concat());
    let visit = Visit::to(limited, &["--source", "tone:440"]);
    assert_eq!(visit.code, 0, "{:#}", visit.report);
    for (area, words) in [
        ("real time", "@audio - rtprio 50"),
        ("real time", "LimitRTPRIO=50"),
        ("real time", "@audio - memlock 65536"),
        ("real time", "LimitMEMLOCK=64M"),
        ("files", "LimitNOFILE=1400"),
    ] {
        assert!(visit.says(area, "note", words), "{words}: {:#}", visit.report);
    }
}

#[test]
fn a_wrong_setting_is_a_fault_and_the_machine_is_checked_nonetheless() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("aircheck.toml");
    std::fs::write(&file, "source = \"tone:440\"\nblok = \"10ms\"\n").unwrap();
    let visit = Visit::to(command(), &["--config", file.to_str().unwrap()]);
    assert!(visit.code == 1 && visit.says("settings", "fault", "aircheck.toml:2: "), "{:#}", visit.report);
    assert!(visit.says("address", "ok", "free") && visit.says("source", "note", "demo"), "{:#}", visit.report);
    let mut mistyped = command();
    mistyped.env("AIRCHECK_SORCE", "mic").env("AIRCHECK_SOURCE", "tone:440");
    let visit = Visit::to(mistyped, &[]);
    assert!(visit.code == 0 && visit.says("settings", "note", "did you mean AIRCHECK_SOURCE?"), "{:#}", visit.report);
    assert!(visit.says("settings", "ok", "from AIRCHECK_SOURCE, --listen"), "{:#}", visit.report);
}

/// A fault is what keeps the service from its start, and nothing else is.
#[test]
fn the_verdict_is_that_of_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(at("file"), "no sound").unwrap();
    let (missing, file, takes) = (format!("wav:{}", at("missing.wav")), at("file"), at("takes"));
    let (noise, lost) = (format!("wav:{file}"), format!("{missing}.wav"));
    let cases: [&[&str]; 7] = [
        &["--source", &missing],
        &["--source", &noise],
        &["--source", "tone:440", "--fallback", &lost],
        &["--source", "tone:440", "--record", &file],
        &["--source", "stdin", "--channels", "9", "--record", &takes, "--record-format", "flac"],
        &["--source", "tone:440", "--listen", "192.0.2.1:0", "--insecure-public"],
        &["--source", "tone:440", "--buffer", "1ms"],
    ];
    for flags in cases {
        let visit = Visit::to(command(), flags);
        let (code, stderr) = refused(flags);
        assert!(visit.code == 1 && code != 0, "{flags:?}: {code}, {stderr}{:#}", visit.report);
    }
    for flags in [&["--source", "tone:440", "--record", &takes][..], &["--source", "auto"], &["--source", "stdin"]] {
        let before = folder.path().read_dir().unwrap().count();
        assert_eq!(Visit::to(command(), flags).code, 0, "{flags:?}");
        assert_eq!(folder.path().read_dir().unwrap().count(), before, "a doctor records nothing");
        drop(Server::start_with(flags, |command| command.stdin(Stdio::piped())));
    }
}

#[test]
fn the_text_fits_a_terminal_and_ends_with_the_verdict() {
    let mut program = command();
    program.args(["doctor", "--source", "mic", "--listen", "127.0.0.1:0", "--max-listeners", "1000000"]);
    let output = program.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().all(|line| line.chars().count() <= 80 && line.trim_end() == line), "{text}");
    let words = ["ok     ", "note   ", "fault  ", "       "];
    let mut findings = text.lines().take_while(|line| !line.is_empty());
    assert!(findings.all(|line| words.iter().any(|word| line.starts_with(word))), "{text}");
    assert!(text.trim_end().lines().last().unwrap().starts_with("It cannot go on the air: 1 fault, "), "{text}");
    assert_eq!(output.status.code(), Some(1));
    assert!(!text.contains('\u{1b}'), "{text}");
}

#[test]
fn the_place_of_a_unix_socket_is_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| format!("unix:{}", folder.path().join(name).display());
    let visit = |listen: &str| Visit::to(command(), &["--source", "tone:440", "--listen", listen]);
    let free = visit(&at("http.sock"));
    assert!(free.code == 0 && free.says("address", "ok", "can be made, with the permissions 600"), "{:#}", free.report);
    assert!(!folder.path().join("http.sock").exists(), "nothing is made");
    drop(UnixListener::bind(folder.path().join("stale")).unwrap());
    let stale = visit(&at("stale"));
    assert!(stale.code == 0 && stale.says("address", "ok", "was left behind"), "{:#}", stale.report);
    std::fs::write(folder.path().join("file"), "").unwrap();
    let _other = UnixListener::bind(folder.path().join("taken")).unwrap();
    let server = Server::start_with(&["--source", "tone:440"], |it| it.args(["--listen", &at("aircheck")]));
    let long = "x".repeat(120);
    for (name, words) in [
        ("missing/http.sock", "there is no directory"),
        ("file", "another file is there, and no socket"),
        ("taken", "another program listens there"),
        ("aircheck", "an aircheck is on the air at unix:"),
        (&long, "has more than 107 bytes"),
    ] {
        let wrong = visit(&at(name));
        assert!(wrong.code == 1 && wrong.says("address", "fault", words), "{name}: {:#}", wrong.report);
        let (code, text) = refused(&["--source", "tone:440", "--listen", &at(name)]);
        assert!(code == 1 && text.contains("cannot listen on unix:") && text.lines().count() == 1, "{name}: {text}");
    }
    drop(server);
}

/// Writes a certificate of this validity, in days from today, and its key. Returns the flags for them.
fn certificate(folder: &Path, name: &str, from: i64, to: i64, issuer: Option<&str>) -> [String; 4] {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["radio.example".to_owned(), "192.0.2.7".to_owned()]).unwrap();
    let day = |day: i64| {
        let span = Duration::from_secs(day.unsigned_abs() * 86_400 + 3600);
        let now = SystemTime::now();
        if day < 0 { now - span } else { now + span }
    };
    (params.not_before, params.not_after) = (day(from).into(), day(to).into());
    let made = match issuer {
        None => params.self_signed(&key).unwrap(),
        Some(name) => {
            let issuer_key = rcgen::KeyPair::generate().unwrap();
            let mut issuer = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
            issuer.distinguished_name.push(rcgen::DnType::CommonName, name);
            params.signed_by(&key, &rcgen::Issuer::new(issuer, issuer_key)).unwrap()
        }
    };
    let (cert, key_file) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
    std::fs::write(&cert, made.pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    std::fs::set_permissions(&key_file, Permissions::from_mode(0o600)).unwrap();
    ["--tls-cert", cert.to_str().unwrap(), "--tls-key", key_file.to_str().unwrap()].map(str::to_owned)
}

#[test]
fn a_certificate_is_looked_at_as_clients_would() {
    let folder = tempfile::tempdir().unwrap();
    let visit = |flags: &[String]| {
        let flags: Vec<_> = flags.iter().map(String::as_str).collect();
        Visit::to(command(), &[&["--source", "tone:440"][..], &flags].concat())
    };
    let make = |name: &str, from, to| certificate(folder.path(), name, from, to, None);
    let good = make("good", -1, 90);
    let fine = visit(&good);
    assert!(fine.code == 0 && fine.texts("tls", "note").is_empty(), "{:#}", fine.report);
    assert!(fine.says("tls", "ok", "good.pem, for radio.example, 192.0.2.7, until "), "{:#}", fine.report);
    let named = |name: &str| visit(&[&good[..], &["--allow-host".to_owned(), name.to_owned()]].concat());
    assert!(named("radio.example").texts("tls", "note").is_empty());
    let other = named("other.example");
    assert!(other.says("tls", "note", "is not for other.example"), "{:#}", other.report);
    for (name, from, to, words) in
        [("past", -30, -2, "has ended on"), ("soon", -80, 5, "in 5 days"), ("future", 3, 90, "clients refuse it")]
    {
        let noted = visit(&make(name, from, to));
        assert!(noted.code == 0 && noted.says("tls", "note", words), "{name}: {:#}", noted.report);
    }
    let alone = visit(&certificate(folder.path(), "alone", -1, 90, Some("an issuer")));
    assert!(alone.says("tls", "note", "has no certificate of its issuer"), "{:#}", alone.report);
    std::fs::set_permissions(&good[3], Permissions::from_mode(0o644)).unwrap();
    assert!(visit(&good).says("tls", "note", "chmod o= "));
    // As at the start, these keep it from the air.
    let past = make("another", -1, 90);
    let mixed = [&good[..3], &past[3..]].concat();
    let mixed = visit(&mixed);
    assert!(mixed.code == 1 && mixed.says("tls", "fault", "does not belong to the certificate"), "{:#}", mixed.report);
    std::fs::remove_file(&past[3]).unwrap();
    let gone = visit(&past);
    assert!(gone.code == 1 && gone.says("tls", "fault", "cannot read tls_key"), "{:#}", gone.report);

    let own = folder.path().join("own");
    let mut program = command();
    program.env_remove("STATE_DIRECTORY").env("XDG_DATA_HOME", &own);
    let made = Visit::to(program, &["--source", "tone:440", "--tls-self-signed"]);
    assert!(made.code == 0 && made.says("tls", "ok", "is made at the start"), "{:#}", made.report);
    assert!(!own.exists(), "nothing is made");
}

#[test]
fn tokens_proxies_and_the_address_of_figures_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("aircheck.toml");
    let hash = format!("sha256:{}", "a".repeat(64));
    let text =
        format!("source = \"tone:440\"\n[[token]]\nname = \"kitchen\"\nhash = \"{hash}\"\nscopes = [\"listen\"]\n");
    std::fs::write(&file, text).unwrap();
    let visit = |flags: &[&str]| Visit::to(command(), &[&["--config", file.to_str().unwrap()], flags].concat());
    std::fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
    let private = visit(&["--trusted-proxy", "10.0.0.0/8"]);
    assert!(private.says("tokens", "ok", "kitchen (listen)"), "{:#}", private.report);
    assert!(private.texts("tokens", "note").is_empty(), "{:#}", private.report);
    assert!(private.says("proxies", "ok", "10.0.0.0/8: believed"), "{:#}", private.report);
    std::fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let open = visit(&["--trusted-proxy", "0.0.0.0/0"]);
    assert!(open.says("tokens", "note", "can sign URLs"), "{:#}", open.report);
    assert!(open.says("proxies", "note", "every client is believed"), "{:#}", open.report);

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let visit = visit(&["--admin-listen", &address]);
    assert!(visit.code == 1 && visit.says("address", "fault", "--admin-listen"), "{:#}", visit.report);
    drop(taken);
    let flags = ["--source", "tone:440", "--listen", &address, "--admin-listen", &address];
    let twice = Visit::to(command(), &flags);
    assert!(twice.code == 1 && twice.says("address", "fault", "is named twice"), "{:#}", twice.report);
    // Another program may take a port that was free a moment ago.
    common::eventually("a free port", || {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let free = Visit::to(command(), &["--source", "tone:440", "--admin-listen", &address]);
        free.says("address", "ok", "is free for figures and changes, for this machine").then_some(())
    });
}
