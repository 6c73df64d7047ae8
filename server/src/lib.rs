//! The aircheck service: one stream of live sound, served over HTTP to many listeners, each of whom can be told how
//! late it is and exactly what it lost.
//!
//! [`run`] opens the source that a [`config`] names and starts the engine's stream. A [`station::Station`] is what
//! requests can reach: the [`encoders`], which turn blocks into bytes once per format, the [`listeners`], a level
//! [`meter`] and the [`metrics`]. [`http`] answers requests; a listener's [`body`] takes packets from its own ring
//! as fast as its [`wire`] takes them. A [`record`]er, if there is one, writes the blocks to files.
//!
//! What is absent: the server knows nothing of sound devices, and keeps no sequence numbers or counts of its own.

pub mod cli;
pub mod config;
pub mod duration;

pub mod run;
pub mod source;
pub mod station;

pub mod codec;
pub mod encode;
pub mod encoders;
pub mod mount;

pub mod body;
pub mod feed;
pub mod framing;
pub mod http;
mod journey;
pub mod message;
pub mod socket;
pub mod unread;
pub mod wire;

mod lag;
pub mod listener;
pub mod listeners;
mod watch;

pub mod events;
pub mod throttle;

pub mod meter;
pub mod metrics;
pub mod record;
