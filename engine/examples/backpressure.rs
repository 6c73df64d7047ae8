//! How do I copy a file through a stream without losses, at any pace?
//!
//! A file need not be played at its own pace. The stream is not live, and the policy `block` makes it wait for the slowest
//! consumer. Two copies are written, one of them slowly, and both equal the original, sample for sample.

use std::error::Error;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use aircheck_engine::source::{Paced, Wav};
use aircheck_engine::{Block, Consumer, OverflowPolicy, Stream, StreamOptions, SubscribeOptions};

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let directory = tempfile::tempdir()?;
    let original = directory.path().join("original.wav");
    let spec = hound::WavSpec {
        channels: 2,
        sample_rate: 44_100,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(&original, spec)?;
    for n in 0..5 * 2 * 44_100_u32 {
        writer.write_sample((n.wrapping_mul(2_654_435_761) >> 16) as i16)?;
    }
    writer.finalize()?;

    // The sound waits for both copies, so that both receive its beginning.
    let options = StreamOptions { live: false, await_consumers: 2, ..StreamOptions::default() };
    let started = Instant::now();
    let stream = Stream::start(Box::new(Paced::new(Wav::open(&original, false)?)), options)?;
    let mut copies = Vec::new();
    for (name, pause) in [("quick", Duration::ZERO), ("slow", Duration::from_millis(1))] {
        let path = directory.path().join(name);
        let options = SubscribeOptions { overflow: OverflowPolicy::Block, buffer: 16, ..SubscribeOptions::default() };
        let consumer = stream.subscribe(options)?;
        copies.push((name, path.clone(), thread::spawn(move || copy(consumer, &path, spec, pause))));
    }
    stream.wait();
    for (name, path, copy) in copies {
        let lost = copy.join().map_err(|_| "a copy panicked")??;
        let same = if std::fs::read(&path)? == std::fs::read(&original)? { "the same" } else { "DIFFERENT" };
        println!("{name} copy: {same}, {lost} blocks lost");
    }
    println!("5 s of sound took {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}

fn copy(mut from: Consumer<Block>, to: &Path, spec: hound::WavSpec, pause: Duration) -> hound::Result<u64> {
    let mut writer = hound::WavWriter::create(to, spec)?;
    while let Ok(delivery) = from.recv() {
        for sample in delivery.item.samples() {
            writer.write_sample((sample * 32_768.0) as i16)?;
        }
        thread::sleep(pause);
    }
    writer.finalize()?;
    Ok(from.stats().snapshot().lost.total())
}
