//! `aircheckctl listen`: the loop that joins the stream, the clocks, the signals, the file, the player and the status
//! line. Only this file reads clocks.

pub(crate) mod args;
mod gap_log;
mod level;
mod output;
mod progress;
mod reception;
mod summary;
mod timing;
mod url;

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use aircheck_api::{ClientText, Heard};
use tokio::time::{MissedTickBehavior, interval, sleep, sleep_until};

use self::args::ListenArgs;
use self::gap_log::{Limiter, OpenGap};
use self::output::OutputFile;
use self::progress::View;
use self::reception::Reception;
use self::timing::Timing;
use crate::check::Notice;
use crate::client::{Block, Message, Transport, WebSocket, connect};
use crate::failure::{Failure, LOST, complain};
use crate::play::{CHECK_INTERVAL, OutputDevice, Player};
use crate::signals::Signals;
use crate::status_line::{REDRAW_INTERVAL, StatusLine};
use crate::units;

/// How long the first block may take, on top of the span of `--for`.
const FIRST_BLOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval of the checks whether all sound has been played: about a block.
const PLAY_OUT_INTERVAL: Duration = Duration::from_millis(10);

/// Runs the command. The file is completed however it ends.
pub(crate) async fn listen(args: ListenArgs) -> ExitCode {
    let mut session = match Session::begin(&args).await {
        Ok(session) => session,
        Err(failure) => return failure.exit(),
    };
    let mut outcome = session.run().await;
    if outcome.is_ok() {
        session.stream.close().await;
    }
    let hole = session.open_gap.take();
    session.log_notices(hole.as_slice(), Instant::now());
    session.log_held_back(Instant::now(), true);
    session.status.clear();
    let written = match session.output.take().map(OutputFile::finish).transpose() {
        Ok(written) => written,
        Err(failure) => {
            outcome = outcome.and(Err(failure));
            None
        }
    };
    let played = session.player.as_ref().map(Player::stats);
    let summary = summary::text(&session.reception, &session.timing, played.as_ref(), written.as_ref());
    let _ = std::io::stdout().write_all(summary.as_bytes());
    let ledger = &session.reception.ledger;
    match outcome {
        Err(failure) => failure.exit(),
        Ok(()) if args.strict && ledger.lost() > 0 => {
            complain(&format!("--strict: {} lost", units::count(ledger.lost(), "block")));
            ExitCode::from(LOST)
        }
        Ok(()) if args.strict && ledger.faults().any() => {
            complain("--strict: the server's notices of gaps contradict the sequence numbers");
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
    stream: WebSocket<Transport>,
    timing: Timing,
    reception: Reception,
    output: Option<OutputFile>,
    player: Option<Player>,
    status: StatusLine,
    limiter: Limiter,
    open_gap: OpenGap,
}

impl Session {
    async fn begin(args: &ListenArgs) -> Result<Self, Failure> {
        let started = Instant::now();
        let mut signals = Signals::watch().map_err(Failure::Signals)?;
        let timeout = args.span.map(first_block_timeout);
        let (stream, player) = tokio::select! {
            begun = begin(args) => begun?,
            () = signals.stop() => return Err(Failure::StoppedEarly),
            failure = run_out(started, timeout) => return Err(failure),
        };
        let format = stream.format();
        // Only now: a server that refuses must not cost an older recording.
        let output = args.output.as_deref().map(|path| OutputFile::create(path, format)).transpose()?;
        let mut status = StatusLine::stderr(started);
        let (rate_hz, channels) = (format.rate_hz, units::count(u64::from(format.channels), "channel"));
        status.log(&format!("listening to {}: {rate_hz} Hz, {channels}", args.url));
        Ok(Self {
            started,
            span: args.span,
            signals,
            stream,
            timing: Timing::new(Instant::now()),
            reception: Reception::new(format, args.url.first_sequence()),
            output,
            player,
            status,
            limiter: Limiter::default(),
            open_gap: OpenGap::default(),
        })
    }

    /// Takes the stream until it ends, `--for` is over or a signal comes: all three are proper ends.
    async fn run(&mut self) -> Result<(), Failure> {
        let mut redraw = interval(REDRAW_INTERVAL);
        redraw.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut check = interval(CHECK_INTERVAL);
        check.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let since = self.reception.since();
            let (from, span) = match since {
                Some(first_at) => (first_at, self.span),
                None => (self.started, self.span.map(first_block_timeout)),
            };
            tokio::select! {
                message = self.stream.next() => match message? {
                    Some(message) => self.take(message)?,
                    None => {
                        self.play_out().await;
                        return Ok(());
                    }
                },
                _ = check.tick(), if self.player.is_some() => self.check_player().await?,
                () = sleep_until(self.timing.ask_at().into()) => {
                    self.stream.send(ClientText::Clock(self.timing.ask(Instant::now()))).await;
                }
                () = self.signals.stop() => {
                    return if since.is_some() { Ok(()) } else { Err(Failure::StoppedEarly) };
                }
                failure = run_out(from, span) => return if since.is_some() { Ok(()) } else { Err(failure) },
                _ = redraw.tick() => self.draw(),
            }
        }
    }

    /// Reports to the server what is heard, and checks that the device still plays.
    async fn check_player(&mut self) -> Result<(), Failure> {
        let Some(player) = &mut self.player else { return Ok(()) };
        let mut newest = None;
        for block in player.heard(Instant::now()) {
            newest = self.timing.heard(block.captured_at, block.at).map(|at| Heard { sequence: block.sequence, at });
        }
        if let Some(heard) = newest {
            self.stream.send(ClientText::Heard(heard)).await;
        }
        player.check()
    }

    /// Waits until all sound has been played, or a signal comes.
    async fn play_out(&mut self) {
        let Some(player) = &mut self.player else { return };
        player.end(Instant::now());
        while !player.is_over(Instant::now()) {
            tokio::select! {
                () = sleep(PLAY_OUT_INTERVAL) => {}
                () = self.signals.stop() => return,
            }
        }
        for block in player.heard(Instant::now()) {
            self.timing.heard(block.captured_at, block.at);
        }
    }

    fn take(&mut self, message: Message) -> Result<(), Failure> {
        let now = Instant::now();
        match message {
            Message::Block(header, payload) => {
                let block = Block::decode(&header, &payload, &self.reception.format);
                let number = self.stream.messages();
                self.take_block(&block.map_err(|why| Failure::Message { number, why })?, now)
            }
            Message::Gap(gap) => {
                let notices = self.reception.ledger.gap(&gap);
                // A hole at the source comes block by block, and is told with its whole length when it is over.
                for notice in self.open_gap.merge(notices) {
                    self.log_notices(&[notice], now);
                }
                Ok(())
            }
            Message::Clock(answer) => {
                self.timing.answered(answer, now);
                Ok(())
            }
            Message::Error(error) => {
                self.status.log(&format!("the server reports an error: {error}"));
                Ok(())
            }
            Message::Unknown => Ok(()),
        }
    }

    fn take_block(&mut self, block: &Block, now: Instant) -> Result<(), Failure> {
        let (is_usable, notices) = self.reception.block(block, now);
        let hole = self.open_gap.take();
        self.log_notices(hole.as_slice(), now);
        self.log_notices(&notices, now);
        if !is_usable {
            return Ok(());
        }
        self.timing.arrived(block.captured_at, now);
        if let Some(player) = &mut self.player {
            player.push(block, now)?;
        }
        self.output.as_mut().map_or(Ok(()), |output| output.write(&block.samples))
    }

    fn log_notices(&mut self, notices: &[Notice], now: Instant) {
        for notice in notices {
            self.log_held_back(now, false);
            if self.limiter.admit(notice, now) {
                self.status.log(&gap_log::line(notice, &self.reception));
            }
        }
    }

    /// Tells how many notices were held back: when their second is over, or `at_once`.
    fn log_held_back(&mut self, now: Instant, at_once: bool) {
        if let Some(rest) = self.limiter.rest(now, at_once) {
            self.status.log(&rest);
        }
    }

    fn draw(&mut self) {
        let now = Instant::now();
        if !self.status.is_due(now) {
            return;
        }
        self.log_held_back(now, false);
        let reception = &mut self.reception;
        let view = View {
            elapsed: reception.since().map(|first_at| now - first_at),
            format: reception.format,
            level: reception.take_recent_level(),
            blocks: reception.blocks,
            lost: reception.ledger.lost(),
            gaps: reception.ledger.gaps(),
            faults: reception.ledger.faults().any(),
            latency: self.timing.arrival.last(),
            ear: self.timing.ear.last(),
            late: self.player.as_ref().map_or(0, Player::late),
        };
        self.status.draw(now, |room| view.text(room));
    }
}

/// Opens the stream, and before it the output device of `--play`: without a device, the server is left alone.
async fn begin(args: &ListenArgs) -> Result<(WebSocket<Transport>, Option<Player>), Failure> {
    let output = if args.play { Some(OutputDevice::open(args.play_buffer).await?) } else { None };
    let tcp = connect(args.url.address()).await?;
    // Messages to the server are short and rare; held back they would spoil the measurement of its clock.
    let _ = tcp.tcp().set_nodelay(true);
    let stream = WebSocket::open(tcp, args.url.address(), &args.url.path_and_query()).await?;
    Block::check_payload(stream.payload())
        .map_err(|why| Failure::NotAStream { authority: args.url.address().authority().to_owned(), why })?;
    let player = output.map(|output| Player::new(output, stream.format(), args.play_buffer)).transpose()?;
    Ok((stream, player))
}

fn first_block_timeout(span: Duration) -> Duration {
    span.saturating_add(FIRST_BLOCK_TIMEOUT)
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
