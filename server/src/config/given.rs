//! The settings that were given, for `aircheck doctor`.

use std::path::PathBuf;

use super::error::ConfigError;
use super::layers::Layers;
use super::schema::Config;

/// The settings of a server, right or wrong, and where they were given.
#[derive(Debug)]
pub struct Given {
    /// The settings, or the first mistake in them.
    pub config: Result<Config, ConfigError>,
    /// The places of the settings that are not defaults: a line of the file, a variable or a flag each. Empty if a layer
    /// cannot be read.
    pub places: Vec<String>,
    /// The file, if one was named.
    pub file: Option<PathBuf>,
}

impl Given {
    /// Checks the settings of `layers`, of which `file` is one.
    pub(super) fn of(layers: Result<Layers, ConfigError>, file: Option<PathBuf>) -> Self {
        match layers {
            Ok(layers) => Self { config: layers.finish(), places: layers.places(), file },
            Err(error) => Self { config: Err(error), places: Vec::new(), file },
        }
    }
}
