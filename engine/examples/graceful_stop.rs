//! How do I stop, so that everybody finishes what they have, learns that it is over, and nothing hangs?
//!
//! `stop` ends the source, sends out what was captured, and gives every consumer its end after what it has queued: a
//! loop over `recv` simply ends, on a thread that waits as well as on one that is busy.

use std::error::Error;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use aircheck_engine::source::Demo;
use aircheck_engine::{End, Overflow, Snapshot, Start, Stream, StreamOptions, SubscribeOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let stream = Stream::start(Box::new(Demo), StreamOptions::default())?;
    let (done, all_done) = mpsc::channel::<(&str, End, Snapshot)>();
    for (name, pause) in [("player", 0), ("archive", 4), ("slow archive", 25)] {
        let options = SubscribeOptions { overflow: Overflow::DropNewest, buffer: 200, start: Start::From(0) };
        let mut consumer = stream.subscribe(options)?;
        let done = done.clone();
        thread::spawn(move || {
            let end = loop {
                match consumer.recv() {
                    Ok(_) => thread::sleep(Duration::from_millis(pause)),
                    Err(end) => break end,
                }
            };
            // Here files are closed and good-byes are said.
            let _ = done.send((name, end, consumer.tally().snapshot()));
        });
    }
    // Gone when the last consumer is.
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
