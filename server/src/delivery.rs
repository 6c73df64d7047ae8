//! Listeners.

pub mod body;
mod lag;
pub mod listener;
pub mod listeners;
pub mod packet_reader;
pub mod socket;
pub mod tracked_stream;
