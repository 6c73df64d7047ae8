//! The aircheck service: one stream of live sound, served over HTTP to many listeners, each of whom can be told how
//! late it is and exactly what it lost.

pub mod app;
pub mod config;
pub mod source;

pub mod mount;
pub mod rendition;

pub mod delivery;
pub mod sink;

pub mod http;
pub mod telemetry;
