//! HTTPS: whether certificate and key can be used, and whether clients will take the certificate.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tokio_rustls::rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{CertificateError, Error, RootCertStore};

use super::directory::{can_make_files, existing};
use super::finding::{Area, Finding, Level};
use crate::config::{HttpConfig, ListenAddress};
use crate::http::tls::{Certificate, inspect};

/// A certificate ends soon if less than this is left of it, or less than a fifth of its life. ACME clients renew before.
const SOON: Duration = Duration::from_secs(14 * DAY_SECONDS);
const DAY_SECONDS: u64 = 24 * 60 * 60;
/// More names are not shown.
const MAX_NAMES: usize = 6;
/// A name that no certificate is for (RFC 6761).
const NO_NAME: &str = "aircheck.invalid";

/// Checks the certificate that would be served. None is made.
pub(super) fn check(config: &HttpConfig, now: SystemTime) -> Vec<Finding> {
    match inspect(config) {
        Err(error) => vec![Finding::of_error(Area::Tls, Level::Fault, &error.to_string()).with_advice(
            "correct the file, or leave HTTPS out (--tls-self-signed makes a certificate for this machine's names)",
        )],
        Ok(Certificate::None) => vec![without(config)],
        Ok(Certificate::ToBeMade(path)) => vec![to_be_made(&path)],
        Ok(Certificate::Loaded { path, key, chain }) => {
            let mut findings = of_chain(config, &path, &chain, now);
            findings.extend(of_key(&key));
            findings
        }
    }
}

fn without(config: &HttpConfig) -> Finding {
    let is_reachable = config.listen.iter().any(ListenAddress::is_reachable);
    if is_reachable && config.trusted_proxies.is_empty() {
        return Finding::note(
            Area::Tls,
            "no HTTPS: everyone on the way hears the sound and reads the tokens, and browsers of other machines play no live sound",
            "set --tls-cert and --tls-key, or --tls-self-signed, or put a proxy with HTTPS before it",
        );
    }
    Finding::ok(Area::Tls, "no HTTPS (--tls-cert and --tls-key, or --tls-self-signed, would have it)")
}

fn to_be_made(path: &Path) -> Finding {
    let (shown, parent) = (path.display(), existing(path));
    if can_make_files(&parent) {
        return Finding::ok(Area::Tls, format!("a certificate is made at the start, and kept in {shown}"));
    }
    Finding::fault(
        Area::Tls,
        format!("the certificate of --tls-self-signed cannot be made: {} cannot be written to", parent.display()),
        "let this user write there, or set STATE_DIRECTORY to another directory",
    )
}

/// Checks a certificate, with those of its issuers after it.
fn of_chain(config: &HttpConfig, path: &Path, chain: &[CertificateDer<'_>], now: SystemTime) -> Vec<Finding> {
    let shown = path.display();
    let certificate = chain.first().and_then(|own| ParsedCertificate::try_from(own).ok());
    let validity = certificate.as_ref().and_then(validity);
    let (Some(certificate), Some((begin, end))) = (certificate, validity) else {
        // rustls has read it, and has taken its key.
        let text = format!("the certificate of {shown} cannot be looked at");
        let finding = Finding::note(Area::Tls, text, "see what it is:");
        return vec![finding.with_command(format!("openssl x509 -noout -text -in {shown}"))];
    };
    let mut findings = vec![of_time(&format!("{shown}, for {}", names(&certificate)), begin, end, now)];
    let missing = wanted(config).into_iter().filter(|name| !is_for(&certificate, name));
    findings.extend(missing.map(|name| {
        Finding::note(
            Area::Tls,
            format!("{shown} is not for {name}: clients that use this name refuse it"),
            "use one of its own names, or get a certificate for this one",
        )
    }));
    if chain.len() == 1 && is_of_another(&certificate, &chain[0], begin) {
        findings.push(Finding::note(
            Area::Tls,
            format!(
                "{shown} has no certificate of its issuer: many players and tools refuse it, although browsers may not"
            ),
            "use the file that has the whole chain, which is fullchain.pem with certbot",
        ));
    }
    findings
}

/// Verifies a certificate at a time, as clients do that trust `roots`.
fn verify(certificate: &ParsedCertificate<'_>, roots: &RootCertStore, at: UnixTime) -> Result<(), Error> {
    let algorithms = ring::default_provider().signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(certificate, roots, &[], at, algorithms)
}

/// Returns when a certificate begins and ends to be valid, which the refusals at the beginning and at the end of all times tell.
fn validity(certificate: &ParsedCertificate<'_>) -> Option<(SystemTime, SystemTime)> {
    let refusal = |seconds| {
        let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        verify(certificate, &RootCertStore::empty(), at).err()
    };
    let time = |time: UnixTime| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(time.as_secs()));
    let begin = match refusal(0)? {
        Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. }) => time(not_before)?,
        _ => SystemTime::UNIX_EPOCH,
    };
    match refusal(u64::MAX)? {
        Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. }) => {
            Some((begin, time(not_after)?))
        }
        _ => None,
    }
}

/// Returns whether a certificate was signed by another one.
fn is_of_another(certificate: &ParsedCertificate<'_>, own: &CertificateDer<'_>, at: SystemTime) -> bool {
    let mut roots = RootCertStore::empty();
    let at = at.duration_since(SystemTime::UNIX_EPOCH).map(UnixTime::since_unix_epoch);
    let (Ok(()), Ok(at)) = (roots.add(own.clone()), at) else { return false };
    verify(certificate, &roots, at) == Err(Error::InvalidCertificate(CertificateError::UnknownIssuer))
}

fn of_time(what: &str, begin: SystemTime, end: SystemTime, now: SystemTime) -> Finding {
    let date = |time| humantime::format_rfc3339_seconds(time).to_string()[..10].to_owned();
    let days = |span: Duration| match span.as_secs() / DAY_SECONDS {
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    };
    let renew = "renew it, such as by `certbot renew`: it is taken without a restart";
    if let Ok(before) = begin.duration_since(now).map(|wait| wait + Duration::from_secs(DAY_SECONDS - 1)) {
        let text = format!("{what}, is valid from {} on, in {}: clients refuse it", date(begin), days(before));
        return Finding::note(
            Area::Tls,
            text,
            "see whether the clock of this machine is right, or use another certificate",
        );
    }
    match end.duration_since(now) {
        Err(_) => Finding::note(Area::Tls, format!("{what}, has ended on {}: clients refuse it", date(end)), renew),
        Ok(left) if left < SOON.min(end.duration_since(begin).unwrap_or_default() / 5) => {
            Finding::note(Area::Tls, format!("{what}, ends on {}, in {}", date(end), days(left)), renew)
        }
        Ok(left) => Finding::ok(Area::Tls, format!("{what}, until {}, for {}", date(end), days(left))),
    }
}

/// Returns the names and addresses that a certificate is for, which it tells when it is asked for another one.
fn names(certificate: &ParsedCertificate<'_>) -> String {
    let other = ServerName::try_from(NO_NAME).map(|name| verify_server_name(certificate, &name));
    let presented = match other {
        Ok(Err(Error::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. }))) => presented,
        _ => Vec::new(),
    };
    // In the form `DnsName("radio.example")`.
    let name = |text: &String| text.split_once('(').map(|(_, name)| name.trim_matches(['"', ')']).to_owned());
    let mut names: Vec<_> = presented.iter().filter_map(name).collect();
    if names.len() > MAX_NAMES {
        let others = names.len() - MAX_NAMES;
        names.truncate(MAX_NAMES);
        names.push(format!("{others} more"));
    }
    if names.is_empty() { "no name".to_owned() } else { names.join(", ") }
}

/// Returns the names under which clients are expected to reach the server: those that are allowed, or else its addresses.
fn wanted(config: &HttpConfig) -> Vec<String> {
    if !config.allow_hosts.is_empty() {
        return config.allow_hosts.clone();
    }
    let address = |address: &ListenAddress| match address {
        ListenAddress::Tcp(address) if address.ip().is_unspecified() || address.ip().is_loopback() => None,
        ListenAddress::Tcp(address) => Some(address.ip().to_string()),
        ListenAddress::Unix(_) => None,
    };
    // A certificate of a name, which is in no setting, need not be for the address.
    if config.tls_self_signed { config.listen.iter().filter_map(address).collect() } else { Vec::new() }
}

/// Returns whether clients take a certificate for this name.
fn is_for(certificate: &ParsedCertificate<'_>, name: &str) -> bool {
    ServerName::try_from(name).is_ok_and(|name| verify_server_name(certificate, &name).is_ok())
}

/// Notes a key that others may read.
fn of_key(path: &Path) -> Option<Finding> {
    let mode = fs::metadata(path).ok()?.permissions().mode();
    (mode & 0o004 != 0).then(|| {
        let shown = path.display();
        let text = format!("all users of this machine may read the key {shown}");
        Finding::note(Area::Tls, text, "keep it to the service:").with_command(format!("chmod o= {shown}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_told_apart_by_its_time() {
        let day = |number: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(number * DAY_SECONDS);
        let at = |now: u64| of_time("it", day(100), day(190), day(now));
        assert_eq!(at(150).level(), Level::Ok);
        assert!(at(150).text(false).contains("it, until 1970-07-10, for 40 days"), "{:?}", at(150));
        assert!(at(98).level() == Level::Note && at(98).text(false).contains("in 2 days"), "{:?}", at(98));
        assert_eq!(at(176).level(), Level::Ok);
        assert!(at(177).level() == Level::Note && at(177).text(false).contains("in 13 days"), "{:?}", at(177));
        assert!(at(189).text(false).contains("in 1 day"), "{:?}", at(189));
        assert!(at(191).level() == Level::Note && at(191).text(false).contains("has ended"), "{:?}", at(191));
        // One that lives for six days has a day and a fifth left before it is noted.
        let short = |now: u64| of_time("it", day(100), day(106), day(now));
        assert_eq!((short(104).level(), short(105).level()), (Level::Ok, Level::Note));
    }
}
