//! Lost items: the reasons, the counts, and a gap as a consumer sees it.

/// The reason why a consumer did not get an item that it was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
// As wide as its neighbours in a delivery. With a single byte here, the compiler moves the rest in odd pieces, and the
// processor then stalls for longer than the whole delivery takes.
#[repr(u64)]
pub enum Loss {
    /// The consumer's ring was full.
    Overflow,
    /// It was queued, but the consumer was so late that it skipped to live ([`OverflowPolicy::SkipToLive`]).
    ///
    /// [`OverflowPolicy::SkipToLive`]: crate::OverflowPolicy::SkipToLive
    SkippedToLive,
    /// It was queued, but the consumer skipped to the newest item on request
    /// ([`Consumer::skip_to_newest`](crate::Consumer::skip_to_newest)).
    SkippedToNewest,
    /// A newer item replaced it before it was taken ([`OverflowPolicy::Latest`]).
    ///
    /// [`OverflowPolicy::Latest`]: crate::OverflowPolicy::Latest
    Conflated,
    /// It never reached the fan-out: lost at the capture, or by an encoder that fell behind.
    Source,
    /// The consumer started before the oldest item in the history.
    History,
}

impl Loss {
    /// All reasons, in the order of [`LossCounts`].
    pub const ALL: [Self; 6] =
        [Self::Overflow, Self::SkippedToLive, Self::SkippedToNewest, Self::Conflated, Self::Source, Self::History];

    /// Returns the reason in one lower-case word, as metrics and JSON show it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Overflow => "overflow",
            Self::SkippedToLive => "skipped",
            Self::SkippedToNewest => "late",
            Self::Conflated => "conflated",
            Self::Source => "source",
            Self::History => "history",
        }
    }
}

/// Number of lost items by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LossCounts {
    by_reason: [u64; Loss::ALL.len()],
    total: u64,
}

impl LossCounts {
    /// Returns how many were lost for `reason`.
    #[must_use]
    pub const fn of(&self, reason: Loss) -> u64 {
        self.by_reason[reason as usize]
    }

    /// Returns how many were lost in all.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// Adds lost items.
    pub const fn add(&mut self, reason: Loss, count: u64) {
        self.by_reason[reason as usize] += count;
        self.total += count;
    }

    /// Returns the reason for most losses; `Overflow` if there are none.
    pub(crate) fn main_reason(&self) -> Loss {
        let mut main = Loss::Overflow;
        for reason in Loss::ALL {
            if self.of(reason) > self.of(main) {
                main = reason;
            }
        }
        main
    }
}

/// A run of sequence numbers that a consumer never gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first sequence number that is missing.
    pub from: u64,
    /// How many sequence numbers are missing in a row; at least 1. An item made from several blocks has one for each.
    pub items: u64,
    /// The reason, or the one for most of them.
    pub reason: Loss,
}
