//! The mounts of the process. Each has a source of its own and everything that belongs to it, and fails by itself: a source that
//! cannot be opened is tried again, while the other mounts are heard.

use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use aircheck_api::StreamState;
use aircheck_engine::Stream;

use crate::config::MountConfig;
use crate::delivery::histograms::MountHistograms;
use crate::delivery::shards::Shards;
use crate::mount::Mount;
use crate::rendition::encoders::Encoders;
use crate::replay::Replays;
use crate::sink::recorder::{FormatError, RecordError, Recording, RecordingDirectory};
use crate::source::{self, OpenError};

/// How far an encoder may fall behind before it skips to live.
const ENCODER_BUFFER: Duration = Duration::from_secs(1);

/// The reason why a mount is not on the air.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The recording cannot start.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The source cannot be recorded in the configured format.
    #[error(transparent)]
    RecordFormat(#[from] FormatError),
    /// The source cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The system refused something else, most likely a thread.
    #[error("the system refused: {0}")]
    System(#[from] io::Error),
}

/// A mount on the air, and its consumers.
#[derive(Debug)]
pub struct ServedMount {
    /// Its settings.
    pub config: MountConfig,
    /// The source on the air.
    pub mount: Arc<Mount>,
    /// The encoders that run for its listeners.
    pub encoders: Arc<Encoders>,
    /// What its listeners record into.
    pub histograms: MountHistograms,
    /// The recording of it, if there is one.
    pub recording: Option<Arc<Recording>>,
    /// The listeners that hear the recording.
    pub replays: Replays,
    /// Its running stream, until that is stopped.
    stream: Mutex<Option<Stream>>,
}

impl ServedMount {
    /// Opens the source, and the recording if there is one, and puts them on the air. The encoders wake these shards.
    ///
    /// # Errors
    ///
    /// When the source cannot be opened, or not be recorded as the settings say.
    pub fn open(config: MountConfig, shards: &Shards) -> Result<Self, MountError> {
        // Before the source, so that no microphone is opened for nothing.
        let directory = config.recorder.record.as_deref().map(RecordingDirectory::open).transpose()?;
        let (stream, kind) = source::start(&config.capture)?;
        let recording = match directory {
            Some(directory) => {
                Recording::check(&config.recorder, &stream)?;
                Recording::start(&directory, &config.recorder, &stream)?.map(Arc::new)
            }
            None => None,
        };
        let mount = Mount::new(config.name.clone(), &stream, kind)?;
        if let Some(recording) = &recording {
            recording.report_to(&mount);
        }
        let format = mount.format();
        let history = format.blocks_in(config.capture.history) as usize;
        let buffer = format.blocks_in(ENCODER_BUFFER) as usize;
        Ok(Self {
            encoders: Encoders::new(mount.hub().clone(), format, history, buffer, shards.wakers()),
            histograms: MountHistograms::default(),
            replays: Replays::default(),
            stream: Mutex::new(Some(stream)),
            config,
            mount,
            recording,
        })
    }

    /// Stops the source, and with it all streams. Waits until the source's thread has ended.
    pub fn stop(&self) {
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(stream) = stream {
            stream.stop();
        }
    }

    /// Returns how often its dispatcher has gone round, while that runs.
    fn dispatcher_turns(&self) -> Option<u64> {
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        stream.as_ref().filter(|stream| !stream.is_finished()).map(Stream::dispatcher_turns)
    }

    /// Returns whether the source has ended, and everything of it was taken.
    fn is_finished(&self) -> bool {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_none_or(Stream::is_finished)
    }
}

/// A mount of the settings.
#[derive(Debug)]
pub struct Place {
    config: MountConfig,
    served: OnceLock<Arc<ServedMount>>,
    /// Why the last try to open it has failed.
    failure: Mutex<Option<String>>,
}

impl Place {
    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Returns its settings.
    #[must_use]
    pub fn config(&self) -> &MountConfig {
        &self.config
    }

    /// Returns the mount.
    ///
    /// # Errors
    ///
    /// Why it is not on the air yet.
    pub fn served(&self) -> Result<&Arc<ServedMount>, String> {
        self.served.get().ok_or_else(|| {
            let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            failure.clone().unwrap_or_else(|| "it is being opened".to_owned())
        })
    }

    /// Tries to put it on the air.
    ///
    /// # Errors
    ///
    /// Why that failed; it may be tried again.
    pub fn open(&self, shards: &Shards) -> Result<&Arc<ServedMount>, MountError> {
        match ServedMount::open(self.config.clone(), shards) {
            Ok(served) => Ok(self.served.get_or_init(|| Arc::new(served))),
            Err(error) => {
                *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
                Err(error)
            }
        }
    }

    /// Returns whether its source delivers, or why not.
    #[must_use]
    pub fn state(&self) -> StreamState {
        self.served.get().map_or(StreamState::Silent, |served| served.mount.state())
    }
}

/// All mounts, in the order of the settings.
#[derive(Debug)]
pub struct Mounts {
    /// Never empty.
    places: Vec<Arc<Place>>,
}

impl Mounts {
    /// Makes places for mounts with these settings, none of which is on the air yet.
    ///
    /// # Panics
    ///
    /// Without a mount.
    #[must_use]
    pub fn new(configs: &[MountConfig]) -> Arc<Self> {
        assert!(!configs.is_empty(), "there is a mount");
        let place = |config: &MountConfig| {
            Arc::new(Place { config: config.clone(), served: OnceLock::new(), failure: Mutex::default() })
        };
        Arc::new(Self { places: configs.iter().map(place).collect() })
    }

    /// Returns the place of each mount.
    #[must_use]
    pub fn places(&self) -> &[Arc<Place>] {
        &self.places
    }

    /// Returns the mount at `/stream*`.
    #[must_use]
    pub fn first(&self) -> &Arc<Place> {
        &self.places[0]
    }

    /// Returns the mount of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Arc<Place>> {
        self.places.iter().find(|place| place.config.name == name)
    }

    /// Returns the mounts that are on the air.
    pub fn served(&self) -> impl Iterator<Item = &Arc<ServedMount>> + Clone {
        self.places.iter().filter_map(|place| place.served.get())
    }

    /// Returns whether the sources of all mounts deliver, or else the state of the first one whose source does not.
    #[must_use]
    pub fn state(&self) -> StreamState {
        let mut states = self.places.iter().map(|place| place.state());
        states.find(|state| *state != StreamState::Live).unwrap_or(StreamState::Live)
    }

    /// Returns whether all of them have been on the air, and their sources have ended.
    #[must_use]
    pub fn are_finished(&self) -> bool {
        self.places.iter().all(|place| place.served.get().is_some_and(|served| served.is_finished()))
    }

    /// Returns how often the dispatcher of each mount has gone round, of those that run.
    pub fn dispatcher_turns(&self) -> impl Iterator<Item = (&str, u64)> + Clone {
        self.served().filter_map(|served| Some((served.mount.name(), served.dispatcher_turns()?)))
    }

    /// Returns why a source has failed, if one has.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.served().find_map(|served| served.mount.capture().failure().map(str::to_owned))
    }

    /// Stops all sources at the same time, and waits until they have ended.
    pub fn stop(&self) {
        thread::scope(|scope| {
            self.served().for_each(|served| {
                scope.spawn(|| served.stop());
            });
        });
    }

    /// Waits until the recordings have written everything that they got, until `deadline` at most. Returns the names of mounts
    /// whose recording did not.
    #[must_use]
    pub fn finish_recordings(&self, deadline: Instant) -> Vec<&str> {
        let is_late = |served: &&Arc<ServedMount>| {
            let recording = served.recording.as_ref();
            recording.is_some_and(|it| !it.finish(deadline.saturating_duration_since(Instant::now())))
        };
        self.served().filter(is_late).map(|served| served.mount.name()).collect()
    }
}
