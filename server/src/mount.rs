//! One source on the air: the engine's stream and everything that belongs to it in each rendition.
//!
//! A [`Mount`] has the stream's hub, from which renditions, recorder and meter take their blocks; its [`meter`]; and its
//! [`event_log`].
//!
//! A mount knows none of its consumers: they subscribe at its hub.

pub mod event_log;
pub mod loudness;
pub mod meter;
pub mod throttle;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aircheck_api::{SourceKind, StreamState};
use aircheck_engine::{Block, CaptureStats, Format, Hub, SharedHistogram, Stream, Substitute, Timestamp};

use crate::metadata::MetadataLog;
use event_log::EventLog;
use meter::Meter;

/// A live source that has written nothing for this long counts as silent: far beyond the period of any device.
const SOUND_TIMEOUT: Duration = Duration::from_secs(1);

/// One source on the air.
#[derive(Debug)]
pub struct Mount {
    name: String,
    format: Format,
    description: String,
    kind: RwLock<SourceKind>,
    is_removed: AtomicBool,
    sample_bits: Option<u16>,
    hub: Hub<Block>,
    capture: Arc<CaptureStats>,
    ring_micros: Arc<SharedHistogram>,
    meter: Arc<Meter>,
    events: EventLog,
    metadata: Arc<MetadataLog>,
}

impl Mount {
    /// Puts a running stream on the air under this name, and starts its meter. What its source knows of the sound is in `metadata`.
    ///
    /// # Errors
    ///
    /// When the system gives no thread for the meter.
    pub fn new(name: String, stream: &Stream, kind: SourceKind, metadata: Arc<MetadataLog>) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            events: EventLog::new(name.clone(), stream.head().clone()),
            name,
            format: stream.format(),
            description: stream.description().to_owned(),
            kind: RwLock::new(kind),
            is_removed: AtomicBool::new(false),
            sample_bits: stream.sample_bits(),
            hub: stream.hub().clone(),
            capture: Arc::clone(stream.capture()),
            ring_micros: Arc::clone(stream.ring_micros()),
            meter: Meter::start(stream.format(), stream.hub())?,
            metadata,
        }))
    }

    /// Returns rate, channels and block length, which never change.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the description of the source for people.
    #[must_use]
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Returns the kind of the source.
    #[must_use]
    pub fn kind(&self) -> SourceKind {
        *self.kind.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the stream goes on with a source of this kind.
    pub fn set_kind(&self, kind: SourceKind) {
        *self.kind.write().unwrap_or_else(PoisonError::into_inner) = kind;
    }

    /// Notes that the mount was taken out of the settings, or is opened anew with others: its stream ends for this reason.
    pub fn remove(&self) {
        self.is_removed.store(true, Ordering::Release);
    }

    /// Returns whether its stream ends, or has ended, because it was taken out of the settings or is opened anew.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.is_removed.load(Ordering::Acquire)
    }

    /// Returns the bits of the source's samples, if they are integers of a known width.
    #[must_use]
    pub fn sample_bits(&self) -> Option<u16> {
        self.sample_bits
    }

    /// Returns the bits of a sample with which FLAC loses nothing of an integer source: 24 if the source has more than
    /// 16, else 16.
    #[must_use]
    pub fn flac_bits(&self) -> u32 {
        Self::flac_bits_of(self.sample_bits)
    }

    /// Returns the same for a source whose samples have so many bits.
    #[must_use]
    pub fn flac_bits_of(sample_bits: Option<u16>) -> u32 {
        if sample_bits.is_some_and(|bits| bits > 16) { 24 } else { 16 }
    }

    /// Returns the hub at which consumers subscribe.
    #[must_use]
    pub fn hub(&self) -> &Hub<Block> {
        &self.hub
    }

    /// Returns the account of the capture.
    #[must_use]
    pub fn capture(&self) -> &CaptureStats {
        &self.capture
    }

    /// Returns the latencies of stage `ring`, in microseconds.
    #[must_use]
    pub fn ring_micros(&self) -> &SharedHistogram {
        &self.ring_micros
    }

    /// Returns the meter of level and loudness.
    #[must_use]
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Returns the log of events of this mount and its listeners.
    #[must_use]
    pub fn events(&self) -> &EventLog {
        &self.events
    }

    /// Returns what is known of the sound.
    #[must_use]
    pub fn metadata(&self) -> &Arc<MetadataLog> {
        &self.metadata
    }

    /// Returns whether the source delivers sound now.
    #[must_use]
    pub fn state(&self) -> StreamState {
        let is_fresh = |written_at| Timestamp::now().since(written_at) < SOUND_TIMEOUT;
        if self.hub.is_ended() {
            StreamState::Ended
        } else if let Some(outage) = self.capture.outages().current() {
            match outage.substitute {
                Substitute::Fallback => StreamState::Fallback,
                _ => StreamState::Silent,
            }
        } else if self.capture.written_at().is_some_and(is_fresh) {
            StreamState::Live
        } else {
            StreamState::Silent
        }
    }

    /// Returns the length of `blocks` blocks in seconds.
    #[must_use]
    pub fn seconds(&self, blocks: u64) -> f64 {
        self.format.span(self.format.position(blocks)).as_secs_f64()
    }
}
