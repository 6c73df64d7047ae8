//! The sound system that devices are asked from.

use super::DeviceError;

/// The sound server where one answers, else ALSA; elsewhere than on Linux, what the system has. For inputs and for
/// outputs.
///
/// # Errors
///
/// [`DeviceError::NoDevice`] where there is neither a server nor a sound card.
#[cfg(target_os = "linux")]
pub fn host() -> Result<cpal::Host, DeviceError> {
    use cpal::HostId;

    let has_server = cpal::available_hosts().contains(&HostId::PulseAudio);
    if has_server && let Ok(host) = cpal::host_from_id(HostId::PulseAudio) {
        return Ok(host);
    }
    // A server that refuses cpal (which has no cookie where no other program ever made one) may still answer ALSA.
    if !has_server && !alsa_may_have_devices() {
        return Err(DeviceError::NoDevice("no sound server answers, and there is no sound card".to_owned()));
    }
    cpal::host_from_id(HostId::Alsa).map_err(|error| DeviceError::NoDevice(super::error::one_line(&error)))
}

/// Likewise.
///
/// # Errors
///
/// None here.
#[cfg(not(target_os = "linux"))]
pub fn host() -> Result<cpal::Host, DeviceError> {
    Ok(cpal::default_host())
}

/// Whether there is a sound card, or a configuration that may lead ALSA elsewhere: its own, or that of a server which
/// is not reached by a local socket. Without them it is not asked: it would only fill stderr with lines of its own.
#[cfg(target_os = "linux")]
fn alsa_may_have_devices() -> bool {
    use std::path::Path;

    let is_card = |name: &str| name.strip_prefix("card").is_some_and(|rest| rest.parse::<u32>().is_ok());
    let cards = std::fs::read_dir("/proc/asound").into_iter().flatten().flatten();
    cards.into_iter().any(|entry| entry.file_name().to_str().is_some_and(is_card))
        || std::env::var_os("ALSA_CONFIG_PATH").is_some()
        || std::env::var("PULSE_SERVER").is_ok_and(|server| !server.starts_with("unix:"))
        || std::env::home_dir().is_some_and(|home| home.join(".asoundrc").exists())
        || Path::new("/etc/asound.conf").exists()
}
