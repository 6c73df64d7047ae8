//! What `aircheckctl load` is told.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::load::mount::{Form, Mount};

/// Put a server under load, and check what every one of many listeners gets
///
/// All listeners are in this one process, and each checks its own stream: every
/// sequence number where the form has them (json, sse, ws), positions in Ogg
/// Opus, else how many bytes came; and before they leave, each is compared with
/// its row in the server's table. From any other HTTP stream, an Icecast mount
/// for example, bytes, first bytes and stalls are measured.
///
/// Progress goes to stderr; a table and a verdict are printed to stdout at the
/// end. Losses of slow and frozen listeners are shown, but only those of healthy
/// ones count.
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  aircheckctl load localhost:8700 --listeners 200 --for 30s
  aircheckctl load localhost:8700 --format opus --listeners 500 --ramp 50/s --churn 5/s
  aircheckctl load ws://localhost:8700 --listeners 100 --slow 3 --frozen 2 --json
  aircheckctl load http://radio.example:8000/live.mp3 --listeners 20 --for 1m

What is measured:
  first byte  from the beginning of the connection to the first byte of the stream
  latency     from the capture of a block's first sample to when all of it is here:
              json, sse, ws; from another machine only ws, which asks for its time
  stall       a pause between two reads that is over 100 ms longer than a block
  The log of --hlog has an interval a second of each, of the healthy listeners:
  first_byte, latency and stall, in nanoseconds.

Exit codes:
  0  healthy listeners lost nothing, and all accounts add up
  1  nothing could be listened to, the server died, or a file can't be written
  2  wrong usage, or more listeners than this process may open connections
  3  a healthy listener lost blocks or its stream, or the accounts don't add up"
)]
pub(crate) struct LoadArgs {
    /// The server, as HOST:PORT or ws://HOST:PORT/, or the URL of any HTTP stream
    ///
    /// A query is passed on, such as ?burst=D, ?buffer=D, ?sample=f32le, ?payload=opus. A name is not: the listeners
    /// are called load-1 and so on.
    #[arg(value_name = "URL", value_parser = Mount::parse)]
    pub(crate) mount: Mount,

    /// What to listen to, where the URL doesn't say it
    #[arg(long, value_name = "F")]
    pub(crate) format: Option<Form>,

    /// How many listeners there are, slow and frozen ones among them
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) listeners: u64,

    /// How many of them come in a second
    #[arg(long, value_name = "R/s", default_value = "50/s", value_parser = positive_rate)]
    pub(crate) ramp: f64,

    /// How many read at half the pace of the stream
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub(crate) slow: u64,

    /// How many read nothing more once all have come
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub(crate) frozen: u64,

    /// How many healthy ones leave in a second, and are replaced
    #[arg(long, value_name = "R/s", default_value = "0/s", value_parser = rate)]
    pub(crate) churn: f64,

    /// End this long after all have come: 30s, 2m, 1h; without it, Ctrl-C ends it
    #[arg(long = "for", value_name = "D", value_parser = crate::cli::positive_span)]
    pub(crate) span: Option<Duration>,

    /// The process of the server on this machine, to show the CPU that it takes beside our own
    #[arg(long, value_name = "PID")]
    pub(crate) pid: Option<u32>,

    /// Print table and verdict as one JSON object
    #[arg(long)]
    pub(crate) json: bool,

    /// Write what was measured in each second as a log that HdrHistogram's tools read
    #[arg(long, value_name = "FILE")]
    pub(crate) hlog: Option<PathBuf>,
}

impl LoadArgs {
    /// What none of the arguments says alone.
    ///
    /// # Errors
    ///
    /// Which of them don't go together.
    pub(crate) fn check(mut self) -> Result<Self, String> {
        let odd = self.slow.saturating_add(self.frozen);
        if odd > self.listeners {
            let (slow, frozen, listeners) = (self.slow, self.frozen, self.listeners);
            return Err(format!(
                "--slow {slow} and --frozen {frozen} are among --listeners {listeners}; say --listeners {odd} or more"
            ));
        }
        if self.slow > 0 && odd == self.listeners {
            return Err(format!(
                "--slow takes the stream's pace from healthy listeners, and there is none; say --listeners {} or more",
                odd + 1
            ));
        }
        if let Some(form) = self.format {
            self.mount = self.mount.in_form(form)?;
        }
        Ok(self)
    }

    /// How many of them are healthy.
    pub(crate) fn healthy(&self) -> u64 {
        self.listeners - self.slow - self.frozen
    }
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
        _ => Err("it must be more than nothing".to_owned()),
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
        assert_eq!(check(&["h:1", "--format", "sse"]).unwrap().mount.form, Form::Sse);
    }

    #[test]
    fn what_can_t_be_is_refused_with_the_way_out() {
        let cases: [(&[&str], &str); 7] = [
            (&["h:1", "--listeners", "0"], "1..=1000000"),
            (&["h:1", "--ramp", "0"], "more than nothing"),
            (&["h:1", "--ramp", "fast"], "50/s or 0.5/s"),
            (&["h:1", "--churn", "-1/s"], "unexpected argument"),
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
