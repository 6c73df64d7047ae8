//! Policies for a consumer that does not keep up.

use strum::{Display, EnumString, IntoStaticStr};

/// Policy for a consumer whose ring is full.
///
/// ```
/// use aircheck_engine::OverflowPolicy;
///
/// assert_eq!("drop-newest".parse(), Ok(OverflowPolicy::DropNewest));
/// assert_eq!(OverflowPolicy::default().to_string(), "skip-to-live");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Display, EnumString, IntoStaticStr)]
#[strum(serialize_all = "kebab-case", parse_err_ty = UnknownOverflowPolicy, parse_err_fn = UnknownOverflowPolicy::new)]
#[non_exhaustive]
pub enum OverflowPolicy {
    /// New items are refused and counted. When the consumer takes items again, it skips the stale ones, sees one gap,
    /// and goes on at the live head. For players.
    #[default]
    SkipToLive,
    /// New items are refused and counted; the queued ones are still delivered in order.
    DropNewest,
    /// Only the newest item is kept. For meters and tickers. Needs the feature `latest`.
    #[cfg(feature = "latest")]
    Latest,
    /// The consumer receives its queued items, and then its end.
    Disconnect,
    /// The source waits for this consumer. Refused for a live source, which cannot wait.
    Block,
}

impl OverflowPolicy {
    /// All policies.
    pub const ALL: &'static [Self] = &[
        Self::SkipToLive,
        Self::DropNewest,
        #[cfg(feature = "latest")]
        Self::Latest,
        Self::Disconnect,
        Self::Block,
    ];

    /// Returns the policy as users write it.
    ///
    /// ```
    /// use aircheck_engine::OverflowPolicy;
    ///
    /// assert_eq!(OverflowPolicy::SkipToLive.label(), "skip-to-live");
    /// assert!(OverflowPolicy::ALL.iter().all(|policy| policy.label().parse() == Ok(*policy)));
    /// ```
    #[must_use]
    pub fn label(self) -> &'static str {
        self.into()
    }

    /// Returns whether only the newest item is kept.
    #[inline]
    pub(crate) const fn keeps_newest(self) -> bool {
        #[cfg(feature = "latest")]
        return matches!(self, Self::Latest);
        #[cfg(not(feature = "latest"))]
        false
    }
}

/// A word that is not an overflow policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an overflow policy (there are {policies})", policies = all_policies())]
pub struct UnknownOverflowPolicy(String);

impl UnknownOverflowPolicy {
    fn new(word: &str) -> Self {
        Self(word.to_owned())
    }
}

/// Lists the policies as a sentence does.
fn all_policies() -> String {
    let labels: Vec<_> = OverflowPolicy::ALL.iter().map(|policy| policy.label()).collect();
    let (last, others) = labels.split_last().unwrap_or((&"none", &[]));
    format!("{} and {last}", others.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_word_is_told_the_known_ones() {
        let error = "newest".parse::<OverflowPolicy>().unwrap_err().to_string();
        let start = "`newest` is not an overflow policy (there are skip-to-live, drop-newest, ";
        assert!(error.starts_with(start) && error.ends_with("disconnect and block)"), "{error}");
    }
}
