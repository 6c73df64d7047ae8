//! Another server as the source: what it publishes on a subject of NATS.
//!
//! Its blocks keep their sequence numbers and, on this server's clock, the times of their capture. The connection is made again
//! whenever it is lost. Blocks that have not come are fetched from the replay of the subject, if there is one and they come in time; else
//! the supervisor fills the hole, as for any source that pauses. The history of a server that starts is fetched from there, too.

mod link;
mod taker;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use aircheck_engine::Capture;
use aircheck_engine::source::{Running, Source, SourceError};

use self::link::{First, OpenLink, PastBlock, first_block, first_clock, first_past, subscribe};
use self::taker::{Found, Taker};
use crate::config::{CaptureConfig, NatsUrl};
use crate::hop::account::HopAccount;
use crate::hop::message::Coding;
use crate::metadata::MetadataLog;

/// How long a stop waits for the thread.
const STOP_TIMEOUT: Duration = Duration::from_millis(500);

/// What another server publishes, after its first block has come.
pub(crate) struct NatsSource {
    link: OpenLink,
    found: Found,
    first: First,
    /// Where the history begins, if there is any.
    past: Option<PastBlock>,
}

impl NatsSource {
    /// Connects, and waits for the first block. Titles go to `metadata`.
    ///
    /// # Errors
    ///
    /// Why nothing comes, in one line for people.
    pub(crate) fn open(url: &NatsUrl, config: &CaptureConfig, metadata: &Arc<MetadataLog>) -> Result<Self, String> {
        // The caller may be in a runtime itself, whose thread must not run another one.
        let opened = thread::scope(|scope| scope.spawn(|| Self::open_here(url, config, metadata)).join());
        opened.unwrap_or_else(|_| Err("opening it has crashed".to_owned()))
    }

    fn open_here(url: &NatsUrl, config: &CaptureConfig, metadata: &Arc<MetadataLog>) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("the system refused: {error}"))?;
        let account = HopAccount::new(url.to_string());
        let hop_wait = config.hop_wait.unwrap_or_default();
        let (link, first, format, (clock, title), past) = runtime.block_on(async {
            let mut link = subscribe(url, hop_wait).await?;
            let first = first_block(&mut link.messages, &account, url).await?;
            let format = first.head.format.to_format().map_err(|error| error.to_string())?;
            let clock = first_clock(&link.connection, url, first.head.epoch).await;
            let past = first_past(&link.connection, url, &first.head, format.blocks_in(config.history)).await;
            Ok::<_, String>((link, first, format, clock, past))
        })?;
        account.connection.connected(false);
        let link = OpenLink { runtime: Some(runtime), link: Some(link) };
        let (url, epoch, metadata) = (url.clone(), first.head.epoch, Arc::clone(metadata));
        let found = Found { url, account, format, epoch, clock, title, metadata, hop_wait };
        Ok(Self { link, found, first, past })
    }

    /// Returns its account.
    pub(crate) fn account(&self) -> &Arc<HopAccount> {
        &self.found.account
    }

    /// Returns the number of the first block that has come live.
    pub(crate) fn first_live(&self) -> u64 {
        self.first.head.sequence
    }

    /// Returns the number of the first block, which may be older than this server.
    pub(crate) fn first_sequence(&self) -> u64 {
        self.past.as_ref().map_or(self.first.head.sequence, |past| past.head.sequence)
    }

    /// Returns the length of its blocks.
    pub(crate) fn block_span(&self) -> Duration {
        self.found.format.block_span()
    }
}

impl Source for NatsSource {
    fn rate_hz(&self) -> u32 {
        self.found.format.rate_hz()
    }

    fn channels(&self) -> u16 {
        self.found.format.channels()
    }

    fn sample_bits(&self) -> Option<u16> {
        self.first.head.coding.and_then(Coding::sample_bits)
    }

    fn description(&self) -> String {
        format!("aircheck through {}", self.found.url)
    }

    fn start(self: Box<Self>, capture: Capture) -> Result<Box<dyn Running>, SourceError> {
        let Self { mut link, found, first, past } = *self;
        let mut taker = Taker::new(capture, found);
        let stop = Arc::new(Stop::default());
        let (done, ended) = mpsc::channel::<()>();
        let (has_caught_up, caught_up) = mpsc::channel::<()>();
        let stopped = Arc::clone(&stop);
        thread::Builder::new()
            .name("capture".into())
            .spawn(move || {
                if let (Some(runtime), Some(link)) = (link.runtime.as_ref(), link.link.take()) {
                    runtime.block_on(async {
                        tokio::select! {
                            () = stopped.wait() => {}
                            () = taker.run(&first, past, link, has_caught_up) => {}
                        }
                    });
                }
                drop(taker);
                drop(done);
            })
            .map_err(SourceError::Thread)?;
        // Until the history is there, it comes faster than a consumer has to take it.
        let _ = caught_up.recv();
        Ok(Box::new(RunningTaker { stop, ended }))
    }
}

/// Tells the thread to stop.
#[derive(Debug, Default)]
struct Stop {
    is_set: AtomicBool,
    rung: tokio::sync::Notify,
}

impl Stop {
    fn set(&self) {
        self.is_set.store(true, Ordering::Release);
        self.rung.notify_one();
    }

    async fn wait(&self) {
        while !self.is_set.load(Ordering::Acquire) {
            self.rung.notified().await;
        }
    }
}

#[derive(Debug)]
struct RunningTaker {
    stop: Arc<Stop>,
    ended: mpsc::Receiver<()>,
}

impl Running for RunningTaker {
    fn stop(self: Box<Self>) {
        self.stop.set();
        let _ = self.ended.recv_timeout(STOP_TIMEOUT);
    }
}

impl fmt::Debug for NatsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsSource").field("url", &self.found.url).finish_non_exhaustive()
    }
}
