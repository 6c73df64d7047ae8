//! Sound that is read on request.

/// A source of samples that a [`Paced`](super::Paced) reads at their own rate.
pub trait Pull: Send + 'static {
    /// Returns the frames per second: 1 to 768,000 Hz.
    fn rate_hz(&self) -> u32;

    /// Returns the samples per frame: 1 to 32.
    fn channels(&self) -> u16;

    /// Returns the bits of a sample, for integers of a known width; `None` by default.
    fn sample_bits(&self) -> Option<u16> {
        None
    }

    /// Returns a few words for people.
    fn description(&self) -> String;

    /// Returns how the samples become available; [`Arrival::Computed`] by default.
    fn arrival(&self) -> Arrival {
        Arrival::Computed
    }

    /// Returns how much sound waits in front of this source, for one that comes through a pipe; `None` by default, and
    /// where nothing is known.
    fn waiting(&self) -> Option<Waiting> {
        None
    }

    /// Makes the sound faster by this share from here on, 0.005 at most; slower below zero, by as much at most. Returns false
    /// if the speed cannot be changed, which is the default.
    fn set_faster(&mut self, _share: f64) -> bool {
        false
    }

    /// Learns that the samples of the next [`pull`](Self::pull) begin in the block with this sequence number, for a source that knows
    /// something of its sound, such as titles. Does nothing by default.
    fn begins_in(&mut self, _sequence: u64) {}

    /// Fills `samples` from the start, with interleaved samples that are nominally -1 to 1, and returns how many it filled:
    /// whole frames always; 0 means the end. There is room for a whole number of frames, at least one.
    ///
    /// # Errors
    ///
    /// The failure in one line. It ends the source after the samples that were read before; every consumer then ends with
    /// [`EndReason::Failed`](crate::EndReason::Failed). A panic, more samples than there is room for, and an incomplete
    /// frame are failures, too.
    fn pull(&mut self, samples: &mut [f32]) -> Result<usize, String>;
}

/// The sound in front of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Frames that were taken so far.
    pub taken: u64,
    /// Whole frames that wait and can be taken at once.
    pub frames: u64,
    /// The most frames that can wait there.
    pub capacity: u64,
}

/// The way in which samples become available to [`Pull::pull`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Arrival {
    /// The samples are computed or on disk: each has its intended time, however late the thread runs.
    Computed,
    /// The samples come from outside, and `pull` waits for them. After a pause, time starts anew.
    External,
}
