//! Pushes a mount to Icecast servers. Each is a listener to which this server has connected: it has a ring, an account and a lag as
//! any other, and is served by a shard.

use std::sync::Arc;
use std::time::Duration;

use aircheck_api::Rendition;
use aircheck_engine::source::BackOff;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

use crate::config::PushTarget;
use crate::delivery::session::Connection;
use crate::http::server::Server;
use crate::http::stream::join_push;
use crate::mounts::ServedMount;
use crate::rendition::content_type::content_type;
use crate::sink::icecast;

/// Time between two looks at the settings, which may change.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// A server that took the sound for this long was well, and is connected again at once.
const HEALTHY_SPAN: Duration = Duration::from_secs(10);

/// Pushes a mount to the servers of its settings, again and again, until the future is dropped.
pub async fn keep(server: Arc<Server>, served: Arc<ServedMount>) {
    let mut tasks = JoinSet::new();
    let mut running: Vec<(PushTarget, AbortHandle)> = Vec::new();
    while !served.mount.hub().is_ended() {
        let targets = served.config().delivery.push.clone();
        running.retain(|(target, task)| {
            let is_kept = targets.contains(target);
            if !is_kept {
                task.abort();
                served.pushes.forget(&target.to_string());
            }
            is_kept
        });
        for target in targets {
            if !running.iter().any(|(other, _)| *other == target) {
                let task = tasks.spawn(push(Arc::clone(&server), Arc::clone(&served), target.clone()));
                running.push((target, task));
            }
        }
        sleep(LOOK_INTERVAL).await;
    }
}

/// Pushes a mount to one server until the future is dropped.
async fn push(server: Arc<Server>, served: Arc<ServedMount>, target: PushTarget) {
    let (mut back_off, to) = (BackOff::default(), target.to_string());
    while !served.mount.hub().is_ended() {
        let started = tokio::time::Instant::now();
        let failure = match push_once(&server, &served, &target).await {
            Ok(()) => "the connection has ended".to_owned(),
            Err(why) => why,
        };
        if served.pushes.failed(&to, failure.clone()) {
            tracing::warn!("the mount `{}` is not pushed to {to}: {failure} (it is tried again)", served.mount.name());
        }
        if started.elapsed() >= HEALTHY_SPAN {
            back_off = BackOff::default();
        }
        back_off.lengthen();
        sleep(back_off.pause()).await;
    }
}

/// Connects, and returns when the connection has ended.
async fn push_once(server: &Arc<Server>, served: &ServedMount, target: &PushTarget) -> Result<(), String> {
    let rendition = if target.is_mp3() { Rendition::Mp3 } else { Rendition::Opus };
    let to = target.to_string();
    let connected = icecast::connect(target, content_type(rendition), served.mount.name()).await;
    let (stream, remote) = connected.map_err(|error| error.to_string())?;
    let joined = join_push(server, served, remote, rendition, to.clone()).await?;
    let listener = Arc::clone(joined.registration.listener());
    let stream = stream.into_std().map_err(|error| error.to_string())?;
    // The session holds the receiver until it has ended.
    let (ended, open) = watch::channel(false);
    server.shards().add(joined.into_session(Connection { stream, tls: None, written: 0 }, &[], open));
    served.pushes.connected(&to, Arc::clone(&listener));
    tracing::info!("the mount `{}` is pushed to {to}", served.mount.name());
    let end = EndOnDrop { server, listener: listener.id() };
    ended.closed().await;
    drop(end);
    Ok(())
}

/// Ends the listener when its push is not wanted any more.
struct EndOnDrop<'s> {
    server: &'s Server,
    listener: u64,
}

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        // It is gone already, if the connection has ended by itself.
        let _ = self.server.listeners().disconnect(self.listener);
    }
}
