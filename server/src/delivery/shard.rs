//! A delivery shard: one thread that owns many listeners, and writes shared packets to their sockets.
//!
//! It is woken once for a packet, not once for each listener, and goes round. A socket that is full waits in the poller
//! until it takes bytes again, and costs the others nothing.

use std::collections::BTreeSet;
use std::io::{self, Read as _};
use std::net::Shutdown;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use aircheck_engine::{Timestamp, prefetch};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::delivery::mailbox::Mailbox;
use crate::delivery::output::READ_BYTES;
use crate::delivery::session::{Outcome, Scratch, Session};
use crate::rendition::doorbell::Doorbell;

/// Visits from the fetch of a listener's memory to its own visit. Its session, which says where that memory is, is fetched as many
/// visits earlier. The state of a thousand listeners does not fit into the second-level cache, and the encoder has just written
/// to their rings on another core. A visit is mostly the kernel's work, so one would be enough, were it not for listeners without
/// packets, whose visits are short. The place of the next packet is fetched one visit earlier, once the ring says where that is.
const AHEAD: usize = 2;
/// Events that are taken from the poller at a time.
const MAX_EVENTS: usize = 256;
/// The token by which the mailbox and encoders wake the shard.
const WAKE: Token = Token(usize::MAX);
/// Time until listeners are checked again that are held, because too much waits below their rings, or that take their leave.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);
/// Time that the far end has to close its side, after everything was written. A connection that is closed while bytes come
/// in would be reset, and what it still carries be lost.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);
/// The status of the process when a shard fails. Listeners would hear nothing, and nothing would say so.
const FAILED: i32 = 1;

/// The state of a shard's thread.
pub(super) struct Shard {
    poll: Poll,
    mailbox: Arc<Mailbox>,
    joining: mpsc::Receiver<Session>,
    places: Vec<Place>,
    free: Vec<u32>,
    feeds: Vec<Feed>,
    /// Places of listeners that are held, that take their leave, or that have sent more than was read.
    to_check: BTreeSet<u32>,
    scratch: Scratch,
}

/// The listeners of one encoder.
struct Feed {
    doorbell: Arc<Doorbell>,
    members: Vec<u32>,
}

/// The owner of a token of the poller.
enum Place {
    Free,
    Session(Box<Session>),
    /// A connection whose listener is gone, and which the far end has not closed.
    Farewell(TcpStream, Instant),
}

impl Shard {
    /// Starts the shard with this number. It ends when its mailbox is closed. `joining` brings the sessions of new
    /// listeners.
    pub(super) fn start(number: usize, joining: mpsc::Receiver<Session>) -> io::Result<Arc<Mailbox>> {
        let poll = Poll::new()?;
        let waker = mio::Waker::new(poll.registry(), WAKE)?;
        let mailbox = Mailbox::new(number, waker);
        let mut shard = Self {
            poll,
            mailbox: Arc::clone(&mailbox),
            joining,
            places: Vec::new(),
            free: Vec::new(),
            feeds: Vec::new(),
            to_check: BTreeSet::new(),
            scratch: Scratch::new(),
        };
        spawn(move || shard.run())?;
        Ok(mailbox)
    }

    fn run(&mut self) {
        let mut events = Events::with_capacity(MAX_EVENTS);
        let mut checked_at = Instant::now();
        while !self.mailbox.is_closing() {
            let timeout = (!self.to_check.is_empty()).then_some(CHECK_INTERVAL);
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => panic!("cannot poll sockets: {error}"),
            }
            for event in &events {
                if event.token() != WAKE {
                    self.take_event(event.token().0 as u32, event.is_readable(), event.is_writable());
                }
            }
            self.take_letters();
            self.go_round();
            if checked_at.elapsed() >= CHECK_INTERVAL {
                checked_at = Instant::now();
                self.check(checked_at);
            }
            self.scratch.waits.settle();
        }
        (0..self.places.len()).for_each(|place| self.clear(place as u32));
    }

    fn take_event(&mut self, place: u32, is_readable: bool, is_writable: bool) {
        match self.places.get_mut(place as usize) {
            Some(Place::Session(session)) => {
                let outcome = session.take_event(is_readable, is_writable, &mut self.scratch);
                self.settle(place, outcome);
            }
            Some(Place::Farewell(stream, _)) if is_readable && !drain(stream) => self.clear(place),
            _ => {}
        }
    }

    fn take_letters(&mut self) {
        while let Ok(session) = self.joining.try_recv() {
            self.add(Box::new(session));
        }
        for listener in self.mailbox.take_to_look_at() {
            let is_it = |place: &Place| matches!(place, Place::Session(session) if session.listener().id() == listener);
            let place = self.places.iter().position(is_it);
            if let Some((place, Place::Session(session))) = place.map(|place| (place, &mut self.places[place])) {
                let outcome = session.visit_for_end(&mut self.scratch);
                self.settle(place as u32, outcome);
            }
        }
    }

    fn add(&mut self, mut session: Box<Session>) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place::Free);
            (self.places.len() - 1) as u32
        });
        let interest = Interest::READABLE | Interest::WRITABLE;
        if self.poll.registry().register(session.stream(), Token(place as usize), interest).is_err() {
            // The system has no memory to watch the socket.
            drop(session.into_stream());
            self.free.push(place);
            return;
        }
        let doorbell = session.doorbell();
        match self.feeds.iter_mut().find(|feed| Arc::ptr_eq(&feed.doorbell, doorbell)) {
            Some(feed) => feed.members.push(place),
            None => self.feeds.push(Feed { doorbell: Arc::clone(doorbell), members: vec![place] }),
        }
        let outcome = session.visit(Timestamp::now(), &mut self.scratch, true);
        self.places[place as usize] = Place::Session(session);
        self.settle(place, outcome);
    }

    /// Visits the listeners of encoders that have rung.
    fn go_round(&mut self) {
        for index in 0..self.feeds.len() {
            if !self.feeds[index].doorbell.take() {
                continue;
            }
            let (now, has_ended) = (Timestamp::now(), self.feeds[index].doorbell.has_ended());
            let members = std::mem::take(&mut self.feeds[index].members);
            let mut to_settle = Vec::new();
            for (visit, place) in members.iter().enumerate() {
                if let Some(session) = self.session(members.get(visit + 2 * AHEAD)) {
                    prefetch(session);
                }
                if let Some(session) = self.session(members.get(visit + AHEAD)) {
                    session.prefetch();
                }
                if let Some(session) = self.session(members.get(visit + 1)) {
                    session.prefetch_next();
                }
                let Place::Session(session) = &mut self.places[*place as usize] else { continue };
                if session.is_waiting(now) || !(has_ended || session.has_packets()) {
                    continue;
                }
                let outcome = session.visit(now, &mut self.scratch, has_ended);
                if outcome != Outcome::Idle {
                    to_settle.push((*place, outcome));
                }
            }
            self.feeds[index].members = members;
            to_settle.into_iter().for_each(|(place, outcome)| self.settle(place, outcome));
        }
        self.feeds.retain(|feed| !feed.members.is_empty());
        let gathered = std::mem::take(&mut self.scratch.gathered);
        if gathered > 0 {
            self.mailbox.count_gathered(gathered);
        }
    }

    /// Returns the session at this place, if there is one.
    fn session(&self, place: Option<&u32>) -> Option<&Session> {
        match &self.places[*place? as usize] {
            Place::Session(session) => Some(session),
            Place::Free | Place::Farewell(..) => None,
        }
    }

    /// Takes the action that a visit ended with.
    fn settle(&mut self, place: u32, outcome: Outcome) {
        match outcome {
            Outcome::Idle => {}
            Outcome::Check => {
                self.to_check.insert(place);
            }
            Outcome::Over => {
                self.leave(place);
                if let Place::Session(session) = std::mem::replace(&mut self.places[place as usize], Place::Free) {
                    let stream = session.into_stream();
                    let is_open = stream.shutdown(Shutdown::Write).is_ok() && drain(&stream);
                    if is_open {
                        self.places[place as usize] = Place::Farewell(stream, Instant::now() + FAREWELL_TIMEOUT);
                        self.settle(place, Outcome::Check);
                    } else {
                        self.clear(place);
                    }
                }
            }
            Outcome::Gone => {
                self.leave(place);
                self.clear(place);
            }
        }
    }

    /// Takes a listener out of its feed.
    fn leave(&mut self, place: u32) {
        let Place::Session(session) = &self.places[place as usize] else { return };
        if let Some(feed) = self.feeds.iter_mut().find(|feed| Arc::ptr_eq(&feed.doorbell, session.doorbell())) {
            feed.members.retain(|member| *member != place);
        }
    }

    /// Closes the connection at this place. Closing takes it out of the poller.
    fn clear(&mut self, place: u32) {
        if let Place::Session(session) = std::mem::replace(&mut self.places[place as usize], Place::Free) {
            drop(session.into_stream());
        }
        self.to_check.remove(&place);
        self.free.push(place);
    }

    fn check(&mut self, now: Instant) {
        for place in std::mem::take(&mut self.to_check) {
            match &mut self.places[place as usize] {
                Place::Session(session) => {
                    let outcome = session.check(&mut self.scratch);
                    self.settle(place, outcome);
                }
                Place::Farewell(stream, until) => {
                    if now >= *until || !drain(stream) {
                        self.clear(place);
                    } else {
                        self.to_check.insert(place);
                    }
                }
                Place::Free => {}
            }
        }
    }
}

/// Reads once what the far end has sent. Returns whether it may send more.
fn drain(mut stream: &TcpStream) -> bool {
    let mut bytes = [0; READ_BYTES];
    match stream.read(&mut bytes) {
        Ok(0) => false,
        Ok(_) => true,
        Err(error) => matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
    }
}

/// Starts a thread whose panic ends the process.
fn spawn(run: impl FnOnce() + Send + 'static) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name("delivery".into()).spawn(|| {
        let _end = EndOfProcess;
        run();
    })
}

/// Ends the process when its thread panics. The panic's own message is on stderr by then.
struct EndOfProcess;

impl Drop for EndOfProcess {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("aircheck: a delivery thread has failed, so listeners would hear nothing: ending (see above)");
            std::process::exit(FAILED);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Set for the process in which a shard panics.
    const PANICS: &str = "AIRCHECK_TEST_SHARD_PANICS";

    #[test]
    fn a_panic_in_a_shard_ends_the_process_with_a_message() {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "delivery::shard::tests::panics", "--ignored", "--nocapture"]).env(PANICS, "1");
        let output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        // A test that panics itself would end with 101.
        assert_eq!(output.status.code(), Some(FAILED), "{stderr}");
        assert!(stderr.contains("nothing can be polled"), "the panic's own message: {stderr}");
        assert!(stderr.contains("aircheck: a delivery thread has failed"), "{stderr}");
    }

    #[test]
    #[ignore = "another test runs it in a process of its own, which it ends"]
    fn panics() {
        if std::env::var_os(PANICS).is_some() {
            let shard = spawn(|| panic!("nothing can be polled")).unwrap();
            assert!(shard.join().is_err(), "the process has not ended");
        }
    }
}
