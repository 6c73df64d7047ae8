//! Icecast servers to which a mount is pushed.

use std::fmt;
use std::str::FromStr;

use super::notation::Notation;
use super::value::ValueError;

/// The port of Icecast, where none is given.
const DEFAULT_PORT: u16 = 8000;
/// The user of source clients, where none is given.
const DEFAULT_USER: &str = "source";

/// A mount of an Icecast server. Shows without user and password, which no message repeats.
///
/// ```
/// use aircheck_server::config::PushTarget;
///
/// let target: PushTarget = "icecast://source:hackme@radio.example:8000/live.ogg".parse()?;
/// assert_eq!(target.to_string(), "icecast://radio.example:8000/live.ogg");
/// assert_eq!((&*target.password, target.is_mp3()), ("hackme", false));
/// # Ok::<(), aircheck_server::config::ValueError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct PushTarget {
    /// Host name or address; an IPv6 address is in brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The user, which is `source` for most servers.
    pub user: String,
    /// The password of source clients.
    pub password: String,
    /// The path of the mount, which begins with a slash.
    pub path: String,
}

impl PushTarget {
    /// Returns several of them as they may be shown.
    pub(super) fn shown<'t>(targets: impl IntoIterator<Item = &'t Self>) -> String {
        targets.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    /// Returns whether it gets MP3, by the end of its name, and not Ogg Opus.
    #[must_use]
    pub fn is_mp3(&self) -> bool {
        self.path.to_ascii_lowercase().ends_with(".mp3")
    }
}

impl fmt::Display for PushTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "icecast://{}:{}{}", self.host, self.port, self.path)
    }
}

impl fmt::Debug for PushTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PushTarget({self})")
    }
}

impl Notation for PushTarget {
    type Value = Self;
    const TAKES: &str = "URLs such as icecast://source:PASSWORD@HOST:8000/live.ogg";

    fn read(text: &str) -> Result<Self, ValueError> {
        text.parse()
    }
}

impl FromStr for PushTarget {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        // The text itself may have a password.
        target(text).ok_or_else(|| ValueError::Because(format!("must be {}", Self::TAKES)))
    }
}

fn target(text: &str) -> Option<PushTarget> {
    let (authority, path) = text.strip_prefix("icecast://")?.split_once('/')?;
    let (login, address) = authority.rsplit_once('@')?;
    let (user, password) = login.split_once(':').unwrap_or((DEFAULT_USER, login));
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok().filter(|port| *port > 0)?),
        _ => (address, DEFAULT_PORT),
    };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let is_plain = |text: &str| text.chars().all(|character| character.is_ascii_graphic());
    let host_is_good = !host.is_empty() && (bracketed || !host.contains(':')) && is_plain(host);
    let path_is_good = !path.is_empty() && is_plain(path) && !path.contains(['?', '#']);
    let login_is_good = !password.is_empty() && [user, password].iter().all(|text| !text.contains(char::is_control));
    (host_is_good && path_is_good && login_is_good).then(|| PushTarget {
        host: host.to_owned(),
        port,
        user: if user.is_empty() { DEFAULT_USER } else { user }.to_owned(),
        password: password.to_owned(),
        path: format!("/{path}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_and_wrong_ones_are_refused_without_their_password() {
        let target: PushTarget = "icecast://secret@[::1]/mounts/live.mp3".parse().unwrap();
        assert_eq!((&*target.user, &*target.password, &*target.host), ("source", "secret", "[::1]"));
        assert_eq!(
            format!("{target} {target:?}"),
            "icecast://[::1]:8000/mounts/live.mp3 PushTarget(icecast://[::1]:8000/mounts/live.mp3)"
        );
        assert!(target.is_mp3());
        assert_eq!("icecast://u:a:b@c@h:9/x".parse::<PushTarget>().unwrap().password, "a:b@c");
        for wrong in [
            "",
            "http://source:s3cret@h:8000/x",
            "icecast://h:8000/x",
            "icecast://source:@h:8000/x",
            "icecast://source:s3cret@h:8000/",
            "icecast://source:s3cret@h:8000",
            "icecast://source:s3cret@:8000/x",
            "icecast://source:s3cret@h:0/x",
            "icecast://source:s3cret@h:99999/x",
            "icecast://source:s3cret@::1:8000/x",
            "icecast://source:s3cret@h:8000/a b",
            "icecast://source:s3cret@h:8000/a?b",
        ] {
            let error = wrong.parse::<PushTarget>().unwrap_err().to_string();
            assert_eq!(error, "must be URLs such as icecast://source:PASSWORD@HOST:8000/live.ogg", "{wrong}");
        }
    }
}
