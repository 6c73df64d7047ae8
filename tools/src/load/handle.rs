//! State that the listeners of a run share with the loop that starts and ends them. All run on one thread, so nothing
//! here locks.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Instant;

use aircheck_api::Clock;

use super::clocks::Clocks;
use super::listener::{Ending, Listener};
use super::measures::{ListenerKind, Measures};
use super::plan::Plan;

/// The most that is read at once: several blocks of any rendition, so that a listener that stood still catches up
/// quickly, and little beside the kernel's buffer.
const READ_BYTES: usize = 64 << 10;

/// State of the run.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) plan: Plan,
    /// In the order of [`ListenerKind::ALL`].
    pub(crate) measures: RefCell<[Measures; 3]>,
    pub(crate) clocks: Cell<Clocks>,
    /// What is read from a socket, until its listener has taken it: nothing awaits in between, so one is enough.
    pub(crate) buffer: RefCell<Box<[u8]>>,
    /// Whether a listener has ended that is not counted yet.
    pub(crate) has_endings: Cell<bool>,
    /// Whether the frozen listeners have stopped reading.
    pub(crate) is_frozen: Cell<bool>,
    /// Bytes a second on the connection of a listener that keeps up, once that is known.
    pub(crate) pace: Cell<Option<f64>>,
    /// Answers to questions for the time, with our time of their arrival.
    pub(crate) answers: RefCell<Vec<(Clock, Instant)>>,
}

/// A listener, and what its task and the loop tell each other.
#[derive(Debug)]
pub(crate) struct ListenerHandle {
    pub(crate) listener: RefCell<Listener>,
    pub(crate) kind: ListenerKind,
    /// How it ended, once it did.
    pub(crate) ending: RefCell<Option<Ending>>,
    is_leaving: Cell<bool>,
    /// A question for the time that is to be sent.
    pub(crate) question: Cell<Option<f64>>,
    waker: RefCell<Option<Waker>>,
    /// Our end of its connection, which is `remote` in the server's row.
    pub(crate) local: Cell<Option<SocketAddr>>,
    /// Bytes read from its connection, and how many there were when its pace was measured last.
    pub(crate) socket_bytes: Cell<u64>,
    pub(crate) socket_bytes_before: Cell<u64>,
}

impl Shared {
    /// Begins a run.
    ///
    /// # Errors
    ///
    /// As for [`Measures::new`].
    pub(crate) fn new(plan: Plan, clocks: Clocks) -> Result<Self, hdrhistogram::CreationError> {
        Ok(Self {
            plan,
            measures: RefCell::new([Measures::new()?, Measures::new()?, Measures::new()?]),
            clocks: Cell::new(clocks),
            buffer: RefCell::new(vec![0; READ_BYTES].into()),
            has_endings: Cell::default(),
            is_frozen: Cell::new(false),
            pace: Cell::new(None),
            answers: RefCell::default(),
        })
    }
}

impl ListenerHandle {
    /// Makes the handle of a listener that begins to connect.
    pub(crate) fn new(listener: Listener) -> Rc<Self> {
        Rc::new(Self {
            kind: listener.kind,
            listener: RefCell::new(listener),
            ending: RefCell::default(),
            is_leaving: Cell::new(false),
            question: Cell::default(),
            waker: RefCell::default(),
            local: Cell::default(),
            socket_bytes: Cell::default(),
            socket_bytes_before: Cell::default(),
        })
    }

    /// Returns whether it has a stream that goes on.
    pub(crate) fn is_streaming(&self) -> bool {
        self.ending.borrow().is_none() && self.listener.borrow().has_stream()
    }

    /// Tells it to leave.
    pub(crate) fn leave(&self) {
        self.is_leaving.set(true);
        self.wake();
    }

    /// Returns whether it was told to leave.
    pub(crate) fn is_leaving(&self) -> bool {
        self.is_leaving.get()
    }

    /// Has it ask the server for the time. The number comes back with the answer.
    pub(crate) fn ask_time(&self, asked: f64) {
        self.question.set(Some(asked));
        self.wake();
    }

    /// Has the task of `context` polled again when the loop wants something of it.
    pub(crate) fn watch(&self, context: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}
