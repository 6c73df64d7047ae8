//! Opus: blocks of any length and rate to packets on a grid of their own.
//!
//! Packets lie on a fixed grid at 48 kHz, as blocks do at the source's rate: packet *n* starts at *n* times its
//! length. So a packet's position alone tells where it belongs, whatever was lost before it.

use std::ops::RangeInclusive;

use aircheck_engine::Format;
use bytes::Bytes;
use opus::{Application, Bitrate, Channels};

use crate::rendition::codec::CodecError;
use crate::rendition::codec::resample::Resampler;

/// Frames per second in which positions, packets and Ogg's granules count, whatever the source's rate.
pub(super) const RATE_HZ: u32 = 48_000;
/// Packet lengths in frames: 20, 10, 5 and 2.5 ms. Opus has longer ones, which gain next to nothing and cost delay.
const PACKET_FRAMES: [u32; 4] = [960, 480, 240, 120];
/// The most that one frame of Opus takes, with the byte that says what it is (RFC 6716, section 3.4).
const MAX_PACKET_BYTES: usize = 1276;
/// With fewer bytes a packet, libopus gives up and says nothing at all (`opus_encode_native` in `opus_encoder.c`).
const LEAST_PACKET_BYTES: u32 = 3;
/// From here on libopus never takes its speech codec, whatever it hears (`mode_thresholds` in `opus_encoder.c`).
const ALWAYS_CELT_BPS: u32 = 64_000;

/// One Opus packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpusPacket {
    /// What of the encoder's input it holds: the first frame, at 48 kHz since the start of the stream. The sound that
    /// it decodes to is [`pre_skip`](OpusEncoder::pre_skip) frames older.
    pub position: u64,
    /// How many frames at 48 kHz it brings: as many as it decodes to, but for the stream's last packet, from which
    /// the rest is to be cut off.
    pub frames: u32,
    /// Whether it is the stream's last one.
    pub is_last: bool,
    /// The packet.
    pub bytes: Bytes,
}

impl OpusPacket {
    /// Position of the first frame that comes after it.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.position + self.frames as u64
    }
}

/// Encodes a stream. Constrained VBR: packets are as long as what they hold asks for, within what a line of the
/// bitrate carries without a buffer.
///
/// A hole between blocks counts as silence, except that packets in which nothing is heard are left out: the next one's
/// position has jumped.
pub struct OpusEncoder {
    opus: opus::Encoder,
    resampler: Option<Resampler>,
    format: Format,
    packet_frames: u32,
    pre_skip: u16,
    /// The sequence number that would go on without a hole.
    next: Option<u64>,
    /// Where the source's sound ends so far, in frames at 48 kHz.
    source_end: u64,
    /// Where `pending` starts.
    position: u64,
    /// Frames that are no whole packet yet.
    pending: Vec<f32>,
    block: Vec<f32>,
    packet: [u8; MAX_PACKET_BYTES],
}

impl OpusEncoder {
    /// Bitrates that Opus is specified for (RFC 6716, section 2.1.1), in bits per second.
    pub const BITRATES_BPS: RangeInclusive<u32> = 6_000..=510_000;
    /// Lowest rate of a source, in Hz. Half the resampler's taps at it last 30,720 frames at 48 kHz; the pre-skip of a
    /// header has 16 bits.
    pub const MIN_RATE_HZ: u32 = 100;

    /// An encoder for `format` that makes about `bitrate_bps` bits per second; with packets of 2.5 ms not less than
    /// 9,600. Packets are as long as possible without being longer than a block: a longer one would wait, shorter ones
    /// cost bits.
    ///
    /// # Errors
    ///
    /// For more than two channels, a rate below [`MIN_RATE_HZ`](Self::MIN_RATE_HZ), or a bitrate that is not in
    /// [`BITRATES_BPS`](Self::BITRATES_BPS).
    pub fn new(format: Format, bitrate_bps: u32) -> Result<Self, CodecError> {
        let (opus, packet_frames, pre_skip) = open(format, bitrate_bps)?;
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

    /// The [`packet_frames`](Self::packet_frames) of an encoder like this.
    #[must_use]
    pub fn packet_frames_for(format: Format) -> u32 {
        packet_frames(format)
    }

    /// The [`pre_skip`](Self::pre_skip) of an encoder like this, without the work of making one.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn pre_skip_for(format: Format, bitrate_bps: u32) -> Result<u16, CodecError> {
        open(format, bitrate_bps).map(|(_, _, pre_skip)| pre_skip)
    }

    /// Frames of a packet, at 48 kHz: 960, 480, 240 or 120.
    #[must_use]
    pub const fn packet_frames(&self) -> u32 {
        self.packet_frames
    }

    /// How many frames at 48 kHz the sound comes out after it went in: by resampler and encoder. A player that drops
    /// as many at the beginning has the source's own timing.
    #[must_use]
    pub const fn pre_skip(&self) -> u16 {
        self.pre_skip
    }

    /// Encodes the block with this sequence number, and appends the packets that it completes: none, one or more.
    /// Sequence numbers only go up; if some are missing, what was begun before them is completed with silence first.
    /// A block that is shorter than the others is the stream's last: it is [finished](Self::finish) with it.
    ///
    /// What is not a number becomes silence, and what is beyond full scale is clipped.
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
            return self.feed(samples, packets);
        }
        let before = packets.len();
        self.feed(samples, packets)?;
        self.drain(before, packets)
    }

    /// Ends the stream: appends the packets in which the last of it is heard, and cuts the last one to what that is.
    /// Nothing if it has been ended, or never begun.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode).
    pub fn finish(&mut self, packets: &mut Vec<OpusPacket>) -> Result<(), CodecError> {
        self.drain(packets.len(), packets)
    }

    /// Feeds silence until all is out, of which packets from `before` on can be cut.
    fn drain(&mut self, before: usize, packets: &mut Vec<OpusPacket>) -> Result<(), CodecError> {
        if self.next.take().is_none() {
            return Ok(());
        }
        while !self.is_drained() {
            self.feed(&[], packets)?;
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

    /// Where the packets in which the source's sound is heard so far end.
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

    /// Goes on at another block than the next one.
    fn jump(&mut self, sequence: u64, packets: &mut Vec<OpusPacket>) -> Result<(), CodecError> {
        while let Some(next) = self.next.filter(|next| *next < sequence && !self.is_drained()) {
            self.feed(&[], packets)?;
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

    /// Takes a block's samples, with silence for those that are missing of a whole one.
    fn feed(&mut self, samples: &[f32], packets: &mut Vec<OpusPacket>) -> Result<(), CodecError> {
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

/// The encoder proper, the length of its packets, and the frames to skip for it and the resampler.
fn open(format: Format, bitrate_bps: u32) -> Result<(opus::Encoder, u32, u16), CodecError> {
    let channels = match format.channels() {
        1 => Channels::Mono,
        2 => Channels::Stereo,
        channels => return Err(CodecError::OpusChannels(channels)),
    };
    if format.rate_hz() < OpusEncoder::MIN_RATE_HZ {
        return Err(CodecError::OpusRate(format.rate_hz()));
    }
    if !OpusEncoder::BITRATES_BPS.contains(&bitrate_bps) {
        return Err(CodecError::OpusBitrate(bitrate_bps));
    }
    let packet_frames = packet_frames(format);
    // Low delay is CELT alone. Where nothing but CELT would be used anyhow, that is the same sound 4 ms earlier;
    // below, speech is much better off with the choice.
    let celt = bitrate_bps >= ALWAYS_CELT_BPS || packet_frames < 480;
    let application = if celt { Application::LowDelay } else { Application::Audio };
    let mut opus = opus::Encoder::new(RATE_HZ, channels, application)?;
    let least_bps = LEAST_PACKET_BYTES * 8 * RATE_HZ / packet_frames;
    opus.set_bitrate(Bitrate::Bits(bitrate_bps.max(least_bps) as i32))?;
    opus.set_vbr(true)?;
    opus.set_vbr_constraint(true)?;
    let resampler = if format.rate_hz() == RATE_HZ { 0 } else { Resampler::delay(format.rate_hz()) };
    let pre_skip = opus.get_lookahead()? as usize + resampler;
    let pre_skip = u16::try_from(pre_skip).map_err(|_| CodecError::OpusRate(format.rate_hz()))?;
    Ok((opus, packet_frames, pre_skip))
}

/// The longest packet that is no longer than a block, rounded to the source's frames as the block is; or the shortest.
fn packet_frames(format: Format) -> u32 {
    let (rate_hz, [.., shortest]) = (u64::from(format.rate_hz()), PACKET_FRAMES);
    let fits = |frames: &u32| {
        (u64::from(*frames) * rate_hz + u64::from(RATE_HZ / 2)) / u64::from(RATE_HZ) <= u64::from(format.block_frames())
    };
    PACKET_FRAMES.into_iter().find(fits).unwrap_or(shortest)
}

#[cfg(test)]
mod tests;
