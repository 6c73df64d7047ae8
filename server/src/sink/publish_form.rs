//! The forms in which the sound of a mount is published: its blocks as they are, or the packets of an encoder of Opus.
//!
//! Opus comes from the encoder that listeners have too, so it is encoded once for all of them and for all other servers. A message has
//! 20 ms, or as many whole blocks as cover them: shorter packets cost bits, and longer ones delay.

use std::time::Duration;

use aircheck_engine::{Block, Format, Item};

use crate::config::PublishFormat;
use crate::hop::message::packets::{OPUS_RATE_HZ, PACKET_HEAD_BYTES, Packet as HopPacket};
use crate::hop::message::{self, Coding, HEAD_BYTES, Head, HopFormat, SampleEncoding};
use crate::rendition::codec::{MAX_PACKET_BYTES, OpusBitrate, OpusEncoder};
use crate::rendition::container::ogg::packets_in_pages;
use crate::rendition::encoders::Tail;
use crate::rendition::encoding::Encoding;
use crate::rendition::packet::Packet;

/// Sound in a message of Opus, if a block is not longer.
const OPUS_SPAN: Duration = Duration::from_millis(20);
/// Lengths of blocks that an error proposes, in milliseconds: at each common rate, one of them is a whole number of frames at 48 kHz.
const PROPOSED_BLOCKS: [u64; 4] = [10, 20, 40, 100];

/// The reason why sound cannot be published in the form that the settings say.
#[derive(Debug, thiserror::Error)]
#[error("cannot publish as Opus: {0}")]
pub struct FormError(String);

/// What a consumer's items become.
pub trait Form: Send + 'static {
    /// What the consumer gets.
    type Item: Send + Sync + 'static;

    /// Returns the coding of the messages.
    fn coding(&self) -> Coding;

    /// Returns the bitrate in bits per second, if the sound is coded with one.
    fn bitrate(&self) -> Option<u32>;

    /// Returns the format of the blocks that others get.
    fn hop_format(&self) -> HopFormat;

    /// Returns the blocks of a message that is no shorter than others.
    fn blocks(&self) -> u64;

    /// Returns the bytes that such a message has on average, or nearly so, and the most that it can have.
    fn message_bytes(&self) -> (usize, usize);

    /// Returns the message of an item. The head has everything that is the same for all forms.
    fn message(&self, head: &Head, item: &Item<Self::Item>) -> Vec<u8>;

    /// Returns the message that ends the stream with what the codec has held back, if it is a codec.
    fn end(&self, head: &Head) -> Option<Vec<u8>>;
}

/// Blocks, each as a message of its samples.
#[derive(Clone, Copy, Debug)]
pub struct Blocks {
    format: Format,
    encoding: SampleEncoding,
}

impl Blocks {
    /// Makes the form in which no sample of a source of so many bits changes.
    #[must_use]
    pub fn exact(format: Format, sample_bits: Option<u16>) -> Self {
        Self { format, encoding: SampleEncoding::exact_for(sample_bits) }
    }
}

impl Form for Blocks {
    type Item = Block;

    fn coding(&self) -> Coding {
        Coding::Samples(self.encoding)
    }

    fn bitrate(&self) -> Option<u32> {
        None
    }

    fn hop_format(&self) -> HopFormat {
        self.format.into()
    }

    fn blocks(&self) -> u64 {
        1
    }

    fn message_bytes(&self) -> (usize, usize) {
        let bytes = message::bytes_of_block(self.format.into(), self.encoding);
        (bytes, bytes)
    }

    fn message(&self, head: &Head, block: &Item<Block>) -> Vec<u8> {
        message::write(&Head { origin: block.origin(), frames: block.frames(), ..*head }, block.samples())
    }

    fn end(&self, _: &Head) -> Option<Vec<u8>> {
        None
    }
}

/// The packets of Opus of an encoder, each with the blocks that have completed it.
#[derive(Clone, Debug)]
pub struct Packets {
    format: Format,
    bitrate: OpusBitrate,
    packet_frames: u32,
    pre_skip: u16,
    /// Where the encoder leaves what it has held back.
    tail: Tail,
}

impl Packets {
    /// Makes the form for blocks of this format, at about so many bits per second.
    ///
    /// # Errors
    ///
    /// When Opus does not carry them to the sample.
    pub fn new(format: Format, bits_per_second: u32) -> Result<Self, FormError> {
        let (rate_hz, channels, block_frames) = (format.rate_hz(), format.channels(), format.block_frames());
        if channels > 2 {
            return Err(FormError(format!(
                "it carries 1 or 2 channels, and the source has {channels} (set --publish-format exact)"
            )));
        }
        let form = Self {
            format,
            bitrate: OpusBitrate::nearest(bits_per_second),
            packet_frames: OpusEncoder::packet_frames_for(format, group(format)),
            pre_skip: 0,
            tail: Tail::default(),
        };
        if !is_whole_at_48_khz(format) || form.hop_format().to_format().is_err() {
            let advice = match whole_block(format) {
                Some(millis) => format!("choose another --block, such as {millis}ms, or --publish-format exact"),
                None => "set --publish-format exact".to_owned(),
            };
            return Err(FormError(format!(
                "a block of {block_frames} frames at {rate_hz} Hz is no whole number of frames at 48 kHz, in which it is decoded ({advice})"
            )));
        }
        let encoder = OpusEncoder::new(format, form.bitrate, form.packet_frames);
        let pre_skip = encoder.map_err(|error| FormError(error.to_string()))?.pre_skip();
        Ok(Self { pre_skip, ..form })
    }

    /// Takes what an encoder has held back from here.
    #[must_use]
    pub fn with_tail(self, tail: Tail) -> Self {
        Self { tail, ..self }
    }

    /// Returns the encoder, and the blocks that it is to gather into a packet.
    #[must_use]
    pub fn encoder(&self) -> (Encoding, u64) {
        (Encoding::Opus { bitrate: self.bitrate }, group(self.format))
    }

    /// Returns the packets of Opus in a packet of the encoder.
    fn opus<'p>(&self, packet: &'p Packet) -> impl Iterator<Item = HopPacket<'p>> + use<'p> {
        packets_in_pages(packet, self.packet_frames).into_iter().map(|packet| HopPacket {
            position: packet.position,
            frames: packet.frames as u16,
            bytes: packet.bytes,
        })
    }
}

impl Form for Packets {
    type Item = Packet;

    fn coding(&self) -> Coding {
        Coding::Opus { pre_skip: self.pre_skip }
    }

    fn bitrate(&self) -> Option<u32> {
        Some(self.bitrate.bits_per_second())
    }

    fn hop_format(&self) -> HopFormat {
        let block_frames =
            u64::from(self.format.block_frames()) * u64::from(OPUS_RATE_HZ) / u64::from(self.format.rate_hz());
        HopFormat { rate_hz: OPUS_RATE_HZ, channels: self.format.channels(), block_frames: block_frames as u32 }
    }

    fn blocks(&self) -> u64 {
        group(self.format)
    }

    fn message_bytes(&self) -> (usize, usize) {
        let frames = self.blocks() * u64::from(self.hop_format().block_frames);
        let packets = frames.div_ceil(self.packet_frames.into()) as usize;
        // Constrained VBR took 1.2 % more than its bitrate for white noise.
        let sound = u64::from(self.bitrate.bits_per_second()) * frames / u64::from(OPUS_RATE_HZ) / 8 * 21 / 20;
        let most = HEAD_BYTES + (packets + 1) * (PACKET_HEAD_BYTES + MAX_PACKET_BYTES);
        (HEAD_BYTES + packets * PACKET_HEAD_BYTES + sound as usize, most)
    }

    fn message(&self, head: &Head, packet: &Item<Packet>) -> Vec<u8> {
        let frames = packet.stamp.blocks() as u32 * self.hop_format().block_frames;
        message::write_packets(&Head { origin: packet.origin(), frames, ..*head }, self.opus(packet))
    }

    fn end(&self, head: &Head) -> Option<Vec<u8>> {
        // The encoder has left something, or that nothing is left: else the stream was cut off, and its last block is not whole.
        let tail = self.tail.get()?.as_ref();
        let packets = tail.into_iter().flat_map(|tail| self.opus(tail));
        Some(message::write_packets(&Head { frames: 0, ..*head }, packets))
    }
}

/// Finds out whether sound of this format can be published so.
///
/// # Errors
///
/// When it cannot.
pub fn check(form: PublishFormat, format: Format) -> Result<(), FormError> {
    match form {
        PublishFormat::Exact => Ok(()),
        PublishFormat::Opus { bits_per_second } => Packets::new(format, bits_per_second).map(drop),
    }
}

/// Returns whether a block of this format is a whole number of frames at the rate at which Opus is decoded.
fn is_whole_at_48_khz(format: Format) -> bool {
    (u64::from(format.block_frames()) * u64::from(OPUS_RATE_HZ)).is_multiple_of(format.rate_hz().into())
}

/// Returns a length of blocks, in milliseconds, at which they are so.
fn whole_block(format: Format) -> Option<u64> {
    PROPOSED_BLOCKS.into_iter().find(|millis| {
        let proposed = Format::new(format.rate_hz(), format.channels(), Duration::from_millis(*millis));
        proposed.is_ok_and(is_whole_at_48_khz)
    })
}

/// Returns how many blocks go into a message of Opus.
fn group(format: Format) -> u64 {
    format.blocks_in(OPUS_SPAN).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(rate_hz: u32, channels: u16, micros: u64) -> Format {
        Format::new(rate_hz, channels, Duration::from_micros(micros)).unwrap()
    }

    #[test]
    fn opus_has_as_many_blocks_at_48_khz_or_is_refused_with_what_would_work() {
        for (rate_hz, micros, block_frames, blocks) in [
            (48_000, 10_000, 480, 2),
            (44_100, 10_000, 480, 2),
            (16_000, 5_000, 240, 4),
            (96_000, 1_000, 48, 20),
            (48_000, 13_000, 624, 2),
            (48_000, 100_000, 4800, 1),
        ] {
            let form = Packets::new(format(rate_hz, 2, micros), 96_000).unwrap();
            assert_eq!((form.hop_format().block_frames, form.blocks()), (block_frames, blocks), "{rate_hz} {micros}");
            assert!(form.pre_skip > 0);
        }
        let refusal = |format| check(PublishFormat::Opus { bits_per_second: 96_000 }, format).unwrap_err().to_string();
        assert_eq!(
            refusal(format(48_000, 6, 10_000)),
            "cannot publish as Opus: it carries 1 or 2 channels, and the source has 6 (set --publish-format exact)"
        );
        for (rate_hz, micros, frames, millis) in
            [(44_100, 5_000, 221, 10), (22_050, 10_000, 221, 20), (11_025, 10_000, 110, 40)]
        {
            let refused = refusal(format(rate_hz, 2, micros));
            assert!(
                refused.contains(&format!("a block of {frames} frames at {rate_hz} Hz is no whole number of frames"))
                    && refused.contains(&format!("choose another --block, such as {millis}ms, or")),
                "{refused}"
            );
            check(PublishFormat::Opus { bits_per_second: 96_000 }, format(rate_hz, 2, millis * 1000)).unwrap();
        }
        assert!(check(PublishFormat::Exact, format(44_100, 6, 5_000)).is_ok());
    }
}
