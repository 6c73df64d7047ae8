//! The arguments of `aircheckctl load`.

use std::path::PathBuf;
use std::time::Duration;

use aircheck_api::Rendition;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::url::LoadUrl;
use crate::args::positive_span;
use crate::client::TokenArgs;

/// Put a server under load, and check the stream of each of many listeners
///
/// All listeners are in this one process, and each checks its own stream: the
/// sequence numbers where the format has them (json, sse, ws), the positions in
/// Ogg Opus, else the number of bytes. Before the listeners leave, each is
/// compared with its row in the server's table. Of any other HTTP stream, an
/// Icecast mount for example, bytes, first bytes and stalls are measured.
///
/// Progress goes to stderr; a table and a verdict are printed to stdout at the
/// end. Losses of slow and frozen listeners are shown, but only those of healthy
/// ones are a failure.
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  aircheckctl load localhost --listeners 200 --for 30s
  aircheckctl load studio:8700 --format opus --listeners 500 --ramp 50/s --churn 5/s
  aircheckctl load ws://localhost:8700 --listeners 100 --slow 3 --frozen 2 --json
  aircheckctl load http://radio.example:8000/live.mp3 --listeners 20 --for 1m

What is measured:
  first byte  from the start of the connection to the first byte of the stream
  latency     from the capture of a block's first sample until the whole block is
              here (json, sse, ws); from another machine only for ws, which asks
              the server for its time
  stall       a pause between two reads that is over 100 ms longer than a block,
              or than a page of Ogg Opus
  pauses      the longest pause between two reads of each listener
  The log of --hlog has an interval a second of each, for the healthy listeners:
  first_byte, latency and stall, in nanoseconds.

Exit codes:
  0  healthy listeners lost nothing, and all accounts add up
  1  there was nothing to listen to, the server died, or a file cannot be written
  2  wrong usage, or more listeners than this process may open connections
  3  a healthy listener lost blocks or its stream, or the accounts do not add up"
)]
pub(crate) struct LoadArgs {
    /// The server, as HOST, HOST:PORT or ws://HOST:PORT/, or the URL of any HTTP stream
    ///
    /// A query is passed on, such as ?burst=D, ?buffer=D, ?sample=f32le, ?payload=opus. A name is not: the listeners
    /// are called load-1 and so on.
    #[arg(value_name = "URL", value_parser = LoadUrl::parse)]
    pub(crate) url: LoadUrl,

    #[command(flatten)]
    pub(crate) token: TokenArgs,

    /// The format to listen to, if the URL does not name it
    #[arg(long, value_name = "F", value_parser = rendition())]
    pub(crate) format: Option<Rendition>,

    /// Number of listeners, including slow and frozen ones
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) listeners: u64,

    /// Number of listeners that connect in a second
    #[arg(long, value_name = "R/s", default_value = "50/s", value_parser = positive_rate)]
    pub(crate) ramp: f64,

    /// Number of listeners that read at half the pace of the stream
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub(crate) slow: u64,

    /// Number of listeners that stop reading once all have connected
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub(crate) frozen: u64,

    /// Number of healthy listeners that leave in a second, and are replaced
    #[arg(long, value_name = "R/s", default_value = "0/s", value_parser = rate)]
    pub(crate) churn: f64,

    /// End so long after all have connected: 30s, 2m, 1h; without it, Ctrl-C ends the run
    #[arg(long = "for", value_name = "D", value_parser = positive_span)]
    pub(crate) span: Option<Duration>,

    /// The server's process on this machine, to show its CPU beside our own
    #[arg(long, value_name = "PID")]
    pub(crate) pid: Option<u32>,

    /// Print table and verdict as one JSON object
    #[arg(long)]
    pub(crate) json: bool,

    /// Write the measurements of each second as a log that HdrHistogram's tools read
    #[arg(long, value_name = "FILE")]
    pub(crate) hlog: Option<PathBuf>,
}

impl LoadArgs {
    /// Checks the arguments together.
    ///
    /// # Errors
    ///
    /// Says which of them contradict each other.
    pub(crate) fn check(mut self) -> Result<Self, String> {
        let impaired = self.slow.saturating_add(self.frozen);
        if impaired > self.listeners {
            let (slow, frozen, listeners) = (self.slow, self.frozen, self.listeners);
            return Err(format!(
                "--slow {slow} and --frozen {frozen} are among --listeners {listeners} (write --listeners {impaired} or \
                 more)"
            ));
        }
        if self.slow > 0 && impaired == self.listeners {
            return Err(format!(
                "--slow takes the stream's pace from healthy listeners, and there is none (write --listeners {} or more)",
                impaired + 1
            ));
        }
        if let Some(rendition) = self.format {
            self.url = self.url.with_rendition(rendition)?;
        }
        Ok(self)
    }

    /// Returns the number of healthy listeners.
    pub(crate) fn healthy(&self) -> u64 {
        self.listeners - self.slow - self.frozen
    }
}

fn rendition() -> impl TypedValueParser<Value = Rendition> {
    PossibleValuesParser::new(Rendition::ALL.map(Rendition::name))
        .try_map(|name| Rendition::from_name(&name).ok_or("not a rendition"))
}

fn rate(text: &str) -> Result<f64, String> {
    match text.strip_suffix("/s").unwrap_or(text).parse() {
        Ok(rate) if (0.0..=1e6).contains(&rate) => Ok(rate),
        _ => Err("write it as 50/s or 0.5/s".to_owned()),
    }
}

fn positive_rate(text: &str) -> Result<f64, String> {
    match rate(text)? {
        rate if rate > 0.0 => Ok(rate),
        _ => Err("it must be more than 0".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Load {
        #[command(flatten)]
        args: LoadArgs,
    }

    fn check(args: &[&str]) -> Result<LoadArgs, String> {
        let load = Load::try_parse_from([&["load"], args].concat()).map_err(|error| error.to_string())?;
        load.args.check()
    }

    #[test]
    fn rates_and_counts_are_read() {
        let args = check(&["h:1", "--ramp", "0.5/s", "--churn", "3", "--slow", "2", "--frozen", "1"]).unwrap();
        assert_eq!((args.ramp, args.churn, args.healthy()), (0.5, 3.0, 47));
        assert_eq!(check(&["h:1", "--format", "sse"]).unwrap().url.rendition, Some(Rendition::Events));
    }

    #[test]
    fn impossible_arguments_are_refused_with_the_way_out() {
        let cases: [(&[&str], &str); 8] = [
            (&["h:1", "--listeners", "0"], "1..=1000000"),
            (&["h:1", "--ramp", "0"], "more than 0"),
            (&["h:1", "--ramp", "fast"], "50/s or 0.5/s"),
            (&["h:1", "--churn", "-1/s"], "unexpected argument"),
            (&["h:1", "--format", "aac"], "possible values: wav, pcm"),
            (&["h:1", "--listeners", "3", "--slow", "2", "--frozen", "2"], "--listeners 4 or more"),
            (&["h:1", "--listeners", "3", "--slow", "3"], "--listeners 4 or more"),
            (&["h:1/stream.wav", "--format", "opus"], "the URL names wav"),
        ];
        for (args, words) in cases {
            let error = check(args).unwrap_err();
            assert!(error.contains(words), "{args:?}: {error}");
        }
    }
}
