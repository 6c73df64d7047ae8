//! The `aircheck` command.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use aircheck_server::app::run;
use aircheck_server::config::cli::{self, Command};
use aircheck_server::doctor;
use aircheck_server::one_line::one_line;
use aircheck_server::source::devices;
use aircheck_server::telemetry::log;

/// Longest wait for the reader of standard error at the end.
const PRINT_TIMEOUT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os(), |name| std::env::var_os(name)) {
        Ok(command) => command,
        Err(exit) => return exit.print(),
    };
    let result = match command {
        Command::Serve(config) => {
            let _log = log::init();
            run(config).map_err(|error| (error.to_string(), error.exit_code()))
        }
        Command::Devices { json } => devices::list(json).map(|list| print(&list)).map_err(|error| (error, 1)),
        Command::CheckConfig(checked) => {
            print(&checked.to_string());
            Ok(())
        }
        Command::Doctor { given, json } => {
            return if doctor::run(given, json) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err((message, code)) => {
            print_error(format!("aircheck: {}\n", one_line(&message)));
            code.into()
        }
    }
}

/// Prints a text to standard output. A closed standard output is no failure: its reader has seen enough.
fn print(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

/// Writes to standard error. Waits at most [`PRINT_TIMEOUT`] for its reader.
fn print_error(line: String) {
    let (done, written) = mpsc::channel();
    thread::spawn(move || {
        // Nothing can be done if it fails.
        let _ = io::stderr().write_all(line.as_bytes());
        let _ = done.send(());
    });
    let _ = written.recv_timeout(PRINT_TIMEOUT);
}
