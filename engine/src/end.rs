//! How a consumer's stream ends, and why.

use crate::Gap;

/// Why a consumer gets nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The source ended or was stopped, in order.
    Finished,
    /// It fell behind and its policy is [`Overflow::Disconnect`](crate::Overflow::Disconnect).
    TooSlow,
    /// Somebody called [`Tally::close`](crate::Tally::close).
    Closed,
    /// The consumer was dropped.
    Left,
    /// The producing side went away without a word: a thread ended early.
    Abandoned,
}

impl EndReason {
    /// The reason in a few lower-case words.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::TooSlow => "too slow",
            Self::Closed => "closed",
            Self::Left => "left",
            Self::Abandoned => "abandoned",
        }
    }

    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Finished => 1,
            Self::TooSlow => 2,
            Self::Closed => 3,
            Self::Abandoned => 4,
            Self::Left => 5,
        }
    }

    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Finished),
            2 => Some(Self::TooSlow),
            3 => Some(Self::Closed),
            4 => Some(Self::Abandoned),
            5 => Some(Self::Left),
            _ => None,
        }
    }
}

/// The end of what a consumer gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream has ended: {}", .reason.label())]
pub struct End {
    /// Why.
    pub reason: EndReason,
    /// What is missing between the last item delivered and the end: a loss that no later item would have shown.
    pub gap: Option<Gap>,
}
