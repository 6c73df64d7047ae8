//! Measurements of runs as tables of percentiles and plots, and two runs side by side. Logs are HdrHistogram's interval
//! logs, so that its other tools read them too.

pub(crate) mod args;
pub(crate) mod command;
pub mod log;
pub mod page;
pub mod percentiles;
pub mod plot;
