//! The command line of `aircheck`.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::config::{Checked, Config, ConfigError, Key, Layers};

/// Variable of `--config`.
const CONFIG_ENV: &str = "AIRCHECK_CONFIG";

/// Streams live sound to many listeners, and tells for each how late it is and what it lost.
#[derive(Debug, Parser)]
#[command(
    name = "aircheck",
    version,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    allow_negative_numbers = true,
    after_help = "Flags beat the environment, which beats the file. In the file, --max-listeners is\n\
                  `max_listeners = 1000`, and what may be repeated is a list: `allow_hosts = [\"NAME\"]`."
)]
pub struct Cli {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the input devices
    Devices {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Check a configuration file and say what would run
    CheckConfig {
        /// The TOML file
        file: PathBuf,
    },
}

// Each flag stays text until the layers are put together, so that flag, variable and key have one reader, and a
// mistake is told in one way.
#[derive(Debug, Args)]
struct Flags {
    /// What to stream: auto, mic, mic:NAME, wav:PATH, tone:HZ or stdin;
    /// auto is the default input device, or a demo sound if there is none
    /// [default: auto] [env: AIRCHECK_SOURCE]
    #[arg(long, value_name = "S", verbatim_doc_comment)]
    source: Option<OsString>,
    /// Start a WAV file again at its end; --loop=false overrides the file
    /// [default: false] [env: AIRCHECK_LOOP]
    #[arg(
        long = "loop",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        verbatim_doc_comment
    )]
    looped: Option<OsString>,
    /// Address to listen on; port 0 picks a free one
    /// [default: 127.0.0.1:8700] [env: AIRCHECK_LISTEN]
    #[arg(long, value_name = "ADDR", verbatim_doc_comment)]
    listen: Option<OsString>,
    /// Length of a block, 1ms to 100ms
    /// [default: 10ms] [env: AIRCHECK_BLOCK]
    #[arg(long, value_name = "D", verbatim_doc_comment)]
    block: Option<OsString>,
    /// Sound that each listener's ring holds, one block to 1m
    /// [default: 1s] [env: AIRCHECK_BUFFER]
    #[arg(long, value_name = "D", verbatim_doc_comment)]
    buffer: Option<OsString>,
    /// Sound kept for those who start in the past, 0s to 10m
    /// [default: 10s] [env: AIRCHECK_HISTORY]
    #[arg(long, value_name = "D", verbatim_doc_comment)]
    history: Option<OsString>,
    /// What a slow listener gets: skip-to-live, drop-newest, latest
    /// or disconnect, unless its URL says otherwise
    /// [default: skip-to-live] [env: AIRCHECK_OVERFLOW]
    #[arg(long, value_name = "P", verbatim_doc_comment)]
    overflow: Option<OsString>,
    /// Lag beyond which a listener is skipped to live, or ended if its
    /// policy is disconnect, unless its URL says otherwise
    /// [default: off] [env: AIRCHECK_MAX_LAG]
    #[arg(long, value_name = "D", verbatim_doc_comment)]
    max_lag: Option<OsString>,
    /// Sound that may wait in the kernel for each listener, 10ms to 10s:
    /// less shows a stall earlier, more bridges longer hiccups
    /// [default: 100ms] [env: AIRCHECK_SOCKET_BUFFER]
    #[arg(long, value_name = "D", verbatim_doc_comment)]
    socket_buffer: Option<OsString>,
    /// Most listeners at a time; more are told to come back later
    /// [default: 1000] [env: AIRCHECK_MAX_LISTENERS]
    #[arg(long, value_name = "N", verbatim_doc_comment)]
    max_listeners: Option<OsString>,
    /// Directory to record to, made if it is missing; what is lost is
    /// silence in the files, and told in a file beside each
    /// [default: off] [env: AIRCHECK_RECORD]
    #[arg(long, value_name = "DIR", verbatim_doc_comment)]
    record: Option<OsString>,
    /// When the recording goes on in a new file: a length such as 1h,
    /// or a size such as 500MB, at most 4GiB
    /// [default: 1h] [env: AIRCHECK_RECORD_SPLIT]
    #[arg(long, value_name = "D", verbatim_doc_comment)]
    record_split: Option<OsString>,
    /// Hz of the sound on stdin, or to ask the input device for
    /// [default: 48000 on stdin, else the device's] [env: AIRCHECK_RATE]
    #[arg(long, value_name = "HZ", verbatim_doc_comment)]
    rate: Option<OsString>,
    /// Channels of the sound on stdin, or to ask the input device for
    /// [default: 2 on stdin, else the device's] [env: AIRCHECK_CHANNELS]
    #[arg(long, value_name = "N", verbatim_doc_comment)]
    channels: Option<OsString>,
    /// How samples on stdin are written: s16le, s24le or f32le
    /// [default: s16le] [env: AIRCHECK_SAMPLE]
    #[arg(long, value_name = "FMT", verbatim_doc_comment)]
    sample: Option<OsString>,
    /// Host name to be reached by, besides addresses and localhost;
    /// may be repeated [env: AIRCHECK_ALLOW_HOST, with commas]
    #[arg(long, value_name = "NAME", verbatim_doc_comment)]
    allow_host: Vec<OsString>,
    /// Web site whose pages may read the streams, SCHEME://HOST:PORT;
    /// may be repeated [env: AIRCHECK_ALLOW_ORIGIN, with commas]
    #[arg(long, value_name = "ORIGIN", verbatim_doc_comment)]
    allow_origin: Vec<OsString>,
    /// TOML file with any of these settings
    /// [env: AIRCHECK_CONFIG]
    #[arg(long, value_name = "FILE", verbatim_doc_comment)]
    config: Option<PathBuf>,
}

impl Flags {
    /// What was given, as text.
    fn given(&self) -> impl Iterator<Item = (Key, OsString)> {
        let list = |words: &[OsString]| (!words.is_empty()).then(|| words.join(OsStr::new(",")));
        [
            (Key::Source, self.source.clone()),
            (Key::Loop, self.looped.clone()),
            (Key::Listen, self.listen.clone()),
            (Key::Block, self.block.clone()),
            (Key::Buffer, self.buffer.clone()),
            (Key::History, self.history.clone()),
            (Key::Overflow, self.overflow.clone()),
            (Key::MaxLag, self.max_lag.clone()),
            (Key::SocketBuffer, self.socket_buffer.clone()),
            (Key::MaxListeners, self.max_listeners.clone()),
            (Key::Record, self.record.clone()),
            (Key::RecordSplit, self.record_split.clone()),
            (Key::Rate, self.rate.clone()),
            (Key::Channels, self.channels.clone()),
            (Key::Sample, self.sample.clone()),
            (Key::AllowHosts, list(&self.allow_host)),
            (Key::AllowOrigins, list(&self.allow_origin)),
        ]
        .into_iter()
        .filter_map(|(key, text)| Some((key, text?)))
    }
}

/// What the program is asked to do.
#[derive(Debug)]
pub enum Command {
    /// Serve.
    Serve(Config),
    /// List the input devices.
    Devices {
        /// As JSON.
        json: bool,
    },
    /// Print what would run with a file.
    CheckConfig(Checked),
}

/// Why the program ends before it has begun.
#[derive(Debug)]
pub enum Exit {
    /// Help or the version was asked for.
    Help(clap::Error),
    /// Something is wrong.
    Wrong(ConfigError),
}

impl Exit {
    /// Prints help to stdout or the one line of what is wrong to stderr, and gives the exit code: 0 or 2.
    #[must_use]
    pub fn print(&self) -> ExitCode {
        match self {
            Self::Help(help) => {
                // Nobody is left to tell if stdout is closed.
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

/// Reads the arguments, the first of which is the program's name, and where they ask for it the file and the
/// environment, which `env` looks up.
///
/// # Errors
///
/// When help or the version is asked for, and when anything is wrong.
///
/// ```
/// use aircheck_server::config::cli::{Command, parse};
///
/// let env = |name: &str| (name == "AIRCHECK_SOURCE").then(|| "tone:440".into());
/// let Ok(Command::Serve(config)) = parse(["aircheck", "--block", "5ms"], env) else { panic!() };
/// assert_eq!(config.source.to_string(), "tone:440");
/// assert_eq!(config.block.as_millis(), 5);
/// ```
pub fn parse<A>(args: impl IntoIterator<Item = A>, env: impl Fn(&str) -> Option<OsString>) -> Result<Command, Exit>
where
    A: Into<OsString> + Clone,
{
    let cli = Cli::try_parse_from(args).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Help(error),
        _ => Exit::Wrong(one_line(&error)),
    })?;
    match cli.action {
        None => Ok(Command::Serve(config(&cli.flags, env)?)),
        Some(Action::Devices { json }) => Ok(Command::Devices { json }),
        Some(Action::CheckConfig { file }) => Ok(Command::CheckConfig(check(file, env)?)),
    }
}

fn config(flags: &Flags, env: impl Fn(&str) -> Option<OsString>) -> Result<Config, ConfigError> {
    let mut layers = Layers::default();
    if let Some(path) = &flags.config {
        layers.file(path)?;
    } else if let Some(path) = env(CONFIG_ENV).filter(|path| !path.is_empty()) {
        layers.file(Path::new(&path)).map_err(|error| ConfigError::new(format!("{CONFIG_ENV}: {error}")))?;
    }
    layers.env(env)?;
    flags.given().try_for_each(|(key, text)| layers.flag(key, &text))?;
    Ok(layers.finish()?.config)
}

/// What `aircheck --config FILE` would run in this environment.
fn check(path: PathBuf, env: impl Fn(&str) -> Option<OsString>) -> Result<Checked, ConfigError> {
    let mut layers = Layers::default();
    layers.file(&path)?;
    layers.env(env)?;
    Ok(Checked::new(path, layers.finish()?))
}

/// clap's many lines as one.
fn one_line(error: &clap::Error) -> ConfigError {
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
        (ErrorKind::ArgumentConflict, _, Some(word))
            if !Cli::command().get_subcommands().any(|c| c.get_name() == word) =>
        {
            format!("unknown argument `{word}`")
        }
        (ErrorKind::ArgumentConflict, _, Some(command)) => {
            let flag = flag_of(ContextKind::PriorArg).unwrap_or_default();
            format!("{flag} does not go with the command `{command}`")
        }
        (ErrorKind::ArgumentConflict, Some(flag), None) => format!("{flag} is given more than once"),
        (ErrorKind::InvalidValue | ErrorKind::NoEquals, Some(flag), _) => format!("{flag} needs a value"),
        (ErrorKind::TooManyValues, Some(flag), _) => format!("{flag} takes no value"),
        (ErrorKind::MissingRequiredArgument, ..) => "check-config needs a FILE".to_owned(),
        // What else clap may find: its own first line.
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
