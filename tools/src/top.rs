//! `aircheckctl top`: which listeners lag and why, in a terminal.
//!
//! The watch asks the server's API, and the snapshot keeps the answers, with each listener's history. The state holds
//! everything that decides the screen, and keys change it; it has neither clock nor terminal. `draw` makes lines of it:
//! header, meters, loudness, and the table, whose columns give way to each other. The terminal shows them, or `once` prints them.
//! Only this file reads the clock.

pub(crate) mod args;
mod columns;
mod draw;
#[cfg(test)]
mod fixture;
mod header;
mod history;
mod keys;
mod line;
mod loudness;
mod meters;
mod notifications;
mod once;
mod order;
mod row;
mod snapshot;
mod state;
mod table;
mod terminal;
#[cfg(test)]
mod tests;
mod theme;
mod watch;

use std::io::Write;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Instant;

use crossterm::event::{Event, EventStream};
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Duration, MissedTickBehavior, interval};

use self::args::TopArgs;
use self::keys::Action;
use self::snapshot::Snapshot;
use self::state::State;
use self::terminal::Screen;
use crate::client::{Address, ApiClient, Disconnected};
use crate::failure::{Failure, USAGE, complain, io_words};
use crate::signals::Signals;
use crate::status_line::columns;

/// Messages end and the time without contact grows even if nothing comes.
const REDRAW_INTERVAL: Duration = Duration::from_secs(1);

/// Runs the command.
pub(crate) async fn top(args: TopArgs) -> ExitCode {
    if !args.once && !terminal::is_there() {
        complain("top needs a terminal (--once prints plain text)");
        return ExitCode::from(USAGE);
    }
    match run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.exit(),
    }
}

async fn run(args: TopArgs) -> Result<(), Failure> {
    let mut signals = Signals::watch().map_err(Failure::Signals)?;
    let clock = Instant::now();
    let mut api = watch::client(&args.address, args.mount.as_deref());
    // Before the terminal is taken: a server that is not there is one line, not an empty screen.
    let first = async { Ok::<_, Failure>((api.status().await?, api.listeners().await?)) };
    let (status, rows) = tokio::select! {
        first = first => first?,
        () = signals.stop() => return Ok(()),
    };
    let mut state = State::new(args.address.authority().to_owned(), Snapshot::new(status, rows, 0.0));
    if args.once {
        let cells = columns(std::io::stdout()).unwrap_or(once::DEFAULT_WIDTH);
        // A reader that is gone is no failure.
        let _ = std::io::stdout().write_all(once::text(&state, cells).as_bytes());
        return Ok(());
    }
    let mut screen = Screen::take().map_err(|error| Failure::Terminal(io_words(&error)))?;
    watch(&mut screen, &mut state, api, &args.address, &mut signals, clock)
        .await
        .map_err(|error| Failure::Terminal(io_words(&error)))
}

/// Shows updates until a key or a signal ends it.
async fn watch(
    screen: &mut Screen,
    state: &mut State,
    api: ApiClient,
    address: &Address,
    signals: &mut Signals,
    clock: Instant,
) -> std::io::Result<()> {
    // Room for a status and rows: the watch waits until they are taken.
    let (sender, mut updates) = mpsc::channel(2);
    // Not a task of its own: if it panics, so does this, and the terminal is restored.
    let mut asking = pin!(watch::watch(api, sender));
    let mut disconnects: JoinSet<(String, Disconnected)> = JoinSet::new();
    let mut events = EventStream::new();
    let mut redraw = interval(REDRAW_INTERVAL);
    redraw.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        screen.draw(state, clock.elapsed().as_secs_f64())?;
        tokio::select! {
            () = &mut asking => return Ok(()),
            Some(update) = updates.recv() => state.take(update, clock.elapsed().as_secs_f64()),
            event = events.next() => match event {
                Some(Ok(Event::Key(key))) => match state.press(key, clock.elapsed().as_secs_f64()) {
                    Action::Quit => return Ok(()),
                    Action::Disconnect { id, title } => {
                        let mut api = watch::client(address, None);
                        disconnects.spawn(async move { (title, api.disconnect(id).await) });
                    }
                    Action::Nothing => {}
                },
                // A new size, which the next drawing asks for.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            },
            Some(Ok((title, disconnected))) = disconnects.join_next() => {
                state.disconnected(&title, &disconnected, clock.elapsed().as_secs_f64());
            }
            _ = redraw.tick() => {}
            () = signals.stop() => return Ok(()),
        }
    }
}
