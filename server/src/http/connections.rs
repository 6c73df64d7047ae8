//! The open connections: how many each address has, and which one gives way when places are short.
//!
//! A connection has a *regular* place while its address and the server have one free. Otherwise it gets a *spare* place
//! for a moment: there it may become a listener, or ask for health, metrics and documents of the API. A connection that
//! has become a listener needs no place, because listeners have a limit of their own.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::access::throttle::network;
use crate::config::HttpConfig;

/// Regular places beyond one for each listener, for scrapes, tools and pages that only look. Each listener's page has one
/// connection beside its stream.
const OTHER_PLACES: usize = 256;
/// Spare places beyond one for each listener. All listeners of a load test come from one address, and may connect before
/// the first of them sends its request; these are what is left for others meanwhile.
const OTHER_SPARE_PLACES: usize = 64;
/// A connection that has sent no complete request for this long may be closed for another one. A request follows its
/// connection within a round trip, which is below half a second anywhere on earth.
const SILENCE_GRACE: Duration = Duration::from_secs(1);

/// Limits of the connections that are not listeners.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Regular places of one address. Loopback counts as any other address, because every web page that is open on this
    /// machine can connect from there; a load test does not need the exemption, because its streams have no places.
    pub(super) per_address: usize,
    regular: usize,
    spare: usize,
}

impl Limits {
    /// Returns the limits for a configuration.
    pub(super) fn new(config: &HttpConfig) -> Self {
        let HttpConfig { max_listeners, max_connections_per_address, .. } = *config;
        Self {
            per_address: max_connections_per_address,
            regular: max_listeners + OTHER_PLACES,
            spare: max_listeners + OTHER_SPARE_PLACES,
        }
    }
}

/// The open connections of a server.
#[derive(Debug)]
pub(super) struct Connections {
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next_id: u64,
    /// By number, so in the order of their arrival.
    open: BTreeMap<u64, Connection>,
    regular: Count,
    spare: Count,
}

#[derive(Debug)]
struct Connection {
    /// The address that it counts for. That of a proxy's client is not known before its request.
    address: Option<IpAddr>,
    /// Whether it counts for `address` only until its request is answered.
    is_shared: bool,
    kind: Kind,
    activity: Activity,
    /// When it took up its activity.
    since: Instant,
    evicted: Arc<Notify>,
}

/// Connections with places of one kind, in all and by address.
#[derive(Debug, Default)]
struct Count {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// The kind of a connection's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Regular,
    Spare,
    /// None, because it is a listener.
    Listener,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Activity {
    /// Its first request is not complete.
    Silent,
    /// A request is answered.
    Busy,
    /// It is kept open after an answer.
    Idle,
}

impl Connections {
    /// Makes an empty registry.
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, state: Mutex::default() })
    }

    /// Returns the limits.
    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Gives a new connection a place. Where places are short, an idle connection gives way, or else a silent one: of the
    /// same address if that has reached its limit, otherwise of any.
    ///
    /// Returns `None` if all spare places are taken, too, and no address has more of them than this one.
    pub(super) fn admit(self: &Arc<Self>, remote: IpAddr, now: Instant) -> Option<Place> {
        self.admit_for(Some(network(remote)), now)
    }

    /// Gives a new connection of a trusted proxy a place. It counts for no address until its client is known.
    pub(super) fn admit_proxy(self: &Arc<Self>, now: Instant) -> Option<Place> {
        self.admit_for(None, now)
    }

    fn admit_for(self: &Arc<Self>, address: Option<IpAddr>, now: Instant) -> Option<Place> {
        let mut state = self.state();
        let kind = state.find_place(address, &self.limits, now)?;
        let evicted = Arc::new(Notify::new());
        state.next_id += 1;
        let id = state.next_id;
        let connection = Connection {
            address,
            is_shared: false,
            kind,
            activity: Activity::Silent,
            since: now,
            evicted: Arc::clone(&evicted),
        };
        state.add(address, kind);
        state.open.insert(id, connection);
        drop(state);
        Some(Place { id, connections: Arc::clone(self), evicted })
    }

    /// Closes a connection that is idle, or else silent. Called when the process can open no more files.
    pub(super) fn evict_one(&self, now: Instant) {
        self.state().evict(now, |_| true);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Finds a place for a connection that counts for `address`, and makes others give way for it; `None` if there is none.
    fn find_place(&mut self, address: Option<IpAddr>, limits: &Limits, now: Instant) -> Option<Kind> {
        let Limits { per_address, regular, spare } = *limits;
        if self.regular.of(address) >= per_address {
            self.evict(now, |connection| connection.address == address);
        } else if self.regular.total >= regular {
            self.evict(now, |_| true);
        }
        if self.regular.of(address) < per_address && self.regular.total < regular {
            return Some(Kind::Regular);
        }
        (self.spare.total < spare || self.evict_spare(address)).then_some(Kind::Spare)
    }

    /// Takes the place of the connection that has been idle for the longest time, or else of the one that has been silent
    /// for the longest time, beyond [`SILENCE_GRACE`].
    fn evict(&mut self, now: Instant, may_go: impl Fn(&Connection) -> bool) {
        let regular =
            || self.open.iter().filter(|(_, connection)| connection.kind == Kind::Regular && may_go(connection));
        let longest = |activity| {
            regular().filter(move |(_, it)| it.activity == activity).min_by_key(|(_, it)| it.since).map(|(id, _)| *id)
        };
        let silent = || longest(Activity::Silent).filter(|id| now.duration_since(self.open[id].since) >= SILENCE_GRACE);
        if let Some(id) = longest(Activity::Idle).or_else(silent) {
            self.take_place(id);
        }
    }

    /// Takes a spare place for `address` from the address with the most of them: that of its oldest silent connection.
    fn evict_spare(&mut self, address: Option<IpAddr>) -> bool {
        let Some((&greediest, &most)) = self.spare.by_address.iter().max_by_key(|(_, count)| **count) else {
            return false;
        };
        if most <= self.spare.of(address) + 1 {
            return false;
        }
        let oldest = self.open.iter().find(|(_, connection)| {
            let Connection { address, kind, activity, .. } = connection;
            (*address, *kind, *activity) == (Some(greediest), Kind::Spare, Activity::Silent)
        });
        let Some((&id, _)) = oldest else { return false };
        self.take_place(id);
        true
    }

    fn take_place(&mut self, id: u64) {
        if let Some(connection) = self.remove(id) {
            connection.evicted.notify_one();
        }
    }

    /// Ends that a connection counts for the client of its last request.
    fn end_sharing(&mut self, id: u64) {
        let Some(connection) = self.open.get_mut(&id).filter(|connection| connection.is_shared) else { return };
        let (address, kind) = (connection.address.take(), connection.kind);
        self.subtract(address, kind);
        self.add(None, kind);
    }

    fn remove(&mut self, id: u64) -> Option<Connection> {
        let connection = self.open.remove(&id)?;
        self.subtract(connection.address, connection.kind);
        Some(connection)
    }

    fn add(&mut self, address: Option<IpAddr>, kind: Kind) {
        if let Some(count) = self.count(kind) {
            count.total += 1;
            if let Some(address) = address {
                *count.by_address.entry(address).or_default() += 1;
            }
        }
    }

    fn subtract(&mut self, address: Option<IpAddr>, kind: Kind) {
        let Some(count) = self.count(kind) else { return };
        count.total -= 1;
        let Some(address) = address else { return };
        if let Some(of_address) = count.by_address.get_mut(&address) {
            *of_address -= 1;
            if *of_address == 0 {
                count.by_address.remove(&address);
            }
        }
    }

    fn count(&mut self, kind: Kind) -> Option<&mut Count> {
        match kind {
            Kind::Regular => Some(&mut self.regular),
            Kind::Spare => Some(&mut self.spare),
            Kind::Listener => None,
        }
    }

    /// Gives a connection that has one a place of another kind.
    fn change(&mut self, id: u64, kind: Kind) {
        let Some(connection) = self.open.get_mut(&id) else { return };
        let address = connection.address;
        let before = std::mem::replace(&mut connection.kind, kind);
        self.subtract(address, before);
        self.add(address, kind);
    }

    /// Lets a connection count for `address`, in a place that has room for it.
    ///
    /// Returns whether there is such a place. If not, the connection stays as it is.
    fn move_to(&mut self, id: u64, address: Option<IpAddr>, limits: &Limits, now: Instant) -> bool {
        // It must not give way to itself.
        let Some(mut connection) = self.remove(id) else { return false };
        let place = self.find_place(address, limits, now);
        let is_found = place.is_some();
        if let Some(kind) = place {
            (connection.address, connection.kind) = (address, kind);
        }
        self.add(connection.address, connection.kind);
        self.open.insert(id, connection);
        is_found
    }

    fn begin(&mut self, id: u64, activity: Activity, now: Instant) {
        if let Some(connection) = self.open.get_mut(&id) {
            (connection.activity, connection.since) = (activity, now);
        }
    }
}

impl Count {
    /// Returns the connections of an address; none without an address, which has no limit of its own.
    fn of(&self, address: Option<IpAddr>) -> usize {
        address.and_then(|address| self.by_address.get(&address)).copied().unwrap_or_default()
    }
}

/// A connection's place. It is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    id: u64,
    connections: Arc<Connections>,
    evicted: Arc<Notify>,
}

impl Place {
    /// Returns whether the place is a regular one, where everything may be asked for. It is not if it is spare, or if the
    /// connection has to give way.
    pub(super) fn is_regular(&self) -> bool {
        self.connections.state().open.get(&self.id).is_some_and(|connection| connection.kind != Kind::Spare)
    }

    /// Returns the limits that the place counts for.
    pub(super) fn limits(&self) -> &Limits {
        self.connections.limits()
    }

    /// Records that a request is complete. The connection does not give way until it is answered.
    pub(super) fn begin_answer(&self, now: Instant) {
        self.connections.state().begin(self.id, Activity::Busy, now);
    }

    /// Lets a proxy's connection count for its client, from now on.
    ///
    /// Returns false if there is no place for it.
    pub(super) fn count_for(&self, client: IpAddr, now: Instant) -> bool {
        let limits = self.connections.limits;
        self.connections.state().move_to(self.id, Some(network(client)), &limits, now)
    }

    /// Lets a proxy's connection count for the client of the present request, until that is answered: the next request may be
    /// another client's.
    ///
    /// Returns false if there is no place for it.
    pub(super) fn share_with(&self, client: IpAddr, now: Instant) -> bool {
        let limits = self.connections.limits;
        let mut state = self.connections.state();
        let is_found = state.move_to(self.id, Some(network(client)), &limits, now);
        if let Some(connection) = state.open.get_mut(&self.id) {
            connection.is_shared = true;
        }
        is_found
    }

    /// Records that an answer is complete. A listener whose stream has ended is counted again.
    pub(super) fn end_answer(&self, now: Instant) {
        let mut state = self.connections.state();
        state.end_sharing(self.id);
        if state.open.get(&self.id).is_some_and(|connection| connection.kind == Kind::Listener) {
            state.change(self.id, Kind::Regular);
        }
        state.begin(self.id, Activity::Idle, now);
    }

    /// Records that the connection is a listener's or a source client's, and frees its place.
    pub(super) fn become_listener(&self) {
        self.connections.state().change(self.id, Kind::Listener);
    }

    /// Waits until the connection has to give way to another one.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.state().remove(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { per_address: 3, regular: 5, spare: 3 };

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    /// Returns whether a place was taken for another connection.
    fn is_evicted(place: &Place) -> bool {
        !place.connections.state().open.contains_key(&place.id)
    }

    #[test]
    fn an_address_has_its_limit_of_regular_places_and_others_have_theirs() {
        let (connections, now) = (Connections::new(LIMITS), Instant::now());
        let places: Vec<_> = (0..4).map(|_| connections.admit(address(1), now).unwrap()).collect();
        assert_eq!(places.iter().map(Place::is_regular).collect::<Vec<_>>(), [true, true, true, false]);
        assert!(connections.admit(address(2), now).unwrap().is_regular());
        drop(places);
        assert!(connections.admit(address(1), now).unwrap().is_regular());
    }

    #[test]
    fn an_idle_connection_gives_way_before_a_silent_one_and_a_busy_one_never() {
        let (connections, start) = (Connections::new(LIMITS), Instant::now());
        let later = start + SILENCE_GRACE;
        let [busy, silent, idle] = [(); 3].map(|()| connections.admit(address(1), start).unwrap());
        busy.begin_answer(start);
        idle.begin_answer(start);
        idle.end_answer(start);
        let first = connections.admit(address(1), start).unwrap();
        assert!(is_evicted(&idle) && !is_evicted(&silent) && first.is_regular());
        // Nothing that is silent is old enough to give way.
        assert!(!connections.admit(address(1), start).unwrap().is_regular());
        let second = connections.admit(address(1), later).unwrap();
        assert!(is_evicted(&silent) && second.is_regular());
        assert!(!is_evicted(&busy) && !is_evicted(&first));
    }

    #[test]
    fn when_all_regular_places_are_taken_the_longest_idle_of_any_address_gives_way() {
        let (connections, start) = (Connections::new(LIMITS), Instant::now());
        let places: Vec<_> = (0..5).map(|n| connections.admit(address(n), start).unwrap()).collect();
        assert!(!connections.admit(address(9), start).unwrap().is_regular());
        for (place, after) in [(&places[3], 2), (&places[1], 1)] {
            place.begin_answer(start);
            place.end_answer(start + Duration::from_millis(after));
        }
        assert!(connections.admit(address(9), start + Duration::from_millis(9)).unwrap().is_regular());
        assert!(is_evicted(&places[1]) && !is_evicted(&places[3]));
    }

    #[test]
    fn a_listener_takes_no_place_until_its_stream_ends() {
        let (connections, now) = (Connections::new(LIMITS), Instant::now());
        let listeners: Vec<_> = (0..50)
            .map(|_| {
                let place = connections.admit(address(1), now).unwrap();
                place.begin_answer(now);
                place.become_listener();
                place
            })
            .collect();
        let counts = |state: MutexGuard<'_, State>| (state.regular.total, state.spare.total, state.open.len());
        assert_eq!(counts(connections.state()), (0, 0, 50));
        listeners[0].end_answer(now);
        assert_eq!(counts(connections.state()), (1, 0, 50));
        drop(listeners);
        assert_eq!(counts(connections.state()), (0, 0, 0));
        assert!(connections.state().regular.by_address.is_empty());
    }

    #[test]
    fn a_connection_of_a_proxy_counts_for_the_client_of_its_request() {
        let (connections, now) = (Connections::new(LIMITS), Instant::now());
        let proxied: Vec<_> = (0..5).map(|_| connections.admit_proxy(now).unwrap()).collect();
        assert!(proxied.iter().all(Place::is_regular), "a proxy has no limit of its own");
        for place in &proxied {
            place.begin_answer(now);
        }
        let shared: Vec<_> = proxied[..4].iter().map(|place| place.share_with(address(1), now)).collect();
        assert_eq!(shared, [true; 4]);
        assert_eq!(proxied.iter().map(Place::is_regular).collect::<Vec<_>>(), [true, true, true, false, true]);
        assert!(
            proxied[4].share_with(address(2), now) && proxied[4].is_regular(),
            "the other client has a limit of its own"
        );
        // An answered request counts for its client no more.
        proxied[0].end_answer(now);
        assert_eq!(connections.state().regular.of(Some(address(1))), 2);
        drop(proxied);
        let state = connections.state();
        assert_eq!((state.regular.total, state.spare.total), (0, 0));
        assert!(state.regular.by_address.is_empty() && state.spare.by_address.is_empty());
    }

    #[test]
    fn a_client_behind_a_proxy_takes_no_more_spare_places_than_others() {
        let (connections, now) = (Connections::new(LIMITS), Instant::now());
        let take = |client| {
            let place = connections.admit_proxy(now).unwrap();
            place.begin_answer(now);
            let is_found = place.count_for(client, now);
            (place, is_found)
        };
        let places: Vec<_> = (0..6).map(|_| take(address(1))).collect();
        assert!(places.iter().all(|(_, is_found)| *is_found), "three regular and three spare ones");
        let (_, is_found) = take(address(1));
        assert!(!is_found);
        let (other, is_found) = take(address(2));
        assert!(is_found && other.is_regular());
    }

    #[test]
    fn spare_places_go_from_the_address_with_the_most_of_them_to_others() {
        let (connections, now) = (Connections::new(LIMITS), Instant::now());
        let places: Vec<_> = (0..6).map(|_| connections.admit(address(1), now).unwrap()).collect();
        assert!(connections.admit(address(1), now).is_none(), "no place is left for the same address");
        let _regular: Vec<_> = (0..2).map(|_| connections.admit(address(2), now).unwrap()).collect();
        let other = connections.admit(address(2), now).unwrap();
        assert!(!other.is_regular() && is_evicted(&places[3]));
        assert!(connections.admit(address(2), now).is_none(), "both have about as many");
    }

    #[test]
    fn an_address_is_counted_as_the_network_that_one_customer_has() {
        let counted = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(counted("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(counted("192.0.2.7"), "192.0.2.7");
        assert_eq!(counted("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(counted("::1"), "::");
    }
}
