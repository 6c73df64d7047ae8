//! Reads rows, status and metrics of the server.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::Value;

use super::client::get;

/// Returns the rows by the listeners' names.
pub(crate) fn rows(address: SocketAddr) -> BTreeMap<String, Value> {
    let rows: Vec<Value> = serde_json::from_str(&get(address, "api/v1/listeners")).unwrap();
    rows.into_iter().map(|row| (row["name"].as_str().unwrap().to_owned(), row)).collect()
}

pub(crate) fn status(address: SocketAddr) -> Value {
    serde_json::from_str(&get(address, "api/v1/status")).unwrap()
}

/// Returns one past the number of the newest block.
pub(crate) fn head(address: SocketAddr) -> u64 {
    status(address)["head_sequence"].as_u64().map_or(0, |sequence| sequence + 1)
}

/// Returns how many blocks were lost at the capture, for all listeners.
pub(crate) fn captured_losses(address: SocketAddr) -> u64 {
    let capture = &status(address)["capture"];
    capture["lost_overflow"].as_u64().unwrap() + capture["lost_xrun"].as_u64().unwrap()
}

/// The samples at `/metrics`: values by series, as they are written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics(pub(crate) BTreeMap<String, f64>);

impl Metrics {
    pub(crate) fn of(address: SocketAddr) -> Self {
        let text = get(address, "metrics");
        let samples = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        Self(
            samples
                .map(|line| line.rsplit_once(' ').unwrap())
                .map(|(series, value)| (series.to_owned(), value.parse().unwrap()))
                .collect(),
        )
    }

    /// Returns the series called `name` whose text between the braces contains all `labels`.
    pub(crate) fn with<'a>(&'a self, name: &'a str, labels: &'a [&'a str]) -> impl Iterator<Item = (&'a str, f64)> {
        let fits = move |series: &str| {
            let (family, rest) = series.split_once('{').unwrap_or((series, ""));
            family == name && labels.iter().all(|label| rest.contains(label))
        };
        self.0.iter().filter(move |(series, _)| fits(series)).map(|(series, value)| (&series[..], *value))
    }

    pub(crate) fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        self.with(name, labels).map(|(_, value)| value).sum()
    }
}
