//! The level of each channel as a bar, from -60 dBFS to full scale.

use aircheck_api::{ChannelLevel, Status, StreamState};
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::theme::{Theme, Tone};
use crate::table::{Align, COLUMN_GAP, fit};
use crate::units;

/// The bar's left end, as on the server's page.
const FLOOR_DBFS: f32 = -60.0;
/// From here on the level is loud.
const LOUD_DBFS: f32 = -12.0;
/// From here on little room is left.
const HOT_DBFS: f32 = -3.0;
/// Least width of a meter: its label, 8 cells of bar and a figure.
const MIN_WIDTH: usize = 17;
/// From this width on the RMS stands as a figure too.
const WIDTH_WITH_RMS: usize = 50;
/// Most cells of a meter: a wider bar only takes longer to read.
const MAX_WIDTH: usize = 100;

/// Returns the meters of all channels in at most `lines` lines, side by side if there are more channels than lines. The
/// last line says how many did not fit.
pub(crate) fn meters(status: &Status, theme: Theme, lines: usize, cells: usize) -> Vec<Line<'static>> {
    let levels = &status.level;
    let lines = lines.min(levels.len());
    if lines == 0 {
        return Vec::new();
    }
    let abreast = levels.len().div_ceil(lines).min((cells + COLUMN_GAP) / (MIN_WIDTH + COLUMN_GAP)).max(1);
    let width = ((cells + COLUMN_GAP) / abreast).saturating_sub(COLUMN_GAP).min(MAX_WIDTH);
    let shown = (lines * abreast).min(levels.len());
    // The fallback has a level, too.
    let is_live = matches!(status.state, StreamState::Live | StreamState::Fallback);
    let meter = |(at, level): (usize, &ChannelLevel)| meter(&label(at, levels.len()), *level, is_live, theme, width);
    let meters: Vec<Vec<Span<'static>>> = levels.iter().take(shown).enumerate().map(meter).collect();
    let gap = Span::raw(" ".repeat(COLUMN_GAP));
    let mut drawn: Vec<Line<'static>> = meters.chunks(abreast).map(|meters| Line::from(meters.join(&gap))).collect();
    if shown < levels.len() {
        drawn.pop();
        let more = format!("{} more channels", levels.len() - abreast * drawn.len());
        drawn.push(Line::styled(more, theme.style(Tone::Quiet)));
    }
    drawn
}

fn label(channel: usize, channels: usize) -> String {
    match (channels, channel) {
        (1, _) => "M".to_owned(),
        (2, 0) => "L".to_owned(),
        (2, _) => "R".to_owned(),
        _ => (channel + 1).to_string(),
    }
}

/// Returns a heavy line up to the RMS and a light one up to the peak.
fn meter(label: &str, level: ChannelLevel, is_live: bool, theme: Theme, cells: usize) -> Vec<Span<'static>> {
    let peak = level.peak_dbfs.filter(|_| is_live);
    let rms = level.rms_dbfs.filter(|_| is_live);
    let mut figures = format!(" {:>5}", units::page_dbfs(peak, is_live));
    if cells >= WIDTH_WITH_RMS {
        figures = format!("{figures} peak  {:>5} rms dBFS", units::page_dbfs(rms, is_live));
    }
    let bar = cells.saturating_sub(3 + figures.chars().count());
    let reach = |dbfs: Option<f32>| dbfs.map_or(0, |dbfs| cells_to(dbfs, bar));
    let (heavy, light) = (reach(rms), reach(peak));
    let mut spans = vec![Span::styled(fit(label, 3, Align::Left), theme.style(Tone::Quiet))];
    let zones = [
        (0, cells_to(LOUD_DBFS, bar), Tone::Good),
        (cells_to(LOUD_DBFS, bar), cells_to(HOT_DBFS, bar), Tone::Warning),
        (cells_to(HOT_DBFS, bar), bar, Tone::Bad),
    ];
    for (from, to, tone) in zones {
        let part = |until: usize| until.clamp(from, to) - from;
        let text = "━".repeat(part(heavy)) + &"─".repeat(part(light.max(heavy)) - part(heavy));
        spans.push(Span::styled(text, theme.style(tone)));
    }
    let tone = match peak {
        Some(peak) if peak >= HOT_DBFS => Tone::Bad,
        Some(peak) if peak >= LOUD_DBFS => Tone::Warning,
        _ => Tone::Plain,
    };
    spans.push(Span::styled("·".repeat(bar - light.max(heavy).min(bar)), theme.style(Tone::Quiet)));
    spans.push(Span::styled(figures, if peak.is_some() { theme.style(tone) } else { Style::new() }));
    spans
}

/// Returns how many of `bar` cells a level reaches.
fn cells_to(dbfs: f32, bar: usize) -> usize {
    let share = ((dbfs - FLOOR_DBFS) / -FLOOR_DBFS).clamp(0.0, 1.0);
    (share * bar as f32).round() as usize
}

#[cfg(test)]
mod tests {
    use super::super::fixture::status;
    use super::*;

    const THEME: Theme = Theme { has_colour: true };

    fn drawn(status: &Status, lines: usize, cells: usize) -> Vec<String> {
        meters(status, THEME, lines, cells).iter().map(Line::to_string).collect()
    }

    #[test]
    fn each_channel_has_a_bar_as_long_as_it_is_loud() {
        assert_eq!(
            drawn(&status(), 2, 29),
            ["L  ━━━━━━━━━━━━━━━━━─··  −6.0", "R  ━━━━━━·············· −40.0"].map(|line| {
                // 20 cells: a cell is 3 dB.
                line.replace("━━━━━━·", "━━━━━━─")
            })
        );
    }

    #[test]
    fn loud_parts_have_their_colours() {
        let mut status = status();
        status.level[0] = ChannelLevel { peak_dbfs: Some(0.0), rms_dbfs: Some(0.0), clips: 0 };
        let lines = meters(&status, THEME, 2, 29);
        let parts: Vec<_> =
            lines[0].spans[1..4].iter().map(|span| (span.content.chars().count(), span.style)).collect();
        let wanted = [(16, Tone::Good), (3, Tone::Warning), (1, Tone::Bad)];
        assert_eq!(parts, wanted.map(|(cells, tone)| (cells, THEME.style(tone))));
    }

    #[test]
    fn in_few_lines_channels_stand_side_by_side_and_the_rest_is_counted() {
        assert_eq!(drawn(&status(), 1, 40).len(), 1);
        assert!(drawn(&status(), 1, 40)[0].contains("R  "));
        let mut many = status();
        many.level = vec![ChannelLevel::default(); 32];
        let lines = drawn(&many, 2, 40);
        assert!(lines[0].contains("1 ") && lines[0].contains("2 ") && lines[0].contains("−∞"), "{lines:?}");
        assert_eq!(lines[1], "30 more channels");
        for cells in 0..200 {
            for height in 0..5 {
                let lines = meters(&many, THEME, height, cells);
                assert!(lines.len() <= height);
            }
        }
    }

    #[test]
    fn without_sound_there_is_no_level() {
        let mut status = status();
        status.state = StreamState::Ended;
        assert!(drawn(&status, 2, 40).iter().all(|line| line.ends_with("—") && !line.contains('━')));
    }
}
