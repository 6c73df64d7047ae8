//! The report of `aircheck check-config`.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::layers::Origin;
use super::schema::{show, values};
use super::{Config, SourceSpec, settings};

/// A file that was checked. It shows as a table of every setting that has an effect, its value and its origin, ending in
/// a line break.
#[derive(Debug)]
pub struct Checked {
    path: PathBuf,
    config: Config,
    origins: HashMap<&'static str, Origin>,
}

impl Checked {
    pub(super) fn new(path: PathBuf, (config, origins): (Config, HashMap<&'static str, Origin>)) -> Self {
        Self { path, config, origins }
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
        let mut config = self.config.clone();
        if config.capture.source == SourceSpec::Stdin {
            config.capture = config.capture.with_stdin_format();
        }
        let values = values(config);
        let rows: Vec<_> = settings()
            .iter()
            .map(|setting| setting.key.as_str())
            .filter(|key| self.config.why_idle(key).is_none())
            .map(|key| {
                let value = match (key, values.get(key).map(show)) {
                    (_, None) => "the device's own".to_owned(),
                    ("rate", Some(rate)) => format!("{rate} Hz"),
                    ("allow_hosts", Some(list)) if list.is_empty() => "addresses and localhost only".to_owned(),
                    (_, Some(list)) if list.is_empty() => "none".to_owned(),
                    (_, Some(value)) => value,
                };
                (key, value, self.origins.get(key).map_or("default", |origin| &origin.label))
            })
            .collect();
        let key_width = rows.iter().map(|(key, ..)| key.len()).max().unwrap_or(0);
        let value_width = rows.iter().map(|(_, value, _)| value.chars().count()).max().unwrap_or(0);
        writeln!(f, "{} is good; with it would run:", self.path.display())?;
        for (key, value, origin) in &rows {
            writeln!(f, "  {key:key_width$}  {value:value_width$}  {origin}")?;
        }
        let listen = self.config.http.listen;
        if !listen.ip().is_loopback() {
            writeln!(f, "Other machines can reach {listen}: anyone who can connect can listen.")?;
        }
        Ok(())
    }
}
