//! The renditions of a mount: encodings, the threads that make them, and containers.
//!
//! An [`encoding`] says what is made of blocks. The [`encoders`] that are in use each run an [`encoder`] on a thread of
//! their own, which makes a packet of each block with a [`codec`], once for all listeners. A [`container`] makes one
//! listener's stream of the packets, and [`content_type`] names it in HTTP.

pub mod codec;
pub mod container;
pub mod content_type;
pub mod doorbell;
pub mod encoder;
pub mod encoders;
pub mod encoding;
pub mod packet;
pub mod packet_log;
#[cfg(test)]
mod test_blocks;
