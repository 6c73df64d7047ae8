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
    directory: tempfile::TempDir,
}

impl Nats {
    /// Starts it on a free port, with these lines in its configuration.
    pub(crate) fn start(lines: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("nats.conf"), format!("{lines}\n")).unwrap();
        let (child, port) = Self::launch(&directory, -1);
        Self { child, port, directory }
    }

    fn launch(directory: &tempfile::TempDir, port: i32) -> (Child, u16) {
        let ports = directory.path().join("ports");
        let _ = std::fs::remove_dir_all(&ports);
        std::fs::create_dir(&ports).unwrap();
        let child = Command::new("nats-server")
            .args(["--config", "nats.conf", "--addr", "127.0.0.1", "--port", &port.to_string()])
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
        let (child, port) = Self::launch(&self.directory, i32::from(self.port));
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
        self.stream.write_all(format!("PUB {subject} {}\r\n", message.len()).as_bytes()).unwrap();
        self.stream.write_all(message).unwrap();
        self.stream.write_all(b"\r\nPING\r\n").unwrap();
        let answer = self.line();
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

    fn message(&mut self) -> Vec<u8> {
        let head = self.line();
        let length: usize = head.trim_end().rsplit(' ').next().unwrap().parse().unwrap();
        let mut message = vec![0; length + 2];
        std::io::Read::read_exact(&mut self.reader, &mut message).unwrap();
        message.truncate(length);
        message
    }
}
