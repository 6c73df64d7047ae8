//! The pauses between tries to open a source.

use std::time::Duration;

/// The first pause, and the longest one: a device that was just connected is there soon, and one that stays away for hours must cost
/// nothing.
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(10);

/// The pause before the next try to open a source. It is twice as long after each failure, from 0.5 s up to 10 s.
///
/// ```
/// use std::time::Duration;
///
/// use aircheck_engine::source::BackOff;
///
/// let mut back_off = BackOff::default();
/// assert_eq!(back_off.pause(), Duration::ZERO);
/// let pauses = [(); 6].map(|()| {
///     back_off.lengthen();
///     back_off.pause().as_secs_f64()
/// });
/// assert_eq!(pauses, [0.5, 1.0, 2.0, 4.0, 8.0, 10.0]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackOff(Duration);

impl BackOff {
    /// Returns the pause: none before the first failure.
    ///
    /// ```
    /// use aircheck_engine::source::BackOff;
    ///
    /// assert!(BackOff::default().pause().is_zero());
    /// ```
    #[must_use]
    pub fn pause(self) -> Duration {
        self.0
    }

    /// Lengthens the pause after a failure.
    ///
    /// ```
    /// use aircheck_engine::source::BackOff;
    ///
    /// let mut back_off = BackOff::default();
    /// back_off.lengthen();
    /// assert_eq!(back_off.pause().as_millis(), 500);
    /// ```
    pub fn lengthen(&mut self) {
        self.0 = (self.0 * 2).clamp(FIRST, LONGEST);
    }

    /// Starts again without a pause.
    pub(crate) fn reset(&mut self) {
        self.0 = Duration::ZERO;
    }
}
