//! In place of the publisher, in a build without the feature `nats`: there is none, because no settings name a subject.

use std::io;
use std::sync::Arc;

use aircheck_engine::Stream;

use crate::config::PublishConfig;
use crate::hop::account::PublishAccount;
use crate::metadata::MetadataLog;
use crate::rendition::encoders::Encoders;
use crate::sink::publish_form::FormError;

/// The reason why a stream is not published, which there cannot be either.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The sound does not fit into the form.
    #[error(transparent)]
    Form(#[from] FormError),
    /// The system gives no more threads.
    #[error(transparent)]
    System(#[from] io::Error),
}

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

    /// Ends a publisher.
    pub fn close(&self) {
        match *self {}
    }
}
