//! The command `notify-test`: delivers one notification, as the server would.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use aircheck_api::MAIN_MOUNT;
use aircheck_notify::{Details, EventName, Form, Notification, NotificationState, Outcome, Target, post};
use clap::Args;

use crate::failure::{Failure, USAGE, complain};
use crate::units;

/// Longest URL that is read from stdin.
const MAX_URL_BYTES: u64 = 10_000;

/// Send a test notification to a receiver, as the server would
///
/// Delivers one notification with the event "test", once, and says whether the
/// receiver took it. Of the URL, nothing but the host is shown.
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  aircheckctl notify-test http://127.0.0.1:9000/hook
  aircheckctl notify-test https://ntfy.sh/my-topic --form ntfy
  aircheckctl notify-test - --form slack < slack-url

Exit codes:
  0  the receiver took it
  1  it did not: no connection, no answer, a refusal or a redirect
  2  wrong usage"
)]
pub(crate) struct NotifyTestArgs {
    /// URL of the receiver, or - to read it from stdin, where no other user of this machine can see it
    #[arg(value_name = "URL")]
    url: String,

    /// Form of the notification: json, ntfy or slack
    #[arg(long, value_name = "F", default_value = "json")]
    form: Form,
}

/// Delivers a test, and prints how that went.
pub(crate) async fn notify_test(args: NotifyTestArgs) -> ExitCode {
    let target = match target(&args.url) {
        Ok(target) => target,
        Err(why) => {
            complain(&why);
            return ExitCode::from(USAGE);
        }
    };
    let started_at = Instant::now();
    let outcome = post(&target, args.form, &notification()).await;
    let failure = match outcome {
        Outcome::Delivered { status } => {
            let took = units::span(started_at.elapsed());
            // A reader that is gone has the exit code.
            let _ = writeln!(io::stdout(), "{target} took the notification (HTTP {status}, {took})");
            return ExitCode::SUCCESS;
        }
        Outcome::Retry { why, after } => {
            let pause = after
                .map_or_else(String::new, |after| format!("; it asks to be left alone for {}", units::span(after)));
            Failure::Notification { host: target.to_string(), why: why + &pause, hint: " (the server would try again)" }
        }
        Outcome::Refused { why } => {
            Failure::Notification { host: target.to_string(), why, hint: " (the server would not try again)" }
        }
    };
    failure.exit()
}

/// Reads the target from the argument or from stdin.
fn target(text: &str) -> Result<Target, String> {
    let mut from_stdin = String::new();
    let text = if text == "-" {
        if io::stdin().is_terminal() {
            return Err("the URL is to come from stdin, which is a terminal: write it into a file".to_owned());
        }
        let read = io::stdin().take(MAX_URL_BYTES).read_to_string(&mut from_stdin);
        read.map_err(|error| format!("cannot read the URL from stdin: {error}"))?;
        from_stdin.trim()
    } else {
        text
    };
    text.parse().map_err(|error| format!("<URL> {error}"))
}

fn notification() -> Notification {
    let server = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Notification {
        event: EventName::Test,
        state: NotificationState::Begin,
        mount: MAIN_MOUNT.to_owned(),
        at: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
        text: "this is a test of aircheck's notifications".to_owned(),
        server,
        details: Details::new(),
    }
}
