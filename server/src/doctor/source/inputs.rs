//! The inputs of this machine: all of them, and which one is the source.

use aircheck_engine::source::{DeviceError, DeviceInfo, devices};

use crate::doctor::finding::{Area, Finding, Level};

/// Inputs in the list. A desktop has two to five; ALSA may list dozens for one card.
const MAX_INPUTS: usize = 8;

/// An input device, and the sound system that offers it.
#[derive(Clone, Debug)]
pub(super) struct Input {
    name: String,
    /// Unique, unlike the name.
    id: String,
    host: &'static str,
    /// Rate in Hz and channels; `None` while another program uses it, or its sound server does not answer.
    format: Option<(u32, u16)>,
    is_default: bool,
}

/// The input that is the source.
#[derive(Clone, Copy, Debug)]
pub(super) enum Chosen<'a> {
    /// None: the source is something else, or cannot be opened.
    None,
    /// The default one.
    Default,
    /// The one with this id, or else with this name.
    Named {
        /// The name that the configuration has.
        wanted: &'a str,
        /// The name of the input that was opened by it.
        opened: &'a str,
    },
}

impl From<DeviceInfo> for Input {
    fn from(device: DeviceInfo) -> Self {
        let DeviceInfo { name, id, host, is_default, rate_hz, channels, .. } = device;
        Self { name, id, host, format: rate_hz.zip(channels), is_default }
    }
}

impl Input {
    /// Returns all inputs.
    pub(super) fn all() -> Result<Vec<Self>, DeviceError> {
        Ok(devices()?.into_iter().map(Self::from).collect())
    }

    /// Returns whether it is a device of a sound server, and not of the kernel.
    pub(super) fn is_served(&self) -> bool {
        self.host == "PulseAudio"
    }
}

/// Lists the inputs beside a source that needs none.
pub(super) fn unused(source: &str) -> Vec<Finding> {
    match Input::all() {
        Ok(inputs) => list(&inputs, Chosen::None),
        Err(DeviceError::NoDevice(why)) => {
            vec![Finding::ok(Area::Inputs, format!("none ({why}); {source} needs none"))]
        }
        Err(error) => {
            let finding = Finding::of_error(Area::Inputs, Level::Note, &error.to_string());
            vec![finding.and(&format!("{source} needs no input"))]
        }
    }
}

/// Returns a finding for each input: the source first, then the default one.
pub(super) fn list(inputs: &[Input], chosen: Chosen<'_>) -> Vec<Finding> {
    let has_id = |wanted: &str| inputs.iter().any(|input| input.id == wanted);
    let is_chosen = |input: &Input| match chosen {
        Chosen::None => false,
        Chosen::Default => input.is_default,
        Chosen::Named { wanted, .. } if has_id(wanted) => input.id == wanted,
        Chosen::Named { opened, .. } => input.name == opened,
    };
    let is_unique = |name: &str| inputs.iter().filter(|input| input.name == name).count() == 1;
    let text = |input: &&Input| {
        let id = if is_unique(&input.name) { String::new() } else { format!(" ({})", input.id) };
        let format = input.format.map_or_else(
            || "not available now".to_owned(),
            |(rate_hz, channels)| format!("{rate_hz} Hz, {channels} ch"),
        );
        let default = if input.is_default { ", the default" } else { "" };
        let source = if is_chosen(input) { ": this is the source" } else { "" };
        format!("“{}”{id}, {format}, {}{default}{source}", input.name, input.host)
    };
    let mut sorted: Vec<_> = inputs.iter().collect();
    sorted.sort_by_key(|input| (!is_chosen(input), !input.is_default));
    let mut texts: Vec<_> = sorted.iter().take(MAX_INPUTS).map(text).collect();
    if let more @ 1.. = inputs.len().saturating_sub(MAX_INPUTS) {
        texts.push(format!("and {more} more, see `aircheck devices`"));
    }
    texts.into_iter().map(|text| Finding::ok(Area::Inputs, text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(name: &str, id: &str, is_default: bool) -> Input {
        let (name, id) = (name.to_owned(), id.to_owned());
        Input { name, id, host: "ALSA", format: Some((48_000, 2)), is_default }
    }

    fn lines(inputs: &[Input], chosen: Chosen<'_>) -> Vec<String> {
        list(inputs, chosen).iter().map(|finding| finding.text(false)).collect()
    }

    #[test]
    fn the_source_comes_first_and_is_marked() {
        let inputs = [input("USB", "usb1", false), input("USB", "usb2", false), input("mic", "mic", true)];
        let marked = |chosen| {
            let lines = lines(&inputs, chosen);
            let marks = lines.iter().filter(|line| line.contains("this is the source")).count();
            (marks, lines[0].trim_end().to_owned())
        };
        let default = "ok     inputs     “mic”, 48000 Hz, 2 ch, ALSA, the default";
        assert_eq!(marked(Chosen::None), (0, default.to_owned()));
        assert_eq!(marked(Chosen::Default), (1, format!("{default}: this is the source")));
        let (marks, first) = marked(Chosen::Named { wanted: "usb2", opened: "USB" });
        assert!(marks == 1 && first.contains("“USB” (usb2), "), "an id is one of two with that name: {first}");
        let (marks, first) = marked(Chosen::Named { wanted: "MI", opened: "mic" });
        assert!(marks == 1 && first.contains("“mic”, "), "a part of a name: {first}");
    }

    #[test]
    fn a_long_list_is_cut_and_says_so() {
        let mut inputs: Vec<_> = (0..20).map(|n| input(&format!("in {n}"), &format!("{n}"), false)).collect();
        inputs.push(Input { format: None, ..input("mic", "mic", true) });
        let lines = lines(&inputs, Chosen::None);
        assert!(lines[0].contains("“mic”, not available now, ALSA, the default"), "{lines:?}");
        assert_eq!(lines.len(), MAX_INPUTS + 1);
        assert!(lines[MAX_INPUTS].contains("and 13 more, see `aircheck devices`"), "{lines:?}");
    }
}
