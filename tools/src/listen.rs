//! `aircheckctl listen`: the loop that joins the stream, the clocks, the signals, the file and the screen.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::time::{MissedTickBehavior, interval, sleep_until};

use crate::cli::ListenArgs;
use crate::client::{self, Answer};
use crate::complain;
use crate::failure::Failure;
use crate::feed::{Block, Feed, Line};
use crate::progress::View;
use crate::received::Received;
use crate::recording::Recording;
use crate::screen::{REDRAW_EVERY, Screen};
use crate::signals::Signals;
use crate::summary::summary;
use crate::words;

/// What `--strict` exits with when something was lost.
const LOST: u8 = 3;
/// What `--for` allows on top of its span for the first block to come.
const FIRST_BLOCK_PATIENCE: Duration = Duration::from_secs(5);

/// Runs the command and says how it ended. Whatever the end, the recording is completed.
pub(crate) async fn listen(args: ListenArgs) -> ExitCode {
    let mut session = match Session::begin(&args).await {
        Ok(session) => session,
        Err(failure) => {
            complain(&failure.to_string());
            return ExitCode::FAILURE;
        }
    };
    let mut outcome = session.run().await;
    session.screen.finish(Instant::now());
    let written = match session.recording.take().map(Recording::finish).transpose() {
        Ok(written) => written,
        Err(failure) => {
            outcome = outcome.and(Err(failure));
            None
        }
    };
    let _ = std::io::stdout().write_all(summary(&session.received, written.as_ref()).as_bytes());
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
    answer: Answer,
    feed: Feed,
    received: Received,
    recording: Option<Recording>,
    screen: Screen,
}

impl Session {
    async fn begin(args: &ListenArgs) -> Result<Self, Failure> {
        let started = Instant::now();
        let mut signals = Signals::watch().map_err(Failure::Signals)?;
        let patience = args.span.map(first_block_patience);
        let answer = tokio::select! {
            answer = client::ask(&args.target) => answer?,
            () = signals.stop() => return Err(Failure::StoppedEarly),
            failure = run_out(started, patience) => return Err(failure),
        };
        let format = answer.format;
        // Only now: a server that refuses must not cost an older recording.
        let recording = args.output.as_deref().map(|path| Recording::create(path, format)).transpose()?;
        let mut screen = Screen::stderr(started);
        let (rate_hz, channels) = (format.rate_hz, words::count(u64::from(format.channels), "channel"));
        screen.line(&format!("listening to {}: {rate_hz} Hz, {channels}", args.target));
        Ok(Self {
            started,
            span: args.span,
            signals,
            answer,
            feed: Feed::new(format.channels),
            received: Received::new(format, args.target.first_sequence()),
            recording,
            screen,
        })
    }

    /// Takes in the stream until it ends, `--for` is over or a signal comes: all three are proper ends.
    async fn run(&mut self) -> Result<(), Failure> {
        let mut redraw = interval(REDRAW_EVERY);
        redraw.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let since = self.received.since();
            let (from, span) = match since {
                Some(first_at) => (first_at, self.span),
                None => (self.started, self.span.map(first_block_patience)),
            };
            tokio::select! {
                bytes = self.answer.bytes() => match bytes? {
                    Some(bytes) => self.take(&bytes)?,
                    None => return self.feed.finish(),
                },
                () = self.signals.stop() => {
                    return if since.is_some() { Ok(()) } else { Err(Failure::StoppedEarly) };
                }
                failure = run_out(from, span) => return if since.is_some() { Ok(()) } else { Err(failure) },
                _ = redraw.tick() => self.draw(),
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let now = Instant::now();
        self.feed.push(bytes);
        while let Some(Line { gap, block }) = self.feed.next_line()? {
            if let Some(gap) = gap {
                for notice in self.received.gap(&gap) {
                    self.screen.notice(&notice, &self.received, now);
                }
            }
            if let Some(block) = block {
                self.take_block(&block, now)?;
            }
        }
        Ok(())
    }

    fn take_block(&mut self, block: &Block, now: Instant) -> Result<(), Failure> {
        let (usable, notices) = self.received.block(block, now);
        for notice in notices {
            self.screen.notice(&notice, &self.received, now);
        }
        match &mut self.recording {
            Some(recording) if usable => recording.write(&block.samples),
            _ => Ok(()),
        }
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
            same_clock: self.answer.same_machine,
        };
        self.screen.progress(&view, now);
    }
}

fn first_block_patience(span: Duration) -> Duration {
    span.saturating_add(FIRST_BLOCK_PATIENCE)
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
