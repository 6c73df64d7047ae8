//! The reason why a stream is not published.

use std::io;

use crate::rendition::encoders::EncoderError;
use crate::sink::publish_form::FormError;

/// The reason why a stream is not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The sound does not fit into the form.
    #[error(transparent)]
    Form(#[from] FormError),
    /// There is no encoder.
    #[error("cannot publish: {0}")]
    Encoder(#[from] EncoderError),
    /// The system gives no more threads, or no more files for the connection.
    #[error("cannot publish: the system refused: {0} (raise the limits of threads and of open files)")]
    System(#[from] io::Error),
}
