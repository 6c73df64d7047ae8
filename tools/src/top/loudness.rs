//! The loudness in one line: momentary, short-term, integrated, range, true peak, as EBU R128 names them.

use aircheck_api::{LoudnessStatus, StreamState};
use ratatui::text::Line;

use super::line::{Part, line_of_groups};
use super::theme::{Theme, Tone};
use crate::units;

/// The target of EBU R128, at which the difference in LU is zero.
const TARGET_LUFS: f64 = -23.0;
/// The largest true peak that EBU R128 permits.
const MAX_TRUE_PEAK_DBTP: f64 = -1.0;

/// Returns the line. Its last figures are left out where there is little room.
pub(crate) fn loudness(loudness: &LoudnessStatus, state: StreamState, theme: Theme, cells: usize) -> Line<'static> {
    let label = |text: &str| (text.to_owned(), Tone::Quiet);
    // The fallback has a loudness, too.
    let is_live = matches!(state, StreamState::Live | StreamState::Fallback);
    let now = |lufs: Option<f64>| (format!("{:>5}", units::page_db(lufs.filter(|_| is_live), is_live)), Tone::Plain);
    let off_target = |lufs: f64| {
        let sign = if lufs >= TARGET_LUFS { "+" } else { "" };
        format!(" ({sign}{} LU)", units::page_db(Some(lufs - TARGET_LUFS), true))
    };
    let peak = loudness.true_peak_dbtp.iter().flatten().copied().reduce(f64::max);
    let peak_tone = if peak.is_some_and(|dbtp| dbtp > MAX_TRUE_PEAK_DBTP) { Tone::Bad } else { Tone::Plain };
    let figures: Vec<Vec<Part>> = vec![
        vec![label("M "), now(loudness.momentary_lufs)],
        vec![label("S "), now(loudness.short_term_lufs)],
        vec![
            label("I "),
            (units::page_db(loudness.integrated_lufs, false), Tone::Plain),
            label(" LUFS"),
            label(&loudness.integrated_lufs.map_or_else(String::new, off_target)),
        ],
        vec![label("LRA "), (units::page_db(Some(loudness.range_lu), false), Tone::Plain), label(" LU")],
        vec![label("peak "), (units::page_db(peak, false), peak_tone), label(" dBTP")],
    ];
    line_of_groups(figures, "  ", 0, theme, cells)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::status;
    use super::*;

    const THEME: Theme = Theme { has_colour: true };

    fn drawn(state: StreamState, cells: usize) -> String {
        loudness(&status().loudness.unwrap(), state, THEME, cells).to_string()
    }

    #[test]
    fn the_line_has_all_five_measures() {
        let line = "M −18.4  S −21.0  I −22.6 LUFS (+0.4 LU)  LRA 4.2 LU  peak −5.8 dBTP";
        assert_eq!(drawn(StreamState::Live, 80), line);
    }

    #[test]
    fn in_few_cells_the_last_measures_are_left_out_as_a_whole() {
        assert_eq!(drawn(StreamState::Live, 45), "M −18.4  S −21.0  I −22.6 LUFS (+0.4 LU)");
        assert_eq!(drawn(StreamState::Live, 40), "M −18.4  S −21.0  I −22.6 LUFS (+0.4 LU)");
        assert_eq!(drawn(StreamState::Live, 39), "M −18.4  S −21.0");
    }

    #[test]
    fn without_sound_the_programme_s_figures_stay() {
        assert_eq!(drawn(StreamState::Silent, 45), "M     —  S     —  I −22.6 LUFS (+0.4 LU)");
        assert_eq!(drawn(StreamState::Fallback, 45), drawn(StreamState::Live, 45));
    }

    #[test]
    fn a_peak_above_the_permitted_one_stands_out() {
        let mut status = status().loudness.unwrap();
        status.true_peak_dbtp = vec![None, Some(-0.9)];
        let line = loudness(&status, StreamState::Live, THEME, 80);
        assert!(line.spans.iter().any(|span| span.content == "−0.9" && span.style == THEME.style(Tone::Bad)));
    }
}
