//! Playing a stream, and knowing when each of its blocks is heard.
//!
//! Sound flows one way: the playout takes blocks, evens out when they came, brings them to the device's rate by the
//! resampler, and writes them into a ring, as fast as `drift` says. The device's callback takes them out: it allocates
//! nothing and never waits. Without the feature `play` there is a stand-in that opens no device, and cpal is not built.

#[cfg(feature = "play")]
mod drift;
#[cfg(feature = "play")]
mod output_callback;
#[cfg(feature = "play")]
mod output_device;
#[cfg(feature = "play")]
mod player;
#[cfg(feature = "play")]
mod playout;
#[cfg(feature = "play")]
mod resampler;
#[cfg(feature = "play")]
mod ring;
#[cfg(not(feature = "play"))]
mod stand_in;
mod stats;

#[cfg(feature = "play")]
pub(crate) use player::{OpenOutput, Player};
#[cfg(not(feature = "play"))]
pub(crate) use stand_in::{OpenOutput, Player};
pub(crate) use stats::{CHECK_INTERVAL, PlayStats};
