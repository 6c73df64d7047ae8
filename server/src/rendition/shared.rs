//! Encoders whose packets are framed once for all listeners. They replace [`encoders`](super::encoders),
//! [`encoder`](super::encoder) and [`framing`](super::container::framing) once delivery takes these packets.

pub mod encoder;
pub mod encoders;
pub mod framing;
