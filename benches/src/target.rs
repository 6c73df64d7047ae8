//! What a number ought to be.

/// The bound that a ratio, or any other number, is held against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// Smaller is better, and this is the most.
    AtMost(f64),
    /// Larger is better, and this is the least.
    AtLeast(f64),
}

impl Target {
    /// The bound and whether `value` keeps it, in a few characters for a table.
    ///
    /// ```
    /// use aircheck_benches::Target;
    ///
    /// assert_eq!(Target::AtMost(3.0).verdict(2.5), "<= 3 met");
    /// assert_eq!(Target::AtLeast(1.2).verdict(1.1), ">= 1.2 MISSED");
    /// ```
    #[must_use]
    pub fn verdict(self, value: f64) -> String {
        let (bound, met) = match self {
            Self::AtMost(most) => (format!("<= {most}"), value <= most),
            Self::AtLeast(least) => (format!(">= {least}"), value >= least),
        };
        format!("{bound} {}", if met { "met" } else { "MISSED" })
    }
}
