//! The list of input devices, for `aircheck devices`.

use std::fmt::Write as _;

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
    let width = devices.iter().map(|device| device.name.chars().count()).max().unwrap_or(0);
    let mut table = String::new();
    for device in &devices {
        let mark = if device.is_default { '*' } else { ' ' };
        let format = match (device.rate_hz, device.channels, &device.sample_format) {
            (Some(rate_hz), Some(channels), Some(format)) => format!("{rate_hz:>6} Hz {channels:>2} ch {format:<4}"),
            _ => format!("{:<17}", "in use"),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(table, "{mark} {:<width$}  {format}  {}", device.name, device.id);
    }
    table.push_str("\n* is the default; choose another with --source \"mic:NAME\"\n");
    Ok(table)
}
