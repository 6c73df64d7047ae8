//! The bitrates at which Opus and MP3 are encoded.

/// A bitrate of Opus: a rung of the [`LADDER`](Self::LADDER).
///
/// Each bitrate in use is an encoder of its own, so the ladder's length bounds how many of them listeners can start, and
/// no listener can keep another from any bitrate. All of them together took 15 % of a core for stereo noise in blocks of
/// 10 ms, on a virtual machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OpusBitrate(u32);

impl OpusBitrate {
    /// All bitrates, rising, from the lowest to the highest that Opus is specified for (RFC 6716, section 2.1.1).
    ///
    /// That section's recommendations are among them or at most a fifth away: 8 to 12 kbit/s for narrowband speech, 16
    /// to 20 for wideband and 28 to 40 for fullband speech, 48 to 64 for mono and 64 to 128 for stereo music. Each rung
    /// is a fifth to three fifths above the one before: smaller steps are hard to hear.
    pub const LADDER: [Self; 15] = [
        Self(6_000),
        Self(8_000),
        Self(12_000),
        Self(16_000),
        Self(24_000),
        Self(32_000),
        Self(48_000),
        Self(64_000),
        Self(96_000),
        Self(128_000),
        Self(160_000),
        Self(192_000),
        Self(256_000),
        Self(320_000),
        Self(510_000),
    ];
    /// The bitrate of listeners that request none: in the middle of the recommendation for stereo music.
    pub const DEFAULT: Self = Self(96_000);
    /// The lowest bitrate.
    pub const LOWEST: Self = Self::LADDER[0];
    /// The highest bitrate.
    pub const HIGHEST: Self = Self::LADDER[Self::LADDER.len() - 1];

    /// Returns the bitrate that is nearest to `bits_per_second`; of two that are equally near, the lower one.
    #[must_use]
    pub fn nearest(bits_per_second: u32) -> Self {
        nearest(Self::LADDER, bits_per_second, |bitrate| bitrate.0)
    }

    /// Bits per second.
    #[must_use]
    pub const fn bits_per_second(self) -> u32 {
        self.0
    }
}

impl Default for OpusBitrate {
    /// Returns [`DEFAULT`](Self::DEFAULT).
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A bitrate of MP3, of those that MPEG-1 Layer III has.
///
/// Each bitrate in use is an encoder of its own, as with [`OpusBitrate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mp3Bitrate(u32);

impl Mp3Bitrate {
    /// All bitrates, rising (ISO 11172-3, section 2.4.2.3; 56 kbit/s is missing in LAME's binding).
    pub const LADDER: [Self; 13] = [
        Self(32_000),
        Self(40_000),
        Self(48_000),
        Self(64_000),
        Self(80_000),
        Self(96_000),
        Self(112_000),
        Self(128_000),
        Self(160_000),
        Self(192_000),
        Self(224_000),
        Self(256_000),
        Self(320_000),
    ];

    /// Returns the bitrate that is nearest to `bits_per_second`; of two that are equally near, the lower one.
    #[must_use]
    pub fn nearest(bits_per_second: u32) -> Self {
        nearest(Self::LADDER, bits_per_second, |bitrate| bitrate.0)
    }

    /// Bits per second.
    #[must_use]
    pub const fn bits_per_second(self) -> u32 {
        self.0
    }
}

impl Default for Mp3Bitrate {
    /// Returns 128 kbit/s, at which most radio stations stream.
    fn default() -> Self {
        Self(128_000)
    }
}

/// Returns the item of a ladder that is nearest; of two that are equally near, the first one.
fn nearest<T, const N: usize>(ladder: [T; N], bits_per_second: u32, of: impl Fn(&T) -> u32) -> T
where
    T: Default,
{
    ladder.into_iter().min_by_key(|bitrate| of(bitrate).abs_diff(bits_per_second)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_bitrate_is_taken() {
        for (requested, bits_per_second) in [
            (0, 6_000),
            (6_000, 6_000),
            (9_999, 8_000),
            (10_000, 8_000),
            (10_001, 12_000),
            (95_999, 96_000),
            (96_000, 96_000),
            (112_001, 128_000),
            (500_000, 510_000),
            (u32::MAX, 510_000),
        ] {
            assert_eq!(OpusBitrate::nearest(requested).bits_per_second(), bits_per_second, "{requested}");
        }
    }

    #[test]
    fn the_ladder_rises_and_has_the_default() {
        assert!(OpusBitrate::LADDER.is_sorted_by(|lower, higher| lower.0 < higher.0));
        assert!(OpusBitrate::LADDER.contains(&OpusBitrate::DEFAULT));
    }
}
