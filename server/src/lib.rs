//! The aircheck service: streams live sound over HTTP to many listeners, and keeps for each an exact account of its lag
//! and its losses.
//!
//! [`access`] has the tokens of those who may listen. [`app`] opens the [`source`]s that a [`config`] names and puts each on the air as a [`mount`]. Its [`rendition`]s turn
//! blocks into packets, once for all listeners; [`delivery`] takes the packets to each listener and keeps its account;
//! a [`sink`] such as the recorder takes blocks elsewhere, and a [`replay`] plays what it has recorded. [`mounts`] opens all of that for
//! each mount. [`notify`] tells
//! receivers what goes wrong, and [`audience`] has the listeners of other servers. Sound comes from another server, and goes to others, over the [`hop`]. [`http`] answers requests, and [`telemetry`] reports on all of that. [`doctor`] checks
//! whether a machine can do all of this.
//!
//! A folder uses only what stands before it: one_line, shared, metadata, access, config, hop, source, mount, rendition, delivery, sink, replay, mounts, notify, audience,
//! telemetry, http, on_air, reload, app, doctor. The types that go over the wire are in the crate `aircheck-api`.
//!
//! The server knows no sound device, and it invents no sequence number: all of them are the capture's.

pub mod metadata;
pub mod one_line;
pub mod shared;

pub mod access;
pub mod config;
pub mod hop;
pub mod source;

pub mod mount;
pub mod rendition;

pub mod delivery;
pub mod sink;

pub mod replay;

pub mod mounts;

pub mod notify;

pub mod audience;

pub mod telemetry;

pub mod http;

mod on_air;
pub mod reload;
mod service_manager;

pub mod app;

pub mod doctor;
