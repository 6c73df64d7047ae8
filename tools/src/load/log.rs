//! The measurements of each second, as a log of HdrHistogram's.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::measures::{Measure, Measures};
use crate::report::log::{Interval, Writer};

/// A log that is written while the run goes on.
pub(crate) struct SecondsLog(Writer);

impl SecondsLog {
    /// Begins a file with a comment on what is loaded.
    ///
    /// # Errors
    ///
    /// If it can't be written.
    pub(crate) fn create(path: &Path, what: &str) -> io::Result<Self> {
        Ok(Self(Writer::create(path, &[format!("aircheckctl load {what}")], SystemTime::now())?))
    }

    /// Adds an interval of each measurement, even an empty one: that is a result too.
    ///
    /// # Errors
    ///
    /// If it can't be written.
    pub(crate) fn interval(&mut self, measures: &Measures, start: Duration, span: Duration) -> io::Result<()> {
        for measure in Measure::LOGGED {
            let histogram = measures.recent(measure);
            self.0.write(&Interval { tag: measure.tag(), start, span, histogram })?;
        }
        self.0.flush()
    }
}
