//! The status line of `listen`, never wider than its room.

use std::time::Duration;

use aircheck_api::StreamFormat;

use super::level::LevelMeter;
use crate::check::Latency;
use crate::status_line::Room;
use crate::units;

/// The meter's lower end: about a microphone's own noise.
const METER_FLOOR_DBFS: f64 = -60.0;
/// Of 6 dB each.
const METER_CELLS: usize = 10;
/// How the meter begins.
const METER_START: char = '▕';
/// Between two parts.
const SEPARATOR: &str = "  ";

/// The state at one moment.
#[derive(Clone, Debug)]
pub(crate) struct View {
    /// Time since the first block; `None` before it.
    pub(crate) elapsed: Option<Duration>,
    pub(crate) format: StreamFormat,
    /// Level since the last view.
    pub(crate) level: LevelMeter,
    pub(crate) blocks: u64,
    pub(crate) lost: u64,
    pub(crate) gaps: u64,
    /// Whether the stream contradicted itself.
    pub(crate) faults: bool,
    /// Latency of the newest block, once the server's clock is known.
    pub(crate) latency: Option<Latency>,
    /// Latency of the newest block that was heard, if the stream is played here.
    pub(crate) ear: Option<Latency>,
    /// How often sound came too late to be played in time.
    pub(crate) late: u64,
}

/// A part of the line.
struct Part {
    text: String,
    /// Where there is little room, the part with the highest rank goes first. 0 stays.
    rank: u8,
    alarm: bool,
}

impl View {
    /// Returns the line for its room. In a terminal a loss is red; in a log there is no meter.
    pub(crate) fn text(&self, room: Room) -> String {
        match room {
            Room::Terminal { cells, has_colour } => self.line(cells, has_colour),
            Room::Log => {
                let mut parts = self.parts();
                parts.retain(|part| !part.text.starts_with(METER_START));
                join(&parts, false)
            }
        }
    }

    /// Returns the line in at most `width` characters, to which `colour` adds its codes.
    fn line(&self, width: usize, colour: bool) -> String {
        let mut parts = self.parts();
        while join(&parts, false).chars().count() > width {
            let Some(last) = (0..parts.len()).filter(|&i| parts[i].rank > 0).max_by_key(|&i| parts[i].rank) else {
                // So narrow that even the rest is cut: without colour, whose codes must not be cut.
                return join(&parts, false).chars().take(width).collect();
            };
            parts.remove(last);
        }
        join(&parts, colour)
    }

    fn parts(&self) -> Vec<Part> {
        let part = |text: String, rank| Part { text, rank, alarm: false };
        let Some(elapsed) = self.elapsed else {
            let mut parts = vec![part("waiting for the first block".to_owned(), 0)];
            if self.lost > 0 {
                parts.push(self.losses());
            }
            return parts;
        };
        let StreamFormat { rate_hz, channels, .. } = self.format;
        let peak = self.level.peak_dbfs();
        let mut parts = vec![
            part(units::stopwatch(elapsed), 0),
            part(format!("{rate_hz} Hz {channels} ch"), 6),
            part(format!("{} dBFS peak", units::dbfs(peak)), 2),
            part(format!("{} rms", units::dbfs(self.level.rms_dbfs())), 4),
            part(meter(peak), 3),
            part(units::count(self.blocks, "block"), 5),
            self.losses(),
        ];
        if let Some(latency) = self.latency {
            parts.push(part(format!("latency {}", with_error(latency)), 1));
        }
        if let Some(latency) = self.ear {
            parts.push(part(format!("ear {}", with_error(latency)), 1));
        }
        if self.late > 0 {
            parts.push(Part { text: format!("{} late", self.late), rank: 1, alarm: true });
        }
        parts
    }

    fn losses(&self) -> Part {
        let mut text = match self.lost {
            0 => "0 lost".to_owned(),
            lost => format!("{lost} lost in {}", units::count(self.gaps, "gap")),
        };
        if self.faults {
            text.push_str(", faulty");
        }
        Part { text, rank: 0, alarm: self.lost > 0 || self.faults }
    }
}

/// Writes a latency, with its error only where that is seen beside the figure.
fn with_error(latency: Latency) -> String {
    let Latency { seconds, error_seconds } = latency;
    let figure = short(seconds.max(0.0));
    if error_seconds < 0.0005 { figure } else { format!("{figure} ± {}", short(error_seconds)) }
}

/// Writes milliseconds up to one second, then tenths of a second: no digit changes too fast to be read.
fn short(seconds: f64) -> String {
    if seconds < 0.9995 { format!("{:.0} ms", seconds * 1e3) } else { format!("{seconds:.1} s") }
}

fn meter(dbfs: f64) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let share = (1.0 - dbfs / METER_FLOOR_DBFS).clamp(0.0, 1.0);
    let eighths = (share * (METER_CELLS * 8) as f64).round() as usize;
    let bar = "█".repeat(eighths / 8) + EIGHTHS[eighths % 8];
    format!("{METER_START}{bar:<METER_CELLS$}▏")
}

fn join(parts: &[Part], colour: bool) -> String {
    let text = |part: &Part| {
        if part.alarm && colour { format!("\x1b[1;31m{}\x1b[0m", part.text) } else { part.text.clone() }
    };
    parts.iter().map(text).collect::<Vec<_>>().join(SEPARATOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> View {
        let mut level = LevelMeter::default();
        level.add(&[0.1, 0.05]);
        View {
            elapsed: Some(Duration::from_secs(12)),
            format: StreamFormat { rate_hz: 48_000, channels: 2, block_frames: 480, block_seconds: 0.01 },
            level,
            blocks: 1200,
            lost: 3,
            gaps: 1,
            faults: false,
            latency: Some(Latency { seconds: 0.0123, error_seconds: 0.0 }),
            ear: None,
            late: 0,
        }
    }

    #[test]
    fn a_wide_line_has_every_part() {
        assert_eq!(
            view().line(200, false),
            "00:12  48000 Hz 2 ch  -20.0 dBFS peak  -22.0 rms  ▕██████▋   ▏  1200 blocks  3 lost in 1 gap  latency 12 ms"
        );
    }

    #[test]
    fn the_line_fits_its_room_and_keeps_the_losses_longest() {
        let mut busy = view();
        (busy.blocks, busy.lost, busy.gaps, busy.faults) = (123_456_789, 98_765_432, 1_234_567, true);
        busy.latency = Some(Latency { seconds: 86_400.0, error_seconds: 1.0 });
        for view in [view(), busy] {
            for width in 0..150 {
                assert!(view.line(width, false).chars().count() <= width, "width {width}");
            }
        }
        assert_eq!(
            view().line(79, false),
            "00:12  -20.0 dBFS peak  -22.0 rms  ▕██████▋   ▏  3 lost in 1 gap  latency 12 ms"
        );
        assert_eq!(view().line(37, false), "00:12  3 lost in 1 gap  latency 12 ms");
        assert_eq!(view().line(24, false), "00:12  3 lost in 1 gap");
    }

    #[test]
    fn the_meter_fills_from_minus_60_to_0() {
        assert_eq!(meter(f64::NEG_INFINITY), "▕          ▏");
        assert_eq!(meter(-60.0), "▕          ▏");
        assert_eq!(meter(-30.0), "▕█████     ▏");
        assert_eq!(meter(-29.0), "▕█████▏    ▏");
        assert_eq!(meter(3.0), "▕██████████▏");
    }

    #[test]
    fn only_a_loss_is_coloured() {
        assert!(view().line(200, true).contains("\x1b[1;31m3 lost in 1 gap\x1b[0m"));
        let clean = View { lost: 0, gaps: 0, ..view() };
        assert_eq!(clean.line(200, true), clean.line(200, false));
    }

    #[test]
    fn the_line_ends_with_latencies_and_late_sound() {
        let ends = |view: &View, colour, end: &str| {
            let line = view.line(200, colour);
            assert!(line.ends_with(end), "{line} should end with {end}");
        };
        let known = |seconds, error_seconds| View { latency: Some(Latency { seconds, error_seconds }), ..view() };
        ends(&known(0.0214, 0.0001), false, "3 lost in 1 gap  latency 21 ms");
        ends(&known(0.0214, 0.0031), false, "  latency 21 ms ± 3 ms");
        let ear = Some(Latency { seconds: 0.095, error_seconds: 0.0 });
        let playing = View { ear, late: 2, lost: 0, gaps: 0, ..view() };
        ends(&playing, false, "0 lost  latency 12 ms  ear 95 ms  2 late");
        ends(&playing, true, "\x1b[1;31m2 late\x1b[0m");
        ends(&View { late: 0, ..playing }, false, "ear 95 ms");
        let waiting = View { elapsed: None, lost: 0, ..view() };
        assert_eq!(waiting.line(80, false), "waiting for the first block");
    }
}
