//! What a real-time priority and locked memory are worth: losses and the latency of stage `ring`, with and without them.
//!
//! Run it beside a load on each core, such as `stress-ng --cpu 4 --vm 2 --timeout 10m`. It captures from the default input
//! device, or from the built-in tone, whose thread keeps its own time, if there is none. The first runs are without, the
//! others with; they alternate, so that a load that drifts falls on both.
//!
//! Stage `ring` goes from the capture of a block's first frame to its dispatch, so it includes the block of 10 ms. It is the
//! dispatcher's lateness, too, which has an ordinary priority in both.

use std::error::Error;
use std::thread;
use std::time::Duration;

use aircheck_engine::source::{Device, DeviceConfig, Source, Tone};
use aircheck_engine::{Stream, StreamOptions};

/// Length of a run: 3000 blocks, of which the 99.9th percentile leaves out three.
const RUN: Duration = Duration::from_secs(30);
const ROUNDS: usize = 3;

fn main() -> Result<(), Box<dyn Error>> {
    println!(
        "{:<10} {:<6} {:>7} {:>6} {:>6} {:>9} {:>9} {:>9}",
        "source", "rt", "blocks", "xrun", "lost", "p50 ms", "p99.9 ms", "max ms"
    );
    for round in 0..2 * ROUNDS {
        run(round % 2 == 1)?;
    }
    Ok(())
}

fn run(realtime: bool) -> Result<(), Box<dyn Error>> {
    let (name, source): (_, Box<dyn Source>) = match Device::open(None, DeviceConfig::default()) {
        Ok(device) => ("device", Box::new(device)),
        Err(_) => ("tone", Box::new(Tone::new(440.0))),
    };
    let stream = Stream::start(source, StreamOptions { realtime, ..StreamOptions::default() })?;
    thread::sleep(RUN);
    let (capture, histogram) = (stream.capture(), stream.ring_micros().to_hdrhistogram());
    let outcome = capture.realtime().outcome();
    let granted = match outcome.priority {
        Some(priority) => priority.to_string(),
        None if realtime => outcome.priority_refusal.unwrap_or_default(),
        None => "no".to_owned(),
    };
    let millis = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
    println!(
        "{name:<10} {granted:<6} {:>7} {:>6} {:>6} {:>9.1} {:>9.1} {:>9.1}",
        capture.blocks(),
        capture.lost_xrun(),
        capture.lost_overflow(),
        millis(0.5),
        millis(0.999),
        histogram.max() as f64 / 1000.0,
    );
    stream.stop();
    Ok(())
}
