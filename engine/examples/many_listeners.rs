//! How do I give one live source to many listeners?
//!
//! Each listener has a ring of its own, with handles to the same blocks. Nothing is copied, and no listener waits for
//! another one. A late listener can start in the past.

use std::error::Error;
use std::thread;

use aircheck_engine::source::Tone;
use aircheck_engine::{Block, Consumer, Start, Stream, StreamOptions, SubscribeOptions, TryRecvError};

const BLOCKS: u64 = 80;

fn main() -> Result<(), Box<dyn Error>> {
    let stream = Stream::start(Box::new(Tone::new(440.0)), StreamOptions::default())?;
    println!("on air: {}", stream.description());

    // Ten seconds of buffer, so that a listener whose thread does not run for a while loses nothing.
    let listen_from = |start| stream.subscribe(SubscribeOptions { start, buffer: 1000, ..SubscribeOptions::default() });
    let mut listeners = Vec::new();
    for name in ["Ada", "Ben", "Cleo"] {
        let consumer = listen_from(Start::From(0))?;
        listeners.push(thread::spawn(move || listen(name, consumer)));
    }
    // The last listener joins when half of the blocks have gone out; the history still has them.
    let mut head = listen_from(Start::Live)?;
    while head.recv().map_err(TryRecvError::Ended)?.item.stamp.sequence < BLOCKS / 2 {}
    let consumer = listen_from(Start::From(0))?;
    listeners.push(thread::spawn(move || listen("Dora, who came late", consumer)));

    for listener in listeners {
        println!("{}", listener.join().map_err(|_| "a listener panicked")??);
    }
    stream.stop();
    Ok(())
}

fn listen(name: &str, mut consumer: Consumer<Block>) -> Result<String, TryRecvError> {
    let mut peak = 0.0_f32;
    for _ in 0..BLOCKS {
        let block = consumer.recv().map_err(TryRecvError::Ended)?.item;
        peak = block.samples().iter().fold(peak, |peak, sample| peak.max(sample.abs()));
    }
    let account = consumer.stats().snapshot();
    Ok(format!("{name}: {} blocks, {} lost, peak {peak:.2}", account.delivered, account.lost.total()))
}
