//! The arguments of `aircheckctl listen`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::url::ListenUrl;
use crate::args::{positive_span, span};
use crate::client::TokenArgs;

/// Bounds of `--play-buffer`: the shortest period of a device, and more than is still live.
const MIN_PLAY_BUFFER: Duration = Duration::from_millis(5);
const MAX_PLAY_BUFFER: Duration = Duration::from_secs(2);

/// Listen to a server, count every loss, and record or play what arrives
///
/// Reads the server's WebSocket and checks the sequence number of every block.
/// Gaps are shown as they happen and progress goes to stderr; a summary is
/// printed to stdout at the end. The server is asked for its time, so that the
/// latency from capture to here is right whatever this machine's clock says.
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  aircheckctl listen localhost
  aircheckctl listen studio:8700 -o take.wav --for 10s
  aircheckctl listen studio --play
  aircheckctl listen 'http://studio:8700/?from=0&name=check' --for 2m --strict

Exit codes:
  0  the stream ended properly, --for was over, or Ctrl-C or SIGTERM came
  1  no connection, connection lost, an error of the server, disconnected by the
     server, nothing came, FILE cannot be written, or no audio output device
  2  wrong usage
  3  with --strict: blocks were lost, or the server's notices of gaps contradict
     the sequence numbers"
)]
pub(crate) struct ListenArgs {
    /// The server, as HOST, HOST:PORT, http://HOST:PORT/ or ws://HOST:PORT/; the port is 8700 unless a URL says otherwise
    ///
    /// A query is passed on: ?from=SEQ, ?burst=D, ?name=TEXT, ?overflow=P, ?buffer=D, ?payload=f32 or s16.
    #[arg(value_name = "URL", value_parser = ListenUrl::parse)]
    pub(crate) url: ListenUrl,

    #[command(flatten)]
    pub(crate) token: TokenArgs,

    /// Record to a WAV file, exactly the samples that came
    ///
    /// Samples are 32-bit floats; gaps are left out. An existing file is
    /// replaced, but only once the server has answered. A WAV holds at most
    /// 4 GiB: about 3 hours of 48 kHz stereo.
    #[arg(verbatim_doc_comment, short, long, value_name = "FILE", value_parser = wav_path)]
    pub(crate) output: Option<PathBuf>,

    /// Play it on the default audio output
    ///
    /// The server is told when each block is heard, and shows it as the latency of
    /// stage "ear". Lost blocks are silence. Sound that comes too late to be played
    /// in time is counted as late.
    #[arg(verbatim_doc_comment, long)]
    pub(crate) play: bool,

    /// Length of the sound that waits to be played, so that late blocks still come in time
    #[arg(long, value_name = "D", default_value = "60ms", requires = "play", value_parser = play_buffer)]
    pub(crate) play_buffer: Duration,

    /// Stop so long after the first block: 10s, 2m, 1h 30m
    #[arg(long = "for", value_name = "D", value_parser = positive_span)]
    pub(crate) span: Option<Duration>,

    /// Exit with 3 if blocks were lost
    #[arg(long)]
    pub(crate) strict: bool,
}

fn wav_path(text: &str) -> Result<PathBuf, String> {
    match text {
        "" => Err("a file name is needed".to_owned()),
        "-" => Err("a WAV's header is completed at the end, so it cannot go to stdout (name a file)".to_owned()),
        _ => Ok(PathBuf::from(text)),
    }
}

fn play_buffer(text: &str) -> Result<Duration, String> {
    match span(text)? {
        span if (MIN_PLAY_BUFFER..=MAX_PLAY_BUFFER).contains(&span) => Ok(span),
        _ => Err("it must be 5ms to 2s".to_owned()),
    }
}
