//! The listeners of several servers in one table, through a real NATS server.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;
#[path = "common/nats.rs"]
mod nats;
#[path = "common/truth.rs"]
mod truth;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::TcpStream;
use std::process::Stdio;

use serde_json::{Value, json};

use common::{Listener, Server, assert_identity, curl, eventually, signal};
use nats::Nats;
use truth::scrape::Metrics;

const SOUND: &str = "radio.one";
const EDGES: &str = "radio.edges";

/// Starts a server that is heard by edges and gathers their listeners.
fn origin(nats: &Nats) -> Server {
    let (sound, edges) = (nats.url(SOUND), nats.url(EDGES));
    Server::start(&["--source", "tone:440", "--publish", &sound, "--gather", &edges])
}

/// Starts an edge that reports under a name.
fn edge(nats: &Nats, name: &str) -> Server {
    let (sound, edges) = (nats.url(SOUND), nats.url(EDGES));
    Server::start(&["--source", &sound, "--report", &edges, "--report-as", name])
}

/// Starts a listener, and waits for its row at its server.
fn listener(server: &Server, name: &str) -> Listener {
    let url = server.url(&format!("stream.wav?name={name}"));
    let listener = Listener::of(curl(&["--output", "/dev/null", &url]).stderr(Stdio::null()));
    server.row_when(name, |_| true);
    listener
}

fn audience(server: &Server) -> Value {
    server.json("api/v1/audience?sort=lag")
}

/// Returns the edge of this name in an audience.
fn found<'a>(audience: &'a Value, name: &str) -> Option<&'a Value> {
    audience["edges"].as_array().unwrap().iter().find(|edge| edge["name"] == name)
}

/// Waits for an audience that meets a condition.
fn audience_when(server: &Server, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
    eventually(what, || Some(audience(server)).filter(&condition))
}

/// Waits until an edge has told that it has so many listeners.
fn wait_for_listeners(server: &Server, name: &str, listeners: u64) -> Value {
    audience_when(server, &format!("{listeners} listeners of {name}"), |audience| {
        found(audience, name).is_some_and(|edge| edge["listeners"] == listeners)
    })
}

/// The order of rows: the lag that was not requested, in milliseconds, as far as it is notable.
fn lag_millis(row: &Value) -> u64 {
    let seconds = row["lag_seconds"].as_f64().unwrap() - row["burst_seconds"].as_f64().unwrap();
    Some((seconds * 1000.0) as u64).filter(|millis| *millis >= 100).unwrap_or(0)
}

/// Asserts that everything in an audience adds up.
fn assert_adds_up(audience: &Value) {
    let count = |value: &Value, key: &str| value[key].as_u64().unwrap_or_else(|| panic!("no {key} in {value}"));
    let rows = audience["rows"].as_array().unwrap();
    rows.iter().for_each(assert_identity);
    assert!(rows.is_sorted_by(|one, next| lag_millis(one) >= lag_millis(next)), "not worst first: {rows:#?}");
    let (mut listeners, mut silent, mut left_off) = (count(&audience["here"], "listeners"), 0, 0);
    assert_identity(&audience["here"]);
    for edge in audience["edges"].as_array().unwrap() {
        assert_identity(edge);
        let name = &edge["name"];
        let sum = if edge["silent"] == true { &mut silent } else { &mut listeners };
        *sum += count(edge, "listeners");
        left_off += count(edge, "left_off");
        let of_edge: Vec<_> = rows.iter().filter(|row| row["edge"] == *name).collect();
        assert_eq!(of_edge.len() as u64 + count(edge, "left_off"), count(edge, "listeners"), "{edge}");
        assert!(of_edge.iter().all(|row| row["age_seconds"] == edge["age_seconds"] && row["silent"] == edge["silent"]));
    }
    assert_eq!(
        (count(audience, "listeners"), count(audience, "silent_listeners"), count(audience, "left_off")),
        (listeners, silent, left_off),
        "{audience:#}"
    );
}

/// Returns the events of edges so far, by their names, with the edges.
fn events(server: &Server) -> Vec<(String, String)> {
    let of_edge = |event: &Value| Some((event["event"].as_str()?.to_owned(), event["edge"].as_str()?.to_owned()));
    server.events().iter().filter_map(of_edge).collect()
}

fn wait_for_event(server: &Server, event: &str, edge: &str) {
    let wanted = (event.to_owned(), edge.to_owned());
    eventually(&format!("{event} of {edge}"), || events(server).contains(&wanted).then_some(()));
}

#[test]
fn the_table_is_worst_first_over_all_edges_and_its_totals_are_those_of_each_edge() {
    let nats = Nats::start("");
    let origin = origin(&nats);
    let (berlin, paris) = (edge(&nats, "berlin"), edge(&nats, "paris"));
    let home = listener(&origin, "home");
    let reading = [listener(&berlin, "one"), listener(&berlin, "two"), listener(&paris, "three")];
    let frozen = listener(&paris, "frozen");
    signal(frozen.pid(), "STOP");
    let audience = audience_when(&origin, "a frozen listener far behind at the top", |audience| {
        let first = &audience["rows"][0];
        first["name"] == "frozen" && lag_millis(first) > 1500 && audience["listeners"] == 5
    });
    assert_adds_up(&audience);
    let first = &audience["rows"][0];
    assert_eq!(
        (&first["edge"], &first["verdict"], &first["mount"]),
        (&"paris".into(), &"far_behind".into(), &"main".into())
    );
    let of = |name: &str| {
        let rows = audience["rows"].as_array().unwrap();
        rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no row of {name}"))
    };
    assert_eq!((&of("home")["edge"], &of("one")["edge"]), (&Value::Null, &"berlin".into()));
    let paris_totals = found(&audience, "paris").unwrap();
    assert!(paris_totals["worst_lag_seconds"].as_f64() > Some(1.4), "{paris_totals}");
    assert_eq!((&paris_totals["behind"], &paris_totals["silent"]), (&1.into(), &false.into()));
    for row in audience["rows"].as_array().unwrap() {
        let server = match row["edge"].as_str() {
            Some("berlin") => &berlin,
            Some("paris") => &paris,
            other => {
                assert_eq!(other, None);
                &origin
            }
        };
        let own = server.row_when(row["name"].as_str().unwrap(), |_| true);
        for key in ["id", "remote", "format", "connected_at", "overflow", "token"] {
            assert_eq!(row[key], own[key], "{key} of {row}");
        }
        assert!(row["age_seconds"].as_f64() < Some(3.0), "{row}");
    }
    // A table of one server has its own listeners alone, as ever.
    assert_eq!(origin.rows().len(), 1);
    let metrics = Metrics::of(origin.address);
    let figure = |name: &str, edge: &str| metrics.sum(&format!("aircheck_edge_{name}"), &[&format!("edge=\"{edge}\"")]);
    assert_eq!((figure("up", "berlin"), figure("up", "paris")), (1.0, 1.0));
    assert_eq!((figure("listeners", "berlin"), figure("listeners", "paris")), (2.0, 2.0));
    assert_eq!((figure("listeners_behind", "berlin"), figure("listeners_behind", "paris")), (0.0, 1.0));
    assert!(figure("worst_lag_seconds", "paris") > 1.4 && figure("worst_lag_seconds", "berlin") < 1.0);
    // Once nothing moves, each figure is exactly that of the edge.
    drop((home, reading, frozen));
    for (name, server) in [("berlin", &berlin), ("paris", &paris)] {
        eventually("no listeners", || server.rows().is_empty().then_some(()));
        let own = Metrics::of(server.address);
        let sum = |name: &str| own.sum(&format!("aircheck_{name}_blocks_total"), &[]) as u64;
        let expected = ["offered", "delivered", "lost"].map(sum);
        assert!(expected[0] > 100, "{expected:?}");
        let audience = wait_for_listeners(&origin, name, 0);
        assert_adds_up(&audience);
        let edge = found(&audience, name).unwrap();
        assert_eq!(["offered", "delivered", "lost"].map(|key| edge[key].as_u64().unwrap()), expected, "{edge}");
        assert_eq!((&edge["queued"], &edge["worst_lag_seconds"]), (&0.into(), &Value::Null));
    }
}

#[test]
fn an_edge_that_is_frozen_or_killed_is_told_shown_with_its_age_and_goes_and_one_that_ends_goes_at_once() {
    let nats = Nats::start("");
    let origin = origin(&nats);
    let (berlin, paris) = (edge(&nats, "berlin"), edge(&nats, "paris"));
    let (_one, _two) = (listener(&berlin, "one"), listener(&paris, "two"));
    let ready = |audience: &Value| audience["listeners"] == 2;
    audience_when(&origin, "two listeners", ready);
    signal(berlin.pid(), "STOP");
    let audience = audience_when(&origin, "a silent edge", |audience| audience["silent_listeners"] == 1);
    assert_adds_up(&audience);
    let edge = found(&audience, "berlin").unwrap();
    assert!(edge["silent"] == true && edge["age_seconds"].as_f64() >= Some(3.0), "{edge}");
    assert_eq!(audience["listeners"], 1);
    let row = audience["rows"].as_array().unwrap().iter().find(|row| row["name"] == "one").unwrap();
    assert!(row["silent"] == true && row["age_seconds"] == edge["age_seconds"], "{row}");
    // What it told is no longer in the metrics, but that it is silent is.
    let metrics = Metrics::of(origin.address);
    let series = |name: &str| metrics.with(name, &["edge=\"berlin\""]).map(|(_, value)| value).collect::<Vec<_>>();
    assert_eq!(series("aircheck_edge_up"), [0.0]);
    assert!(series("aircheck_edge_report_age_seconds")[0] >= 3.0);
    for gone in ["listeners", "listeners_behind", "worst_lag_seconds", "lost_blocks_total"] {
        assert_eq!(series(&format!("aircheck_edge_{gone}")), [0.0; 0], "{gone}");
    }
    let gather = &origin.json("api/v1/status")["gather"];
    assert_eq!((&gather["edges"], &gather["silent_edges"]), (&1.into(), &1.into()), "{gather}");
    wait_for_event(&origin, "edge_silent", "berlin");
    signal(berlin.pid(), "CONT");
    audience_when(&origin, "two listeners again", ready);
    wait_for_event(&origin, "edge_back", "berlin");
    drop(berlin);
    let dropped = audience_when(&origin, "no more berlin", |audience| found(audience, "berlin").is_none());
    assert_adds_up(&dropped);
    assert_eq!((&dropped["listeners"], &dropped["silent_listeners"]), (&1.into(), &0.into()));
    assert_eq!(origin.json("api/v1/status")["gather"]["dropped_edges"], 1);
    assert_eq!(Metrics::of(origin.address).sum("aircheck_gather_dropped_edges_total", &[]), 1.0);
    // One that ends in order says so, and was never silent.
    paris.terminate();
    audience_when(&origin, "no more paris", |audience| found(audience, "paris").is_none());
    wait_for_event(&origin, "edge_left", "paris");
    let told = events(&origin);
    let of = |name: &str| told.iter().filter(|(_, edge)| edge == name).map(|(event, _)| &**event).collect::<Vec<_>>();
    assert_eq!(of("berlin"), ["edge_joined", "edge_silent", "edge_back", "edge_silent", "edge_dropped"]);
    assert_eq!(of("paris"), ["edge_joined", "edge_left"]);
    origin.wait_for_log("edge_dropped");
}

#[test]
fn what_is_no_report_of_an_edge_is_counted_told_and_not_shown() {
    let nats = Nats::start("");
    let origin = origin(&nats);
    let berlin = edge(&nats, "berlin");
    let _one = listener(&berlin, "one");
    let before = wait_for_listeners(&origin, "berlin", 1);
    let mut client = nats.client();
    let report = client.next_of(&format!("{EDGES}.berlin"));
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut report: Value = serde_json::from_slice(&report).unwrap();
        change(&mut report);
        serde_json::to_vec(&report).unwrap()
    };
    let wrong: Vec<(&str, &str, Vec<u8>, &str)> = vec![
        ("malformed", "berlin", b"hello".to_vec(), "not a report of an aircheck server"),
        ("malformed", "berlin", changed(&|it| it["rows"][0]["lost"] = json!(1_u64 << 40)), ""),
        ("malformed", "berlin", changed(&|it| it["listeners"] = json!(0)), ""),
        ("malformed", "rome", changed(&|it| it["rows"][0]["name"] = json!("\u{1b}[2J")), ""),
        ("malformed", "r\u{fc}m", changed(&|it| it["run"] = json!("7")), ""),
        ("version", "berlin", changed(&|it| it["report_version"] = json!(2)), ""),
        ("too_long", "berlin", vec![b' '; 300 << 10], ""),
        ("late", "berlin", changed(&|it| it["made_nanos"] = json!(1)), ""),
        ("foreign", "berlin", changed(&|it| it["run"] = json!("7")), ""),
    ];
    let messages = || origin.json("api/v1/status")["gather"]["messages"].clone();
    let mut expected = BTreeMap::<&str, u64>::new();
    for (result, name, message, line) in &wrong {
        client.publish(&format!("{EDGES}.{name}"), message);
        *expected.entry(result).or_default() += 1;
        eventually(&format!("a {result} message"), || (messages()[*result] == expected[result]).then_some(()));
        origin.wait_for_log(line);
    }
    // A second server of the name is told once both are heard.
    let second = edge(&nats, "berlin");
    let _two = listener(&second, "two");
    origin.wait_for_log("two servers report as `berlin`");
    let audience = audience_when(&origin, "a newer report", |audience| {
        let age = |audience: &Value| {
            audience["now"].as_f64().unwrap() - found(audience, "berlin").unwrap()["age_seconds"].as_f64().unwrap()
        };
        age(audience) > age(&before) + 1.0
    });
    assert_adds_up(&audience);
    assert_eq!((&audience["edges"].as_array().unwrap().len(), &audience["listeners"]), (&1, &1.into()), "{audience:#}");
    assert_eq!(audience["rows"][0]["name"], "one");
    let metrics = Metrics::of(origin.address);
    for (result, count) in expected.iter().filter(|(result, _)| **result != "foreign") {
        let label = format!("result=\"{result}\"");
        assert_eq!(metrics.sum("aircheck_gather_messages_total", &[&label]), *count as f64, "{result}");
    }
    assert_eq!(events(&origin), [("edge_joined".to_owned(), "berlin".to_owned())]);
}

#[test]
fn an_edge_with_many_listeners_sends_the_worst_rows_and_says_how_many_are_left_off() {
    let nats = Nats::start("");
    let origin = origin(&nats);
    let berlin = edge(&nats, "berlin");
    // They read nothing, so that they fall behind.
    let _connections: Vec<_> = (0..60)
        .map(|number| {
            let mut stream = TcpStream::connect(berlin.address).unwrap();
            let request = format!("GET /stream.wav?name={number}&buffer=1s HTTP/1.1\r\nHost: localhost\r\n\r\n");
            stream.write_all(request.as_bytes()).unwrap();
            stream
        })
        .collect();
    let audience = audience_when(&origin, "60 listeners behind", |audience| {
        found(audience, "berlin").is_some_and(|edge| edge["behind"] == 60)
    });
    assert_adds_up(&audience);
    let edge = found(&audience, "berlin").unwrap();
    assert_eq!((&edge["listeners"], &edge["left_off"], &audience["left_off"]), (&60.into(), &10.into(), &10.into()));
    let few = origin.json("api/v1/audience?sort=lag&limit=3");
    assert_eq!(few["rows"].as_array().unwrap().len(), 3);
    assert_eq!((&few["listeners"], &few["left_off"]), (&60.into(), &10.into()), "a limit changes no total");
    let (status, wrong) = origin.ask(&[], "api/v1/audience?edge=berlin");
    assert!(status == 400 && wrong.contains("limit, sort, name and mount"), "{wrong}");
}

#[test]
fn a_nats_server_that_goes_and_comes_is_told_at_both_ends_and_costs_no_listener() {
    let mut nats = Nats::start("");
    let edges = nats.url(EDGES);
    let origin = Server::start(&["--source", "tone:440", "--gather", &edges]);
    let berlin = Server::start(&["--source", "tone:880", "--report", &edges, "--report-as", "berlin"]);
    let (_home, _one) = (listener(&origin, "home"), listener(&berlin, "one"));
    wait_for_listeners(&origin, "berlin", 1);
    nats.kill();
    eventually("both to notice", || {
        let failure = |server: &Server, end: &str| server.json("api/v1/status")[end]["failure"].is_string();
        (failure(&origin, "gather") && failure(&berlin, "report")).then_some(())
    });
    let audience = audience_when(&origin, "a silent edge", |audience| audience["silent_listeners"] == 1);
    assert_adds_up(&audience);
    assert_eq!(Metrics::of(origin.address).sum("aircheck_gather_connected", &[]), 0.0);
    assert_eq!(Metrics::of(berlin.address).sum("aircheck_report_connected", &[]), 0.0);
    nats.restart();
    audience_when(&origin, "two listeners", |audience| audience["listeners"] == 2);
    for (server, end) in [(&origin, "gather"), (&berlin, "report")] {
        let status = server.json("api/v1/status")[end].clone();
        assert_eq!(
            (&status["connected"], &status["failure"], &status["reconnects"]),
            (&true.into(), &Value::Null, &1.into())
        );
    }
    assert_eq!((origin.rows().len(), berlin.rows().len()), (1, 1));
}

#[test]
fn nats_decides_who_may_report_under_a_name() {
    let users = r#"authorization { users: [
        { user: hub, password: x }
        { user: berlin, password: x, permissions: { publish: ["radio.edges.berlin"], subscribe: ["_INBOX.>"] } }
        { user: nobody, password: x, permissions: { publish: ["elsewhere"], subscribe: ["elsewhere"] } }
    ] }"#;
    let nats = Nats::start(users);
    let origin = Server::start(&["--source", "tone:440", "--gather", &nats.url_as("hub:x", EDGES)]);
    let report = |user: &str, name: &str| {
        let url = nats.url_as(&format!("{user}:x"), EDGES);
        Server::start(&["--source", "tone:880", "--report", &url, "--report-as", name])
    };
    let (_berlin, paris) = (report("berlin", "berlin"), report("berlin", "paris"));
    wait_for_listeners(&origin, "berlin", 0);
    paris.wait_for_log("cannot report on listeners at nats://127.0.0.1");
    let failure =
        eventually("a refusal", || paris.json("api/v1/status")["report"]["failure"].as_str().map(str::to_owned));
    assert!(failure.contains("radio.edges.paris") && failure.contains("permit that"), "{failure}");
    let stranger = Server::start(&["--source", "tone:440", "--gather", &nats.url_as("nobody:x", EDGES)]);
    let failure =
        eventually("a refusal", || stranger.json("api/v1/status")["gather"]["failure"].as_str().map(str::to_owned));
    assert!(failure.contains("radio.edges.*"), "{failure}");
    let wrong = Server::start(&["--source", "tone:440", "--gather", &nats.url_as("hub:s3cret", EDGES)]);
    wrong.wait_for_log("refuses these credentials");
    assert!(![wrong.log(), wrong.text("api/v1/status")].iter().any(|text| text.contains("s3cret")));
    let audience = audience(&origin);
    assert_eq!(audience["edges"].as_array().unwrap().len(), 1, "{audience:#}");
}

#[test]
fn a_server_that_gathers_nothing_shows_its_own_listeners_and_one_that_does_both_shows_itself_once() {
    let alone = Server::start(&["--source", "tone:440"]);
    let _one = listener(&alone, "one");
    let audience = audience(&alone);
    assert_adds_up(&audience);
    assert_eq!((&audience["listeners"], &audience["edges"]), (&1.into(), &json!([])));
    assert_eq!(alone.json("api/v1/status")["gather"], Value::Null);
    assert!(!alone.text("metrics").contains("aircheck_gather_") && !alone.text("metrics").contains("aircheck_report_"));
    let nats = Nats::start("");
    let url = nats.url(EDGES);
    let both = Server::start(&["--source", "tone:440", "--gather", &url, "--report", &url, "--report-as", "hub"]);
    let _two = listener(&both, "two");
    eventually("its reports", || (both.json("api/v1/status")["report"]["sent"].as_u64() > Some(2)).then_some(()));
    let audience = self::audience(&both);
    assert_eq!((&audience["listeners"], &audience["edges"]), (&1.into(), &json!([])), "{audience:#}");
    assert_eq!(both.json("api/v1/status")["gather"]["messages"]["taken"], 0);
}
