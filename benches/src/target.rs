//! The bound of a measured number.

/// A bound for a ratio or any other number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// The largest value that meets the target.
    AtMost(f64),
    /// The smallest value that meets the target.
    AtLeast(f64),
}

impl Target {
    /// Returns the bound and whether `value` meets it, in a few characters for a table.
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
