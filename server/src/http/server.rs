//! The server as its requests reach it: mounts, listeners, configuration, metrics and shared documents.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aircheck_engine::Timestamp;
use bytes::Bytes;

use crate::access::policy::{Access, Rules};
use crate::config::Config;
use crate::delivery::histograms::MountHistograms;
use crate::delivery::listeners::Listeners;
use crate::delivery::shards::Shards;
use crate::http::listener_table::{ListenerTable, TABLE_INTERVAL};
use crate::http::shared::Shared;
use crate::http::trusted_proxies::TrustedProxies;
use crate::mount::Mount;
use crate::notify::Notifier;
use crate::rendition::encoders::Encoders;
use crate::replay::Replays;
use crate::sink::recorder::Recording;
use crate::telemetry::metrics::{Exposition, Metrics, MountView};

/// The status that is pushed to pages is made at most this often: twice for each of its events.
const STATUS_INTERVAL: Duration = Duration::from_millis(100);
/// How far an encoder may fall behind before it skips to live.
const ENCODER_BUFFER: Duration = Duration::from_secs(1);

/// The mounts, the listeners, the configuration and the metrics of one process.
#[derive(Debug)]
pub struct Server {
    config: Config,
    access: Access,
    started_at: Timestamp,
    /// Never empty.
    mounts: Vec<Arc<ServedMount>>,
    listeners: Arc<Listeners>,
    shards: Arc<Shards>,
    metrics: Metrics,
    notifier: Arc<Notifier>,
    table: Shared<ListenerTable>,
    worst: Shared<ListenerTable>,
    status: Shared<Bytes>,
    urls: OnceLock<Vec<String>>,
    trusted_proxies: TrustedProxies,
}

/// A mount and its consumers.
#[derive(Debug)]
pub struct ServedMount {
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
}

impl ServedMount {
    /// Serves a mount with the settings of `config`. Its encoders wake these shards.
    #[must_use]
    pub fn new(mount: Arc<Mount>, recording: Option<Arc<Recording>>, config: &Config, shards: &Shards) -> Self {
        let format = mount.format();
        let history = format.blocks_in(config.capture.history) as usize;
        let buffer = format.blocks_in(ENCODER_BUFFER) as usize;
        let encoders = Encoders::new(mount.hub().clone(), format, history, buffer, shards.wakers());
        Self { mount, encoders, histograms: MountHistograms::default(), recording, replays: Replays::default() }
    }
}

impl Server {
    /// Makes a server without listeners. The first of `mounts` is at `/stream*`.
    ///
    /// # Panics
    ///
    /// Without a mount.
    #[must_use]
    pub fn new(
        config: Config,
        access: Access,
        mounts: Vec<ServedMount>,
        shards: Arc<Shards>,
        notifier: Arc<Notifier>,
    ) -> Arc<Self> {
        assert!(!mounts.is_empty(), "a server has a mount");
        let listeners = Listeners::new(config.http.max_listeners);
        let trusted_proxies = TrustedProxies::new(config.http.trusted_proxies.clone());
        let metrics = Metrics::new(mounts.iter().map(|served| &*served.mount));
        Arc::new(Self {
            config,
            access,
            started_at: Timestamp::now(),
            mounts: mounts.into_iter().map(Arc::new).collect(),
            listeners,
            shards,
            metrics,
            notifier,
            table: Shared::new(TABLE_INTERVAL),
            worst: Shared::new(TABLE_INTERVAL),
            status: Shared::new(STATUS_INTERVAL),
            urls: OnceLock::new(),
            trusted_proxies,
        })
    }

    /// Returns the configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the proxies whose word about their clients is taken.
    pub(super) fn trusted_proxies(&self) -> &TrustedProxies {
        &self.trusted_proxies
    }

    /// Returns the tokens and their rules.
    #[must_use]
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Replaces the tokens, and ends the listeners that the new ones do not permit.
    pub fn replace_rules(&self, rules: Rules) {
        self.access.replace(rules.clone());
        self.listeners.end_unpermitted(&rules);
    }

    /// Notes the addresses at which it listens, once.
    pub fn set_urls(&self, urls: Vec<String>) {
        let _ = self.urls.set(urls);
    }

    /// Returns the addresses at which it listens, as URLs.
    #[must_use]
    pub fn urls(&self) -> &[String] {
        self.urls.get().map_or(&[], Vec::as_slice)
    }

    /// Returns when the server started.
    #[must_use]
    pub fn started_at(&self) -> Timestamp {
        self.started_at
    }

    /// Returns the mount at `/stream*`.
    #[must_use]
    pub fn first_mount(&self) -> &Arc<ServedMount> {
        &self.mounts[0]
    }

    /// Returns all mounts.
    #[must_use]
    pub fn mounts(&self) -> &[Arc<ServedMount>] {
        &self.mounts
    }

    /// Returns the listeners of all mounts.
    #[must_use]
    pub fn listeners(&self) -> &Arc<Listeners> {
        &self.listeners
    }

    /// Returns the receivers of notifications.
    #[must_use]
    pub fn notifier(&self) -> &Arc<Notifier> {
        &self.notifier
    }

    /// Returns the shards that write to listeners.
    #[must_use]
    pub fn shards(&self) -> &Arc<Shards> {
        &self.shards
    }

    /// Returns the table of listeners, made after the call.
    pub(super) async fn fresh_table(&self) -> Arc<ListenerTable> {
        self.table.fresh(|now| ListenerTable::look(&self.listeners, now)).await
    }

    /// Returns a table of the listeners furthest behind that is at most [`TABLE_INTERVAL`] old.
    pub(super) fn recent_worst(&self) -> Arc<ListenerTable> {
        self.worst.recent(|now| ListenerTable::look_at_worst(&self.listeners, now))
    }

    /// Returns the last status that was pushed to pages.
    pub(super) fn shared_status(&self) -> &Shared<Bytes> {
        &self.status
    }

    /// Returns the metrics.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Returns all metrics as text.
    #[must_use]
    pub fn render_metrics(&self, exposition: Exposition) -> String {
        let mounts: Vec<_> = self
            .mounts
            .iter()
            .map(|served| MountView {
                mount: &served.mount,
                histograms: &served.histograms,
                recording: served.recording.as_ref().map(|recording| recording.status()),
            })
            .collect();
        self.metrics.render(exposition, &mounts, &self.listeners, &self.shards, self.notifier.totals())
    }
}
