//! A real NATS server, and a client of a few lines that sends what no aircheck would.
#![allow(dead_code, reason = "each test program uses a part of this")]
#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use super::common::{eventually, signal};

/// A NATS server, ended when dropped.
pub(crate) struct Nats {
    child: Child,
    port: u16,
    /// The words of a program that it runs behind.
    behind: Vec<String>,
    directory: tempfile::TempDir,
}

impl Nats {
    /// Starts it on a free port, with these lines in its configuration.
    pub(crate) fn start(lines: &str) -> Self {
        Self::start_behind(&[], lines)
    }

    /// Starts it like [`start`](Self::start), behind the words of a program that runs it, such as one in a namespace. It then listens
    /// on all addresses.
    pub(crate) fn start_behind(words: &[&str], lines: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("nats.conf"), format!("{lines}\n")).unwrap();
        let behind: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let (child, port) = Self::launch(&directory, &behind, -1);
        Self { child, port, behind, directory }
    }

    /// Starts three servers, each of which knows the others.
    pub(crate) fn cluster() -> [Self; 3] {
        let member = |routes: &str| {
            Self::start(&format!("cluster {{ name: radio, listen: \"127.0.0.1:-1\", routes: [{routes}] }}"))
        };
        let first = member("");
        let port = first.port_in_log("Listening for route connections on ");
        let [second, third] = [(); 2].map(|()| member(&format!("\"nats://127.0.0.1:{port}\"")));
        let nodes = [first, second, third];
        for node in &nodes {
            // Two routes to each, whichever end has made them.
            eventually("the routes of a cluster", || {
                (node.log().matches("Route connection created").count() >= 2).then_some(())
            });
        }
        nodes
    }

    fn launch(directory: &tempfile::TempDir, behind: &[String], port: i32) -> (Child, u16) {
        let ports = directory.path().join("ports");
        let _ = std::fs::remove_dir_all(&ports);
        std::fs::create_dir(&ports).unwrap();
        let address = if behind.is_empty() { "127.0.0.1" } else { "0.0.0.0" };
        let words = behind.iter().map(String::as_str).chain(["nats-server"]).collect::<Vec<_>>();
        let child = Command::new(words[0])
            .args(&words[1..])
            .args(["--config", "nats.conf", "--addr", address, "--port", &port.to_string()])
            .args(["--ports_file_dir", "ports", "--log", "nats.log"])
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .spawn()
            .expect("nats-server is installed (make setup-test)");
        let port = eventually("the port of nats-server", || {
            let file = ports.read_dir().unwrap().next()?.unwrap().path();
            let ports: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).ok()?).ok()?;
            ports["nats"][0].as_str()?.rsplit(':').next()?.parse().ok()
        });
        (child, port)
    }

    /// Returns its port for clients.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Changes its configuration, which it reads when it is started again.
    pub(crate) fn configure(&self, lines: &str) {
        std::fs::write(self.directory.path().join("nats.conf"), format!("{lines}\n")).unwrap();
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("nats.log")).unwrap_or_default()
    }

    /// Returns the port after a text in its log.
    pub(crate) fn port_in_log(&self, text: &str) -> u16 {
        eventually(text, || {
            let log = self.log();
            let (_, rest) = log.split_once(text)?;
            rest.lines().next()?.rsplit(':').next()?.trim().parse().ok()
        })
    }

    /// Changes its configuration, and lets it read that.
    pub(crate) fn reload(&self, lines: &str) {
        std::fs::write(self.directory.path().join("nats.conf"), format!("{lines}\n")).unwrap();
        self.signal("HUP");
    }

    /// Returns the URL of a subject on it.
    pub(crate) fn url(&self, subject: &str) -> String {
        format!("nats://127.0.0.1:{}/{subject}", self.port)
    }

    /// Returns the same with what stands before the host.
    pub(crate) fn url_as(&self, user: &str, subject: &str) -> String {
        format!("nats://{user}@127.0.0.1:{}/{subject}", self.port)
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on its port.
    pub(crate) fn restart(&mut self) {
        let (child, port) = Self::launch(&self.directory, &self.behind, i32::from(self.port));
        assert_eq!(port, self.port);
        self.child = child;
    }

    /// Stops it where it stands, or lets it go on.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    pub(crate) fn client(&self) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let mut client = Client { reader: BufReader::new(stream.try_clone().unwrap()), stream };
        let info = client.line();
        assert!(info.starts_with("INFO "), "{info}");
        client.stream.write_all(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\n").unwrap();
        client
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection of a client.
pub(crate) struct Client {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Client {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        line
    }

    /// Publishes a message, and waits until the server has it.
    pub(crate) fn publish(&mut self, subject: &str, message: &[u8]) {
        self.publish_all(subject, &[message]);
    }

    /// Publishes messages as fast as the server takes them, and waits until it has them.
    pub(crate) fn publish_all(&mut self, subject: &str, messages: &[impl AsRef<[u8]>]) {
        let mut bytes = Vec::new();
        for message in messages.iter().map(AsRef::as_ref) {
            bytes.extend(format!("PUB {subject} {}\r\n", message.len()).as_bytes());
            bytes.extend([message, b"\r\n"].concat());
        }
        bytes.extend(b"PING\r\n");
        self.stream.write_all(&bytes).unwrap();
        let mut answer = self.line();
        // The server asks, too, and does not mind that nobody answers for a while.
        while answer == "PING\r\n" {
            answer = self.line();
        }
        assert_eq!(answer, "PONG\r\n");
    }

    /// Asks, and returns the answer.
    pub(crate) fn request(&mut self, subject: &str, message: &str) -> Vec<u8> {
        let length = message.len();
        let lines = format!("SUB _INBOX.test 2\r\nUNSUB 2 1\r\nPUB {subject} _INBOX.test {length}\r\n{message}\r\n");
        self.stream.write_all(lines.as_bytes()).unwrap();
        self.message()
    }

    /// Returns the next message on a subject.
    pub(crate) fn next_of(&mut self, subject: &str) -> Vec<u8> {
        self.stream.write_all(format!("SUB {subject} 1\r\nUNSUB 1 1\r\n").as_bytes()).unwrap();
        self.message()
    }

    /// Returns the next messages on a subject.
    pub(crate) fn many_of(&mut self, subject: &str, count: usize) -> Vec<Vec<u8>> {
        self.stream.write_all(format!("SUB {subject} 3\r\nUNSUB 3 {count}\r\n").as_bytes()).unwrap();
        (0..count).map(|_| self.message()).collect()
    }

    fn message(&mut self) -> Vec<u8> {
        let mut head = self.line();
        while head == "PING\r\n" {
            self.stream.write_all(b"PONG\r\n").unwrap();
            head = self.line();
        }
        let length: usize = head.trim_end().rsplit(' ').next().unwrap().parse().unwrap();
        let mut message = vec![0; length + 2];
        std::io::Read::read_exact(&mut self.reader, &mut message).unwrap();
        message.truncate(length);
        message
    }
}
