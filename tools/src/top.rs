//! `aircheckctl top`: who listens and who lags, in a terminal.
//!
//! [`server`] asks the server's API, [`api`] is what it says, and [`picture`] what is known of it so far: with each
//! listener's [`history`], and by [`standing`] what its figures mean. [`state`] holds what decides the screen, and
//! [`keys`] change it. [`draw`] makes lines of it: [`header`], [`meters`] and [`table`], whose [`columns`] give way to
//! each other, in [`figures`] as the server's page writes them. [`terminal`] is where they are seen, [`once`] where not.
//! Only this file reads the clock.

mod api;
mod columns;
mod draw;
mod figures;
#[cfg(test)]
mod fixture;
mod header;
mod history;
mod keys;
mod meters;
mod once;
mod order;
mod picture;
mod server;
mod standing;
mod state;
mod table;
mod terminal;
#[cfg(test)]
mod tests;
mod theme;

use std::io::Write;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Instant;

use crossterm::event::{Event, EventStream};
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Duration, MissedTickBehavior, interval};

use crate::cli::{TopArgs, USAGE};
use crate::client::url::Address;
use crate::failure::{Failure, complain, io_words};
use crate::signals::Signals;
use keys::Wish;
use picture::Picture;
use server::Server;
use state::{Kicked, State};
use terminal::Screen;

/// Messages end and the time without contact grows, although nothing comes.
const REDRAW_EVERY: Duration = Duration::from_secs(1);

/// Runs the command and says how it ended.
pub(crate) async fn top(args: TopArgs) -> ExitCode {
    if !args.once && !terminal::is_there() {
        complain("top takes a terminal; for its text, say --once");
        return ExitCode::from(USAGE);
    }
    match run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure.to_string());
            ExitCode::FAILURE
        }
    }
}

async fn run(args: TopArgs) -> Result<(), Failure> {
    let mut signals = Signals::watch().map_err(Failure::Signals)?;
    let clock = Instant::now();
    let mut server = Server::new(args.address.clone());
    // Before the terminal is taken: what never was there is told in one line, not in a screen of nothing.
    let first = async { Ok::<_, Failure>((server.status().await?, server.listeners().await?)) };
    let (status, rows) = tokio::select! {
        first = first => first?,
        () = signals.stop() => return Ok(()),
    };
    let mut state = State::new(args.address.authority().to_owned(), Picture::new(status, rows, 0.0));
    if args.once {
        let cells = terminal::columns().unwrap_or(once::WIDTH_ELSEWHERE);
        // Nobody reads it any more: no reason to fail.
        let _ = std::io::stdout().write_all(once::text(&state, cells).as_bytes());
        return Ok(());
    }
    let mut screen = Screen::take().map_err(|error| Failure::Terminal(io_words(&error)))?;
    watch(&mut screen, &mut state, server, &args.address, &mut signals, clock)
        .await
        .map_err(|error| Failure::Terminal(io_words(&error)))
}

/// Shows what comes until somebody has seen enough.
async fn watch(
    screen: &mut Screen,
    state: &mut State,
    server: Server,
    address: &Address,
    signals: &mut Signals,
    clock: Instant,
) -> std::io::Result<()> {
    // A status and rows, and the next one: more can't wait, as the one who asks waits for room.
    let (sender, mut news) = mpsc::channel(2);
    // Not a task of its own: if it panics, so does this, and the terminal is given back.
    let mut asking = pin!(server.watch(sender));
    let mut kicks: JoinSet<(String, Kicked)> = JoinSet::new();
    let mut events = EventStream::new();
    let mut redraw = interval(REDRAW_EVERY);
    redraw.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        screen.draw(state, clock.elapsed().as_secs_f64())?;
        tokio::select! {
            () = &mut asking => return Ok(()),
            Some(one) = news.recv() => state.take(one, clock.elapsed().as_secs_f64()),
            event = events.next() => match event {
                Some(Ok(Event::Key(key))) => match state.press(key, clock.elapsed().as_secs_f64()) {
                    Wish::Quit => return Ok(()),
                    Wish::Kick { id, title } => {
                        let mut server = Server::new(address.clone());
                        kicks.spawn(async move { (title, server.kick(id).await) });
                    }
                    Wish::Nothing => {}
                },
                // A new size: the next drawing asks for it.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            },
            Some(Ok((title, kicked))) = kicks.join_next() => {
                state.kicked(&title, &kicked, clock.elapsed().as_secs_f64());
            }
            _ = redraw.tick() => {}
            () = signals.stop() => return Ok(()),
        }
    }
}
