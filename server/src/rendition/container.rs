//! Containers: how packets become the bytes of one listener's stream.
//!
//! [`framing`] chooses among them for a listener; [`wav`], [`flac`] and [`ogg`] are files without an end,
//! [`icy`] has metadata between the bytes of MP3, [`titles`] notices of it elsewhere, and [`message`] the messages of the WebSocket. [`mp4`] is
//! for files of some seconds each.

pub mod flac;
pub mod framing;
pub mod icy;
pub mod message;
pub mod mp4;
pub mod ogg;
pub mod titles;
pub mod wav;
