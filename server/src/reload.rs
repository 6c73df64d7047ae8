//! SIGHUP: reads the settings again, and takes the tokens and the mounts that the file has now.

use std::fs::File;
use std::io;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::{Config, Values, changes};
use crate::on_air::OnAir;

/// How to read the settings again.
#[derive(Debug)]
pub struct Reload {
    /// The values by which the service started.
    pub values: Values,
    /// Reads all settings as at the start. The error is one line.
    pub read: fn() -> Result<(Config, Values), String>,
}

impl Reload {
    /// Reads the settings again, and takes the tokens and the mounts. A file that is wrong changes nothing.
    pub(crate) async fn reload(&self, on_air: &Arc<OnAir>) {
        let server = on_air.server();
        let (config, values) = match (self.read)() {
            Ok(read) => read,
            Err(wrong) => {
                tracing::error!("nothing is changed, because the settings are wrong: {wrong}");
                return;
            }
        };
        let (old, new) = (server.access().rules(), config.rules());
        // An editor empties a file before it writes it, and a server without tokens lets everyone listen.
        if new.tokens.is_empty() && !old.tokens.is_empty() {
            tracing::error!("the tokens are kept, because the file has none (restart the service to go without)");
            return;
        }
        let names: Vec<_> = new.tokens.iter().map(|token| token.name.clone()).collect();
        if *old == new {
            tracing::info!("read the settings again: the tokens are the same");
        } else {
            tracing::info!("read the settings again: the tokens are {}", names.join(", "));
            server.replace_rules(new);
        }
        let now: Vec<_> = server.mounts().all().iter().map(|mount| (*mount.config()).clone()).collect();
        let lines = changes(&now, &config.mounts);
        if lines.is_empty() {
            tracing::info!("read the settings again: the mounts are the same");
        }
        lines.iter().for_each(|line| tracing::info!("read the settings again: {line}"));
        let others: Vec<_> = self.values.differences(&values);
        if !others.is_empty() {
            tracing::warn!(
                "restart the service for the changes of {}: only tokens and mounts are taken while it runs",
                others.join(", ")
            );
        }
        if !lines.is_empty() {
            on_air.change(&config.mounts).await;
        }
    }
}

/// SIGHUP, which has two meanings.
pub(crate) struct Hangups {
    signal: Signal,
    had_terminal: bool,
}

/// The meaning of a SIGHUP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hangup {
    /// Read the settings again.
    Reload,
    /// The terminal in which the program runs is closed. It ends, because a microphone must not stay open unseen.
    TerminalClosed,
}

impl Hangups {
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self { signal: signal(SignalKind::hangup())?, had_terminal: has_terminal() })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) -> Hangup {
        self.signal.recv().await;
        if self.had_terminal && !has_terminal() { Hangup::TerminalClosed } else { Hangup::Reload }
    }
}

/// Returns whether the process has a controlling terminal (tty(4)). The system takes it away before it sends the signal.
fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}
