//! A device that records once, for however many streams of this process.
//!
//! The callback of a device writes each period to the captures in its `Seats`. A stream that begins takes a seat, and leaves it at
//! its end. So two streams of one microphone have the same sound with the same times, each with its own blocks, numbers and losses, and
//! the device is not opened twice, which many sound cards refuse.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use crossbeam_utils::atomic::AtomicCell;

use super::open::{Asked, Device};
use crate::capture::Reporter;
use crate::realtime::ThreadId;
use crate::{Capture, CaptureStats};

/// Streams of one device. The callback looks at each seat, a few nanoseconds long. A further stream opens the device once more.
const SEATS: usize = 32;
/// How long to wait for a callback that writes to a capture, which takes microseconds.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// The devices that record now, or are being opened.
static RECORDING: Mutex<Vec<Arc<SharedDevice>>> = Mutex::new(Vec::new());

/// The captures that a callback writes to.
#[derive(Default)]
pub(super) struct Seats([Seat; SEATS]);

/// A place for a capture. While the callback writes, the capture is not in it.
#[derive(Default)]
struct Seat {
    is_taken: AtomicBool,
    capture: AtomicCell<Option<Box<Capture>>>,
}

impl fmt::Debug for Seats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seats").finish_non_exhaustive()
    }
}

impl Seats {
    /// Calls `write` for each capture. Fit for a callback: a capture is taken out and put back by an exchange of a pointer.
    pub(super) fn write(&self, mut write: impl FnMut(&mut Capture)) {
        for seat in self.0.iter().filter(|seat| seat.is_taken.load(Ordering::Acquire)) {
            if let Some(mut capture) = seat.capture.take() {
                write(&mut capture);
                seat.capture.store(Some(capture));
            }
        }
    }

    /// Puts a capture into a free seat, and returns its number, or the capture if there is none. Not for two threads at a time.
    pub(super) fn take(&self, capture: Box<Capture>) -> Result<usize, Box<Capture>> {
        match self.0.iter().position(|seat| !seat.is_taken.load(Ordering::Acquire)) {
            Some(number) => {
                self.0[number].capture.store(Some(capture));
                self.0[number].is_taken.store(true, Ordering::Release);
                Ok(number)
            }
            None => Err(capture),
        }
    }

    /// Takes a capture out of its seat, and frees that. The drop of the capture sends its last block, which may be short.
    pub(super) fn leave(&self, number: usize) -> Option<Box<Capture>> {
        const RETRY_INTERVAL: Duration = Duration::from_micros(200);
        let seat = &self.0[number];
        for _ in 0..LEAVE_TIMEOUT.as_micros() / RETRY_INTERVAL.as_micros() {
            if let Some(capture) = seat.capture.take() {
                seat.is_taken.store(false, Ordering::Release);
                return Some(capture);
            }
            thread::sleep(RETRY_INTERVAL);
        }
        None
    }
}

/// A device that records, and the streams that it records for.
pub(super) struct SharedDevice {
    device: Device,
    pub(super) seats: Arc<Seats>,
    users: Mutex<Users>,
    /// Stops the device's thread when it is dropped, and the end of that thread.
    thread: Mutex<Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>>,
}

#[derive(Default)]
struct Users {
    by_seat: BTreeMap<usize, User>,
    /// Whether the device takes no further ones, because it fails or is closed.
    is_closed: bool,
}

/// What a device tells a stream besides its sound.
struct User {
    stats: Arc<CaptureStats>,
    reporter: Reporter,
    /// The thread that has got its priority for this stream.
    promoted: Option<ThreadId>,
}

impl fmt::Debug for SharedDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedDevice").field("device", &self.device.name).finish_non_exhaustive()
    }
}

impl SharedDevice {
    /// Returns a device that records already and was asked for in the same words: a sound card without a sound server cannot be
    /// looked at meanwhile.
    pub(super) fn find(asked: &Asked) -> Option<Device> {
        recording().iter().find(|shared| shared.device.asked == *asked).map(|shared| shared.device.clone())
    }

    /// Takes a seat at this device for `capture`. Returns its number, and whether the device must be started for it.
    pub(super) fn join(device: &Device, capture: Capture) -> (Arc<Self>, usize, bool) {
        let mut capture = Box::new(capture);
        let mut recording = recording();
        for shared in recording.iter().filter(|shared| shared.device.is_same(device)) {
            match shared.add(capture) {
                Ok(seat) => return (Arc::clone(shared), seat, false),
                Err(refused) => capture = refused,
            }
        }
        let shared = Arc::new(Self {
            device: device.clone(),
            seats: Arc::default(),
            users: Mutex::default(),
            thread: Mutex::default(),
        });
        let seat = shared.add(capture).unwrap_or_else(|_| unreachable!("the first seat is free"));
        recording.push(Arc::clone(&shared));
        (shared, seat, true)
    }

    fn add(&self, capture: Box<Capture>) -> Result<usize, Box<Capture>> {
        let mut users = self.users();
        if users.is_closed {
            return Err(capture);
        }
        let user = User { stats: Arc::clone(capture.stats()), reporter: capture.reporter(), promoted: None };
        let seat = self.seats.take(capture)?;
        users.by_seat.insert(seat, user);
        Ok(seat)
    }

    /// Notes how the device's thread is stopped.
    pub(super) fn set_thread(&self, stop: mpsc::Sender<()>, ended: mpsc::Receiver<()>) {
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some((stop, ended));
    }

    /// Leaves a seat, with the end of that stream's sound. The last one stops the device, and waits for that for `timeout` at most; a
    /// thread that hangs is left behind.
    pub(super) fn leave(self: &Arc<Self>, seat: usize, timeout: Duration) {
        let is_last = {
            let mut recording = recording();
            let mut users = self.users();
            users.by_seat.remove(&seat);
            users.is_closed |= users.by_seat.is_empty();
            if users.is_closed {
                recording.retain(|shared| !Arc::ptr_eq(shared, self));
            }
            users.by_seat.is_empty()
        };
        let capture = self.seats.leave(seat);
        if is_last && let Some((stop, ended)) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            drop(stop);
            let _ = ended.recv_timeout(timeout);
        }
        drop(capture);
    }

    /// Tells all streams that the device has failed. None joins any more, and they keep their seats until they leave.
    pub(super) fn fail(self: &Arc<Self>, cause: &str) {
        recording().retain(|shared| !Arc::ptr_eq(shared, self));
        let mut users = self.users();
        users.is_closed = true;
        users.by_seat.values().for_each(|user| user.reporter.fail(cause.to_owned()));
    }

    /// Gives the calling thread a real-time priority, as far as the streams want it.
    pub(super) fn promote_current_thread(&self) {
        self.users().by_seat.values().for_each(|user| user.stats.realtime().promote_current_thread());
    }

    /// Gives the same to the thread of the callback, and tells each stream, once for each of both.
    pub(super) fn promote(&self, thread: Option<ThreadId>) {
        let mut users = self.users();
        for user in users.by_seat.values_mut().filter(|user| user.promoted != thread) {
            thread.into_iter().for_each(|thread| user.stats.realtime().promote(thread));
            user.promoted = thread;
        }
    }

    fn users(&self) -> MutexGuard<'_, Users> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn recording() -> MutexGuard<'static, Vec<Arc<SharedDevice>>> {
    RECORDING.lock().unwrap_or_else(PoisonError::into_inner)
}
