//! A mount on the air, with its consumers, and the changes of its settings that its listeners survive.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use aircheck_engine::source::Source as _;
use aircheck_engine::{Format, Start, Stream, Timestamp};
use bytes::Bytes;

use crate::config::{CaptureConfig, MountConfig, PublishConfig, SourceSpec};
use crate::delivery::histograms::MountHistograms;
use crate::delivery::shards::Shards;
use crate::hop::account::{HopAccount, PublishAccount};
use crate::hop::numbers::{self, NewestBlock};
use crate::metadata::MetadataLog;
use crate::mount::Mount;
use crate::rendition::encoders::Encoders;
use crate::replay::Replays;
use crate::shared::Shared;
use crate::sink::hls::Hls;
use crate::sink::publish_error::PublishError;
use crate::sink::publish_form;
use crate::sink::publisher::Publisher;
use crate::sink::pushes::Pushes;
use crate::sink::recorder::{FormatError, RecordError, Recording, RecordingDirectory};
use crate::source::{self, OpenError, Opened, PutInput, Started};

/// How far an encoder may fall behind before it skips to live, at least: as far as a listener, if that is farther.
const ENCODER_BUFFER: Duration = Duration::from_secs(1);
/// The status that is pushed to pages is made at most this often: twice for each of its events.
const STATUS_INTERVAL: Duration = Duration::from_millis(100);
/// How long a recording that is replaced by another one may take for the rest of its sound. The history must hold what comes meanwhile.
const RECORDING_TIMEOUT: Duration = Duration::from_secs(5);

/// The reason why a mount is not on the air, or why its settings cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The recording cannot start.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The source cannot be recorded in the configured format.
    #[error(transparent)]
    RecordFormat(#[from] FormatError),
    /// The sound cannot be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The source cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The mount was taken out of the settings, or the service stops.
    #[error("it is closed")]
    Closed,
    /// The system refused something else, most likely a thread.
    #[error("the system refused: {0}")]
    System(#[from] io::Error),
}

/// What follows from new settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The mount has them, and its listeners stay.
    InPlace,
    /// The sound would have another format, which never changes in a stream: the mount must be opened anew.
    Anew,
}

/// A mount on the air, and its consumers.
pub struct ServedMount {
    /// A number that no other one has in this process, whatever its name.
    pub number: u64,
    /// The source on the air.
    pub mount: Arc<Mount>,
    /// The encoders that run for its listeners.
    pub encoders: Arc<Encoders>,
    /// The same sound in segments.
    pub hls: Hls,
    /// What its listeners record into.
    pub histograms: MountHistograms,
    /// The listeners that hear the recording.
    pub replays: Replays,
    /// The Icecast servers to which it is pushed.
    pub pushes: Pushes,
    /// The last status that was pushed to pages.
    pub status: Shared<Bytes>,
    config: RwLock<Arc<MountConfig>>,
    recording: Mutex<Option<Arc<Recording>>>,
    /// The run of its stream, by which other servers tell it from an earlier one.
    epoch: u64,
    publishing: Mutex<Option<Publisher>>,
    hop: RwLock<Option<Arc<HopAccount>>>,
    /// Where its source clients connect, if its source is made of them.
    put: Mutex<Option<Arc<PutInput>>>,
    /// Its running stream, until that is stopped.
    stream: Mutex<Option<Started>>,
}

impl fmt::Debug for ServedMount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServedMount").field("mount", &self.mount).finish_non_exhaustive()
    }
}

impl ServedMount {
    /// Opens the source, and the recording if there is one, and puts them on the air. The encoders wake these shards.
    ///
    /// # Errors
    ///
    /// When the source cannot be opened, or not be recorded as the settings say.
    pub fn open(config: Arc<MountConfig>, shards: &Shards) -> Result<Self, MountError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        // Before the source, so that no microphone is opened for nothing.
        let directory = config.recorder.record.as_deref().map(RecordingDirectory::open).transpose()?;
        let metadata = Arc::<MetadataLog>::default();
        let mut started = source::start(&config.capture, &metadata, former(&config))?;
        let put = started.put.take();
        let stream = &started.stream;
        check_form(&config, stream.format())?;
        let recording = match directory {
            Some(directory) => {
                Recording::check(&config.recorder, stream)?;
                Recording::start(&directory, &config.recorder, stream, Start::From(started.first_live))?.map(Arc::new)
            }
            None => None,
        };
        let mount = Mount::new(config.name.clone(), stream, started.kind, metadata)?;
        if let Some(recording) = &recording {
            recording.report_to(&mount);
        }
        let epoch = Timestamp::now().unix_nanos();
        let format = mount.format();
        let history = format.blocks_in(config.capture.history) as usize;
        let buffer = format.blocks_in(ENCODER_BUFFER.max(config.delivery.buffer)) as usize;
        let encoders =
            Encoders::new(mount.hub().clone(), format, history, buffer, shards.wakers(), Arc::clone(mount.metadata()));
        let publishing = Publisher::start(&config.publish, stream, &encoders, epoch, mount.metadata())?;
        Ok(Self {
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            hls: Hls::new(&encoders, format, mount.flac_bits(), config.capture.history),
            encoders,
            histograms: MountHistograms::default(),
            replays: Replays::default(),
            pushes: Pushes::default(),
            status: Shared::new(STATUS_INTERVAL),
            epoch,
            publishing: Mutex::new(publishing),
            hop: RwLock::new(started.hop.clone()),
            stream: Mutex::new(Some(started)),
            config: RwLock::new(config),
            mount,
            recording: Mutex::new(recording),
            put: Mutex::new(put),
        })
    }

    /// Returns its settings.
    #[must_use]
    pub fn config(&self) -> Arc<MountConfig> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the recording of it, if there is one.
    #[must_use]
    pub fn recording(&self) -> Option<Arc<Recording>> {
        self.recording.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the account of the hop from the server that is its source.
    #[must_use]
    pub fn hop(&self) -> Option<Arc<HopAccount>> {
        self.hop.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the account of what is published of it.
    #[must_use]
    pub fn publishing(&self) -> Option<Arc<PublishAccount>> {
        let publishing = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        publishing.as_ref().map(|publisher| Arc::clone(publisher.account()))
    }

    /// Takes other settings, as far as the format of the sound permits it. The source is closed and opened only where it is another one;
    /// those that listen keep the buffers and limits with which they came. May take seconds, for a device or a slow disk.
    ///
    /// # Errors
    ///
    /// When the new source, its fallback or the new recording cannot be opened. The mount keeps its settings then.
    pub fn change(&self, config: &Arc<MountConfig>) -> Result<Change, MountError> {
        let old = self.config();
        if (old.capture.block, old.capture.history) != (config.capture.block, config.capture.history) {
            return Ok(Change::Anew);
        }
        let directory = config.recorder.record.as_deref().map(RecordingDirectory::open).transpose()?;
        let other_source = if old.capture.has_source_of(&config.capture) {
            source::check_fallback(&config.capture)?;
            None
        } else {
            let opened = source::open(&config.capture, self.mount.metadata())?;
            if !self.fits(&opened) {
                return Ok(Change::Anew);
            }
            Some(opened)
        };
        if directory.is_some() {
            Recording::check_format(&config.recorder, self.mount.format(), self.mount.sample_bits())?;
        }
        check_form(config, self.mount.format())?;
        // Before the lock, because it may wait for a disk.
        let start = (config.recorder != old.recorder).then(|| self.end_recording());
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(started) = &*stream else { return Err(MountError::Closed) };
        if let Some((start, directory)) = start.zip(directory) {
            self.record(&directory, config, &started.stream, start)?;
        }
        if config.publish != old.publish {
            self.change_publisher(started, &old.publish, &config.publish)?;
        }
        self.change_source(started, other_source, &old.capture, &config.capture);
        drop(stream);
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(config);
        Ok(Change::InPlace)
    }

    /// Returns whether a source has the format of the mount.
    fn fits(&self, Opened { source, hop, .. }: &Opened) -> bool {
        let format = self.mount.format();
        let has_format = (source.rate_hz(), source.channels()) == (format.rate_hz(), format.channels())
            && hop.as_ref().is_none_or(|hop| hop.block == format.block_span());
        has_format && Mount::flac_bits_of(source.sample_bits()) == self.mount.flac_bits()
    }

    /// Publishes otherwise. The old publisher ends when the new one has started, and goes on if that cannot start.
    fn change_publisher(
        &self,
        started: &Started,
        old: &PublishConfig,
        new: &PublishConfig,
    ) -> Result<(), PublishError> {
        let other = Publisher::start(new, &started.stream, &self.encoders, self.epoch, self.mount.metadata())?;
        let mut publishing = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        let former = std::mem::replace(&mut *publishing, other);
        if let Some(former) = &former {
            former.close();
        }
        let formats =
            former.as_ref().zip(publishing.as_ref()).map(|(former, other)| (former.hop_format(), other.hop_format()));
        if let Some((from, to)) = formats.filter(|(from, to)| from != to && old.publish == new.publish) {
            tracing::warn!(
                "the servers that take the mount `{}` must be started again: `publish_format` changes their sound from {} to {} Hz, which \
                 does not change in a stream, so they lose everything from now on",
                self.mount.name(),
                from.rate_hz,
                to.rate_hz
            );
        }
        Ok(())
    }

    fn change_source(&self, started: &Started, other: Option<Opened>, old: &CaptureConfig, new: &CaptureConfig) {
        match other {
            Some(Opened { source, kind, put, hop }) => {
                self.mount.set_kind(kind);
                *self.hop.write().unwrap_or_else(PoisonError::into_inner) = hop.map(|hop| hop.account);
                started.switch.to(source);
                self.set_put(put);
            }
            None if old != new => {
                let (on_loss, fallback) = source::on_loss(new);
                started.switch.on_loss(on_loss, fallback);
            }
            None => {}
        }
    }

    /// Returns where its source clients connect, if its source is made of them.
    #[must_use]
    pub fn put(&self) -> Option<Arc<PutInput>> {
        self.put.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the source client that is connected, and lets others connect to `put` from now on.
    fn set_put(&self, put: Option<Arc<PutInput>>) {
        let old = std::mem::replace(&mut *self.put.lock().unwrap_or_else(PoisonError::into_inner), put);
        if let Some(old) = old {
            old.close();
        }
    }

    /// Ends the recording, if there is one. Returns where another one goes on without a hole.
    fn end_recording(&self) -> Start {
        let old = self.recording.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(old) = old else { return Start::Live };
        old.stats().close();
        if !old.finish(RECORDING_TIMEOUT) {
            tracing::error!("the recording to {old} is not complete: the disk is too slow");
        }
        Start::From(old.stats().snapshot().next_sequence)
    }

    fn record(
        &self,
        directory: &RecordingDirectory,
        config: &MountConfig,
        stream: &Stream,
        start: Start,
    ) -> Result<(), MountError> {
        let recording = Recording::start(directory, &config.recorder, stream, start)?.map(Arc::new);
        if let Some(recording) = &recording {
            recording.report_to(&self.mount);
        }
        *self.recording.lock().unwrap_or_else(PoisonError::into_inner) = recording;
        Ok(())
    }

    /// Stops the source, and with it all streams. Waits until the source's thread has ended.
    pub fn stop(&self) {
        let started = self.stream.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.set_put(None);
        if let Some(started) = started {
            started.stream.stop();
        }
    }

    /// Waits until its recording has written everything that it got, until `deadline` at most. Returns false if it has not.
    #[must_use]
    pub fn finish_recording(&self, deadline: Instant) -> bool {
        self.recording().is_none_or(|it| it.finish(deadline.saturating_duration_since(Instant::now())))
    }

    /// Waits until everything of it that is published has been sent, until `deadline` at most. Returns false if it has not.
    #[must_use]
    pub fn finish_publishing(&self, deadline: Instant) -> bool {
        let publisher = self.publishing.lock().unwrap_or_else(PoisonError::into_inner).take();
        publisher.is_none_or(|it| it.finish(deadline.saturating_duration_since(Instant::now())))
    }

    /// Returns how often its dispatcher has gone round, while that runs.
    pub(super) fn dispatcher_turns(&self) -> Option<u64> {
        let started = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = started.as_ref().map(|started| &started.stream);
        stream.filter(|stream| !stream.is_finished()).map(Stream::dispatcher_turns)
    }

    /// Returns whether the source has ended, and everything of it was taken.
    pub(super) fn is_finished(&self) -> bool {
        let started = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        started.as_ref().is_none_or(|started| started.stream.is_finished())
    }
}

/// Returns the newest block of an earlier run of the mount that other servers have taken, if it is published.
fn former(config: &MountConfig) -> Option<NewestBlock> {
    let is_edge = matches!(config.capture.source, SourceSpec::Nats(_));
    config.publish.publish.as_ref().filter(|_| !is_edge).and_then(numbers::ask)
}

/// Finds out whether the sound can be published as the settings say.
fn check_form(config: &MountConfig, format: Format) -> Result<(), PublishError> {
    if config.publish.publish.is_some() {
        publish_form::check(config.publish.publish_format, format)?;
    }
    Ok(())
}
