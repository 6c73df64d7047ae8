//! Notifications by POST: what they say, where they go, and the delivery of one.
//!
//! A [`Notification`] is told in a [`Form`] to a [`Target`]; [`post`] does it once and returns an [`Outcome`]. The server
//! and `aircheckctl notify-test` share this, so that a test delivers exactly what the server would.
//!
//! The URL of a target is a secret: its path or query is often all that protects a channel. Neither `Debug` nor `Display`
//! of a type here shows more of it than the host, and no error does.
//!
//! This crate keeps no queue and repeats nothing.

mod client;
mod form;
mod notification;
mod target;
#[cfg(feature = "https")]
mod tls;

pub use client::{Outcome, POST_TIMEOUT, post};
pub use form::{Form, UnknownForm};
pub use notification::{Details, EventName, Notification, NotificationState};
pub use target::{Target, TargetError};
