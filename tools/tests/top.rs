//! The real `aircheckctl top` in a real terminal, tmux's, on a real server with real listeners.

mod aircheck;

use std::io::Read;
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};

use aircheck::{Server, eventually, signal};

/// A terminal in which `aircheckctl top` runs, ended when dropped. Each has a tmux server of its own.
struct Pane {
    socket: String,
}

impl Pane {
    /// Runs top in a shell that then shows its exit code and the state of the terminal.
    fn open(name: &str, url: &str, environment: &str) -> Self {
        let pane = Self { socket: format!("aircheck-top-{name}-{}", std::process::id()) };
        let program = env!("CARGO_BIN_EXE_aircheckctl");
        let script = format!(
            "echo before; {environment} {program} top {url}; echo \"exit code $?\"; stty -a | grep -o ' icanon'; exec cat"
        );
        let output = pane.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "120", "-y", "40", "sh", "-c", &script]);
        assert!(output.status.success(), "tmux should start: {output:?}");
        pane
    }

    fn tmux(&self, arguments: &[&str]) -> Output {
        Command::new("tmux")
            .args(["-L", &self.socket])
            .args(arguments)
            .env_remove("TMUX")
            .env("LC_ALL", "C.UTF-8")
            .output()
            .expect("tmux should run: deploy/setup.sh installs it")
    }

    fn press(&self, keys: &[&str]) {
        assert!(self.tmux(&[&["send-keys"], keys].concat()).status.success());
    }

    fn resize(&self, width: u16, height: u16) {
        let (width, height) = (width.to_string(), height.to_string());
        assert!(self.tmux(&["resize-window", "-x", &width, "-y", &height]).status.success());
    }

    fn screen(&self) -> String {
        String::from_utf8(self.tmux(&["capture-pane", "-p"]).stdout).expect("UTF-8")
    }

    fn coloured_screen(&self) -> String {
        String::from_utf8(self.tmux(&["capture-pane", "-p", "-e"]).stdout).expect("UTF-8")
    }

    /// One of tmux's variables.
    fn ask(&self, variable: &str) -> String {
        let output = self.tmux(&["display-message", "-p", &format!("#{{{variable}}}")]);
        String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
    }

    /// Waits for a screen with `condition`.
    fn until(&self, what: &str, condition: impl Fn(&str) -> bool) -> String {
        let mut last = String::new();
        let shown = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually(what, || {
                last = self.screen();
                condition(&last).then(|| last.clone())
            })
        }));
        shown.unwrap_or_else(|_| panic!("{what}: instead there is\n{last}"))
    }

    /// The terminal is as it was before, and top has exited with 0.
    fn is_restored(&self) {
        let screen = self.until("the shell again", |screen| screen.contains("exit code") && screen.contains("icanon"));
        assert!(screen.starts_with("before\nexit code 0\n"), "{screen}");
        assert_eq!((self.ask("alternate_on"), self.ask("cursor_flag")), ("0".to_owned(), "1".to_owned()));
    }
}

impl Drop for Pane {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

/// A curl that listens, ended when dropped.
struct Curl(Child);

impl Curl {
    fn listen(server: &Server, query: &str) -> Self {
        let mut command = Command::new("curl");
        command.args(["--silent", "--output", "/dev/null", &server.url(query)]);
        Self(command.stdin(Stdio::null()).spawn().expect("curl"))
    }
}

impl Drop for Curl {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns the names of the rows, from above: the first column below the titles.
fn names(screen: &str) -> Vec<&str> {
    let rows = screen.lines().skip_while(|line| !line.contains("listener  ")).skip(1);
    let rows = rows.take_while(|line| !line.trim().is_empty());
    rows.filter_map(|line| line.trim_start_matches(['▶', ' ']).split("  ").next()).collect()
}

/// Runs top with its output piped until it ends.
fn piped(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_aircheckctl"))
        .arg("top")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("it should run");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn in_a_terminal_the_frozen_one_stands_first_and_can_be_disconnected() {
    let server = Server::start(&["--source", "tone:440"]);
    let _healthy = Curl::listen(&server, "stream.wav?name=healthy");
    let frozen = Curl::listen(&server, "stream.wav?name=frozen%20%E6%97%A5");
    server.row_when("healthy", |_| true);
    let name = "frozen 日";
    server.row_when(name, |row| row["delivered"].as_u64() > Some(0));
    signal(&frozen.0, "STOP");
    let id = server.row_when(name, |row| row["lag_seconds"].as_f64() > Some(2.0))["id"].to_string();

    let pane = Pane::open("whole", &server.url(""), "");
    // On a busy machine both may be behind: the frozen one is furthest.
    let both = |screen: &str| names(screen).len() == 2;
    let screen = pane.until("both listeners", both);
    assert_eq!(names(&screen)[0], "frozen 日", "{screen}");
    let row = screen.lines().find(|line| line.contains("frozen")).expect("its row");
    assert!(row.contains("does not read") && row.contains("wav"), "{screen}");
    assert!(screen.contains("ON AIR") && screen.contains("test tone of 440 Hz"), "{screen}");
    assert!(pane.coloured_screen().contains("38;5;1m"), "red: {:?}", pane.coloured_screen());

    pane.press(&["s", "s"]);
    pane.until("the order of names", |screen| screen.contains("by name") && names(screen) == ["frozen 日", "healthy"]);
    pane.press(&["r"]);
    pane.until("the reverse", |screen| names(screen) == ["healthy", "frozen 日"]);

    pane.press(&["/", "f", "r", "o", "Enter"]);
    pane.until("the filter", |screen| screen.contains("1 of 2 listeners match “fro”") && names(screen).len() == 1);

    pane.resize(30, 8);
    pane.until("one line", |screen| screen.trim() == "40 x 10 needed, 30 x 8 here");
    pane.resize(100, 30);
    pane.until("all of it again", |screen| names(screen).len() == 1 && screen.contains("ON AIR"));

    pane.press(&["Down", "k"]);
    pane.until("the question", |screen| screen.contains("y / n: disconnect frozen"));
    pane.press(&["y"]);
    eventually("its end", || {
        let rows = server.ask("GET", "/api/v1/listeners");
        (!rows.contains(&format!("\"id\":{id},"))).then_some(())
    });
    // It was disconnected; it did not time out for want of acknowledgements.
    eventually("the reason", || {
        (server.metric("aircheck_listeners_left_total", &["reason=\"closed\""]) == 1).then_some(())
    });
    pane.until("an empty filter", |screen| screen.contains("0 of 1 listener match"));
    pane.press(&["Escape"]);
    pane.until("the healthy one", |screen| names(screen) == ["healthy"]);

    pane.press(&["q"]);
    pane.is_restored();
}

#[test]
fn a_server_that_died_is_asked_again_until_it_is_back() {
    let server = Server::start(&["--source", "tone:440"]);
    let address = server.authority.clone();
    let pane = Pane::open("dies", &server.url(""), "NO_COLOR=1");
    pane.until("the server", |screen| screen.contains("ON AIR"));
    assert!(!pane.coloured_screen().contains("38;5;"), "{:?}", pane.coloured_screen());
    drop(server);
    // The first attempt may meet a connection that is about to be reset.
    let screen = pane.until("the banner", |screen| screen.contains("no contact for") && screen.contains("refused"));
    assert!(screen.contains("trying again") && screen.contains("Connection refused"), "{screen}");
    // Of a server that lived for a moment, that may be one block.
    assert!(
        screen.contains("captured ") && screen.contains(" · lost 0 xrun"),
        "the last figures should stay: {screen}"
    );
    let server = Server::start_at(&address, &["--source", "tone:880"]);
    pane.until("the next one", |screen| screen.contains("ON AIR") && screen.contains("880 Hz"));
    drop(server);
    pane.until("the banner again", |screen| screen.contains("no contact for"));
    pane.press(&["C-c"]);
    pane.is_restored();
}

#[test]
fn sigterm_restores_the_terminal() {
    let server = Server::start(&["--source", "tone:440"]);
    let pane = Pane::open("term", &server.url(""), "");
    pane.until("the server", |screen| screen.contains("ON AIR"));
    assert_eq!(pane.ask("alternate_on"), "1");
    let shell = pane.ask("pane_pid");
    let children = Command::new("ps").args(["--ppid", &shell, "-o", "pid="]).output().expect("ps").stdout;
    let top = String::from_utf8(children).expect("UTF-8").trim().to_owned();
    assert!(Command::new("kill").args(["-TERM", &top]).status().expect("kill").success());
    pane.is_restored();
}

#[test]
fn once_prints_the_same_table_as_text() {
    let server = Server::start(&["--source", "tone:440"]);
    let _curl = Curl::listen(&server, "stream.opus?name=kitchen");
    server.row_when("kitchen", |_| true);
    let (code, text, errors) = piped(&[&server.url(""), "--once"]);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    assert!(!text.contains('\u{1b}') && text.contains("ON AIR") && text.contains("socket p50"), "{text}");
    assert_eq!(names(&text), ["kitchen"], "{text}");
}

#[test]
fn one_mount_is_shown_with_its_own_listeners() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("aircheck.toml");
    let mount = |name: &str, hz: u32| format!("[[mount]]\nname = '{name}'\nsource = 'tone:{hz}'\n");
    std::fs::write(&file, mount("hall", 440) + &mount("studio", 880)).expect("the settings");
    let server = Server::start(&["--config", file.to_str().expect("UTF-8")]);
    let _curls =
        ["hall", "studio"].map(|name| Curl::listen(&server, &format!("mounts/{name}/stream.wav?name=in-{name}")));
    for name in ["in-hall", "in-studio"] {
        server.row_when(name, |_| true);
    }
    let shown = |arguments: &[&str]| {
        let (code, text, errors) = piped(&[&[&server.url(""), "--once"], arguments].concat());
        assert_eq!((code, errors.as_str()), (Some(0), ""));
        text
    };
    let all = shown(&[]);
    assert!(all.contains("hall: test tone of 440 Hz") && names(&all).len() == 2, "{all}");
    let studio = shown(&["--mount", "studio"]);
    assert!(studio.contains("studio: test tone of 880 Hz"), "{studio}");
    assert_eq!(names(&studio), ["in-studio"], "{studio}");
}

#[test]
fn a_failure_is_one_line() {
    // Another web server, which answers everything with a page.
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let page_url = format!("http://{}/", other.local_addr().expect("its address"));
    std::thread::spawn(move || {
        for tcp in other.incoming() {
            let mut tcp = tcp.expect("a connection");
            let _ = tcp.read(&mut [0; 4096]);
            let answer = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>";
            let _ = std::io::Write::write_all(&mut tcp, answer.as_bytes());
        }
    });
    // A port that was free a moment ago.
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address").to_string();
    let server = Server::start(&["--source", "tone:440"]);
    let cases = [
        (&[page_url.as_str(), "--once"][..], 1, "is not an aircheck server"),
        (&[&server.url(""), "--once", "--mount", "attic"], 1, "there is no mount `attic`"),
        (&[&nobody, "--once"], 1, "Connection refused"),
        (&[&nobody], 2, "--once"),
        (&["ftp://x/", "--once"], 2, "'ftp' is not supported"),
    ];
    for (arguments, code, word) in cases {
        let (ended, text, errors) = piped(arguments);
        assert_eq!((ended, text.as_str()), (Some(code), ""), "{arguments:?}: {errors}");
        assert!(errors.contains(word) && errors.lines().count() == 1, "{arguments:?}: {errors}");
    }
}
