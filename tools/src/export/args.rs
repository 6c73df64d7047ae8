//! The arguments of `aircheckctl export`.

use std::path::PathBuf;

use aircheck_api::moment;
use clap::Args;

use crate::client::{Address, TokenArgs};

/// Cut a part out of a server's recording, as one WAV file
///
/// The server must record (`aircheck --record DIR`). Where nothing was recorded,
/// the file has as much silence, so that every sample is at its time. An existing
/// file is replaced, but only once the server has answered.
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  aircheckctl export --from 2026-11-27T14:00:00Z --to 2026-11-27T14:30:00Z -o news.wav
  aircheckctl export studio:8700 --from 2026-11-27T14:00:00Z --to 2026-11-27T14:30:00Z -o news.wav

Exit codes:
  0  the file is there
  1  no connection, connection lost, nothing was recorded then, or FILE cannot be written
  2  wrong usage"
)]
pub(crate) struct ExportArgs {
    /// The server, as HOST, HOST:PORT or http://HOST:PORT/; the port is 8700 unless a URL says otherwise
    #[arg(value_name = "URL", value_parser = Address::parse, default_value = "localhost")]
    pub(crate) address: Address,

    #[command(flatten)]
    pub(crate) token: TokenArgs,

    /// Time of the first sample, such as 2026-11-27T14:00:00Z or 2026-11-27T15:00:00+01:00
    #[arg(long, value_name = "T", value_parser = time)]
    pub(crate) from: String,

    /// Time after the last sample
    #[arg(long, value_name = "T", value_parser = time)]
    pub(crate) to: String,

    /// The WAV file to write, of 32-bit floats
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
}

/// Checks a time. The server reads it.
fn time(text: &str) -> Result<String, String> {
    match moment::parse(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err(format!("not {}", moment::TAKES)),
    }
}
