//! The command line: its commands, and the messages about mistakes in it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser, Subcommand};

use crate::export::args::ExportArgs;
use crate::failure::{USAGE, complain};
use crate::listen::args::ListenArgs;
use crate::load::args::LoadArgs;
use crate::notify_test::{NotifyTestArgs, notify_test};
use crate::report::args::ReportArgs;
use crate::report::command::report;
use crate::sign_url::SignUrlArgs;
use crate::top::args::TopArgs;
use crate::{client, export, listen, load, sign_url, top};

/// Listens to an aircheck server, puts it under load, and shows which listeners lag.
#[derive(Debug, Parser)]
#[command(name = "aircheckctl", version)]
struct Cli {
    /// File with a certificate to trust for https:// and wss://, in PEM, besides those that the system trusts
    #[arg(long, value_name = "FILE", global = true)]
    cacert: Option<PathBuf>,
    /// The command.
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Listen(ListenArgs),
    Load(Box<LoadArgs>),
    Export(ExportArgs),
    NotifyTest(NotifyTestArgs),
    SignUrl(SignUrlArgs),
    Top(TopArgs),
    Report(ReportArgs),
}

/// Returns the grammar of the command line, from which manual pages and completions are made as well.
#[must_use]
pub fn grammar() -> clap::Command {
    Cli::command()
}

/// Runs the command that the command line names, and returns the process's exit code.
#[must_use]
pub fn run() -> ExitCode {
    let command = match parse() {
        Ok(command) => command,
        Err(code) => return code,
    };
    // One thread is enough: a stream takes a few percent of a core.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let code = match command {
        Command::Listen(args) => runtime.block_on(listen::listen(args)),
        Command::Load(args) => runtime.block_on(load::load(*args)),
        Command::Export(args) => runtime.block_on(export::export(args)),
        Command::NotifyTest(args) => runtime.block_on(notify_test(args)),
        Command::Top(args) => runtime.block_on(top::top(args)),
        Command::Report(args) => report(&args),
        Command::SignUrl(args) => sign_url::run(&args),
    };
    // A name look-up that still runs must not hold up the exit.
    runtime.shutdown_background();
    code
}

/// Reads the command line. The error is the exit code, after the help or one line about the mistake was printed.
fn parse() -> Result<Command, ExitCode> {
    let usage_error = |why: &str| {
        complain(why);
        ExitCode::from(USAGE)
    };
    let cli = Cli::try_parse().map_err(|error| {
        if error.use_stderr() {
            return usage_error(&one_line(&error));
        }
        match error.print() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        }
    })?;
    if let Some(file) = &cli.cacert {
        client::trust(file);
    }
    let command = with_token(cli.command).map_err(|why| usage_error(&why))?;
    match command {
        Command::Load(args) => Ok(Command::Load(Box::new(args.check().map_err(|why| usage_error(&why))?))),
        other => Ok(other),
    }
}

/// Gives the requests of a command their token.
fn with_token(mut command: Command) -> Result<Command, String> {
    match &mut command {
        Command::Listen(args) => args.url.set_token(args.token.find()?),
        Command::Load(args) => args.url.set_token(args.token.find()?),
        Command::Export(args) => args.address.set_token(args.token.find()?),
        Command::Top(args) => args.address.set_token(args.token.find()?),
        Command::NotifyTest(_) | Command::Report(_) | Command::SignUrl(_) => {}
    }
    Ok(command)
}

/// Returns clap's message without its usage paragraphs.
fn one_line(error: &clap::Error) -> String {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "no command given: try `aircheckctl listen HOST`, `aircheckctl top HOST`, or --help".to_owned();
    }
    let text = error.to_string();
    let first: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    let line = first.join(" ");
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    // Without the value, which is secret.
    let line = line.split_once(" for '--token <T>': ").map_or(line, |(_, why)| why);
    let tip = text.lines().find_map(|line| line.trim().strip_prefix("tip: ").filter(|tip| tip.contains("similar")));
    tip.map_or_else(|| line.to_owned(), |tip| format!("{line}; {tip}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
    fn a_mistake_is_one_line_that_names_the_argument() {
        let cases = [
            (&["aircheckctl"][..], "no command"),
            (&["aircheckctl", "listen"], "<URL>"),
            (&["aircheckctl", "listen", "h:1", "--stric"], "similar argument exists: '--strict'"),
            (&["aircheckctl", "listen", "h:1", "--for", "soon"], "10s, 2m"),
            (&["aircheckctl", "listen", "h:1", "--for", "0s"], "more than 0"),
            (&["aircheckctl", "listen", "h:1", "-o", "-"], "stdout"),
            (&["aircheckctl", "listen", "h:1", "--play", "--play-buffer", "1m"], "5ms to 2s"),
            (&["aircheckctl", "listen", "h:1", "--play-buffer", "1s"], "--play"),
            (&["aircheckctl", "listen", "ftp://h/"], "ftp"),
        ];
        for (args, word) in cases {
            let line = complaint(args);
            assert!(line.contains(word) && !line.contains('\n'), "{line:?} should name {word:?}");
        }
    }
}
