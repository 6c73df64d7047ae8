//! A wait for a thread that is at work on the other core.

use std::hint::spin_loop;
use std::thread;

/// Calls `done` until it returns true. It spins, because each thread should have a core of its own, and yields now and
/// then in case it has not.
pub fn spin_until(mut done: impl FnMut() -> bool) {
    for call in 1_u32.. {
        if done() {
            return;
        }
        if call.is_multiple_of(1000) { thread::yield_now() } else { spin_loop() }
    }
}
