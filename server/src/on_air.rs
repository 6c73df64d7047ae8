//! The mounts of the settings, kept on the air: each is opened, again and again until that works, and followed for its receivers of
//! notifications; and the settings may change meanwhile.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aircheck_engine::source::BackOff;
use tokio::task::{AbortHandle, spawn_blocking};
use tokio::time::sleep;

use crate::config::MountConfig;
use crate::http::push;
use crate::http::server::Server;
use crate::mounts::{Change, ConfiguredMount, MountError, ServedMount};
use crate::notify;

/// Time that the recording of a removed mount may take for the rest of its sound.
const RECORDING_TIMEOUT: Duration = Duration::from_secs(4);
/// Time that the listeners of a removed mount have to read the end of its stream, and time between two looks whether they have.
const END_TIMEOUT: Duration = Duration::from_secs(5);
const END_INTERVAL: Duration = Duration::from_millis(50);

/// The tasks that keep mounts on the air.
pub(crate) struct OnAir {
    server: Arc<Server>,
    /// By the address of the mount.
    tasks: Mutex<BTreeMap<usize, AbortHandle>>,
    /// One change of the settings at a time.
    changing: tokio::sync::Mutex<()>,
}

impl OnAir {
    /// Makes it for the mounts of this server, none of which is opened yet.
    pub(crate) fn new(server: Arc<Server>) -> Arc<Self> {
        Arc::new(Self { server, tasks: Mutex::default(), changing: tokio::sync::Mutex::default() })
    }

    pub(crate) fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Opens all mounts. Those that cannot be opened are tried again.
    ///
    /// # Errors
    ///
    /// When the only one cannot be opened.
    pub(crate) fn open_all(self: &Arc<Self>) -> Result<(), MountError> {
        let mounts = self.server.mounts().all();
        for mount in &*mounts {
            match mount.open(self.server.shards()) {
                Ok(served) => self.keep(mount, self.follow(served)),
                Err(error) if mounts.len() == 1 && !mount.config().capture.wait_for_source => return Err(error),
                Err(error) => self.keep_opening(mount, &error),
            }
        }
        Ok(())
    }

    /// Ends all tasks. The mounts stay as they are.
    pub(crate) fn stop(&self) {
        self.tasks().values().for_each(AbortHandle::abort);
    }

    /// Takes these mounts in place of the present ones. What is the same goes on untouched. Mounts that are gone end their streams; of
    /// those that have other settings, only a mount whose sound has another format ends them.
    pub(crate) async fn change(self: &Arc<Self>, configs: &[MountConfig]) {
        let _one_at_a_time = self.changing.lock().await;
        let old = self.server.mounts().all();
        let (mut mounts, mut new) = (Vec::new(), Vec::new());
        for config in configs {
            match old.iter().find(|mount| mount.name() == config.name) {
                Some(mount) if *mount.config() == *config || self.change_one(mount, config).await => {
                    mounts.push(Arc::clone(mount));
                }
                _ => {
                    let mount = ConfiguredMount::new(config);
                    new.push(Arc::clone(&mount));
                    mounts.push(mount);
                }
            }
        }
        let is_kept = |mount: &Arc<ConfiguredMount>| mounts.iter().any(|kept| Arc::ptr_eq(kept, mount));
        let gone: Vec<_> = old.iter().filter(|mount| !is_kept(mount)).cloned().collect();
        self.server.notifier().set_receivers_of(configs);
        // No request finds one that is gone from here on.
        if !self.server.mounts().replace(mounts) {
            return;
        }
        for mount in gone {
            self.remove(mount).await;
        }
        for mount in new {
            let (opening, server) = (Arc::clone(&mount), Arc::clone(&self.server));
            match spawn_blocking(move || opening.open(server.shards())).await {
                Ok(Ok(served)) => self.keep(&mount, self.follow(served)),
                Ok(Err(error)) => self.keep_opening(&mount, &error),
                // The runtime ends.
                Err(_) => return,
            }
        }
    }

    /// Changes a mount whose listeners stay. Returns false if it must be opened anew.
    async fn change_one(&self, mount: &Arc<ConfiguredMount>, config: &MountConfig) -> bool {
        let (changing, config) = (Arc::clone(mount), config.clone());
        match spawn_blocking(move || changing.change(&config)).await {
            Ok(Ok(change)) => change == Change::InPlace,
            Ok(Err(error)) => {
                tracing::error!(
                    "the mount `{}` stays as it was: {error} (correct that, and have the file read again)",
                    mount.name()
                );
                true
            }
            // The runtime ends.
            Err(_) => true,
        }
    }

    /// Takes a mount off the air, and its listeners with it, once they have all of its sound.
    async fn remove(self: &Arc<Self>, mount: Arc<ConfiguredMount>) {
        if let Some(task) = self.tasks().remove(&key(&mount)) {
            task.abort();
        }
        if let Ok(served) = mount.served() {
            served.mount.remove();
        }
        let closing = Arc::clone(&mount);
        let _ = spawn_blocking(move || closing.close()).await;
        let Ok(served) = mount.served() else { return };
        let deadline = Instant::now() + RECORDING_TIMEOUT;
        let finishing = Arc::clone(&served);
        if !spawn_blocking(move || finishing.finish_recording(deadline)).await.unwrap_or(true) {
            tracing::error!("the recording of the mount `{}` is not complete: the disk is too slow", mount.name());
        }
        // Others need not wait for those that read slowly.
        tokio::spawn(end_listeners(Arc::clone(&self.server), served));
    }

    /// Logs that a mount is on the air. The future tells receivers of notifications what happens to it from now on, and
    /// pushes it to its Icecast servers.
    fn follow(&self, served: Arc<ServedMount>) -> impl Future<Output = ()> + Send + use<> {
        let (mount, format) = (&served.mount, served.mount.format());
        let of_mount = named(mount.name(), self.server.mounts().all().len());
        tracing::info!("on air{of_mount}: {}, {} Hz, {} ch", mount.description(), format.rate_hz(), format.channels());
        if let Some(recording) = served.recording() {
            tracing::info!("recording{of_mount} to {recording}");
        }
        let pushing = push::keep(Arc::clone(&self.server), Arc::clone(&served));
        let watching =
            notify::watch::watch(served, Arc::clone(self.server.listeners()), Arc::clone(self.server.notifier()));
        async move {
            tokio::join!(pushing, watching);
        }
    }

    /// Tries again and again to put a mount on the air, and follows it from then on.
    fn keep_opening(self: &Arc<Self>, mount: &Arc<ConfiguredMount>, error: &MountError) {
        tracing::error!("the mount `{}` is not on the air, and is tried again: {error}", mount.name());
        let (this, opening, mut last) = (Arc::clone(self), Arc::clone(mount), error.to_string());
        let task = async move {
            let mut back_off = BackOff::default();
            loop {
                back_off.lengthen();
                sleep(back_off.pause()).await;
                let (again, server) = (Arc::clone(&opening), Arc::clone(&this.server));
                // A device that hangs must not hold up the runtime.
                match spawn_blocking(move || again.open(server.shards())).await {
                    Ok(Ok(served)) => return this.follow(served).await,
                    Ok(Err(MountError::Closed)) | Err(_) => return,
                    Ok(Err(error)) => {
                        let why = error.to_string();
                        if why != last {
                            tracing::warn!("the mount `{}` cannot be opened: {why}", opening.name());
                            last = why;
                        }
                    }
                }
            }
        };
        self.keep(mount, task);
    }

    /// Runs the task of a mount until the mount is removed or the service stops.
    fn keep(&self, mount: &Arc<ConfiguredMount>, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks().insert(key(mount), tokio::spawn(task).abort_handle());
    }

    fn tasks(&self) -> MutexGuard<'_, BTreeMap<usize, AbortHandle>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the listeners of a removed mount that have not read the end of its stream in time, and forgets their totals.
async fn end_listeners(server: Arc<Server>, served: Arc<ServedMount>) {
    let (listeners, mount) = (server.listeners(), &served.mount);
    let until = Instant::now() + END_TIMEOUT;
    while listeners.has_any_of(mount) && Instant::now() < until {
        sleep(END_INTERVAL).await;
    }
    listeners.end_removed(mount);
    while listeners.has_any_of(mount) {
        sleep(END_INTERVAL).await;
    }
    mount.events().finish();
    // Unless there is another one of the same name.
    if server.mounts().find(mount.name()).is_none() {
        listeners.forget(mount.name());
    }
}

fn key(mount: &Arc<ConfiguredMount>) -> usize {
    Arc::as_ptr(mount).addr()
}

/// Returns ` as NAME` where there are several mounts.
pub(crate) fn named(name: &str, mounts: usize) -> String {
    if mounts > 1 { format!(" as {name}") } else { String::new() }
}
