//! Playing what comes, and knowing when each block is heard.
//!
//! Sound flows one way: [`playout`] takes blocks, evens out when they came, brings them to the device's rate by the
//! [`resampler`], and puts them into a ring, as fast as [`drift`] says. The device's callback takes them out
//! ([`outlet`]): it allocates nothing and waits for nobody. [`speaker`] is the device itself.

mod drift;
mod outlet;
mod playout;
mod resampler;
mod speaker;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

pub(crate) use playout::Heard;
pub(crate) use speaker::Speaker;

use crate::client::block::Block;
use crate::client::message::Hello;
use crate::failure::Failure;
use outlet::{Inlet, Link};
use playout::Playout;

/// How much faster or slower sound is played at most: 9 cents, which nobody hears, and more than two clocks ever differ.
const FASTER_MOST: f64 = 0.005;
/// How often [`Player::check`] is to be called, and after how many calls in which the device asked for nothing it is
/// dead: 10 s. A sound server that idles asks every 2 s.
pub(crate) const CHECK_EVERY: Duration = Duration::from_millis(500);
const SILENT_CHECKS: u32 = 20;
/// A device that complains more often than this between two checks, and asks for nothing, is dead. ALSA has been seen
/// to complain half a million times a second.
const CHECK_COMPLAINTS: u64 = 20;
/// What playing to the end may take beyond what waits: a device that is later than that has stopped.
const END_PATIENCE: Duration = Duration::from_secs(3);

/// A stream that is being played.
#[derive(Debug)]
pub(crate) struct Player {
    playout: Playout,
    link: Arc<Link>,
    speaker: Speaker,
    periods: u64,
    complaints: u64,
    silent_checks: u32,
    ends_by: Option<Instant>,
}

impl Player {
    /// Plays the stream that `hello` announces on an open device; `wish` of it is to wait there.
    ///
    /// # Errors
    ///
    /// [`Failure::Speaker`], as for everything here.
    pub(crate) fn new(speaker: Speaker, inlet: Inlet, hello: Hello, wish: Duration) -> Result<Self, Failure> {
        let link = Arc::clone(&inlet.link);
        let playout =
            Playout::new(inlet, hello, wish).map_err(|why| Failure::Speaker { name: speaker.name.clone(), why })?;
        Ok(Self { playout, link, speaker, periods: 0, complaints: 0, silent_checks: 0, ends_by: None })
    }

    /// A block came.
    pub(crate) fn push(&mut self, block: &Block, now: Instant) -> Result<(), Failure> {
        self.playout.push(block, now).map_err(|why| Failure::Speaker { name: self.speaker.name.clone(), why })
    }

    /// The blocks that have begun to be heard since this was asked last, oldest first.
    pub(crate) fn heard(&mut self, now: Instant) -> impl Iterator<Item = Heard> + '_ {
        self.playout.heard(now)
    }

    /// Looks whether the device still plays.
    pub(crate) fn check(&mut self) -> Result<(), Failure> {
        let periods = self.link.periods.load(Ordering::Acquire);
        let complaints = self.link.complaints.load(Ordering::Acquire);
        let is_silent = periods == self.periods;
        let new_complaints = complaints - self.complaints;
        (self.periods, self.complaints) = (periods, complaints);
        self.silent_checks = if is_silent { self.silent_checks + 1 } else { 0 };
        let why = if self.link.is_gone.load(Ordering::Acquire) {
            "it or its sound server is gone"
        } else if is_silent && new_complaints > CHECK_COMPLAINTS {
            "it does nothing but complain"
        } else if self.silent_checks >= SILENT_CHECKS {
            "it has asked for nothing for 10 s; see whether the sound server hangs"
        } else {
            return Ok(());
        };
        Err(Failure::Speaker { name: self.speaker.name.clone(), why: why.to_owned() })
    }

    /// Nothing more comes: what waits is to be played to its end.
    pub(crate) fn end(&mut self, now: Instant) {
        // If the rest can't be resampled, there is only less to play.
        let _ = self.playout.end();
        self.ends_by = Some(now + END_PATIENCE);
    }

    /// Whether it has been, or never will be.
    pub(crate) fn is_over(&mut self, now: Instant) -> bool {
        self.playout.is_over(now) || self.ends_by.is_some_and(|by| now >= by)
    }

    /// How often sound came too late to be played in time.
    pub(crate) fn late(&self) -> u64 {
        self.playout.late()
    }

    /// How it went.
    pub(crate) fn account(&self) -> Account {
        let (skipped, silent) = self.playout.skipped_and_silent();
        let (played, late) = (self.playout.played(), self.playout.late());
        Account { device: self.speaker.name.clone(), played, late, skipped, silent }
    }
}

/// What was played, and what of it wasn't as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    /// Where.
    pub(crate) device: String,
    /// How long sound came out.
    pub(crate) played: Duration,
    /// How often sound came too late to be played in time.
    pub(crate) late: u64,
    /// What was left out to be closer to live again.
    pub(crate) skipped: Duration,
    /// What silence stood for, where blocks were lost.
    pub(crate) silent: Duration,
}
