//! A microphone or another input: whether it opens and delivers sound.

use std::time::Duration;

use aircheck_engine::source::{Device, DeviceError, Source as _};

use super::inputs::{self, Chosen, Input};
use super::permissions;
use super::sound::Sound;
use super::trial::Trial;
use crate::config::{CaptureConfig, SourceSpec};
use crate::doctor::finding::{Area, Finding, Level};
use crate::source::wanted;

/// Wait for the first sound beyond which it is worth a note.
const SLOW_START: Duration = Duration::from_secs(1);

/// Lists the inputs, opens the one called `name`, or the default one, and hears it for a moment.
pub(super) fn check(config: &CaptureConfig, name: Option<&str>) -> (Vec<Finding>, Option<Sound>) {
    let inputs = match Input::all() {
        Ok(inputs) => inputs,
        Err(error) => {
            let mut findings = vec![missing(config, &error.to_string())];
            findings.extend(permissions::devices());
            if matches!(error, DeviceError::NoDevice(_)) {
                findings.extend(permissions::sound_server());
            }
            return (findings, Sound::without_microphone(config));
        }
    };
    let device = Device::open(name, wanted(config));
    let chosen = match (name, &device) {
        (None, _) => Chosen::Default,
        (Some(wanted), Ok(device)) => Chosen::Named { wanted, opened: device.name() },
        (Some(_), Err(_)) => Chosen::None,
    };
    let mut findings = inputs::list(&inputs, chosen);
    if !inputs.iter().any(Input::is_served) {
        findings.extend(permissions::devices());
    }
    let (finding, sound) = hear(config, device);
    findings.push(finding);
    (findings, sound)
}

fn hear(config: &CaptureConfig, device: Result<Device, DeviceError>) -> (Finding, Option<Sound>) {
    let device = match device {
        Ok(device) => device,
        Err(error) => return (missing(config, &error.to_string()), Sound::without_microphone(config)),
    };
    let sound = Sound::of(&device);
    let what = format!("{}, {} Hz, {} ch", device.description(), device.rate_hz(), device.channels());
    let trial = match Trial::of(Box::new(device), config) {
        Ok(trial) => trial,
        Err(error) => return (missing(config, &error.to_string()), Sound::without_microphone(config)),
    };
    (heard(&what, trial), Some(sound))
}

fn heard(what: &str, trial: Trial) -> Finding {
    let Some(first_after) = trial.first_after else {
        let advice = "end other programs that use it, connect it again, or choose another with --source \"mic:NAME\"";
        return Finding::fault(Area::Source, format!("{what}: opens, but delivers no sound"), advice)
            .with_command("aircheck devices");
    };
    let seconds = first_after.as_secs_f64();
    match trial.peak_dbfs() {
        None => Finding::note(
            Area::Source,
            format!("{what}: sound after {seconds:.2} s, but it is digital silence"),
            "see whether the microphone is muted or another input is meant (alsamixer, pavucontrol, `aircheck devices`)",
        ),
        Some(peak) if first_after > SLOW_START => Finding::note(
            Area::Source,
            format!("{what}: sound after {seconds:.1} s, peak {peak:.1} dBFS"),
            "nothing, if the sound server was idle; if it is as slow each time, see whether the machine is too busy",
        ),
        Some(peak) => Finding::ok(Area::Source, format!("{what}: sound after {seconds:.2} s, peak {peak:.1} dBFS")),
    }
}

/// Returns the finding of a microphone that cannot be used, and what the service would do.
fn missing(config: &CaptureConfig, error: &str) -> Finding {
    if config.wait_for_source {
        let finding = Finding::of_error(Area::Source, Level::Note, error);
        return finding.and("listeners would get silence until it is there");
    }
    if config.source == SourceSpec::Auto {
        return Finding::of_error(Area::Source, Level::Note, error).and("the demo sound would be played");
    }
    Finding::of_error(Area::Source, Level::Fault, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_microphone_that_is_dead_mute_or_slow_is_told_from_a_good_one() {
        let level = |first_after: Option<u64>, peak| {
            heard("mic", Trial { first_after: first_after.map(Duration::from_millis), peak }).level()
        };
        assert_eq!(level(Some(200), 0.1), Level::Ok);
        assert_eq!(level(Some(200), 0.0), Level::Note);
        assert_eq!(level(Some(1800), 0.1), Level::Note);
        assert_eq!(level(None, 0.0), Level::Fault);
    }

    #[test]
    fn a_missing_microphone_is_a_fault_only_if_nothing_would_be_heard_instead() {
        let level = |source: &str, wait_for_source| {
            let source = source.parse().unwrap();
            missing(
                &CaptureConfig {
                    source,
                    wait_for_source,
                    ..crate::config::Config::default().first_mount().capture.clone()
                },
                "no",
            )
            .level()
        };
        assert_eq!(level("mic", false), Level::Fault);
        assert_eq!(level("mic", true), Level::Note);
        assert_eq!(level("auto", false), Level::Note);
    }
}
