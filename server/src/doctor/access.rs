//! Who may do what: the tokens, and the proxies whose word is taken.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::finding::{Area, Finding};
use crate::config::Config;

/// Looks at tokens and proxies. `file` has the settings.
pub(super) fn check(config: &Config, file: Option<&Path>) -> Vec<Finding> {
    let mut findings = tokens(config);
    findings.extend(file.filter(|_| !config.tokens.is_empty()).and_then(readable));
    findings.extend(proxies(config));
    findings
}

fn tokens(config: &Config) -> Vec<Finding> {
    let tokens = &config.tokens;
    if tokens.is_empty() {
        let text = "no tokens: this machine alone sees figures and ends listeners";
        return vec![Finding::ok(Area::Tokens, text)];
    }
    let scopes = |scopes: &[_]| scopes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let all: Vec<_> = tokens.iter().map(|token| format!("{} ({})", token.name, scopes(&token.scopes))).collect();
    vec![Finding::ok(Area::Tokens, all.join(", "))]
}

/// Notes a file with tokens that others may read.
fn readable(file: &Path) -> Option<Finding> {
    let mode = fs::metadata(file).ok()?.permissions().mode();
    (mode & 0o004 != 0).then(|| {
        let shown = file.display();
        let text = format!("all users of this machine may read {shown}, and can sign URLs with the hashes in it");
        Finding::note(Area::Tokens, text, "keep it to the service:").with_command(format!("chmod o= {shown}"))
    })
}

fn proxies(config: &Config) -> Option<Finding> {
    let proxies = &config.http.trusted_proxies;
    if proxies.is_empty() {
        return None;
    }
    let shown: Vec<_> = proxies.iter().map(ToString::to_string).collect();
    let shown = shown.join(", ");
    Some(if proxies.iter().any(|network| network.prefix_len() == 0) {
        Finding::note(
            Area::Proxies,
            format!(
                "{shown}: every client is believed, so each can name an address of its choice and escape the limits of its own"
            ),
            "name the addresses of the proxies alone, such as --trusted-proxy 127.0.0.1",
        )
    } else {
        Finding::ok(Area::Proxies, format!("{shown}: believed about the clients behind them"))
    })
}
