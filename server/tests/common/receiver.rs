//! A receiver of notifications over HTTP, which answers as a test tells it to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::eventually;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) at: Instant,
    /// The request line and the headers, with names in lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Received {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// Returns `event state`.
    pub(crate) fn name(&self) -> String {
        let json = self.json();
        format!("{} {}", json["event"].as_str().unwrap(), json["state"].as_str().unwrap())
    }
}

/// A running receiver. Its threads end with the test.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Receiver {
    /// Starts a receiver that answers each request, counted from 0, by `answer`.
    pub(crate) fn start(answer: impl Fn(usize, &mut TcpStream) + Send + Sync + 'static) -> Self {
        Self::serve(TcpListener::bind("127.0.0.1:0").unwrap(), answer)
    }

    pub(crate) fn serve(listener: TcpListener, answer: impl Fn(usize, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let address = listener.local_addr().unwrap();
        let received: Arc<Mutex<Vec<Received>>> = Arc::default();
        let shared = Arc::clone(&received);
        let answer = Arc::new(answer);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (shared, answer) = (Arc::clone(&shared), Arc::clone(&answer));
                thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    let Some(request) = read(&stream) else { return };
                    let number = {
                        let mut received = shared.lock().unwrap();
                        received.push(request);
                        received.len() - 1
                    };
                    answer(number, &mut stream);
                });
            }
        });
        Self { address, received }
    }

    /// Starts a receiver that takes everything.
    pub(crate) fn taking() -> Self {
        Self::start(|_, stream| reply(stream, "200 OK", ""))
    }

    /// Returns a URL with a path that nothing may show.
    pub(crate) fn url(&self) -> String {
        format!("http://user:p4ss@{}/services/s3cret?auth=t0ken", self.address)
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// Waits for a notification with this event and state.
    pub(crate) fn wait_for(&self, name: &str) -> Received {
        eventually(&format!("a notification {name}"), || {
            self.received().into_iter().find(|received| received.name() == name)
        })
    }

    /// Returns `event state` of each notification.
    pub(crate) fn names(&self) -> Vec<String> {
        self.received().iter().map(Received::name).collect()
    }
}

/// Answers with a status and further headers, and closes the connection. A reader that is gone is no failure.
pub(crate) fn reply(stream: &mut TcpStream, status: &str, headers: &str) {
    let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n{headers}\r\n");
}

fn read(stream: &TcpStream) -> Option<Received> {
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Received { at: Instant::now(), head, body: String::from_utf8(body).unwrap() })
}
