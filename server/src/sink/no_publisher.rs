//! In place of the publisher, in a build without the feature `nats`: there is none, because no settings name a subject.

use std::sync::Arc;
use std::time::Duration;

use aircheck_engine::Stream;

use crate::config::PublishConfig;
use crate::hop::account::PublishAccount;
use crate::hop::message::HopFormat;
use crate::metadata::MetadataLog;
use crate::rendition::encoders::Encoders;
use crate::sink::publish_error::PublishError;

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
        _: &PublishConfig,
        _: &Stream,
        _: &Arc<Encoders>,
        _: u64,
        _: &Arc<MetadataLog>,
    ) -> Result<Option<Self>, PublishError> {
        Ok(None)
    }

    /// Returns the account of a publisher.
    #[must_use]
    pub fn account(&self) -> &Arc<PublishAccount> {
        match *self {}
    }

    /// Returns the format of the blocks that others get.
    #[must_use]
    pub fn hop_format(&self) -> HopFormat {
        match *self {}
    }

    /// Ends a publisher.
    pub fn close(&self) {
        match *self {}
    }

    /// Waits for a publisher.
    #[must_use]
    pub fn finish(self, _: Duration) -> bool {
        match self {}
    }
}
