//! The values of settings as they were given, to tell which ones a file has changed.

use std::collections::BTreeMap;
use std::fmt;

use super::layers::Layers;
use super::settings::{is_of_mount, settings};

/// The given values of all settings but the tokens and those of mounts. `Debug` shows none of them, because there are secrets among them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Values(BTreeMap<&'static str, String>);

impl Values {
    pub(super) fn of(layers: &Layers) -> Self {
        let given = settings().iter().filter(|setting| {
            let is_taken = ["token", "mount"].contains(&setting.key.as_str()) || is_of_mount(&setting.key);
            !is_taken
        });
        let value = |key: &'static str| layers.get(key).map(|(value, _)| (key, value.to_string()));
        Self(given.filter_map(|setting| value(&setting.key)).collect())
    }

    /// Returns the keys of the settings that `other` has another value of, in the order of the schema.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let keys = settings().iter().map(|setting| setting.key.as_str());
        keys.filter(|key| self.0.get(key) != other.0.get(key)).collect()
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
