//! The end of a consumer's stream, and its reason.

use strum::IntoStaticStr;

use crate::Gap;

/// The reason why a consumer receives no more items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
#[non_exhaustive]
pub enum EndReason {
    /// The source ended or was stopped, in order.
    Finished,
    /// The source failed. `CaptureStats::failure` says why, from before the first consumer sees this.
    Failed,
    /// The consumer fell behind, and its policy is [`OverflowPolicy::Disconnect`](crate::OverflowPolicy::Disconnect).
    #[strum(serialize = "too slow")]
    TooSlow,
    /// [`Stats::close`](crate::Stats::close) was called.
    Closed,
    /// The consumer was dropped.
    Left,
    /// The producing end was dropped without [`Publisher::finish`](crate::Publisher::finish): its thread ended early.
    Abandoned,
}

impl EndReason {
    /// Returns the reason in a few lower-case words.
    ///
    /// ```
    /// use aircheck_engine::EndReason;
    ///
    /// assert_eq!(EndReason::TooSlow.label(), "too slow");
    /// ```
    #[must_use]
    pub fn label(self) -> &'static str {
        self.into()
    }

    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Finished => 1,
            Self::TooSlow => 2,
            Self::Closed => 3,
            Self::Abandoned => 4,
            Self::Left => 5,
            Self::Failed => 6,
        }
    }

    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Finished),
            2 => Some(Self::TooSlow),
            3 => Some(Self::Closed),
            4 => Some(Self::Abandoned),
            5 => Some(Self::Left),
            6 => Some(Self::Failed),
            _ => None,
        }
    }
}

/// The end of a consumer's items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream has ended: {}", .reason.label())]
pub struct End {
    /// The reason.
    pub reason: EndReason,
    /// The gap between the last delivered item and the end, which no later item can show.
    pub gap: Option<Gap>,
}
