//! In place of the publisher, in a build without the feature `nats`: there is none, because no settings name a subject.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use aircheck_engine::Stream;

use crate::config::NatsUrl;
use crate::hop::account::PublishAccount;
use crate::metadata::MetadataLog;

/// A publisher that there cannot be.
#[derive(Debug)]
pub enum Publisher {}

impl Publisher {
    /// Starts none.
    ///
    /// # Errors
    ///
    /// Never.
    pub fn start(
        _: &NatsUrl,
        _: Option<Duration>,
        _: &Stream,
        _: u64,
        _: &Arc<MetadataLog>,
    ) -> io::Result<Option<Self>> {
        Ok(None)
    }

    /// Returns the account of a publisher.
    #[must_use]
    pub fn account(&self) -> &Arc<PublishAccount> {
        match *self {}
    }

    /// Ends a publisher.
    pub fn close(&self) {
        match *self {}
    }
}
