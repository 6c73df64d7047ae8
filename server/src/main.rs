//! The `aircheck` command.

use std::process::ExitCode;

use aircheck_engine::source;
use aircheck_server::cli::{self, Command};
use aircheck_server::run::run;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os(), |name| std::env::var_os(name)) {
        Ok(command) => command,
        Err(exit) => return exit.print(),
    };
    let result = match command {
        Command::Serve(config) => {
            log_to_stderr();
            run(config).map_err(|error| error.to_string())
        }
        Command::Devices { json } => devices(json),
        Command::CheckConfig(checked) => {
            print!("{checked}");
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("aircheck: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Logs what `RUST_LOG` asks for, or what an operator wants to know.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).init();
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
        println!("{:#}", serde_json::Value::Array(list));
        return Ok(());
    }
    let width = devices.iter().map(|device| device.name.chars().count()).max().unwrap_or(0);
    for device in &devices {
        let mark = if device.is_default { '*' } else { ' ' };
        let format = match (device.rate_hz, device.channels, &device.sample_format) {
            (Some(rate_hz), Some(channels), Some(format)) => format!("{rate_hz:>6} Hz {channels:>2} ch {format:<4}"),
            _ => format!("{:<17}", "in use"),
        };
        println!("{mark} {:<width$}  {format}  {}", device.name, device.id);
    }
    println!("\n* is the default; choose another with --source \"mic:NAME\"");
    Ok(())
}
