//! Stands in for playing where aircheckctl is built without it.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use aircheck_api::StreamFormat;

use super::stats::{HeardBlock, PlayStats};
use crate::client::Block;
use crate::failure::Failure;

/// An output device. There is none.
#[derive(Debug)]
pub(crate) struct OpenOutput(Infallible);

/// A stream that is played. There is none.
#[derive(Debug)]
pub(crate) struct Player(Infallible);

impl OpenOutput {
    /// Opens nothing.
    ///
    /// # Errors
    ///
    /// Always.
    pub(crate) async fn open(_: Duration) -> Result<Self, Failure> {
        Err(Failure::CannotPlay)
    }
}

impl Player {
    pub(crate) fn new(output: OpenOutput, _: &StreamFormat) -> Result<Self, Failure> {
        match output.0 {}
    }

    pub(crate) fn push(&mut self, _: &Block, _: Instant) -> Result<(), Failure> {
        match self.0 {}
    }

    pub(crate) fn heard(&mut self, _: Instant) -> std::iter::Empty<HeardBlock> {
        match self.0 {}
    }

    pub(crate) fn check(&mut self) -> Result<(), Failure> {
        match self.0 {}
    }

    pub(crate) fn end(&mut self, _: Instant) {
        match self.0 {}
    }

    pub(crate) fn is_over(&mut self, _: Instant) -> bool {
        match self.0 {}
    }

    pub(crate) fn late(&self) -> u64 {
        match self.0 {}
    }

    pub(crate) fn stats(&self) -> PlayStats {
        match self.0 {}
    }
}
