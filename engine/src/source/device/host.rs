//! cpal's host: the sound system whose devices are used.
//!
//! On Linux that is the sound server where one answers, else ALSA; on other systems cpal's default.

use super::error::DeviceError;

/// Returns the name of the sound system whose devices are used: the sound server where one answers, else ALSA; on other
/// systems than Linux, the default one. A program that plays, too, gets its output there:
/// `cpal::host_from_id(host_name()?.parse()?)`.
///
/// ```no_run
/// let name = aircheck_engine::source::host_name()?;
/// assert!(["PulseAudio", "ALSA"].contains(&name));
/// # Ok::<(), aircheck_engine::source::DeviceError>(())
/// ```
///
/// # Errors
///
/// [`DeviceError::NoDevice`] on Linux, if there is neither a server nor a sound card.
pub fn host_name() -> Result<&'static str, DeviceError> {
    Ok(host()?.id().name())
}

/// Opens the host. For inputs and for outputs.
#[cfg(target_os = "linux")]
pub(super) fn host() -> Result<cpal::Host, DeviceError> {
    use cpal::HostId;

    let has_server = cpal::available_hosts().contains(&HostId::PulseAudio);
    if has_server && let Ok(host) = cpal::host_from_id(HostId::PulseAudio) {
        return Ok(host);
    }
    // A server may refuse cpal and still answer ALSA: cpal has no cookie where no other program ever made one.
    if !has_server && !alsa_may_have_devices() {
        return Err(DeviceError::NoDevice("no sound server answers, and there is no sound card".to_owned()));
    }
    cpal::host_from_id(HostId::Alsa).map_err(|error| DeviceError::NoDevice(super::error::one_line(&error)))
}

/// Opens the host. For inputs and for outputs.
#[cfg(not(target_os = "linux"))]
pub(super) fn host() -> Result<cpal::Host, DeviceError> {
    Ok(cpal::default_host())
}

/// Returns whether there is a sound card, or a configuration that may lead ALSA elsewhere: its own, or that of a server
/// without a local socket. ALSA is not tried otherwise, because it would only write lines of its own to stderr.
#[cfg(target_os = "linux")]
fn alsa_may_have_devices() -> bool {
    use std::path::Path;

    let is_card = |name: &str| name.strip_prefix("card").is_some_and(|rest| rest.parse::<u32>().is_ok());
    let cards = std::fs::read_dir("/proc/asound").into_iter().flatten().flatten();
    cards.into_iter().any(|entry| entry.file_name().to_str().is_some_and(is_card))
        || std::env::var_os("ALSA_CONFIG_PATH").is_some()
        || std::env::var("PULSE_SERVER").is_ok_and(|server| may_answer(&server))
        || std::env::home_dir().is_some_and(|home| home.join(".asoundrc").exists())
        || Path::new("/etc/asound.conf").exists()
}

/// Returns whether ALSA's plug-in may reach a sound server that cpal's own client does not take. A socket that refuses is asked
/// here, because the plug-in would write a line about it to stderr each time that a lost device is looked for.
#[cfg(target_os = "linux")]
fn may_answer(server: &str) -> bool {
    let is_socket = server.starts_with('/');
    !server.starts_with("unix:") && (!is_socket || std::os::unix::net::UnixStream::connect(server).is_ok())
}
