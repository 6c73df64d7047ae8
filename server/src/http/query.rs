//! What a listener may say in its query, checked: every wrong value gets an answer that names it.

use std::time::Duration;

use aircheck_engine::source::PcmEncoding;
use aircheck_engine::{Format, Overflow, Start, SubscribeOptions};

use crate::config::{Config, LAG_BLOCKS_LEAST};
use crate::duration::{self, Short};
use crate::listener::Limits;
use crate::mount::{Mount, PLANNED};

/// Longest ring a listener may ask for, unless the operator's own default is longer: 1000 blocks of 10 ms are 80 KB
/// of handles.
const BUFFER_MOST: Duration = Duration::from_secs(10);
/// Largest limit of lag, as for the server's own.
const MAX_LAG_MOST: Duration = Duration::from_secs(600);
/// Longest name: what fits into a column of the table.
const NAME_MOST: usize = 64;

/// A listener has fallen behind, where it has no limit of its own, with so much of its ring in use: a quarter, which
/// leaves time to look.
const BEHIND_SHARE: u32 = 4;

/// What comes in place of lost blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gaps {
    /// Nothing: what is next follows at once.
    Skip,
    /// As much silence, so that positions stay true.
    Silence,
}

/// A limit of lag, or none whatever the server's own is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct MaxLag(Option<Duration>);

/// A listener's wishes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    overflow: Option<Overflow>,
    buffer: Option<Duration>,
    burst: Option<Duration>,
    from: Option<u64>,
    pub(super) name: Option<String>,
    sample: Option<PcmEncoding>,
    max_lag: Option<MaxLag>,
    pub(super) gaps: Option<Gaps>,
    /// Only of `/stream`.
    pub(super) format: Option<String>,
}

impl Query {
    /// Reads a query string. `_` is there to make a URL new to a browser's cache, and means nothing.
    ///
    /// # Errors
    ///
    /// A sentence that names the parameter and what it takes.
    pub(super) fn parse(query: &str, config: &Config) -> Result<Self, String> {
        let mut wishes = Self::default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let value = value.as_ref();
            match key.as_ref() {
                "overflow" => once(&mut wishes.overflow, &key, value.parse::<Overflow>().map_err(|e| e.to_string()))?,
                "buffer" => {
                    let most = BUFFER_MOST.max(config.buffer);
                    once(&mut wishes.buffer, &key, span(value, config.block, most))?;
                }
                "burst" => once(&mut wishes.burst, &key, span(value, Duration::ZERO, config.history))?,
                "from" => {
                    let number = value.parse().map_err(|_| format!("`{value}` is no sequence number, such as 1200"));
                    once(&mut wishes.from, &key, number)?;
                }
                "name" => once(&mut wishes.name, &key, name(value))?,
                "max_lag" => {
                    let least = LAG_BLOCKS_LEAST * config.block;
                    let limit = match value {
                        "off" => Ok(MaxLag(None)),
                        value => span(value, least, MAX_LAG_MOST).map(|span| MaxLag(Some(span))),
                    };
                    once(&mut wishes.max_lag, &key, limit)?;
                }
                "gaps" => once(&mut wishes.gaps, &key, gaps(value))?,
                "sample" => once(&mut wishes.sample, &key, value.parse())?,
                "format" => once(&mut wishes.format, &key, Ok(value.to_owned()))?,
                "_" => {}
                _ => {
                    return Err(format!(
                        "`{key}` is no parameter here; there are overflow, buffer, max_lag, burst, from, name, sample and gaps"
                    ));
                }
            }
        }
        if wishes.from.is_some() && wishes.burst.is_some() {
            return Err("`from` and `burst` both say where to start; give one of them".to_owned());
        }
        if wishes.overflow == Some(Overflow::Block) {
            return Err("overflow: `block` would make the source wait, and it is live; use it from file to file".into());
        }
        Ok(wishes)
    }

    /// The mount that `/stream` means: by `format`, or by the `Accept` header.
    ///
    /// # Errors
    ///
    /// A sentence that names the formats there are, and whether the one asked for is to come.
    pub(super) fn mount(&self, accept: &str) -> Result<Mount, WrongFormat> {
        let Some(label) = &self.format else { return Ok(Mount::for_accept(accept)) };
        match Mount::from_label(label) {
            Some(mount) => Ok(mount),
            None if PLANNED.contains(&label.as_str()) => Err(WrongFormat::Planned(label.clone())),
            None => Err(WrongFormat::Unknown(format!("format: `{label}` is none; there are wav, pcm, json and sse"))),
        }
    }

    /// How samples are written on `mount`.
    ///
    /// # Errors
    ///
    /// A sentence, where there is no choice.
    pub(super) fn sample(&self, mount: Mount) -> Result<PcmEncoding, String> {
        match self.sample {
            Some(_) if !mount.has_samples() => {
                Err(format!("sample: {} has no choice of samples; wav and pcm have", mount.label()))
            }
            sample => Ok(sample.unwrap_or_default()),
        }
    }

    /// Whether `mount` can do with gaps what is asked for.
    ///
    /// # Errors
    ///
    /// A sentence, where it can't.
    pub(super) fn check_gaps(&self, mount: Mount) -> Result<(), String> {
        match self.gaps {
            Some(Gaps::Silence) if !mount.has_samples() => {
                Err(format!("gaps: {} tells of gaps itself; silence goes with wav and pcm", mount.label()))
            }
            _ => Ok(()),
        }
    }

    /// How far behind the listener may be.
    pub(super) fn limits(&self, config: &Config, format: Format) -> Limits {
        let max_lag = self.max_lag.map_or(config.max_lag, |MaxLag(limit)| limit);
        let buffer = self.buffer.unwrap_or(config.buffer);
        let behind = max_lag.map_or(buffer / BEHIND_SHARE, |max_lag| max_lag / 2);
        Limits {
            behind: format.blocks_in(behind).max(u64::from(LAG_BLOCKS_LEAST)),
            max_lag: max_lag.map(|max_lag| format.blocks_in(max_lag)),
        }
    }

    /// How to subscribe. `last_event` is the last sequence number that a listener who comes back has seen.
    pub(super) fn subscribe(&self, config: &Config, format: Format, last_event: Option<u64>) -> SubscribeOptions {
        let start = match (self.from.or(last_event.map(|id| id.saturating_add(1))), self.burst) {
            (Some(sequence), _) => Start::From(sequence),
            (None, Some(burst)) => Start::Back(format.blocks_in(burst)),
            (None, None) => Start::Live,
        };
        SubscribeOptions {
            overflow: self.overflow.unwrap_or(config.overflow),
            buffer: format.blocks_in(self.buffer.unwrap_or(config.buffer)) as usize,
            start,
        }
    }
}

/// Why `/stream` can't serve a format.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum WrongFormat {
    /// It is to come.
    Planned(String),
    /// There is none of that name; the sentence says which there are.
    Unknown(String),
}

/// Puts a parameter's value where it belongs, unless it is wrong or there already.
fn once<T>(place: &mut Option<T>, key: &str, value: Result<T, String>) -> Result<(), String> {
    match (place.is_some(), value) {
        (true, _) => Err(format!("{key}: is given more than once")),
        (false, Ok(value)) => {
            *place = Some(value);
            Ok(())
        }
        (false, Err(reason)) => Err(format!("{key}: {reason}")),
    }
}

fn span(value: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    let takes = || format!("a duration from {} to {}, such as 500ms", Short(least), Short(most));
    let span = duration::parse(value).ok_or_else(|| format!("`{value}` is not {}", takes()))?;
    if (least..=most).contains(&span) {
        Ok(span)
    } else {
        Err(format!("`{value}` is out of range; it takes {}", takes()))
    }
}

fn gaps(value: &str) -> Result<Gaps, String> {
    match value {
        "skip" => Ok(Gaps::Skip),
        "silence" => Ok(Gaps::Silence),
        _ => Err(format!("`{value}` is no way to treat gaps; there are skip and silence")),
    }
}

fn name(value: &str) -> Result<String, String> {
    if value.chars().count() > NAME_MOST || value.chars().any(char::is_control) {
        return Err(format!("takes up to {NAME_MOST} printable characters"));
    }
    Ok(value.to_owned())
}
