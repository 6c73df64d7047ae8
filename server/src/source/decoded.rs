//! Decoded sound as a source, with what is known of it.

use std::fmt;
use std::sync::Arc;

use aircheck_api::Metadata;
use aircheck_engine::source::{Arrival, Pull, Waiting};

use super::sound_queue::{SoundQueue, Taken};
use crate::metadata::MetadataLog;

/// What comes out of a [`SoundQueue`].
pub(crate) struct Decoded {
    pub(super) queue: Arc<SoundQueue>,
    /// Rate in Hz, channels and bits of the samples.
    pub(super) format: (u32, u16, Option<u16>),
    pub(super) description: String,
    pub(super) arrival: Arrival,
    /// Where its titles are noted.
    pub(super) metadata: Arc<MetadataLog>,
    /// The block in which the next samples begin.
    pub(super) sequence: u64,
    /// Its number among the readers of the queue.
    pub(super) reader: u64,
    /// Is called when the sound has ended; `None` for a queue that nobody reads afterwards, which is closed then.
    pub(super) at_end: Option<Box<dyn Fn() + Send>>,
}

impl fmt::Debug for Decoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoded").field("description", &self.description).finish_non_exhaustive()
    }
}

impl Drop for Decoded {
    fn drop(&mut self) {
        if self.at_end.is_none() {
            self.queue.close();
        }
    }
}

impl Pull for Decoded {
    fn rate_hz(&self) -> u32 {
        self.format.0
    }

    fn channels(&self) -> u16 {
        self.format.1
    }

    fn sample_bits(&self) -> Option<u16> {
        self.format.2
    }

    fn description(&self) -> String {
        self.description.clone()
    }

    fn arrival(&self) -> Arrival {
        self.arrival
    }

    fn waiting(&self) -> Option<Waiting> {
        // What a disk has ready says nothing of a clock.
        if self.arrival == Arrival::Computed {
            return None;
        }
        // The rest of what has ended is heard at its pace: there is nothing to be in time for.
        let (taken, frames) = self.queue.account()?;
        Some(Waiting { taken, frames, capacity: self.queue.capacity() })
    }

    fn begins_in(&mut self, sequence: u64) {
        self.sequence = sequence;
    }

    fn pull(&mut self, samples: &mut [f32]) -> Result<usize, String> {
        let taken = self.queue.take(samples, self.reader);
        match &taken {
            Ok(Taken { samples: 1.., metadata }) => {
                if let Some(metadata) = metadata.clone() {
                    self.metadata.set(metadata, self.sequence);
                }
            }
            // What has ended has no title any more.
            Ok(_) | Err(_) if self.queue.is_over() => {
                self.metadata.set(Metadata::default(), self.sequence);
                if let Some(at_end) = &self.at_end {
                    at_end();
                }
            }
            Ok(_) | Err(_) => {}
        }
        taken.map(|taken| taken.samples)
    }
}
