//! The renditions of a mount: encodings, the threads that make them, and containers.
//!
//! An [`encoding`] says what is made of blocks. The [`encoders`] that are in use each run an [`encoder`] on a thread of
//! their own, which gathers blocks into a [`packet`] with a [`codec`], framed once for all listeners. A [`doorbell`] wakes
//! the threads that deliver it, and a [`packet_log`] remembers where it ends. A [`container`] has what is a listener's own:
//! the header, notices of gaps, and the numbers of its pages. [`content_type`] names it in HTTP.

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
