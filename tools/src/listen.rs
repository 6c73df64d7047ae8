//! `aircheckctl listen`: the loop that joins the stream, the clocks, the signals, the file and the screen.

mod feed;
mod gap_log;
mod level;
mod progress;
mod received;
mod recording;
pub(crate) mod screen;
mod stream;
mod summary;
pub(crate) mod target;
mod timing;

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::time::{MissedTickBehavior, interval, sleep, sleep_until};

use crate::cli::ListenArgs;
use crate::client::block::{Block, Line};
use crate::failure::{Failure, complain};
use crate::listen::progress::View;
use crate::listen::received::Received;
use crate::listen::recording::Recording;
use crate::listen::screen::{REDRAW_EVERY, Screen};
use crate::listen::stream::{Event, Stream};
use crate::listen::summary::{Report, summary};
use crate::listen::timing::Timing;
use crate::play::{CHECK_EVERY, Player, Speaker};
use crate::signals::Signals;
use crate::units as words;

/// What `--strict` exits with when something was lost.
const LOST: u8 = 3;
/// What `--for` allows on top of its span for the first block to come.
const FIRST_BLOCK_PATIENCE: Duration = Duration::from_secs(5);

/// How often is looked whether what waits has been played: about a block.
const PLAY_OUT_LOOK: Duration = Duration::from_millis(10);

/// Runs the command and says how it ended. Whatever the end, the recording is completed.
pub(crate) async fn listen(mut args: ListenArgs) -> ExitCode {
    if args.play {
        args.target = args.target.over_websocket();
    }
    let mut session = match Session::begin(&args).await {
        Ok(session) => session,
        Err(failure) => {
            complain(&failure.to_string());
            return ExitCode::FAILURE;
        }
    };
    let mut outcome = session.run().await;
    if let Some(socket) = session.stream.websocket().filter(|_| outcome.is_ok()) {
        socket.close().await;
    }
    session.screen.finish(Instant::now());
    let written = match session.recording.take().map(Recording::finish).transpose() {
        Ok(written) => written,
        Err(failure) => {
            outcome = outcome.and(Err(failure));
            None
        }
    };
    let played = session.player.as_ref().map(Player::account);
    let report = Report {
        received: &session.received,
        written: written.as_ref(),
        timing: session.timing.as_ref(),
        played: played.as_ref(),
    };
    let _ = std::io::stdout().write_all(summary(&report).as_bytes());
    let ledger = &session.received.ledger;
    match outcome {
        Err(failure) => {
            complain(&failure.to_string());
            ExitCode::FAILURE
        }
        Ok(()) if args.strict && ledger.lost() > 0 => {
            complain(&format!("--strict: {} lost", words::count(ledger.lost(), "block")));
            ExitCode::from(LOST)
        }
        Ok(()) if args.strict && ledger.faults().any() => {
            complain("--strict: the server's account doesn't add up");
            ExitCode::from(LOST)
        }
        Ok(()) => ExitCode::SUCCESS,
    }
}

/// A stream that is being listened to.
struct Session {
    started: Instant,
    span: Option<Duration>,
    signals: Signals,
    stream: Stream,
    /// Where there is a way back, by which the server can be asked the time.
    timing: Option<Timing>,
    received: Received,
    recording: Option<Recording>,
    player: Option<Player>,
    screen: Screen,
}

impl Session {
    async fn begin(args: &ListenArgs) -> Result<Self, Failure> {
        let started = Instant::now();
        let mut signals = Signals::watch().map_err(Failure::Signals)?;
        let patience = args.span.map(first_block_patience);
        let (mut stream, player) = tokio::select! {
            begun = begin(args) => begun?,
            () = signals.stop() => return Err(Failure::StoppedEarly),
            failure = run_out(started, patience) => return Err(failure),
        };
        let format = stream.format();
        // Only now: a server that refuses must not cost an older recording.
        let recording = args.output.as_deref().map(|path| Recording::create(path, format)).transpose()?;
        let mut screen = Screen::stderr(started);
        let (rate_hz, channels) = (format.rate_hz, words::count(u64::from(format.channels), "channel"));
        screen.line(&format!("listening to {}: {rate_hz} Hz, {channels}", args.target));
        let timing = stream.websocket().map(|_| Timing::new(Instant::now()));
        Ok(Self {
            started,
            span: args.span,
            signals,
            stream,
            timing,
            received: Received::new(format, args.target.first_sequence()),
            recording,
            player,
            screen,
        })
    }

    /// Takes in the stream until it ends, `--for` is over or a signal comes: all three are proper ends.
    async fn run(&mut self) -> Result<(), Failure> {
        let mut redraw = interval(REDRAW_EVERY);
        redraw.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut check = interval(CHECK_EVERY);
        check.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let since = self.received.since();
            let (from, span) = match since {
                Some(first_at) => (first_at, self.span),
                None => (self.started, self.span.map(first_block_patience)),
            };
            tokio::select! {
                event = self.stream.next() => match event? {
                    Some(event) => self.take(event)?,
                    None => {
                        self.play_out().await;
                        return Ok(());
                    }
                },
                _ = check.tick(), if self.player.is_some() => self.look_at_player().await?,
                () = due(self.timing.as_ref().map(Timing::ask_at)) => self.ask_time().await,
                () = self.signals.stop() => {
                    return if since.is_some() { Ok(()) } else { Err(Failure::StoppedEarly) };
                }
                failure = run_out(from, span) => return if since.is_some() { Ok(()) } else { Err(failure) },
                _ = redraw.tick() => self.draw(),
            }
        }
    }

    async fn ask_time(&mut self) {
        if let (Some(timing), Some(socket)) = (&mut self.timing, self.stream.websocket()) {
            socket.ask_time(timing.ask(Instant::now())).await;
        }
    }

    /// Tells the server what is heard, and looks whether anything can be.
    async fn look_at_player(&mut self) -> Result<(), Failure> {
        let (Some(player), Some(timing)) = (&mut self.player, &mut self.timing) else { return Ok(()) };
        let mut newest = None;
        for heard in player.heard(Instant::now()) {
            newest = timing.heard(heard).map(|at| (heard.sequence, at));
        }
        if let (Some((sequence, at)), Some(socket)) = (newest, self.stream.websocket()) {
            socket.heard(sequence, at).await;
        }
        player.check()
    }

    /// The stream is over; what has come of it is still played.
    async fn play_out(&mut self) {
        let Some(player) = &mut self.player else { return };
        player.end(Instant::now());
        while !player.is_over(Instant::now()) {
            tokio::select! {
                () = sleep(PLAY_OUT_LOOK) => {}
                () = self.signals.stop() => return,
            }
        }
        if let Some(timing) = &mut self.timing {
            player.heard(Instant::now()).for_each(|heard| _ = timing.heard(heard));
        }
    }

    fn take(&mut self, event: Event) -> Result<(), Failure> {
        let now = Instant::now();
        match event {
            Event::Line(Line { gap, block }) => {
                if let Some(gap) = gap {
                    for notice in self.received.gap(&gap) {
                        self.screen.notice(&notice, &self.received, now);
                    }
                }
                block.map_or(Ok(()), |block| self.take_block(&block, now))
            }
            Event::Clock { asked, server } => {
                if let Some(timing) = &mut self.timing {
                    timing.answered(asked, server, now);
                }
                Ok(())
            }
            Event::Complaint(complaint) => {
                self.screen.line(&format!("the server complains: {complaint}"));
                Ok(())
            }
        }
    }

    fn take_block(&mut self, block: &Block, now: Instant) -> Result<(), Failure> {
        let (usable, notices) = self.received.block(block, now);
        for notice in notices {
            self.screen.notice(&notice, &self.received, now);
        }
        if !usable {
            return Ok(());
        }
        if let Some(timing) = &mut self.timing {
            timing.arrived(block, now);
        }
        if let Some(player) = &mut self.player {
            player.push(block, now)?;
        }
        self.recording.as_mut().map_or(Ok(()), |recording| recording.write(&block.samples))
    }

    fn draw(&mut self) {
        let now = Instant::now();
        if !self.screen.is_due(now) {
            return;
        }
        let unix_now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let received = &mut self.received;
        let view = View {
            elapsed: received.since().map(|first_at| now - first_at),
            format: received.format,
            level: received.take_recent_level(),
            blocks: received.blocks,
            lost: received.ledger.lost(),
            gaps: received.ledger.gaps(),
            faults: received.ledger.faults().any(),
            behind_seconds: received.behind(unix_now),
            same_clock: self.stream.same_machine(),
            latency: self.timing.as_ref().and_then(|timing| timing.arrival.last()),
            ear: self.timing.as_ref().and_then(|timing| timing.ear.last()),
            late: self.player.as_ref().map_or(0, Player::late),
        };
        self.screen.progress(&view, now);
    }
}

/// The stream that is asked for, and what plays it. The device comes first: without one, no server need be bothered.
async fn begin(args: &ListenArgs) -> Result<(Stream, Option<Player>), Failure> {
    if !args.play {
        return Ok((Stream::begin(&args.target).await?, None));
    }
    let (speaker, inlet) = Speaker::open(args.play_buffer).await?;
    let mut stream = Stream::begin(&args.target).await?;
    let hello = stream.websocket().map(|socket| socket.hello());
    let player = hello.map(|hello| Player::new(speaker, inlet, hello, args.play_buffer)).transpose()?;
    Ok((stream, player))
}

fn first_block_patience(span: Duration) -> Duration {
    span.saturating_add(FIRST_BLOCK_PATIENCE)
}

/// Returns at `instant`; never if there is none.
async fn due(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}

/// Returns when `span` has passed since `from`; never if there is no such moment.
async fn run_out(from: Instant, span: Option<Duration>) -> Failure {
    match span.and_then(|span| Some((span, from.checked_add(span)?))) {
        Some((span, end)) => {
            sleep_until(end.into()).await;
            Failure::NothingCame(span)
        }
        None => std::future::pending().await,
    }
}
