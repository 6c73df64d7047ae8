//! From the bytes of a stream to what they say. Only headers are looked at: a load test of a thousand listeners has no
//! time for samples. Nothing is kept of what was read but the header that is not whole yet.

mod frames;
mod lines;
mod pages;
mod plain;

pub(crate) use frames::{Frames, Sent, masked};
pub(crate) use lines::Lines;
pub(crate) use pages::Pages;
pub(crate) use plain::Plain;

use crate::client::block::Gap;

/// What a stream says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Item {
    /// All of a block is there, or of a packet that ends in it.
    Block {
        /// Its number.
        sequence: u64,
        /// Position of its first frame, where that is told.
        position: Option<u64>,
        /// When that was captured, in nanoseconds of Unix time by the server's clock.
        captured_at_ns: u64,
    },
    /// A loss, as the server announces it.
    Gap(Gap),
    /// What time it was at the server when it read the question that was asked at `asked`.
    Clock {
        /// As it was sent with the question.
        asked: f64,
        /// Unix seconds.
        now: f64,
    },
    /// So many frames of sound, in positions that follow each other.
    Sound {
        /// At 48 kHz.
        frames: u64,
    },
    /// So many frames are missing before what comes next.
    Hole {
        /// At 48 kHz.
        frames: u64,
    },
    /// What a WebSocket must answer with the same bytes.
    Ping(Vec<u8>),
    /// The WebSocket is closed, with this code and reason; 1005 stands for none.
    Closed {
        /// As RFC 6455 has them.
        code: u16,
        /// As the server says it.
        why: String,
    },
}

/// One stream as it is read.
#[derive(Debug)]
pub(crate) enum Reader {
    /// Bytes.
    Plain(Plain),
    /// Lines of JSON, or events that hold them.
    Lines(Lines),
    /// Frames of a WebSocket.
    Frames(Frames),
    /// Pages of Ogg.
    Pages(Pages),
}

impl Reader {
    /// Takes in what arrived, and tells what it says.
    ///
    /// # Errors
    ///
    /// A sentence about what makes no sense; after that there is nothing to go on with.
    pub(crate) fn push(&mut self, bytes: &[u8], tell: &mut dyn FnMut(Item)) -> Result<(), String> {
        match self {
            Self::Plain(plain) => plain.push(bytes),
            Self::Lines(lines) => return lines.push(bytes, tell),
            Self::Frames(frames) => return frames.push(bytes, tell),
            Self::Pages(pages) => return pages.push(bytes, tell),
        }
        Ok(())
    }
}
