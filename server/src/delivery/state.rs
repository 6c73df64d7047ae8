//! A listener's state in words, for people who look at its row.

use std::ops::Range;

use aircheck_api::{Fault, Verdict};

use crate::delivery::standing::Standing;

/// The state of a listener with which all is well.
const READS: &str = "reads";
/// Bounds of the lag that are further apart are shown. A listener that reads is tested once a second, so that its bounds are
/// up to 1.2 s apart.
const APART_SECONDS: f64 = 1.5;
/// Unread sound of so many seconds is told although the verdict is still good, as it is with a long buffer.
const NOTABLE_SECONDS: f64 = 1.5;
/// Bytes that wait for an acknowledgement for so long are held by the network. Before, they are on their way.
const HELD_SECONDS: f64 = 1.0;
/// A machine that has not answered for so long is told of: a network that loses some packets recovers sooner.
const UNANSWERED_SECONDS: f64 = 5.0;
/// A listener that has not read for so long does not read.
const NOT_READ_SECONDS: f64 = 1.0;
/// A lag that grows by less in each second is within the error of the estimate. One that grows by more is that of a listener that
/// does not read.
const GROWTH: Range<f64> = 0.02..0.95;

/// Words before the state of a proxy that stands for a listener.
const THROUGH_PROXY: &str = "through a proxy";

/// Returns what a listener with this standing does. `seconds` converts blocks.
///
/// A lag that its bounds do not confirm is told as probable: it is the best estimate, and may be wrong. Through a proxy, it is
/// what that has not taken. What the listener itself does is then known only from its own signs of life.
pub(super) fn state(standing: &Standing, verdict: Verdict, seconds: impl Fn(u64) -> f64) -> String {
    let words = state_of_connection(standing, verdict, seconds);
    match (standing.is_proxied, &*words) {
        (true, READS) if standing.is_heard_from => words,
        (true, READS) => format!("{THROUGH_PROXY}: unknown"),
        (true, _) if standing.place() != Fault::Server => format!("{THROUGH_PROXY}: {words}"),
        _ => words,
    }
}

fn state_of_connection(standing: &Standing, verdict: Verdict, seconds: impl Fn(u64) -> f64) -> String {
    let unanswered = standing.unanswered.as_secs_f64();
    if unanswered >= UNANSWERED_SECONDS {
        return format!("its machine has not answered for {}", whole(unanswered));
    }
    let bounds = &standing.unread_bounds;
    let is_apart = seconds(bounds.end() - bounds.start()) > APART_SECONDS;
    if verdict == Verdict::Ok && !is_late(standing, &seconds) {
        return if is_apart {
            format!("its machine may hold up to {}", whole(seconds(*bounds.end()).ceil()))
        } else {
            READS.to_owned()
        };
    }
    let late = tenths(seconds(standing.unrequested()));
    match standing.place() {
        Fault::Network => format!("does not get it: the network holds {}", tenths(seconds(standing.socket))),
        Fault::Server => format!("waits in this server: {}", tenths(seconds(standing.undelivered))),
        Fault::Listener | Fault::Proxy | Fault::Unknown => {
            let is_certain = !is_apart || 2 * standing.unrequested_bounds().start() >= standing.unrequested();
            let probably = if is_certain { "" } else { "probably " };
            let not_read = standing.reading.not_read_for.as_secs_f64();
            match standing.reading.growth {
                _ if not_read >= NOT_READ_SECONDS => format!("has {probably}not read for {}", whole(not_read)),
                Some(growth) if GROWTH.contains(&growth) => {
                    format!("{probably}slower than it comes: {:.0} % behind each second", 100.0 * growth)
                }
                _ => format!("is {probably}{late} late"),
            }
        }
    }
}

/// Returns whether sound waits below the ring for longer than a healthy listener's does.
fn is_late(standing: &Standing, seconds: impl Fn(u64) -> f64) -> bool {
    let is_notable = |blocks: u64| seconds(blocks.saturating_sub(standing.burst)) >= NOTABLE_SECONDS;
    let is_held = standing.waiting.as_secs_f64() >= HELD_SECONDS;
    is_notable(standing.unread) || (is_held && is_notable(standing.socket + standing.unread))
}

fn tenths(seconds: f64) -> String {
    if seconds < 9.95 { format!("{seconds:.1} s") } else { whole(seconds.round()) }
}

fn whole(seconds: f64) -> String {
    match seconds as u64 {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::delivery::progress::Reading;
    use crate::delivery::standing::Limits;

    const LIMITS: Limits = Limits { behind: 25, far_behind: 75, max_lag: None, buffer: 100, idle_timeout: None };

    /// Returns the words for this standing, with blocks of 10 ms.
    fn words(standing: &Standing) -> String {
        state(standing, standing.verdict(&LIMITS), |blocks| blocks as f64 / 100.0)
    }

    /// Returns the standing of a listener whose machine holds `unread` blocks, and has not read for so many seconds.
    fn unread(unread: u64, not_read_seconds: f64) -> Standing {
        let reading = Reading { not_read_for: Duration::from_secs_f64(not_read_seconds), growth: None };
        Standing { reading, ..Standing::of(0, 0, unread, 0) }
    }

    #[test]
    fn a_healthy_listener_reads() {
        assert_eq!(words(&Standing::of(0, 0, 0, 0)), "reads");
        assert_eq!(words(&Standing::of(9, 1, 1, 0)), "reads");
        // It was tested a second ago.
        assert_eq!(words(&Standing { unread_bounds: 0..=120, ..Standing::of(1, 1, 0, 0) }), "reads");
    }

    #[test]
    fn requested_lag_is_no_lateness() {
        assert_eq!(words(&unread(500, 3.0)), "has not read for 3 s");
        assert_eq!(words(&Standing { burst: 500, ..unread(500, 3.0) }), "reads");
    }

    #[test]
    fn what_is_not_known_is_not_told_as_reading() {
        assert_eq!(
            words(&Standing { unread_bounds: 0..=290, ..Standing::of(1, 0, 0, 0) }),
            "its machine may hold up to 3 s"
        );
        assert_eq!(
            words(&Standing { unread_bounds: 0..=60_000, ..Standing::of(1, 0, 0, 0) }),
            "its machine may hold up to 10 min"
        );
    }

    #[test]
    fn a_frozen_listener_has_not_read_since_it_froze() {
        assert_eq!(words(&unread(1200, 12.4)), "has not read for 12 s");
        assert_eq!(words(&unread(30_000, 300.0)), "has not read for 5 min");
        let uncertain = Standing { unread_bounds: 0..=1200, ..unread(1200, 12.4) };
        assert_eq!(words(&uncertain), "has probably not read for 12 s");
        let confirmed = Standing { unread_bounds: 600..=1200, ..unread(1200, 12.4) };
        assert_eq!(words(&confirmed), "has not read for 12 s");
    }

    #[test]
    fn a_slow_listener_s_pace_is_told() {
        let growing = |growth| Reading { not_read_for: Duration::from_millis(90), growth: Some(growth) };
        let slow = Standing { reading: growing(0.08), ..Standing::of(0, 0, 100, 0) };
        assert_eq!(words(&slow), "slower than it comes: 8 % behind each second");
        let uncertain = Standing { unread_bounds: 10..=400, ..slow.clone() };
        assert_eq!(words(&uncertain), "probably slower than it comes: 8 % behind each second");
        let steady = Standing { reading: growing(0.01), ..slow };
        assert_eq!(words(&steady), "is 1.0 s late");
        let frozen = Standing { reading: growing(1.0), ..steady };
        assert_eq!(words(&frozen), "is 1.0 s late");
    }

    #[test]
    fn a_lag_that_stays_is_told_as_such() {
        assert_eq!(words(&unread(320, 0.1)), "is 3.2 s late");
        assert_eq!(words(&Standing { unread_bounds: 0..=980, ..unread(320, 0.1) }), "is probably 3.2 s late");
    }

    #[test]
    fn a_listener_without_fault_is_not_accused() {
        assert_eq!(words(&Standing::of(300, 210, 0, 0)), "does not get it: the network holds 2.1 s");
        assert_eq!(words(&Standing::of(300, 0, 0, 0)), "waits in this server: 3.0 s");
    }

    #[test]
    fn a_machine_that_does_not_answer_is_no_program_that_does_not_read() {
        let silent = Standing { unanswered: Duration::from_secs(20), ..unread(2000, 20.0) };
        assert_eq!(words(&silent), "its machine has not answered for 20 s");
        assert_eq!(words(&Standing { unanswered: Duration::from_secs(1), ..silent }), "has not read for 20 s");
    }

    #[test]
    fn a_long_buffer_hides_no_lag_below_it() {
        let words = |standing: &Standing| state(standing, Verdict::Ok, |blocks| blocks as f64 / 100.0);
        assert_eq!(words(&unread(1200, 12.0)), "has not read for 12 s");
        let held = Standing { waiting: Duration::from_secs(2), ..Standing::of(0, 200, 0, 0) };
        assert_eq!(words(&held), "does not get it: the network holds 2.0 s");
        // A page of two seconds is on its way.
        assert_eq!(words(&Standing { waiting: Duration::from_millis(80), ..held }), "reads");
    }

    #[test]
    fn what_a_proxy_does_is_not_told_as_the_listener_s() {
        let proxied = |standing| Standing { is_proxied: true, ..standing };
        assert_eq!(words(&proxied(Standing::of(0, 0, 0, 0))), "through a proxy: unknown");
        let heard_from = Standing { is_heard_from: true, ..proxied(Standing::of(0, 0, 0, 0)) };
        assert_eq!(words(&heard_from), "reads");
        assert_eq!(words(&proxied(unread(1200, 12.4))), "through a proxy: has not read for 12 s");
        let held = proxied(Standing::of(300, 210, 0, 0));
        assert_eq!(words(&held), "through a proxy: does not get it: the network holds 2.1 s");
        assert_eq!(words(&proxied(Standing::of(300, 0, 0, 0))), "waits in this server: 3.0 s");
    }
}
