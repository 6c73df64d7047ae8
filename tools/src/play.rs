//! Playing a stream, and knowing when each of its blocks is heard.
//!
//! Sound flows one way: the playout takes blocks, evens out when they came, brings them to the device's rate by the
//! resampler, and writes them into a ring, as fast as `drift` says. The device's callback takes them out: it allocates
//! nothing and never waits. Without the feature `play` there is no device that can be opened, and cpal is not built.

mod drift;
#[cfg(feature = "play")]
mod output_callback;
#[cfg_attr(not(feature = "play"), path = "play/no_output_device.rs")]
mod output_device;
mod player;
mod playout;
mod resampler;
#[cfg_attr(not(feature = "play"), allow(dead_code, reason = "only an output device makes a ring"))]
mod ring;

pub(crate) use output_device::OutputDevice;
pub(crate) use player::{CHECK_INTERVAL, Player};
pub(crate) use playout::PlayStats;
