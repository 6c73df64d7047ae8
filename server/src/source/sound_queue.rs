//! Decoded sound on its way from the thread that decodes to the one that captures.
//!
//! A decoder reads from a disk or a network and works in bursts; the capture thread reads every two milliseconds and must not wait for
//! either. So the queue holds some seconds, and each side waits only where it is full or empty.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aircheck_api::Metadata;

use super::portion::Piece;

/// The queue of one source.
#[derive(Debug)]
pub(super) struct SoundQueue {
    channels: usize,
    /// Frames above which the decoder waits.
    capacity: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    pieces: VecDeque<Piece>,
    /// Samples of the first piece that were taken.
    offset: usize,
    /// Frames in all pieces.
    frames: u64,
    /// Frames that were taken so far.
    taken: u64,
    /// The number of the reader that may take sound. Older ones are over.
    reader: u64,
    /// Why nothing follows.
    end: Option<Result<(), String>>,
    /// When sound was pushed last.
    pushed_at: Instant,
    is_closed: bool,
}

/// What was taken from a queue.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// Samples that were filled: whole frames.
    pub(super) samples: usize,
    /// What is known of them, where that begins with the first of them.
    pub(super) metadata: Option<Metadata>,
}

impl SoundQueue {
    /// Makes a queue of interleaved samples, for about `capacity` frames.
    pub(super) fn new(channels: u16, capacity: u64) -> Arc<Self> {
        let state = State {
            pieces: VecDeque::new(),
            offset: 0,
            frames: 0,
            taken: 0,
            reader: 0,
            end: None,
            pushed_at: Instant::now(),
            is_closed: false,
        };
        Arc::new(Self { channels: usize::from(channels), capacity, state: Mutex::new(state), changed: Condvar::new() })
    }

    /// Adds whole frames, and waits before that while the queue is full. Returns false once nobody takes them any more.
    pub(super) fn push(&self, piece: Piece) -> bool {
        let is_full = |state: &mut State| state.frames >= self.capacity && !state.is_closed;
        let mut state = self.changed.wait_while(self.state(), is_full).unwrap_or_else(PoisonError::into_inner);
        if state.is_closed {
            return false;
        }
        state.frames += (piece.samples.len() / self.channels) as u64;
        state.pushed_at = Instant::now();
        state.pieces.push_back(piece);
        drop(state);
        self.changed.notify_all();
        true
    }

    /// Says that nothing follows: the end of the sound, or a failure in one line. The first word stays.
    pub(super) fn end(&self, end: Result<(), String>) {
        self.state().end.get_or_insert(end);
        self.changed.notify_all();
    }

    /// Ends the queue for both sides, and forgets what is in it.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        state.clear();
        drop(state);
        self.changed.notify_all();
    }

    /// Returns the number of a new reader. What waits or comes is its own from now on: the readers before it get nothing more.
    pub(super) fn begin_reading(&self) -> u64 {
        let mut state = self.state();
        state.reader += 1;
        let reader = state.reader;
        drop(state);
        self.changed.notify_all();
        reader
    }

    /// Fills `samples` as far as there is sound, and waits for the first of it. Metadata begins with the first sample that is taken, so
    /// what comes with other metadata is left for the next call. Takes nothing at the end, once the queue is closed, and once there is a
    /// newer `reader`.
    ///
    /// # Errors
    ///
    /// The failure that the queue has ended with.
    pub(super) fn take(&self, samples: &mut [f32], reader: u64) -> Result<Taken, String> {
        let is_waiting = |state: &mut State| !state.has_news() && state.reader == reader;
        let mut state = self.changed.wait_while(self.state(), is_waiting).unwrap_or_else(PoisonError::into_inner);
        let mut taken = Taken { samples: 0, metadata: None };
        if state.reader != reader {
            return Ok(taken);
        }
        if state.pieces.is_empty() {
            return state.end.clone().unwrap_or(Ok(())).map(|()| taken);
        }
        let state = &mut *state;
        while taken.samples < samples.len() {
            let Some(piece) = state.pieces.front_mut() else { break };
            if piece.metadata.is_some() && taken.samples > 0 {
                break;
            }
            taken.metadata = piece.metadata.take().or(taken.metadata);
            let rest = &piece.samples[state.offset..];
            let count = rest.len().min(samples.len() - taken.samples);
            samples[taken.samples..taken.samples + count].copy_from_slice(&rest[..count]);
            taken.samples += count;
            state.offset += count;
            if state.offset == piece.samples.len() {
                state.pieces.pop_front();
                state.offset = 0;
            }
        }
        let frames = (taken.samples / self.channels) as u64;
        (state.frames, state.taken) = (state.frames - frames, state.taken + frames);
        self.changed.notify_all();
        Ok(taken)
    }

    /// Returns the frames that were taken so far, and those that wait; `None` once nothing follows.
    pub(super) fn account(&self) -> Option<(u64, u64)> {
        let state = self.state();
        state.end.is_none().then_some((state.taken, state.frames))
    }

    /// Returns the frames above which the decoder waits.
    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Forgets the sound that waits, without the last piece.
    pub(super) fn skip_to_newest(&self) {
        let mut state = self.state();
        let last = state.pieces.pop_back();
        let metadata = state.pieces.iter_mut().rev().find_map(|piece| piece.metadata.take());
        state.clear();
        if let Some(Piece { samples, metadata: newest }) = last {
            state.frames = (samples.len() / self.channels) as u64;
            state.pieces.push_back(Piece { samples, metadata: newest.or(metadata) });
        }
    }

    /// Returns how long nothing has come although nothing waits.
    pub(super) fn silent_for(&self) -> Duration {
        let state = self.state();
        if state.frames > 0 { Duration::ZERO } else { state.pushed_at.elapsed() }
    }

    /// Returns whether nothing is left, and nothing follows.
    pub(super) fn is_over(&self) -> bool {
        let state = self.state();
        state.pieces.is_empty() && (state.end.is_some() || state.is_closed)
    }

    /// Waits until sound is there, or the end. Returns whether sound is there; at the latest after `span`.
    pub(super) fn wait(&self, span: Duration) -> bool {
        let waited = self.changed.wait_timeout_while(self.state(), span, |state| !state.has_news());
        !waited.unwrap_or_else(PoisonError::into_inner).0.pieces.is_empty()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Returns whether a reader need not wait: there is sound, or none will come.
    fn has_news(&self) -> bool {
        !self.pieces.is_empty() || self.end.is_some() || self.is_closed
    }

    fn clear(&mut self) {
        self.pieces.clear();
        (self.offset, self.frames) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn piece(samples: Vec<f32>, metadata: Option<Metadata>) -> Piece {
        Piece { samples, metadata }
    }

    fn title(title: &str) -> Option<Metadata> {
        Some(Metadata { title: Some(title.to_owned()), artist: None })
    }

    #[test]
    fn metadata_begins_with_the_first_sample_that_is_taken() {
        let queue = SoundQueue::new(2, 1000);
        assert!(queue.push(piece(vec![0.1; 10], title("a"))));
        assert!(queue.push(piece(vec![0.2; 10], None)));
        assert!(queue.push(piece(vec![0.3; 10], title("b"))));
        queue.end(Err("it broke".to_owned()));
        let mut samples = [0.0; 16];
        let mut take = || queue.take(&mut samples, 0);
        assert_eq!(take(), Ok(Taken { samples: 16, metadata: title("a") }));
        assert_eq!(take(), Ok(Taken { samples: 4, metadata: None }), "up to the next title");
        assert_eq!(take(), Ok(Taken { samples: 10, metadata: title("b") }));
        assert_eq!(take(), Err("it broke".to_owned()));
        assert_eq!(queue.account(), None);
        assert_eq!(samples[..10], [0.3; 10]);
    }

    #[test]
    fn each_side_waits_for_the_other_one_and_neither_for_one_that_is_gone() {
        let queue = SoundQueue::new(1, 100);
        thread::scope(|scope| {
            let pushing =
                scope.spawn(|| (0..100).map(|_| queue.push(piece(vec![0.5; 10], None))).filter(|went| *went).count());
            let mut samples = [0.0; 7];
            let mut taken = 0;
            while taken < 500 {
                taken += queue.take(&mut samples, 0).unwrap().samples;
            }
            assert!(queue.account().unwrap().1 <= 110, "{:?}", queue.account());
            queue.close();
            assert!(pushing.join().unwrap() < 100);
            assert_eq!(queue.take(&mut samples, 0), Ok(Taken { samples: 0, metadata: None }));
        });
    }

    #[test]
    fn sound_that_is_old_is_forgotten_and_its_title_is_not() {
        let queue = SoundQueue::new(1, 100);
        assert!(queue.push(piece(vec![0.1; 10], title("a"))) && queue.push(piece(vec![0.2; 5], None)));
        queue.skip_to_newest();
        let mut samples = [0.0; 100];
        assert_eq!(queue.take(&mut samples, 0), Ok(Taken { samples: 5, metadata: title("a") }));
        assert!(!queue.wait(Duration::ZERO));
        assert!(queue.push(piece(vec![0.1; 10], None)));
        assert_eq!(queue.begin_reading(), 1);
        assert_eq!(queue.take(&mut samples, 0), Ok(Taken { samples: 0, metadata: None }), "an older reader");
        assert_eq!(queue.take(&mut samples, 1), Ok(Taken { samples: 10, metadata: None }));
        queue.skip_to_newest();
        assert_eq!(queue.account(), Some((15, 0)));
    }
}
