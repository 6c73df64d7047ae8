//! What a listener may say in its query, checked: every wrong value gets an answer that names it.

use std::time::Duration;

use aircheck_engine::source::PcmEncoding;
use aircheck_engine::{Format, Overflow, Start, SubscribeOptions};

use crate::config::{Config, MIN_LAG_BLOCKS};
use crate::delivery::standing::Limits;
use crate::rendition::codec::OpusBitrate;
use crate::rendition::content_type::accepted;
use crate::rendition::encoding::Encoding;
use aircheck_api::span::{self, Short};
use aircheck_api::{Payload, Rendition};

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

/// Gathering may take this share of what a listener may be behind: half of that at which it has fallen behind, so that
/// it never looks like that.
const GATHER_SHARE: u32 = 2 * BEHIND_SHARE;

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
    /// For how long packets are gathered, to be sent at once.
    gather: Option<Duration>,
    /// Only of the WebSocket.
    payload: Option<Payload>,
    /// Only of Opus.
    bitrate: Option<OpusBitrate>,
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
                    let most = BUFFER_MOST.max(config.delivery.buffer);
                    once(&mut wishes.buffer, &key, span(value, config.capture.block, most))?;
                }
                "burst" => once(&mut wishes.burst, &key, span(value, Duration::ZERO, config.capture.history))?,
                "from" => {
                    let number = value.parse().map_err(|_| format!("`{value}` is no sequence number, such as 1200"));
                    once(&mut wishes.from, &key, number)?;
                }
                "name" => once(&mut wishes.name, &key, name(value))?,
                "max_lag" => {
                    let least = MIN_LAG_BLOCKS * config.capture.block;
                    let limit = match value {
                        "off" => Ok(MaxLag(None)),
                        value => span(value, least, MAX_LAG_MOST).map(|span| MaxLag(Some(span))),
                    };
                    once(&mut wishes.max_lag, &key, limit)?;
                }
                "gaps" => once(&mut wishes.gaps, &key, gaps(value))?,
                "gather" => once(&mut wishes.gather, &key, span(value, Duration::ZERO, BUFFER_MOST))?,
                "payload" => once(&mut wishes.payload, &key, payload(value))?,
                "bitrate" => once(&mut wishes.bitrate, &key, bitrate(value))?,
                "sample" => once(&mut wishes.sample, &key, value.parse())?,
                "format" => once(&mut wishes.format, &key, Ok(value.to_owned()))?,
                "_" => {}
                _ => {
                    return Err(format!(
                        "`{key}` is no parameter here; there are overflow, buffer, max_lag, burst, from, name, sample, \
                         bitrate, payload, gaps and gather"
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

    /// The rendition that `/stream` means: by `format`, or by the `Accept` header.
    ///
    /// # Errors
    ///
    /// A sentence that names the formats there are.
    pub(super) fn rendition(&self, accept: &str) -> Result<Rendition, String> {
        let Some(label) = &self.format else { return Ok(accepted(accept)) };
        match Rendition::from_name(label) {
            Some(rendition) if rendition != Rendition::WebSocket => Ok(rendition),
            _ => Err(format!("format: `{label}` is none; there are wav, pcm, json, flac, opus and sse")),
        }
    }

    /// How `rendition` is encoded, with `flac_bits` as its bits where nothing is said.
    ///
    /// # Errors
    ///
    /// A sentence, where something is asked for that it has no choice of.
    pub(super) fn encoding(&self, rendition: Rendition, flac_bits: u32) -> Result<Encoding, String> {
        let label = rendition.name();
        let payload = self.payload.filter(|_| rendition == Rendition::WebSocket);
        if self.payload.is_some() && payload.is_none() {
            return Err(format!("payload: {label} has none; the WebSocket has"));
        }
        let is_opus = rendition == Rendition::Opus || payload == Some(Payload::Opus);
        if self.bitrate.is_some() && !is_opus {
            return Err(format!("bitrate: {label} has no choice of bitrate; opus has"));
        }
        if self.sample.is_some() && !matches!(rendition, Rendition::Wav | Rendition::Pcm | Rendition::Flac) {
            return Err(format!("sample: {label} has no choice of samples; wav, pcm and flac have"));
        }
        let bitrate = self.bitrate.unwrap_or_default();
        let samples = self.sample.unwrap_or_default();
        Ok(match rendition {
            Rendition::Wav | Rendition::Pcm => Encoding::Pcm(samples),
            Rendition::Json => Encoding::Json,
            Rendition::Events => Encoding::Events,
            Rendition::Opus => Encoding::Opus { bitrate },
            Rendition::Flac => match self.sample {
                None => Encoding::Flac { bits: flac_bits },
                Some(PcmEncoding::S16Le) => Encoding::Flac { bits: 16 },
                Some(PcmEncoding::S24Le) => Encoding::Flac { bits: 24 },
                Some(PcmEncoding::F32Le) => return Err("sample: flac takes s16le and s24le".to_owned()),
            },
            Rendition::WebSocket => match payload.unwrap_or(Payload::F32) {
                Payload::Opus => Encoding::Opus { bitrate },
                payload => Encoding::Message(payload),
            },
        })
    }

    /// Whether `rendition` can do with gaps what is asked for.
    ///
    /// # Errors
    ///
    /// A sentence, where it can't.
    pub(super) fn check_gaps(&self, rendition: Rendition) -> Result<(), String> {
        match self.gaps {
            Some(Gaps::Silence) if !matches!(rendition, Rendition::Wav | Rendition::Pcm) => {
                Err(format!("gaps: {} tells of gaps itself; silence goes with wav and pcm", rendition.name()))
            }
            _ => Ok(()),
        }
    }

    /// For how long a listener of `rendition` has its packets gathered.
    ///
    /// # Errors
    ///
    /// A sentence, where that can't be.
    pub(super) fn gather(&self, rendition: Rendition, config: &Config) -> Result<Duration, String> {
        let Some(gather) = self.gather.filter(|gather| !gather.is_zero()) else { return Ok(Duration::ZERO) };
        if rendition == Rendition::WebSocket {
            return Err("gather: the WebSocket sends each block at once".to_owned());
        }
        if self.gaps == Some(Gaps::Silence) {
            return Err("gather: goes without gaps=silence; silence may be long, and is sent bit by bit".to_owned());
        }
        let max_lag = self.max_lag.map_or(config.delivery.max_lag, |MaxLag(limit)| limit).unwrap_or(Duration::MAX);
        let most = self.buffer.unwrap_or(config.delivery.buffer).min(max_lag) / GATHER_SHARE;
        if gather > most {
            let most = Short(most);
            return Err(format!(
                "gather: {} is too long; it takes up to {most}, an eighth of the buffer",
                Short(gather)
            ));
        }
        Ok(gather)
    }

    /// Returns the limits of the listener's lag.
    pub(super) fn limits(&self, config: &Config, format: Format) -> Limits {
        let max_lag = self.max_lag.map_or(config.delivery.max_lag, |MaxLag(limit)| limit);
        let limit = max_lag.unwrap_or_else(|| self.buffer.unwrap_or(config.delivery.buffer));
        let behind = if max_lag.is_some() { limit / 2 } else { limit / BEHIND_SHARE };
        let least = u64::from(MIN_LAG_BLOCKS);
        Limits {
            behind: format.blocks_in(behind).max(least),
            far_behind: format.blocks_in(limit * 3 / 4).max(least),
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
            overflow: self.overflow.unwrap_or(config.delivery.overflow),
            buffer: format.blocks_in(self.buffer.unwrap_or(config.delivery.buffer)) as usize,
            start,
        }
    }
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
    let span = span::parse(value).ok_or_else(|| format!("`{value}` is not {}", takes()))?;
    if (least..=most).contains(&span) {
        Ok(span)
    } else {
        Err(format!("`{value}` is out of range; it takes {}", takes()))
    }
}

fn payload(value: &str) -> Result<Payload, String> {
    Payload::from_name(value).ok_or_else(|| format!("`{value}` is no payload; there are f32, s16 and opus"))
}

/// Returns the bitrate that is nearest to one in bits per second, written as `96000` or `96k`.
fn bitrate(value: &str) -> Result<OpusBitrate, String> {
    let (lowest, highest) = (OpusBitrate::LOWEST.bits_per_second(), OpusBitrate::HIGHEST.bits_per_second());
    let (digits, scale) = value.strip_suffix('k').map_or((value, 1), |digits| (digits, 1000));
    let bits_per_second = digits.parse::<u32>().ok().and_then(|number| number.checked_mul(scale));
    bits_per_second
        .filter(|bits_per_second| (lowest..=highest).contains(bits_per_second))
        .map(OpusBitrate::nearest)
        .ok_or_else(|| format!("`{value}` is no bitrate; it takes {lowest} to {highest} bits per second, such as 96k"))
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
