//! Colours and weights. They only repeat what words and figures say, so nothing is lost without them.

use ratatui::style::{Color, Modifier, Style};

/// The meaning of a text, which decides its look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    /// Labels and zeroes.
    Quiet,
    Strong,
    Good,
    Warning,
    Bad,
    /// A badge with a background.
    GoodBadge,
    BadBadge,
    Selected,
}

/// With or without colours.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Theme {
    pub(crate) has_colour: bool,
}

impl Theme {
    /// Returns the look of a text, in the terminal's own sixteen colours, which its user chose to be readable.
    pub(crate) fn style(self, tone: Tone) -> Style {
        let bold = Style::new().add_modifier(Modifier::BOLD);
        let reversed = Style::new().add_modifier(Modifier::REVERSED);
        let coloured = |style: Style, colour| if self.has_colour { style.fg(colour) } else { style };
        match tone {
            Tone::Plain => Style::new(),
            Tone::Quiet => Style::new().add_modifier(Modifier::DIM),
            Tone::Strong => bold,
            Tone::Good => coloured(Style::new(), Color::Green),
            Tone::Warning => coloured(Style::new(), Color::Yellow),
            Tone::Bad => coloured(bold, Color::Red),
            Tone::GoodBadge => coloured(reversed.patch(bold), Color::Green),
            Tone::BadBadge => coloured(reversed.patch(bold), Color::Red),
            Tone::Selected => reversed,
        }
    }
}
