//! A finding in a stream.

use aircheck_api::GapNotice;

/// A finding in a stream.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Item {
    /// A block is complete, or a packet that ends in it.
    Block {
        /// Its number.
        sequence: u64,
        /// Position of its first frame, if the stream tells it.
        position: Option<u64>,
        /// When that was captured, in nanoseconds of Unix time by the server's clock.
        captured_at_nanos: u64,
    },
    /// A loss that the server announces.
    Gap(GapNotice),
    /// Frames of sound whose position follows the last one.
    Sound {
        /// Their number at 48 kHz.
        frames: u64,
    },
    /// Frames that are missing before the next sound.
    Hole {
        /// Their number at 48 kHz.
        frames: u64,
    },
}
