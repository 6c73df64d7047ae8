//! The `aircheckctl` command: the tools beside an aircheck server.
//!
//! A module uses those that stand above it. First come numbers as people read them ([`units`]), text in columns
//! ([`table`]), foreign text made harmless, errors and signals. `client` talks to a server, `check` counts the
//! losses of a stream and measures its latency, `play` makes it heard. [`report`] shows logs, whose format `load` and the benchmarks
//! write too. The commands do not know each other: `listen`, `load`, `notify_test`, `sign_url`, `top`. `cli` reads the command line and runs one.

pub mod table;
pub mod units;

mod args;
mod failure;
mod sanitize;
mod signals;
mod status_line;

mod client;

mod check;

mod play;

pub mod report;

mod export;
mod listen;
mod load;
mod notify_test;
mod sign_url;
mod top;

mod cli;

pub use cli::{grammar, run};
