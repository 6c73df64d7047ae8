//! The configuration in which a device records: rate, channels and sample format.

use std::cmp::Reverse;

use cpal::traits::DeviceTrait;
use cpal::{SampleFormat, SupportedStreamConfig, SupportedStreamConfigRange};

use super::error::DeviceError;

/// Requested configuration of a device. `None` leaves the choice to the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceConfig {
    /// Frames per second.
    pub rate_hz: Option<u32>,
    /// Samples per frame.
    pub channels: Option<u16>,
}

/// Returns the configuration of `device`, called `name`, that fits `wanted` and is nearest to the device's default.
pub(super) fn choose(
    device: &cpal::Device,
    name: &str,
    default: SupportedStreamConfig,
    wanted: DeviceConfig,
) -> Result<SupportedStreamConfig, DeviceError> {
    let ranges = device.supported_input_configs().map_err(|error| DeviceError::refused(name, &error))?;
    choose_from(&ranges.collect::<Vec<_>>(), name, default, wanted)
}

/// Does the work of [`choose`] on the device's configurations. It prefers samples of `f32`, because those need no
/// conversion.
pub(super) fn choose_from(
    ranges: &[SupportedStreamConfigRange],
    name: &str,
    default: SupportedStreamConfig,
    wanted: DeviceConfig,
) -> Result<SupportedStreamConfig, DeviceError> {
    let pcm: Vec<_> = ranges.iter().filter(|range| !range.sample_format().is_dsd()).collect();
    if pcm.is_empty() {
        return Err(DeviceError::Dsd(name.to_owned()));
    }
    let has_rate = |range: &SupportedStreamConfigRange| wanted.rate_hz.is_none_or(|rate| range.contains_rate(rate));
    let has_channels = |range: &SupportedStreamConfigRange| wanted.channels.is_none_or(|n| range.channels() == n);
    let distance = |range: &SupportedStreamConfigRange| {
        let format = match range.sample_format() {
            SampleFormat::F32 => 0,
            format if format == default.sample_format() => 1,
            _ => 2,
        };
        let bits = Reverse(range.sample_format().bits_per_sample());
        (range.channels() != default.channels(), !range.contains_rate(default.sample_rate()), format, bits)
    };
    let nearest = pcm.iter().filter(|range| has_rate(range) && has_channels(range)).min_by_key(|range| distance(range));
    let Some(nearest) = nearest else {
        return Err(DeviceError::Unsupported {
            device: name.to_owned(),
            wanted: describe(wanted),
            can: supported(&pcm),
        });
    };
    let rate = wanted.rate_hz.unwrap_or(default.sample_rate());
    let at_standard_rate = || nearest.try_with_standard_sample_rate().unwrap_or_else(|| nearest.with_max_sample_rate());
    Ok(nearest.try_with_sample_rate(rate).unwrap_or_else(at_standard_rate))
}

fn describe(wanted: DeviceConfig) -> String {
    let channels = wanted.channels.map(|channels| format!("{channels} channels"));
    let rate = wanted.rate_hz.map(|rate| format!("{rate} Hz"));
    channels.into_iter().chain(rate).collect::<Vec<_>>().join(" at ")
}

/// Describes the ranges in one line: "1 to 8 channels at 44100, 48000 Hz".
fn supported(ranges: &[&SupportedStreamConfigRange]) -> String {
    let mut counts: Vec<_> = ranges.iter().map(|range| range.channels()).collect();
    counts.sort_unstable();
    counts.dedup();
    let mut rates: Vec<_> = ranges.iter().map(|range| (range.min_sample_rate(), range.max_sample_rate())).collect();
    rates.sort_unstable();
    rates.dedup();
    let spans = rates.iter().map(|(min, max)| if min == max { min.to_string() } else { format!("{min} to {max}") });
    let rates = spans.collect::<Vec<_>>().join(", ");
    let counts = match counts[..] {
        [1] => return format!("1 channel at {rates} Hz"),
        [first, .., last] if counts.len() > 2 && usize::from(last - first) == counts.len() - 1 => {
            format!("{first} to {last}")
        }
        _ => counts.iter().map(u16::to_string).collect::<Vec<_>>().join(" or "),
    };
    format!("{counts} channels at {rates} Hz")
}

#[cfg(test)]
mod tests {
    use cpal::SupportedBufferSize::Unknown;

    use super::*;

    fn range(channels: u16, min_rate: u32, max_rate: u32, format: SampleFormat) -> SupportedStreamConfigRange {
        SupportedStreamConfigRange::new(channels, min_rate, max_rate, Unknown, format)
    }

    fn default(channels: u16, rate: u32, format: SampleFormat) -> SupportedStreamConfig {
        SupportedStreamConfig::new(channels, rate, Unknown, format)
    }

    /// Chooses from a sound card that has 16 bits, and 32-bit floats only in stereo.
    fn chosen(rate_hz: Option<u32>, channels: Option<u16>) -> Result<(u16, u32, SampleFormat), String> {
        let ranges = [
            range(1, 44_100, 44_100, SampleFormat::I16),
            range(1, 48_000, 48_000, SampleFormat::I16),
            range(2, 44_100, 44_100, SampleFormat::I16),
            range(2, 48_000, 48_000, SampleFormat::I16),
            range(2, 48_000, 48_000, SampleFormat::F32),
            range(2, 48_000, 48_000, SampleFormat::DsdU8),
        ];
        let card =
            choose_from(&ranges, "card", default(2, 48_000, SampleFormat::I16), DeviceConfig { rate_hz, channels });
        card.map(|card| (card.channels(), card.sample_rate(), card.sample_format())).map_err(|error| error.to_string())
    }

    #[test]
    fn floats_are_preferred() {
        assert_eq!(chosen(None, None), Ok((2, 48_000, SampleFormat::F32)));
        assert_eq!(chosen(Some(44_100), None), Ok((2, 44_100, SampleFormat::I16)));
        assert_eq!(chosen(None, Some(1)), Ok((1, 48_000, SampleFormat::I16)));
        assert_eq!(chosen(Some(44_100), Some(1)), Ok((1, 44_100, SampleFormat::I16)));
    }

    #[test]
    fn an_error_lists_the_supported_configurations() {
        let can = "(it can do 1 or 2 channels at 44100, 48000 Hz)";
        assert_eq!(chosen(Some(96_000), None), Err(format!("`card` cannot record 96000 Hz {can}")));
        assert_eq!(chosen(None, Some(3)), Err(format!("`card` cannot record 3 channels {can}")));
        assert_eq!(chosen(Some(8_000), Some(2)), Err(format!("`card` cannot record 2 channels at 8000 Hz {can}")));
    }

    #[test]
    fn a_default_rate_without_the_wanted_channels_is_replaced() {
        let ranges = [range(4, 8_000, 16_000, SampleFormat::I16), range(4, 32_000, 44_100, SampleFormat::I16)];
        let wanted = DeviceConfig { rate_hz: None, channels: Some(4) };
        let config = choose_from(&ranges[..1], "card", default(2, 48_000, SampleFormat::I16), wanted).unwrap();
        assert_eq!(config.sample_rate(), 16_000);
        let config = choose_from(&ranges[1..], "card", default(2, 48_000, SampleFormat::I16), wanted).unwrap();
        assert_eq!(config.sample_rate(), 44_100);
    }

    #[test]
    fn one_bit_samples_are_refused() {
        let ranges = [range(2, 352_800, 352_800, SampleFormat::DsdU32)];
        let config = default(2, 352_800, SampleFormat::DsdU32);
        let error = choose_from(&ranges, "card", config, DeviceConfig::default()).unwrap_err().to_string();
        assert!(error.contains("only DSD"), "{error}");
    }
}
