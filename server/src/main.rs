//! The `aircheck` command.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use aircheck_api::TokenHash;
use aircheck_server::access::scope::Scope;
use aircheck_server::access::token;
use aircheck_server::app::run;
use aircheck_server::config::cli::{self, Command, Exit};
use aircheck_server::config::{Config, Values};
use aircheck_server::doctor;
use aircheck_server::one_line::one_line;
use aircheck_server::reload::Reload;
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
        Command::Serve(config, values) => {
            let _log = log::init();
            run(*config, Some(Reload { values, read: read_again }))
                .map_err(|error| (error.to_string(), error.exit_code()))
        }
        Command::NewToken { name, scopes } => match token::random() {
            Ok(token) => {
                print(&token_lines(&name, &token, &scopes));
                Ok(())
            }
            Err(error) => Err((format!("the system has no random numbers: {error}"), 1)),
        },
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

/// Reads all settings again as they were read at the start.
fn read_again() -> Result<(Config, Values), String> {
    match cli::parse(std::env::args_os(), |name| std::env::var_os(name)) {
        Ok(Command::Serve(config, values)) => Ok((*config, values)),
        Ok(_) | Err(Exit::Help(_)) => Err("the command line is another one".to_owned()),
        Err(Exit::Wrong(error)) => Err(error.to_string()),
    }
}

/// Returns a new token, and the lines of the configuration file that let it in.
fn token_lines(name: &str, token: &str, scopes: &[Scope]) -> String {
    let scopes: Vec<_> = scopes.iter().map(|scope| format!("\"{scope}\"")).collect();
    format!(
        "token: {token}\n\n# Keep the token, because it is shown this once. These lines go into the configuration file.\n[[token]]\n\
         name = \"{name}\"\nhash = \"{}\"\nscopes = [{}]\n",
        TokenHash::of(token),
        scopes.join(", ")
    )
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
