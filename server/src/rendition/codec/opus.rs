//! Opus: from blocks of any length and rate to packets on a grid of their own.
//!
//! Packets lie on a fixed grid at 48 kHz, as blocks do at the source's rate: packet *n* starts at *n* times its
//! length. So a packet's position alone tells where it belongs, whatever was lost before it.

use aircheck_engine::Format;
use bytes::Bytes;
use opus::{Application, Bitrate, Channels};

use super::bitrate::OpusBitrate;
use super::error::CodecError;
use super::resample::{OUTPUT_RATE_HZ, Resampler};

/// The rate at which packets are encoded, and in which their positions and Ogg's granules are counted.
const RATE_HZ: u32 = OUTPUT_RATE_HZ;
/// Packet lengths in frames: 20, 10, 5 and 2.5 ms. Opus has longer ones, which gain next to nothing and cost delay.
const PACKET_FRAMES: [u32; 4] = [960, 480, 240, 120];
/// The longest packet with one frame of Opus: its first byte and 1275 of the frame (RFC 6716, section 3.4).
pub const MAX_PACKET_BYTES: usize = 1276;
/// libopus encodes silence where the bitrate leaves fewer bytes for a packet (`opus_encode_native` in
/// `opus_encoder.c`).
const MIN_PACKET_BYTES: u32 = 3;
/// From this bitrate on, libopus never uses its speech codec (`mode_thresholds` in `opus_encoder.c`).
const CELT_ONLY_BPS: u32 = 64_000;

/// One Opus packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpusPacket {
    /// Position in the encoder's input of its first frame, in frames at 48 kHz since the start of the stream. The sound
    /// that it decodes to is [`pre_skip`](OpusEncoder::pre_skip) frames older.
    pub position: u64,
    /// Frames at 48 kHz that count of it: all that it decodes to, except in the stream's last packet, of which a player
    /// cuts off the rest.
    pub frames: u32,
    /// Whether the stream ends with it.
    pub is_last: bool,
    /// The packet as the decoder takes it.
    pub bytes: Bytes,
}

impl OpusPacket {
    /// Returns the position of the first frame after it.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.position + self.frames as u64
    }
}

/// The encoder of one stream, with constrained VBR: a packet takes the bytes that its sound needs, as long as a line of
/// the bitrate carries them without a buffer.
///
/// A hole between blocks counts as silence. Packets that hold nothing but the hole are left out, and the next packet's
/// position jumps over them.
pub struct OpusEncoder {
    opus: opus::Encoder,
    resampler: Option<Resampler>,
    format: Format,
    packet_frames: u32,
    pre_skip: u16,
    /// The sequence number that would follow without a hole.
    next: Option<u64>,
    /// The end of the source's sound so far, in frames at 48 kHz.
    source_end: u64,
    /// Position of the first frame in `pending`.
    position: u64,
    /// Samples at 48 kHz that do not fill a packet yet.
    pending: Vec<f32>,
    block: Vec<f32>,
    packet: [u8; MAX_PACKET_BYTES],
}

impl OpusEncoder {
    /// Lowest rate of a source. There, half the resampler's taps last 30,720 frames at 48 kHz, and the pre-skip in a
    /// header has 16 bits.
    pub const MIN_RATE_HZ: u32 = 100;

    /// Makes an encoder for `format` at about `bitrate`; with packets of 2.5 ms at 9,600 bits per second or more.
    /// `packet_frames` is the length of a packet in frames at 48 kHz: 960, 480, 240 or 120.
    ///
    /// # Errors
    ///
    /// For more than two channels, or a rate below [`MIN_RATE_HZ`](Self::MIN_RATE_HZ).
    pub fn new(format: Format, bitrate: OpusBitrate, packet_frames: u32) -> Result<Self, CodecError> {
        let (opus, pre_skip) = configure(format, bitrate, packet_frames)?;
        let resampler = (format.rate_hz() != RATE_HZ)
            .then(|| Resampler::new(format.rate_hz(), format.channels().into(), format.block_frames() as usize))
            .transpose()?;
        Ok(Self {
            opus,
            resampler,
            format,
            packet_frames,
            pre_skip,
            next: None,
            source_end: 0,
            position: 0,
            pending: Vec::new(),
            block: Vec::with_capacity(format.block_samples()),
            packet: [0; MAX_PACKET_BYTES],
        })
    }

    /// Returns the best length of a packet for listeners that get `group` blocks at a time: 20 ms if the group is so long,
    /// and else as long as possible without being longer than a block. A longer one would wait for the next block, and
    /// shorter ones cost bits. Lengths are rounded to the source's frames, as the block's is.
    #[must_use]
    pub fn packet_frames_for(format: Format, group: u64) -> u32 {
        let (rate_hz, [longest, .., shortest]) = (u64::from(format.rate_hz()), PACKET_FRAMES);
        let fits = |packet_frames: &u32, blocks: u64| {
            (u64::from(*packet_frames) * rate_hz + u64::from(RATE_HZ / 2)) / u64::from(RATE_HZ)
                <= format.position(blocks)
        };
        if fits(&longest, group) {
            return longest;
        }
        PACKET_FRAMES.into_iter().find(|packet_frames| fits(packet_frames, 1)).unwrap_or(shortest)
    }

    /// Returns the [`pre_skip`](Self::pre_skip) of an encoder whose listeners get each block at once, without the cost of
    /// making its resampler.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn pre_skip_for(format: Format, bitrate: OpusBitrate) -> Result<u16, CodecError> {
        configure(format, bitrate, Self::packet_frames_for(format, 1)).map(|(_, pre_skip)| pre_skip)
    }

    /// Returns the length of a packet in frames at 48 kHz: 960, 480, 240 or 120.
    #[must_use]
    pub const fn packet_frames(&self) -> u32 {
        self.packet_frames
    }

    /// Returns the delay of resampler and encoder in frames at 48 kHz. A player that drops as many frames at the
    /// beginning has the source's own timing.
    #[must_use]
    pub const fn pre_skip(&self) -> u16 {
        self.pre_skip
    }

    /// Encodes the block with this sequence number, and appends the packets that it completes: none, one or more.
    /// Sequence numbers only go up; if some are missing, the packet begun before them is completed with silence first.
    /// A block that is shorter than the others is the stream's last, and [finishes](Self::finish) it.
    ///
    /// A sample that is not a number becomes silence, and samples beyond full scale are clipped.
    ///
    /// # Errors
    ///
    /// Only when libopus or the resampler fails, which is not expected of them.
    pub fn encode(&mut self, sequence: u64, samples: &[f32], packets: &mut Vec<OpusPacket>) -> Result<(), CodecError> {
        if self.next != Some(sequence) {
            self.jump(sequence, packets)?;
        }
        let frames = samples.len() as u64 / u64::from(self.format.channels());
        self.source_end = self.at_48_khz(self.format.position(sequence) + frames);
        self.next = Some(sequence + 1);
        if frames == u64::from(self.format.block_frames()) {
            return self.encode_block(samples, packets);
        }
        let before = packets.len();
        self.encode_block(samples, packets)?;
        self.drain(before, packets)
    }

    /// Ends the stream: appends the packets that hold the end of its sound, and sets the length of the last one to
    /// where that is. Appends nothing if the stream has ended already, or never began.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode).
    pub fn finish(&mut self, packets: &mut Vec<OpusPacket>) -> Result<(), CodecError> {
        self.drain(packets.len(), packets)
    }

    /// Encodes silence until the source's sound is in packets, and removes those that hold none of it, of the packets
    /// from index `before` on.
    fn drain(&mut self, before: usize, packets: &mut Vec<OpusPacket>) -> Result<(), CodecError> {
        if self.next.take().is_none() {
            return Ok(());
        }
        while !self.is_drained() {
            self.encode_block(&[], packets)?;
        }
        let end = self.end();
        let needed = packets[before..].iter().take_while(|packet| packet.position < end).count();
        packets.truncate(before + needed);
        if let Some(last) = packets[before..].last_mut() {
            last.frames = (end - last.position).min(u64::from(last.frames)) as u32;
            last.is_last = true;
        }
        Ok(())
    }

    /// Returns the position up to which packets hold the source's sound so far.
    fn end(&self) -> u64 {
        self.source_end + u64::from(self.pre_skip)
    }

    fn is_drained(&self) -> bool {
        self.position >= self.end()
    }

    fn at_48_khz(&self, position: u64) -> u64 {
        let rate_hz = u64::from(self.format.rate_hz());
        (position * u64::from(RATE_HZ) + rate_hz / 2) / rate_hz
    }

    /// Continues at another block than the next one.
    fn jump(&mut self, sequence: u64, packets: &mut Vec<OpusPacket>) -> Result<(), CodecError> {
        while let Some(next) = self.next.filter(|next| *next < sequence && !self.is_drained()) {
            self.encode_block(&[], packets)?;
            self.next = Some(next + 1);
        }
        if self.next == Some(sequence) {
            return Ok(());
        }
        let start = self.at_48_khz(self.format.position(sequence));
        let into_packet = start % u64::from(self.packet_frames);
        self.position = start - into_packet;
        self.pending.clear();
        self.pending.resize(into_packet as usize * usize::from(self.format.channels()), 0.0);
        if let Some(resampler) = &mut self.resampler {
            resampler.restart(&mut self.pending);
        }
        Ok(())
    }

    /// Encodes a block's samples, with silence for those that a whole block has more.
    fn encode_block(&mut self, samples: &[f32], packets: &mut Vec<OpusPacket>) -> Result<(), CodecError> {
        self.block.clear();
        self.block.extend(samples.iter().map(|sample| if sample.is_nan() { 0.0 } else { sample.clamp(-1.0, 1.0) }));
        self.block.resize(self.format.block_samples(), 0.0);
        match &mut self.resampler {
            Some(resampler) => resampler.process(&self.block, &mut self.pending)?,
            None => self.pending.extend_from_slice(&self.block),
        }
        let packet_samples = self.packet_frames as usize * usize::from(self.format.channels());
        let whole = self.pending.len() / packet_samples * packet_samples;
        for samples in self.pending[..whole].chunks_exact(packet_samples) {
            let length = self.opus.encode_float(samples, &mut self.packet)?;
            let bytes = Bytes::copy_from_slice(&self.packet[..length]);
            packets.push(OpusPacket { position: self.position, frames: self.packet_frames, is_last: false, bytes });
            self.position += u64::from(self.packet_frames);
        }
        self.pending.drain(..whole);
        Ok(())
    }
}

impl std::fmt::Debug for OpusEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpusEncoder").field("format", &self.format).field("next", &self.next).finish_non_exhaustive()
    }
}

/// Returns libopus's encoder, and the delay of encoder and resampler.
fn configure(format: Format, bitrate: OpusBitrate, packet_frames: u32) -> Result<(opus::Encoder, u16), CodecError> {
    let channels = match format.channels() {
        1 => Channels::Mono,
        2 => Channels::Stereo,
        channels => return Err(CodecError::OpusChannels(channels)),
    };
    if format.rate_hz() < OpusEncoder::MIN_RATE_HZ {
        return Err(rate_too_low(format));
    }
    // The low delay mode is CELT alone. Where libopus would choose CELT anyway, its sound is the same and comes 4 ms
    // earlier; below, speech sounds much better with the speech codec.
    let is_celt_only = bitrate.bits_per_second() >= CELT_ONLY_BPS || packet_frames < 480;
    let application = if is_celt_only { Application::LowDelay } else { Application::Audio };
    let mut opus = opus::Encoder::new(RATE_HZ, channels, application)?;
    let min_bps = MIN_PACKET_BYTES * 8 * RATE_HZ / packet_frames;
    opus.set_bitrate(Bitrate::Bits(bitrate.bits_per_second().max(min_bps) as i32))?;
    opus.set_vbr(true)?;
    opus.set_vbr_constraint(true)?;
    let resampler = if format.rate_hz() == RATE_HZ { 0 } else { Resampler::delay(format.rate_hz()) };
    let pre_skip = opus.get_lookahead()? as usize + resampler;
    let pre_skip = u16::try_from(pre_skip).map_err(|_| rate_too_low(format))?;
    Ok((opus, pre_skip))
}

fn rate_too_low(format: Format) -> CodecError {
    CodecError::OpusRate { rate_hz: format.rate_hz(), lowest_hz: OpusEncoder::MIN_RATE_HZ }
}

#[cfg(test)]
mod tests;
