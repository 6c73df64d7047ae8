//! What the server says of a slow listener's lag and losses is what the listener's own program knows of them, at every
//! scrape, and the others notice nothing.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;
#[path = "common/truth.rs"]
mod truth;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use common::{Server, eventually};
use truth::client::{Pace, unix_now};
use truth::numbered::{self, Format};
use truth::scrape::Metrics;
use truth::subject::{DISCONNECT, Role, Subject};
use truth::{Scene, Scrape, is_soak};

/// One that tells its listeners of no loss, and one that tells of each.
const FORMATS: [Format; 2] = [Format::Pcm, Format::Sse];
/// Suffix of a listener who goes on as soon as the server has given it up; others stay stopped for as long as all do.
const BRIEF: &str = "-brief";
/// Half of the default, so that rings are full before anybody's patience ends.
const BUFFER: &str = "buffer=500ms";
/// Seconds of sound: more than any server here plays.
const SOUND: u32 = 90;
/// So long after a listener was stopped, or has begun to read slowly, it is clear whose fault its lag is, also where
/// the server itself was kept waiting for some hundred milliseconds.
const CLEAR: Duration = Duration::from_millis(1500);
/// A process that reads slowly for a while may have begun so much before it is looked at.
const SLACK: Duration = Duration::from_millis(500);
/// So long after it was stopped, everybody who is to be ended is.
const ENDED: Duration = Duration::from_secs(2);
/// Two servers with all their listeners would be too much for a small machine.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[test]
fn the_reported_lag_of_frozen_listeners_is_true_and_others_lose_nothing() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let [alone, frozen] = if is_soak() { [5, 10] } else { [2, 3] }.map(Duration::from_secs);
    freeze(&roles(&["", BRIEF]), alone, frozen);
    if is_soak() {
        roles(&["", BRIEF]).iter().for_each(|role| freeze(&[*role], alone, frozen));
    }
}

#[test]
fn the_reported_lag_of_slow_readers_is_true_and_others_lose_nothing() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let slow_for = Duration::from_secs(if is_soak() { 30 } else { 5 });
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&["--source", &numbered::source(directory.path(), SOUND)]);
    let mut scene = Scene::new(&server, 10);
    for mut role in roles(&[""]) {
        if role.overflow == DISCONNECT {
            role.query = "";
        }
        // Half of what comes, and a short receive buffer: how much is in a long one can only be guessed by a server.
        let pace = Pace { buffer: 4096, bytes_per_second: 50 * role.format.block_bytes(), slow_for };
        scene.subjects.push(role.reader(&server, directory.path(), pace));
    }
    scene.scrape_for(slow_for - SLACK, |scene, scrape, elapsed| {
        if elapsed > CLEAR {
            scene.subjects.iter().for_each(|subject| check_fault(subject, &scrape));
        }
    });
    check_ends(&mut scene, &server, |_| true);
    scene.finish();
}

/// Is started by others here as a listener in a process of its own.
#[test]
#[ignore = "does nothing by itself"]
fn reader() {
    truth::client::reader();
}

/// One for each format and policy; the policy that ends them comes with each of `suffixes`.
fn roles(suffixes: &[&'static str]) -> Vec<Role> {
    let going_on = ["skip-to-live", "drop-newest", "latest"].map(|overflow| (overflow, "")).into_iter();
    let kinds: Vec<_> = going_on.chain(suffixes.iter().map(|suffix| (DISCONNECT, *suffix))).collect();
    let of = |format| kinds.iter().map(move |&(overflow, suffix)| Role { format, overflow, suffix, query: BUFFER });
    FORMATS.into_iter().flat_map(of).collect()
}

/// Stops curls that play `roles` among 50 healthy listeners, and looks at everybody all the time.
fn freeze(roles: &[Role], alone: Duration, frozen: Duration) {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&["--source", &numbered::source(directory.path(), SOUND)]);
    let mut scene = Scene::new(&server, 50);
    let start = unix_now();
    scene.scrape_for(alone, |_, _, _| {});
    let without = start..unix_now();
    scene.subjects = roles.iter().map(|role| role.curl(&server, directory.path())).collect();
    eventually("sound", || {
        scene.scrape();
        scene.subjects.iter_mut().all(|subject| subject.received().numbers.len() > 50).then_some(())
    });

    let start = unix_now();
    stop(&mut scene, frozen);
    let with = start..unix_now();
    check_ends(&mut scene, &server, |subject| subject.role.suffix == BRIEF);
    scene.finish();
    let names: Vec<_> = roles.iter().map(|role| role.name()).collect();
    println!("p99 of 50 healthy listeners from capture to arrival, without and with {} stopped:", names.join(", "));
    for format in FORMATS {
        let [without, with] = [&without, &with].map(|span| scene.healthy_p99(format, span));
        println!("{:>22} {without:>8.1} ms {with:>8.1} ms", format.label());
    }
}

/// Stops everybody for so long.
fn stop(scene: &mut Scene, span: Duration) {
    scene.subjects.iter().for_each(|subject| subject.signal("STOP"));
    let mut overdue = None;
    scene.scrape_for(span, |scene, scrape, elapsed| {
        for subject in &scene.subjects {
            let given_up = scrape.rows.get(&subject.name()).is_some_and(|row| row["lost"].as_u64() > Some(0));
            if subject.role.suffix == BRIEF {
                if given_up {
                    subject.signal("CONT");
                }
            } else if elapsed > CLEAR {
                check_fault(subject, &scrape);
            }
        }
        if elapsed > ENDED {
            check_overdue(scene, overdue.get_or_insert_with(|| scrape.clone()), &scrape);
        }
    });
    scene.subjects.iter().for_each(|subject| subject.signal("CONT"));
}

/// If it is behind, it is the listener's own fault.
fn check_fault(subject: &Subject, scrape: &Scrape) {
    if let Some(row) = scrape.rows.get(&subject.name()) {
        assert!(row["fault"].is_null() || row["fault"] == "listener", "{row}");
    }
}

/// The stall shows in the histogram while it lasts: between two scrapes, each block counts once for each listener who
/// stands still.
fn check_overdue(scene: &Scene, from: &Scrape, to: &Scrape) {
    for format in FORMATS {
        let roles = scene.subjects.iter().map(|subject| subject.role);
        let still = roles.filter(|role| role.format == format && role.overflow != DISCONNECT).count() as f64;
        let grown = above_a_second(&to.metrics, format) - above_a_second(&from.metrics, format);
        let least = to.head.saturating_sub(from.head_after + 4) as f64 * still;
        // Who was to be ended by then, and is not, may stand still for a moment more.
        let ending = from.rows.values().filter(|row| row["overflow"] == DISCONNECT && row["format"] == format.label());
        let most = (to.head_after - from.head + 4) as f64 * (still + ending.count() as f64);
        assert!((least..=most).contains(&grown), "{grown} blocks were overdue, not {least} to {most}");
    }
}

/// How many lags of more than a second, or nearly so, were counted.
fn above_a_second(metrics: &Metrics, format: Format) -> f64 {
    let label = [&*format!("format=\"{}\"", format.label())];
    let up_to = metrics.with("aircheck_lag_seconds_bucket", &label).filter(|(series, _)| {
        let le = series.split("le=\"").nth(1).unwrap().split('"').next().unwrap();
        // Its edge is the histogram's own.
        le.parse().is_ok_and(|le: f64| le < 1.1)
    });
    metrics.sum("aircheck_lag_seconds_count", &label) - up_to.map(|(_, count)| count).fold(0.0, f64::max)
}

/// Everybody comes back or is gone, and what it lost is what it did not get. Of those who are ended, those who are
/// `in_order` have read on, so that they get what was queued and then a proper end.
fn check_ends(scene: &mut Scene, server: &Server, in_order: fn(&Subject) -> bool) {
    scene.scrape_until_settled();
    let mut ended = 0.0;
    for index in 0..scene.subjects.len() {
        let subject = &mut scene.subjects[index];
        let (name, overflow) = (subject.name(), subject.role.overflow);
        if overflow == DISCONNECT {
            assert!(subject.wait() || !in_order(subject), "{name} got a proper end");
            scene.check_account(index, "too_slow");
            assert_eq!(scene.subjects[index].received().missing(), 0, "{name} got what was queued");
            ended += 1.0;
        } else {
            check_events(scene, &name, overflow);
            scene.dismiss(server, index);
        }
    }
    let left = Metrics::of(server.address).sum("aircheck_listeners_left_total", &["\"too_slow\""]);
    assert_eq!(left, ended);
}

/// It was told when it fell behind, and when it had caught up.
fn check_events(scene: &Scene, name: &str, overflow: &str) {
    eventually("news of its return", || {
        let events = scene.events(name);
        let behind = events.iter().position(|event| event["event"] == "fell_behind")?;
        events[behind..].iter().any(|event| event["event"] == "caught_up").then_some(())
    });
    let skipped = scene.events(name).iter().any(|event| event["event"] == "skipped");
    assert!(skipped || overflow == "latest", "{name} was told of as having lost blocks");
}
