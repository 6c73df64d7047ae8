//! Takes a renewed certificate while connections go on: when its files change, and at SIGHUP.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use crate::http::tls::{ServerTls, Source, self_signed};

/// Between two looks at the files. A certificate is renewed weeks before it ends.
const LOOK_INTERVAL: Duration = Duration::from_secs(3);

/// What tells a file from the one that was there before: its number, its length, and when it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version([Option<(u64, u64, i64, i64)>; 2], bool);

impl Version {
    /// Looks at the files.
    pub(super) fn of(source: &Source) -> Self {
        match source {
            Source::Files { cert, key } => Self([look(cert), look(key)], false),
            Source::SelfSigned(path) => Self([look(path), None], self_signed::is_due(path)),
        }
    }
}

fn look(path: &Path) -> Option<(u64, u64, i64, i64)> {
    let file = fs::metadata(path).ok()?;
    Some((file.ino(), file.size(), file.mtime(), file.mtime_nsec()))
}

/// Takes what is renewed, for as long as it is polled.
pub(in crate::http) async fn watch(tls: Arc<ServerTls>) {
    let mut looks = interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Fails only if the system refuses any handler, and then files are looked at still.
    let mut hangups = signal(SignalKind::hangup()).ok();
    let mut taken = tls.loaded;
    let mut seen = taken;
    loop {
        let is_told = tokio::select! {
            _ = looks.tick() => false,
            Some(()) = async { hangups.as_mut()?.recv().await } => true,
        };
        let looked_at = Arc::clone(&tls);
        let Ok(version) = spawn_blocking(move || Version::of(&looked_at.source)).await else { return };
        // A pair whose second file is not written yet is looked at again.
        let is_settled = version == std::mem::replace(&mut seen, version);
        if is_told || (version != taken && is_settled) {
            taken = version;
            let renewed = Arc::clone(&tls);
            // It logs what it did.
            let _ = spawn_blocking(move || renewed.renew()).await;
        }
    }
}
