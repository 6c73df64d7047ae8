//! A waker that wakes a thread.

use std::sync::Arc;
use std::task::{Wake, Waker};

use crossbeam_utils::sync::{Parker, Unparker};

struct Unpark(Unparker);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Creates a place where a thread waits, and the waker that ends the wait.
pub(crate) fn parking() -> (Parker, Waker) {
    let parker = Parker::new();
    let waker = Waker::from(Arc::new(Unpark(parker.unparker().clone())));
    (parker, waker)
}
