//! The place that sound comes from, and the mark by which it goes through the capture ring.

use strum::IntoStaticStr;

use crate::Loss;

/// The place that a block's sound comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
#[non_exhaustive]
pub enum Origin {
    /// The source.
    #[default]
    Source,
    /// Nowhere: the source delivered nothing for this time, and the block is silence at its pace, after the fade of what was
    /// heard before. It counts as lost.
    Missing,
    /// The fallback, which is heard instead of a lost source.
    Fallback,
    /// Nowhere, as [`Missing`](Self::Missing): the source is another server, and nothing came from there. It counts as lost.
    Hop,
}

impl Origin {
    /// Returns the origin in one lower-case word.
    ///
    /// ```
    /// use aircheck_engine::Origin;
    ///
    /// assert_eq!(Origin::Missing.label(), "missing");
    /// ```
    #[must_use]
    pub fn label(self) -> &'static str {
        self.into()
    }

    /// Returns the reason for which the block counts as lost, if it is silence in place of sound that did not come.
    ///
    /// ```
    /// use aircheck_engine::{Loss, Origin};
    ///
    /// assert_eq!(Origin::Missing.loss(), Some(Loss::Source));
    /// assert_eq!(Origin::Fallback.loss(), None);
    /// ```
    #[must_use]
    pub const fn loss(self) -> Option<Loss> {
        match self {
            Self::Missing => Some(Loss::Source),
            Self::Hop => Some(Loss::Hop),
            Self::Source | Self::Fallback => None,
        }
    }

    /// The upper bits of a block's length, which is at most a tenth of a second.
    const SHIFT: u32 = 30;
    const FRAMES: u32 = (1 << Self::SHIFT) - 1;

    /// Marks a number of frames with the origin, for the capture ring.
    pub(crate) const fn mark(self, frames: u32) -> u32 {
        frames | (self as u32) << Self::SHIFT
    }

    /// Returns the origin and the frames of a marked number.
    pub(crate) const fn parse(length: u32) -> (Self, u32) {
        let origin = match length >> Self::SHIFT {
            1 => Self::Missing,
            2 => Self::Fallback,
            3 => Self::Hop,
            _ => Self::Source,
        };
        (origin, length & Self::FRAMES)
    }
}
