//! A deterministic simulation of the whole way of the sound: device or another server, capture, dispatcher, fan-out, encoder,
//! consumers.
//!
//! A [`schedule`] is made from a seed: a configuration and a list of events, such as a period of a device, a turn of the
//! dispatcher or a read of a consumer. Each event is driven on one thread with a clock of the simulation's own, so a seed
//! always gives the same run. The engine is the real one. After every event the [`world`] compares it with a model that
//! knows what the device really captured ([`device`]), what went through each fan-out ([`log`]), and what each consumer
//! is owed ([`listener`]). A failing schedule is made short ([`shrink`]) and printed with its seed.
//!
//! | variable | meaning |
//! |---|---|
//! | `SEED=N` | run one schedule and print each of its events |
//! | `SCHEDULES=N` | how many schedules to run, 100 000 by default |
//! | `FIRST_SEED=N` | the first of them, 0 by default |

mod device;
mod listener;
mod log;
mod rng;
mod schedule;
mod shrink;
mod world;

use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::{env, thread};

use schedule::Schedule;
use world::World;

/// Schedules of one run of the tests. A debug build runs 5000 a second on one core.
const SCHEDULES: u64 = 100_000;

/// Returns an error with a formatted message unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+));
        }
    };
}
use ensure;

/// Runs a schedule. Returns the trace of its events, or the number of the event that failed and the fault.
fn run(schedule: &Schedule, mut trace: Option<&mut String>) -> Result<(), Failure> {
    quiet_panics();
    let mut at = 0;
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| {
        IS_QUIET.set(true);
        let mut world = World::new(&schedule.config)?;
        for (number, step) in schedule.steps.iter().enumerate() {
            at = number;
            let outcome = world.play(step)?;
            if let Some(trace) = trace.as_mut() {
                trace.push_str(&format!("{number:4} {step:?}\n     {outcome}\n"));
            }
        }
        at = schedule.steps.len();
        world.conclude()
    }));
    IS_QUIET.set(false);
    match outcome {
        Ok(Ok(())) => Ok(()),
        Ok(Err(fault)) => Err(Failure { at, fault }),
        Err(_) => Err(Failure { at, fault: format!("panic: {}", PANIC.take()) }),
    }
}

/// The event at which a schedule failed, and how.
#[derive(Clone, Debug)]
struct Failure {
    at: usize,
    fault: String,
}

thread_local! {
    /// Whether panics of this thread are noted instead of printed.
    static IS_QUIET: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
    /// The last panic of this thread.
    static PANIC: std::cell::RefCell<String> = const { std::cell::RefCell::new(String::new()) };
}

/// Notes the panics of simulated schedules, of which shrinking may cause hundreds, instead of printing them.
fn quiet_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if IS_QUIET.get() {
                PANIC.set(info.to_string());
            } else {
                usual(info);
            }
        }));
    });
}

/// Returns the number in an environment variable.
fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number (give decimal digits)")))
}

/// Runs many schedules on all cores. Returns the failing seed that is lowest among those found, and the number of events.
fn run_many(first: u64, count: u64) -> (Option<u64>, u64) {
    let (next, events, stop) = (AtomicU64::new(first), AtomicU64::new(0), AtomicBool::new(false));
    let failed = Mutex::new(None::<u64>);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        break;
                    }
                    let schedule = Schedule::new(seed);
                    events.fetch_add(schedule.steps.len() as u64, Ordering::Relaxed);
                    if run(&schedule, None).is_err() {
                        stop.store(true, Ordering::Relaxed);
                        let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                        *failed = Some(failed.map_or(seed, |other| other.min(seed)));
                    }
                }
            });
        }
    });
    (failed.into_inner().unwrap_or_else(PoisonError::into_inner), events.into_inner())
}

/// Fails with the seed, the fault and the shortest list of events that shows it.
fn report(seed: u64, first: u64) -> ! {
    let schedule = Schedule::new(seed);
    let Err(failure) = run(&schedule, None) else {
        panic!("seed {seed} failed once and not again: it is not deterministic")
    };
    let (short, failure_of_short) = shrink::shrink(&schedule, failure.clone());
    let mut trace = String::new();
    let _ = run(&short, Some(&mut trace));
    panic!(
        "schedule {} of this run failed.\nSEED={seed} event {} of {}: {}\n\nshortest: {:?}\n{trace}{:4} {:?}\n     {}\n",
        seed - first + 1,
        failure.at,
        schedule.steps.len(),
        failure.fault,
        short.config,
        failure_of_short.at,
        short.steps.get(failure_of_short.at),
        failure_of_short.fault,
    );
}

#[test]
fn every_schedule_keeps_the_account_the_order_the_grid_and_the_blame() {
    if let Some(seed) = number("SEED") {
        let schedule = Schedule::new(seed);
        let mut trace = format!("SEED={seed} {:?}\n", schedule.config);
        let outcome = run(&schedule, Some(&mut trace));
        println!("{trace}");
        if outcome.is_err() {
            report(seed, seed);
        }
        return;
    }
    let (first, count) = (number("FIRST_SEED").unwrap_or(0), number("SCHEDULES").unwrap_or(SCHEDULES));
    let (failed, events) = run_many(first, count);
    if let Some(seed) = failed {
        report(seed, first);
    }
    println!("{count} schedules of {} events each kept their account", events / count.max(1));
}

#[test]
fn a_seed_replays_to_the_byte() {
    for seed in 0..300 {
        let [first, second] = [(); 2].map(|()| {
            let mut trace = String::new();
            let outcome = run(&Schedule::new(seed), Some(&mut trace));
            format!("{trace}{outcome:?}")
        });
        assert_eq!(first, second, "seed {seed}");
    }
}
