//! The command line.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

use crate::client::url::Address;
use crate::failure::complain;
use crate::listen::target::Target;
use crate::load::args::LoadArgs;
use crate::report::command::Report;
use crate::{listen, load, top};

/// What a usage error exits with, as is the custom.
pub(crate) const USAGE: u8 = 2;

/// Listens to an aircheck server and tells what really arrived.
#[derive(Debug, Parser)]
#[command(name = "aircheckctl", version)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Listen(ListenArgs),
    Load(Box<LoadArgs>),
    Top(TopArgs),
    Report(ReportArgs),
}

/// Listen to a server, count every loss, and record what arrived
///
/// Reads the server's /stream.json, or its WebSocket for a ws:// URL, and checks
/// every block's sequence number and position itself. Gaps are shown as they
/// happen and progress goes to stderr; a summary is printed to stdout at the
/// end. Over the WebSocket the server is asked what time it is, so that the
/// latency from capture to here is known whatever this machine's clock says.
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  aircheckctl listen localhost:8700
  aircheckctl listen localhost:8700 -o take.wav --for 10s
  aircheckctl listen ws://localhost:8700
  aircheckctl listen localhost:8700 --play
  aircheckctl listen 'http://localhost:8700/?from=0&name=check' --for 2m --strict

Exit codes:
  0  it ended as it should: the stream's end, --for, Ctrl-C or SIGTERM
  1  no connection, connection lost, an error from the server, ended by the
     server, nothing came, FILE can't be written, or there is nothing to play on
  2  wrong usage
  3  with --strict: blocks were lost, or the server's account of them didn't add up"
)]
pub(crate) struct ListenArgs {
    /// The server, as HOST:PORT or http://HOST:PORT/, or ws://HOST:PORT/ for its WebSocket
    ///
    /// A query is passed on: ?from=SEQ, ?burst=D, ?name=TEXT, ?overflow=P, ?buffer=D, and for the WebSocket
    /// ?payload=f32 or s16.
    #[arg(value_name = "URL", value_parser = Target::parse)]
    pub(crate) target: Target,

    /// Record to a WAV file, exactly the samples that came
    ///
    /// Samples are 32-bit floats; gaps are left out. An existing file is
    /// replaced, but only once the server has answered. A WAV holds at most
    /// 4 GiB: about 3 hours of 48 kHz stereo.
    #[arg(verbatim_doc_comment, short, long, value_name = "FILE", value_parser = wav_path)]
    pub(crate) output: Option<PathBuf>,

    /// Play it on the default output; implies the WebSocket
    ///
    /// The server is told what is heard when, and shows it as the latency of
    /// stage "ear". Lost blocks are silence. What comes too late to be played
    /// in time is counted as late.
    #[arg(verbatim_doc_comment, long)]
    pub(crate) play: bool,

    /// How much sound waits to be played, so that what comes late comes in time
    #[arg(long, value_name = "D", default_value = "60ms", requires = "play", value_parser = play_buffer)]
    pub(crate) play_buffer: Duration,

    /// Stop this long after the first block came: 10s, 2m, 1h 30m
    #[arg(long = "for", value_name = "D", value_parser = positive_span)]
    pub(crate) span: Option<Duration>,

    /// Exit with 3 if anything was lost
    #[arg(long)]
    pub(crate) strict: bool,
}

/// Show in a terminal who listens, who lags and why, and how the capture does
///
/// The figures are those of the server's page and API. Those who are furthest
/// behind stand first. Listeners can be sorted, filtered and disconnected: `?`
/// shows the keys. If the server goes away its last figures stay, and it is
/// asked again until it is back. With NO_COLOR set there are no colours.
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  aircheckctl top localhost:8700
  aircheckctl top http://localhost:8700/ --once

Exit codes:
  0  somebody quit: q, Esc, Ctrl-C or SIGTERM; or --once was shown
  1  no connection, or it is no aircheck
  2  wrong usage, or there is no terminal"
)]
pub(crate) struct TopArgs {
    /// The server, as HOST:PORT or http://HOST:PORT/
    #[arg(value_name = "URL", value_parser = Address::parse)]
    pub(crate) address: Address,

    /// Print it once as plain text, with all listeners, and exit
    ///
    /// As wide as the terminal; with every column if it goes to a file or a pipe.
    #[arg(verbatim_doc_comment, long)]
    pub(crate) once: bool,
}

/// Show what a run measured, from its log: percentiles, a plot, two runs side by side
///
/// Logs are HdrHistogram's interval logs (.hlog), as `cargo bench --bench latency` writes
/// them, and others in nanoseconds. Of two logs, what both measured is compared.
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  aircheckctl report target/latency/latency.hlog
  aircheckctl report before.hlog after.hlog --only idle-16 --svg both.svg

Exit codes:
  0  it was shown
  1  a log can't be read or holds nothing of the kind, or a file can't be written
  2  wrong usage"
)]
pub(crate) struct ReportArgs {
    /// The logs
    #[arg(value_name = "FILE.hlog", required = true)]
    pub(crate) logs: Vec<PathBuf>,

    /// Show only what has NAME in its name
    #[arg(long, value_name = "NAME")]
    pub(crate) only: Option<String>,

    /// Draw the percentiles of all of it
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,

    /// Write a page with tables and plots
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

/// Runs the command that the command line names, and returns what the process exits with.
#[must_use]
pub fn run() -> ExitCode {
    let cli = match parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    // One thread is enough: a stream takes it a few percent of a core.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("can't start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let code = match cli.command {
        Command::Listen(args) => runtime.block_on(listen::listen(args)),
        Command::Load(args) => runtime.block_on(load::load(*args)),
        Command::Top(args) => runtime.block_on(top::top(args)),
        Command::Report(args) => report(args),
    };
    // A name look-up that still runs must not hold up the exit.
    runtime.shutdown_background();
    code
}

fn report(args: ReportArgs) -> ExitCode {
    let ReportArgs { logs, only, svg, html } = args;
    match (Report { logs, only, svg, html }).make() {
        Ok(text) => {
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Reads the command line.
///
/// # Errors
///
/// The code to exit with, after the help or one line about the mistake was printed.
pub(crate) fn parse() -> Result<Cli, ExitCode> {
    let cli = Cli::try_parse().map_err(|error| {
        if !error.use_stderr() {
            return match error.print() {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            };
        }
        wrong(&one_line(&error))
    })?;
    let command = match cli.command {
        Command::Load(args) => Command::Load(Box::new(args.check().map_err(|why| wrong(&why))?)),
        other => other,
    };
    Ok(Cli { command })
}

fn wrong(why: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "aircheckctl: {why}");
    ExitCode::from(USAGE)
}

/// clap's message without its usage paragraphs.
fn one_line(error: &clap::Error) -> String {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "no command given: try `aircheckctl listen HOST:PORT`, `aircheckctl load HOST:PORT`, or --help"
            .to_owned();
    }
    let text = error.to_string();
    let first: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    let line = first.join(" ");
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    let tip = text.lines().find_map(|line| line.trim().strip_prefix("tip: ").filter(|tip| tip.contains("similar")));
    tip.map_or_else(|| line.to_owned(), |tip| format!("{line}; {tip}"))
}

fn wav_path(text: &str) -> Result<PathBuf, String> {
    match text {
        "" => Err("a file name is needed".to_owned()),
        "-" => Err("a WAV's header is completed at the end, so it can't go to stdout; name a file".to_owned()),
        _ => Ok(PathBuf::from(text)),
    }
}

/// A span that is longer than nothing, as people write it.
pub(crate) fn positive_span(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(span) if span.is_zero() => Err("it must be longer than nothing".to_owned()),
        Ok(span) => Ok(span),
        Err(error) => Err(format!("{error}; write it as 10s, 2m or 1h 30m")),
    }
}

fn play_buffer(text: &str) -> Result<Duration, String> {
    // Shorter than the shortest period of a device, or longer than anybody would call live: a slip of the pen.
    let (least, most) = (Duration::from_millis(5), Duration::from_secs(2));
    match humantime::parse_duration(text) {
        Ok(span) if (least..=most).contains(&span) => Ok(span),
        Ok(_) => Err("it must be 5ms to 2s".to_owned()),
        Err(error) => Err(format!("{error}; write it as 60ms or 1s")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(args: &[&str]) -> String {
        one_line(&Cli::try_parse_from(args).unwrap_err())
    }

    #[test]
    fn the_command_is_well_formed() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_are_read() {
        let cli = Cli::try_parse_from(["aircheckctl", "listen", "h:1", "-o", "a.wav", "--for", "2m", "--strict"]);
        let Command::Listen(args) = cli.unwrap().command else { panic!("another command") };
        assert_eq!(args.output.unwrap(), PathBuf::from("a.wav"));
        assert_eq!(args.span, Some(Duration::from_secs(120)));
        assert!(args.strict);
    }

    #[test]
    fn a_mistake_is_one_line_that_names_it() {
        let cases = [
            (&["aircheckctl"][..], "no command"),
            (&["aircheckctl", "listen"], "<URL>"),
            (&["aircheckctl", "listen", "h:1", "--stric"], "similar argument exists: '--strict'"),
            (&["aircheckctl", "listen", "h:1", "--for", "soon"], "10s, 2m"),
            (&["aircheckctl", "listen", "h:1", "--for", "0s"], "longer than nothing"),
            (&["aircheckctl", "listen", "h:1", "-o", "-"], "stdout"),
            (&["aircheckctl", "listen", "h:1", "--play", "--play-buffer", "1m"], "5ms to 2s"),
            (&["aircheckctl", "listen", "h:1", "--play-buffer", "1s"], "--play"),
            (&["aircheckctl", "listen", "https://h/"], "https"),
        ];
        for (args, word) in cases {
            let line = complaint(args);
            assert!(line.contains(word) && !line.contains('\n'), "{line:?} should name {word:?}");
        }
    }
}
