//! A delivery shard: one thread that owns many listeners, and writes shared packets to their sockets.
//!
//! It is woken once for a packet, not once for each listener, and goes round. A socket that is full waits in the poller
//! until it takes bytes again, and costs the others nothing.

use std::collections::{BTreeSet, VecDeque};
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
/// Events that are taken from the poller between two rounds.
const MAX_EVENTS: usize = 256;
/// So many listeners that join, and so many that are to end, are taken between two rounds, or as many as a part of the shard's places if
/// that is more: a crowd keeps the others from their packets for a part of a round at most, and does not wait for many long rounds.
const MAX_PER_TURN: usize = 32;
const TURN_PART: usize = 8;
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
    /// The numbers of listeners that are to end.
    ending: VecDeque<u64>,
    /// Whether more have joined, or are to end, than the last turn took.
    has_more: bool,
    places: Vec<Place>,
    free: Vec<u32>,
    feeds: Vec<Feed>,
    /// Places of listeners that are held, that take their leave, or that have sent more than was read.
    to_check: BTreeSet<u32>,
    checked_at: Instant,
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
    /// A listener with this number, which is found without a look into its memory.
    Session(u64, Box<Session>),
    /// A connection whose listener is gone, and which the far end has not closed.
    Farewell(TcpStream, Instant),
}

impl Shard {
    /// Starts the shard with this number. It ends when its mailbox is closed. `joining` brings the sessions of new
    /// listeners.
    pub(super) fn start(number: usize, joining: mpsc::Receiver<Session>) -> io::Result<Arc<Mailbox>> {
        let mut shard = Self::new(number, joining)?;
        let mailbox = Arc::clone(&shard.mailbox);
        spawn(move || shard.run())?;
        Ok(mailbox)
    }

    fn new(number: usize, joining: mpsc::Receiver<Session>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mailbox = Mailbox::new(number, mio::Waker::new(poll.registry(), WAKE)?);
        Ok(Self {
            poll,
            mailbox,
            joining,
            ending: VecDeque::new(),
            has_more: false,
            places: Vec::new(),
            free: Vec::new(),
            feeds: Vec::new(),
            to_check: BTreeSet::new(),
            checked_at: Instant::now(),
            scratch: Scratch::new(),
        })
    }

    fn run(&mut self) {
        let mut events = Events::with_capacity(MAX_EVENTS);
        while !self.mailbox.is_closing() {
            self.take_turn(&mut events);
        }
        (0..self.places.len()).for_each(|place| self.clear(place as u32));
    }

    /// Waits until there is something to do, and does that: a part of what came, and then a round for the packets that are there.
    fn take_turn(&mut self, events: &mut Events) {
        let timeout =
            if self.has_more { Some(Duration::ZERO) } else { (!self.to_check.is_empty()).then_some(CHECK_INTERVAL) };
        match self.poll.poll(events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return,
            Err(error) => panic!("cannot poll sockets: {error}"),
        }
        for event in &*events {
            if event.token() != WAKE {
                self.take_event(event.token().0 as u32, event.is_readable(), event.is_writable());
            }
        }
        self.take_letters();
        self.go_round();
        if self.checked_at.elapsed() >= CHECK_INTERVAL {
            self.checked_at = Instant::now();
            self.check(self.checked_at);
        }
        self.scratch.waits.settle();
    }

    fn take_event(&mut self, place: u32, is_readable: bool, is_writable: bool) {
        match self.places.get_mut(place as usize) {
            Some(Place::Session(_, session)) => {
                let outcome = session.take_event(is_readable, is_writable, &mut self.scratch);
                self.settle(place, outcome);
            }
            Some(Place::Farewell(stream, _)) if is_readable && !drain(stream) => self.clear(place),
            _ => {}
        }
    }

    fn take_letters(&mut self) {
        for _ in 0..self.max_per_turn() {
            let Ok(session) = self.joining.try_recv() else {
                // Nobody who is to end has yet to join.
                self.take_ending();
                return;
            };
            self.add(Box::new(session));
        }
        self.has_more = true;
    }

    /// Visits some of the listeners that are to end.
    fn take_ending(&mut self) {
        self.ending.extend(self.mailbox.take_to_look_at());
        for listener in self.ending.drain(..self.ending.len().min(self.max_per_turn())).collect::<Vec<_>>() {
            let is_it = |place: &Place| matches!(place, Place::Session(id, _) if *id == listener);
            let Some(place) = self.places.iter().position(is_it) else { continue };
            if let Place::Session(_, session) = &mut self.places[place] {
                let outcome = session.visit_for_end(&mut self.scratch);
                self.settle(place as u32, outcome);
            }
        }
        self.has_more = !self.ending.is_empty();
    }

    /// Returns how many listeners that join, and how many that are to end, are taken between two rounds.
    fn max_per_turn(&self) -> usize {
        MAX_PER_TURN.max(self.places.len() / TURN_PART)
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
        self.places[place as usize] = Place::Session(session.listener().id(), session);
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
                let Place::Session(_, session) = &mut self.places[*place as usize] else { continue };
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
            Place::Session(_, session) => Some(session),
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
                if let Place::Session(_, session) = std::mem::replace(&mut self.places[place as usize], Place::Free) {
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
        let Place::Session(_, session) = &self.places[place as usize] else { return };
        if let Some(feed) = self.feeds.iter_mut().find(|feed| Arc::ptr_eq(&feed.doorbell, session.doorbell())) {
            feed.members.retain(|member| *member != place);
        }
    }

    /// Closes the connection at this place. Closing takes it out of the poller.
    fn clear(&mut self, place: u32) {
        if let Place::Session(_, session) = std::mem::replace(&mut self.places[place as usize], Place::Free) {
            drop(session.into_stream());
        }
        self.to_check.remove(&place);
        self.free.push(place);
    }

    fn check(&mut self, now: Instant) {
        for place in std::mem::take(&mut self.to_check) {
            match &mut self.places[place as usize] {
                Place::Session(_, session) => {
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
    use std::io::Write as _;
    use std::iter::repeat_with;
    use std::net::{SocketAddr, TcpListener};
    use std::process::Command;

    use aircheck_api::SourceKind;
    use aircheck_engine::source::Tone;
    use aircheck_engine::{Hub, Publisher, PublisherOptions, Stream, StreamOptions, SubscribeOptions};
    use tokio::sync::watch;

    use super::*;
    use crate::delivery::histograms::MountHistograms;
    use crate::delivery::listeners::Listeners;
    use crate::delivery::listeners::tests::join_request;
    use crate::delivery::mailbox::Assignment;
    use crate::delivery::session::{Connection, Joined};
    use crate::delivery::socket::options::SocketBuffer;
    use crate::mount::Mount;
    use crate::rendition::container::framing::Framing;
    use crate::rendition::encoders::Subscription;
    use crate::rendition::packet::{Ends, Numbered, Packet, Wire};
    use crate::rendition::packet_log::PacketLog;

    /// A crowd that takes several turns.
    const CROWD: usize = 4 * MAX_PER_TURN;

    /// A shard without a thread, and all that its sessions need.
    struct Scene {
        shard: Shard,
        events: Events,
        joining: mpsc::Sender<Session>,
        packets: Publisher<Packet>,
        /// Where the last of them ends.
        ends: Ends,
        hub: Hub<Packet>,
        doorbell: Arc<Doorbell>,
        listeners: Arc<Listeners>,
        histograms: MountHistograms,
        mount: Arc<Mount>,
        stream: Stream,
        port: TcpListener,
        open: watch::Sender<bool>,
    }

    impl Scene {
        fn new() -> Self {
            let (sender, joining) = mpsc::channel();
            let shard = Shard::new(0, joining).unwrap();
            let stream = Stream::start(Box::new(Tone::new(440.0)), StreamOptions::default()).unwrap();
            let (packets, hub) = Publisher::new(PublisherOptions::default());
            Self {
                doorbell: Doorbell::new(shard.mailbox.waker()),
                shard,
                events: Events::with_capacity(MAX_EVENTS),
                joining: sender,
                packets,
                ends: Ends::default(),
                hub,
                listeners: Listeners::new(usize::MAX),
                histograms: MountHistograms::default(),
                mount: Mount::new("main".to_owned(), &stream, SourceKind::Tone, Arc::default()).unwrap(),
                stream,
                port: TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap(),
                open: watch::Sender::new(false),
            }
        }

        /// Has a listener join. Returns the listener's end of its connection.
        fn join(&self) -> std::net::TcpStream {
            let client = std::net::TcpStream::connect(self.port.local_addr().unwrap()).unwrap();
            let stream = self.port.accept().unwrap().0;
            stream.set_nonblocking(true).unwrap();
            let packets = self.hub.subscribe(SubscribeOptions::default()).unwrap();
            let mailbox = &self.shard.mailbox;
            let request = join_request(&self.mount, &self.histograms, packets.stats(), mailbox);
            let doorbell = Arc::clone(&self.doorbell);
            let joined = Joined {
                registration: self.listeners.join(request).unwrap(),
                subscription: Subscription {
                    packets,
                    header: None,
                    tail: Arc::default(),
                    log: PacketLog::new(),
                    doorbell,
                },
                wire: Wire::Plain,
                framing: Framing::Plain { header: None, silence: None },
                socket_buffer: SocketBuffer { bytes_per_second: 0, packet_bytes: 0, target: Duration::ZERO },
                head: Vec::new(),
                has_body: false,
                assignment: Assignment::new(Arc::clone(mailbox)),
            };
            let connection = Connection { stream, tls: None, written: 0 };
            self.joining.send(joined.into_session(connection, &[], self.open.subscribe())).unwrap();
            mailbox.ring();
            client
        }

        /// Offers a packet to everybody, and has the shard take a turn, which must have a round for it.
        fn send_and_take_turn(&mut self) {
            let mut packet = Packet::chunk(b"sound", Numbered::Nothing);
            self.ends = packet.place(self.ends);
            self.packets.send(packet, Timestamp::now());
            self.doorbell.ring();
            self.shard.take_turn(&mut self.events);
            assert!(!self.doorbell.take(), "it has not looked for packets");
        }

        /// Has the shard take turns until so many listeners have a place. Returns the most that have come or gone in one of them.
        fn take_turns_until(&mut self, places: usize) -> usize {
            let mut most = 0;
            for _ in 0..10 * CROWD {
                let before = self.places();
                if before == places {
                    return most;
                }
                self.send_and_take_turn();
                most = most.max(self.places().abs_diff(before));
            }
            panic!("{} listeners, not {places}", self.places());
        }

        /// Returns how many listeners have a place.
        fn places(&self) -> usize {
            self.shard.places.iter().filter(|place| matches!(place, Place::Session(..))).count()
        }

        /// Has a crowd join, of whom no more than a turn's part come in any turn.
        fn join_crowd(&mut self) -> Vec<std::net::TcpStream> {
            let crowd: Vec<_> = repeat_with(|| self.join()).take(CROWD).collect();
            assert_eq!(self.take_turns_until(CROWD + 1), MAX_PER_TURN);
            crowd
        }
    }

    #[test]
    fn a_crowd_that_comes_or_goes_at_once_keeps_no_other_from_its_packets() {
        let mut scene = Scene::new();
        let _first = scene.join();
        assert_eq!(scene.take_turns_until(1), 1);
        let all_but_first = |scene: &Scene| scene.listeners.present().split_off(1);
        // They vanish. A round finds it out, too, at its visit to each.
        drop(scene.join_crowd());
        scene.take_turns_until(1);
        // They send what nobody asked for.
        let crowd = scene.join_crowd();
        crowd.iter().for_each(|mut client| client.write_all(&[0; 3 * READ_BYTES]).unwrap());
        (0..CROWD).for_each(|_| scene.send_and_take_turn());
        assert_eq!(scene.places(), CROWD + 1);
        // Their connections are closed.
        all_but_first(&scene).iter().for_each(|listener| listener.hang_up());
        assert_eq!(scene.take_turns_until(1), MAX_PER_TURN);
        // Their streams end. A round finds that out, too.
        let _crowd = scene.join_crowd();
        all_but_first(&scene).iter().for_each(|listener| listener.close());
        scene.take_turns_until(1);
        scene.stream.stop();
    }

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
