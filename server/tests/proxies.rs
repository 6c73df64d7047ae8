//! Behind real proxies, with the configurations of docs/operations.md: who listens, and how the sound gets through.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use aircheck_api::TokenHash;
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;
use tungstenite::{Message, WebSocket};

use common::{Listener, Server, TEST_TIMEOUT, connect_from, curl, eventually, raw, tls};

/// The flag that trusts the proxies of these tests, which connect from this address.
const TRUST: [&str; 2] = ["--trusted-proxy", "127.0.0.1"];
/// The clients' own address.
const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const CLIENT_TEXT: &str = "127.0.0.2";
/// nginx's default: it names the server itself as the host, and takes `Upgrade` off.
const PLAIN_NGINX: &str = "server { listen 443 ssl; location / { proxy_pass http://127.0.0.1:8700; } }";

/// A proxy before a server, ended when dropped.
struct Proxy {
    process: Child,
    address: SocketAddr,
    directory: TempDir,
}

impl Proxy {
    /// Starts nginx with a configuration as in the documentation, without its certificate.
    fn nginx(config: &str, server: &Server) -> Self {
        let config: String =
            config.lines().filter(|line| !line.contains("ssl_certificate")).map(|line| format!("{line}\n")).collect();
        Self::start(&config.replace("443 ssl", "ADDRESS sndbuf=8k"), server, |config, directory| {
            let temporary =
                ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|kind| format!("{kind}_temp_path temp;"));
            let config = format!(
                "daemon off; master_process off; pid pid; error_log error.log; events {{}}\n\
                 http {{ access_log off; {}\n{config}\n}}",
                temporary.join(" ")
            );
            fs::write(directory.join("config"), config).unwrap();
            let mut nginx = Command::new("nginx");
            nginx.arg("-p").arg(directory).args(["-c", "config", "-e", "error.log"]);
            nginx
        })
    }

    /// Starts HAProxy with a configuration as in the documentation, without its certificate.
    fn haproxy(config: &str, server: &Server) -> Self {
        let config = config.replace(" ssl crt /etc/haproxy/radio.example.pem", "").replace(":443", "ADDRESS");
        Self::start(&config, server, |config, directory| {
            fs::write(directory.join("config"), config).unwrap();
            let mut haproxy = Command::new("haproxy");
            haproxy.args(["-db", "-q", "-f"]).arg(directory.join("config"));
            haproxy
        })
    }

    /// Starts a proxy that listens at `ADDRESS` in `config`, and waits until it does.
    fn start(config: &str, server: &Server, command: impl Fn(&str, &Path) -> Command) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // A port that was free a moment ago.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config =
            config.replace("ADDRESS", &address.to_string()).replace("127.0.0.1:8700", &server.address.to_string());
        let log = fs::File::create(directory.path().join("log")).unwrap();
        let mut command = command(&config, directory.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let process = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}; see deploy/setup.sh"));
        let mut proxy = Self { process, address, directory };
        eventually("the proxy", || {
            let ended = proxy.process.try_wait().unwrap();
            assert!(ended.is_none(), "the proxy has ended");
            TcpStream::connect(proxy.address).ok()
        });
        proxy
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// Starts a listener in a process of its own, at the clients' address.
    fn listen(&self, path: &str, file: &Path) -> Listener {
        let (url, file) = (self.url(path), file.to_str().unwrap());
        Listener::of(curl(&["--interface", CLIENT_TEXT, "--output", file, &url]).stderr(Stdio::null()))
    }

    /// Opens the WebSocket from the clients' address, and reads its first message.
    fn websocket(&self, query: &str) -> WebSocket<TcpStream> {
        let url = format!("ws://{}/stream{query}", self.address);
        let (mut socket, _) = tungstenite::client(url, connect_from(CLIENT, self.address)).unwrap();
        let hello = socket.read().unwrap();
        assert!(hello.to_text().unwrap().starts_with(r#"{"hello":"#), "{hello:?}");
        socket
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            for name in ["log", "error.log", "config"] {
                let text = fs::read_to_string(self.directory.path().join(name)).unwrap_or_default();
                eprintln!("the proxy's {name}:\n{text}");
            }
        }
    }
}

/// Returns the configuration of the documentation in this language.
fn documented(language: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md");
    let text = fs::read_to_string(path).unwrap();
    let (_, block) = text.split_once(&format!("```{language}\n")).unwrap_or_else(|| panic!("no block of {language}"));
    block.split_once("```").unwrap().0.to_owned()
}

/// Starts a server that trusts the proxies of these tests.
fn trusting(flags: &[&str]) -> Server {
    Server::start(&[&["--source", "tone:440"][..], &TRUST, flags].concat())
}

/// Returns what a row tells of the way to its listener.
fn way(row: &Value) -> [&Value; 2] {
    [&row["remote"], &row["via"]]
}

fn length(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |metadata| metadata.len())
}

/// Checks that sound comes through a proxy of HTTP as it is sent, by each kind of stream, and that the rows tell the client.
fn check_http(server: &Server, proxy: &Proxy) {
    let directory = tempfile::tempdir().unwrap();
    let [through, direct] = ["through", "direct"].map(|name| directory.path().join(name));
    // Some 60 bytes in each page of 100 ms: a proxy that gathers a kilobyte of them is seconds behind the direct listener.
    let path = "stream.opus?bitrate=6k&name=";
    let _through = proxy.listen(&format!("{path}through"), &through);
    let row = server.row_when("through", |row| row["delivered"].as_u64() > Some(0));
    assert_eq!(way(&row), [CLIENT_TEXT, "127.0.0.1"], "{row}");
    assert!([&Value::Null, &Value::from("proxy")].contains(&&row["fault"]), "{row}");
    let _direct = Listener::start(&server.url(&format!("{path}direct")), &direct);
    eventually("sound through the proxy", || {
        assert!(length(&direct) < 1400, "the direct listener has {} bytes first", length(&direct));
        (length(&through) > 800).then_some(())
    });
    let row = server.row_when("direct", |row| row["delivered"].as_u64() > Some(0));
    assert_eq!((&row["via"], &row["state"]), (&Value::Null, &Value::from("reads")), "{row}");
    server.row_when("through", |row| row["state"] == "through a proxy: unknown");

    let mut socket = proxy.websocket("?name=socket");
    // Reading answers the pings, by which the server hears from the listener itself.
    let row = eventually("a listener that is heard from", || {
        let blocks = (0..100).filter(|_| matches!(socket.read().unwrap(), Message::Binary(_))).count();
        assert!(blocks > 50, "sound comes");
        server.rows().into_iter().find(|row| row["name"] == "socket" && row["state"] == "reads")
    });
    assert_eq!(way(&row), [CLIENT_TEXT, "127.0.0.1"], "{row}");

    let events = directory.path().join("events");
    let url = proxy.url("stream?name=events");
    let accept = "Accept: text/event-stream";
    let _events = Listener::of(&mut curl(&["--header", accept, "--output", events.to_str().unwrap(), &url]));
    eventually("three events", || {
        (fs::read_to_string(&events).unwrap_or_default().matches("\nid: ").count() >= 3).then_some(())
    });
}

/// Opens a stream of samples through a proxy of HTTP with little room, and does not read it.
fn freeze(proxy: &Proxy) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.bind(&SocketAddr::from((CLIENT, 0)).into()).unwrap();
    socket.connect(&proxy.address.into()).unwrap();
    (&socket).write_all(b"GET /stream.wav?name=frozen&sample=f32le HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    socket
}

#[test]
fn nginx_passes_on_each_kind_of_stream_as_it_comes() {
    let server = trusting(&[]);
    let proxy = Proxy::nginx(&documented("nginx"), &server);
    check_http(&server, &proxy);
}

/// A viewer's connection to the cache, which gets whole answers.
struct Viewer(BufReader<TcpStream>);

impl Viewer {
    fn connect(address: SocketAddr) -> Self {
        Self(BufReader::new(connect_from(CLIENT, address)))
    }

    /// Returns the body of an answer, which must be one of success.
    fn get(&mut self, path: &str) -> Vec<u8> {
        let request = format!("GET /{path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        // At once: pieces would wait for each other's acknowledgement.
        self.0.get_mut().write_all(request.as_bytes()).unwrap();
        let (mut head, mut line) = (String::new(), String::new());
        while self.0.read_line(&mut line).unwrap() > 2 {
            head += &line.to_lowercase();
            line.clear();
        }
        assert!(head.starts_with("http/1.1 200 "), "{path}: {head}");
        let (_, length) = head.split_once("content-length: ").unwrap_or_else(|| panic!("{path}: {head}"));
        let mut body = vec![0; length.lines().next().unwrap().parse().unwrap()];
        self.0.read_exact(&mut body).unwrap();
        body
    }

    /// Does what a player does when it begins, and returns what it has found in the playlist.
    fn begin(&mut self, folder: &str) -> Vec<String> {
        let master = String::from_utf8(self.get(&format!("{folder}/index.m3u8"))).unwrap();
        assert!(master.contains("\nopus/index.m3u8\n"), "{master}");
        let playlist = String::from_utf8(self.get(&format!("{folder}/opus/index.m3u8"))).unwrap();
        let header = playlist.split("URI=\"").nth(1).unwrap().split('"').next().unwrap();
        let segments: Vec<_> = playlist.lines().filter(|line| !line.starts_with('#')).collect();
        // Players begin three segments before the end.
        let wanted = [&[header], &segments[segments.len().saturating_sub(3)..]].concat();
        let wanted: Vec<_> = wanted.into_iter().map(|path| format!("{folder}/opus/{path}")).collect();
        for path in &wanted {
            assert_eq!(&self.get(path)[4..5], if path.ends_with(".m4s") { b"m" } else { b"f" }, "{path}");
        }
        wanted
    }
}

/// Ten thousand players behind nginx's cache, in the configuration of the documentation. What comes through to the server depends on the
/// time that passes and on no number of players.
#[test]
fn ten_thousand_viewers_behind_a_cache_cost_what_one_costs() {
    const VIEWERS: usize = 10_000;
    const SEGMENTS: usize = 5;
    const CONNECTIONS: usize = 8;
    let server = trusting(&[]);
    // With the sockets' usual buffers, other than where it is seen what waits in them.
    let config = documented("nginx-cache").replace("/var/cache/nginx/aircheck", "cache").replace("443 ssl", "ADDRESS");
    let proxy = Proxy::nginx(&config, &server);
    let requests = |kind: &str| {
        let metrics = server.text("metrics");
        let mut lines = metrics.lines().filter(|line| line.starts_with("aircheck_hls_requests_total"));
        let line = lines.find(|line| line.contains("format=\"opus\"") && line.contains(kind)).unwrap();
        line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()
    };
    let folder = "mounts/main/hls";
    Viewer::connect(proxy.address).begin(folder);
    let before = [requests("playlist"), requests("segment")];
    assert_eq!(before, [1, 2], "one viewer of a stream that has one segment: the playlist, the header and the segment");

    let begin = Instant::now();
    let (found, viewers) = (Mutex::new(BTreeSet::new()), AtomicUsize::new(0));
    // All of them, and until they have heard several segments.
    let is_enough = || viewers.load(Relaxed) >= VIEWERS && found.lock().unwrap().len() > SEGMENTS;
    std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                while !is_enough() {
                    let mut viewer = Viewer::connect(proxy.address);
                    // nginx ends a connection after a thousand requests.
                    for _ in 0..100 {
                        let wanted = viewer.begin(folder);
                        found.lock().unwrap().extend(wanted);
                        viewers.fetch_add(1, Relaxed);
                    }
                }
            });
        }
    });
    let seconds = begin.elapsed().as_secs_f64();
    let [playlists, segments] = [requests("playlist"), requests("segment")];
    let (found, viewers) = (found.into_inner().unwrap().len(), viewers.into_inner());
    println!(
        "{viewers} viewers in {seconds:.1} s: {playlists} requests for the playlist, {segments} for the header and {} segments",
        found - 1
    );
    // The header may be kept for a minute, a playlist for a second, and the cache counts whole ones.
    let again = seconds as usize / 60;
    assert!((found..=found + again).contains(&segments), "each once, whoever asks, and the header once a minute");
    assert!(playlists as f64 <= seconds + 3.0, "{playlists} playlists in {seconds} s");
}

#[test]
fn haproxy_passes_on_each_kind_of_stream_as_it_comes() {
    let server = trusting(&[]);
    let proxy = Proxy::haproxy(&documented("haproxy"), &server);
    check_http(&server, &proxy);
}

#[test]
fn the_fault_of_a_frozen_client_behind_nginx_is_the_proxy_s() {
    let server = trusting(&["--idle-timeout", "off"]);
    let proxy = Proxy::nginx(&documented("nginx"), &server);
    let _frozen = freeze(&proxy);
    let row = server.row_when("frozen", |row| row["verdict"] != "ok");
    assert_eq!(way(&row), [CLIENT_TEXT, "127.0.0.1"], "{row}");
    assert_eq!(row["fault"], "proxy", "{row}");
    server.row_when("frozen", |row| row["state"].as_str().unwrap().starts_with("through a proxy: has "));
}

/// nginx with connections to the server that go on for other clients' requests, where what is left of one would be answered next.
const KEEPING_NGINX: &str = "upstream aircheck { server 127.0.0.1:8700; keepalive 4; } server { listen 443 ssl; location / { \
     proxy_pass http://aircheck; proxy_http_version 1.1; proxy_set_header Connection ''; proxy_set_header Host $http_host; } }";

#[test]
fn a_request_hidden_in_another_one_passes_no_proxy() {
    const HIDDEN: &str = "GET /stream.json?name=hidden HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let server = trusting(&[]);
    let proxies = [Proxy::nginx(KEEPING_NGINX, &server), Proxy::haproxy(&documented("haproxy"), &server)];
    let chunk = format!("{:x}\r\n{HIDDEN}\r\n0\r\n\r\n", HIDDEN.len());
    let length = HIDDEN.len();
    // Each ends at one place for a reader of its length, and at another one for a reader of its chunks.
    let two_ends = [
        format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}", length + 5),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {}\r\n\r\n0\r\n\r\n{HIDDEN}", length + 5),
        format!("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"),
        format!("Content-Length: 4\r\nTransfer-Encoding : chunked\r\n\r\n{chunk}"),
        format!("Content-Length: 4\r\nTransfer-Encoding: xchunked\r\n\r\n{chunk}"),
        format!("Content-Length: 4\r\nTransfer-Encoding: \u{b}chunked\r\n\r\n{chunk}"),
        format!("Content-Length: 0\r\nContent-Length: {length}\r\n\r\n{HIDDEN}"),
        format!("Content-Length: +{length}\r\n\r\n{HIDDEN}"),
        format!("Content-Length: {length}\r\n\r\n{HIDDEN}"),
    ];
    for proxy in &proxies {
        let answers = |rest: &str, is_last: bool| {
            let mut stream = TcpStream::connect(proxy.address).unwrap();
            stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
            write!(stream, "POST /api/v1/session HTTP/1.1\r\nHost: localhost\r\n{rest}").unwrap();
            if is_last {
                stream.shutdown(Shutdown::Write).unwrap();
            }
            let mut answer = Vec::new();
            // A reset also ends the answer.
            let _ = stream.read_to_end(&mut answer);
            String::from_utf8_lossy(&answer).matches("HTTP/1.1 ").count()
        };
        for rest in &two_ends {
            let answers = answers(rest, true);
            assert!(answers <= 1, "{rest:?}: {answers} answers");
            let another = curl(&[&proxy.url("readyz")]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&another.stdout), "live", "what another client gets after {rest:?}");
        }
        // Two requests that all read as two, so that a hidden one would be seen.
        let after = "Content-Length: 0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        assert_eq!(answers(after, false), 2);
    }
    assert!(!server.log().contains("hidden"), "a hidden request has become a listener");
}

#[test]
fn each_version_of_the_proxy_protocol_tells_the_client_before_tls_and_http() {
    let of_tls = tls::flags();
    let of_tls = of_tls.each_ref().map(String::as_str);
    for (version, flags) in [("send-proxy", &[][..]), ("send-proxy-v2", &[]), ("send-proxy-v2", &of_tls)] {
        let server = trusting(flags);
        let proxy = Proxy::haproxy(&documented("haproxy-tcp").replace("send-proxy-v2", version), &server);
        let stream = connect_from(CLIENT, proxy.address);
        let own = stream.local_addr().unwrap().to_string();
        if flags.is_empty() {
            (&stream).write_all(b"GET /stream.pcm?name=client HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            let mut head = [0; 15];
            (&stream).read_exact(&mut head).unwrap();
            assert_eq!(&head, b"HTTP/1.1 200 OK");
            let row = server.row_when("client", |_| true);
            assert_eq!(way(&row), [&*own, "127.0.0.1"], "{version}");
            // What a client writes in fields is its own word, as this client is no proxy.
            let field = "X-Forwarded-For: 203.0.113.9";
            let url = proxy.url("stream.pcm?name=forger");
            let _forger =
                Listener::of(curl(&["--interface", CLIENT_TEXT, "--header", field, &url]).stdout(Stdio::null()));
            let row = server.row_when("forger", |_| true);
            assert!(row["remote"].as_str().unwrap().starts_with("127.0.0.2:"), "{row}");
        } else {
            tls::note(proxy.address, &tls::certificate_of(server.address).unwrap());
            let url = format!("https://{}/stream.pcm?name=client", proxy.address);
            let _listener = Listener::of(curl(&["--interface", CLIENT_TEXT, &url]).stdout(Stdio::null()));
            let row = server.row_when("client", |_| true);
            assert!(row["remote"].as_str().unwrap().starts_with("127.0.0.2:"), "{row}");
            assert_eq!(row["via"], "127.0.0.1");
        }
    }
}

#[test]
fn an_untrusted_peer_s_word_changes_nothing() {
    for flags in [&["--source", "tone:440"][..], &["--source", "tone:440", "--trusted-proxy", "10.0.0.0/8"]] {
        let server = Server::start(flags);
        let fields =
            ["--header", "X-Forwarded-For: 203.0.113.9", "--header", "Forwarded: for=203.0.113.9;host=evil.example"];
        let url = server.url("stream.pcm?name=forger");
        let _forger = Listener::of(curl(&[&fields[..], &[&url]].concat()).stdout(Stdio::null()));
        let row = server.row_when("forger", |_| true);
        assert!(row["remote"].as_str().unwrap().starts_with("127.0.0.1:"), "{row}");
        assert_eq!(row["via"], Value::Null);
        // Its header is no request.
        for header in [&b"PROXY TCP4 203.0.113.9 127.0.0.1 1 2\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"] {
            let answer = raw(server.address, &[header, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"].concat());
            assert!(answer.starts_with(b"HTTP/1.1 400 Bad Request"), "{}", answer.escape_ascii());
        }
    }
}

#[test]
fn a_header_that_breaks_the_proxy_protocol_gets_one_line_and_harms_no_other() {
    let server = trusting(&[]);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("sound");
    let _listener = Listener::start(&server.url("stream.pcm?name=other"), &file);
    let before = server.row_when("other", |row| row["delivered"].as_u64() > Some(0));
    let long = [b"PROXY ", &[b'x'; 200][..]].concat();
    for (header, reason) in [
        (&b"PROXY TCP4 garbage\r\nGET / HTTP/1.1\r\n\r\n"[..], "its PROXY header is not one of version 1"),
        (&long, "its PROXY header has no end within 107 bytes"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x02ab", "its PROXY header is too short for its addresses"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff", "its PROXY header has more than 2048 bytes"),
        (b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0", "its PROXY header is of another version, or has another command"),
    ] {
        let answer = String::from_utf8(raw(server.address, header)).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        assert!(answer.ends_with(&format!(r#"{{"error":"{reason}"}}"#)), "{answer}");
        server.wait_for_log(&format!("closed a connection of the proxy 127.0.0.1: {reason}"));
        assert_eq!(server.log().matches(reason).count(), 1);
    }
    let delivered = before["delivered"].as_u64();
    let row = server.row_when("other", |row| row["delivered"].as_u64() > delivered);
    assert_eq!(row["lost"], 0);
}

#[test]
fn a_header_in_pieces_and_a_health_check_are_taken() {
    let server = trusting(&[]);
    let mut stream = connect_from(Ipv4Addr::LOCALHOST, server.address);
    stream.set_nodelay(true).unwrap();
    for piece in ["PR", "OXY TCP6 2001:db8::7 ", "::1 4711 8700\r"] {
        stream.write_all(piece.as_bytes()).unwrap();
        // The server looks at each piece before the next one is there.
        assert_eq!(server.rows().len(), 0);
    }
    stream.write_all(b"\nGET /stream.pcm?name=pieces HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let row = server.row_when("pieces", |_| true);
    assert_eq!(way(&row), ["[2001:db8::7]:4711", "127.0.0.1"]);
    // The proxy's own look at the server, by version 2.
    let check = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answer = raw(server.address, check);
    assert!(answer.starts_with(b"HTTP/1.1 200 OK"), "{}", answer.escape_ascii());
}

/// Starts a server that trusts the proxies of these tests, and gives figures to the token `ac_stats`.
fn with_token(flags: &[&str]) -> (Server, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("aircheck.toml");
    let hash = TokenHash::of("ac_stats");
    let text = format!(
        "allow_hosts = ['radio.example']\n[[token]]\nname = 'stats'\nhash = '{hash}'\nscopes = ['stats', 'listen']\n"
    );
    fs::write(&config, text).unwrap();
    (trusting(&[&["--config", config.to_str().unwrap()], flags].concat()), directory)
}

#[test]
fn a_client_behind_a_proxy_has_a_limit_of_its_own() {
    let (server, _directory) = with_token(&["--max-connections-per-address", "2"]);
    // Returns a connection of the proxy that has an endless answer, if there is a place for it, and the answer's code.
    let watch = |client: &str| {
        let mut stream = connect_from(Ipv4Addr::LOCALHOST, server.address);
        let fields = format!("Host: localhost\r\nAuthorization: Bearer ac_stats\r\nX-Forwarded-For: {client}\r\n\r\n");
        write!(stream, "GET /api/v1/watch HTTP/1.1\r\n{fields}").unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).unwrap();
        (stream, String::from_utf8(head.to_vec()).unwrap())
    };
    let open: Vec<_> =
        ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.1"].into_iter().map(watch).collect();
    assert!(open.iter().all(|(_, head)| head == "HTTP/1.1 200"), "{open:?}");
    assert_eq!(watch("192.0.2.1").1, "HTTP/1.1 503");
    assert_eq!(watch("192.0.2.2").1, "HTTP/1.1 200");
}

#[test]
fn answers_tell_proxies_to_pass_them_on() {
    let server = Server::start(&["--source", "tone:440"]);
    for (path, cache) in [
        ("stream.opus", "no-store, no-transform"),
        ("stream.wav", "no-store, no-transform"),
        ("api/v1/watch", "no-store, no-transform"),
        ("api/v1/events", "no-store, no-transform"),
        ("api/v1/status", "no-store"),
        ("", "no-store"),
        ("nothing", "no-store"),
    ] {
        let (_, head) = server.ask(&["--head"], path);
        let head = head.to_lowercase();
        assert!(head.contains("\r\nx-accel-buffering: no\r\n"), "{path}: {head}");
        assert!(head.contains(&format!("\r\ncache-control: {cache}\r\n")), "{path}: {head}");
    }
}

#[test]
fn the_status_names_the_address_by_which_the_client_has_come() {
    let (server, _directory) = with_token(&[]);
    let ask = |fields: &[&str]| {
        let token = ["--header", "Authorization: Bearer ac_stats"];
        let fields = fields.iter().flat_map(|field| ["--header", field]);
        server.ask(&token.into_iter().chain(fields).collect::<Vec<_>>(), "api/v1/status")
    };
    let urls = |fields: &[&str]| {
        let (status, answer) = ask(fields);
        assert_eq!(status, 200, "{answer}");
        let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        body["urls"].clone()
    };
    let https = "X-Forwarded-Proto: https";
    let own = Value::from(vec![server.url.clone()]);
    assert_eq!(urls(&[]), own);
    assert_eq!(urls(&["X-Forwarded-For: 192.0.2.1"]), own);
    let outside = Value::from(vec!["https://radio.example/"]);
    assert_eq!(urls(&[https, "Host: radio.example"]), outside);
    assert_eq!(urls(&[https, "X-Forwarded-Host: radio.example"]), outside);
    assert_eq!(urls(&["Forwarded: for=192.0.2.1;proto=https;host=radio.example"]), outside);
    let fields = ["Authorization: Bearer ac_stats", https, "Host: radio.example"];
    let fields: Vec<_> = fields.iter().flat_map(|field| ["--header", field]).collect();
    let (status, playlist) = server.ask(&fields, "listen.m3u?format=opus");
    assert!(status == 200 && playlist.contains("\nhttps://radio.example/stream.opus?expires="), "{playlist}");
    let (status, answer) = ask(&["X-Forwarded-Host: evil.example"]);
    assert!(status == 403 && answer.contains("`evil.example` is not one of this server's"), "{answer}");
    // A client behind a proxy is no program of this machine.
    let open = trusting(&[]);
    assert_eq!(open.ask(&["--header", https], "api/v1/status").0, 403);
    assert_eq!(open.ask(&[], "api/v1/status").0, 200);
}

#[test]
fn a_proxy_that_takes_upgrade_off_is_named() {
    let server = trusting(&[]);
    let proxy = Proxy::nginx(PLAIN_NGINX, &server);
    let url = format!("ws://{}/stream", proxy.address);
    let refused = tungstenite::client(url, TcpStream::connect(proxy.address).unwrap()).unwrap_err();
    let text = format!("{refused:?}");
    assert!(text.contains("426"), "{text}");
    let fields = ["--header", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "--header", "Sec-WebSocket-Version: 13"];
    let output = curl(&[&fields[..], &[&proxy.url("stream")]].concat()).output().unwrap();
    let body: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(body["error"], "the proxy does not pass WebSockets on: let it pass Upgrade and Connection");
}
