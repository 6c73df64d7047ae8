//! How do I stop a stream, so that every consumer finishes its queued items and then ends?
//!
//! `stop` ends the source, dispatches the captured blocks, and ends every consumer after its queued items. A loop over
//! `recv` then ends, on a waiting thread as well as on a busy one.

use std::error::Error;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use aircheck_engine::source::Tone;
use aircheck_engine::{End, OverflowPolicy, Snapshot, Start, Stream, StreamOptions, SubscribeOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let stream = Stream::start(Box::new(Tone::new(440.0)), StreamOptions::default())?;
    let (done, all_done) = mpsc::channel::<(&str, End, Snapshot)>();
    for (name, pause) in [("player", 0), ("archive", 4), ("slow archive", 25)] {
        let options = SubscribeOptions {
            overflow: OverflowPolicy::DropNewest,
            buffer: 200,
            start: Start::From(0),
            ..SubscribeOptions::default()
        };
        let mut consumer = stream.subscribe(options)?;
        let done = done.clone();
        thread::spawn(move || {
            let end = loop {
                match consumer.recv() {
                    Ok(_) => thread::sleep(Duration::from_millis(pause)),
                    Err(end) => break end,
                }
            };
            // Close files and connections here.
            let _ = done.send((name, end, consumer.stats().snapshot()));
        });
    }
    // Now the channel closes with the last consumer.
    drop(done);

    thread::sleep(Duration::from_millis(500));
    println!("stopping");
    let capture = stream.capture().clone();
    stream.stop();
    for (name, end, account) in all_done {
        let (got, lost, all) = (account.delivered, account.lost.total(), capture.next_sequence());
        println!("{name}: {}, {got} of {all} blocks, {lost} lost", end.reason.label());
    }
    println!("all ended");
    Ok(())
}
