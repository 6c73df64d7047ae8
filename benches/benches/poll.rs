//! How late the dispatcher takes blocks out of the capture ring, and how often it looks there, with a real device.
//!
//! It captures from the default input device, in runs of 20 s. Stage `ring` goes from the capture of a block's first frame
//! to its dispatch, so it includes the block and the rest of the device's period. What is left over is the dispatcher's
//! lateness, which two versions of the engine differ in: run both in turns, beside the same sound server.
//!
//! A look is a time at which the dispatcher's thread has slept and wakes. Linux only.

use std::error::Error;
use std::time::{Duration, Instant};
use std::{fs, thread};

use aircheck_benches::Arguments;
use aircheck_engine::source::{Device, DeviceConfig};
use aircheck_engine::{Stream, StreamOptions};

const RUN: Duration = Duration::from_secs(20);
const QUICK_RUN: Duration = Duration::from_secs(1);
/// The schedule learns how blocks come meanwhile.
const WARM_UP: Duration = Duration::from_secs(2);
const RUNS: usize = 3;

fn main() -> Result<(), Box<dyn Error>> {
    if let Err(error) = Device::open(None, DeviceConfig::default()) {
        println!("poll: left out, it needs a microphone: {error}");
        return Ok(());
    }
    let (span, runs) = if Arguments::read().is_quick() { (QUICK_RUN, 1) } else { (RUN, RUNS) };
    println!(
        "{:>8} {:>7} {:>7} {:>8} {:>8} {:>8} {:>8} {:>13} {:>7}",
        "period", "blocks", "lost", "p50 ms", "p90 ms", "p99 ms", "max ms", "looks/period", "cpu %"
    );
    for _ in 0..runs {
        run(span)?;
    }
    Ok(())
}

fn run(span: Duration) -> Result<(), Box<dyn Error>> {
    let stream = Stream::start(Box::new(Device::open(None, DeviceConfig::default())?), StreamOptions::default())?;
    let capture = stream.capture();
    thread::sleep(WARM_UP);
    let (warm_up, begun, before) = (stream.ring_micros().to_hdrhistogram(), Instant::now(), dispatcher()?);
    let (mut periods, mut last) = (0_u32, capture.written_at());
    let lost = || capture.lost_xrun() + capture.lost_overflow();
    let (blocks_before, lost_before) = (capture.blocks(), lost());
    while begun.elapsed() < span {
        thread::sleep(Duration::from_millis(1));
        let written_at = capture.written_at();
        periods += u32::from(written_at != last);
        last = written_at;
    }
    let (elapsed, after) = (begun.elapsed(), dispatcher()?);
    let mut ring = stream.ring_micros().to_hdrhistogram();
    ring.subtract(&warm_up)?;
    let millis = |quantile| ring.value_at_quantile(quantile) as f64 / 1000.0;
    println!(
        "{:>5.1} ms {:>7} {:>7} {:>8.2} {:>8.2} {:>8.2} {:>8.2} {:>13.2} {:>7.2}",
        elapsed.as_secs_f64() * 1000.0 / f64::from(periods),
        capture.blocks() - blocks_before,
        lost() - lost_before,
        millis(0.5),
        millis(0.9),
        millis(0.99),
        millis(1.0),
        (after.looks - before.looks) as f64 / f64::from(periods),
        (after.run_nanos - before.run_nanos) as f64 / elapsed.as_nanos() as f64 * 100.0,
    );
    stream.stop();
    Ok(())
}

/// What the dispatcher's thread has done so far.
struct Work {
    looks: u64,
    run_nanos: u64,
}

fn dispatcher() -> Result<Work, Box<dyn Error>> {
    for task in fs::read_dir("/proc/self/task")? {
        let folder = task?.path();
        if fs::read_to_string(folder.join("comm"))?.trim() != "dispatcher" {
            continue;
        }
        let status = fs::read_to_string(folder.join("status"))?;
        let looks = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap_or_default();
        let schedstat = fs::read_to_string(folder.join("schedstat"))?;
        let run_nanos = schedstat.split_whitespace().next().unwrap_or_default();
        return Ok(Work { looks: looks.trim().parse()?, run_nanos: run_nanos.parse()? });
    }
    Err("there is no thread of that name".into())
}
