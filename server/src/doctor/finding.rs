//! A finding: what a check has seen, how bad it is, and what to do.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::one_line::one_line;

/// Width of the text in columns: that of most terminals, and of a mail that asks for help.
const WIDTH: usize = 80;
/// Width of the two columns before the words.
const INDENT: usize = LEVEL_WIDTH + AREA_WIDTH;
const LEVEL_WIDTH: usize = 7;
const AREA_WIDTH: usize = 11;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// As it should be.
    Ok,
    /// Good enough to go on the air, and could be better.
    Note,
    /// Keeps the service, or the sound that is configured, from the air.
    Fault,
}

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Area {
    /// The file, the variables and the flags.
    Settings,
    /// The addresses to listen on.
    Address,
    /// The certificate and its key.
    Tls,
    /// The tokens, and the file that has them.
    Tokens,
    /// The proxies whose word is taken.
    Proxies,
    /// Priority of the capturing thread, and memory that stays in RAM.
    Realtime,
    /// The wall clock and the monotonic clock.
    Clock,
    /// Open files.
    Files,
    /// The service manager.
    Service,
    /// The input devices.
    Inputs,
    /// The source, with its device.
    Source,
    /// The directory and the disk of the recording.
    Recording,
}

impl Level {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Fault => "fault",
        }
    }
}

impl Area {
    const fn name(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::Address => "address",
            Self::Tls => "tls",
            Self::Tokens => "tokens",
            Self::Proxies => "proxies",
            Self::Realtime => "real time",
            Self::Clock => "clock",
            Self::Files => "files",
            Self::Service => "service",
            Self::Inputs => "inputs",
            Self::Source => "source",
            Self::Recording => "recording",
        }
    }
}

/// What a check has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    area: Area,
    level: Level,
    text: String,
    /// What to do; never empty for a note or a fault.
    advice: String,
    /// A command or a line of a file, which is never broken.
    command: String,
}

impl Finding {
    /// Creates a finding that asks for nothing.
    pub(super) fn ok(area: Area, text: impl Into<String>) -> Self {
        Self { area, level: Level::Ok, text: text.into(), advice: String::new(), command: String::new() }
    }

    /// Creates a finding that is good enough, with what would be better.
    pub(super) fn note(area: Area, text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level: Level::Note, advice: advice.into(), ..Self::ok(area, text) }
    }

    /// Creates a finding that keeps the service from the air, with what to do.
    pub(super) fn fault(area: Area, text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level: Level::Fault, ..Self::note(area, text, advice) }
    }

    /// Says which of several mounts it is about.
    pub(super) fn of_mount(self, name: &str) -> Self {
        Self { text: format!("{name}: {}", self.text), ..self }
    }

    /// Creates a finding from the message of an error: "what failed: why (what would work)".
    pub(super) fn of_error(area: Area, level: Level, message: &str) -> Self {
        let split = message.strip_suffix(')').and_then(|message| message.rsplit_once(" ("));
        let advice = match area {
            Area::Source => "choose another device, or another --rate or --channels, or leave these to the device",
            _ => "correct the setting, see `aircheck --help`",
        };
        let (text, advice) = split.unwrap_or((message, advice));
        Self { level, ..Self::note(area, text, advice) }
    }

    /// Adds a command, or a line of a file, to the advice.
    pub(super) fn with_command(mut self, command: impl Into<String>) -> Self {
        self.command = command.into();
        self
    }

    /// Adds what to do.
    pub(super) fn with_advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }

    /// Adds what follows from it to the text.
    pub(super) fn and(mut self, consequence: &str) -> Self {
        self.text = format!("{}; {consequence}", self.text);
        self
    }

    pub(super) const fn level(&self) -> Level {
        self.level
    }

    /// Returns the finding as lines of text, in two columns and words that are wrapped beside them.
    pub(super) fn text(&self, has_colors: bool) -> String {
        let level = self.level.name();
        let color = match self.level {
            Level::Ok => "32",
            Level::Note => "33",
            Level::Fault => "1;31",
        };
        let padding = " ".repeat(LEVEL_WIDTH - level.len());
        let level = if has_colors { format!("\u{1b}[{color}m{level}\u{1b}[0m") } else { level.to_owned() };
        let mut text = format!("{level}{padding}{:AREA_WIDTH$}", self.area.name());
        wrap(&mut text, &self.text, INDENT);
        if !self.advice.is_empty() {
            let _ = write!(text, "{:INDENT$}→ ", "");
            wrap(&mut text, &self.advice, INDENT + 2);
        }
        if !self.command.is_empty() {
            let _ = writeln!(text, "{:indent$}{}", "", self.command, indent = INDENT + 4);
        }
        text
    }

    /// Returns the finding as a JSON object.
    pub(super) fn json(&self) -> Value {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        json!({
            "area": self.area.name(),
            "level": self.level.name(),
            "text": self.text,
            "advice": some(&self.advice),
            "command": some(&self.command),
        })
    }
}

/// Appends words to a line that is `indent` wide already, in lines of [`WIDTH`], and ends the last one. Control characters,
/// which a name of a device may have, are escaped.
fn wrap(text: &mut String, words: &str, indent: usize) {
    let mut width = indent;
    for word in words.split_whitespace() {
        let word = one_line(word);
        let length = word.chars().count();
        if width > indent {
            if width + 1 + length > WIDTH {
                let _ = write!(text, "\n{:indent$}", "");
                width = indent;
            } else {
                text.push(' ');
                width += 1;
            }
        }
        text.push_str(&word);
        width += length;
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_no_wider_than_a_terminal_and_commands_are_whole() {
        let command = "sudo usermod --append --groups audio operator-of-the-studio && exec su - operator";
        let finding = Finding::fault(Area::Source, "words and words ".repeat(20), "do this or that ".repeat(10))
            .with_command(command);
        let text = finding.text(false);
        let (lines, whole): (Vec<_>, Vec<_>) = text.lines().partition(|line| !line.contains("usermod"));
        assert!(lines.len() > 8 && lines.iter().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert_eq!(whole, [format!("{:1$}{command}", "", INDENT + 4)]);
        assert!(text.starts_with("fault  source     words and"), "{text}");
        assert_eq!(text.matches('→').count(), 1);
        let uncolored = finding.text(true).replace("\u{1b}[1;31m", "").replace("\u{1b}[0m", "");
        assert_eq!(uncolored, text);
    }

    #[test]
    fn the_name_of_a_device_cannot_command_the_terminal() {
        let text = Finding::ok(Area::Source, "“\u{1b}[2Jmic\r\n”").text(false);
        assert_eq!(text, "ok     source     “\\u{1b}[2Jmic ”\n");
    }

    #[test]
    fn an_error_is_split_into_what_failed_and_what_would_work() {
        let finding = Finding::of_error(Area::Source, Level::Note, "no mic: (a) reason (connect one)");
        assert_eq!(finding, Finding::note(Area::Source, "no mic: (a) reason", "connect one"));
        let finding = Finding::of_error(Area::Source, Level::Fault, "it broke");
        assert!(finding.level() == Level::Fault && !finding.advice.is_empty());
    }
}
