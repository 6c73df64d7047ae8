//! The `aircheckctl` command: what people run beside an aircheck server.
//!
//! A module uses those that stand above it. Numbers as people read them ([`units`]), text in columns ([`table`]) and
//! errors come first; `client` talks to a server, `check` finds out what a stream lost and how late it is, `play` makes
//! it heard. Above them stand the commands, which do not know each other: `listen`, `load`, `top` and [`report`], whose
//! logs and tables the benchmarks use too. `cli` reads the command line and runs one of them.

pub mod table;
pub mod units;

mod failure;
mod signals;

mod check;
mod client;
mod play;

pub mod report;

mod listen;
mod load;
mod top;

mod cli;

pub use cli::run;
