//! What can be sent of a mount.

pub mod codec;
pub mod container;
pub mod encoder;
pub mod encoders;
pub mod name;
