//! Makes the segments of one variant while somebody asks for them.
//!
//! A packager is a consumer of the encoder that listeners have too, with an account of its own, on a thread of its own. It starts with the
//! first request and takes what the history has, so the first player need not wait, and it ends when no request has come for a while.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use aircheck_engine::{
    Consumer, EndReason, OverflowPolicy, Start, Stats, SubscribeError, SubscribeOptions, TryRecvError,
};
use bytes::Bytes;
use tokio::sync::watch;

use crate::rendition::codec::CodecError;
use crate::rendition::encoders::{EncoderError, Encoders, Subscription, Tail};
use crate::rendition::packet::Packet;
use crate::sink::hls::segmenter::Segmenter;
use crate::sink::hls::variant::{Recipe, Variant};
use crate::sink::hls::window::{Found, LISTED, SEGMENT_SPAN, Segment, Window};

/// Time without a request after which no more segments are made. A player asks each two seconds, and more than a playlist's length later it
/// has to begin anew anyway.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// Time between two looks whether somebody still asks, while no sound comes.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Sound that may wait for a packager on a busy machine before it loses blocks. At a block of 1 ms that takes 64 KB.
const BUFFER: Duration = Duration::from_secs(4);

/// The reason why there are no segments.
#[derive(Debug, thiserror::Error)]
pub enum HlsError {
    /// The sound cannot be had in this coding.
    #[error("{0}")]
    Coding(String),
    /// The stream has ended before somebody asked.
    #[error("the stream has ended")]
    Ended,
    /// The system gives no thread.
    #[error("cannot start a thread for HLS: {0} (raise the limit of threads)")]
    Thread(#[from] io::Error),
}

/// The segments of a playlist.
#[derive(Clone, Debug)]
pub struct Listing {
    /// The segments, whose numbers follow each other; at least one.
    pub segments: Vec<Segment>,
    /// Whether no more will come.
    pub is_ended: bool,
}

/// The account of a packager: at every moment `offered = delivered + lost + queued`, in blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Blocks offered to it.
    pub offered: u64,
    /// Blocks that it took, and that the source has delivered.
    pub delivered: u64,
    /// Blocks that are silence in the segments or in none of them.
    pub lost: u64,
    /// Blocks that wait for it.
    pub queued: u64,
    /// Segments that it has made.
    pub segments: u64,
    /// Requests for the playlist.
    pub playlist_requests: u64,
    /// Requests for segments and for the header before them.
    pub segment_requests: u64,
    /// Whether it makes segments now.
    pub is_running: bool,
}

/// The packager of one variant of a mount.
#[derive(Debug)]
pub struct Packager {
    variant: Variant,
    recipe: Result<Recipe, String>,
    encoders: Arc<Encoders>,
    /// Blocks of the past with which it starts.
    back: u64,
    state: Mutex<State>,
    /// Told of each segment, and of the end.
    changed: watch::Sender<()>,
}

#[derive(Debug)]
struct State {
    window: Window,
    /// The account of the run, while there is one.
    run: Option<Arc<Stats>>,
    /// Blocks of this run that the source did not deliver.
    missing: u64,
    /// The account of the runs before.
    before: Account,
    asked_at: Instant,
    is_ended: bool,
}

impl Packager {
    /// Makes the packager of `variant` for blocks of `encoders`, which makes nothing yet. It starts up to `history` back.
    pub(super) fn new(
        variant: Variant,
        recipe: Result<Recipe, CodecError>,
        encoders: Arc<Encoders>,
        history: Duration,
    ) -> Arc<Self> {
        let playlist = SEGMENT_SPAN * LISTED as u32;
        let back = recipe.as_ref().map_or(0, |recipe| recipe.format.blocks_in(history.min(playlist)));
        let state = State {
            window: Window::default(),
            run: None,
            missing: 0,
            before: Account::default(),
            asked_at: Instant::now(),
            is_ended: false,
        };
        let recipe = recipe.map_err(|error| error.to_string());
        Arc::new(Self { variant, recipe, encoders, back, state: Mutex::new(state), changed: watch::Sender::new(()) })
    }

    /// Returns its variant.
    #[must_use]
    pub fn variant(&self) -> Variant {
        self.variant
    }

    /// Returns the most bits that a second of it takes; `None` if the sound cannot be had in this coding.
    #[must_use]
    pub fn bandwidth(&self) -> Option<u64> {
        self.recipe.as_ref().ok().map(Recipe::bandwidth)
    }

    /// Returns the header that a player needs before the first segment.
    ///
    /// # Errors
    ///
    /// When the sound cannot be had in this coding.
    pub fn header(&self) -> Result<Bytes, HlsError> {
        self.note_request(|account| &mut account.segment_requests);
        self.recipe()?.track.header().map_err(|error| HlsError::Coding(error.to_string()))
    }

    /// Returns the segment with this number.
    #[must_use]
    pub fn segment(&self, number: u64) -> Found {
        self.note_request(|account| &mut account.segment_requests);
        self.state().window.find(number)
    }

    /// Returns the segments of the playlist, and starts to make them if nobody has asked before. Waits until there is one, as long as the
    /// caller does.
    ///
    /// # Errors
    ///
    /// When the sound cannot be had in this coding, or not at all.
    pub async fn listing(self: &Arc<Self>) -> Result<Listing, HlsError> {
        self.note_request(|account| &mut account.playlist_requests);
        let mut changed = self.changed.subscribe();
        loop {
            {
                let mut state = self.state();
                state.asked_at = Instant::now();
                if state.run.is_none() && !state.is_ended {
                    self.start(&mut state)?;
                }
                let segments: Vec<_> = state.window.listed().cloned().collect();
                if !segments.is_empty() {
                    return Ok(Listing { segments, is_ended: state.is_ended });
                }
                if state.is_ended {
                    return Err(HlsError::Ended);
                }
            }
            // Its sender is this packager's own.
            let _ = changed.changed().await;
        }
    }

    /// Returns its account, of all its runs together.
    #[must_use]
    pub fn account(&self) -> Account {
        let state = self.state();
        let mut account = state.before;
        if let Some(stats) = &state.run {
            add(&mut account, stats, state.missing);
        }
        Account { is_running: state.run.is_some(), ..account }
    }

    fn recipe(&self) -> Result<Recipe, HlsError> {
        self.recipe.as_ref().copied().map_err(|why| HlsError::Coding(why.clone()))
    }

    fn note_request(&self, count: impl FnOnce(&mut Account) -> &mut u64) {
        let mut state = self.state();
        state.asked_at = Instant::now();
        *count(&mut state.before) += 1;
    }

    fn start(self: &Arc<Self>, state: &mut State) -> Result<(), HlsError> {
        let recipe = self.recipe()?;
        let options = SubscribeOptions {
            overflow: OverflowPolicy::DropNewest,
            buffer: recipe.format.blocks_in(BUFFER) as usize,
            start: Start::Back(self.back),
            histograms: false,
        };
        // The doorbell is for delivery threads, and dropped: this consumer has a thread of its own.
        let subscribed = self.encoders.subscribe(recipe.encoding, recipe.group, 0, options);
        let Subscription { packets, tail, .. } = subscribed.map_err(|refused| match refused {
            EncoderError::Subscribe(SubscribeError::Ended) => HlsError::Ended,
            EncoderError::Thread(error) => HlsError::Thread(error),
            refused => HlsError::Coding(refused.to_string()),
        })?;
        let segmenter = Segmenter::new(recipe, state.window.next());
        let segmenter = segmenter.map_err(|error| HlsError::Coding(error.to_string()))?;
        let stats = Arc::clone(packets.stats());
        let run = Run { packager: Arc::clone(self), stats: Arc::clone(&stats), segmenter, packets, tail };
        thread::Builder::new().name("hls".into()).spawn(move || run.run())?;
        state.run = Some(stats);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Ends the run with this account, if it is not ended yet.
    fn end_run(&mut self, stats: &Arc<Stats>) {
        if self.run.take_if(|run| Arc::ptr_eq(run, stats)).is_none() {
            return;
        }
        add(&mut self.before, stats, std::mem::take(&mut self.missing));
        // It is never taken.
        self.before.lost += std::mem::take(&mut self.before.queued);
        if !self.is_ended {
            self.window.clear();
        }
    }
}

/// Adds the account of a run to that of all runs. `missing` blocks were delivered as silence, because the source did not have them.
fn add(account: &mut Account, stats: &Stats, missing: u64) {
    let snapshot = stats.snapshot();
    let missing = missing.min(snapshot.delivered);
    account.offered += snapshot.offered;
    account.delivered += snapshot.delivered - missing;
    account.lost += snapshot.lost.total() + missing;
    account.queued += snapshot.queued;
}

/// The thread that makes segments.
struct Run {
    packager: Arc<Packager>,
    stats: Arc<Stats>,
    segmenter: Segmenter,
    packets: Consumer<Packet>,
    tail: Tail,
}

impl Run {
    fn run(mut self) {
        let mut made = Vec::new();
        while !self.end_if_idle() {
            match self.packets.recv_timeout(LOOK_INTERVAL) {
                Ok(delivery) => {
                    if delivery.item.loss().is_some() {
                        self.packager.state().missing += delivery.item.stamp.blocks();
                    }
                    self.segmenter.push(&delivery.item, &mut made);
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Ended(end)) => {
                    let is_ended = matches!(end.reason, EndReason::Finished | EndReason::Failed);
                    if is_ended {
                        self.segmenter.finish(self.tail.get().and_then(Option::as_ref), &mut made);
                    }
                    self.publish(&mut made, is_ended);
                    return;
                }
            }
            // The history comes all at once, and the first player gets all of it.
            if !made.is_empty() && self.packets.queued_items() == 0 {
                self.publish(&mut made, false);
            }
        }
    }

    fn publish(&self, made: &mut Vec<Segment>, is_ended: bool) {
        let mut state = self.packager.state();
        state.before.segments += made.len() as u64;
        made.drain(..).for_each(|segment| state.window.push(segment));
        state.is_ended |= is_ended;
        drop(state);
        self.packager.changed.send_replace(());
    }

    /// Ends the run if nobody has asked for a while. The next request starts another one.
    fn end_if_idle(&self) -> bool {
        let mut state = self.packager.state();
        let is_idle = state.asked_at.elapsed() >= IDLE_TIMEOUT;
        if is_idle {
            state.end_run(&self.stats);
        }
        is_idle
    }
}

/// Also when the thread panics.
impl Drop for Run {
    fn drop(&mut self) {
        self.packager.state().end_run(&self.stats);
        self.packager.changed.send_replace(());
    }
}
