//! How far is my worker behind, and which items has it lost?
//!
//! Every delivery has the lag at which the item was taken, and the gap before it. So a worker can warn before it loses
//! items, and counts every item that it loses.

use std::error::Error;
use std::thread;
use std::time::Duration;

use aircheck_engine::{EndReason, OverflowPolicy, Publisher, PublisherOptions, SubscribeOptions, Timestamp};

const TICKS: u32 = 400;
const BUFFER: usize = 40;
/// Lag of a warning: half of the buffer.
const WARN_ITEMS: u64 = BUFFER as u64 / 2;

fn main() -> Result<(), Box<dyn Error>> {
    let (mut ticks, hub) = Publisher::new(PublisherOptions::default());
    let options =
        SubscribeOptions { overflow: OverflowPolicy::SkipToLive, buffer: BUFFER, ..SubscribeOptions::default() };
    let mut worker = hub.subscribe(options)?;
    let ticker = thread::spawn(move || {
        for tick in 0..TICKS {
            ticks.send(tick, Timestamp::now());
            thread::sleep(Duration::from_millis(1));
        }
        ticks.finish(EndReason::Finished);
    });

    let mut warned = false;
    let end = loop {
        let delivery = match worker.recv() {
            Ok(delivery) => delivery,
            Err(end) => break end,
        };
        if let Some(gap) = delivery.gap {
            println!("tick {}: missed {} ticks ({})", delivery.item.value, gap.items, gap.reason.label());
        }
        let lagging = delivery.lag_items > WARN_ITEMS;
        if lagging && !warned {
            println!("tick {}: warning, {} ticks behind", delivery.item.value, delivery.lag_items);
        }
        warned = lagging;
        // The work takes ten times as long as a tick.
        thread::sleep(Duration::from_millis(10));
    };
    ticker.join().map_err(|_| "the ticker panicked")?;

    let account = worker.stats().snapshot();
    let worst = worker.stats().lag_items().max();
    println!("{}: it was {worst} ticks behind at worst", end.reason.label());
    println!("{} offered = {} done + {} lost", account.offered, account.delivered, account.lost.total());
    Ok(())
}
