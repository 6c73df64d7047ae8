//! The names under which delivery still imports these modules.

pub use super::container::framing;
pub use super::{encoder, encoders};
