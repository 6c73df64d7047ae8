//! Lost items: the reasons, the counts, and a gap as a consumer sees it.

use strum::IntoStaticStr;

/// The reason why a consumer did not get an item that it was offered.
// Eight bytes, as each other field of a delivery. With one byte, a delivery is copied in pieces of odd lengths, and the
// processor waits longer for these than a whole delivery takes.
#[repr(u64)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
#[non_exhaustive]
pub enum Loss {
    /// The consumer's ring was full.
    Overflow,
    /// The item was queued, but the policy [`SkipToLive`](crate::OverflowPolicy::SkipToLive) skipped it, because the
    /// consumer was too far behind. Its label is `skipped`.
    #[strum(serialize = "skipped")]
    SkippedToLive,
    /// The item was queued, but the consumer requested the newest one
    /// ([`Consumer::skip_to_newest`](crate::Consumer::skip_to_newest)). Its label is `late`.
    #[strum(serialize = "late")]
    SkippedToNewest,
    /// A newer item replaced it before it was taken, by the policy `Latest`.
    Conflated,
    /// The item never reached the publisher: lost at the capture, or by an encoder that fell behind.
    Source,
    /// The consumer started before the oldest item in the history.
    History,
    /// The item was captured by another server, and did not come from there.
    Hop,
}

impl Loss {
    /// All reasons, in the order of [`LossCounts`].
    pub const ALL: &'static [Self] = &[
        Self::Overflow,
        Self::SkippedToLive,
        Self::SkippedToNewest,
        Self::Conflated,
        Self::Source,
        Self::History,
        Self::Hop,
    ];

    /// Returns the reason in one lower-case word, as metrics and JSON show it.
    ///
    /// ```
    /// use aircheck_engine::Loss;
    ///
    /// let labels = Loss::ALL.iter().map(|reason| reason.label());
    /// assert!(labels.eq(["overflow", "skipped", "late", "conflated", "source", "history", "hop"]));
    /// ```
    #[must_use]
    pub fn label(self) -> &'static str {
        self.into()
    }
}

/// Number of lost items by reason.
///
/// ```
/// use aircheck_engine::{Loss, LossCounts};
///
/// let mut lost = LossCounts::default();
/// lost.add(Loss::Overflow, 3);
/// lost.add(Loss::Source, 1);
/// assert_eq!((lost.of(Loss::Overflow), lost.of(Loss::History), lost.total()), (3, 0, 4));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LossCounts {
    by_reason: [u64; Loss::ALL.len()],
    total: u64,
}

impl LossCounts {
    /// Returns how many were lost for `reason`.
    ///
    /// ```
    /// use aircheck_engine::{Loss, LossCounts};
    ///
    /// let mut lost = LossCounts::default();
    /// lost.add(Loss::Overflow, 3);
    /// assert_eq!((lost.of(Loss::Overflow), lost.of(Loss::Source)), (3, 0));
    /// ```
    #[must_use]
    pub const fn of(&self, reason: Loss) -> u64 {
        self.by_reason[reason as usize]
    }

    /// Returns how many were lost in all.
    ///
    /// ```
    /// use aircheck_engine::{Loss, LossCounts};
    ///
    /// let mut lost = LossCounts::default();
    /// lost.add(Loss::Overflow, 3);
    /// lost.add(Loss::Source, 1);
    /// assert_eq!(lost.total(), 4);
    /// ```
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// Adds lost items. More than a `u64` counts stay its largest number.
    ///
    /// ```
    /// use aircheck_engine::{Loss, LossCounts};
    ///
    /// let mut lost = LossCounts::default();
    /// lost.add(Loss::Overflow, 3);
    /// lost.add(Loss::Overflow, 2);
    /// assert_eq!(lost.of(Loss::Overflow), 5);
    /// ```
    pub const fn add(&mut self, reason: Loss, count: u64) {
        self.by_reason[reason as usize] = self.by_reason[reason as usize].saturating_add(count);
        self.total = self.total.saturating_add(count);
    }
}

/// The losses of one gap by reason. Short, because a publisher goes over thousands of rings for each item, each of which has one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct GapLosses {
    /// In 32 bits: of more losses than that counts, as many count, because only the largest number matters.
    by_reason: [u32; Loss::ALL.len()],
}

impl GapLosses {
    pub(crate) fn add(&mut self, reason: Loss, count: u64) {
        let sum = &mut self.by_reason[reason as usize];
        *sum = sum.saturating_add(count.try_into().unwrap_or(u32::MAX));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_reason == [0; Loss::ALL.len()]
    }

    /// Returns the reason for most losses; `Overflow` if there are none.
    pub(crate) fn main_reason(&self) -> Loss {
        let mut main = Loss::Overflow;
        for reason in Loss::ALL {
            if self.by_reason[*reason as usize] > self.by_reason[main as usize] {
                main = *reason;
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
