//! What programs have received and not read, by the addresses of their sockets as rows have them. A process stands for all programs
//! of its network namespace.
#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

use std::collections::BTreeMap;
use std::fs;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// A program that reads everything leaves no more than a segment unread, for a moment.
const MAX_READ_BYTES: u64 = 1448;
/// Between two looks for programs that do not read.
const LOOK_PAUSE: Duration = Duration::from_millis(20);
/// One that has left more unread for so long was late.
const MIN_PAUSE: Duration = Duration::from_millis(100);
/// The server may tell of that for so long: only the acknowledgements of later packets show that the program reads again.
const KNOWN_AFTER: Duration = Duration::from_secs(1);

/// The bytes that each program has not read at one moment.
pub(crate) struct ReceiveQueues(BTreeMap<String, u64>);

impl ReceiveQueues {
    /// Looks at those in the namespaces of these processes now.
    pub(crate) fn now(processes: &[u32]) -> Self {
        // A process that has ended has no table.
        let table = |process: &u32| fs::read_to_string(format!("/proc/{process}/net/tcp")).ok();
        let tables: String = processes.iter().filter_map(table).collect();
        let queue = |line: &str| {
            // number, local address, remote address, state, queue to send:queue to read; all in hexadecimal.
            let mut fields = line.split_whitespace().skip(1);
            let (address, port) = fields.next()?.split_once(':')?;
            let (_, bytes) = fields.nth(2)?.split_once(':')?;
            let address = u32::from_str_radix(address, 16).ok()?.to_ne_bytes().map(|byte| byte.to_string()).join(".");
            Some((format!("{address}:{}", u16::from_str_radix(port, 16).ok()?), u64::from_str_radix(bytes, 16).ok()?))
        };
        Self(tables.lines().filter_map(queue).collect())
    }

    /// Returns whether the program with this address had read everything.
    pub(crate) fn is_read(&self, address: &str) -> bool {
        self.0.get(address).is_some_and(|bytes| *bytes <= MAX_READ_BYTES)
    }
}

/// The programs that have not read for a while. A thread of its own looks for them, because a pause may begin and end between two
/// looks of a test.
pub(crate) struct Pauses {
    ended_at: Arc<Mutex<BTreeMap<String, Instant>>>,
    /// Ends the thread when it is dropped.
    _end: mpsc::Sender<()>,
}

impl Pauses {
    /// Looks for those in the namespaces of these processes from now on.
    pub(crate) fn watch(processes: Vec<u32>) -> Self {
        let (end, ended) = mpsc::channel::<()>();
        let ended_at = Arc::<Mutex<BTreeMap<_, _>>>::default();
        let found = Arc::clone(&ended_at);
        thread::spawn(move || {
            let mut since = BTreeMap::<String, Instant>::new();
            while ended.recv_timeout(LOOK_PAUSE) == Err(RecvTimeoutError::Timeout) {
                let (queues, now) = (ReceiveQueues::now(&processes), Instant::now());
                let unread =
                    queues.0.into_iter().filter(|(_, bytes)| *bytes > MAX_READ_BYTES).map(|(address, _)| address);
                since = unread.map(|address| (address.clone(), *since.get(&address).unwrap_or(&now))).collect();
                let late = since.iter().filter(|(_, since)| now - **since >= MIN_PAUSE);
                found.lock().unwrap().extend(late.map(|(address, _)| (address.clone(), now)));
            }
        });
        Self { ended_at, _end: end }
    }

    /// Returns whether the program with this address was late a moment ago.
    pub(crate) fn was_late(&self, address: &str) -> bool {
        self.ended_at.lock().unwrap().get(address).is_some_and(|at| at.elapsed() < KNOWN_AFTER)
    }
}
