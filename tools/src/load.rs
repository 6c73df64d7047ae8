//! `aircheckctl load`: many listeners in one process, each of which checks what it gets.
//!
//! Everything runs on one thread. [`crowd`] starts and ends listeners; each has a [`task`] that reads its socket into one
//! buffer that all share, and a [`listener`] that takes the answer's [`head`] and [`chunked`] body apart, has the
//! [`reader`] look at headers and numbers, and keeps an [`account`]. At the end [`rows`] compares all accounts with the
//! server's own, and [`outcome`] says what they come to.

mod account;
pub(crate) mod args;
mod chunked;
mod clocks;
mod cpu;
mod crowd;
mod head;
mod limits;
mod listener;
mod log;
mod measures;
mod mount;
mod outcome;
mod progress;
mod reader;
mod rows;
mod shared;
mod tally;
mod task;

use std::io::Write;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Instant;

use serde::Deserialize;
use tokio::task::LocalSet;

use crate::client::http as client;
use crate::failure::{Failure, complain, io_words};
use crate::listen::screen::Screen;
use crate::load::account::Blocks;
use crate::load::args::LoadArgs;
use crate::load::clocks::Clocks;
use crate::load::crowd::{Crowd, Stop};
use crate::load::listener::Run;
use crate::load::log::SecondsLog;
use crate::load::mount::{Form, Mount};
use crate::load::outcome::Outcome;
use crate::load::rows::Compared;
use crate::load::shared::Shared;
use crate::signals::Signals;

/// What a usage error exits with, as is the custom.
const USAGE: u8 = 2;

/// Runs the command and says how it ended.
pub(crate) async fn load(args: LoadArgs) -> ExitCode {
    let possible = limits::make_room(args.listeners, args.churn).and_then(|()| match args.pid {
        Some(pid) if cpu::seconds(&pid.to_string()).is_none() => {
            Err(format!("--pid {pid}: no such process, or its CPU time can't be read; leave it out"))
        }
        _ => Ok(()),
    });
    if let Err(why) = possible {
        complain(&why);
        return ExitCode::from(USAGE);
    }
    match LocalSet::new().run_until(run(&args)).await {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            complain(&failure.to_string());
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &LoadArgs) -> Result<u8, Failure> {
    let mut signals = Signals::watch().map_err(Failure::Signals)?;
    // Connected once before: whoever is not there need not be asked by a thousand, and names are looked up once.
    let probed = tokio::select! {
        probed = probe(&args.mount) => probed?,
        () = signals.stop() => return Err(Failure::StoppedEarly),
    };
    let Probed { server, same_machine, blocks } = probed;
    let log = args.hlog.as_deref().map(|path| SecondsLog::create(path, &args.mount.to_string()));
    let log = log.transpose().map_err(|error| cant_log(args, &error))?;
    let shared = Shared::new(Run { mount: args.mount.clone(), blocks }, Clocks::now(same_machine));
    let shared = Rc::new(shared.map_err(|error| Failure::Lost(error.to_string()))?);

    let mut screen = Screen::stderr(Instant::now());
    let what = if blocks.is_some() { "" } else { ", which is no aircheck: bytes, first bytes and stalls are measured" };
    screen.line(&format!("loading {}{what}", args.mount));
    let server_process = args.pid.map(|pid| pid.to_string());
    let server_cpu = || server_process.as_deref().and_then(cpu::seconds);
    let (own_before, server_before) = (cpu::seconds("self"), server_cpu());
    let mut crowd = Crowd::new(args, server, Rc::clone(&shared), same_machine, log);
    let stop = crowd.run(&mut signals, &mut screen).await.map_err(|error| cant_log(args, &error))?;
    let elapsed = crowd.began_at().elapsed();
    let spent = |after: Option<f64>, before: Option<f64>| Some(after? - before?);
    let (own, server) = (spent(cpu::seconds("self"), own_before), spent(server_cpu(), server_before));

    let compared = crowd.leave(&stop).await;
    crowd.roll(Instant::now()).map_err(|error| cant_log(args, &error))?;
    screen.finish(Instant::now());
    let nothing = Compared::default();
    let tallies = crowd.tallies(compared.as_ref().unwrap_or(&nothing), Instant::now());
    let outcome = Outcome {
        url: args.mount.to_string(),
        elapsed,
        tallies: &tallies,
        measures: &shared.measures.borrow(),
        compared: compared.as_ref().map_err(ToString::to_string),
        churned: crowd.churned(),
        wanted: args.listeners,
        counts_blocks: blocks.is_some() && args.mount.form != Form::Flac,
        cpu_seconds: own,
        server_cpu_seconds: server,
        late: crowd.late,
        stop,
    };
    Ok(tell(args, &outcome))
}

/// Prints what there is to print, and says what to exit with.
fn tell(args: &LoadArgs, outcome: &Outcome<'_>) -> u8 {
    let verdict = outcome.verdict();
    let nothing = matches!(outcome.stop, Stop::Nothing(_));
    if args.json {
        let _ = writeln!(std::io::stdout(), "{:#}", outcome.json());
    } else if !nothing {
        let _ = std::io::stdout().write_all(outcome.text().as_bytes());
    }
    // The table ends with it.
    if verdict.code != 0 && (args.json || nothing) {
        complain(&verdict.text);
    }
    verdict.code
}

/// What is known of a server before anybody listens.
struct Probed {
    server: std::net::SocketAddr,
    same_machine: bool,
    /// If it is aircheck: how its blocks are.
    blocks: Option<Blocks>,
}

async fn probe(mount: &Mount) -> Result<Probed, Failure> {
    let tcp = client::connect(&mount.address).await?;
    let lost = |error: std::io::Error| Failure::Lost(io_words(&error));
    let (server, local) = (tcp.peer_addr().map_err(lost)?, tcp.local_addr().map_err(lost)?);
    drop(tcp);
    let blocks = if mount.form == Form::Other { None } else { blocks(mount).await };
    Ok(Probed { server, same_machine: server.ip() == local.ip(), blocks })
}

/// How the blocks of an aircheck are; of any other server nothing is known.
async fn blocks(mount: &Mount) -> Option<Blocks> {
    #[derive(Deserialize)]
    struct Status {
        format: Format,
    }
    #[derive(Deserialize)]
    struct Format {
        block_frames: u64,
        block_seconds: f64,
        channels: u64,
    }
    let document = client::document(&mount.address, "/api/v1/status").await.ok()?;
    let Format { block_frames: frames, block_seconds: seconds, channels } =
        serde_json::from_slice::<Status>(&document).ok()?.format;
    (frames > 0 && channels > 0 && seconds > 0.0 && seconds < 60.0).then_some(Blocks { frames, seconds, channels })
}

fn cant_log(args: &LoadArgs, error: &std::io::Error) -> Failure {
    Failure::Write { path: args.hlog.clone().unwrap_or_default(), why: io_words(error) }
}
