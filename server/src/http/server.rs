//! The server as its requests reach it: mounts, listeners, configuration, metrics and shared documents.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aircheck_engine::Timestamp;
use bytes::Bytes;

use crate::access::policy::{Access, Rules};
use crate::audience::gathering::Gathering;
use crate::audience::reporting::Reporting;
use crate::config::Config;
use crate::delivery::listeners::Listeners;
use crate::delivery::shards::Shards;
use crate::http::listener_table::{ListenerTable, TABLE_INTERVAL};
use crate::http::trusted_proxies::TrustedProxies;
use crate::mounts::Mounts;
use crate::notify::Notifier;
use crate::shared::Shared;
use crate::telemetry::metrics::{Exposition, Metrics, MountView, ServerView};

/// The list of mounts that is pushed to pages is made at most this often: twice for each of its events.
const MOUNTS_INTERVAL: Duration = Duration::from_millis(500);
/// And so is the audience of several servers.
const AUDIENCE_INTERVAL: Duration = Duration::from_millis(300);

/// The mounts, the listeners, the configuration and the metrics of one process.
#[derive(Debug)]
pub struct Server {
    config: Config,
    access: Access,
    started_at: Timestamp,
    mounts: Arc<Mounts>,
    listeners: Arc<Listeners>,
    shards: Arc<Shards>,
    metrics: Metrics,
    notifier: Arc<Notifier>,
    table: Shared<ListenerTable>,
    worst: Shared<ListenerTable>,
    mount_list: Shared<Bytes>,
    gathering: Option<Arc<Gathering>>,
    reporting: Option<Arc<Reporting>>,
    audience: Shared<Bytes>,
    urls: OnceLock<Vec<String>>,
    trusted_proxies: TrustedProxies,
}

impl Server {
    /// Makes a server without listeners.
    #[must_use]
    pub fn new(
        config: Config,
        access: Access,
        mounts: Arc<Mounts>,
        shards: Arc<Shards>,
        notifier: Arc<Notifier>,
    ) -> Arc<Self> {
        let listeners = Listeners::new(config.http.max_listeners);
        let trusted_proxies = TrustedProxies::new(config.http.trusted_proxies.clone());
        let started_at = Timestamp::now();
        let run = started_at.unix_nanos().to_string();
        let others = &config.audience;
        let gathering = others.gather.as_ref().map(|url| Gathering::new(url, run.clone()));
        let reporting = others.report.as_ref().map(|url| Reporting::new(url, others.name(), run));
        Arc::new(Self {
            config,
            access,
            started_at,
            mounts,
            listeners,
            shards,
            metrics: Metrics::default(),
            notifier,
            table: Shared::new(TABLE_INTERVAL),
            worst: Shared::new(TABLE_INTERVAL),
            mount_list: Shared::new(MOUNTS_INTERVAL),
            gathering,
            reporting,
            audience: Shared::new(AUDIENCE_INTERVAL),
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

    /// Returns all mounts.
    #[must_use]
    pub fn mounts(&self) -> &Arc<Mounts> {
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

    /// Returns the list of mounts that was pushed to pages last.
    pub(super) fn mount_list(&self) -> &Shared<Bytes> {
        &self.mount_list
    }

    /// Returns what is gathered of the listeners of other servers, if that is to be.
    #[must_use]
    pub fn gathering(&self) -> Option<&Arc<Gathering>> {
        self.gathering.as_ref()
    }

    /// Returns the account of the reports on the listeners here, if there are to be any.
    #[must_use]
    pub fn reporting(&self) -> Option<&Arc<Reporting>> {
        self.reporting.as_ref()
    }

    /// Returns the audience that was pushed to pages last.
    pub(super) fn pushed_audience(&self) -> &Shared<Bytes> {
        &self.audience
    }

    /// Returns the metrics.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Returns all metrics as text.
    #[must_use]
    pub fn render_metrics(&self, exposition: Exposition) -> String {
        let all = self.mounts.all();
        let served: Vec<_> = all.iter().filter_map(|mount| mount.served().ok()).collect();
        let mounts: Vec<_> = served
            .iter()
            .map(|served| MountView {
                mount: &served.mount,
                histograms: &served.histograms,
                hls: &served.hls,
                recording: served.recording().map(|recording| recording.status()),
                hop: served.hop(),
                publish: served.publishing().map(|account| account.status()),
                pushes: served.pushes.statuses(),
            })
            .collect();
        let is_served = |name: &str| mounts.iter().any(|view| view.mount.name() == name);
        let unopened: Vec<_> = all.iter().map(|mount| mount.name()).filter(|name| !is_served(name)).collect();
        let view = ServerView {
            listeners: &self.listeners,
            shards: &self.shards,
            notifications: self.notifier.totals(),
            gathering: self.gathering.as_deref(),
            reporting: self.reporting.as_deref(),
        };
        self.metrics.render(exposition, &mounts, &unopened, &view)
    }
}
