//! The floor: a loop that sends each page to every socket, and nothing else.
//!
//! It runs in a process of its own, this program again. One thread answers requests, another one makes the pages; the
//! thread called [`SENDER`] is handed each page and sends it. A socket that can't take all of a page is tried again each millisecond until the next page is
//! there; sockets that still have not got all of it are counted in `GET /short`, since a floor that leaves bytes out
//! would be too cheap.
//!
//! Its sockets have `TCP_NODELAY`, as those of Icecast and aircheck: with Nagle's algorithm pages of 10 ms go out together,
//! and the loop takes a third.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;
use crate::case::Stream;
use crate::feed::Feed;

/// The environment variable that makes this program the floor: `opus 500 127.0.0.1:PORT`, the stream, the milliseconds
/// of a page, and the origin.
pub(crate) const ORDER: &str = "AIRCHECK_BENCH_FLOOR";
/// The thread whose processor time counts.
pub(crate) const SENDER: &str = "sender";
/// The pause before unfinished sockets are tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(1);

/// Serves until the process is killed.
pub(crate) fn run(order: &str) -> Result<()> {
    let words: Vec<&str> = order.split(' ').collect();
    let [stream, millis, origin] = words[..] else { return Err(format!("no order for the floor: {order}").into()) };
    let stream = Stream::named(stream).ok_or("the floor knows opus and wav")?;
    let page = Duration::from_millis(millis.parse()?);
    let mut feed = Feed::open(origin.parse()?, stream, page)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("listening on http://{}/", listener.local_addr()?);
    let (joining, joined) = mpsc::channel();
    let (made, pages) = mpsc::channel();
    thread::spawn(move || {
        // An error means that the origin has ended.
        while let Ok(bytes) = feed.next_page() {
            if made.send(bytes).is_err() {
                break;
            }
        }
    });
    let short = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&short);
    thread::Builder::new().name(SENDER.to_owned()).spawn(move || send_pages(&pages, page, &joined, &counter))?;
    loop {
        let (connection, _) = listener.accept()?;
        // An error means that this listener has gone.
        if let Ok(Some(socket)) = answer(connection, &short) {
            joining.send(socket)?;
        }
    }
}

/// Answers a request. Returns the socket where that is of a listener.
fn answer(mut connection: TcpStream, short: &AtomicU64) -> io::Result<Option<TcpStream>> {
    let mut head = BufReader::new(connection.try_clone()?);
    let (mut request, mut line) = (String::new(), String::new());
    head.read_line(&mut request)?;
    while head.read_line(&mut line)? > 2 {
        line.clear();
    }
    match request.split(' ').nth(1) {
        Some("/floor") => {
            connection.write_all(b"HTTP/1.0 200 OK\r\nContent-Type: application/octet-stream\r\n\r\n")?;
            connection.set_nonblocking(true)?;
            connection.set_nodelay(true)?;
            Ok(Some(connection))
        }
        Some("/short") => {
            write!(connection, "HTTP/1.0 200 OK\r\n\r\n{}", short.load(Ordering::Relaxed))?;
            Ok(None)
        }
        _ => {
            connection.write_all(b"HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
            Ok(None)
        }
    }
}

/// The loop.
fn send_pages(pages: &Receiver<Vec<u8>>, page: Duration, joined: &Receiver<TcpStream>, short: &AtomicU64) {
    let mut sockets: Vec<(TcpStream, usize)> = Vec::new();
    for bytes in pages {
        sockets.extend(joined.try_iter().map(|socket| (socket, 0)));
        let start = Instant::now();
        sockets.iter_mut().for_each(|(_, sent)| *sent = 0);
        loop {
            sockets.retain_mut(|(socket, sent)| send(socket, &bytes, sent));
            let unfinished = sockets.iter().filter(|(_, sent)| *sent < bytes.len()).count();
            if unfinished == 0 {
                break;
            }
            if start.elapsed() + RETRY_INTERVAL > page {
                short.fetch_add(unfinished as u64, Ordering::Relaxed);
                break;
            }
            thread::sleep(RETRY_INTERVAL);
        }
    }
}

/// Sends the rest of a page. Returns false where the listener has gone.
fn send(socket: &mut TcpStream, bytes: &[u8], sent: &mut usize) -> bool {
    if *sent == bytes.len() {
        return true;
    }
    match socket.write(&bytes[*sent..]) {
        Ok(0) => false,
        Ok(count) => {
            *sent += count;
            true
        }
        Err(error) => matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
    }
}
