//! `aircheckctl load`: many listeners in one process, each of which checks its own stream.
//!
//! Everything runs on one thread. The run starts and ends listeners; each has a session, a task that reads its socket
//! through a gate, which decides how fast, and passes what comes to the listener. The listener's reader looks at
//! headers and numbers, and its account counts blocks and losses. At the end the comparison holds all accounts against
//! the server's rows, and the outcome says whether they add up.

mod account;
pub(crate) mod args;
mod body;
mod clocks;
mod comparison;
mod cpu;
mod gate;
mod handle;
mod head;
mod limits;
mod listener;
mod log;
mod measures;
mod outcome;
mod plan;
mod progress;
mod reader;
mod run;
mod session;
mod totals;
mod url;

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Instant;

use aircheck_api::{Rendition, StreamFormat};
use tokio::task::LocalSet;

use self::args::LoadArgs;
use self::clocks::Clocks;
use self::comparison::Comparison;
use self::handle::Shared;
use self::log::SecondsLog;
use self::outcome::Outcome;
use self::plan::Plan;
use self::run::{LoadRun, Stop};
use self::url::LoadUrl;
use crate::client::{ApiClient, TIMEOUT, connect};
use crate::failure::{Failure, USAGE, complain, io_words};
use crate::signals::Signals;
use crate::status_line::StatusLine;

/// Runs the command.
pub(crate) async fn load(args: LoadArgs) -> ExitCode {
    let possible = limits::make_room(args.listeners, args.churn).and_then(|raised| match args.pid {
        Some(pid) if cpu::seconds(&pid.to_string()).is_none() => {
            Err(format!("--pid {pid}: there is no such process, or its CPU time cannot be read (leave it out)"))
        }
        _ => Ok(raised),
    });
    let raised = match possible {
        Ok(raised) => raised,
        Err(why) => {
            complain(&why);
            return ExitCode::from(USAGE);
        }
    };
    match LocalSet::new().run_until(run(&args, raised)).await {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            complain(&failure.to_string());
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &LoadArgs, raised: Option<[u64; 2]>) -> Result<u8, Failure> {
    let mut signals = Signals::watch().map_err(Failure::Signals)?;
    // Connected once before: a server that is not there need not be tried a thousand times, and its name is looked up
    // once.
    let probed = tokio::select! {
        probed = probe(&args.url) => probed?,
        () = signals.stop() => return Err(Failure::StoppedEarly),
    };
    let Probed { server, same_machine, format } = probed;
    let log = args.hlog.as_deref().map(|path| SecondsLog::create(path, &args.url.to_string()));
    let log = log.transpose().map_err(|error| cannot_log(args, &error))?;
    let shared = Shared::new(Plan { url: args.url.clone(), format }, Clocks::now(same_machine));
    let shared = Rc::new(shared.map_err(|error| Failure::Lost(error.to_string()))?);

    let mut status = StatusLine::stderr(Instant::now());
    let what = match format {
        Some(_) => "",
        None => ", which is not an aircheck server: bytes, first bytes and stalls are measured",
    };
    status.log(&format!("loading {}{what}", args.url));
    if let Some([old, new]) = raised {
        status.log(&format!("raised the limit of open files from {old} to {new}"));
    }
    let server_process = args.pid.map(|pid| pid.to_string());
    let server_cpu = || server_process.as_deref().and_then(cpu::seconds);
    let (own_before, server_before) = (cpu::seconds("self"), server_cpu());
    let mut run = LoadRun::new(args, server, Rc::clone(&shared), same_machine, log);
    let stop = run.run(&mut signals, &mut status).await.map_err(|error| cannot_log(args, &error))?;
    let elapsed = run.began_at().elapsed();
    let spent = |after: Option<f64>, before: Option<f64>| Some(after? - before?);
    let (own, server) = (spent(cpu::seconds("self"), own_before), spent(server_cpu(), server_before));

    let comparison = run.leave(&stop).await;
    run.roll(Instant::now()).map_err(|error| cannot_log(args, &error))?;
    status.clear();
    let nothing = Comparison::default();
    let totals = run.totals(comparison.as_ref().unwrap_or(&nothing), Instant::now());
    let outcome = Outcome {
        url: args.url.to_string(),
        elapsed,
        totals: &totals,
        measures: &shared.measures.borrow(),
        comparison: comparison.as_ref().map_err(ToString::to_string),
        churned: run.churned(),
        wanted: args.listeners,
        counts_blocks: format.is_some() && args.url.rendition != Some(Rendition::Flac),
        cpu_seconds: own,
        server_cpu_seconds: server,
        late: run.late(),
        stop,
    };
    Ok(print(args, &outcome))
}

/// Prints the outcome, and returns the exit code.
fn print(args: &LoadArgs, outcome: &Outcome<'_>) -> u8 {
    let conclusion = outcome.conclusion();
    let is_empty = matches!(outcome.stop, Stop::Nothing(_));
    if args.json {
        let _ = writeln!(std::io::stdout(), "{:#}", outcome.json());
    } else if !is_empty {
        let _ = std::io::stdout().write_all(outcome.text().as_bytes());
    }
    // The table ends with it.
    if conclusion.code != 0 && (args.json || is_empty) {
        complain(&conclusion.text);
    }
    conclusion.code
}

/// Facts about a server before the first listener.
struct Probed {
    server: SocketAddr,
    same_machine: bool,
    /// The format of its blocks, if it is an aircheck.
    format: Option<StreamFormat>,
}

async fn probe(url: &LoadUrl) -> Result<Probed, Failure> {
    let tcp = connect(url.address()).await?;
    let lost = |error: std::io::Error| Failure::Lost(io_words(&error));
    let (server, local) = (tcp.tcp().peer_addr().map_err(lost)?, tcp.tcp().local_addr().map_err(lost)?);
    drop(tcp);
    let format = if url.rendition.is_none() { None } else { format_of(url).await };
    Ok(Probed { server, same_machine: server.ip() == local.ip(), format })
}

/// Returns the format of an aircheck's blocks; `None` for any other server.
async fn format_of(url: &LoadUrl) -> Option<StreamFormat> {
    let format = ApiClient::new(url.address().clone(), TIMEOUT).status().await.ok()?.format;
    let is_possible = format.block_frames > 0
        && format.channels > 0
        && format.rate_hz > 0
        && (0.0..60.0).contains(&format.block_seconds)
        && format.block_seconds > 0.0;
    is_possible.then_some(format)
}

fn cannot_log(args: &LoadArgs, error: &std::io::Error) -> Failure {
    Failure::Write { path: args.hlog.clone().unwrap_or_default(), why: io_words(error) }
}
