//! How do I read from any `Read` once, and give all of it to many consumers?
//!
//! A reader can wait, so the fan-out is not live, and the policy is `block`. The producer checks for room before each
//! read, and every consumer receives every byte at its own pace.

use std::error::Error;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use aircheck_engine::{EndReason, OverflowPolicy, Publisher, PublisherOptions, SubscribeOptions, Timestamp};

const CHUNK_BYTES: usize = 4096;

fn main() -> Result<(), Box<dyn Error>> {
    let (chunks, hub) = Publisher::<Arc<[u8]>>::new(PublisherOptions { live: false, ..PublisherOptions::default() });
    let options = SubscribeOptions { overflow: OverflowPolicy::Block, buffer: 8, ..SubscribeOptions::default() };
    let mut copies = Vec::new();
    for (name, pause_micros) in [("quick", 0), ("leisurely", 100), ("slow", 1000)] {
        let mut consumer = hub.subscribe(options)?;
        copies.push(thread::spawn(move || {
            let mut copy = Vec::new();
            while let Ok(delivery) = consumer.recv() {
                copy.extend_from_slice(&delivery.item);
                thread::sleep(Duration::from_micros(pause_micros));
            }
            (name, copy, consumer.stats().snapshot().lost.total())
        }));
    }

    // In place of a file, a socket or a child's output: a million bytes, different in each chunk.
    let original: Vec<u8> = (0..1_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    multiplex(original.as_slice(), chunks)?;
    for copy in copies {
        let (name, copy, lost) = copy.join().map_err(|_| "a consumer panicked")?;
        let same = if copy == original { "the same" } else { "DIFFERENT" };
        writeln!(io::stdout(), "{name}: {} bytes, {same}, {lost} lost", copy.len())?;
    }
    Ok(())
}

/// Reads to the end, at the pace of the slowest consumer.
fn multiplex(mut reader: impl Read, mut chunks: Publisher<Arc<[u8]>>) -> io::Result<()> {
    let mut buffer = [0; CHUNK_BYTES];
    loop {
        match reader.read(&mut buffer)? {
            0 => break,
            bytes => {
                while !chunks.has_room(1) {
                    thread::sleep(Duration::from_micros(100));
                }
                chunks.send(buffer[..bytes].into(), Timestamp::now());
            }
        }
    }
    chunks.finish(EndReason::Finished);
    Ok(())
}
