//! A subject of a NATS server or cluster, as users write it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

use super::notation::Notation;
use super::value::ValueError;

/// Longest subject: with the head of its protocol line, it fits into the 4096 bytes that a NATS server takes of one.
const MAX_SUBJECT_BYTES: usize = 1024;

/// A subject of a NATS server, or of the servers of a cluster. `Debug` and `Display` leave out user name, password and token, which are secret.
///
/// ```
/// use aircheck_server::config::NatsUrl;
///
/// let url: NatsUrl = "nats://studio:secret@hub.example:4222/radio.one".parse().unwrap();
/// assert_eq!(url.to_string(), "nats://hub.example:4222/radio.one");
/// assert_eq!((url.user(), url.password()), (Some("studio"), Some("secret")));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct NatsUrl {
    is_tls: bool,
    /// Host and port of each.
    servers: Vec<String>,
    subject: String,
    user: Option<String>,
    password: Option<String>,
    credentials: Option<PathBuf>,
    ca: Option<PathBuf>,
}

impl NatsUrl {
    /// Returns whether the connection must be encrypted: `tls://`.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// Returns host and port of each server, in the order in which they are tried; an IPv6 address is in brackets. There is at least one.
    #[must_use]
    pub fn servers(&self) -> &[String] {
        &self.servers
    }

    /// Returns host and port of each server, with commas between, as in the URL.
    #[must_use]
    pub fn authority(&self) -> String {
        self.servers.join(",")
    }

    /// Returns the subject, which has no wildcards.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Returns the user name; without a password, it is a token.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Returns the password, which is secret.
    #[must_use]
    pub fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    /// Returns the file with credentials, as `nsc` makes it: `?credentials=FILE`.
    #[must_use]
    pub fn credentials(&self) -> Option<&PathBuf> {
        self.credentials.as_ref()
    }

    /// Returns the file with certificates of authorities that are trusted besides the system's: `?ca=FILE`.
    #[must_use]
    pub fn ca(&self) -> Option<&PathBuf> {
        self.ca.as_ref()
    }
}

impl fmt::Display for NatsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "tls" } else { "nats" };
        write!(f, "{scheme}://{}/{}", self.authority(), self.subject)
    }
}

impl fmt::Debug for NatsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NatsUrl({self})")
    }
}

impl Notation for NatsUrl {
    type Value = Self;
    const TAKES: &str = "nats://HOST:PORT/SUBJECT, or off";

    fn read(text: &str) -> Result<Self, ValueError> {
        text.parse()
    }
}

impl FromStr for NatsUrl {
    type Err = ValueError;

    /// Reads the URL. No message repeats it, because it may have a password.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        if cfg!(not(feature = "nats")) {
            return Err(ValueError::Because("needs an aircheck that was built with the feature `nats`".to_owned()));
        }
        parse(text).ok_or_else(|| {
            ValueError::Because(
                "must be nats://[USER:PASSWORD@]HOST:PORT/SUBJECT or tls://…, with a port, further ,HOST:PORT where there is a \
                 cluster, a subject without wildcards, and at most ?credentials=FILE and ?ca=FILE"
                    .to_owned(),
            )
        })
    }
}

fn parse(text: &str) -> Option<NatsUrl> {
    let (scheme, rest) = text.split_once("://")?;
    let is_tls = match scheme {
        "nats" => false,
        "tls" => true,
        _ => return None,
    };
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
    let (server, subject) = rest.rsplit_once('/')?;
    let (user, servers) = server.rsplit_once('@').map_or((None, server), |(user, servers)| (Some(user), servers));
    let servers = servers.split(',').map(server_at).collect::<Option<Vec<_>>>()?;
    if !is_subject(subject) {
        return None;
    }
    let (user, password) = match user.map(|user| user.split_once(':').map_or((user, None), |(u, p)| (u, Some(p)))) {
        Some((user, password)) => (Some(decoded(user)?), password.map(decoded)),
        None => (None, None),
    };
    let mut url = NatsUrl {
        is_tls,
        servers,
        subject: subject.to_owned(),
        user: user.filter(|user| !user.is_empty()),
        password: match password {
            Some(password) => Some(password?),
            None => None,
        },
        credentials: None,
        ca: None,
    };
    for (key, file) in
        query.into_iter().flat_map(|query| query.split('&')).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    {
        let file = Some(PathBuf::from(decoded(file)?)).filter(|file| !file.as_os_str().is_empty())?;
        match key {
            "credentials" => url.credentials = Some(file),
            "ca" => url.ca = Some(file),
            _ => return None,
        }
    }
    Some(url)
}

/// Reads host and port of a server.
fn server_at(text: &str) -> Option<String> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse::<u16>().ok().filter(|port| *port > 0)?;
    let is_bracketed = host.starts_with('[') && host.ends_with(']');
    let is_host = !host.is_empty() && (is_bracketed || !host.contains(':')) && !host.contains([' ', '/']);
    is_host.then(|| format!("{host}:{port}"))
}

/// Returns whether a text is a subject to publish on (<https://docs.nats.io/nats-concepts/subjects>): tokens with dots between;
/// `*` and `>` would mix several streams.
fn is_subject(subject: &str) -> bool {
    let is_token = |token: &str| !token.is_empty() && !token.contains(['*', '>', '/']);
    subject.len() <= MAX_SUBJECT_BYTES
        && subject.split('.').all(is_token)
        && !subject.contains(|c: char| c.is_whitespace() || c.is_control())
        // The server's own subjects.
        && !subject.starts_with('$')
}

fn decoded(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(String::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> NatsUrl {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn every_part_is_read() {
        let plain = url("nats://[::1]:4222/a.b");
        assert_eq!((plain.authority(), plain.subject(), plain.user()), ("[::1]:4222".to_owned(), "a.b", None));
        assert!(!plain.is_tls());
        let full = url("tls://us%40er:p%3Aw@h:1/s?credentials=/a/b.creds&ca=%2Fc.pem");
        assert_eq!((full.user(), full.password()), (Some("us@er"), Some("p:w")));
        assert_eq!(full.credentials(), Some(&PathBuf::from("/a/b.creds")));
        assert_eq!((full.ca(), full.is_tls()), (Some(&PathBuf::from("/c.pem")), true));
        let cluster = url("nats://user:secret@a:4222,[::1]:4223,b:4222/s");
        assert_eq!(cluster.servers(), ["a:4222", "[::1]:4223", "b:4222"]);
        assert_eq!(cluster.to_string(), "nats://a:4222,[::1]:4223,b:4222/s");
        let token = url("nats://t0ken@h:1/s");
        assert_eq!((token.user(), token.password()), (Some("t0ken"), None));
    }

    #[test]
    fn no_text_shows_a_secret() {
        let secret = url("nats://user:hunter2@h:1/s");
        assert_eq!(secret.to_string(), "nats://h:1/s");
        assert!(!format!("{secret:?}").contains("hunter2"));
        let error = "nats://user:hunter2@h/s".parse::<NatsUrl>().unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }

    #[test]
    fn what_is_no_subject_of_a_server_is_refused() {
        let wrong = [
            "nats",
            "nats:x",
            "http://h:1/s",
            "nats://h/s",
            "nats://h:4222",
            "nats://h:4222/",
            "nats://:4222/s",
            "nats://h:0/s",
            "nats://h:70000/s",
            "nats://::1:4222/s",
            "nats://a:4222,/s",
            "nats://a:4222,b/s",
            "nats://,a:4222/s",
            "nats://h:4222/a.*",
            "nats://h:4222/a.>",
            "nats://h:4222/a..b",
            "nats://h:4222/a b",
            "nats://h:4222/$SYS.x",
            "nats://h:4222/s?x=y",
            "nats://h:4222/s?ca=",
            "nats://a%ffb@h:1/s",
        ];
        for text in wrong {
            assert!(text.parse::<NatsUrl>().is_err(), "{text}");
        }
        assert!(format!("nats://h:1/{}", "s".repeat(1025)).parse::<NatsUrl>().is_err());
    }
}
