//! How do I always work on the newest value?
//!
//! With the policy `latest` a new value replaces the one that has not been taken yet. However slow the worker is, it
//! receives the current value, and the replaced values are counted.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use aircheck_engine::{EndReason, OverflowPolicy, Publisher, PublisherOptions, SubscribeOptions, Timestamp};

const PRICES: u32 = 500;

fn main() -> Result<(), Box<dyn Error>> {
    let (mut prices, hub) = Publisher::new(PublisherOptions::default());
    // The policy ignores `buffer`: it keeps one value.
    let options = SubscribeOptions { overflow: OverflowPolicy::Latest, buffer: 1, ..SubscribeOptions::default() };
    let mut worker = hub.subscribe(options)?;
    let market = Arc::new(AtomicU32::new(0));
    let ticker = {
        let market = Arc::clone(&market);
        thread::spawn(move || {
            for price in 1..=PRICES {
                prices.send(price, Timestamp::now());
                market.store(price, Ordering::Release);
                thread::sleep(Duration::from_millis(1));
            }
            prices.finish(EndReason::Finished);
        })
    };

    let (mut stale, mut last) = (0, 0);
    loop {
        let now = market.load(Ordering::Acquire);
        let Ok(delivery) = worker.recv() else { break };
        last = delivery.item.value;
        stale += u32::from(last < now);
        thread::sleep(Duration::from_millis(20));
    }
    ticker.join().map_err(|_| "the ticker panicked")?;

    let account = worker.stats().snapshot();
    println!("of {} prices, {} were worked on", account.offered, account.delivered);
    println!("{} were replaced by a newer one, {stale} were stale", account.lost.total());
    println!("the last one was {last} of {PRICES}");
    Ok(())
}
