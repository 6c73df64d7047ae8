//! A certificate that the server makes for the names and addresses of its machine, once, and keeps in a file.

use std::collections::BTreeSet;
use std::env;
use std::fs::{self, DirBuilder};
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv6Addr};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustix::system::uname;
use tempfile::NamedTempFile;

use crate::config::{HttpConfig, ListenAddress};
use crate::http::tls::TlsError;

/// The file, which has the key and the certificate.
const FILE_NAME: &str = "tls-self-signed.pem";
const SETTING: &str = "tls_self_signed";
const DAY_SECONDS: u64 = 24 * 60 * 60;
/// Apple's systems take no certificate that is valid for more than 825 days.
const VALIDITY: Duration = Duration::from_secs(820 * DAY_SECONDS);
/// A new one is made so long before the old one ends.
const RENEWAL: Duration = Duration::from_secs(30 * DAY_SECONDS);
/// A clock that is slow by less than this takes the certificate at once.
const CLOCK_ERROR: Duration = Duration::from_secs(DAY_SECONDS);

/// Returns the path of the file: in the service's own directory, or else in the user's.
pub(super) fn path() -> Result<PathBuf, TlsError> {
    // systemd separates several directories by colons.
    let of_service = || Some(PathBuf::from(env::var_os("STATE_DIRECTORY")?.to_str()?.split(':').next()?));
    let of_user = |name, below| Some(Path::new(&env::var_os(name)?).join(below).join("aircheck"));
    let directory = [of_service(), of_user("XDG_DATA_HOME", ""), of_user("HOME", ".local/share")];
    let directory = directory.into_iter().flatten().find(|directory| directory.is_absolute());
    directory.map(|directory| directory.join(FILE_NAME)).ok_or(TlsError::NoDirectory)
}

/// Makes the certificate if there is none, or if it ends soon.
pub(super) fn ensure(path: &Path, config: &HttpConfig) -> Result<(), TlsError> {
    if is_due(path) { make(path, &names(config)) } else { Ok(()) }
}

/// Returns whether there is no certificate, or one that ends soon.
pub(super) fn is_due(path: &Path) -> bool {
    let age = fs::metadata(path).and_then(|metadata| metadata.modified()).map(|made_at| made_at.elapsed());
    // Without an age, its clock was ahead.
    age.is_ok_and(|age| age.is_ok_and(|age| age > VALIDITY - RENEWAL)) || !path.exists()
}

/// Makes a certificate for `names`, and writes it to `path`.
fn make(path: &Path, names: &BTreeSet<String>) -> Result<(), TlsError> {
    let failed = |error| TlsError::Write { setting: SETTING, path: path.to_owned(), error };
    let pem = pem(names).map_err(|error| failed(io::Error::other(error)))?;
    let directory = path.parent().unwrap_or(path);
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    // A temporary file is its owner's alone, and takes its place as a whole.
    let mut file = NamedTempFile::new_in(directory).map_err(failed)?;
    file.write_all(pem.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    tracing::info!("made a certificate for {}: {}", names.join(", "), path.display());
    Ok(())
}

fn pem(names: &BTreeSet<String>) -> Result<String, rcgen::Error> {
    let mut params = CertificateParams::new(names.iter().cloned().collect::<Vec<_>>())?;
    let name = format!("aircheck on {}", host_name());
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let now = SystemTime::now();
    params.not_before = (now - CLOCK_ERROR).into();
    params.not_after = (now + VALIDITY).into();
    let key = KeyPair::generate()?;
    Ok(key.serialize_pem() + &params.self_signed(&key)?.pem())
}

/// Returns the names and addresses under which this machine may be reached.
fn names(config: &HttpConfig) -> BTreeSet<String> {
    let host = host_name();
    let local = format!("{}.local", host.split('.').next().unwrap_or_default());
    let mut names: BTreeSet<_> = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned(), host, local].into();
    names.extend(config.allow_hosts.iter().cloned());
    names.extend(
        addresses()
            .into_iter()
            .chain(config.listen.iter().filter_map(ip_of))
            .filter(|ip| is_useful(*ip))
            .map(|ip| ip.to_string()),
    );
    // Others can't be in a certificate.
    names.retain(|name| CertificateParams::new(vec![name.clone()]).is_ok() && !name.is_empty() && name != ".local");
    names
}

fn ip_of(address: &ListenAddress) -> Option<IpAddr> {
    match address {
        ListenAddress::Tcp(address) => Some(address.ip()),
        ListenAddress::Unix(_) => None,
    }
}

fn host_name() -> String {
    uname().nodename().to_string_lossy().into_owned()
}

fn is_useful(ip: IpAddr) -> bool {
    !ip.is_unspecified() && !ip.is_loopback() && !matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// Returns the addresses of this machine's interfaces, as far as Linux lists them in files: a call for them would need a kind of
/// socket that the unit of the service forbids.
fn addresses() -> Vec<IpAddr> {
    let routes = fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let interfaces = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    addresses_in(&routes, &interfaces)
}

fn addresses_in(routes: &str, interfaces: &str) -> Vec<IpAddr> {
    let lines: Vec<_> = routes.lines().map(str::trim).collect();
    let v4 = lines.windows(2).filter(|pair| pair[1].ends_with("host LOCAL"));
    let v4 = v4.filter_map(|pair| pair[0].strip_prefix("|-- ")?.parse().ok());
    let v6 = interfaces.lines().filter_map(|line| u128::from_str_radix(line.split_whitespace().next()?, 16).ok());
    v4.chain(v6.map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_that_linux_lists() {
        let routes = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 192.0.2.0\n        /24 link UNICAST\n     |-- 192.0.2.7\n        \
                      /32 host LOCAL\n     |-- 192.0.2.255\n        /32 link BROADCAST\n";
        let interfaces = "20010db8000000000000000000000007 02 40 00 80     eth0\n";
        let found = addresses_in(routes, interfaces);
        assert_eq!(found, ["192.0.2.7".parse::<IpAddr>().unwrap(), "2001:db8::7".parse().unwrap()]);
        assert!(!is_useful("fe80::1".parse().unwrap()) && !is_useful("0.0.0.0".parse().unwrap()));
    }
}
