//! The query of a stream's URL, checked: every wrong value gets an answer that names it.

use std::time::Duration;

use aircheck_engine::source::PcmEncoding;
use aircheck_engine::{Format, OverflowPolicy, Start, SubscribeOptions};

use crate::config::{MIN_LAG_BLOCKS, MountConfig};
use crate::delivery::standing::Limits;
use crate::rendition::codec::{Mp3Bitrate, OpusBitrate};
use crate::rendition::content_type::accepted;
use crate::rendition::encoding::{DEFAULT_GATHER, Encoding};
use crate::replay::Moment;
use aircheck_api::span::{self, Short};
use aircheck_api::{EXPIRES, Payload, Rendition, SIGNATURE, StreamParam, bitrate, moment};

/// The longest buffer that a query may have, unless the server's own default is longer: 1000 blocks of 10 ms are 80 KB of
/// handles.
const MAX_BUFFER: Duration = Duration::from_secs(10);
/// The largest limit of lag, which is that of the configuration.
const MAX_MAX_LAG: Duration = Duration::from_secs(600);
/// The longest way back into the recording: ten years, which is beyond every disk.
const MAX_BACK: Duration = Duration::from_secs(3650 * 24 * 3600);
/// Characters of a name: as many as fit into a column of the table.
const MAX_NAME_CHARS: usize = 64;

/// Without a limit of lag, a listener is behind when a quarter of its buffer is in use, which leaves time to look.
const BEHIND_SHARE: u32 = 4;

/// Gathering may take an eighth of what a listener may be behind: half of the lag at which it is called behind, so that
/// gathering alone never makes it look so.
const GATHER_SHARE: u32 = 2 * BEHIND_SHARE;
/// Listeners whose limits of lag are smaller are never held. It is four times the longest hold.
const MIN_HOLD_LIMIT: Duration = Duration::from_millis(240);

/// The lengths of sound that are gathered. They are few, because all listeners with the same length share packets, and each
/// length in use has an encoder.
const GATHER_MILLIS: [u64; 9] = [10, 20, 50, 100, 200, 500, 1000, 2000, 5000];

/// The replacement of lost blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gaps {
    /// Nothing: the next block follows at once.
    Skip,
    /// As much silence, so that positions stay true.
    Silence,
}

/// A limit of lag. `None` stands for no limit, even if the server has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct MaxLag(Option<Duration>);

/// The parameters of a stream's URL. `None` stands for the server's default.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    overflow: Option<OverflowPolicy>,
    buffer: Option<Duration>,
    burst: Option<Duration>,
    from: Option<u64>,
    at: Option<u64>,
    back: Option<Duration>,
    pub(super) name: Option<String>,
    sample: Option<PcmEncoding>,
    max_lag: Option<MaxLag>,
    pub(super) gaps: Option<Gaps>,
    /// How much sound is gathered, to be sent at once.
    gather: Option<Duration>,
    /// Only of the WebSocket.
    payload: Option<Payload>,
    /// In bits per second, only of Opus and MP3.
    bitrate: Option<u32>,
    /// Only of `/stream`.
    pub(super) format: Option<String>,
}

impl Query {
    /// Returns the parameters of a listener with this name, and with the server's defaults.
    pub(super) fn named(name: String) -> Self {
        Self { name: Some(name), ..Self::default() }
    }

    /// Reads a query string. `_` has no meaning: it makes a URL new to a browser's cache. The parameters of a signed URL
    /// have been read before.
    ///
    /// # Errors
    ///
    /// A sentence that names the parameter and what it takes.
    pub(super) fn parse(query: &str, config: &MountConfig) -> Result<Self, String> {
        let mut parsed = Self::default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            if matches!(&*key, "_" | EXPIRES | SIGNATURE) {
                continue;
            }
            let Some(param) = StreamParam::from_name(&key) else {
                let names = StreamParam::ALL.map(StreamParam::name).join(", ");
                return Err(format!("`{key}` is not a parameter of a stream; it takes {names}"));
            };
            parsed.set(param, &value, config)?;
        }
        let starts = [
            (StreamParam::From, parsed.from.is_some()),
            (StreamParam::Burst, parsed.burst.is_some()),
            (StreamParam::At, parsed.at.is_some()),
            (StreamParam::Back, parsed.back.is_some()),
        ];
        let mut given = starts.into_iter().filter_map(|(param, is_given)| is_given.then_some(param.name()));
        if let (Some(first), Some(second)) = (given.next(), given.next()) {
            return Err(format!("`{first}` and `{second}` both say where to start; give one of them"));
        }
        if parsed.overflow == Some(OverflowPolicy::Block) {
            return Err("overflow: `block` is for sources that can wait, and this one is live (it takes skip-to-live, drop-newest, latest and disconnect)".into());
        }
        Ok(parsed)
    }

    fn set(&mut self, param: StreamParam, value: &str, config: &MountConfig) -> Result<(), String> {
        match param {
            StreamParam::Overflow => {
                set_once(&mut self.overflow, param, value.parse::<OverflowPolicy>().map_err(|e| e.to_string()))
            }
            StreamParam::Buffer => {
                let most = MAX_BUFFER.max(config.delivery.buffer);
                set_once(&mut self.buffer, param, span(value, config.capture.block, most))
            }
            StreamParam::MaxLag => {
                let least = MIN_LAG_BLOCKS * config.capture.block;
                let limit = match value {
                    "off" => Ok(MaxLag(None)),
                    value => span(value, least, MAX_MAX_LAG).map(|span| MaxLag(Some(span))),
                };
                set_once(&mut self.max_lag, param, limit)
            }
            StreamParam::Burst => set_once(&mut self.burst, param, span(value, Duration::ZERO, config.capture.history)),
            StreamParam::From => {
                let number = value.parse().map_err(|_| format!("`{value}` is not a sequence number, such as 1200"));
                set_once(&mut self.from, param, number)
            }
            StreamParam::At => set_once(&mut self.at, param, time(value)),
            StreamParam::Back => set_once(&mut self.back, param, span(value, Duration::ZERO, MAX_BACK)),
            StreamParam::Name => set_once(&mut self.name, param, name(value)),
            StreamParam::Sample => {
                set_once(&mut self.sample, param, value.parse::<PcmEncoding>().map_err(|error| error.to_string()))
            }
            StreamParam::Bitrate => set_once(&mut self.bitrate, param, bits_per_second(value)),
            StreamParam::Payload => set_once(&mut self.payload, param, payload(value)),
            StreamParam::Gaps => set_once(&mut self.gaps, param, gaps(value)),
            StreamParam::Gather => set_once(&mut self.gather, param, span(value, Duration::ZERO, MAX_BUFFER)),
            StreamParam::Format => set_once(&mut self.format, param, Ok(value.to_owned())),
        }
    }

    /// Returns the rendition of `/stream`: that of `format`, or else of the `Accept` header.
    ///
    /// # Errors
    ///
    /// A sentence that names the formats.
    pub(super) fn rendition(&self, accept: &str) -> Result<Rendition, String> {
        let Some(label) = &self.format else { return Ok(accepted(accept)) };
        match Rendition::from_name(label) {
            Some(rendition) if rendition != Rendition::WebSocket => Ok(rendition),
            _ => Err(format!("format: `{label}` is not a format; it takes wav, pcm, json, flac, opus, mp3 and sse")),
        }
    }

    /// Returns the encoding of `rendition`. FLAC has `flac_bits` a sample unless the query says otherwise.
    ///
    /// # Errors
    ///
    /// A sentence, if the rendition does not take a parameter that is given.
    pub(super) fn encoding(&self, rendition: Rendition, flac_bits: u32) -> Result<Encoding, String> {
        let label = rendition.name();
        let payload = self.payload.filter(|_| rendition == Rendition::WebSocket);
        if self.payload.is_some() && payload.is_none() {
            return Err(format!("payload: {label} does not take it; the WebSocket does"));
        }
        let has_bitrate = matches!(rendition, Rendition::Opus | Rendition::Mp3) || payload == Some(Payload::Opus);
        if self.bitrate.is_some() && !has_bitrate {
            return Err(format!("bitrate: {label} does not take it; opus and mp3 do"));
        }
        if self.sample.is_some() && !matches!(rendition, Rendition::Wav | Rendition::Pcm | Rendition::Flac) {
            return Err(format!("sample: {label} does not take it; wav, pcm and flac do"));
        }
        let bitrate = self.bitrate.map_or_else(OpusBitrate::default, OpusBitrate::nearest);
        let samples = self.sample.unwrap_or_default();
        Ok(match rendition {
            Rendition::Wav | Rendition::Pcm => Encoding::Pcm(samples),
            Rendition::Json => Encoding::Json,
            Rendition::Events => Encoding::Events,
            Rendition::Opus => Encoding::Opus { bitrate },
            Rendition::Mp3 => {
                Encoding::Mp3 { bitrate: self.bitrate.map_or_else(Mp3Bitrate::default, Mp3Bitrate::nearest) }
            }
            Rendition::Flac => match self.sample {
                None => Encoding::Flac { bits: flac_bits },
                Some(PcmEncoding::S16Le) => Encoding::Flac { bits: 16 },
                Some(PcmEncoding::S24Le) => Encoding::Flac { bits: 24 },
                Some(_) => return Err("sample: flac takes s16le and s24le".to_owned()),
            },
            Rendition::WebSocket => match payload.unwrap_or(Payload::F32) {
                Payload::Opus => Encoding::OpusMessages { bitrate },
                payload => Encoding::Message(payload),
            },
        })
    }

    /// Checks that `rendition` can have the replacement of lost blocks that is asked for.
    ///
    /// # Errors
    ///
    /// A sentence, if it cannot.
    pub(super) fn check_gaps(&self, rendition: Rendition) -> Result<(), String> {
        match self.gaps {
            Some(Gaps::Silence) if !matches!(rendition, Rendition::Wav | Rendition::Pcm) => {
                Err(format!("gaps: {} reports gaps itself; wav and pcm take silence", rendition.name()))
            }
            _ => Ok(()),
        }
    }

    /// Returns whether packets of `rendition` in quick succession may be held for a moment. They are lag for that moment, so a
    /// listener that wants little of it gets none, nor does one that wants each packet at once.
    pub(super) fn may_hold(&self, rendition: Rendition, config: &MountConfig) -> bool {
        let limit = self.most_lag(config);
        let wants_each = self.gather.is_some_and(|gather| gather.is_zero());
        rendition != Rendition::WebSocket && !wants_each && limit >= MIN_HOLD_LIMIT
    }

    /// Returns how much sound is gathered for a listener of `rendition`: of the lengths that listeners share
    /// ([`GATHER_MILLIS`]) the one that is nearest to `gather`. Opus and MP3 have [`DEFAULT_GATHER`] if there is
    /// none, or the longest that fits into the buffer.
    ///
    /// # Errors
    ///
    /// A sentence, if that is too much, or if the rendition does not gather.
    pub(super) fn gather(&self, rendition: Rendition, config: &MountConfig) -> Result<Duration, String> {
        let most = self.most_lag(config) / GATHER_SHARE;
        let gather = match self.gather {
            None if matches!(rendition, Rendition::Opus | Rendition::Mp3) => {
                return Ok(nearest_gather(DEFAULT_GATHER.min(most), most));
            }
            None => return Ok(Duration::ZERO),
            Some(gather) if gather.is_zero() => return Ok(Duration::ZERO),
            Some(gather) => gather,
        };
        if rendition == Rendition::WebSocket {
            return Err("gather: the WebSocket does not take it, because it sends each block at once".to_owned());
        }
        if self.gaps == Some(Gaps::Silence) {
            return Err("gather: cannot be combined with gaps=silence, because the silence of a long gap does not fit into one packet".to_owned());
        }
        if gather > most {
            let most = Short(most);
            return Err(format!(
                "gather: {} is too long; it takes up to {most}, an eighth of the buffer",
                Short(gather)
            ));
        }
        Ok(nearest_gather(gather, most))
    }

    /// Returns how much sound its ring holds.
    fn buffer(&self, config: &MountConfig) -> Duration {
        self.buffer.unwrap_or(config.delivery.buffer)
    }

    /// Returns the lag beyond which it skips or ends; `None` for no limit.
    fn max_lag(&self, config: &MountConfig) -> Option<Duration> {
        self.max_lag.map_or(config.delivery.max_lag, |MaxLag(limit)| limit)
    }

    /// Returns the most that it may lag without a loss.
    fn most_lag(&self, config: &MountConfig) -> Duration {
        self.max_lag(config).map_or(self.buffer(config), |max_lag| max_lag.min(self.buffer(config)))
    }

    /// Returns the limits of the listener's lag.
    pub(super) fn limits(&self, config: &MountConfig, format: Format) -> Limits {
        let max_lag = self.max_lag(config);
        let limit = max_lag.unwrap_or_else(|| self.buffer(config));
        let behind = if max_lag.is_some() { limit / 2 } else { limit / BEHIND_SHARE };
        let least = u64::from(MIN_LAG_BLOCKS);
        Limits {
            behind: format.blocks_in(behind).max(least),
            far_behind: format.blocks_in(limit * 3 / 4).max(least),
            max_lag: max_lag.map(|max_lag| format.blocks_in(max_lag)),
            buffer: format.blocks_in(self.buffer(config)),
            idle_timeout: config.delivery.idle_timeout,
        }
    }

    /// Returns the moment at which the listener starts, if it names one. An EventSource that reconnects goes on after its last
    /// event instead.
    pub(super) fn moment(&self, last_event: Option<u64>) -> Option<Moment> {
        match (last_event, self.at, self.back) {
            (Some(_), ..) => None,
            (None, Some(at), _) => Some(Moment::At(at)),
            (None, None, back) => back.map(Moment::Back),
        }
    }

    /// Returns the options of the listener's ring. `last_event` is the last sequence number that a reconnecting listener
    /// has received.
    pub(super) fn subscribe(&self, config: &MountConfig, format: Format, last_event: Option<u64>) -> SubscribeOptions {
        let start = match (self.from.or(last_event.map(|id| id.saturating_add(1))), self.burst) {
            (Some(sequence), _) => Start::From(sequence),
            (None, Some(burst)) => Start::Back(format.blocks_in(burst)),
            (None, None) => Start::Live,
        };
        SubscribeOptions {
            overflow: self.overflow.unwrap_or(config.delivery.overflow),
            buffer: format.blocks_in(self.buffer(config)) as usize,
            start,
            // The listener counts its lags and waits itself.
            histograms: false,
        }
    }
}

/// Returns the length of sound nearest to `gather`, and at most `most`, for which listeners share packets; zero if all are
/// longer.
fn nearest_gather(gather: Duration, most: Duration) -> Duration {
    let lengths = GATHER_MILLIS.map(Duration::from_millis).into_iter().filter(|length| *length <= most);
    lengths.min_by_key(|length| length.abs_diff(gather)).unwrap_or_default()
}

/// Sets a parameter, unless its value is wrong or it is set already.
fn set_once<T>(field: &mut Option<T>, param: StreamParam, value: Result<T, String>) -> Result<(), String> {
    let value = value.map_err(|reason| format!("{}: {reason}", param.name()))?;
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("{}: is given more than once", param.name())),
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

fn time(value: &str) -> Result<u64, String> {
    moment::parse(value).ok_or_else(|| format!("`{value}` is not {}", moment::TAKES))
}

fn payload(value: &str) -> Result<Payload, String> {
    Payload::from_name(value).ok_or_else(|| format!("`{value}` is not a payload; it takes f32, s16 and opus"))
}

fn bits_per_second(value: &str) -> Result<u32, String> {
    let (lowest, highest) = (OpusBitrate::LOWEST.bits_per_second(), OpusBitrate::HIGHEST.bits_per_second());
    bitrate::parse(value)
        .filter(|bits_per_second| (lowest..=highest).contains(bits_per_second))
        .ok_or_else(|| format!("`{value}` is no bitrate; it takes {lowest} to {highest} bits per second, such as 96k"))
}

fn gaps(value: &str) -> Result<Gaps, String> {
    match value {
        "skip" => Ok(Gaps::Skip),
        "silence" => Ok(Gaps::Silence),
        _ => Err(format!("`{value}` is not a treatment of gaps; it takes skip and silence")),
    }
}

fn name(value: &str) -> Result<String, String> {
    if value.chars().count() > MAX_NAME_CHARS || value.chars().any(char::is_control) {
        return Err(format!("takes up to {MAX_NAME_CHARS} printable characters"));
    }
    Ok(value.to_owned())
}
