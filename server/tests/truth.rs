//! At every scrape, the reported lag and losses of slow listeners equal the truth that their own programs know, and other
//! listeners lose nothing.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;
#[path = "common/truth.rs"]
mod truth;

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use common::{Server, eventually, tls};
use truth::client::{ReadPace, unix_now};
use truth::numbered::{self, Format};
use truth::scrape::Metrics;
use truth::slow_listener::{DISCONNECT, Role, SlowListener};
use truth::{LagCheck, Scrape, is_soak};

/// A format that reports no gaps to its listeners, and one that reports each.
const FORMATS: [Format; 2] = [Format::Pcm, Format::Sse];
/// The suffix of a listener that is continued as soon as it has lost blocks. The others stay stopped to the end.
const BRIEF: &str = "-brief";
/// Half of the default, so that rings are full early.
const BUFFER: &str = "buffer=500ms";
/// Seconds of sound: more than any server here plays.
const SOUND: u32 = 90;
/// Blocks that each listener has read before it is stopped: for longer than its machine's kernel needs to settle its window. Over TLS, that
/// kernel takes the connection for a dialogue as long as it is read.
const MIN_READ_BLOCKS: usize = 150;
/// After a listener was stopped, or has begun to read slowly, for this long, the fault of its lag is certain, even if the
/// server itself was delayed by some hundred milliseconds.
const CLEAR: Duration = Duration::from_millis(1500);
/// A process that reads slowly for a while may have begun this long before the first scrape.
const SLACK: Duration = Duration::from_millis(500);
/// After the stop, all listeners with the policy to disconnect have been ended within this time.
const ENDED: Duration = Duration::from_secs(2);
/// Two servers with all their listeners would be too much for a small machine.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[test]
fn the_reported_lag_of_frozen_listeners_is_true_and_others_lose_nothing() {
    freeze_all(&[]);
}

#[test]
fn the_reported_lag_of_frozen_listeners_with_tls_is_true_and_others_lose_nothing() {
    freeze_all(&tls::flags());
}

#[test]
fn the_reported_lag_of_slow_readers_is_true_and_others_lose_nothing() {
    slow_down(&[]);
}

#[test]
fn the_reported_lag_of_slow_readers_with_tls_is_true_and_others_lose_nothing() {
    slow_down(&tls::flags());
}

/// Starts a server of numbered sound with these flags.
fn start(directory: &Path, flags: &[String]) -> Server {
    let source = numbered::source(directory, SOUND);
    let flags: Vec<_> = flags.iter().map(String::as_str).chain(["--source", &source]).collect();
    Server::start(&flags)
}

fn freeze_all(flags: &[String]) {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let [alone, frozen] = if is_soak() { [5, 10] } else { [2, 3] }.map(Duration::from_secs);
    freeze(&roles(&["", BRIEF]), flags, alone, frozen);
    if is_soak() {
        roles(&["", BRIEF]).iter().for_each(|role| freeze(&[*role], flags, alone, frozen));
    }
}

fn slow_down(flags: &[String]) {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let slow_for = Duration::from_secs(if is_soak() { 30 } else { 5 });
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), flags);
    let mut check = LagCheck::new(&server, 10);
    for mut role in roles(&[""]) {
        if role.overflow == DISCONNECT {
            role.query = "";
        }
        // Half of what comes, and a short receive buffer: how much is in a long one can only be guessed by a server.
        let pace = ReadPace { buffer: 4096, bytes_per_second: 50 * role.format.block_bytes(), slow_for };
        check.slow.push(role.reader(&server, directory.path(), pace));
    }
    check.scrape_for(slow_for - SLACK, |check, scrape, elapsed| {
        if elapsed > CLEAR {
            check.slow.iter().for_each(|listener| check_fault(listener, &scrape));
        }
    });
    check_ends(&mut check, &server, |_| true);
    check.finish();
}

/// The listener in a process of its own that other tests start.
#[test]
#[ignore = "a helper process of the other tests"]
fn reader() {
    truth::client::reader();
}

/// Returns a role for each format and policy; the policy `disconnect` comes with each of `suffixes`.
fn roles(suffixes: &[&'static str]) -> Vec<Role> {
    let going_on = ["skip-to-live", "drop-newest", "latest"].map(|overflow| (overflow, "")).into_iter();
    let kinds: Vec<_> = going_on.chain(suffixes.iter().map(|suffix| (DISCONNECT, *suffix))).collect();
    let of = |format| kinds.iter().map(move |&(overflow, suffix)| Role { format, overflow, suffix, query: BUFFER });
    FORMATS.into_iter().flat_map(of).collect()
}

/// Stops listeners of `roles` among 50 healthy ones, and scrapes all the time.
fn freeze(roles: &[Role], flags: &[String], alone: Duration, frozen: Duration) {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), flags);
    let mut check = LagCheck::new(&server, 50);
    let start = unix_now();
    check.scrape_for(alone, |_, _, _| {});
    let without = start..unix_now();
    check.slow = roles.iter().map(|role| role.curl(&server, directory.path())).collect();
    eventually("sound", || {
        check.scrape();
        check.slow.iter_mut().all(|listener| listener.received().numbers.len() > MIN_READ_BLOCKS).then_some(())
    });

    let start = unix_now();
    stop(&mut check, frozen);
    let with = start..unix_now();
    check_ends(&mut check, &server, |listener| listener.role.suffix == BRIEF);
    check.finish();
    let names: Vec<_> = roles.iter().map(|role| role.name()).collect();
    println!("p99 of 50 healthy listeners from capture to arrival, without and with {} stopped:", names.join(", "));
    for format in FORMATS {
        let [without, with] = [&without, &with].map(|span| check.healthy_p99(format, span));
        println!("{:>22} {without:>8.1} ms {with:>8.1} ms", format.label());
    }
}

/// Stops all slow listeners for `span`.
fn stop(check: &mut LagCheck, span: Duration) {
    check.slow.iter().for_each(|listener| listener.signal("STOP"));
    let mut overdue = None;
    check.scrape_for(span, |check, scrape, elapsed| {
        for listener in &check.slow {
            let has_lost = scrape.rows.get(&listener.name()).is_some_and(|row| row["lost"].as_u64() > Some(0));
            if listener.role.suffix == BRIEF {
                if has_lost {
                    listener.signal("CONT");
                }
            } else if elapsed > CLEAR {
                check_fault(listener, &scrape);
            }
        }
        if elapsed > ENDED {
            check_overdue(check, overdue.get_or_insert_with(|| scrape.clone()), &scrape);
        }
    });
    check.slow.iter().for_each(|listener| listener.signal("CONT"));
}

/// Asserts that the fault of its lag, if it has one, is the listener.
fn check_fault(listener: &SlowListener, scrape: &Scrape) {
    if let Some(row) = scrape.rows.get(&listener.name()) {
        assert!(row["fault"].is_null() || row["fault"] == "listener", "{row}");
    }
}

/// Asserts that the stall shows in the histogram while it lasts: between two scrapes, each block counts once for each
/// frozen listener.
fn check_overdue(check: &LagCheck, from: &Scrape, to: &Scrape) {
    for format in FORMATS {
        let roles = check.slow.iter().map(|listener| listener.role);
        let still = roles.filter(|role| role.format == format && role.overflow != DISCONNECT).count() as f64;
        let grown = above_a_second(&to.metrics, format) - above_a_second(&from.metrics, format);
        let least = to.head.saturating_sub(from.head_after + 4) as f64 * still;
        // Listeners that are about to be ended may be frozen for a position more.
        let ending = from.rows.values().filter(|row| row["overflow"] == DISCONNECT && row["format"] == format.label());
        let most = (to.head_after - from.head + 4) as f64 * (still + ending.count() as f64);
        assert!((least..=most).contains(&grown), "{grown} blocks were overdue, not {least} to {most}");
    }
}

/// Returns how many lags of more than about a second were counted.
fn above_a_second(metrics: &Metrics, format: Format) -> f64 {
    let label = [&*format!("format=\"{}\"", format.label())];
    let up_to = metrics.with("aircheck_lag_seconds_bucket", &label).filter(|(series, _)| {
        let le = series.split("le=\"").nth(1).unwrap().split('"').next().unwrap();
        // The edges are those of the histogram.
        le.parse().is_ok_and(|le: f64| le < 1.1)
    });
    metrics.sum("aircheck_lag_seconds_count", &label) - up_to.map(|(_, count)| count).fold(0.0, f64::max)
}

/// Asserts that all listeners return to live or are ended, with correct counts. Of those that are ended, those that are
/// `in_order` have continued to read, so they get their queue and a proper end.
fn check_ends(check: &mut LagCheck, server: &Server, in_order: fn(&SlowListener) -> bool) {
    check.scrape_until_settled();
    let mut ended = 0.0;
    for index in 0..check.slow.len() {
        let listener = &mut check.slow[index];
        let (name, overflow) = (listener.name(), listener.role.overflow);
        if overflow == DISCONNECT {
            assert!(listener.wait() || !in_order(listener), "{name} got a proper end");
            check.check_account(index, "too_slow");
            assert_eq!(check.slow[index].received().missing(), 0, "{name} got what was queued");
            ended += 1.0;
        } else {
            check_events(check, &name, overflow);
            check.disconnect(server, index);
        }
    }
    let left = Metrics::of(server.address).sum("aircheck_listeners_left_total", &["\"too_slow\""]);
    assert_eq!(left, ended);
}

/// Asserts that events report when it fell behind and when it had caught up.
fn check_events(check: &LagCheck, name: &str, overflow: &str) {
    eventually("the event caught_up", || {
        let events = check.events(name);
        let behind = events.iter().position(|event| event["event"] == "fell_behind")?;
        events[behind..].iter().any(|event| event["event"] == "caught_up").then_some(())
    });
    let skipped = check.events(name).iter().any(|event| event["event"] == "skipped");
    assert!(skipped || overflow == "latest", "{name} has an event for its lost blocks");
}
