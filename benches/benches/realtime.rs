//! What a real-time priority and locked memory are worth: losses and the latency of stage `ring`, with and without them.
//!
//! Two captures run at the same time, one without and one with, so that both have the same load at each moment; which one
//! starts first alternates. Run it beside a load, such as `stress-ng --cpu 2` on two cores. It captures from the default input
//! device, or from the built-in tone, whose thread keeps its own time, if there is none or with the argument `tone`. Where
//! `PULSE_SERVER` is a path, the device is opened through ALSA, and the sound server's plug-in reports xruns.
//! Through PulseAudio's own client, both captures share one thread, and this shows nothing.
//!
//! Stage `ring` goes from the capture of a block's first frame to its dispatch, so it includes the block of 10 ms. It is the
//! dispatcher's lateness, too, which has an ordinary priority in both.

use std::error::Error;
use std::thread;
use std::time::Duration;

use aircheck_engine::source::{Device, DeviceConfig, Source, Tone};
use aircheck_engine::{Stream, StreamOptions};

/// Length of a run: 1000 blocks, of which the 99.9th percentile leaves out one.
const RUN: Duration = Duration::from_secs(10);
/// Rounds, unless the variable `ROUNDS` says otherwise.
const ROUNDS: usize = 24;

/// What one capture has shown.
struct Outcome {
    priority: String,
    /// Blocks that the device lost. The tone has none to lose.
    xrun: u64,
    /// Blocks that the capture ring had no room for.
    overflow: u64,
    /// In milliseconds.
    p50: f64,
    p999: f64,
    max: f64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let is_tone = std::env::args().any(|argument| argument == "tone");
    let rounds = std::env::var("ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS);
    println!(
        "{:<8} {:>14} {:>14} {:>16} {:>18} {:>18}",
        "priority", "xrun", "overflow", "p50 ms", "p99.9 ms", "max ms"
    );
    let mut pairs = Vec::new();
    for round in 0..rounds {
        let [without, with] = run(is_tone, round % 2 == 1)?;
        println!(
            "{:<8} {:>5} → {:>6} {:>5} → {:>6} {:>7.1} → {:>6.1} {:>8.1} → {:>7.1} {:>8.1} → {:>7.1}",
            with.priority,
            without.xrun,
            with.xrun,
            without.overflow,
            with.overflow,
            without.p50,
            with.p50,
            without.p999,
            with.p999,
            without.max,
            with.max
        );
        pairs.push((without, with));
    }
    for (name, of) in [("xrun", (|o| o.xrun) as fn(&Outcome) -> u64), ("overflow", |o| o.overflow)] {
        let without: u64 = pairs.iter().map(|(without, _)| of(without)).sum();
        let with: u64 = pairs.iter().map(|(_, with)| of(with)).sum();
        let rounds = |part: fn(&(Outcome, Outcome)) -> &Outcome| pairs.iter().filter(|pair| of(part(pair)) > 0).count();
        println!(
            "{name}: {without} blocks in {} rounds without it, {with} in {} rounds with it",
            rounds(|(without, _)| without),
            rounds(|(_, with)| with)
        );
    }
    for (name, of) in [("p50", (|o| o.p50) as fn(&Outcome) -> f64), ("p99.9", |o| o.p999), ("max", |o| o.max)] {
        let lower = pairs.iter().filter(|(without, with)| of(with) < of(without)).count();
        let higher = pairs.iter().filter(|(without, with)| of(with) > of(without)).count();
        let median = |mut values: Vec<f64>| {
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        println!(
            "{name}: with it lower in {lower} rounds, higher in {higher}, the same in {} (by chance: p = {:.3}); at the median \
             {:.1} → {:.1} ms, with / without {:.2}",
            pairs.len() - lower - higher,
            chance(lower, higher),
            median(pairs.iter().map(|(without, _)| of(without)).collect()),
            median(pairs.iter().map(|(_, with)| of(with)).collect()),
            median(pairs.iter().map(|(without, with)| of(with) / of(without)).collect())
        );
    }
    Ok(())
}

/// Returns the probability that coins fall as unevenly as this, or more so: the sign test of both sides. Rounds that came out the
/// same say nothing.
fn chance(lower: usize, higher: usize) -> f64 {
    let coins = lower + higher;
    let ways = |k: usize| (0..k).map(|i| (coins - i) as f64 / (i + 1) as f64).product::<f64>();
    ((0..=lower.min(higher)).map(ways).sum::<f64>() * 2.0 / 2_f64.powi(coins as i32)).min(1.0)
}

/// Runs both captures at the same time, and returns the one without and the one with the priority.
fn run(is_tone: bool, with_first: bool) -> Result<[Outcome; 2], Box<dyn Error>> {
    let start = |realtime| -> Result<Stream, Box<dyn Error>> {
        let source: Box<dyn Source> = match Device::open(None, DeviceConfig::default()) {
            Ok(device) if !is_tone => Box::new(device),
            _ => Box::new(Tone::new(440.0)),
        };
        Ok(Stream::start(source, StreamOptions { realtime, ..StreamOptions::default() })?)
    };
    let (first, second) = (start(with_first)?, start(!with_first)?);
    thread::sleep(RUN);
    let [first, second] = [first, second].map(|stream| {
        let outcome = outcome(&stream);
        stream.stop();
        outcome
    });
    Ok(if with_first { [second, first] } else { [first, second] })
}

fn outcome(stream: &Stream) -> Outcome {
    let (capture, histogram) = (stream.capture(), stream.ring_micros().to_hdrhistogram());
    let realtime = capture.realtime().outcome();
    let millis = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
    Outcome {
        priority: realtime.priority.map_or_else(|| "none".to_owned(), |priority| priority.to_string()),
        xrun: capture.lost_xrun(),
        overflow: capture.lost_overflow(),
        p50: millis(0.5),
        p999: millis(0.999),
        max: histogram.max() as f64 / 1000.0,
    }
}
