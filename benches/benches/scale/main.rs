//! How far a tree of servers carries: from one server to a million listeners, by arithmetic and by a simulation of each message.
//!
//! Arithmetic adds up what was measured of one machine ([`costs`]) and says which place is the busiest, and by what. The simulation plays
//! a minute of sound through the same tree, message by message, with queues, pauses and ways that differ, from a seed. Both must agree
//! on how busy each place is, to [`MAX_DIFFERENCE`], and on what is too much: a place that is used beyond what it can do makes sound late
//! or loses it, and no other does. The program fails where they do not.
//!
//! `make simulate-scale`; another seed by `ARGS="--seed 7"`.

mod costs;
mod simulation;
mod tree;

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use aircheck_benches::Table;

use simulation::{Death, Outcome, run};
use tree::{Kind, Tree, planned_copies, planned_listeners};

/// Sound that is played.
const SOUND: Duration = Duration::from_secs(60);
/// By how much the simulation's load may differ from arithmetic, as a share of a machine.
const MAX_DIFFERENCE: f64 = 0.02;
/// When something dies.
const DEATH: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let mut words = env::args().skip_while(|word| word != "--seed").skip(1);
    let seed = words.next().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let (listeners, copies) = (planned_listeners(), planned_copies());
    println!(
        "planned: {listeners} listeners for an edge, {copies} edges or servers below a NATS server; seed {seed}\n"
    );

    let mut failures = Vec::new();
    println!("{}", growth(seed, &mut failures));
    println!("{}", deaths(seed, &mut failures));
    failures.iter().for_each(|failure| eprintln!("{failure}"));
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// From one server to a million listeners, as it is planned; and what is too much for each kind of place.
fn trees() -> [(u64, Tree); 9] {
    let most = planned_listeners();
    let edges = |listeners: u64| listeners.div_ceil(most);
    let of = |listeners, cluster, leaves, edges| (listeners, Tree::of(cluster, leaves, edges, listeners));
    [
        (1_000, Tree::single(1_000)),
        (2 * most, Tree::single(2 * most)),
        of(10_000, 1, 0, edges(10_000)),
        of(100_000, 3, 0, edges(100_000)),
        of(1_000_000, 3, 0, edges(1_000_000)),
        of(1_000_000, 3, 3, edges(1_000_000)),
        of(most * 3 / 2, 1, 0, 1),
        of(most * 2, 1, 0, 1),
        of(1000, 1, 0, 2 * planned_copies()),
    ]
}

fn growth(seed: u64, failures: &mut Vec<String>) -> Table {
    let mut table = Table::new([
        "tree",
        "listeners",
        "edges",
        "busiest",
        "by arithmetic %",
        "simulated %",
        "last listener p50 ms",
        "p99.9",
        "max",
        "lost on the hop",
        "lost by listeners",
    ]);
    for (listeners, tree) in trees() {
        let outcome = run(&tree, SOUND, &[], seed);
        let (busiest, load) = tree.busiest();
        let (share, what) = load.most();
        let simulated = if what == "link" { outcome.link[busiest] } else { outcome.processors[busiest] };
        let is_too_much = share > 1.0;
        if outcome.has_failed() != is_too_much {
            let said = if is_too_much { "can be had" } else { "is too much" };
            failures.push(format!("{listeners} listeners by {}: {said}, against arithmetic", tree.name));
        }
        if !is_too_much {
            failures.extend(disagreements(&tree, &outcome));
        }
        table.row([
            tree.name.clone(),
            listeners.to_string(),
            tree.count(Kind::Edge).to_string(),
            format!("{:?}: {what}", tree.places[busiest].kind),
            percent(share),
            percent(simulated),
            millis(outcome.latency.value_at_quantile(0.5)),
            millis(outcome.latency.value_at_quantile(0.999)),
            millis(outcome.latency.max()),
            outcome.lost_on_hop.to_string(),
            outcome.lost_by_listeners.to_string(),
        ]);
    }
    table
}

/// What happens when something dies.
fn deaths(seed: u64, failures: &mut Vec<String>) -> Table {
    let mut table = Table::new([
        "what dies, of a tree for 100,000",
        "all are live again after s",
        "last listener max ms",
        "lost on the hop, for each edge",
        "lost by listeners",
    ]);
    let edges = 100_000_u64.div_ceil(planned_listeners());
    let tree = Tree::of(3, 0, edges, 100_000);
    let (server, edge) = (1, tree.places.len() - 1);
    for (what, place) in [("an edge", edge), ("the origin's NATS server", server), ("another NATS server", server + 1)]
    {
        let outcome = run(&tree, SOUND, &[Death { place, at: DEATH }], seed);
        if outcome.lost_by_listeners > 0 || (place == edge && outcome.lost_on_hop > 0) {
            failures.push(format!("when {what} dies, listeners lose sound: {}", outcome.lost_by_listeners));
        }
        table.row([
            what.to_owned(),
            outcome.recovered_after.map_or_else(|| "-".to_owned(), |after| format!("{:.1}", after.as_secs_f64())),
            millis(outcome.latency.max()),
            format!("{:.1}", outcome.lost_on_hop as f64 / edges as f64),
            outcome.lost_by_listeners.to_string(),
        ]);
    }
    table
}

/// Says where arithmetic and simulation differ.
fn disagreements(tree: &Tree, outcome: &Outcome) -> Vec<String> {
    let mut said = Vec::new();
    for (index, load) in tree.loads().iter().enumerate() {
        let of = [("processors", load.processors, outcome.processors[index]), ("link", load.link, outcome.link[index])];
        for (what, computed, simulated) in of {
            if (computed - simulated).abs() > MAX_DIFFERENCE {
                let (kind, computed, simulated) = (tree.places[index].kind, percent(computed), percent(simulated));
                said.push(format!(
                    "{}, {kind:?} {index}: {what} {computed} % by arithmetic, {simulated} % simulated",
                    tree.name
                ));
            }
        }
    }
    said
}

fn percent(share: f64) -> String {
    format!("{:.1}", 100.0 * share)
}

fn millis(nanos: u64) -> String {
    format!("{:.1}", nanos as f64 / 1e6)
}
