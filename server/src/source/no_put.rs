//! Source clients in a program that was built without decoders: there are none.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use aircheck_engine::source::Reopen;
use bytes::Bytes;

use crate::metadata::MetadataLog;

/// The place where source clients would connect.
#[derive(Debug)]
pub struct PutInput(Infallible);

/// The reason why a client cannot connect: there is no place for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are no source clients")]
pub enum PutRefused {}

/// The connection of a source client.
#[derive(Debug)]
pub struct PutConnection(Infallible);

impl PutInput {
    /// Refuses.
    pub(super) fn open(_rate_hz: u32, _channels: u16, _metadata: Arc<MetadataLog>) -> Result<Arc<Self>, String> {
        Err("this build has no decoders (build it with the feature `decode`)".to_owned())
    }

    /// Is never called.
    pub(super) fn reopener(input: &Arc<Self>) -> Arc<dyn Reopen> {
        match input.0 {}
    }

    /// Is never called.
    ///
    /// # Errors
    ///
    /// None.
    pub fn connect(self: &Arc<Self>, _name: &str, _media_type: &str) -> Result<PutConnection, PutRefused> {
        match self.0 {}
    }

    /// Is never called.
    pub fn close(&self) {
        match self.0 {}
    }
}

impl PutConnection {
    /// Is never called.
    pub async fn send(&self, _part: Bytes) {
        match self.0 {}
    }

    /// Is never called.
    ///
    /// # Errors
    ///
    /// None.
    pub async fn ended(&self) -> Result<(), String> {
        match self.0 {}
    }

    /// Is never called.
    ///
    /// # Errors
    ///
    /// None.
    pub async fn finish(&mut self) -> Result<(), String> {
        match self.0 {}
    }

    /// Is never called.
    #[must_use]
    pub fn silent_for(&self) -> Duration {
        match self.0 {}
    }

    /// Is never called.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        match self.0 {}
    }
}
