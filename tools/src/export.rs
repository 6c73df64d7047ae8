//! `aircheckctl export`: a part of a server's recording as a WAV file.

pub(crate) mod args;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::process::ExitCode;

use http_body_util::BodyExt as _;
use tokio::time::timeout;

use crate::client::{ApiClient, TIMEOUT};
use crate::failure::{Failure, io_words, root_cause};
use args::ExportArgs;

/// Runs the command.
pub(crate) async fn export(args: ExportArgs) -> ExitCode {
    match download(&args).await {
        Ok(bytes) => {
            // A reader that is gone has the exit code.
            let _ = writeln!(io::stdout(), "{}: {:.1} MB", args.output.display(), bytes as f64 / 1e6);
            ExitCode::SUCCESS
        }
        Err(failure) => failure.exit(),
    }
}

/// Writes the file, and returns its length in bytes. Where that fails, no file is left.
async fn download(args: &ExportArgs) -> Result<u64, Failure> {
    let ExportArgs { address, from, to, output, .. } = args;
    let mut client = ApiClient::new(address.clone(), TIMEOUT);
    let mut response = client.open(&format!("/recording.wav?from={from}&to={to}")).await?;
    let failed = |error: io::Error| Failure::Write { path: output.clone(), why: io_words(&error) };
    // Asked first, so that a refusal leaves an older file alone.
    let mut file = File::create(output).map_err(failed)?;
    let mut bytes = 0;
    let written = loop {
        match timeout(TIMEOUT, response.frame()).await {
            Ok(Some(Ok(frame))) => {
                let Ok(data) = frame.into_data() else { continue };
                bytes += data.len() as u64;
                if let Err(error) = file.write_all(&data) {
                    break Err(failed(error));
                }
            }
            Ok(Some(Err(error))) => break Err(Failure::Lost(root_cause(&error))),
            Ok(None) => break file.flush().map_err(failed),
            Err(_) => break Err(Failure::Lost("nothing came for 10 s".to_owned())),
        }
    };
    if written.is_err() {
        let _ = fs::remove_file(output);
    }
    written.map(|()| bytes)
}
