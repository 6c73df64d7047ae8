//! The summary that is printed to stdout at the end.

use aircheck_api::{Percentiles, StreamFormat};

use super::output::Written;
use super::reception::Reception;
use super::timing::Timing;
use crate::play::PlayStats;
use crate::table::aligned;
use crate::units;

/// Returns two to eight aligned lines: blocks, losses, level, latency, playing, latency at the ear, the file, and
/// contradictions of the stream.
pub(crate) fn text(
    reception: &Reception,
    timing: &Timing,
    played: Option<&PlayStats>,
    written: Option<&Written>,
) -> String {
    let mut lines = vec![("received", received(reception)), ("lost", lost(reception))];
    if reception.blocks > 0 {
        lines.push(("sound", sound(reception)));
    }
    if let Some((percentiles, error)) = timing.arrival.percentiles() {
        lines.push(("latency", format!("from capture to here {}", latency(percentiles, error))));
    }
    if let Some(stats) = played {
        lines.push(("played", playing(stats)));
    }
    if let Some((percentiles, error)) = timing.ear.percentiles() {
        lines.push(("ear", format!("from capture to the loudspeaker {}", latency(percentiles, error))));
    }
    if let Some(Written { path, frames, bytes }) = written {
        let span = units::span(reception.format.span(*frames));
        lines.push(("written", format!("{}: {span}, {frames} frames, {}", path.display(), units::bytes(*bytes))));
    }
    if reception.ledger.faults().any() {
        lines.push(("faults", faults(reception)));
    }
    let rows: Vec<Vec<String>> = lines.into_iter().map(|(name, text)| vec![name.to_owned(), text]).collect();
    aligned(&rows, 2)
}

fn latency(percentiles: Percentiles, error_seconds: f64) -> String {
    let Percentiles { p50, p99, max } = percentiles;
    let ms = |seconds: f64| format!("{:.1} ms", seconds * 1e3);
    let [p50, p99, max] = [p50, p99, max].map(|seconds| ms(seconds.unwrap_or(0.0)));
    format!("p50 {p50}, p99 {p99}, max {max}, each ± {}", ms(error_seconds))
}

fn playing(stats: &PlayStats) -> String {
    let PlayStats { device, played, late, skipped, silent } = stats;
    let mut text = format!("{} on {device}; late {}", units::span(*played), units::count(*late, "time"));
    for (span, what) in [(silent, "silence for lost blocks"), (skipped, "skipped to be closer to live")] {
        if !span.is_zero() {
            text.push_str(&format!(", {} {what}", units::span(*span)));
        }
    }
    text
}

fn received(reception: &Reception) -> String {
    if reception.blocks == 0 {
        return "nothing".to_owned();
    }
    let StreamFormat { rate_hz, channels, .. } = reception.format;
    let sound = units::span(reception.format.span(reception.frames));
    let took = units::span(reception.took());
    let blocks = units::count(reception.blocks, "block");
    format!("{sound} of {rate_hz} Hz {channels} ch within {took}: {blocks}, {} frames", reception.frames)
}

fn lost(reception: &Reception) -> String {
    let ledger = &reception.ledger;
    if ledger.lost() == 0 {
        return "nothing".to_owned();
    }
    let by_reason: Vec<String> =
        ledger.lost_by_reason().iter().map(|(reason, blocks)| format!("{reason} {blocks}")).collect();
    let longest = ledger.largest();
    format!(
        "{} in {}, the longest {longest} ({}); {}",
        units::count(ledger.lost(), "block"),
        units::count(ledger.gaps(), "gap"),
        units::span(reception.span_of(longest)),
        by_reason.join(", ")
    )
}

fn sound(reception: &Reception) -> String {
    let level = &reception.level;
    let (peak, rms) = (units::dbfs(level.peak_dbfs()), units::dbfs(level.rms_dbfs()));
    let nominal = f64::from(reception.format.rate_hz);
    let rate = match reception.measured_rate_hz() {
        Some(rate) => format!("came at {rate:.0} Hz, {:+.2} % of nominal", (rate / nominal - 1.0) * 100.0),
        None => "too short to measure its rate".to_owned(),
    };
    format!("peak {} dBFS, rms {} dBFS; {rate}", peak.trim(), rms.trim())
}

fn faults(reception: &Reception) -> String {
    let faults = reception.ledger.faults();
    let kinds = [
        (faults.unannounced_blocks, "block", "missing without a notice"),
        (faults.mismatched_gaps, "notice", "contradicted by the sequence"),
        (faults.repeated_blocks, "block", "repeated or out of order"),
    ];
    let told: Vec<String> = kinds
        .iter()
        .filter(|(number, ..)| *number > 0)
        .map(|(number, noun, what)| format!("{} {what}", units::count(*number, noun)))
        .collect();
    told.join(", ")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use aircheck_api::GapNotice;

    use super::*;
    use crate::client::Block;

    const FORMAT: StreamFormat = StreamFormat { rate_hz: 48_000, channels: 1, block_frames: 480, block_seconds: 0.01 };

    fn block(sequence: u64) -> Block {
        Block { sequence, captured_at: 0.0, frames: 480, samples: vec![0.5; 480] }
    }

    fn summary(reception: &Reception) -> String {
        text(reception, &Timing::new(Instant::now()), None, None)
    }

    #[test]
    fn a_latency_stands_with_its_error() {
        let percentiles = Percentiles { p50: Some(0.0121), p99: Some(0.0143), max: Some(1.5) };
        assert_eq!(latency(percentiles, 0.0002), "p50 12.1 ms, p99 14.3 ms, max 1500.0 ms, each ± 0.2 ms");
    }

    #[test]
    fn playing_stands_with_its_faults() {
        let (played, none) = (Duration::from_millis(10_200), Duration::ZERO);
        let stats = PlayStats { device: "Desk".to_owned(), played, late: 0, skipped: none, silent: none };
        assert_eq!(playing(&stats), "10.20 s on Desk; late 0 times");
        let stats =
            PlayStats { late: 1, skipped: Duration::from_millis(40), silent: Duration::from_millis(10), ..stats };
        assert_eq!(
            playing(&stats),
            "10.20 s on Desk; late 1 time, 10 ms silence for lost blocks, 40 ms skipped to be closer to live"
        );
    }

    #[test]
    fn a_clean_run_is_three_short_lines() {
        let start = Instant::now();
        let mut reception = Reception::new(FORMAT, None);
        assert_eq!(summary(&reception), "received  nothing\nlost      nothing\n");
        for sequence in 0..=120 {
            reception.block(&block(sequence), start + Duration::from_millis(sequence * 10));
        }
        assert_eq!(
            summary(&reception),
            "received  1.21 s of 48000 Hz 1 ch within 1.20 s: 121 blocks, 58080 frames\n\
             lost      nothing\n\
             sound     peak -6.0 dBFS, rms -6.0 dBFS; came at 48000 Hz, +0.00 % of nominal\n"
        );
    }

    #[test]
    fn losses_stand_by_reason_and_faults_beside_them() {
        let now = Instant::now();
        let mut reception = Reception::new(FORMAT, None);
        reception.block(&block(0), now);
        reception.ledger.gap(&GapNotice { from: 1, blocks: 3, reason: "overflow".into() });
        reception.block(&block(4), now);
        reception.block(&block(6), now);
        assert_eq!(
            summary(&reception),
            "received  30 ms of 48000 Hz 1 ch within 0 ms: 3 blocks, 1440 frames\n\
             lost      4 blocks in 2 gaps, the longest 3 (30 ms); overflow 3, unannounced 1\n\
             sound     peak -6.0 dBFS, rms -6.0 dBFS; too short to measure its rate\n\
             faults    1 block missing without a notice\n"
        );
    }
}
