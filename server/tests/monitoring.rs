//! The rules and the dashboard of `deploy/`: the rules pass their tests, and every query returns data when a real
//! Prometheus scrapes the real program, and finds the slow listener.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;
#[path = "common/nats.rs"]
mod nats;
#[path = "../../engine/tests/common/pulse.rs"]
#[allow(dead_code, reason = "the engine's tests use the rest")]
mod pulse;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Listener, Server, TEST_TIMEOUT, curl, eventually, may_mount, signal};
use nats::Nats;
use pulse::{PulseServer, VMIC, Way};
use serde_json::Value;

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy");

fn deployed(path: &str) -> String {
    std::fs::read_to_string(Path::new(DEPLOY).join(path)).unwrap()
}

fn dashboard() -> Value {
    serde_json::from_str(&deployed("grafana/dashboards/aircheck.json")).unwrap()
}

/// Returns the panels that have queries, without the rows between them.
fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row")
}

/// A running Prometheus that scrapes one server every second by the rules of `deploy/`, ended when dropped.
struct Prometheus {
    child: Child,
    url: String,
    log: PathBuf,
    _directory: tempfile::TempDir,
}

impl Prometheus {
    /// Starts it with the files of `deploy/`, in which only the address and the interval are replaced.
    fn start(target: SocketAddr) -> Self {
        // A server without tokens does not read it.
        Self::with_token(target, "ac_any")
    }

    /// Starts it like [`start`](Self::start), with this token.
    fn with_token(target: SocketAddr, token: &str) -> Self {
        Self::with(target, &deployed("prometheus/aircheck.rules.yml"), token)
    }

    /// Starts it like [`start`](Self::start), with these rules.
    fn with_rules(target: SocketAddr, rules: &str) -> Self {
        Self::with(target, rules, "ac_any")
    }

    fn with(target: SocketAddr, rules: &str, secret: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let inside = |name: &str| directory.path().join(name);
        let config = deployed("prometheus/prometheus.yml");
        assert!(config.contains("\"aircheck:8700\"") && config.contains("_interval: 5s"), "{config}");
        let token = inside("aircheck.token");
        std::fs::write(&token, secret).unwrap();
        let config = config.replace("aircheck:8700", &target.to_string()).replace("_interval: 5s", "_interval: 1s");
        let config = config.replace("/etc/aircheck.token", token.to_str().unwrap());
        std::fs::write(inside("prometheus.yml"), config).unwrap();
        std::fs::write(inside("aircheck.rules.yml"), rules).unwrap();
        // Prometheus can't choose a free port and report it. No other program is likely to take this one meanwhile.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let log = inside("log");
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", inside("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", inside("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let prometheus = Self { child, url: format!("http://{address}"), log, _directory: directory };
        eventually("a ready Prometheus", || {
            curl(&["--fail", &format!("{}/-/ready", prometheus.url)]).output().unwrap().status.success().then_some(())
        });
        prometheus
    }

    /// Returns the data of an answer of its API. Fails if the query is wrong.
    fn ask(&self, path: &str, arguments: &[&str]) -> Value {
        let url = format!("{}/api/v1/{path}", self.url);
        let output = curl(&[&["--get", &url], arguments].concat()).output().unwrap();
        let mut answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(answer["status"], "success", "{path} {arguments:?}: {answer}");
        answer["data"].take()
    }

    /// Returns the labels and values of an expression.
    fn query(&self, expression: &str) -> Vec<(Value, f64)> {
        let answer = self.ask("query", &["--data-urlencode", &format!("query={expression}")]);
        let value = |value: &Value| value[1].as_str().unwrap().parse().unwrap();
        match answer["resultType"].as_str().unwrap() {
            "vector" => {
                let series = answer["result"].as_array().unwrap();
                series.iter().map(|series| (series["metric"].clone(), value(&series["value"]))).collect()
            }
            "scalar" => vec![(Value::Null, value(&answer["result"]))],
            other => panic!("{expression} is a {other}"),
        }
    }

    /// Returns whether an expression has a finite value. A quantile without data is not a number.
    fn has_data(&self, expression: &str) -> bool {
        self.query(expression).iter().any(|(_, value)| value.is_finite())
    }

    /// Returns one label of each series of an expression, by the listener's name.
    fn by_name(&self, expression: &str, label: &str) -> BTreeMap<String, String> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        self.query(expression).iter().map(|(labels, _)| (text(&labels["name"]), text(&labels[label]))).collect()
    }

    /// Returns all rules that it has loaded.
    fn rules(&self) -> Vec<Value> {
        let groups = self.ask("rules", &[])["groups"].as_array().unwrap().clone();
        groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("Prometheus's log:\n{}", std::fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

/// Splits an expression at its comparisons and set operators: an alert that does not fire has no result, but its operands
/// have. Splits inside parentheses, not inside functions.
fn operands(expression: &str) -> Vec<String> {
    let expression = expression.trim();
    if let Some(inside) = expression.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'))
        && end_of(inside, '(', ')').is_none()
    {
        return operands(inside);
    }
    let (mut parts, mut from, mut at) = (Vec::new(), 0, 0);
    while at < expression.len() {
        let rest = &expression[at..];
        let bracket = [('(', ')'), ('{', '}'), ('[', ']')].into_iter().find(|(open, _)| rest.starts_with(*open));
        if let Some((open, close)) = bracket {
            at += 1 + end_of(&rest[1..], open, close).unwrap() + 1;
            continue;
        }
        let starts_word = !expression[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_');
        let word = rest.split(|c: char| !(c.is_alphanumeric() || "_:".contains(c))).next().unwrap();
        let operator = ["==", "!=", "<=", ">=", "<", ">"].into_iter().find(|operator| rest.starts_with(operator));
        let set = ["and", "or", "unless"].into_iter().find(|set| starts_word && word == *set);
        if let Some(found) = operator.or(set) {
            parts.push(&expression[from..at]);
            from = at + found.len();
            at = from;
        } else {
            at += rest.chars().next().unwrap().len_utf8();
        }
    }
    if parts.is_empty() {
        return vec![expression.to_owned()];
    }
    parts.push(&expression[from..]);
    parts.into_iter().map(without_matching).filter(|part| part.parse::<f64>().is_err()).flat_map(operands).collect()
}

/// The place of the bracket that closes what was opened before `text`, if it is in there. Quoted ones don't count.
fn end_of(text: &str, open: char, close: char) -> Option<usize> {
    let (mut depth, mut quoted) = (1, false);
    for (at, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            _ if quoted => {}
            _ if c == open => depth += 1,
            _ if c == close => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

/// An operand without the words on how it is matched that may stand before it.
fn without_matching(operand: &str) -> &str {
    let operand = operand.trim();
    if let Some(rest) = operand.strip_prefix("bool ") {
        return without_matching(rest);
    }
    for word in ["on", "ignoring", "group_left", "group_right"] {
        if let Some(rest) = operand.strip_prefix(word).and_then(|rest| rest.trim_start().strip_prefix('(')) {
            return without_matching(&rest[end_of(rest, '(', ')').unwrap() + 1..]);
        }
    }
    operand
}

#[test]
fn operands_of_an_alert_are_found() {
    for (expression, expected) in [
        ("up == 0", &["up"][..]),
        ("rate(x{a=~\"b|c>d\"}[5m]) > 0.1", &["rate(x{a=~\"b|c>d\"}[5m])"]),
        ("(a - on (job) group_left () b > 0.1)", &["a - on (job) group_left () b"]),
        ("max by (job) (a) < -60 and on (job) b == 1", &["max by (job) (a)", "b"]),
        ("(a > 1) and (b or ignoring (x) c)", &["a", "b", "c"]),
        ("sum(a) / (sum(b) > 0)", &["sum(a) / (sum(b) > 0)"]),
        ("aircheck:order:sum unless bandwidth", &["aircheck:order:sum", "bandwidth"]),
    ] {
        assert_eq!(operands(expression), expected, "{expression}");
    }
}

#[test]
fn promtool_accepts_the_rules_and_their_tests_pass() {
    for arguments in [
        // The file of the token is not there.
        &["check", "config", "--syntax-only", "prometheus.yml"][..],
        &["check", "rules", "aircheck.rules.yml"],
        &["test", "rules", "aircheck.rules.test.yml"],
    ] {
        let directory = Path::new(DEPLOY).join("prometheus");
        let output = Command::new("promtool").args(arguments).current_dir(directory).output().unwrap();
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(output.status.success(), "promtool {arguments:?}: {said}");
    }
}

#[test]
fn every_alert_is_tested() {
    let rules = deployed("prometheus/aircheck.rules.yml");
    let tests = deployed("prometheus/aircheck.rules.test.yml");
    let alerts: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() >= 5, "{rules}");
    for alert in alerts {
        let fires = format!("alertname=\"{alert}\", alertstate=\"firing\"");
        let told = format!("alertname: {alert}");
        assert!(tests.contains(&fires) || tests.contains(&told), "nobody sees {alert} fire");
    }
}

#[test]
fn panels_do_not_overlap_and_have_descriptions() {
    let dashboard = dashboard();
    let mut taken = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = &panel["title"];
        let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24, "{title} is wider than the page");
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(taken.insert((x, y)), "{title} lies over another panel");
            }
        }
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title} has the number of another panel");
    }
    for panel in panels(&dashboard) {
        assert!(panel["description"].as_str().is_some_and(|words| words.len() > 20), "{}", panel["title"]);
    }
    let uid = dashboard["templating"]["list"][0]["current"]["value"].as_str().unwrap();
    assert!(deployed("grafana/provisioning/datasources/prometheus.yaml").contains(&format!("uid: {uid}\n")));
}

/// A query with Grafana's variables filled in.
fn filled(query: &str, server: &Server) -> String {
    let query = [
        // Four times a scrape interval of 15 s, as Grafana would for many; here it covers the whole test.
        ("$__rate_interval", "1m"),
        ("$__interval", "15s"),
        ("$__range", "15m"),
        ("$job", "aircheck"),
        ("$instance", &server.address.to_string()),
        ("$mount", "main"),
        ("$format", "wav|json"),
    ]
    .into_iter()
    .fold(query.to_owned(), |query, (variable, value)| query.replace(variable, value));
    assert!(!query.contains('$'), "{query} has a variable that nobody fills");
    query
}

/// Returns all queries of rules and panels, each with the name of its rule or panel.
fn questions(rules: &[Value], dashboard: &Value, server: &Server) -> Vec<(String, String)> {
    let mut questions = Vec::new();
    for rule in rules {
        let name = rule["name"].as_str().unwrap();
        let query = rule["query"].as_str().unwrap();
        let mut parts = operands(query);
        if rule["type"] == "recording" {
            parts.extend([query.to_owned(), name.to_owned()]);
        }
        questions.extend(parts.into_iter().map(|part| (format!("rule {name}"), part)));
    }
    for panel in panels(dashboard) {
        let title = format!("panel {}", panel["title"]);
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{title} asks nothing");
        for target in targets {
            let query = filled(target["expr"].as_str().unwrap(), server);
            questions.extend(operands(&query).into_iter().chain([query]).map(|part| (title.clone(), part)));
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        let Some(query) = variable["query"]["query"].as_str() else { continue };
        let (series, label) =
            query.strip_prefix("label_values(").unwrap().trim_end_matches(')').rsplit_once(", ").unwrap();
        let query = format!("count by ({label}) ({})", filled(series, server));
        questions.push((format!("variable {}", variable["name"]), query));
    }
    // Most are one operand.
    questions.dedup();
    questions
}

/// Waits for an answer that will be as expected, and shows the one that was not.
fn settles<T: PartialEq + Debug>(expected: &T, ask: impl Fn() -> T) {
    let begin = Instant::now();
    while ask() != *expected && begin.elapsed() < TEST_TIMEOUT {
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(ask(), *expected);
}

#[test]
fn the_script_makes_tokens_by_which_prometheus_scrapes_and_the_page_opens() {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("tokens.sh");
    std::fs::copy(Path::new(DEPLOY).join("tokens.sh"), &script).unwrap();
    let make = || Command::new("bash").arg(&script).output().unwrap().status.success();
    assert!(make() && !make(), "it makes them once");
    let private = directory.path().join("private");
    let server = Server::start(&["--source", "tone:440", "--config", private.join("aircheck.toml").to_str().unwrap()]);
    let secret = |name: &str| std::fs::read_to_string(private.join(name)).unwrap();
    let prometheus = Prometheus::with_token(server.address, &secret("prometheus.token"));
    eventually("a scrape", || prometheus.has_data("up == 1").then_some(()));
    let other = Prometheus::start(server.address);
    eventually("a refused scrape", || other.has_data("up == 0").then_some(()));
    let user = format!("any:{}", secret("page.token").trim());
    for path in ["stream.wav", "metrics"] {
        assert_eq!(server.ask(&["--head", "--user", &user], path).0, 200, "{path}");
    }
}

/// Returns whether a query has data only where other servers are involved.
fn is_of_other_servers(query: &str) -> bool {
    let words = ["hop_", "publish_", "report_", "gather_", "edge_", "push_"].map(|word| format!("aircheck_{word}"));
    words.iter().any(|word| query.contains(word)) || ["stage=\"hop\"", "__name__"].iter().any(|it| query.contains(it))
}

/// Waits until each query has data. All of them at once, because what is missing is best seen together.
fn wait_for_answers(prometheus: &Prometheus, mut unanswered: Vec<(String, String)>) {
    let begin = Instant::now();
    loop {
        unanswered.retain(|(_, query)| !prometheus.has_data(query));
        if unanswered.is_empty() {
            break;
        }
        let list: String = unanswered.iter().map(|(who, query)| format!("\n{who}: {query}")).collect();
        assert!(begin.elapsed() < TEST_TIMEOUT, "no data for{list}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn every_query_about_other_servers_returns_data_and_a_silent_edge_is_told() {
    let nats = Nats::start("");
    let origin = Server::start(&["--source", "tone:440", "--publish", &nats.url("radio.one")]);
    let icecast = Server::start(&["--source", "put"]);
    let edges = nats.url("radio.edges");
    // One that does everything: it takes sound from another server and gives it to others, and so with figures.
    let flags = [
        ["--source", &nats.url("radio.one")],
        ["--publish", &nats.url("radio.two")],
        ["--gather", &edges],
        ["--report", &nats.url("radio.elsewhere")],
        ["--push", &format!("icecast://any@{}/mounts/main", icecast.address)],
    ];
    let server = Server::start(&flags.concat());
    let edge = Server::start(&["--source", "tone:880", "--report", &edges, "--report-as", "berlin"]);
    let prometheus = Prometheus::with_rules(server.address, &impatient_rules());
    eventually("a first scrape", || prometheus.has_data("up == 1").then_some(()));
    let directory = tempfile::tempdir().unwrap();
    let listen = |server: &Server| Listener::start(&server.url("stream.wav?name=one"), &directory.path().join("one"));
    let (_here, _there) = (listen(&server), listen(&edge));
    assert_eq!(server.ask(&[], "hls/index.m3u8").0, 200);
    let (rules, dashboard) = (prometheus.rules(), dashboard());
    let mut asked = questions(&rules, &dashboard, &server);
    asked.retain(|(_, query)| is_of_other_servers(query) || query.contains("aircheck_hls_"));
    assert!(asked.len() > 30, "only {} questions were found", asked.len());
    wait_for_answers(&prometheus, asked);
    let fires =
        |alert: &str| prometheus.by_name(&format!("ALERTS{{alertname=\"{alert}\", alertstate=\"firing\"}}"), "edge");
    let of_berlin = BTreeMap::from([(String::new(), "berlin".to_owned())]);
    assert_eq!(fires("AircheckEdgeSilent"), BTreeMap::new());
    drop(edge);
    settles(&of_berlin, || fires("AircheckEdgeSilent"));
    settles(&1, || fires("AircheckEdgeGone").len());
    // It has said so, and then there is nothing to say of it any more.
    assert_eq!(fires("AircheckEdgeSilent"), BTreeMap::new());
    drop(nats);
    let ends = || {
        let away = prometheus.query("ALERTS{alertname=\"AircheckNatsAway\", alertstate=\"firing\"}");
        away.iter().map(|(labels, _)| labels["end"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    settles(&BTreeSet::from(["gather", "hop", "publish", "report"].map(str::to_owned)), ends);
    drop(origin);
}

#[test]
fn every_query_returns_data_and_finds_the_slow_listener() {
    let directory = tempfile::tempdir().unwrap();
    let takes = directory.path().join("takes");
    let flags = ["--source", "tone:440", "--history", "500ms", "--record", takes.to_str().unwrap()];
    let server = Server::start(&flags);
    let prometheus = Prometheus::start(server.address);
    // Once it has seen the counters at zero, what happens next is an increase.
    eventually("a first scrape", || prometheus.has_data("up == 1").then_some(()));
    eventually("a past that is forgotten", || {
        (server.json("api/v1/status")["head_sequence"].as_u64()? > 60).then_some(())
    });
    let listen = |path: &str, file: &str| Listener::start(&server.url(path), &directory.path().join(file));
    let _healthy = listen("stream.wav?name=healthy", "healthy");
    let _nameless = listen("stream.json", "nameless");
    let _burst = listen("stream.wav?name=burst&burst=300ms", "burst");
    // Begins with a gap.
    let _late = listen("stream.wav?name=late&from=0", "late");
    let slow = listen("stream.wav?name=slow&sample=f32le&buffer=200ms", "slow");
    server.row_when("slow", |row| row["delivered"].as_u64().unwrap() > 20);
    signal(slow.pid(), "STOP");
    server.row_when("slow", |row| row["lost"].as_u64().unwrap() > 0);

    let (rules, dashboard) = (prometheus.rules(), dashboard());
    let mut asked = questions(&rules, &dashboard, &server);
    asked.retain(|(_, query)| !is_of_other_servers(query));
    assert!(asked.len() > 60, "only {} questions were found", asked.len());
    wait_for_answers(&prometheus, asked);
    for annotation in dashboard["annotations"]["list"].as_array().unwrap() {
        // Nothing has fired yet: to be understood is all that can be asked for.
        prometheus.query(&filled(annotation["target"]["expr"].as_str().unwrap(), &server));
    }
    eventually("rules that are all evaluated", || {
        let rules = prometheus.rules();
        for rule in &rules {
            assert_eq!(rule["lastError"].as_str().unwrap_or_default(), "", "{rule}");
        }
        rules.iter().all(|rule| rule["health"] == "ok").then_some(())
    });

    // The slow listener is found with its cause: its program does not read. The others keep up.
    let named = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    // Listeners that keep up have no series.
    let expected = named(&[("slow", "listener")]);
    settles(&expected, || prometheus.by_name("aircheck:listener_lag:cause_seconds", "part"));
    let slowest = panels(&dashboard).find(|panel| panel["title"] == "Slowest listener").unwrap();
    let slowest = filled(slowest["targets"][0]["expr"].as_str().unwrap(), &server);
    assert_eq!(prometheus.by_name(&slowest, "format"), named(&[("slow", "wav")]));
    let alerts = || prometheus.by_name("ALERTS{alertname=\"AircheckListenerLags\"}", "severity");
    settles(&named(&[("slow", "warning")]), alerts);

    let targets = prometheus.ask("targets", &[])["activeTargets"].take();
    assert_eq!(targets.as_array().unwrap().len(), 1, "{targets}");
    assert_eq!((&targets[0]["health"], &targets[0]["lastError"]), (&"up".into(), &"".into()), "{targets}");
}

/// The rules with shorter waits, in seconds instead of minutes, and a disk of megabytes instead of gigabytes.
fn impatient_rules() -> String {
    let mut rules = deployed("prometheus/aircheck.rules.yml");
    let changes =
        [("for: 30s", "for: 2s"), ("for: 1m", "for: 2s"), ("[15m]", "[30s]"), ("[5m]", "[15s]"), ("< 2e9", "< 16e6")];
    for (was, is) in changes {
        assert!(rules.contains(was), "no rule has {was}");
        rules = rules.replace(was, is);
    }
    rules
}

#[test]
fn alerts_of_the_source_and_of_the_recording_fire_and_end() {
    if !may_mount() {
        return;
    }
    let mut sound_server = PulseServer::start();
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let script = format!("mount -t tmpfs -o size=64m tmpfs {} && exec \"$0\" \"$@\"", disk.display());
    let mut unshare = sound_server.command("unshare", Way::Pulse);
    unshare.args(["--mount", "sh", "-c", &script, env!("CARGO_BIN_EXE_aircheck")]);
    let recording = ["--record", disk.to_str().unwrap(), "--record-reserve", "8MB", "--record-split", "1MB"];
    let flags = [&["--source", "mic"][..], &recording, &["--record-keep", "4MB"]].concat();
    let server = Server::launch(unshare, &flags, |command| command);
    let outside = Path::new(&format!("/proc/{}/root", server.pid())).join(disk.strip_prefix("/").unwrap());
    let prometheus = Prometheus::with_rules(server.address, &impatient_rules());
    let fires = |alert: &str| {
        !prometheus.query(&format!("ALERTS{{alertname=\"Aircheck{alert}\", alertstate=\"firing\"}}")).is_empty()
    };
    let wait = |alert: &str, firing: bool| {
        eventually(&format!("{alert} {firing}"), || {
            std::thread::sleep(Duration::from_millis(200));
            (fires(alert) == firing).then_some(())
        });
    };
    let all = ["NoSource", "SourceFlaps", "RecordingStopped", "RecordingDiskNearlyFull", "RecordingLosesSound"];
    eventually("a recording that is seen", || prometheus.has_data("aircheck_record_blocks_total > 100").then_some(()));
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(all.map(fires), [false; 5], "nothing has happened");

    // 64 MB, of which the recording takes four: 10 MB are left, and then nothing.
    let (first, second) = (outside.join("first"), outside.join("second"));
    std::fs::write(&first, vec![0; 48_000_000]).unwrap();
    wait("RecordingDiskNearlyFull", true);
    assert!(!fires("RecordingStopped"));
    std::fs::write(&second, vec![0; 10_000_000]).unwrap();
    wait("RecordingStopped", true);
    assert!(!fires("RecordingLosesSound"), "that it has stopped is said already");
    std::fs::remove_file(&first).unwrap();
    std::fs::remove_file(&second).unwrap();
    wait("RecordingStopped", false);
    wait("RecordingDiskNearlyFull", false);
    wait("RecordingLosesSound", true);
    wait("RecordingLosesSound", false);

    // On a busy machine, three times may take longer than the alert remembers.
    let mut times = 0;
    while !fires("SourceFlaps") {
        sound_server.kill();
        wait("NoSource", true);
        assert!(!fires("RecordingLosesSound"), "listeners do not get it either");
        sound_server.start_again(VMIC);
        wait("NoSource", false);
        times += 1;
        assert!(times < 10, "the source was lost and came back {times} times");
        std::thread::sleep(Duration::from_secs(2));
    }
    assert!(times >= 3, "{times} times");
    wait("SourceFlaps", false);
    assert_eq!(all.map(fires), [false; 5], "all is well again");
}
