//! cpal's host: the sound system whose devices are used.
//!
//! On Linux that is the sound server where one answers, else ALSA; on other systems cpal's default.

#[cfg(target_os = "linux")]
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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

/// The client of the sound server. It is used for every look, because cpal's client leaves a connection and a thread behind
/// when it is dropped: a device that is looked for twice a second would soon take all the clients that a server permits, 64.
#[cfg(target_os = "linux")]
static SERVER: Mutex<Option<Arc<cpal::Host>>> = Mutex::new(None);

/// Opens the host. For inputs and for outputs. Waits for as long as the sound server does not answer.
#[cfg(target_os = "linux")]
pub(super) fn host() -> Result<Arc<cpal::Host>, DeviceError> {
    use cpal::HostId;

    if let Some(host) = connected() {
        return Ok(host);
    }
    let has_server = cpal::available_hosts().contains(&HostId::PulseAudio);
    if has_server {
        wait_for_answer();
        if let Ok(host) = cpal::host_from_id(HostId::PulseAudio) {
            let host = Arc::new(host);
            *server() = Some(Arc::clone(&host));
            return Ok(host);
        }
    }
    // A server may refuse cpal and still answer ALSA: cpal has no cookie where no other program ever made one.
    if !has_server && !alsa_may_have_devices() {
        return Err(DeviceError::NoDevice("no sound server answers, and there is no sound card".to_owned()));
    }
    cpal::host_from_id(HostId::Alsa)
        .map(Arc::new)
        .map_err(|error| DeviceError::NoDevice(super::error::one_line(&error)))
}

#[cfg(target_os = "linux")]
fn server() -> MutexGuard<'static, Option<Arc<cpal::Host>>> {
    // It holds nothing that a panic leaves half done.
    SERVER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the client of the sound server, if that still answers.
#[cfg(target_os = "linux")]
fn connected() -> Option<Arc<cpal::Host>> {
    use cpal::traits::HostTrait;

    let host = server().clone()?;
    // Not under the lock, because a frozen server does not answer.
    if host.devices().is_ok() {
        return Some(host);
    }
    server().take_if(|kept| Arc::ptr_eq(kept, &host));
    None
}

/// Waits until the sound server answers or refuses. cpal waits for two seconds, and leaves its thread and its connection
/// behind then. And ALSA says of a frozen server that it has no input, once as many connections as fit wait for it.
#[cfg(target_os = "linux")]
fn wait_for_answer() {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    use pulseaudio::protocol::{AuthParams, Command, MAX_VERSION, write_command_message};

    let Some(mut socket) = pulseaudio::socket_path_from_env().and_then(|path| UnixStream::connect(path).ok()) else {
        return;
    };
    let cookie = pulseaudio::cookie_path_from_env().and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
    let hello = AuthParams { version: MAX_VERSION, supports_shm: false, supports_memfd: false, cookie };
    if write_command_message(&mut socket, 0, &Command::Auth(hello), MAX_VERSION).is_ok() {
        // A refusal is an answer, too.
        let _ = socket.read(&mut [0]);
    }
}

/// Opens the host. For inputs and for outputs.
#[cfg(not(target_os = "linux"))]
pub(super) fn host() -> Result<std::sync::Arc<cpal::Host>, DeviceError> {
    Ok(std::sync::Arc::new(cpal::default_host()))
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

/// Returns whether ALSA's plug-in may reach a sound server that cpal's own client does not take. A socket that refuses is
/// asked here, because the plug-in would write a line about it to stderr each time that a lost device is looked for.
#[cfg(target_os = "linux")]
fn may_answer(server: &str) -> bool {
    let is_socket = server.starts_with('/');
    !server.starts_with("unix:") && (!is_socket || std::os::unix::net::UnixStream::connect(server).is_ok())
}
