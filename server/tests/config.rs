//! The configuration from outside: the order of the layers, and the message of every mistake.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aircheck_engine::source::PcmEncoding;
use aircheck_engine::{Format, OverflowPolicy};
use aircheck_server::config::cli::{Command, Exit, parse};
use aircheck_server::config::{Config, LossPolicy, MountConfig, Setting, SourceSpec, settings};
use tempfile::TempDir;

/// A command line, an environment and a file, none of which are the process's own.
struct Setup {
    folder: TempDir,
    env: HashMap<String, OsString>,
}

impl Setup {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), env: HashMap::new() }
    }

    fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.insert(name.to_owned(), value.into());
        self
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("aircheck.toml")
    }

    fn file(self, text: impl AsRef<[u8]>) -> Self {
        std::fs::write(self.path(), text).expect("a file");
        self.with_config()
    }

    fn with_config(self) -> Self {
        let path = self.path();
        self.env("AIRCHECK_CONFIG", path)
    }

    fn parse(&self, args: &[&str]) -> Result<Command, Exit> {
        let args = ["aircheck"].iter().chain(args).map(OsString::from);
        parse(args, |name| self.env.get(name).cloned())
    }

    fn config(&self, args: &[&str]) -> Config {
        match self.parse(args) {
            Ok(Command::Serve(config, _)) => *config,
            other => panic!("{other:?}"),
        }
    }

    /// Returns the error's line, without the folder of the file.
    fn wrong(&self, args: &[&str]) -> String {
        match self.parse(args) {
            Err(Exit::Wrong(error)) => {
                let line = error.to_string();
                assert!(!line.contains('\n'), "{line}");
                line.replace(&format!("{}/", self.folder.path().display()), "").replace("AIRCHECK_CONFIG: ", "")
            }
            other => panic!("{args:?}: {other:?}"),
        }
    }
}

/// Returns the error's line for a file.
fn file_wrong(text: impl AsRef<[u8]>) -> String {
    Setup::new().file(text).wrong(&[])
}

#[test]
fn without_settings_the_defaults_run() {
    let config = Setup::new().config(&[]);
    assert_eq!(config, Config::default());
    assert!(settings().iter().map(|setting| setting.key.as_str()).eq(KEYS));
    let MountConfig { name, capture, delivery, recorder, .. } = config.first_mount();
    assert_eq!((&**name, config.mounts.len()), ("main", 1));
    assert_eq!(capture.source, SourceSpec::Auto);
    assert_eq!(capture.stdin_format(), (48_000, 2, PcmEncoding::S16Le));
    assert_eq!(capture.block, Duration::from_millis(10));
    assert_eq!(capture.history, Duration::from_secs(10));
    assert_eq!(delivery.buffer, Duration::from_secs(1));
    assert_eq!(delivery.overflow, OverflowPolicy::SkipToLive);
    assert_eq!(recorder.record, None);
    assert_eq!(config.http.listen, ["127.0.0.1:8700".parse().unwrap()]);
    assert_eq!(config.http.unix_mode, 0o600);
    assert_eq!(config.http.max_listeners, 1000);
    assert_eq!(config.http.max_connections_per_address, 64);
}

/// All keys, in the order in which they are listed.
const KEYS: [&str; EVERYTHING.len() + 2] = [
    "source",
    "loop",
    "rate",
    "channels",
    "sample",
    "pace",
    "block",
    "history",
    "on_source_loss",
    "fallback",
    "fallback_after",
    "wait_for_source",
    "hop_wait",
    "buffer",
    "overflow",
    "max_lag",
    "idle_timeout",
    "socket_buffer",
    "push",
    "record",
    "record_split",
    "record_align",
    "record_keep",
    "record_reserve",
    "record_format",
    "publish",
    "publish_format",
    "replay",
    "report",
    "report_as",
    "gather",
    "listen",
    "unix_mode",
    "tls_cert",
    "tls_key",
    "tls_self_signed",
    "insecure_public",
    "admin_listen",
    "max_listeners",
    "max_connections_per_address",
    "trusted_proxy",
    "allow_hosts",
    "allow_origins",
    "notify",
    "notify_form",
    "silence_after",
    "silence_level",
    "token",
    "mount",
];

/// Name in a file, environment variable, flag, and a value for each, in the file as TOML.
const EVERYTHING: [(&str, &str, &str, [&str; 3]); 47] = [
    ("source", "AIRCHECK_SOURCE", "--source", ["'stdin'", "mic", "mic:x"]),
    ("loop", "AIRCHECK_LOOP", "--loop", ["false", "0", "true"]),
    ("listen", "AIRCHECK_LISTEN", "--listen", ["'[::1]:1'", "localhost:0,unix:/x/y", "0.0.0.0:3"]),
    ("unix_mode", "AIRCHECK_UNIX_MODE", "--unix-mode", ["660", "0666", "600"]),
    ("tls_cert", "AIRCHECK_TLS_CERT", "--tls-cert", ["'a.pem'", "/b/c.pem", "d.pem"]),
    ("tls_key", "AIRCHECK_TLS_KEY", "--tls-key", ["'a.key'", "/b/c.key", "d.key"]),
    ("tls_self_signed", "AIRCHECK_TLS_SELF_SIGNED", "--tls-self-signed", ["false", "0", "true"]),
    ("insecure_public", "AIRCHECK_INSECURE_PUBLIC", "--insecure-public", ["true", "0", "true"]),
    ("admin_listen", "AIRCHECK_ADMIN_LISTEN", "--admin-listen", ["'off'", "localhost:1", "[::1]:2"]),
    ("block", "AIRCHECK_BLOCK", "--block", ["'2ms'", "3ms", "100ms"]),
    ("buffer", "AIRCHECK_BUFFER", "--buffer", ["'2s'", "3s", "1m"]),
    ("history", "AIRCHECK_HISTORY", "--history", ["'0s'", "3s", "10m"]),
    ("on_source_loss", "AIRCHECK_ON_SOURCE_LOSS", "--on-source-loss", ["'fallback'", "fallback", "fallback"]),
    ("fallback", "AIRCHECK_FALLBACK", "--fallback", ["'demo'", "tone:440", "wav:a b.wav"]),
    ("fallback_after", "AIRCHECK_FALLBACK_AFTER", "--fallback-after", ["'0s'", "1s", "60m"]),
    ("wait_for_source", "AIRCHECK_WAIT_FOR_SOURCE", "--wait-for-source", ["false", "1", "false"]),
    ("hop_wait", "AIRCHECK_HOP_WAIT", "--hop-wait", ["'1ms'", "30s", "off"]),
    ("overflow", "AIRCHECK_OVERFLOW", "--overflow", ["'latest'", "disconnect", "drop-newest"]),
    ("max_lag", "AIRCHECK_MAX_LAG", "--max-lag", ["'1s'", "10m", "off"]),
    ("idle_timeout", "AIRCHECK_IDLE_TIMEOUT", "--idle-timeout", ["'1s'", "60m", "off"]),
    ("socket_buffer", "AIRCHECK_SOCKET_BUFFER", "--socket-buffer", ["'10ms'", "1s", "10s"]),
    (
        "push",
        "AIRCHECK_PUSH",
        "--push",
        ["['icecast://a@h/x', 'icecast://a@h/y']", "icecast://a@h:1/x", "icecast://b:a@h/x.mp3"],
    ),
    ("max_listeners", "AIRCHECK_MAX_LISTENERS", "--max-listeners", ["0x10", "1", "1048576"]),
    (
        "max_connections_per_address",
        "AIRCHECK_MAX_CONNECTIONS_PER_ADDRESS",
        "--max-connections-per-address",
        ["65", "1", "100000"],
    ),
    ("trusted_proxy", "AIRCHECK_TRUSTED_PROXY", "--trusted-proxy", ["['10.0.0.0/8']", "::1, fd00::/8", "127.0.0.1"]),
    ("record", "AIRCHECK_RECORD", "--record", ["'takes'", "/tmp/takes", "off"]),
    ("record_split", "AIRCHECK_RECORD_SPLIT", "--record-split", ["'90m'", "500MB", "4GiB"]),
    ("record_align", "AIRCHECK_RECORD_ALIGN", "--record-align", ["false", "1", "true"]),
    ("record_keep", "AIRCHECK_RECORD_KEEP", "--record-keep", ["['30d', '2TB']", "1d,500GB", "90m"]),
    ("record_reserve", "AIRCHECK_RECORD_RESERVE", "--record-reserve", ["'5GiB'", "100MB", "off"]),
    ("record_format", "AIRCHECK_RECORD_FORMAT", "--record-format", ["'wav'", "flac", "wav"]),
    ("publish", "AIRCHECK_PUBLISH", "--publish", ["'nats://h:4222/a'", "tls://u:p@h:1/a.b?ca=/c.pem", "off"]),
    ("publish_format", "AIRCHECK_PUBLISH_FORMAT", "--publish-format", ["'opus'", "opus:128k", "exact"]),
    ("replay", "AIRCHECK_REPLAY", "--replay", ["'1s'", "1h", "off"]),
    ("report", "AIRCHECK_REPORT", "--report", ["'nats://h:4222/a'", "tls://u:p@h:1/a.b", "nats://h:1/c"]),
    ("report_as", "AIRCHECK_REPORT_AS", "--report-as", ["'a'", "b_2", "c-3"]),
    ("gather", "AIRCHECK_GATHER", "--gather", ["'nats://h:4222/a'", "tls://u:p@h:1/a.b", "off"]),
    ("rate", "AIRCHECK_RATE", "--rate", ["1_000", "1", "768000"]),
    ("channels", "AIRCHECK_CHANNELS", "--channels", ["3", "1", "32"]),
    ("sample", "AIRCHECK_SAMPLE", "--sample", ["'s16le'", "s24le", "f32le"]),
    ("pace", "AIRCHECK_PACE", "--pace", ["'source'", "clock", "source"]),
    ("allow_hosts", "AIRCHECK_ALLOW_HOST", "--allow-host", ["['a', 'b.example']", "c, D", "e"]),
    ("allow_origins", "AIRCHECK_ALLOW_ORIGIN", "--allow-origin", ["['http://a']", "http://b,http://c:81", "https://d"]),
    ("notify", "AIRCHECK_NOTIFY", "--notify", ["['http://a/x', 'http://b']", "http://c:81/y,http://d", "https://e"]),
    ("notify_form", "AIRCHECK_NOTIFY_FORM", "--notify-form", ["'slack'", "ntfy", "json"]),
    ("silence_after", "AIRCHECK_SILENCE_AFTER", "--silence-after", ["'1s'", "5m", "60m"]),
    ("silence_level", "AIRCHECK_SILENCE_LEVEL", "--silence-level", ["'-50dBFS'", "-6dB", "-120dBFS"]),
];

/// Shows one setting of a configuration.
fn value(config: &Config, name: &str) -> String {
    let Config { http, audience, notify, .. } = config;
    let MountConfig { capture, delivery, recorder, publish, silence, .. } = config.first_mount();
    match name {
        "source" => capture.source.to_string(),
        "loop" => capture.looped.to_string(),
        "listen" => http.listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        "unix_mode" => format!("{:o}", http.unix_mode),
        "tls_cert" => http.tls_cert.as_ref().map_or("off".to_owned(), |path| path.display().to_string()),
        "tls_key" => http.tls_key.as_ref().map_or("off".to_owned(), |path| path.display().to_string()),
        "tls_self_signed" => http.tls_self_signed.to_string(),
        "insecure_public" => http.insecure_public.to_string(),
        "admin_listen" => http.admin_listen.map_or("off".to_owned(), |address| address.to_string()),
        "block" => format!("{:?}", capture.block),
        "buffer" => format!("{:?}", delivery.buffer),
        "history" => format!("{:?}", capture.history),
        "on_source_loss" => capture.on_source_loss.to_string(),
        "fallback" => capture.fallback.as_ref().map_or("off".to_owned(), |fallback| fallback.to_string()),
        "fallback_after" => format!("{:?}", capture.fallback_after),
        "wait_for_source" => capture.wait_for_source.to_string(),
        "overflow" => delivery.overflow.to_string(),
        "max_lag" => delivery.max_lag.map_or("off".to_owned(), |max_lag| format!("{:?}", max_lag)),
        "idle_timeout" => delivery.idle_timeout.map_or("off".to_owned(), |timeout| format!("{:?}", timeout)),
        "socket_buffer" => format!("{:?}", delivery.socket_buffer),
        "push" => delivery.push.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        "max_listeners" => http.max_listeners.to_string(),
        "max_connections_per_address" => http.max_connections_per_address.to_string(),
        "record" => recorder.record.as_ref().map_or("off".to_owned(), |path| path.display().to_string()),
        "record_split" => recorder.record_split.to_string(),
        "record_align" => recorder.record_align.to_string(),
        "record_keep" => recorder.record_keep.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        "record_reserve" => recorder.record_reserve.map_or("off".to_owned(), |size| size.to_string()),
        "record_format" => recorder.record_format.name().to_owned(),
        "publish" => publish.publish.as_ref().map_or("off".to_owned(), ToString::to_string),
        "publish_format" => publish.publish_format.to_string(),
        "replay" => publish.replay.map_or("off".to_owned(), |span| format!("{span:?}")),
        "hop_wait" => capture.hop_wait.map_or("off".to_owned(), |span| format!("{span:?}")),
        "report" => audience.report.as_ref().map_or("off".to_owned(), ToString::to_string),
        "report_as" => audience.name(),
        "gather" => audience.gather.as_ref().map_or("off".to_owned(), ToString::to_string),
        "rate" => format!("{:?}", capture.rate_hz),
        "channels" => format!("{:?}", capture.channels),
        "sample" => capture.sample.label().to_owned(),
        "pace" => capture.pace.to_string(),
        "trusted_proxy" => http.trusted_proxies.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        "allow_hosts" => http.allow_hosts.join(" "),
        "allow_origins" => http.allow_origins.join(" "),
        "notify" => notify.targets.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        "notify_form" => notify.form.to_string(),
        "silence_after" => format!("{:?}", silence.silence_after),
        "silence_level" => silence.silence_level.to_string(),
        _ => panic!("{name}"),
    }
}

#[test]
fn a_variable_beats_the_file_and_a_flag_beats_both() {
    let read = [
        ["stdin", "mic", "mic:x"],
        ["false", "false", "true"],
        ["[::1]:1", "127.0.0.1:0 unix:/x/y", "0.0.0.0:3"],
        ["660", "666", "600"],
        ["a.pem", "/b/c.pem", "d.pem"],
        ["a.key", "/b/c.key", "d.key"],
        ["false", "false", "true"],
        ["true", "false", "true"],
        ["off", "127.0.0.1:1", "[::1]:2"],
        ["2ms", "3ms", "100ms"],
        ["2s", "3s", "60s"],
        ["0ns", "3s", "600s"],
        ["fallback", "fallback", "fallback"],
        ["demo", "tone:440", "wav:a b.wav"],
        ["0ns", "1s", "3600s"],
        ["false", "true", "false"],
        ["1ms", "30s", "off"],
        ["latest", "disconnect", "drop-newest"],
        ["1s", "600s", "off"],
        ["1s", "3600s", "off"],
        ["10ms", "1s", "10s"],
        ["icecast://h:8000/x icecast://h:8000/y", "icecast://h:1/x", "icecast://h:8000/x.mp3"],
        ["16", "1", "1048576"],
        ["65", "1", "100000"],
        ["10.0.0.0/8", "::1/128 fd00::/8", "127.0.0.1/32"],
        ["takes", "/tmp/takes", "off"],
        ["90m", "500MB", "4GiB"],
        ["false", "true", "true"],
        ["30d 2TB", "1d 500GB", "90m"],
        ["5GiB", "100MB", "off"],
        ["wav", "flac", "wav"],
        ["nats://h:4222/a", "tls://h:1/a.b", "off"],
        ["opus:96k", "opus:128k", "exact"],
        ["1s", "3600s", "off"],
        ["nats://h:4222/a", "tls://h:1/a.b", "nats://h:1/c"],
        ["a", "b_2", "c-3"],
        ["nats://h:4222/a", "tls://h:1/a.b", "off"],
        ["Some(1000)", "Some(1)", "Some(768000)"],
        ["Some(3)", "Some(1)", "Some(32)"],
        ["s16le", "s24le", "f32le"],
        ["source", "clock", "source"],
        ["a b.example", "c d", "e"],
        ["http://a", "http://b http://c:81", "https://d"],
        ["a b", "c:81 d", "e"],
        ["slack", "ntfy", "json"],
        ["1s", "300s", "3600s"],
        ["-50dBFS", "-6dBFS", "-120dBFS"],
    ];
    for ((name, variable, flag, [toml, env, arg]), read) in EVERYTHING.into_iter().zip(read) {
        // A line that gives the setting an effect.
        let source = match name {
            "source" => "",
            "loop" => "source = 'wav:a.wav'\n",
            name if name.starts_with("record_") => "record = 'takes'\n",
            "on_source_loss" | "fallback_after" => "fallback = 'demo'\n",
            "wait_for_source" => "source = 'mic'\n",
            "hop_wait" => "source = 'nats://h:1/s'\n",
            "replay" | "publish_format" => "source = 'stdin'\npublish = 'nats://h:1/s'\n",
            "listen" => "source = 'stdin'\ninsecure_public = true\n",
            "tls_cert" => "tls_key = 'k'\n",
            "tls_key" => "tls_cert = 'c'\n",
            "notify_form" | "silence_after" | "silence_level" => "notify = ['http://a']\n",
            "report_as" => "report = 'nats://h:1/a'\n",
            _ => "source = 'stdin'\n",
        };
        let arg = format!("{flag}={arg}");
        let file = Setup::new().file(format!("{source}{name} = {toml}\n"));
        assert_eq!(value(&file.config(&[]), name), read[0], "{name} from the file");
        assert_eq!(value(&file.config(&[&arg]), name), read[2], "{name}: flag over file");
        let both = file.env(variable, env);
        assert_eq!(value(&both.config(&[]), name), read[1], "{name}: variable over file");
        assert_eq!(value(&both.config(&[&arg]), name), read[2], "{name}: flag over variable");
    }
}

#[test]
fn a_layer_changes_only_the_settings_that_it_names() {
    let setup = Setup::new().file("block = '5ms'\nhistory = '1s'\n").env("AIRCHECK_HISTORY", "2s");
    let config = setup.config(&["--max-listeners", "7"]);
    let mut expected = Config::default();
    expected.mounts[0].capture.block = Duration::from_millis(5);
    expected.mounts[0].capture.history = Duration::from_secs(2);
    expected.http.max_listeners = 7;
    let of_mount = |config: &Config| {
        let [mount] = &config.mounts[..] else { panic!("{} mounts", config.mounts.len()) };
        let MountConfig { capture, delivery, recorder, publish, silence, .. } = mount.clone();
        (capture, delivery, recorder, publish, silence)
    };
    assert_eq!(of_mount(&config), of_mount(&expected));
    assert_eq!((config.http, config.notify, config.tokens), (expected.http, expected.notify, expected.tokens));
}

#[test]
fn a_mistake_that_a_later_layer_hides_is_reported() {
    let setup = Setup::new().file("block = '5s'\n");
    assert_eq!(setup.wrong(&["--block=5ms"]), "aircheck.toml:1: `block` must be from 1ms to 100ms, not 5s");
    let setup = Setup::new().env("AIRCHECK_MAX_LISTENERS", "0");
    let line = "AIRCHECK_MAX_LISTENERS must be a number from 1 to 1048576, not `0`";
    assert_eq!(setup.wrong(&["--max-listeners=5"]), line);
}

#[test]
fn the_flag_names_another_file_than_the_variable() {
    let setup = Setup::new().file("block = '5ms'\n");
    let other = setup.folder.path().join("other.toml");
    std::fs::write(&other, "\u{feff}block = '7ms'\r\n").unwrap();
    assert_eq!(
        setup.config(&["--config", other.to_str().unwrap()]).first_mount().capture.block,
        Duration::from_millis(7)
    );
}

#[test]
fn an_empty_variable_is_not_set() {
    let setup = Setup::new().env("AIRCHECK_BLOCK", "").env("AIRCHECK_CONFIG", "");
    assert_eq!(setup.config(&[]), Config::default());
}

#[test]
fn flags_that_repeat_make_a_list() {
    let config = Setup::new().env("AIRCHECK_ALLOW_HOST", "z").config(&["--allow-host", "a", "--allow-host", "B.c"]);
    assert_eq!(config.http.allow_hosts, ["a", "b.c"]);
}

#[test]
fn loop_can_be_switched_off_again() {
    let setup = Setup::new().file("source = 'wav:a'\nloop = true\n");
    assert!(setup.config(&[]).first_mount().capture.looped);
    assert!(!setup.config(&["--loop=false"]).first_mount().capture.looped);
    assert!(setup.env("AIRCHECK_LOOP", "off").config(&["--loop"]).first_mount().capture.looped);
}

#[test]
fn a_fallback_goes_only_with_its_policy() {
    let setup = Setup::new();
    assert_eq!(setup.config(&["--fallback", "demo"]).first_mount().capture.on_source_loss, LossPolicy::Silence);
    setup.config(&["--fallback", "demo", "--on-source-loss", "fallback"]);
    for policy in ["silence", "end"] {
        let line = setup.wrong(&["--fallback", "demo", "--on-source-loss", policy]);
        assert_eq!(line, format!("--fallback goes only with on_source_loss = \"fallback\", not with {policy}"));
    }
    let line = setup.wrong(&["--source", "tone:440", "--wait-for-source"]);
    assert_eq!(line, "--wait-for-source goes only with the source mic, auto or nats://…, not with tone:440");
}

#[test]
fn a_device_may_be_asked_for_a_rate() {
    for source in ["auto", "mic", "mic:x", "stdin"] {
        let config = Setup::new().config(&["--source", source, "--rate", "44100", "--channels", "1"]);
        let capture = &config.first_mount().capture;
        assert_eq!((capture.rate_hz, capture.channels), (Some(44_100), Some(1)), "{source}");
    }
}

const SPLIT: &str = "a length such as \"1h\" or a size such as \"500MB\"";
const DURATION: &str = "a duration such as \"10ms\"";
const LISTEN: &str = "ADDR:PORT such as 127.0.0.1:8700, [::1]:8700 or localhost:8700, or unix:PATH";
const SOURCE: &str = "auto, mic, mic:NAME, wav:PATH, file:PATH, tone:HZ, stdin, put or nats://HOST:PORT/SUBJECT";
const NATS: &str = "must be nats://[USER:PASSWORD@]HOST:PORT/SUBJECT or tls://…, with a port, further ,HOST:PORT where there is a \
                    cluster, a subject without wildcards, and at most ?credentials=FILE and ?ca=FILE";
const POLICY: &str = "skip-to-live, drop-newest, latest or disconnect";
const HOSTS: &str = "host names such as radio.example, without scheme or port";
const NETWORKS: &str = "networks or addresses such as 10.0.0.0/8, 127.0.0.1 or fd00::/8";
const ORIGINS: &str = "origins such as https://radio.example or http://localhost:3000, without a path";

const NOT_A_URL: &str =
    "must be a URL such as https://hooks.example/aircheck (it is not shown here, because it may be a secret)";

/// Key, value, and what follows the name of the setting in the message.
fn values_that_are_wrong() -> Vec<(&'static str, &'static str, String)> {
    let not = |takes: &str, value: &str| format!("must be {takes}, not `{value}`");
    let mut wrong = vec![
        ("source", "radio", not(SOURCE, "radio")),
        ("source", "", not(SOURCE, "")),
        ("source", "a\nb", not(SOURCE, "a\\nb")),
        ("source", "tone:0", not("tone:HZ with a number above 0 and at most 20000", "tone:0")),
        ("source", "nats://u:s3cret@h/live", NATS.to_owned()),
        ("publish", "nats://u:s3cret@h:4222/a.*", NATS.to_owned()),
        ("publish", "radio", NATS.to_owned()),
        ("publish_format", "mp3", not("exact, opus, or opus with a bitrate such as opus:128k", "mp3")),
        ("publish_format", "opus:1k", "must have a bitrate from 6k to 510k, not 1k".to_owned()),
        ("publish_format", "opus", "goes only with a subject to publish on: set --publish".to_owned()),
        ("report", "nats://u:s3cret@h/live", NATS.to_owned()),
        ("gather", "nats://u:s3cret@h:4222/a.*", NATS.to_owned()),
        ("report_as", "berlin", "goes only with a subject to report on: set --report".to_owned()),
        ("report_as", "ber.lin", not("up to 32 letters, digits, hyphens and underscores", "ber.lin")),
        ("report_as", "", not("up to 32 letters, digits, hyphens and underscores", "")),
        ("loop", "maybe", not("true or false", "maybe")),
        ("block", "999us", "must be from 1ms to 100ms, not 999us".to_owned()),
        ("block", "101ms", "must be from 1ms to 100ms, not 101ms".to_owned()),
        ("buffer", "61s", "must be from 1ms to 1m, not 61s".to_owned()),
        ("buffer", "9ms", "must be at least one block of 10ms, not 9ms".to_owned()),
        ("history", "601s", "must be from 0s to 10m, not 601s".to_owned()),
        ("on_source_loss", "music", not("silence, fallback or end", "music")),
        ("on_source_loss", "fallback", "needs a sound to play: set --fallback".to_owned()),
        ("fallback", "radio", not("wav:PATH, tone:HZ or demo, or off", "radio")),
        ("fallback", "mic", not("wav:PATH, tone:HZ or demo, or off", "mic")),
        ("fallback", "wav:", not("wav:PATH with a path", "wav:")),
        ("fallback", "tone:0", not("tone:HZ with a number above 0 and at most 20000", "tone:0")),
        ("fallback_after", "61m", "must be from 0s to 60m, not 61m".to_owned()),
        ("fallback_after", "1s", "goes only with a sound to play: set --fallback".to_owned()),
        ("wait_for_source", "maybe", not("true or false", "maybe")),
        ("overflow", "wait", not(POLICY, "wait")),
        ("overflow", "block", not(POLICY, "block") + ": live sound does not wait for a listener"),
        ("max_lag", "39ms", "must be at least 4 blocks, 40ms, not 39ms".to_owned()),
        ("max_lag", "11m", "must be from 1ms to 10m, not 11m".to_owned()),
        ("max_lag", "never", not("a duration such as \"10ms\", or off", "never")),
        ("idle_timeout", "999ms", "must be from 1s to 60m, not 999ms".to_owned()),
        ("idle_timeout", "never", not("a duration such as \"10ms\", or off", "never")),
        ("socket_buffer", "9ms", "must be from 10ms to 10s, not 9ms".to_owned()),
        ("record", "", not("a directory, or off", "")),
        ("record_split", "999ms", "must be from 1s to 24h, not 999ms".to_owned()),
        (
            "record_keep",
            "0d",
            "must be at least 1s or 1MB, not 0d (to record nothing, leave --record out; to keep all, leave --record-keep out)"
                .to_owned(),
        ),
        ("record_split", "25h", "must be from 1s to 24h, not 25h".to_owned()),
        ("record_split", "999kB", "must be from 1MB to 4GiB, not 999kB".to_owned()),
        ("record_split", "5GB", "must be from 1MB to 4GiB, not 5GB".to_owned()),
        ("record_split", "1h", "goes only with a directory to record to: set --record".to_owned()),
        ("notify_form", "xml", not("json, ntfy or slack", "xml")),
        ("notify_form", "slack", "goes only with a URL to post to: set --notify".to_owned()),
        ("silence_after", "999ms", "must be from 1s to 60m, not 999ms".to_owned()),
        ("silence_level", "-60", not("a level such as -60dBFS", "-60")),
        ("silence_level", "NaNdBFS", "must be from -120dBFS to -6dBFS, not NaNdBFS".to_owned()),
        ("silence_level", "-5dBFS", "must be from -120dBFS to -6dBFS, not -5dBFS".to_owned()),
        // No message shows the URL.
        ("notify", "ftp://h/secret", "must begin with http:// or https://".to_owned()),
        ("notify", "hooks.example/secret", NOT_A_URL.to_owned()),
        ("notify", "http://h:0/secret", "must have a port from 1 to 65535, or none".to_owned()),
        ("sample", "s32le", not("s16le, s24le or f32le", "s32le")),
        ("pace", "mine", not("source or clock", "mine")),
        ("pace", "clock", "goes only with the source stdin, not with auto".to_owned()),
        ("sample", "s16le", "goes only with the source stdin, not with auto".to_owned()),
        ("loop", "true", "goes only with the source wav:PATH or file:PATH, not with auto".to_owned()),
    ];
    for key in ["block", "buffer", "history", "socket_buffer"] {
        for value in ["10", "-1s", "soon"] {
            wrong.push((key, value, not(DURATION, value)));
        }
    }
    for value in ["500", "500M", "1.5GB", "-1MB", "MB", "99999999999999999999GB", "soon"] {
        wrong.push(("record_split", value, not(SPLIT, value)));
    }
    for value in [":8700", "8700", "127.0.0.1", "::1:8700", "radio.example:8700", "localhost:x", "1.2.3.4:70000"] {
        wrong.push(("listen", value, not(LISTEN, value)));
    }
    for (key, takes, most) in [
        ("max_listeners", "a number from 1 to 1048576", "1048577"),
        ("max_connections_per_address", "a number from 1 to 100000", "100001"),
        ("rate", "a number of Hz from 1 to 768000", "768001"),
        ("channels", "a number from 1 to 32", "33"),
    ] {
        for value in ["0", "-5", "1.5", "many", most, "99999999999999999999"] {
            wrong.push((key, value, not(takes, value)));
        }
    }
    for value in ["10.0.0.0/33", "10.0.0/8", "localhost", "127.0.0.1:80"] {
        wrong.push(("trusted_proxy", value, not(NETWORKS, value)));
    }
    for value in ["http://a", "a:80", "a/b", "*", "*.a", ".a", "ü.example"] {
        wrong.push(("allow_hosts", value, not(HOSTS, value)));
    }
    for value in ["*", "null", "radio.example", "https://radio.example/", "https://*.example"] {
        wrong.push(("allow_origins", value, not(ORIGINS, value)));
    }
    wrong
}

#[test]
fn every_wrong_value_of_a_flag_names_the_flag() {
    for (name, value, line) in values_that_are_wrong() {
        let (_, _, flag, _) = EVERYTHING.into_iter().find(|entry| entry.0 == name).unwrap();
        assert_eq!(Setup::new().wrong(&[&format!("{flag}={value}")]), format!("{flag} {line}"));
    }
}

#[test]
fn every_wrong_value_of_a_variable_names_the_variable() {
    for (name, value, line) in values_that_are_wrong().into_iter().filter(|(_, value, _)| !value.is_empty()) {
        let (_, variable, ..) = EVERYTHING.into_iter().find(|entry| entry.0 == name).unwrap();
        assert_eq!(Setup::new().env(variable, value).wrong(&[]), format!("{variable} {line}"));
    }
}

#[test]
fn every_wrong_value_of_a_key_names_the_file_the_line_and_the_key() {
    for (name, value, line) in values_that_are_wrong() {
        let toml = match name {
            "loop" if value == "true" => value.to_owned(),
            "loop" | "wait_for_source" => continue,
            "max_listeners" | "max_connections_per_address" | "rate" | "channels" => match value.parse::<i64>() {
                Ok(_) => value.to_owned(),
                Err(_) => continue,
            },
            "trusted_proxy" | "allow_hosts" | "allow_origins" | "notify" | "record_keep" => format!("[{value:?}]"),
            _ => format!("{value:?}"),
        };
        let text = format!("# A comment.\n\n{name} = {toml}\n");
        assert_eq!(file_wrong(text), format!("aircheck.toml:3: `{name}` {line}"));
    }
}

#[test]
fn a_setting_without_effect_on_the_source_is_refused() {
    let cases: [(&[&str], &str); 5] = [
        (
            &["--source=tone:440", "--rate=44100"],
            "--rate goes only with the source stdin, mic, auto or put, not with tone:440",
        ),
        (
            &["--source=wav:a", "--channels=1"],
            "--channels goes only with the source stdin, mic, auto or put, not with wav:a",
        ),
        (&["--source=mic", "--sample=s16le"], "--sample goes only with the source stdin, not with mic"),
        (&["--source=stdin", "--loop"], "--loop goes only with the source wav:PATH or file:PATH, not with stdin"),
        (&["--block=100ms", "--buffer=99ms"], "--buffer must be at least one block of 100ms, not 99ms"),
    ];
    for (args, line) in cases {
        assert_eq!(Setup::new().wrong(args), line);
    }
    // The message names the layer that the setting comes from.
    let setup = Setup::new().file("\nsample = 'f32le'\n").env("AIRCHECK_SOURCE", "mic");
    assert_eq!(setup.wrong(&[]), "aircheck.toml:2: `sample` goes only with the source stdin, not with mic");
}

#[test]
fn every_wrong_type_in_a_file_is_reported() {
    let cases = [
        ("block = 10", format!("`block` must be {DURATION}, not an integer")),
        ("block = 0.5", format!("`block` must be {DURATION}, not a float")),
        ("source = true", format!("`source` must be {SOURCE}, not a boolean")),
        ("source = ['mic']", format!("`source` must be {SOURCE}, not a list")),
        ("listen = 8700", format!("`listen` must be {LISTEN}, not an integer")),
        ("listen = { port = 1 }", format!("`listen` must be {LISTEN}, not a table")),
        ("history = 00:10:00", format!("`history` must be {DURATION}, not a date or time")),
        ("rate = 99999999999999999999", "`rate` is too large a number".to_owned()),
        ("loop = 'yes'", "`loop` must be true or false, not a string".to_owned()),
        ("rate = '48000'", "`rate` must be a number of Hz from 1 to 768000, not a string".to_owned()),
        ("channels = 2.0", "`channels` must be a number from 1 to 32, not a float".to_owned()),
        ("allow_hosts = 'a'", format!("`allow_hosts` must be a list of {HOSTS}, not a string")),
        ("allow_hosts = ['a', 1]", format!("`allow_hosts` must be {HOSTS}, not an integer")),
        ("[block]\nms = 10", format!("`block` must be {DURATION}, not a table")),
    ];
    for (text, line) in cases {
        assert_eq!(file_wrong(format!("# Mine\n{text}\n")), format!("aircheck.toml:2: {line}"));
    }
}

#[test]
fn every_unknown_key_is_reported_with_its_line() {
    let all = KEYS.join(", ");
    let cases = [
        ("lissten = 1", 1, "unknown key `lissten`; did you mean `listen`?".to_owned()),
        ("litsen = 1", 1, "unknown key `litsen`; did you mean `listen`?".to_owned()),
        ("rat = 1", 1, "unknown key `rat`; did you mean `rate`?".to_owned()),
        ("volume = 1", 1, format!("unknown key `volume`; there are {all}")),
        (
            "block = '5ms'\n\nmax-listeners = 3",
            3,
            "unknown key `max-listeners`; did you mean `max_listeners`?".to_owned(),
        ),
        ("[server]\nlisten = 'x'", 1, format!("unknown key `server`; there are {all}")),
        ("block = '5ms'\n\nserver.port = 1", 3, format!("unknown key `server`; there are {all}")),
        ("\"a\\nb\" = 1", 1, format!("unknown key `a\\nb`; there are {all}")),
        // The first in the file, not in the alphabet.
        ("zz = 1\naa = 1", 1, format!("unknown key `zz`; there are {all}")),
    ];
    for (text, at, line) in cases {
        assert_eq!(file_wrong(text), format!("aircheck.toml:{at}: {line}"));
    }
}

#[test]
fn invalid_toml_is_reported_with_its_line() {
    for (text, at) in
        [("block = ", 1), ("\nblock", 2), ("block = '1s'\nblock = '2s'\n", 2), ("\n\n= 1", 3), ("a = 'x", 1)]
    {
        let line = file_wrong(text);
        let start = format!("aircheck.toml:{at}: not TOML: ");
        assert!(line.starts_with(&start) && line.len() > start.len(), "{text:?}: {line}");
    }
}

#[test]
fn an_unreadable_file_is_reported_with_the_reason() {
    let missing = "cannot read aircheck.toml: No such file or directory (os error 2)";
    assert_eq!(Setup::new().with_config().wrong(&[]), missing);
    let setup = Setup::new();
    let path = setup.path();
    assert_eq!(setup.wrong(&["--config", path.to_str().unwrap()]), missing);
    assert_eq!(setup.wrong(&["check-config", path.to_str().unwrap()]), missing);
    std::fs::create_dir(&path).unwrap();
    let folder = "cannot read aircheck.toml: Is a directory (os error 21)";
    assert_eq!(setup.wrong(&["check-config", path.to_str().unwrap()]), folder);
    assert_eq!(file_wrong(b"block = '\xff'"), "cannot read aircheck.toml: stream did not contain valid UTF-8");
    assert_eq!(file_wrong("#".repeat((1 << 20) + 1)), "cannot read aircheck.toml: larger than 1 MiB");
    let zero = Setup::new().wrong(&["--config", "/dev/zero"]);
    assert_eq!(zero, "cannot read /dev/zero: larger than 1 MiB");
}

#[test]
fn a_missing_file_is_reported_with_the_variable_that_names_it() {
    let setup = Setup::new().env("AIRCHECK_CONFIG", "/nowhere/a.toml");
    let Err(Exit::Wrong(error)) = setup.parse(&[]) else { panic!() };
    let line = "AIRCHECK_CONFIG: cannot read /nowhere/a.toml: No such file or directory (os error 2)";
    assert_eq!(error.to_string(), line);
}

#[cfg(unix)]
#[test]
fn text_that_is_not_utf8_is_refused() {
    use std::os::unix::ffi::OsStringExt as _;
    let text = OsString::from_vec(vec![b'a', 0xff]);
    assert_eq!(Setup::new().env("AIRCHECK_SOURCE", text.clone()).wrong(&[]), "AIRCHECK_SOURCE must be UTF-8 text");
    let Err(Exit::Wrong(error)) = parse(["aircheck".into(), "--source".into(), text], |_| None) else { panic!() };
    assert_eq!(error.to_string(), "--source must be UTF-8 text");
}

#[test]
fn a_wrong_command_line_is_one_line() {
    let cases: [(&[&str], &str); 19] = [
        (&["--lissten", "x"], "unknown flag `--lissten`; did you mean `--listen`?"),
        (&["--lissten=x"], "unknown flag `--lissten`; did you mean `--listen`?"),
        (&["-x"], "unknown flag `-x`; see --help"),
        (&["--listen"], "--listen needs a value; see --help"),
        (&["--listen", "--loop"], "--listen needs a value; see --help"),
        (&["--admin-listen=[::1]:1", "--admin-listen=[::1]:1"], "--admin-listen is given more than once; see --help"),
        (&["--loop", "--loop"], "--loop is given more than once; see --help"),
        (&["--loop", "true"], "unknown argument `true`; see --help"),
        (&["--source", "mic", "x"], "unknown argument `x`; see --help"),
        (&["serve"], "unknown command `serve`; see --help"),
        (&["device"], "unknown command `device`; did you mean `devices`?"),
        (&["--source", "mic", "devices"], "--source does not go with the command `devices`; see --help"),
        (&["devices", "--jsn"], "unknown flag `--jsn`; did you mean `--json`?"),
        (&["devices", "--listen=x"], "unknown flag `--listen`; see --help"),
        (&["devices", "x"], "unknown argument `x`; see --help"),
        (&["check-config"], "check-config needs a FILE; see --help"),
        (&["check-config", "a", "b"], "unknown argument `b`; see --help"),
        (&["devices", "--json=1"], "--json takes no value; see --help"),
        (&["--rate", "-5"], "--rate must be a number of Hz from 1 to 768000, not `-5`"),
    ];
    for (args, line) in cases {
        assert_eq!(Setup::new().wrong(args), line, "{args:?}");
    }
}

#[test]
fn devices_are_listed_whatever_the_environment() {
    let setup = Setup::new().env("AIRCHECK_BLOCK", "x");
    assert!(matches!(setup.parse(&["devices"]), Ok(Command::Devices { json: false })));
    assert!(matches!(setup.parse(&["devices", "--json"]), Ok(Command::Devices { json: true })));
}

#[test]
fn a_doctor_takes_the_settings_of_the_service_right_or_wrong() {
    let setup = Setup::new().file("buffer = \"2s\"\n").with_config().env("AIRCHECK_SOURCE", "tone:440");
    let doctor = |args: &[&str]| match setup.parse(&[&["doctor"], args].concat()) {
        Ok(Command::Doctor { given, json }) => (given, json),
        other => panic!("{other:?}"),
    };
    let (given, json) = doctor(&["--json", "--block", "5ms"]);
    assert_eq!(setup.config(&["--block", "5ms"]), given.config.unwrap());
    assert!(json);
    assert_eq!(given.places, ["AIRCHECK_SOURCE", "--block", "line 1"]);
    let (given, json) = doctor(&["--block", "5s"]);
    assert!(given.config.unwrap_err().to_string().starts_with("--block must be"));
    assert!(!json);
    assert_eq!(setup.wrong(&["doctor", "--lissten=x"]), "unknown flag `--lissten`; did you mean `--listen`?");
    assert_eq!(
        setup.wrong(&["--source", "mic", "doctor"]),
        "--source goes behind the command: `aircheck doctor --source`; see --help"
    );
    let Err(Exit::Help(help)) = setup.parse(&["doctor", "--help"]) else { panic!() };
    let help = help.to_string();
    assert!(help.starts_with("Check whether") && help.contains("--json") && help.lines().count() < 15, "{help}");
}

#[test]
fn help_and_version_are_no_errors() {
    for args in [["--help"], ["-h"], ["--version"], ["-V"]] {
        assert!(matches!(Setup::new().parse(&args), Err(Exit::Help(_))), "{args:?}");
    }
    assert!(matches!(Setup::new().parse(&["devices", "--help"]), Err(Exit::Help(_))));
}

#[test]
fn help_fits_100_columns_and_lists_every_flag_variable_and_default() {
    let Err(Exit::Help(help)) = Setup::new().parse(&["--help"]) else { panic!() };
    let help = help.to_string();
    for line in help.lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
    let config = Config::default();
    for (name, variable, flag, _) in EVERYTHING {
        let entry = help.split("\n      --").find(|entry| entry.starts_with(&flag[2..])).unwrap();
        assert!(entry.contains(&format!("[env: {variable}")), "{entry}");
        let default = match name {
            "rate" => "(48000 if not given)".to_owned(),
            "channels" => "(2 if not given)".to_owned(),
            "trusted_proxy" | "allow_hosts" | "allow_origins" | "notify" | "record_keep" | "push" => continue,
            "report_as" => "that of the machine if not given".to_owned(),
            name => format!("[default: {}]", value(&config, name)),
        };
        assert!(entry.contains(&default), "{entry}");
    }
    assert!(help.contains("[env: AIRCHECK_CONFIG]"), "{help}");
}

#[test]
fn help_states_the_bounds_that_are_checked() {
    for (setting, wrong) in settings().iter().flat_map(|setting| {
        let wrong: &[&str] = match setting.key.as_str() {
            "record_split" => &["25h", "5GiB"],
            "block" | "history" | "fallback_after" | "socket_buffer" => &["61m"],
            "silence_after" => &["61m"],
            "silence_level" => &["0dBFS"],
            "max_listeners" | "max_connections_per_address" => &["0"],
            _ => &[],
        };
        wrong.iter().map(move |wrong| (setting, wrong))
    }) {
        let line = Setup::new().env("AIRCHECK_NOTIFY", "http://h").wrong(&[&format!("{}={wrong}", setting.flag)]);
        let bounds = line.split_once(" from ").and_then(|(_, bounds)| bounds.split(", not ").next()).unwrap();
        assert!(setting.help.contains(bounds), "{}: `{}` does not say {bounds}", setting.flag, setting.help);
    }
}

const HASH: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

/// A table of a token in a file.
fn token(name: &str, hash: &str, scopes: &str) -> String {
    format!("[[token]]\nname = '{name}'\nhash = '{hash}'\nscopes = {scopes}\n")
}

#[test]
fn tokens_are_read_from_the_file_and_their_hashes_are_shown_nowhere() {
    let other = HASH.replace("ba78", "ca78");
    let text = token("kitchen", HASH, "['listen']") + &token("prometheus", &other, "['stats', 'listen:main']");
    let setup = Setup::new().file(format!("source = 'tone:440'\n{text}"));
    let config = setup.config(&[]);
    let names: Vec<_> = config.tokens.iter().map(|token| (&*token.name, token.scopes.len())).collect();
    assert_eq!(names, [("kitchen", 1), ("prometheus", 2)]);
    let text = checked(&setup);
    assert!(text.contains("kitchen (listen), prometheus (stats, listen:main)"), "{text}");
    for shown in [text, format!("{config:?}")] {
        assert!(!shown.contains("a7816"), "{shown}");
    }
}

#[test]
fn a_wrong_token_is_named_by_its_number_and_a_token_in_place_of_its_hash_is_not_shown() {
    let good = token("kitchen", HASH, "['listen']");
    let other = HASH.replace("ba78", "ca78");
    for (text, sentence) in [
        ("token = 'x'\n".to_owned(), "must be tables with name, hash and scopes, each headed [[token]], not a string"),
        (
            "[token]\nname = 'x'\n".to_owned(),
            "must be tables with name, hash and scopes, each headed [[token]], not a table",
        ),
        ("token = ['x']\n".to_owned(), "number 1: must be a table with name, hash and scopes, not a string"),
        (
            token("a b", HASH, "['listen']"),
            "number 1: `name` must be up to 32 letters, digits, hyphens, underscores and dots, not `a b`",
        ),
        (
            token("a", "ac_secret", "['listen']"),
            "number 1: `hash` must be `sha256:` and 64 hexadecimal digits, as `aircheck token new` prints it",
        ),
        (token("a", HASH, "['root']"), "number 1: `scopes` must be listen, listen:MOUNT, stats or admin, not `root`"),
        (token("a", HASH, "['listen:hall']"), "`a` has the scope listen:hall, but the mounts are main"),
        (token("a", HASH, "[]"), "number 1: `scopes` must have at least one of listen, listen:MOUNT, stats or admin"),
        (token("a", HASH, "'listen'"), "number 1: must be a list, not a string"),
        (
            format!("{good}{}", token("kitchen", &other, "['stats']")),
            "number 2: its name is that of the token `kitchen`, too",
        ),
        (
            format!("{good}{}", token("bar", HASH, "['stats']")),
            "number 2: its hash is that of the token `kitchen`, too",
        ),
        (format!("{good}scope = ['stats']\n"), "number 1: unknown key `scope`; there are name, hash, scopes"),
        ("[[token]]\nname = 'a'\n".to_owned(), "number 1: `hash` is missing"),
    ] {
        let line = Setup::new().file(&text).wrong(&[]);
        assert_eq!(line, format!("aircheck.toml:1: `token` {sentence}"), "{text}");
        assert!(!line.contains("ac_secret"));
    }
}

#[test]
fn other_machines_need_a_token_or_a_word_that_they_do_not() {
    let sentence = "and no token is needed to listen: make one with `aircheck token new --name NAME --scope listen`, or permit \
                    that with --insecure-public";
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.7:80"] {
        let line = Setup::new().wrong(&["--listen", address]);
        assert_eq!(line, format!("--listen lets other machines reach {address}, {sentence}"));
        assert!(Setup::new().config(&["--listen", address, "--insecure-public"]).http.insecure_public);
        let stats = Setup::new().file(token("prometheus", HASH, "['stats']"));
        assert_eq!(stats.wrong(&["--listen", address]), line, "a token that permits no listening is not enough");
        Setup::new().file(token("kitchen", HASH, "['listen:main']")).config(&["--listen", address]);
    }
    Setup::new().config(&["--listen", "[::ffff:127.0.0.1]:0"]);
}

#[test]
fn a_new_token_needs_a_name_and_a_scope() {
    let setup = Setup::new();
    match setup.parse(&["token", "new", "--name", "kitchen", "--scope", "listen:main", "--scope", "stats"]) {
        Ok(Command::NewToken { name, scopes }) => assert_eq!((&*name, scopes.len()), ("kitchen", 2)),
        other => panic!("{other:?}"),
    }
    for (args, line) in [
        (&["token"][..], "token needs a command: `aircheck token new --name NAME --scope listen`"),
        (&["token", "new", "--scope", "listen"], "token new needs --name"),
        (&["token", "new", "--name", "x"], "token new needs --scope"),
        (
            &["token", "new", "--name", "x", "--scope", "root"],
            "--scope must be listen, listen:MOUNT, stats or admin, not `root`",
        ),
        (&["token", "neu"], "unknown command `neu`; did you mean `new`?"),
    ] {
        let line = if line.ends_with('?') { line.to_owned() } else { format!("{line}; see --help") };
        assert_eq!(setup.wrong(args), line);
    }
}

#[test]
fn the_bounds_of_the_format_are_the_engines() {
    for (rate, channels, block, is_good) in [
        ("1", "1", "1ms", true),
        ("768000", "32", "100ms", true),
        ("768001", "1", "1ms", false),
        ("1", "33", "1ms", false),
        ("1", "1", "999us", false),
        ("1", "1", "100001us", false),
    ] {
        let args = ["--source=stdin".to_owned(), format!("--rate={rate}"), format!("--channels={channels}")];
        let block_flag = format!("--block={block}");
        let args: Vec<_> = args.iter().chain([&block_flag]).map(String::as_str).collect();
        assert_eq!(Setup::new().parse(&args).is_ok(), is_good, "{args:?}");
        let block = aircheck_api::span::parse(block).unwrap();
        let format = Format::new(rate.parse().unwrap(), channels.parse().unwrap(), block);
        assert_eq!(format.is_ok(), is_good, "{args:?}");
    }
}

/// The table of settings as the documents have it. A default is written as in the file; none is an empty list, or another
/// setting decides.
fn table() -> String {
    let mut table = "| flag | variable | key in the file | default | meaning |\n|---|---|---|---|---|\n".to_owned();
    for Setting { key, env, flag, default, help, .. } in settings() {
        let default = default.as_ref().map_or(String::new(), |default| {
            let is_bare = default.parse::<i64>().is_ok() || default.parse::<bool>().is_ok();
            if is_bare { format!("`{default}`") } else { format!("`{default:?}`") }
        });
        let help = help.replace('|', "\\|");
        let code = |text: &str| if text.is_empty() { String::new() } else { format!("`{text}`") };
        let (flag, env) = (code(flag), code(env));
        table += &format!("| {flag} | {env} | `{key}` | {default} | {help} |\n");
    }
    table
}

#[test]
fn the_table_in_the_documentation_is_that_of_the_schema() {
    const START: &str = "<!-- settings: this table is checked by server/tests/config.rs -->\n";
    const END: &str = "<!-- end of settings -->";
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let tables: Vec<_> = ["docs/configuration.md", "README.md"]
        .into_iter()
        .filter_map(|name| {
            let text = std::fs::read_to_string(root.join(name)).ok()?;
            let (_, rest) = text.split_once(START)?;
            Some((name, rest.split_once(END)?.0.trim().to_owned()))
        })
        .collect();
    assert_eq!(tables.len(), 1, "one document has the table, between {START:?} and {END:?}");
    let (name, written) = &tables[0];
    assert!(
        *written == table().trim(),
        "{name} has another table of settings than the schema; this is right:\n\n{}",
        table()
    );
}

fn checked(setup: &Setup) -> String {
    match setup.parse(&["check-config", setup.path().to_str().expect("UTF-8")]) {
        Ok(Command::CheckConfig(checked)) => {
            assert_eq!(Path::new(checked.path()), setup.path());
            checked.to_string().replace(&format!("{}/", setup.folder.path().display()), "")
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_checked_file_is_shown_as_a_table() {
    let setup = Setup::new().file("source = 'stdin'\n\nrate = 44100\nbuffer = '1500ms'\nallow_hosts = ['a.b', 'c']\n");
    let table = "\
aircheck.toml is valid and gives these settings:
  source                       stdin           line 1
  rate                         44100 Hz        line 3
  channels                     2               default
  sample                       s16le           default
  pace                         source          default
  block                        10ms            default
  history                      10s             default
  on_source_loss               silence         default
  fallback                     off             default
  buffer                       1500ms          line 4
  overflow                     skip-to-live    default
  max_lag                      off             default
  idle_timeout                 off             default
  socket_buffer                100ms           default
  push                         none            default
  record                       off             default
  publish                      off             default
  report                       off             default
  gather                       off             default
  listen                       127.0.0.1:8700  default
  unix_mode                    600             default
  tls_cert                     off             default
  tls_key                      off             default
  tls_self_signed              false           default
  insecure_public              false           default
  admin_listen                 off             default
  max_listeners                1000            default
  max_connections_per_address  64              default
  trusted_proxy                none            default
  allow_hosts                  a.b, c          line 5
  allow_origins                none            default
  notify                       none            default
  token                        none            default
  mount                        none            default
";
    assert_eq!(checked(&setup), table);
}

#[test]
fn a_checked_file_shows_only_the_hosts_of_targets() {
    let setup = Setup::new().file("notify = ['https://u:pass@a.example/secret', 'http://b:81/secret']\n");
    let text = checked(&setup.env("AIRCHECK_NOTIFY_FORM", "slack"));
    assert!(text.contains("a.example, b:81"), "{text}");
    assert!(!text.contains("secret") && !text.contains("pass"), "{text}");
    let config = Setup::new().config(&["--notify", "http://u:pass@a.example/secret"]);
    let debug = format!("{config:?}");
    assert!(debug.contains("a.example") && !debug.contains("secret") && !debug.contains("pass"), "{debug}");
}

#[test]
fn a_checked_file_shows_addresses_of_nats_without_their_secrets() {
    let urls = ["publish", "report", "gather"].map(|key| format!("{key} = 'nats://user:s3cret@h:4222/{key}'\n"));
    let setup = Setup::new().file(urls.concat());
    let text = checked(&setup);
    for key in ["publish", "report", "gather"] {
        assert!(text.contains(&format!("nats://h:4222/{key} ")), "{text}");
    }
    assert!(text.contains("\n  report_as  "), "the name of the machine: {text}");
    let debug = format!("{:?}", setup.config(&[]));
    assert!(![text, debug].iter().any(|text| text.contains("s3cret") || text.contains("user:")));
}

#[test]
fn a_checked_file_shows_the_environment_s_values_and_warns_of_a_public_address() {
    let setup = Setup::new().file("source = 'wav:a'\ninsecure_public = true\n");
    let text = checked(&setup.env("AIRCHECK_LISTEN", "0.0.0.0:80"));
    assert!(text.contains("\n  loop                         false                         default\n"), "{text}");
    assert!(
        text.contains("\n  listen                       0.0.0.0:80                    AIRCHECK_LISTEN\n"),
        "{text}"
    );
    assert!(text.ends_with("\nOther machines can reach 0.0.0.0:80: anyone who can connect can listen.\n"), "{text}");
    assert!(!text.contains("  rate  "), "{text}");
    assert!(!text.contains("  record_split  "), "{text}");
    let text = checked(&Setup::new().file("allow_hosts = []\n"));
    assert!(text.contains("  addresses and localhost only  line 1\n"), "{text}");
    let text = checked(&Setup::new().file("record = 'takes'\nrecord_split = '500MB'\n"));
    let rows: Vec<Vec<_>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(rows.contains(&vec!["record", "takes", "line", "1"]), "{text}");
    assert!(rows.contains(&vec!["record_split", "500MB", "line", "2"]), "{text}");
}
