//! What was measured in each second, as a log of HdrHistogram's.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::report::log::{Interval, Writer};

use crate::load::measures::{Measure, Measures};

/// A log that is written while the run goes on.
pub(crate) struct SecondsLog(Writer);

impl SecondsLog {
    /// Begins a file that says what was loaded.
    ///
    /// # Errors
    ///
    /// When it can't be written.
    pub(crate) fn create(path: &Path, what: &str) -> io::Result<Self> {
        Ok(Self(Writer::create(path, &[format!("aircheckctl load {what}")], SystemTime::now())?))
    }

    /// Adds an interval of each measure, also where nothing was measured: that is a result, too.
    ///
    /// # Errors
    ///
    /// When it can't be written.
    pub(crate) fn interval(&mut self, measures: &Measures, start: Duration, span: Duration) -> io::Result<()> {
        for measure in Measure::ALL {
            let histogram = measures.recent(measure);
            self.0.write(&Interval { tag: measure.tag(), start, span, histogram })?;
        }
        self.0.flush()
    }
}
