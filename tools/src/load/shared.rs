//! What the listeners of a run share with the loop that starts and ends them. All run on one thread: nothing here locks.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Instant;

use crate::load::clocks::Clocks;
use crate::load::listener::{End, Listener, Run};
use crate::load::measures::{Kind, Measures};

/// Read at a time: several blocks of any form, so that a listener that stood still catches up quickly. It is one for
/// all, as nothing stays in it.
const BUFFER_BYTES: usize = 64 << 10;

/// What all listeners use.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) run: Run,
    pub(crate) buffer: RefCell<Vec<u8>>,
    /// In the order of [`Kind::ALL`].
    pub(crate) measures: RefCell<[Measures; 3]>,
    pub(crate) clocks: Cell<Clocks>,
    /// Whether the frozen ones have stopped reading.
    pub(crate) freeze: Cell<bool>,
    /// Bytes a second of a listener that keeps up, once that is known.
    pub(crate) pace: Cell<Option<f64>>,
    /// What the server said of the time: when we asked, in seconds since the epoch of `clocks`, and its answer.
    pub(crate) answers: RefCell<Vec<(f64, f64, Instant)>>,
}

/// A listener's place.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) listener: RefCell<Listener>,
    /// How it ended, once it did.
    pub(crate) end: RefCell<Option<End>>,
    /// Whether it is to leave.
    leave: Cell<bool>,
    /// What is to be sent for it.
    pub(crate) outbox: RefCell<Vec<u8>>,
    waker: RefCell<Option<Waker>>,
    /// Our end of its connection: the server's `remote`.
    pub(crate) local: Cell<Option<SocketAddr>>,
    /// Bytes of its stream when its pace was last looked at.
    pub(crate) bytes_before: Cell<u64>,
}

impl Shared {
    /// For a run that begins now.
    ///
    /// # Errors
    ///
    /// As for [`Measures::new`].
    pub(crate) fn new(run: Run, clocks: Clocks) -> Result<Self, hdrhistogram::CreationError> {
        Ok(Self {
            run,
            buffer: RefCell::new(vec![0; BUFFER_BYTES]),
            measures: RefCell::new([Measures::new()?, Measures::new()?, Measures::new()?]),
            clocks: Cell::new(clocks),
            freeze: Cell::new(false),
            pace: Cell::new(None),
            answers: RefCell::default(),
        })
    }
}

impl Slot {
    /// The place of a listener that begins to connect.
    pub(crate) fn new(listener: Listener) -> Rc<Self> {
        Rc::new(Self {
            listener: RefCell::new(listener),
            end: RefCell::default(),
            leave: Cell::new(false),
            outbox: RefCell::default(),
            waker: RefCell::default(),
            local: Cell::default(),
            bytes_before: Cell::default(),
        })
    }

    /// Its kind.
    pub(crate) fn kind(&self) -> Kind {
        self.listener.borrow().kind
    }

    /// Whether it has a stream, and goes on.
    pub(crate) fn streams(&self) -> bool {
        self.end.borrow().is_none() && self.listener.borrow().streams()
    }

    /// Tells it to leave.
    pub(crate) fn leave(&self) {
        self.leave.set(true);
        self.wake();
    }

    /// Whether it was told to.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leave.get()
    }

    /// Sends bytes for it, besides what it does.
    pub(crate) fn send(&self, bytes: &[u8]) {
        self.outbox.borrow_mut().extend(bytes);
        self.wake();
    }

    /// Has the task of `context` look here again when somebody wakes it.
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
