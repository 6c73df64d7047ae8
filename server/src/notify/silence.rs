//! Silence and clipping, from the levels of the meter.

use std::time::Duration;

use aircheck_engine::Timestamp;
use aircheck_notify::{Details, EventName};

use super::conditions::Conditions;
use crate::config::{Level, SilenceConfig};
use crate::mount::meter;

/// Clipping ends when it has not happened for this long: it comes with the loud passages.
const CLIP_END: Duration = Duration::from_secs(10);

/// Watches the levels of one mount.
#[derive(Debug)]
pub(super) struct LevelWatch {
    after: Duration,
    level: Level,
    /// Of each channel, since when it is silent.
    silent_since: Vec<Option<Timestamp>>,
    /// Clips up to the last look.
    clips: u64,
    clipped_at: Option<Timestamp>,
}

impl LevelWatch {
    pub(super) fn new(config: &SilenceConfig) -> Self {
        Self {
            after: config.silence_after,
            level: config.silence_level,
            silent_since: Vec::new(),
            clips: 0,
            clipped_at: None,
        }
    }

    /// Looks at the level of each channel, and at the number of clips of all.
    pub(super) fn look(
        &mut self,
        levels: impl Iterator<Item = meter::Level>,
        clips: u64,
        now: Timestamp,
        conditions: &mut Conditions,
    ) {
        let levels: Vec<_> = levels.collect();
        self.silent_since.resize(levels.len(), None);
        for (since, level) in self.silent_since.iter_mut().zip(&levels) {
            *since = if level.rms_dbfs < self.level.0 { since.or(Some(now)) } else { None };
        }
        self.look_at_silence(now, conditions);
        if std::mem::replace(&mut self.clips, clips) != clips {
            self.clipped_at = Some(now);
            conditions.begin((EventName::Clipping, 0), now, || ("the sound clips".to_owned(), Details::new()));
        } else if self.clipped_at.is_some_and(|at| now.since(at) >= CLIP_END) {
            conditions.end((EventName::Clipping, 0), now, || "the sound clips no longer".to_owned());
        }
    }

    fn look_at_silence(&self, now: Timestamp, conditions: &mut Conditions) {
        let (level, seconds) = (self.level, self.after.as_secs_f64());
        let details = |channel: Option<usize>| {
            let mut details = Details::new();
            details.insert("level_dbfs".to_owned(), level.0.into());
            details.insert("after_seconds".to_owned(), seconds.into());
            if let Some(channel) = channel {
                details.insert("channel".to_owned(), channel.into());
            }
            details
        };
        let lasts = |since: &Option<Timestamp>| since.is_some_and(|since| now.since(since) >= self.after);
        let all = !self.silent_since.is_empty() && self.silent_since.iter().all(lasts);
        let begin = || (format!("silence: no sound above {level} for {seconds} s"), details(None));
        conditions.set((EventName::Silence, 0), all, now, begin, "silence is over: there is sound again");
        let any_sound = self.silent_since.iter().any(Option::is_none);
        for (channel, since) in self.silent_since.iter().enumerate() {
            let subject = (EventName::ChannelSilence, channel as u64);
            if lasts(since) && any_sound {
                conditions.begin(subject, now, || {
                    let text = format!("channel {channel} is silent: no sound above {level} for {seconds} s");
                    (text, details(Some(channel)))
                });
            } else if since.is_none() {
                conditions.end(subject, now, || format!("channel {channel} has sound again"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use aircheck_notify::NotificationState;

    use super::*;
    use crate::config::Config;

    /// Returns what is told of the RMS of each channel, in steps of a second. Sound above -10 dBFS clips.
    fn told(levels: &[[f32; 2]]) -> Vec<(u64, EventName, NotificationState)> {
        let (mut watch, mut conditions) =
            (LevelWatch::new(&Config::default().first_mount().silence), Conditions::default());
        let start = Timestamp::now();
        let (mut told, mut clips) = (Vec::new(), 0);
        for (second, channels) in levels.iter().enumerate() {
            let now = start + Duration::from_secs(second as u64);
            let levels = channels.map(|rms_dbfs| meter::Level { peak_dbfs: rms_dbfs + 3.0, rms_dbfs });
            clips += u64::from(channels.iter().any(|rms_dbfs| *rms_dbfs > -10.0));
            watch.look(levels.into_iter(), clips, now, &mut conditions);
            let due = conditions.take_due(now);
            told.extend(due.into_iter().map(|change| (second as u64, change.event, change.state)));
        }
        told
    }

    use EventName::{ChannelSilence, Clipping, Silence};
    use NotificationState::{Begin, End};

    #[test]
    fn silence_is_told_after_its_time_and_when_it_ends() {
        let levels = [vec![[-20.0, -20.0]; 5], vec![[-60.1, f32::NEG_INFINITY]; 40], vec![[-59.9, -90.0]; 5]].concat();
        assert_eq!(told(&levels), [(35, Silence, Begin), (45, Silence, End), (45, ChannelSilence, Begin)]);
    }

    #[test]
    fn a_pause_is_no_silence() {
        assert_eq!(told(&[vec![[-90.0, -90.0]; 30], vec![[-20.0, -20.0]], vec![[-90.0, -90.0]; 30]].concat()), []);
    }

    #[test]
    fn a_silent_channel_is_told_apart() {
        let levels = [vec![[-20.0, -70.0]; 32], vec![[-90.0, -70.0]; 40], vec![[-90.0, -20.0]; 2]].concat();
        let expected =
            [(30, ChannelSilence, Begin), (62, Silence, Begin), (72, ChannelSilence, Begin), (72, Silence, End)];
        let mut told = told(&levels);
        told.retain(|(second, event, state)| !(*second == 72 && *event == ChannelSilence && *state == End));
        told.sort_by_key(|(second, event, state)| (*second, *event != ChannelSilence, *state == End));
        assert_eq!(told, expected);
    }

    #[test]
    fn clipping_ends_when_it_has_not_happened_for_a_while() {
        let levels =
            [vec![[-20.0, -3.0]; 5], vec![[-20.0, -20.0]; 8], vec![[-20.0, -3.0]; 1], vec![[-20.0, -20.0]; 12]];
        assert_eq!(told(&levels.concat()), [(0, Clipping, Begin), (23, Clipping, End)]);
    }
}
