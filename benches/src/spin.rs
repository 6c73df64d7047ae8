//! Waiting for another thread that is at work on the other core.

use std::hint::spin_loop;
use std::thread;

/// Calls `done` until it returns true. It spins, because both threads have a core each; now and then it lets others
/// run, in case they have not.
pub fn spin_until(mut done: impl FnMut() -> bool) {
    for look in 1_u32.. {
        if done() {
            return;
        }
        if look.is_multiple_of(1000) { thread::yield_now() } else { spin_loop() }
    }
}
