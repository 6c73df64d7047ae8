//! Packets of Opus in Ogg, decoded by libopus.

use opus::{Channels, Decoder};
use symphonia::core::packet::Packet;

use crate::source::portion::Portion;

/// The rate at which Opus is decoded.
const RATE_HZ: u32 = 48_000;
/// The longest packet in frames at that rate: 120 ms (RFC 6716, section 3.1).
const MAX_PACKET_FRAMES: usize = 5760;

/// Decodes the packets of one stream.
pub(super) struct OpusPackets {
    decoder: Decoder,
    channels: usize,
    /// Frames at the start in which the codec settles (RFC 7845, section 4.2), as far as they are still to come.
    pre_skip: usize,
}

impl OpusPackets {
    /// Makes a decoder by the header of a stream (RFC 7845, section 5.1), whose first `pre_skip` frames are no sound.
    pub(super) fn new(head: &[u8], pre_skip: u32) -> Result<Self, String> {
        let (Some(&channels), Some(&[low, high])) = (head.get(9), head.get(16..18).and_then(|gain| gain.first_chunk()))
        else {
            return Err("the header of its Opus stream is too short".to_owned());
        };
        let layout = match channels {
            1 => Channels::Mono,
            2 => Channels::Stereo,
            more => return Err(format!("Opus with {more} channels is not supported (it takes one or two)")),
        };
        let failed = |error: opus::Error| format!("no decoder of Opus: {error}");
        let mut decoder = Decoder::new(RATE_HZ, layout).map_err(failed)?;
        decoder.set_gain(i16::from_le_bytes([low, high]).into()).map_err(failed)?;
        Ok(Self { decoder, channels: usize::from(channels), pre_skip: pre_skip as usize })
    }

    /// Decodes a packet, without what its container says is no sound.
    pub(super) fn decode(&mut self, packet: &Packet) -> Result<Portion, String> {
        let mut samples = vec![0.0; MAX_PACKET_FRAMES * self.channels];
        let frames = self.decoder.decode_float(&packet.data, &mut samples, false).map_err(|error| error.to_string())?;
        let end = frames - frames.min(packet.trim_end.get() as usize);
        let start = end.min(self.pre_skip);
        self.pre_skip -= start;
        samples.truncate(end * self.channels);
        samples.drain(..start * self.channels);
        Ok(Portion { rate_hz: RATE_HZ, channels: self.channels as u16, samples, metadata: None })
    }
}
