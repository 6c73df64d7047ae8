//! A tree of servers, and by arithmetic how busy each is.

use std::time::Duration;

use crate::costs::{BLOCK, COSTS, MACHINE, MESSAGE_BYTES, PAGE_BLOCKS, PAGE_BYTES};

/// The most of a machine that arithmetic gives away: the rest is for listeners that come back all at once, and for pauses.
const PLANNED_SHARE: f64 = 0.6;

/// What a place of the tree does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Captures, and publishes if anybody takes its blocks.
    Origin,
    /// Copies each message to those below it.
    Nats,
    /// Takes each block.
    Edge,
}

impl Kind {
    /// Returns the processor time that a block takes, without copies and listeners.
    pub(crate) fn cost(self) -> Duration {
        match self {
            Self::Origin => COSTS.origin_block,
            Self::Nats => COSTS.nats_message,
            Self::Edge => COSTS.edge_block,
        }
    }
}

/// A place of the tree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) kind: Kind,
    /// The place that it has its blocks from; `None` of the origin.
    pub(crate) above: Option<usize>,
    /// Listeners of Opus at default settings.
    pub(crate) listeners: u64,
}

/// The share of a machine that a place takes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Load {
    pub(crate) processors: f64,
    pub(crate) link: f64,
}

/// A tree: each place comes after the one above it.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    pub(crate) name: String,
    pub(crate) places: Vec<Place>,
    /// NATS servers of the cluster, which come right after the origin. The others are leaf nodes.
    cluster: usize,
}

impl Load {
    /// Returns the larger share, and of what it is.
    pub(crate) fn most(self) -> (f64, &'static str) {
        if self.link > self.processors { (self.link, "link") } else { (self.processors, "processors") }
    }
}

impl Tree {
    /// One server for all.
    pub(crate) fn single(listeners: u64) -> Self {
        let places = vec![Place { kind: Kind::Origin, above: None, listeners }];
        Self { name: "one server".into(), places, cluster: 0 }
    }

    /// An origin, a cluster of NATS servers, each of which has a copy of every message, leaf nodes below each of these, and edges below
    /// the lowest of them, by turns.
    pub(crate) fn of(cluster: usize, leaves: usize, edges: u64, listeners: u64) -> Self {
        let mut places = vec![Place { kind: Kind::Origin, above: None, listeners: 0 }];
        let nats = |above| Place { kind: Kind::Nats, above: Some(above), listeners: 0 };
        // The origin's own server passes each message on to the others of the cluster.
        places.extend((0..cluster).map(|index| nats(usize::from(index > 0))));
        let leaf_nodes = (0..cluster).flat_map(|server| std::iter::repeat_n(nats(1 + server), leaves));
        let leaf_nodes: Vec<_> = leaf_nodes.collect();
        let lowest = if leaves == 0 { 1..1 + cluster } else { 1 + cluster..1 + cluster + leaf_nodes.len() };
        places.extend(leaf_nodes);
        let each = |edge: u64| listeners / edges + u64::from(edge < listeners % edges);
        places.extend((0..edges).map(|edge| {
            let above = lowest.start + edge as usize % lowest.len();
            Place { kind: Kind::Edge, above: Some(above), listeners: each(edge) }
        }));
        let name = match (cluster, leaves) {
            (1, 0) => "a NATS server".to_owned(),
            (_, 0) => format!("{cluster} NATS servers"),
            _ => format!("{cluster} NATS servers, {leaves} leaves each"),
        };
        Self { name, places, cluster }
    }

    /// Returns how many places are of this kind.
    pub(crate) fn count(&self, kind: Kind) -> usize {
        self.places.iter().filter(|place| place.kind == kind).count()
    }

    /// Returns the places that can stand in for one: edges for an edge, the rest of the cluster for a server of it, leaf nodes for one.
    pub(crate) fn others(&self, of: usize) -> impl Iterator<Item = usize> {
        let what = |index: usize| (self.places[index].kind, index <= self.cluster);
        (0..self.places.len()).filter(move |index| *index != of && what(*index) == what(of))
    }

    /// Returns how many places have their blocks from each.
    pub(crate) fn below(&self) -> Vec<u64> {
        let mut below = vec![0; self.places.len()];
        self.places.iter().filter_map(|place| place.above).for_each(|above| below[above] += 1);
        below
    }

    /// Returns the load of each place.
    pub(crate) fn loads(&self) -> Vec<Load> {
        let below = self.below();
        self.places.iter().zip(below).map(|(place, below)| load(place, below)).collect()
    }

    /// Returns the place that is busiest, and its load.
    pub(crate) fn busiest(&self) -> (usize, Load) {
        let loads = self.loads();
        let busiest = (0..loads.len()).max_by(|&a, &b| loads[a].most().0.total_cmp(&loads[b].most().0)).unwrap_or(0);
        (busiest, loads[busiest])
    }
}

/// Returns the load of a place from which `below` others have their blocks.
fn load(place: &Place, below: u64) -> Load {
    let block = BLOCK.as_secs_f64();
    let copies = if place.kind == Kind::Nats { COSTS.nats_copy.as_secs_f64() * below as f64 } else { 0.0 };
    let pages = place.listeners as f64 / PAGE_BLOCKS as f64;
    let processors = (place.kind.cost().as_secs_f64() + copies + COSTS.listener_page.as_secs_f64() * pages) / block;
    let bytes = (MESSAGE_BYTES * below) as f64 + PAGE_BYTES as f64 * pages;
    Load { processors: processors / f64::from(MACHINE.cores), link: bytes / block / MACHINE.link as f64 }
}

/// Returns how many listeners an edge is planned for.
pub(crate) fn planned_listeners() -> u64 {
    let load = |listeners| load(&Place { kind: Kind::Edge, above: Some(0), listeners }, 0);
    let (empty, of_one) = (load(0), load(1_000_000));
    let most = |share: fn(Load) -> f64| (PLANNED_SHARE - share(empty)) / (share(of_one) - share(empty)) * 1e6;
    most(|load| load.processors).min(most(|load| load.link)) as u64
}

/// Returns how many copies of each message a NATS server is planned for.
pub(crate) fn planned_copies() -> u64 {
    let load = |below| load(&Place { kind: Kind::Nats, above: Some(0), listeners: 0 }, below);
    (1..100_000).take_while(|copies| load(*copies).most().0 <= PLANNED_SHARE).last().unwrap_or(0)
}
