//! The sources of sound: the [`Source`] trait, and one file for each source.
//!
//! A source writes its samples to a [`Capture`](crate::Capture) from a thread of its own. A [`Pull`] is simpler: it
//! returns samples on request, and [`Paced`] makes a source of it. Microphones need the feature `device`, WAV files the
//! feature `wav`.

mod back_off;
mod backlog;
#[cfg(feature = "device")]
mod device;
mod interface;
mod paced;
mod pcm;
mod pipe;
mod pull;
mod schedule;
mod supervised;
mod tone;
#[cfg(feature = "wav")]
mod wav;

pub use back_off::BackOff;
#[cfg(feature = "device")]
pub use device::{Device, DeviceConfig, DeviceError, DeviceInfo, DeviceReopener, devices, host_name};
pub use interface::{Running, Source, SourceError};
pub use paced::Paced;
pub use pcm::{Pcm, PcmEncoding, QueuedBytes, UnknownPcmEncoding};
pub use pull::{Arrival, Pull, Waiting};
pub use supervised::{OnLoss, OpenFallback, Reopen, ReopenError, Supervised, Switch};
pub use tone::Tone;
#[cfg(feature = "wav")]
pub use wav::{Wav, WavError};
