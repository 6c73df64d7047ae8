//! The account of the reports that this server sends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aircheck_api::ReportStatus;

use crate::config::NatsUrl;
use crate::hop::account::Connection;

/// The reports of this server.
#[derive(Debug)]
pub struct Reporting {
    url: NatsUrl,
    name: String,
    /// The run of this server.
    run: String,
    /// The connection to NATS.
    pub connection: Connection,
    sent: AtomicU64,
}

impl Reporting {
    /// Makes the account of reports at a subject under this name and in this run.
    #[must_use]
    pub fn new(url: &NatsUrl, name: String, run: String) -> Arc<Self> {
        let (connection, sent) = Default::default();
        Arc::new(Self { url: url.clone(), name, run, connection, sent })
    }

    /// Returns the server and the subject below which reports go.
    #[must_use]
    pub fn url(&self) -> &NatsUrl {
        &self.url
    }

    /// Returns the run of this server.
    #[must_use]
    pub fn run(&self) -> &str {
        &self.run
    }

    /// Returns the subject of the reports.
    #[must_use]
    pub fn subject(&self) -> String {
        format!("{}.{}", self.url.subject(), self.name)
    }

    /// Counts a report that was handed to NATS.
    pub fn count(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the state of it.
    #[must_use]
    pub fn status(&self) -> ReportStatus {
        ReportStatus {
            to: self.url.to_string(),
            name: self.name.clone(),
            is_connected: self.connection.is_connected(),
            failure: self.connection.reason(),
            reconnects: self.connection.reconnects(),
            sent: self.sent.load(Ordering::Relaxed),
        }
    }
}
