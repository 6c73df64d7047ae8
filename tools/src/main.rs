//! The `aircheckctl` command: what people run beside an aircheck server.
//!
//! `aircheckctl listen` flows one way: [`cli`] and [`target`] say what is wanted, [`client`] asks the server, and a
//! [`stream`] of blocks and gaps begins: lines of JSON, which [`feed`] reads, or the messages ([`message`]) of a
//! [`websocket`]. [`ledger`] checks that they add up, [`received`] keeps what arrived, [`timing`] how late it was by the
//! server's [`clock`], [`recording`] writes it, [`play`] makes it heard, and [`progress`], [`screen`] and [`summary`] show it. [`listen`] is the
//! loop that joins them, and the only one that reads clocks. `aircheckctl load` is a world of its own, [`load`], and so
//! is `aircheckctl top`, [`top`].

mod address;
mod block;
mod cli;
mod client;
mod clock;
mod failure;
mod feed;
mod format;
mod latency;
mod ledger;
mod level;
mod listen;
mod load;
mod message;
mod notices;
mod play;
mod progress;
mod received;
mod recording;
mod screen;
mod signals;
mod stream;
mod summary;
mod target;
mod timing;
mod top;
mod websocket;
mod words;

use std::io::Write;
use std::process::ExitCode;

use aircheck_tools::report::command::Report;

fn main() -> ExitCode {
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    // One thread is enough: a stream takes it a few percent of a core.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("can't start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let code = match cli.command {
        cli::Command::Listen(args) => runtime.block_on(listen::listen(args)),
        cli::Command::Load(args) => runtime.block_on(load::load(*args)),
        cli::Command::Top(args) => runtime.block_on(top::top(args)),
        cli::Command::Report(args) => report(args),
    };
    // A name look-up that still runs must not hold up the exit.
    runtime.shutdown_background();
    code
}

fn report(args: cli::ReportArgs) -> ExitCode {
    let cli::ReportArgs { logs, only, svg, html } = args;
    match (Report { logs, only, svg, html }).make() {
        Ok(text) => {
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// One line on stderr. That nobody reads it any more is no reason to fail.
fn complain(what: &str) {
    let _ = writeln!(std::io::stderr(), "aircheckctl: {what}");
}
