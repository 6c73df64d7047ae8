//! The `aircheck` command.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use aircheck_engine::source;
use aircheck_server::app::run;
use aircheck_server::config::cli::{self, Command};
use aircheck_server::telemetry::log;
use rustix::process::{Resource, getrlimit, setrlimit};

/// How long the reader of standard error is waited for at the end.
const PRINT_TIMEOUT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os(), |name| std::env::var_os(name)) {
        Ok(command) => command,
        Err(exit) => return exit.print(),
    };
    let result = match command {
        Command::Serve(config) => {
            let _log = log::init();
            raise_file_limit();
            run(config).map_err(|error| error.to_string())
        }
        Command::Devices { json } => devices(json),
        Command::CheckConfig(checked) => {
            // Nobody is left to tell if stdout is closed; so it is below.
            let _ = write!(io::stdout(), "{checked}");
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            print_error(format!("aircheck: {}\n", one_line(&message)));
            ExitCode::FAILURE
        }
    }
}

/// Lets as many connections be open as the system allows: each is a file, and the usual soft limit of 1024 is below
/// the default of 1000 listeners and what comes with them.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // If it is not permitted, connections are refused earlier, and that is logged.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Writes to standard error, but waits no longer than a moment for its reader.
fn print_error(line: String) {
    let (done, written) = mpsc::channel();
    thread::spawn(move || {
        // Nothing can be done if it fails.
        let _ = io::stderr().write_all(line.as_bytes());
        let _ = done.send(());
    });
    let _ = written.recv_timeout(PRINT_TIMEOUT);
}

/// The message without line ends, which names in it may have.
fn one_line(message: &str) -> String {
    message.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// Lists the input devices.
fn devices(json: bool) -> Result<(), String> {
    let devices = source::devices().map_err(|error| error.to_string())?;
    if json {
        let list: Vec<_> = devices
            .iter()
            .map(|device| {
                serde_json::json!({
                    "name": device.name,
                    "id": device.id,
                    "host": device.host,
                    "default": device.is_default,
                    "rate_hz": device.rate_hz,
                    "channels": device.channels,
                    "sample_format": device.sample_format,
                })
            })
            .collect();
        let _ = writeln!(io::stdout(), "{:#}", serde_json::Value::Array(list));
        return Ok(());
    }
    let width = devices.iter().map(|device| device.name.chars().count()).max().unwrap_or(0);
    for device in &devices {
        let mark = if device.is_default { '*' } else { ' ' };
        let format = match (device.rate_hz, device.channels, &device.sample_format) {
            (Some(rate_hz), Some(channels), Some(format)) => format!("{rate_hz:>6} Hz {channels:>2} ch {format:<4}"),
            _ => format!("{:<17}", "in use"),
        };
        let _ = writeln!(io::stdout(), "{mark} {:<width$}  {format}  {}", device.name, device.id);
    }
    let _ = writeln!(io::stdout(), "\n* is the default; choose another with --source \"mic:NAME\"");
    Ok(())
}
