//! The command line of `aircheck`.

use std::error::Error as _;
use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, FromArgMatches as _, Subcommand};

use super::error::ConfigError;
use super::given::Given;
use super::layers::Layers;
use super::report::Checked;
use super::schema::Config;
use super::settings::add_flags;
use super::values::Values;
use crate::access::scope::Scope;
use crate::access::token::check_name;

/// Variable of `--config`.
const CONFIG_ENV: &str = "AIRCHECK_CONFIG";

#[derive(Debug, Subcommand)]
enum Action {
    /// List the input devices
    Devices {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Check a configuration file and show the settings that would run
    CheckConfig {
        /// The TOML file
        file: PathBuf,
    },
    /// Make a token that permits listening, reading figures or ending listeners
    Token {
        /// What to do.
        #[command(subcommand)]
        action: TokenAction,
    },
    /// Check whether this machine can put the source on the air, and say what to do where it cannot
    #[command(
        after_help = "Takes the flags of the service as well, such as --source, and reads its variables and its \
                            file: put `doctor` before them. A microphone is opened and heard for a moment; nothing is \
                            recorded. The exit code is 0 if it can go on the air, and 1 otherwise."
    )]
    Doctor {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
enum TokenAction {
    /// Print a new token, and the lines with its hash for the configuration file
    #[command(
        after_help = "The token is printed once and kept nowhere: the file has its hash. Put the lines into the file of --config, \
                            and have a running service read it again: `kill -HUP`, or `systemctl reload aircheck`."
    )]
    New {
        /// Name of the token, for logs and for the table of listeners
        #[arg(long, value_parser = token_name)]
        name: String,
        /// What it permits: listen, listen:MOUNT, stats or admin; may be repeated
        #[arg(long = "scope", value_name = "SCOPE", required = true)]
        scopes: Vec<Scope>,
    },
}

fn token_name(name: &str) -> Result<String, String> {
    check_name(name).map(|()| name.to_owned())
}

/// Returns the grammar of the command line, from which manual pages and completions are made as well.
#[must_use]
pub fn grammar() -> clap::Command {
    let command = clap::Command::new("aircheck")
        .version(env!("CARGO_PKG_VERSION"))
        .max_term_width(100)
        .args_conflicts_with_subcommands(true)
        .disable_help_subcommand(true)
        .allow_negative_numbers(true);
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .help(format!("TOML file with any of these settings [env: {CONFIG_ENV}]"))
        .help_heading(None);
    Action::augment_subcommands(add_flags(command))
        .about("Streams live sound to many listeners, and shows the lag and the losses of each")
        .arg(config.clone())
        // Hidden: the list of settings is long, and is that of the service.
        .mut_subcommand("doctor", |doctor| {
            let about = doctor.get_about().cloned();
            let doctor = add_flags(doctor).arg(config).about(about.unwrap_or_default());
            doctor.mut_args(|arg| if arg.get_id() == "json" { arg } else { arg.hide(true) })
        })
        .after_help(
            "Flags beat the environment, which beats the file. In the file, --max-listeners is \
             `max_listeners = 1000`, and a flag that may be repeated is a list: `allow_hosts = [\"NAME\"]`.",
        )
}

/// The task of the program.
#[derive(Debug)]
pub enum Command {
    /// Serve, with these settings, given by these values.
    Serve(Box<Config>, Values),
    /// Print a new token.
    NewToken {
        /// Its name.
        name: String,
        /// What it permits.
        scopes: Vec<Scope>,
    },
    /// List the input devices.
    Devices {
        /// Print JSON.
        json: bool,
    },
    /// Print the settings that would run with a file.
    CheckConfig(Checked),
    /// Check whether the machine can serve with these settings.
    Doctor {
        /// The settings, or what is wrong with them.
        given: Given,
        /// Print JSON.
        json: bool,
    },
}

/// The reason for an end before anything ran.
#[derive(Debug)]
pub enum Exit {
    /// The text of `--help` or `--version`.
    Help(clap::Error),
    /// A flag, a variable or the file is wrong.
    Wrong(ConfigError),
}

impl Exit {
    /// Prints help to stdout or the error's line to stderr, and returns the exit code: 0 or 2.
    #[must_use]
    pub fn print(&self) -> ExitCode {
        match self {
            Self::Help(help) => {
                // If stdout is closed, there is no place to report that.
                let _ = help.print();
                ExitCode::SUCCESS
            }
            Self::Wrong(error) => {
                let _ = writeln!(std::io::stderr(), "{error}");
                ExitCode::from(2)
            }
        }
    }
}

impl From<ConfigError> for Exit {
    fn from(error: ConfigError) -> Self {
        Self::Wrong(error)
    }
}

/// Reads the arguments, the first of which is the program's name, and for a server the file and the environment, which
/// `env` looks up.
///
/// # Errors
///
/// For `--help` and `--version`, and when anything is wrong.
///
/// ```
/// use aircheck_server::config::cli::{Command, parse};
///
/// let env = |name: &str| (name == "AIRCHECK_SOURCE").then(|| "tone:440".into());
/// let Ok(Command::Serve(config, _)) = parse(["aircheck", "--block", "5ms"], env) else { panic!() };
/// let capture = &config.first_mount().capture;
/// assert_eq!(capture.source.to_string(), "tone:440");
/// assert_eq!(capture.block.as_millis(), 5);
/// ```
pub fn parse<A>(args: impl IntoIterator<Item = A>, env: impl Fn(&str) -> Option<OsString>) -> Result<Command, Exit>
where
    A: Into<OsString> + Clone,
{
    let exit = |error: clap::Error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Help(error),
        _ => Exit::Wrong(short_error(&error)),
    };
    let matches = grammar().try_get_matches_from(args).map_err(exit)?;
    if matches.subcommand_name().is_none() {
        let layers = layers(&matches, env)?;
        return Ok(Command::Serve(Box::new(layers.finish()?), Values::of(&layers)));
    }
    match Action::from_arg_matches(&matches).map_err(exit)? {
        Action::Devices { json } => Ok(Command::Devices { json }),
        Action::Token { action: TokenAction::New { name, scopes } } => Ok(Command::NewToken { name, scopes }),
        Action::CheckConfig { file } => Ok(Command::CheckConfig(check(file, env)?)),
        Action::Doctor { json } => {
            let flags = matches.subcommand_matches("doctor").unwrap_or(&matches);
            let file = file(flags, &env);
            Ok(Command::Doctor { given: Given::of(layers(flags, env), file), json })
        }
    }
}

/// Returns the file that a flag or the environment names.
fn file(matches: &ArgMatches, env: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let of_env = || env(CONFIG_ENV).filter(|path| !path.is_empty()).map(PathBuf::from);
    matches.get_one("config").cloned().or_else(of_env)
}

fn layers(matches: &ArgMatches, env: impl Fn(&str) -> Option<OsString>) -> Result<Layers, ConfigError> {
    let mut layers = Layers::default();
    if let Some(path) = file(matches, &env) {
        let is_flag = matches.get_one::<PathBuf>("config").is_some();
        let place = |error| if is_flag { error } else { ConfigError::new(format!("{CONFIG_ENV}: {error}")) };
        layers.file(&path).map_err(place)?;
    }
    layers.env(env)?;
    layers.flags(|setting| {
        let words: Vec<_> = matches.get_raw(&setting.key)?.collect();
        let is_given = matches.value_source(&setting.key) == Some(ValueSource::CommandLine);
        is_given.then(|| words.join(OsStr::new(",")))
    })?;
    Ok(layers)
}

/// Returns the settings of `aircheck --config FILE` in this environment.
fn check(path: PathBuf, env: impl Fn(&str) -> Option<OsString>) -> Result<Checked, ConfigError> {
    let mut layers = Layers::default();
    layers.file(&path)?;
    layers.env(env)?;
    Checked::new(path, layers)
}

/// Returns the first of clap's many lines.
fn short_error(error: &clap::Error) -> ConfigError {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => texts.first().cloned(),
        _ => None,
    };
    // `--listen <ADDR>` is shown as `--listen`.
    let flag_of = |kind| context(kind).and_then(|arg| arg.split([' ', '[']).next().map(str::to_owned));
    let flag = flag_of(ContextKind::InvalidArg);
    let meant = [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand].into_iter().find_map(context);
    let line = match (error.kind(), flag, context(ContextKind::InvalidSubcommand)) {
        (ErrorKind::UnknownArgument, Some(flag), _) if flag.starts_with('-') => format!("unknown flag `{flag}`"),
        (ErrorKind::UnknownArgument, Some(word), _) => format!("unknown argument `{word}`"),
        (ErrorKind::InvalidSubcommand, _, Some(word)) => format!("unknown command `{word}`"),
        (ErrorKind::ArgumentConflict, _, Some(word)) if !grammar().get_subcommands().any(|c| c.get_name() == word) => {
            format!("unknown argument `{word}`")
        }
        (ErrorKind::ArgumentConflict, _, Some(command)) => {
            let flag = flag_of(ContextKind::PriorArg).unwrap_or_default();
            match &*command {
                "doctor" => format!("{flag} goes behind the command: `aircheck doctor {flag}`"),
                _ => format!("{flag} does not go with the command `{command}`"),
            }
        }
        (ErrorKind::ArgumentConflict, Some(flag), None) => format!("{flag} is given more than once"),
        (ErrorKind::InvalidValue | ErrorKind::NoEquals, Some(flag), _) => format!("{flag} needs a value"),
        (ErrorKind::TooManyValues, Some(flag), _) => format!("{flag} takes no value"),
        (ErrorKind::MissingRequiredArgument, Some(flag), _) if flag.starts_with("--") => {
            format!("token new needs {flag}")
        }
        (ErrorKind::MissingRequiredArgument, ..) => "check-config needs a FILE".to_owned(),
        (ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand, ..) => {
            "token needs a command: `aircheck token new --name NAME --scope listen`".to_owned()
        }
        (ErrorKind::ValueValidation, Some(flag), _) if error.source().is_some() => {
            let reason = error.source().map(ToString::to_string).unwrap_or_default();
            format!("{flag} {reason}")
        }
        // Anything else: clap's own first line.
        _ => {
            let text = error.to_string();
            text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
        }
    };
    ConfigError::new(match meant {
        Some(meant) => format!("{line}; did you mean `{meant}`?"),
        None => format!("{line}; see --help"),
    })
}
