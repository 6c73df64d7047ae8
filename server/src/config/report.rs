//! The report of `aircheck check-config`.

use std::fmt;
use std::path::{Path, PathBuf};

use aircheck_notify::Target;

use super::error::ConfigError;
use super::layers::Layers;
use super::nats_url::NatsUrl;
use super::push::PushTarget;
use super::schema::Config;
use super::settings::settings;
use super::source::SourceSpec;
use crate::access::policy::has_listen;

/// A file that was checked. It shows as a table of every setting that has an effect, its value and its origin, ending in
/// a line break.
#[derive(Debug)]
pub struct Checked {
    path: PathBuf,
    config: Config,
    layers: Layers,
}

impl Checked {
    /// Checks the settings of `layers`, of which the file at `path` is one.
    pub(super) fn new(path: PathBuf, layers: Layers) -> Result<Self, ConfigError> {
        Ok(Self { config: layers.finish()?, path, layers })
    }

    /// Returns the settings that would run.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mounts = &self.config.mounts;
        let has_tables = self.layers.get("mount").is_some();
        let (stdin_rate_hz, stdin_channels, _) = mounts[0].capture.stdin_format();
        let is_stdin = !has_tables && mounts[0].capture.source == SourceSpec::Stdin;
        let rows: Vec<_> = settings()
            .iter()
            .filter(|setting| self.config.has_effect(&setting.key))
            // Each table has one of its own.
            .filter(|setting| !(has_tables && setting.key == "source"))
            .map(|setting| {
                let given = self.layers.get(&setting.key);
                let value = given.map(|(value, _)| value.to_string()).or_else(|| setting.default.clone());
                let value = match (setting.key.as_str(), value.filter(|value| !value.is_empty())) {
                    ("rate", None) if is_stdin => format!("{stdin_rate_hz} Hz"),
                    ("rate", Some(rate_hz)) => format!("{rate_hz} Hz"),
                    ("channels", None) if is_stdin => stdin_channels.to_string(),
                    ("mount", Some(_)) => {
                        let shown = mounts.iter().map(|mount| format!("{} ({})", mount.name, mount.capture.source));
                        shown.collect::<Vec<_>>().join(", ")
                    }
                    ("rate" | "channels", None) => "the device's own".to_owned(),
                    ("allow_hosts", None) => "addresses and localhost only".to_owned(),
                    // Without user and password.
                    ("source", Some(_)) if !has_tables => mounts[0].capture.source.to_string(),
                    ("publish", Some(_)) => {
                        let urls: Vec<_> =
                            mounts.iter().filter_map(|it| Some(it.publish.publish.as_ref()?.to_string())).collect();
                        if urls.is_empty() { "off".to_owned() } else { urls.join(", ") }
                    }
                    ("report", Some(_)) => shown(self.config.audience.report.as_ref()),
                    ("gather", Some(_)) => shown(self.config.audience.gather.as_ref()),
                    ("report_as", None) => self.config.audience.name(),
                    // Hosts only, because the rest of a URL is a secret.
                    ("notify", Some(_)) => {
                        self.config.notify.targets.iter().map(Target::authority).collect::<Vec<_>>().join(", ")
                    }
                    // Without passwords.
                    ("push", Some(_)) => PushTarget::shown(mounts.iter().flat_map(|mount| &mount.delivery.push)),
                    // Without the hashes, which are of no use to a reader.
                    ("token", Some(_)) => {
                        let shown = self.config.tokens.iter().map(|token| {
                            let scopes: Vec<_> = token.scopes.iter().map(ToString::to_string).collect();
                            format!("{} ({})", token.name, scopes.join(", "))
                        });
                        shown.collect::<Vec<_>>().join(", ")
                    }
                    (_, value) => value.unwrap_or_else(|| "none".to_owned()),
                };
                (&setting.key, value, given.map_or("default", |(_, origin)| &origin.label))
            })
            .collect();
        let key_width = rows.iter().map(|(key, ..)| key.len()).max().unwrap_or(0);
        let value_width = rows.iter().map(|(_, value, _)| value.chars().count()).max().unwrap_or(0);
        writeln!(f, "{} is valid and gives these settings:", self.path.display())?;
        for (key, value, origin) in &rows {
            writeln!(f, "  {key:key_width$}  {value:value_width$}  {origin}")?;
        }
        if let Some(listen) = self.config.http.listen.iter().find(|address| address.is_reachable())
            && !self.config.tokens.iter().any(|token| has_listen(token))
        {
            writeln!(f, "Other machines can reach {listen}: anyone who can connect can listen.")?;
        }
        Ok(())
    }
}

/// Returns the address without user and password.
fn shown(url: Option<&NatsUrl>) -> String {
    url.map_or_else(|| "off".to_owned(), ToString::to_string)
}
