//! The hop from one aircheck server to another, through NATS.
//!
//! A server publishes each block of a mount as a [`message`] on a subject. Another one takes it as its source: [`order`] decides
//! which messages are the next of the stream and what was lost between them, a [`title`] says what is heard, and [`clock`] maps the
//! first server's times to its own. Sound is samples or packets of Opus, of which [`opus_blocks`] makes blocks again.
//!
//! What is [`in_flight`] to NATS has a bound. [`account`] has what both ends tell of the hop. A server that is started anew asks the others
//! where its [`numbers`] go on. JetStream may keep the last minutes of the subject (`replay.rs`); what an edge has missed comes from there
//! (`past.rs`).

pub mod account;
pub mod arrival;
pub mod clock;
#[cfg(feature = "nats")]
pub(crate) mod connection;
pub mod in_flight;
pub mod message;
pub mod numbers;
pub mod opus_blocks;
pub mod order;
#[cfg(feature = "nats")]
pub(crate) mod past;
#[cfg(feature = "nats")]
pub(crate) mod replay;
pub mod title;
