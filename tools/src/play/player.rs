//! A stream on an output device, and the checks that the device still plays.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use aircheck_api::StreamFormat;

use super::output_device::OutputDevice;
use super::playout::{HeardBlock, PlayStats, Playout};
use super::ring::{RingWriter, SharedState};
use crate::client::Block;
use crate::failure::Failure;

/// How often the player is to be checked.
pub(crate) const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// A device that requested no sound during so many checks, 10 s, is dead. A sound server that idles requests some every
/// 2 s.
const MAX_SILENT_CHECKS: u32 = 20;
/// A device that reports more errors than this between two checks, and asks for nothing, is dead. ALSA has been seen to
/// report half a million a second.
const MAX_ERRORS_PER_CHECK: u64 = 20;
/// How much longer than the sound that waits playing to the end may take. A device that takes longer has stopped.
const END_TIMEOUT: Duration = Duration::from_secs(3);

/// A stream that is played.
pub(crate) struct Player {
    playout: Playout,
    shared: Arc<SharedState>,
    device: OutputDevice,
    periods: u64,
    errors: u64,
    silent_checks: u32,
    ends_by: Option<Instant>,
}

impl Player {
    /// Plays a stream of this format on a device, with `target_buffer` of sound waiting in its ring.
    pub(crate) fn new(
        (device, writer): (OutputDevice, RingWriter),
        format: StreamFormat,
        target_buffer: Duration,
    ) -> Result<Self, Failure> {
        let shared = Arc::clone(&writer.shared);
        let playout = Playout::new(writer, format, target_buffer)
            .map_err(|why| Failure::Output { name: device.name.clone(), why })?;
        Ok(Self { playout, shared, device, periods: 0, errors: 0, silent_checks: 0, ends_by: None })
    }

    /// Plays a block that came.
    pub(crate) fn push(&mut self, block: &Block, now: Instant) -> Result<(), Failure> {
        self.playout.push(block, now).map_err(|why| Failure::Output { name: self.device.name.clone(), why })
    }

    /// Returns the blocks that have begun to be heard since the last call, oldest first.
    pub(crate) fn heard(&mut self, now: Instant) -> impl Iterator<Item = HeardBlock> + '_ {
        self.playout.heard(now)
    }

    /// Checks that the device still plays; an error says why it does not.
    pub(crate) fn check(&mut self) -> Result<(), Failure> {
        let periods = self.shared.periods.load(Ordering::Acquire);
        let errors = self.shared.errors.load(Ordering::Acquire);
        let is_silent = periods == self.periods;
        let new_errors = errors - self.errors;
        (self.periods, self.errors) = (periods, errors);
        self.silent_checks = if is_silent { self.silent_checks + 1 } else { 0 };
        let why = if self.shared.is_gone.load(Ordering::Acquire) {
            "it or its sound server is gone"
        } else if is_silent && new_errors > MAX_ERRORS_PER_CHECK {
            "it reports nothing but errors"
        } else if self.silent_checks >= MAX_SILENT_CHECKS {
            "it has asked for no sound for 10 s (does the sound server hang?)"
        } else {
            return Ok(());
        };
        Err(Failure::Output { name: self.device.name.clone(), why: why.to_owned() })
    }

    /// Lets the sound that waits be played to its end.
    pub(crate) fn end(&mut self, now: Instant) {
        // If the rest cannot be resampled, there is only less to play.
        let _ = self.playout.end();
        self.ends_by = Some(now + END_TIMEOUT);
    }

    /// Returns whether all sound has been played, or never will be.
    pub(crate) fn is_over(&mut self, now: Instant) -> bool {
        self.playout.is_over(now) || self.ends_by.is_some_and(|by| now >= by)
    }

    /// Returns how often sound came too late to be played in time.
    pub(crate) fn late(&self) -> u64 {
        self.playout.late()
    }

    /// Returns how playing went so far.
    pub(crate) fn stats(&self) -> PlayStats {
        self.playout.stats(self.device.name.clone())
    }
}
