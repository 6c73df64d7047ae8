//! The watch: looks at the mounts and their consumers ten times a second, and tells what begins and ends.

use std::sync::Arc;
use std::time::Duration;

use aircheck_engine::{Loss, Timestamp};
use aircheck_notify::{Details, EventName};
use tokio::time::{MissedTickBehavior, interval};

use super::conditions::Conditions;
use super::disk::DiskWatch;
use super::events::{EventReader, settle};
use super::losses::LossWatch;
use super::notifier::Notifier;
use super::silence::LevelWatch;
use crate::config::SilenceConfig;
use crate::delivery::listeners::Listeners;
use crate::mount::Mount;
use crate::mounts::ServedMount;
use crate::sink::recorder::Recording;

/// Time between two looks: a third of the meter's window, so that none of its levels is missed.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Every so many looks, the accounts are added up: once a second. With 1000 listeners it takes a tenth of a millisecond.
const LOOKS_BETWEEN_SUMS: u64 = 10;
/// The subjects of losses.
const LOSSES_OF_CAPTURE: u64 = 0;
const LOSSES_OF_LISTENERS: u64 = 1;

/// Tells what happens to one mount to its receivers, for as long as it is polled. The settings, the recording and the receivers may
/// change meanwhile.
pub async fn watch(served: Arc<ServedMount>, listeners: Arc<Listeners>, notifier: Arc<Notifier>) {
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mount, recording) = (Arc::clone(&served.mount), served.recording());
    let silence = served.config().silence.clone();
    let mut watch = Watch {
        events: EventReader::new(&mount),
        levels: LevelWatch::new(&silence),
        capture_losses: LossWatch::default(),
        listener_losses: LossWatch::default(),
        disk: recording.as_deref().map(DiskWatch::of),
        conditions: Conditions::default(),
        looks: 0,
        mount,
        recording,
        silence,
        served,
        listeners,
    };
    loop {
        ticks.tick().await;
        // What is not told need not be looked for.
        if !notifier.has_receiver_of(watch.mount.name()) {
            continue;
        }
        let now = Timestamp::now();
        watch.take_settings();
        watch.look(now).await;
        for change in watch.conditions.take_due(now) {
            notifier.tell(watch.mount.name(), change.event, change.state, change.text, change.details);
        }
    }
}

/// The state of everything at the last look.
struct Watch {
    served: Arc<ServedMount>,
    silence: SilenceConfig,
    mount: Arc<Mount>,
    recording: Option<Arc<Recording>>,
    listeners: Arc<Listeners>,
    events: EventReader,
    levels: LevelWatch,
    capture_losses: LossWatch,
    listener_losses: LossWatch,
    disk: Option<DiskWatch>,
    conditions: Conditions,
    looks: u64,
}

impl Watch {
    /// Takes the settings and the recording of the mount, if they are others.
    fn take_settings(&mut self) {
        let (silence, recording) = (&self.served.config().silence, self.served.recording());
        if *silence != self.silence {
            self.silence = silence.clone();
            self.levels = LevelWatch::new(silence);
        }
        if recording.as_ref().map(Arc::as_ptr) != self.recording.as_ref().map(Arc::as_ptr) {
            self.disk = recording.as_deref().map(DiskWatch::of);
            self.recording = recording;
        }
    }

    async fn look(&mut self, now: Timestamp) {
        if !self.events.read(now, &mut self.conditions) {
            settle(&self.mount, &self.listeners, now, &mut self.conditions);
        }
        // A source that has ended is silent for good, and the end of the service says so.
        if !self.mount.hub().is_ended() {
            let meter = self.mount.meter();
            self.levels.look(meter.levels(), meter.clips().sum(), now, &mut self.conditions);
        }
        if self.looks.is_multiple_of(LOOKS_BETWEEN_SUMS) {
            self.look_at_losses(now);
            self.look_at_recording(now);
        }
        self.looks += 1;
        self.look_at_disk(now).await;
    }

    fn look_at_losses(&mut self, now: Timestamp) {
        let capture = self.mount.capture();
        let lost = capture.lost_overflow() + capture.lost_xrun() + capture.lost_in_bursts();
        let captured = capture.blocks() + lost;
        let share = self.capture_losses.look(captured, lost, now);
        set_losses(&mut self.conditions, LOSSES_OF_CAPTURE, "the capture loses", share, now);
        let (mut offered, mut lost) = (0, 0);
        let totals = self.listeners.totals();
        for totals in totals.by_mount.get(self.mount.name()).into_iter().flat_map(|renditions| renditions.values()) {
            offered += totals.offered;
            // Without items that the policy `latest` replaces, and without losses at the source, which are told apart.
            let is_own = |loss: &Loss| !matches!(loss, Loss::Conflated | Loss::Source | Loss::Hop);
            let own = Loss::ALL.iter().zip(totals.lost).filter(|(loss, _)| is_own(loss));
            lost += own.map(|(_, lost)| lost).sum::<u64>();
        }
        let share = self.listener_losses.look(offered, lost, now);
        set_losses(&mut self.conditions, LOSSES_OF_LISTENERS, "listeners lose", share, now);
    }

    fn look_at_recording(&mut self, now: Timestamp) {
        let Some(status) = self.recording.as_ref().map(|recording| recording.status()) else { return };
        let begin = || {
            let why = status.failing.clone().unwrap_or_default();
            let text = format!("nothing is recorded: {why}");
            (text, Details::from_iter([("error".to_owned(), why.into())]))
        };
        let subject = (EventName::Recording, 0);
        self.conditions.set(subject, status.failing.is_some(), now, begin, "the recording goes on");
    }

    async fn look_at_disk(&mut self, now: Timestamp) {
        let Some(disk) = &mut self.disk else { return };
        let Some(free) = disk.look(now).await else { return };
        let (is_low, reserve) = (disk.is_low(free), disk.reserve_bytes());
        let begin = || {
            let gigabytes = |bytes: u64| bytes as f64 / 1e9;
            let stops =
                if reserve > 0 { format!(", and it stops at {:.1} GB", gigabytes(reserve)) } else { String::new() };
            let text = format!("the disk of the recording is nearly full: {:.1} GB are free{stops}", gigabytes(free));
            let bytes = [("free_bytes".to_owned(), free.into()), ("reserve_bytes".to_owned(), reserve.into())];
            (text, Details::from_iter(bytes))
        };
        let end = "the disk of the recording has room again";
        self.conditions.set((EventName::Disk, 0), is_low, now, begin, end);
    }
}

fn set_losses(conditions: &mut Conditions, of: u64, subject: &str, share: Option<f64>, now: Timestamp) {
    let begin = || {
        let share = share.unwrap_or_default();
        let text = format!("{subject} {:.1} % of the blocks of the last minute", share * 100.0);
        let place = if of == LOSSES_OF_CAPTURE { "capture" } else { "listeners" };
        (text, Details::from_iter([("share".to_owned(), share.into()), ("place".to_owned(), place.into())]))
    };
    let end = format!("{subject} less than 1 % again");
    conditions.set((EventName::Losses, of), share.is_some(), now, begin, &end);
}
