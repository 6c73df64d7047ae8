//! Each message on its way through a tree, and what happens when a server dies.
//!
//! A server does one thing after the other, in the order in which they come, with all of its processors. What a step takes differs by a tenth
//! to both sides, and now and then the machine pauses. Time is that of the simulation, in nanoseconds, so a seed gives the same figures on
//! every machine.

use std::time::Duration;

use fastrand::Rng;
use hdrhistogram::Histogram;

use crate::costs::{
    BLOCK, BUFFER_BLOCKS, COSTS, MACHINE, MESSAGE_BYTES, PAGE_BLOCKS, PAGE_BYTES, SUBSCRIPTION_MESSAGES,
};
use crate::tree::{Kind, Tree};

/// One way between two machines, and by how much it differs to both sides.
const WAY: Duration = Duration::from_millis(1);
const JITTER: Duration = Duration::from_micros(300);
/// A machine pauses once in so many steps, for so long: the longest pause of any listener was 11 ms beside those between pages.
const PAUSE_EVERY: u64 = 20_000;
const PAUSE: Duration = Duration::from_millis(10);
/// How long those below a NATS server that has died, and listeners of an edge that has died, take to come back elsewhere.
const RECONNECT_NANOS: std::ops::RangeInclusive<u64> = 500_000_000..=2_000_000_000;
/// Blocks that an edge keeps for listeners that come back: 10 s.
const HISTORY_BLOCKS: u64 = 1000;
/// Longest latency that is distinguished.
const MAX_NANOS: u64 = 600_000_000_000;

/// A server that dies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Death {
    pub(crate) place: usize,
    pub(crate) at: Duration,
}

/// What the simulation has seen.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The share of its processors that each place was busy.
    pub(crate) processors: Vec<f64>,
    /// The share of its link that each place has filled.
    pub(crate) link: Vec<f64>,
    /// From the capture of a page's last block until the last listener of an edge has the page, in nanoseconds.
    pub(crate) latency: Histogram<u64>,
    /// Blocks that did not come to an edge, of all edges.
    pub(crate) lost_on_hop: u64,
    /// Blocks that listeners lost because the edge was too busy, or because they came back too late, of all listeners.
    pub(crate) lost_by_listeners: u64,
    /// From a death until the last listener has live sound again.
    pub(crate) recovered_after: Option<Duration>,
}

/// A server, as far as it has come.
#[derive(Debug, Default)]
struct Server {
    free_at: u64,
    busy: u64,
    sent_bytes: u64,
    link_free_at: u64,
    listeners: u64,
    is_dead: bool,
    /// Until when it has lost its way to the one above.
    cut_until: u64,
    /// Listeners that come back to it: when they went, and when they are back.
    returning: Vec<(u64, u64)>,
}

impl Server {
    /// Does something that takes `cost` of one processor. Returns when it is done.
    fn work(&mut self, arrived: u64, cost: Duration, rng: &mut Rng) -> u64 {
        let pause = if rng.u64(0..PAUSE_EVERY) == 0 { nanos(PAUSE) } else { 0 };
        let cost = (nanos(cost) as f64 * (0.9 + 0.2 * rng.f64()) / f64::from(MACHINE.cores)) as u64;
        let begun = self.free_at.max(arrived);
        self.busy += cost;
        self.free_at = begun + cost + pause;
        self.free_at
    }

    /// Sends so many bytes. Returns when they are on their way.
    fn send(&mut self, at: u64, bytes: u64) -> u64 {
        self.sent_bytes += bytes;
        self.link_free_at = self.link_free_at.max(at) + bytes * 1_000_000_000 / MACHINE.link;
        self.link_free_at
    }
}

impl Outcome {
    /// Returns whether sound was lost, or came more than a second late.
    pub(crate) fn has_failed(&self) -> bool {
        self.lost_on_hop + self.lost_by_listeners > 0 || self.latency.max() > nanos(Duration::from_secs(1))
    }
}

fn nanos(span: Duration) -> u64 {
    span.as_nanos() as u64
}

/// Plays `sound` through a tree, in which some servers die.
pub(crate) fn run(tree: &Tree, sound: Duration, deaths: &[Death], seed: u64) -> Outcome {
    let mut rng = Rng::with_seed(seed);
    let mut servers: Vec<Server> =
        tree.places.iter().map(|place| Server { listeners: place.listeners, ..Server::default() }).collect();
    let mut above: Vec<Option<usize>> = tree.places.iter().map(|place| place.above).collect();
    let mut outcome = Outcome {
        processors: Vec::new(),
        link: Vec::new(),
        latency: Histogram::new_with_bounds(1000, MAX_NANOS, 3).expect("possible bounds"),
        lost_on_hop: 0,
        lost_by_listeners: 0,
        recovered_after: None,
    };
    let mut deaths = deaths.to_vec();
    let block_nanos = nanos(BLOCK);
    for block in 0..nanos(sound) / block_nanos {
        let now = block * block_nanos;
        for death in deaths.extract_if(.., |death| nanos(death.at) <= now) {
            die(tree, death.place, now, &mut servers, &mut above, &mut rng);
        }
        // When each place has the block, so that those below it can have it.
        let mut ready: Vec<Option<u64>> = vec![None; servers.len()];
        for (index, place) in tree.places.iter().enumerate() {
            if servers[index].is_dead {
                continue;
            }
            let arrived = match above[index] {
                None => Some(now),
                Some(above) => {
                    ready[above].map(|ready| copy(&mut servers[above], tree.places[above].kind, ready, &mut rng))
                }
            };
            let server = &mut servers[index];
            let is_full = |arrived: &u64| server.free_at > arrived + SUBSCRIPTION_MESSAGES * block_nanos;
            match arrived.filter(|arrived| server.cut_until <= now && !(place.kind == Kind::Edge && is_full(arrived))) {
                Some(arrived) => ready[index] = Some(server.work(arrived, place.kind.cost(), &mut rng)),
                None if place.kind == Kind::Edge => outcome.lost_on_hop += 1,
                None => {}
            }
            if block % PAGE_BLOCKS == PAGE_BLOCKS - 1
                && let Some(ready) = ready[index]
            {
                serve(server, now, ready, &mut outcome, &mut rng);
            }
        }
    }
    let whole = nanos(sound) as f64;
    outcome.processors = servers.iter().map(|server| server.busy as f64 / whole).collect();
    outcome.link = servers.iter().map(|server| server.sent_bytes as f64 * 1e9 / whole / MACHINE.link as f64).collect();
    outcome
}

/// Returns when the next copy of a block, which `server` has since `ready`, is at the place below it.
fn copy(server: &mut Server, kind: Kind, ready: u64, rng: &mut Rng) -> u64 {
    let made = if kind == Kind::Nats { server.work(ready, COSTS.nats_copy, rng) } else { ready };
    let sent = server.send(made, MESSAGE_BYTES);
    sent + nanos(WAY) - nanos(JITTER) + rng.u64(0..=2 * nanos(JITTER))
}

/// Hands the page that ends with the block of time `now` to each listener of a server, which has it since `ready`, and what those have missed
/// who come back.
fn serve(server: &mut Server, now: u64, ready: u64, outcome: &mut Outcome, rng: &mut Rng) {
    let back: Vec<_> = server.returning.extract_if(.., |(_, back)| *back <= now).collect();
    for (gone, _) in back {
        let missed = (now - gone) / nanos(BLOCK);
        outcome.lost_by_listeners += missed.saturating_sub(HISTORY_BLOCKS);
        let pages = missed.min(HISTORY_BLOCKS).div_ceil(PAGE_BLOCKS);
        let done = server.work(ready, COSTS.join + COSTS.listener_page * pages as u32, rng);
        server.send(done, PAGE_BYTES * pages);
        server.listeners += 1;
        let recovered = Duration::from_nanos(done - gone);
        outcome.recovered_after = outcome.recovered_after.max(Some(recovered));
    }
    if server.listeners == 0 {
        return;
    }
    // Pages wait in the listeners' rings until all of those before are on their way.
    if server.free_at.max(server.link_free_at) > ready + BUFFER_BLOCKS * nanos(BLOCK) {
        outcome.lost_by_listeners += PAGE_BLOCKS * server.listeners;
        return;
    }
    let done = server.work(ready, COSTS.listener_page * server.listeners as u32, rng);
    let last = server.send(done, PAGE_BYTES * server.listeners);
    outcome.latency.saturating_record(last - now);
}

/// Lets a server die: those below it and its listeners go to others of its kind.
fn die(tree: &Tree, dead: usize, now: u64, servers: &mut [Server], above: &mut [Option<usize>], rng: &mut Rng) {
    servers[dead].is_dead = true;
    let listeners = std::mem::take(&mut servers[dead].listeners);
    let others: Vec<usize> = tree.others(dead).filter(|other| !servers[*other].is_dead).collect();
    if others.is_empty() {
        return;
    }
    for listener in 0..listeners as usize {
        servers[others[listener % others.len()]].returning.push((now, now + rng.u64(RECONNECT_NANOS)));
    }
    // The origin's server is followed by the next one of the cluster, which passes messages on to the others.
    let heir = others[0];
    let orphans: Vec<usize> = (0..above.len()).filter(|index| above[*index] == Some(dead)).collect();
    for (turn, index) in orphans.into_iter().enumerate() {
        let before: Vec<usize> = others.iter().copied().filter(|other| *other < index).collect();
        above[index] = if index == heir { above[dead] } else { before.get(turn % before.len().max(1)).copied() };
        servers[index].cut_until = now + rng.u64(RECONNECT_NANOS);
    }
}
