//! What was lost, where, and why.

/// Why a consumer did not get an item that it was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
// As wide as what stands beside it in a delivery: an odd byte would make the compiler move the rest in odd pieces,
// which stalls the processor for longer than everything else that a delivery costs.
#[repr(u64)]
pub enum Loss {
    /// The consumer's ring was full.
    Overflow,
    /// It was queued, but the consumer came back so late that it skipped to live ([`Overflow::SkipToLive`]).
    ///
    /// [`Overflow::SkipToLive`]: crate::Overflow::SkipToLive
    Skipped,
    /// It was queued, but the consumer was told to go on with the newest
    /// ([`Consumer::skip_to_newest`](crate::Consumer::skip_to_newest)).
    Late,
    /// A newer one replaced it before it was taken ([`Overflow::Latest`]).
    ///
    /// [`Overflow::Latest`]: crate::Overflow::Latest
    Conflated,
    /// It never reached the fan-out: lost at the capture, or by an encoder that fell behind.
    Source,
    /// It was asked for, but the history no longer had it.
    History,
}

impl Loss {
    /// All reasons, in the order of [`LossCounts`].
    pub const ALL: [Self; 6] =
        [Self::Overflow, Self::Skipped, Self::Late, Self::Conflated, Self::Source, Self::History];

    /// The reason in one lower-case word, as metrics and JSON show it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Overflow => "overflow",
            Self::Skipped => "skipped",
            Self::Late => "late",
            Self::Conflated => "conflated",
            Self::Source => "source",
            Self::History => "history",
        }
    }
}

/// Lost items by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LossCounts {
    by_reason: [u64; Loss::ALL.len()],
    total: u64,
}

impl LossCounts {
    /// How many were lost for `reason`.
    #[must_use]
    pub const fn of(&self, reason: Loss) -> u64 {
        self.by_reason[reason as usize]
    }

    /// How many were lost in all.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }

    pub(crate) const fn add(&mut self, reason: Loss, count: u64) {
        self.by_reason[reason as usize] += count;
        self.total += count;
    }

    /// The reason for most of it; `Overflow` if nothing was lost.
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
    /// How many are missing in a row; at least 1.
    pub blocks: u64,
    /// Why, or why for most of them.
    pub reason: Loss,
}
