//! The list of input devices, for `aircheck devices`.

use std::fmt::Write as _;

use crate::one_line::one_line;

/// Returns the list of input devices, as a table or as JSON.
///
/// # Errors
///
/// A sentence, when the sound system cannot be asked.
pub fn list(json: bool) -> Result<String, String> {
    let devices = aircheck_engine::source::devices().map_err(|error| error.to_string())?;
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
        return Ok(format!("{:#}\n", serde_json::Value::Array(list)));
    }
    let names: Vec<_> = devices.iter().map(|device| one_line(&device.name)).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let mut table = String::new();
    for (device, name) in devices.iter().zip(names) {
        let mark = if device.is_default { '*' } else { ' ' };
        let format = match (device.rate_hz, device.channels, &device.sample_format) {
            (Some(rate_hz), Some(channels), Some(format)) => format!("{rate_hz:>6} Hz {channels:>2} ch {format:<4}"),
            _ => format!("{:<17}", "not available now"),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(table, "{mark} {name:<width$}  {format}  {}", one_line(&device.id));
    }
    table.push_str("\n* is the default; choose another with --source \"mic:NAME\"\n");
    Ok(table)
}
