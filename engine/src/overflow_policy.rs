//! Policies for a consumer that does not keep up.

use std::fmt;
use std::str::FromStr;

/// Policy for a consumer whose ring is full.
///
/// ```
/// use aircheck_engine::OverflowPolicy;
///
/// assert_eq!("latest".parse(), Ok(OverflowPolicy::Latest));
/// assert_eq!(OverflowPolicy::default().to_string(), "skip-to-live");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OverflowPolicy {
    /// New items are refused and counted. When the consumer takes items again, it skips the stale ones, sees one gap,
    /// and goes on at the live head. For players.
    #[default]
    SkipToLive,
    /// New items are refused and counted; the queued ones are still delivered in order.
    DropNewest,
    /// Only the newest item is kept. For meters and tickers.
    Latest,
    /// The consumer receives its queued items, and then its end.
    Disconnect,
    /// The source waits for this consumer. Refused for a live source, which cannot wait.
    Block,
}

impl OverflowPolicy {
    /// All policies.
    pub const ALL: [Self; 5] = [Self::SkipToLive, Self::DropNewest, Self::Latest, Self::Disconnect, Self::Block];

    /// Returns the policy as users write it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::SkipToLive => "skip-to-live",
            Self::DropNewest => "drop-newest",
            Self::Latest => "latest",
            Self::Disconnect => "disconnect",
            Self::Block => "block",
        }
    }
}

impl fmt::Display for OverflowPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// A word that is not an overflow policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an overflow policy (there are skip-to-live, drop-newest, latest, disconnect and block)")]
pub struct UnknownOverflowPolicy(String);

impl FromStr for OverflowPolicy {
    type Err = UnknownOverflowPolicy;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|policy| policy.label() == word)
            .ok_or_else(|| UnknownOverflowPolicy(word.to_owned()))
    }
}
