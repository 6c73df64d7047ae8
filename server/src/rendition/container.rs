//! Containers: how packets become the bytes of one listener's stream.
//!
//! [`framing`] chooses among them for a listener; [`wav`], [`flac`] and [`ogg`] are files without an end,
//! [`icy`] has metadata between the bytes of MP3, [`notices`] are what tells of it and of other things elsewhere, by the [`titles`] that a
//! listener was told, and [`message`] has the messages of the WebSocket. [`mp4`] is for files of some seconds each.

pub mod flac;
pub mod framing;
pub mod icy;
pub mod message;
pub mod mp4;
pub mod notices;
pub mod ogg;
pub mod titles;
pub mod wav;
