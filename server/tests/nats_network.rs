//! The hop over networks of NATS servers: clusters and leaf nodes, identities and permissions, links that are cut or slow.
//!
//! Where a network namespace is needed, which root can make, a test is skipped without it and says so; under CI it fails.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;
#[path = "common/hop.rs"]
mod hop;
#[path = "common/namespace.rs"]
mod namespace;
#[path = "common/nats.rs"]
mod nats;
#[path = "common/process.rs"]
mod process;
#[path = "common/truth.rs"]
mod truth;

use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer};
use serde_json::{Value, json};

use common::{Server, eventually, refused};
use hop::{Lines, assert_accounts, edge_with, impatient_edge, lost_of, origin};
use namespace::{Namespace, or_skip};
use nats::Nats;

const SUBJECT: &str = "radio.one";

/// A listener of an edge, which reads on a thread of its own.
struct Listener {
    heard: Arc<Mutex<Heard>>,
    thread: Option<JoinHandle<()>>,
}

/// What a listener has heard so far.
#[derive(Default)]
struct Heard {
    last: Option<u64>,
    lost: Vec<(String, u64)>,
    blocks: usize,
    /// Blocks since the last loss.
    unbroken: usize,
    is_over: bool,
}

impl Heard {
    /// Takes a block, or a gap. Each begins where the one before it has ended.
    fn take(&mut self, line: &Value) {
        let number = |value: &Value| value.as_u64().unwrap();
        let (first, blocks) = match line.get("gap") {
            Some(gap) => (number(&gap["from"]), number(&gap["blocks"])),
            None if line["sequence"].is_null() || !line["epoch"].is_null() => return,
            None => (number(&line["sequence"]), 1),
        };
        assert!(self.last.is_none_or(|last| first == last + 1), "after {:?} comes {line}", self.last);
        self.last = Some(first + blocks - 1);
        if let Some(gap) = line.get("gap") {
            self.lost.push((gap["reason"].as_str().unwrap().to_owned(), blocks));
            self.unbroken = 0;
        } else {
            self.blocks += 1;
            self.unbroken += 1;
        }
    }
}

impl Listener {
    fn of(edge: &Server) -> Self {
        let mut lines = Lines::of(edge);
        let heard = Arc::<Mutex<Heard>>::default();
        let hears = Arc::clone(&heard);
        let thread = std::thread::spawn(move || {
            loop {
                let line = lines.next();
                let mut heard = hears.lock().unwrap();
                if heard.is_over {
                    return;
                }
                heard.take(&line);
            }
        });
        Self { heard, thread: Some(thread) }
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().expect("the listener is there")
    }

    /// Waits for so many blocks.
    fn hear(&self, blocks: usize) {
        let wanted = self.heard().blocks + blocks;
        eventually("blocks", || (self.heard().blocks >= wanted).then_some(()));
    }

    /// Waits for so many blocks of which none is lost.
    fn hear_unbroken(&self, blocks: usize) {
        self.heard().unbroken = 0;
        eventually("unbroken sound", || (self.heard().unbroken >= blocks).then_some(()));
    }

    /// Returns how many blocks it has lost, all of them on the hop.
    fn lost(&self) -> u64 {
        let heard = self.heard();
        let lost = lost_of(&heard.lost, "hop");
        assert_eq!(lost, heard.lost.iter().map(|(_, blocks)| blocks).sum::<u64>(), "{:?}", heard.lost);
        lost
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Ok(mut heard) = self.heard.lock() {
            heard.is_over = true;
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn status(server: &Server, end: &str) -> Value {
    server.json("api/v1/status")[end].clone()
}

/// Waits until the server says so of its connection, and asserts meanwhile that all blocks are accounted for at all of them.
fn wait_for(servers: &[&Server], what: &str, is_there: impl Fn() -> bool) {
    eventually(what, || {
        servers.iter().for_each(|server| assert_accounts(server));
        is_there().then_some(())
    });
}

fn is_connected(server: &Server, end: &str) -> bool {
    status(server, end)["connected"] == true
}

/// Asserts that an edge has told its listener of each block that was lost on the hop, of at least one, and of one run of the origin.
fn assert_told(edge: &Server, listener: &Listener) {
    assert!(listener.lost() > 0);
    // What was held up comes at once, and the listener hears it after the edge has counted it.
    let capture = eventually("one count on both sides", || {
        let capture = edge.json("api/v1/status")["capture"].clone();
        (capture["lost_hop"] == listener.lost()).then_some(capture)
    });
    assert_eq!((&capture["lost_source"], &capture["lost_overflow"]), (&0.into(), &0.into()), "{capture}");
    assert_eq!(status(edge, "hop")["epochs"], 1);
    assert_accounts(edge);
}

/// Kills a node that has stood still while the origin sent on. What came to it meanwhile is lost with it: where a node dies at once, its
/// clients may be at another one before the next message.
fn kill_with_what_it_holds(node: &mut Nats, origin: &Server) {
    let sent = || status(origin, "publish")["sent"].as_u64().unwrap();
    node.signal("STOP");
    let before = sent();
    eventually("messages that the node does not pass on", || (sent() >= before + 10).then_some(()));
    node.kill();
}

#[test]
fn a_node_of_a_cluster_that_dies_costs_a_counted_gap_and_no_listener() {
    let mut nodes = Nats::cluster();
    let ports = [0, 1, 2].map(|n: usize| nodes[n].port());
    let url = |order: [usize; 3]| {
        let servers = order.map(|n| format!("127.0.0.1:{}", ports[n])).join(",");
        format!("nats://{servers}/{SUBJECT}")
    };
    let origin = origin("tone:440", &url([0, 1, 2]));
    let edge = impatient_edge(&url([2, 1, 0]));
    let listener = Listener::of(&edge);
    listener.hear(50);
    assert_eq!(listener.lost(), 0);
    // That of the origin, and then that of the edge.
    kill_with_what_it_holds(&mut nodes[0], &origin);
    wait_for(&[&origin, &edge], "the origin at another node", || {
        let publish = status(&origin, "publish");
        publish["reconnects"] == 1 && publish["connected"] == true
    });
    listener.hear_unbroken(50);
    assert_told(&edge, &listener);
    assert_eq!(status(&edge, "hop")["reconnects"], 0);
    let lost_before = listener.lost();
    kill_with_what_it_holds(&mut nodes[2], &origin);
    wait_for(&[&origin, &edge], "the edge at another node", || {
        let hop = status(&edge, "hop");
        hop["reconnects"] == 1 && hop["connected"] == true
    });
    eventually("the gap", || (listener.lost() > lost_before).then_some(()));
    listener.hear_unbroken(50);
    assert_told(&edge, &listener);
    assert_eq!(status(&origin, "publish")["reconnects"], 1);
    assert_accounts(&origin);
}

/// Carries connections to a server, and can be cut.
struct Bridge {
    port: u16,
    state: Arc<Mutex<Carried>>,
}

#[derive(Default)]
struct Carried {
    is_cut: bool,
    streams: Vec<TcpStream>,
}

impl Bridge {
    fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let bridge = Self { port: listener.local_addr().unwrap().port(), state: Arc::default() };
        let state = Arc::clone(&bridge.state);
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let mut state = state.lock().unwrap();
                let Ok(far) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                if state.is_cut {
                    continue;
                }
                for (mut from, mut to) in
                    [(&near, &far), (&far, &near)].map(|(a, b)| (a.try_clone().unwrap(), b.try_clone().unwrap()))
                {
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
                state.streams.extend([near, far]);
            }
        });
        bridge
    }

    fn cut(&self) {
        let mut state = self.state.lock().unwrap();
        state.is_cut = true;
        state.streams.drain(..).for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
    }

    fn mend(&self) {
        self.state.lock().unwrap().is_cut = false;
    }
}

#[test]
fn an_edge_at_a_leaf_node_hears_the_hub_and_outlives_a_cut_of_their_link() {
    let hub = Nats::start("leafnodes { listen: \"127.0.0.1:-1\" }");
    let link = Bridge::to(hub.port_in_log("Listening for leafnode connections on "));
    let leaf = Nats::start(&format!(
        "leafnodes {{ reconnect: 1, remotes: [{{ url: \"nats-leaf://127.0.0.1:{}\" }}] }}",
        link.port
    ));
    let origin = origin("tone:440", &hub.url(SUBJECT));
    let edge = edge_with(&leaf.url(SUBJECT), &["--wait-for-source"]);
    eventually("the stream", || (edge.json("api/v1/mounts")[0]["state"] == "live").then_some(()));
    let listener = Listener::of(&edge);
    listener.hear(50);
    // What was captured before it was connected.
    let lost_before = status(&origin, "publish")["lost"].clone();
    link.cut();
    wait_for(&[&origin, &edge], "silence", || edge.json("api/v1/status")["capture"]["lost_hop"].as_u64() > Some(50));
    // Each is still connected to its own server.
    assert!(is_connected(&origin, "publish") && is_connected(&edge, "hop"));
    link.mend();
    listener.hear_unbroken(50);
    assert_told(&edge, &listener);
    let publish = status(&origin, "publish");
    assert_eq!((&publish["lost"], &publish["reconnects"]), (&lost_before, &0.into()), "{publish}");
}

/// A certificate authority of this test's own. Returns the files of its certificate, and of one that it gave to a server with its key.
fn authority(directory: &Path, name: &str) -> [PathBuf; 3] {
    let file = |suffix: &str, text: String| {
        let path = directory.join(format!("{name}-{suffix}"));
        std::fs::write(&path, text).unwrap();
        path
    };
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let key = rcgen::KeyPair::generate().unwrap();
    let server = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    [file("ca.pem", authority.pem()), file("server.pem", server.pem()), file("server.key", key.serialize_pem())]
}

#[test]
fn a_certificate_is_checked_and_its_authority_can_be_given() {
    let directory = tempfile::tempdir().unwrap();
    let [ca, certificate, key] = authority(directory.path(), "own");
    let [other_ca, ..] = authority(directory.path(), "other");
    let nats =
        Nats::start(&format!("tls {{ cert_file: \"{}\", key_file: \"{}\" }}", certificate.display(), key.display()));
    let url = |ca: &Path| format!("tls://127.0.0.1:{}/{SUBJECT}?ca={}", nats.port(), ca.display());
    let origin = origin("tone:440", &url(&ca));
    let edge = impatient_edge(&url(&ca));
    Listener::of(&edge).hear(20);
    assert_accounts(&origin);
    let refusal = |url: &str| {
        let (code, stderr) = refused(&["--source", url]);
        assert_eq!(code, 1, "{stderr}");
        stderr.lines().last().unwrap_or_default().to_owned()
    };
    let unknown = format!("tls://127.0.0.1:{}/{SUBJECT}", nats.port());
    for url in [url(&other_ca), unknown] {
        let line = refusal(&url);
        assert!(line.contains("cannot encrypt the connection") && line.contains("?ca=FILE"), "{line}");
    }
    let line = refusal(&url(Path::new("/nonexistent/ca.pem")));
    assert!(line.contains("/nonexistent/ca.pem"), "{line}");
    let plain = Nats::start("");
    let line = refusal(&format!("tls://127.0.0.1:{}/{SUBJECT}?ca={}", plain.port(), ca.display()));
    assert!(line.contains("cannot encrypt the connection"), "{line}");
}

/// Returns a token of NATS (<https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_intro/jwt>), signed by `issuer`.
fn jwt(issuer: &KeyPair, subject: &KeyPair, claims: Value) -> String {
    let claims = json!({
        "jti": "1", "iat": 1_790_000_000, "iss": issuer.public_key(), "sub": subject.public_key(), "name": "test", "nats": claims,
    });
    let text = [json!({"typ": "JWT", "alg": "ed25519-nkey"}), claims]
        .map(|part| BASE64_URL_SAFE_NO_PAD.encode(part.to_string()))
        .join(".");
    let signature = BASE64_URL_SAFE_NO_PAD.encode(issuer.sign(text.as_bytes()).unwrap());
    format!("{text}.{signature}")
}

/// Writes a file of credentials, as `nsc` does.
fn write_credentials(path: &Path, account: &KeyPair) {
    let user = KeyPair::new_user();
    let claims = json!({"pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1, "type": "user", "version": 2});
    let text = format!(
        "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        jwt(account, &user, claims),
        user.seed().unwrap()
    );
    std::fs::write(path, text).unwrap();
}

#[test]
fn tokens_and_credentials_let_in_who_has_the_right_ones() {
    let check = |nats: &Nats, right: &dyn Fn(&str) -> String, wrong: &str| {
        let url = right(SUBJECT);
        let _origin = origin("tone:440", &url);
        let edge = impatient_edge(&url);
        Listener::of(&edge).hear(20);
        assert!(!edge.log().contains("s3cret"), "{}", edge.log());
        assert_eq!(status(&edge, "hop")["from"], nats.url(SUBJECT));
        let (code, stderr) = refused(&["--source", wrong]);
        let line = stderr.lines().last().unwrap_or_default();
        assert!(code == 1 && line.contains("refuses these credentials"), "{stderr}");
        assert!(!stderr.contains("wr0ng"), "{stderr}");
    };
    let nats = Nats::start("authorization { token: s3cret }");
    check(&nats, &|subject| nats.url_as("s3cret", subject), &nats.url_as("wr0ng", SUBJECT));

    let directory = tempfile::tempdir().unwrap();
    let [operator, account, other] = [KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_account()];
    let limits = json!({"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1});
    let nats = Nats::start(&format!(
        "operator: {}\nresolver: MEMORY\nresolver_preload: {{ {}: {} }}",
        jwt(&operator, &operator, json!({"type": "operator", "version": 2})),
        account.public_key(),
        jwt(&operator, &account, json!({"limits": limits, "type": "account", "version": 2})),
    ));
    let [right, wrong] = ["right", "wrong"].map(|name| directory.path().join(format!("{name}.creds")));
    write_credentials(&right, &account);
    write_credentials(&wrong, &other);
    let url = |file: &Path, subject: &str| format!("{}?credentials={}", nats.url(subject), file.display());
    check(&nats, &|subject| url(&right, subject), &url(&wrong, SUBJECT));
    let (code, stderr) = refused(&["--source", &url(Path::new("/nonexistent.creds"), SUBJECT)]);
    let text = "cannot read the credentials in /nonexistent.creds";
    assert!(code == 1 && stderr.lines().last().is_some_and(|line| line.contains(text)), "{stderr}");
}

#[test]
fn what_is_not_permitted_is_told_once_and_works_as_soon_as_it_is() {
    let users = |origin: &str, edge: &str| {
        format!(
            "authorization {{ users = [ {{ user: o, password: o, permissions: {{ {origin} }} }}, {{ user: e, password: e, permissions: {{ {edge} }} }} ] }}"
        )
    };
    let nats =
        Nats::start(&users("publish: { deny: radio.one }", "subscribe: { deny: [radio.one, radio.one.numbers] }"));
    let origin = Server::start(&["--source", "tone:440", "--publish", &nats.url_as("o:o", SUBJECT)]);
    let edge = Server::start(&["--source", &nats.url_as("e:e", SUBJECT), "--wait-for-source"]);
    let refusals = |server: &Server| {
        let log = server.log();
        log.lines().filter(|line| line.contains("NATS refuses") && line.contains("permit that")).count()
    };
    eventually("refusals", || (refusals(&origin) > 0 && refusals(&edge) > 0).then_some(()));
    // It is tried several times meanwhile.
    let lost = || status(&origin, "publish")["lost"].as_u64().unwrap();
    wait_for(&[&origin], "four seconds", || lost() > 400);
    assert_eq!([refusals(&origin), refusals(&edge)], [1, 1], "{} {}", origin.log(), edge.log());
    assert_eq!(status(&origin, "publish")["sent"], 0);
    // Without the permission to tell of its numbers, an edge takes the sound all the same.
    nats.reload(&users("", "subscribe: { deny: radio.one.numbers }"));
    wait_for(&[&origin], "the publisher", || is_connected(&origin, "publish"));
    eventually("the stream", || (edge.json("api/v1/mounts")[0]["state"] == "live").then_some(()));
    Listener::of(&edge).hear(20);
    edge.wait_for_log("cannot ask here where its numbers go on");
    // What was permitted is so no longer.
    nats.reload(&users("publish: { deny: radio.one }", ""));
    wait_for(&[&origin, &edge], "a refusal", || !is_connected(&origin, "publish"));
    nats.reload(&users("", ""));
    wait_for(&[&origin, &edge], "the publisher", || is_connected(&origin, "publish"));
    Listener::of(&edge).hear_unbroken(20);
    // Without marks, which show how far NATS has read, the sound goes on for longer than the two seconds that may be in flight.
    nats.reload(&users("publish: { deny: radio.one.clock }", ""));
    origin.wait_for_log("it cannot be seen how far NATS has read");
    let publish = || ["sent", "lost"].map(|count| status(&origin, "publish")[count].as_u64().unwrap());
    let [sent, lost] = publish();
    wait_for(&[&origin, &edge], "four seconds", || publish()[0] >= sent + 400);
    assert_eq!(publish()[1], lost);
}

/// A NATS server in a namespace, with a wire to the origin and one to the edge.
fn between_wires(index: usize, lines: &str) -> Option<(Nats, [Namespace; 2])> {
    let wires = Namespace::new(index).and_then(|first| {
        let second = first.second_wire(index + 1)?;
        // So that what waits for a slow link waits in the NATS server, and not in its system.
        first.run(&["sh", "-c", "echo 4096 16384 65536 >/proc/sys/net/ipv4/tcp_wmem"])?;
        Ok([first, second])
    });
    let wires = or_skip(wires)?;
    let nats = Nats::start_behind(&["ip", "netns", "exec", &wires[0].name], lines);
    Some((nats, wires))
}

fn url_over(wire: &Namespace, nats: &Nats) -> String {
    format!("nats://{}:{}/{SUBJECT}", wire.far_address, nats.port())
}

#[test]
fn a_link_that_is_cut_on_either_side_of_nats_costs_a_counted_gap_and_no_listener() {
    let Some((nats, wires)) = between_wires(0, "") else { return };
    let origin = origin("tone:440", &url_over(&wires[0], &nats));
    let edge = impatient_edge(&url_over(&wires[1], &nats));
    let listener = Listener::of(&edge);
    listener.hear(50);
    for (wire, (server, end)) in wires.iter().zip([(&origin, "publish"), (&edge, "hop")]) {
        wire.set_link("down").unwrap();
        wait_for(&[&origin, &edge], "a lost connection", || !is_connected(server, end));
        wire.set_link("up").unwrap();
        wait_for(&[&origin, &edge], "a new connection", || is_connected(server, end));
        listener.hear_unbroken(50);
        assert_told(&edge, &listener);
    }
    assert_eq!(status(&origin, "publish")["reconnects"], 1);
    assert_eq!(status(&edge, "hop")["reconnects"], 1);
}

#[test]
fn a_link_that_is_too_slow_loses_what_it_cannot_carry_and_holds_no_memory() {
    // The stream has 198 kB a second.
    let Some((nats, wires)) = between_wires(2, "max_payload: 65536\nmax_pending: 262144\nwrite_deadline: \"2s\"")
    else {
        return;
    };
    let origin = origin("tone:440", &url_over(&wires[0], &nats));
    let edge = impatient_edge(&url_over(&wires[1], &nats));
    let listener = Listener::of(&edge);
    listener.hear(50);
    assert_eq!(listener.lost(), 0);
    let before = process::resident_kib(edge.pid());
    wires[1].limit_from_far(Some(60_000)).unwrap();
    // Whose connection NATS gives up, the edge's or that of the origin that it holds up for it, is NATS's choice.
    wait_for(&[&origin, &edge], "lost blocks", || {
        edge.json("api/v1/status")["capture"]["lost_hop"].as_u64() > Some(1000)
    });
    let grown = process::resident_kib(edge.pid()).saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB more");
    wires[1].limit_from_far(None).unwrap();
    listener.hear_unbroken(100);
    assert_told(&edge, &listener);
    assert_accounts(&origin);
}

#[test]
fn an_origin_whose_link_is_too_slow_keeps_what_is_late_out_of_it() {
    let Some((nats, wires)) = between_wires(4, "") else { return };
    let origin = origin("tone:440", &url_over(&wires[0], &nats));
    let edge = impatient_edge(&url_over(&wires[1], &nats));
    let listener = Listener::of(&edge);
    listener.hear(50);
    assert_eq!(listener.lost(), 0);
    let sent = || status(&origin, "publish")["sent"].as_u64().unwrap();
    let came = || {
        let messages = &status(&edge, "hop")["messages"];
        ["taken", "late"].iter().map(|outcome| messages[outcome].as_u64().unwrap()).sum::<u64>()
    };
    wires[0].limit_to_far(Some(60_000)).unwrap();
    wait_for(&[&origin, &edge], "lost blocks", || {
        // Two seconds, and what the client has at hand; less what is sent and comes between the two looks.
        let in_flight = sent().saturating_sub(came());
        assert!(in_flight < 350, "{in_flight} blocks");
        status(&origin, "publish")["lost"].as_u64() > Some(1000)
    });
    wires[0].limit_to_far(None).unwrap();
    listener.hear_unbroken(100);
    assert_told(&edge, &listener);
    assert_accounts(&origin);
    assert_eq!(status(&origin, "publish")["reconnects"], 0);
}

/// Returns the message of a block with these numbers, made from one that an origin has sent, and captured as much later.
fn message(of: &[u8], epoch: u64, number: u64) -> Vec<u8> {
    let mut message = of.to_vec();
    let captured_nanos = u64::from_le_bytes(of[48..56].try_into().unwrap()) + number * 10_000_000;
    for (at, value) in
        [(24, epoch), (32, number), (40, number), (48, captured_nanos), (56, captured_nanos + 10_000_000)]
    {
        message[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    message
}

#[test]
fn messages_that_find_the_subscription_full_are_lost_and_hold_no_memory() {
    // A minute of sound at once, 12 MB: no edge believes in a longer leap.
    const BURST: u64 = 5900;
    const EPOCH: u64 = 1_790_000_000_000_000_000;

    let nats = Nats::start("");
    let mut client = nats.client();
    let block = {
        let _origin = origin("tone:440", &nats.url("radio.two"));
        client.next_of("radio.two")
    };
    // An origin by hand. At first it sends until it is heard.
    let mut number = 0;
    let (edge, listener) = std::thread::scope(|scope| {
        let starting = scope.spawn(|| {
            let edge = impatient_edge(&nats.url(SUBJECT));
            let listener = Listener::of(&edge);
            listener.hear(1);
            (edge, listener)
        });
        while !starting.is_finished() {
            client.publish(SUBJECT, &message(&block, EPOCH, number));
            number += 1;
            std::thread::sleep(Duration::from_millis(10));
        }
        starting.join().unwrap()
    });
    let before = process::resident_kib(edge.pid());
    let burst: Vec<_> = (number..number + BURST).map(|number| message(&block, EPOCH, number)).collect();
    client.publish_all(SUBJECT, &burst);
    eventually("an event", || (status(&edge, "hop")["slow_consumer_events"].as_u64() > Some(0)).then_some(()));
    let grown = process::resident_kib(edge.pid()).saturating_sub(before);
    // The newest are dropped, so that their loss is told by the first one after them that finds room.
    let mut next = number + BURST;
    eventually("a block after the burst", || {
        client.publish(SUBJECT, &message(&block, EPOCH, next));
        next += 1;
        (listener.heard().last >= Some(number + BURST)).then_some(())
    });
    let capture = edge.json("api/v1/status")["capture"].clone();
    let lost_on_hop = capture["lost_hop"].as_u64().unwrap();
    assert!(lost_on_hop > BURST / 2, "{capture}");
    assert_eq!((&capture["lost_source"], &capture["lost_overflow"]), (&0.into(), &0.into()), "{capture}");
    // What came at once was more than a rendition holds, too.
    assert!(listener.heard().lost.iter().map(|(_, blocks)| blocks).sum::<u64>() >= lost_on_hop);
    assert_accounts(&edge);
    assert!(grown < 6 * 1024, "{grown} KiB more");
}
