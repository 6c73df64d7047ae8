//! What is said at the end, on stdout.

use crate::check::latency::Spread;
use crate::client::format::Format;
use crate::listen::received::Received;
use crate::listen::recording::Written;
use crate::listen::timing::Timing;
use crate::play::Account;
use crate::units as words;

/// What a summary is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report<'a> {
    /// What came.
    pub(crate) received: &'a Received,
    /// The file, if there is one.
    pub(crate) written: Option<&'a Written>,
    /// How late it was, where the server's clock is known.
    pub(crate) timing: Option<&'a Timing>,
    /// How playing it went, if it was played.
    pub(crate) played: Option<&'a Account>,
}

/// Two to eight aligned lines: what came, what was lost, how it sounded, how late it was, how it was played and heard,
/// the file, and what the stream did wrong.
pub(crate) fn summary(report: &Report<'_>) -> String {
    let Report { received, written, timing, played } = *report;
    let mut lines = vec![("received", arrivals(received)), ("lost", losses(received))];
    if received.blocks > 0 {
        lines.push(("sound", sound(received)));
    }
    if let Some(spread) = timing.and_then(|timing| timing.arrival.spread()) {
        lines.push(("latency", format!("from capture to here {}", latency(spread))));
    }
    if let Some(account) = played {
        lines.push(("played", playing(account)));
    }
    if let Some(spread) = timing.and_then(|timing| timing.ear.spread()) {
        lines.push(("ear", format!("from capture to the loudspeaker {}", latency(spread))));
    }
    if let Some(written) = written {
        let span = words::span(received.format.span(written.frames));
        let size = words::bytes(written.bytes());
        lines.push(("written", format!("{}: {span}, {} frames, {size}", written.path.display(), written.frames)));
    }
    if received.ledger.faults().any() {
        lines.push(("faults", faults(received)));
    }
    lines.iter().map(|(name, text)| format!("{name:<10}{text}\n")).collect()
}

fn latency(spread: Spread) -> String {
    let Spread { p50, p99, max, error_seconds } = spread;
    let ms = |seconds: f64| format!("{:.1} ms", seconds * 1e3);
    format!("p50 {}, p99 {}, max {}, each ± {}", ms(p50), ms(p99), ms(max), ms(error_seconds))
}

fn playing(account: &Account) -> String {
    let Account { device, played, late, skipped, silent } = account;
    let mut text = format!("{} on {device}; late {}", words::span(*played), words::count(*late, "time"));
    for (span, what) in [(silent, "silence for lost blocks"), (skipped, "skipped to be closer to live")] {
        if !span.is_zero() {
            text.push_str(&format!(", {} {what}", words::span(*span)));
        }
    }
    text
}

fn arrivals(received: &Received) -> String {
    if received.blocks == 0 {
        return "nothing".to_owned();
    }
    let Format { rate_hz, channels } = received.format;
    let sound = words::span(received.format.span(received.frames));
    let took = words::span(received.took());
    let blocks = words::count(received.blocks, "block");
    format!("{sound} of {rate_hz} Hz {channels} ch within {took}: {blocks}, {} frames", received.frames)
}

fn losses(received: &Received) -> String {
    let ledger = &received.ledger;
    if ledger.lost() == 0 {
        return "nothing".to_owned();
    }
    let by_reason: Vec<String> =
        ledger.lost_by_reason().iter().map(|(reason, blocks)| format!("{reason} {blocks}")).collect();
    let longest = ledger.largest();
    let span = received.span_of(longest).map(|span| format!(" ({})", words::span(span))).unwrap_or_default();
    format!(
        "{} in {}, the longest {longest}{span}; {}",
        words::count(ledger.lost(), "block"),
        words::count(ledger.gaps(), "gap"),
        by_reason.join(", ")
    )
}

fn sound(received: &Received) -> String {
    let level = &received.level;
    let (peak, rms) = (words::decibels(level.peak_dbfs()), words::decibels(level.rms_dbfs()));
    let nominal = f64::from(received.format.rate_hz);
    let rate = match received.measured_rate_hz() {
        Some(rate) => format!("came at {rate:.0} Hz, {:+.2} % of nominal", (rate / nominal - 1.0) * 100.0),
        None => "too short to measure its rate".to_owned(),
    };
    format!("peak {} dBFS, rms {} dBFS; {rate}", peak.trim(), rms.trim())
}

fn faults(received: &Received) -> String {
    let faults = received.ledger.faults();
    let kinds = [
        (faults.unannounced_blocks, "block", "missing without a gap line"),
        (faults.mismatched_gaps, "gap line", "contradicted by the sequence"),
        (faults.repeated_blocks, "block", "repeated or out of order"),
        (faults.misplaced_blocks, "block", "at a wrong position"),
    ];
    let told: Vec<String> = kinds
        .iter()
        .filter(|(number, ..)| *number > 0)
        .map(|(number, noun, what)| format!("{} {what}", words::count(*number, noun)))
        .collect();
    told.join(", ")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::client::block::{Block, Gap};

    fn block(sequence: u64) -> Block {
        Block { sequence, position: sequence * 480, captured_at: 0.0, frames: 480, samples: vec![0.5; 480] }
    }

    fn told(received: &Received) -> String {
        summary(&Report { received, written: None, timing: None, played: None })
    }

    #[test]
    fn a_latency_is_told_with_its_error() {
        let spread = Spread { p50: 0.0121, p99: 0.0143, max: 1.5, error_seconds: 0.0002 };
        assert_eq!(latency(spread), "p50 12.1 ms, p99 14.3 ms, max 1500.0 ms, each ± 0.2 ms");
    }

    #[test]
    fn playing_is_told_with_what_went_wrong() {
        let account = Account {
            device: "Desk".to_owned(),
            played: Duration::from_millis(10_200),
            late: 0,
            skipped: Duration::ZERO,
            silent: Duration::ZERO,
        };
        assert_eq!(playing(&account), "10.20 s on Desk; late 0 times");
        let account =
            Account { late: 1, skipped: Duration::from_millis(40), silent: Duration::from_millis(10), ..account };
        assert_eq!(
            playing(&account),
            "10.20 s on Desk; late 1 time, 10 ms silence for lost blocks, 40 ms skipped to be closer to live"
        );
    }

    #[test]
    fn a_clean_run_is_three_short_lines() {
        let start = Instant::now();
        let mut received = Received::new(Format { rate_hz: 48_000, channels: 1 }, None);
        for sequence in 0..=120 {
            received.block(&block(sequence), start + Duration::from_millis(sequence * 10));
        }
        assert_eq!(
            told(&received),
            "received  1.21 s of 48000 Hz 1 ch within 1.20 s: 121 blocks, 58080 frames\n\
             lost      nothing\n\
             sound     peak -6.0 dBFS, rms -6.0 dBFS; came at 48000 Hz, +0.00 % of nominal\n"
        );
    }

    #[test]
    fn losses_are_told_by_reason_and_faults_beside_them() {
        let now = Instant::now();
        let mut received = Received::new(Format { rate_hz: 48_000, channels: 1 }, None);
        received.block(&block(0), now);
        received.gap(&Gap { from: 1, blocks: 3, reason: "overflow".to_owned() });
        received.block(&block(4), now);
        received.block(&block(6), now);
        assert_eq!(
            told(&received),
            "received  30 ms of 48000 Hz 1 ch within 0 ms: 3 blocks, 1440 frames\n\
             lost      4 blocks in 2 gaps, the longest 3 (30 ms); overflow 3, unannounced 1\n\
             sound     peak -6.0 dBFS, rms -6.0 dBFS; too short to measure its rate\n\
             faults    1 block missing without a gap line\n"
        );
    }

    #[test]
    fn nothing_is_said_plainly() {
        let received = Received::new(Format { rate_hz: 48_000, channels: 1 }, None);
        assert_eq!(told(&received), "received  nothing\nlost      nothing\n");
    }
}
