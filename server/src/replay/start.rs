//! The start of a replay: from a moment to a place in the recording, or in the history.

use std::io;
use std::sync::Arc;
use std::task::Waker;
use std::thread;
use std::time::Duration;

use aircheck_api::moment;
use aircheck_engine::{Block, Publisher, PublisherOptions, Start, Timestamp};

use super::feeder::Feeder;
use super::moment::Moment;
use super::places::{MAX_REPLAYS, Replays};
use super::timeline::legs;
use crate::mount::Mount;
use crate::rendition::encoders::Encoders;
use crate::sink::recorder::{Recording, RunReader};

/// How far an encoder may fall behind the feeder before it skips.
const ENCODER_BUFFER: Duration = Duration::from_secs(1);
/// A start so close to the oldest block of the history is taken from the recording: the history moves on meanwhile.
const HISTORY_MARGIN: Duration = Duration::from_millis(200);

/// The reason why nothing is played from a moment.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The moment has not come.
    #[error("{0} is in the future (it is {1} now)")]
    Future(String, String),
    /// The recording begins later.
    #[error("nothing is recorded from {0}: the recording begins at {1}")]
    TooEarly(String, String),
    /// There is no recording.
    #[error("only the last {0} are kept, and nothing is recorded (start the server with --record DIR)")]
    NotRecorded(String),
    /// A part of the recording is empty, or does not fit into a file.
    #[error("`to` must be after `from`, by at most {0} s")]
    Length(u64),
    /// All places are taken.
    #[error("{MAX_REPLAYS} listeners hear the recording already (try again later)")]
    Full,
    /// The recording cannot be read.
    #[error("the recording cannot be read: {0}")]
    Unreadable(#[from] io::Error),
}

/// The place of a moment.
#[derive(Debug)]
pub enum Found {
    /// In the history of the live stream.
    Live(Start),
    /// In the recording.
    Recorded(Box<Replay>),
}

/// A replay that waits for its listener.
#[derive(Debug)]
pub struct Replay {
    /// The encoders for its only listener.
    pub encoders: Arc<Encoders>,
    feeder: Feeder,
}

impl Replay {
    /// Starts the thread that feeds the listener, which must have subscribed: it gets every block from the first one on.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub fn start(self) -> io::Result<()> {
        let Self { feeder, .. } = self;
        thread::Builder::new().name("replay".into()).spawn(move || feeder.run()).map(drop)
    }
}

/// Starts replays of one mount.
impl Replays {
    /// Finds `moment` in the history of `mount`, or in its recording. A moment that was not recorded stands for the next one
    /// that was. Reads from the disk.
    ///
    /// # Errors
    ///
    /// When the moment is not to be had.
    pub fn find(
        &self,
        mount: &Arc<Mount>,
        recording: Option<&Arc<Recording>>,
        history: Duration,
        moment: Moment,
        wakers: Vec<Waker>,
    ) -> Result<Found, ReplayError> {
        let (format, now) = (mount.format(), Timestamp::now());
        let now_unix = now.unix_nanos();
        let at = moment.unix_nanos(now_unix);
        if at > now_unix {
            return Err(ReplayError::Future(moment::format(at), moment::format(now_unix)));
        }
        let back = Duration::from_nanos(now_unix - at);
        let head = mount.hub().head().next();
        let in_history =
            |back: Duration| Found::Live(Start::Back(format.blocks_in(back).min(format.blocks_in(history))));
        let Some(recording) = recording else {
            if back <= history {
                return Ok(in_history(back));
            }
            return Err(ReplayError::NotRecorded(humantime::format_duration(history).to_string()));
        };
        let index = recording.index();
        let Some(entry) = index.find(at, format) else { return Ok(in_history(back)) };
        let mut reader = RunReader::new(Arc::clone(index), entry.run);
        let position = if at < entry.captured_at { entry.position } else { reader.position_at(&entry, at)? };
        let sequence = position / u64::from(format.block_frames());
        let is_current = entry.run == index.current_run();
        let reaches = format.blocks_in(history).saturating_sub(format.blocks_in(HISTORY_MARGIN));
        if is_current && sequence + reaches >= head {
            return Ok(Found::Live(Start::From(sequence)));
        }
        if matches!(moment, Moment::At(_))
            && let Some(begins_at) = index.begins_at(format).filter(|begins_at| at < *begins_at)
        {
            return Err(ReplayError::TooEarly(moment::format(at), moment::format(begins_at)));
        }
        let place = self.enter().ok_or(ReplayError::Full)?;
        let current_began = now_unix.saturating_sub(format.span(format.position(head)).as_nanos() as u64);
        let legs = legs(index, &entry, format, current_began);
        // Blocks of the present run lie so far behind their own numbers.
        let ahead = legs.last().filter(|leg| leg.run == index.current_run()).map_or(0, |leg| leg.base.max(0) as u64);
        let (mut blocks, hub) = Publisher::<Block>::new(PublisherOptions {
            head: Some(mount.hub().head().ahead_by(ahead)),
            delayed: true,
            ..PublisherOptions::default()
        });
        blocks.advance_to(sequence);
        let buffer = format.blocks_in(ENCODER_BUFFER) as usize;
        let encoders = Encoders::delayed(hub, sequence, format, buffer, wakers);
        let feeder = Feeder::new(Arc::clone(mount), Arc::clone(recording), blocks, reader, legs, history, place);
        Ok(Found::Recorded(Box::new(Replay { encoders, feeder })))
    }
}
