//! Cuts the packets of an encoder into segments, on a grid of the stream's own positions.
//!
//! A segment holds the samples that begin in its span, so its number and its sound follow from the stream alone, whenever somebody begins
//! to ask. Sound that is missing becomes silence. So a player's clock stays true, and a segment is always whole.

use std::time::Duration;

use aircheck_engine::{Item, Timestamp};
use bytes::Bytes;

use crate::rendition::codec::{CodecError, FlacEncoder};
use crate::rendition::container::mp4::{Coding, Fragment};
use crate::rendition::container::ogg::packets_in_pages;
use crate::rendition::packet::{Packet, Wire};
use crate::sink::hls::variant::Recipe;
use crate::sink::hls::window::{LISTED, SEGMENT_SPAN, Segment};

/// The longest hole that is filled, in segments. After a longer one, nothing of what was before is in the playlist any more.
const MAX_FILLED: u64 = LISTED as u64;
/// The configurations of packets with one fullband frame of CELT, from 2.5 ms on (RFC 6716, section 3.1), as they stand in the first byte.
const CELT_FULLBAND: u8 = 28 << 3;
/// The flag in that byte for stereo.
const STEREO: u8 = 1 << 2;
/// A frame of CELT that says no more than that it is silent (RFC 6716, section 4.3).
const SILENT_FRAME: [u8; 2] = [0xFF, 0xFE];

/// Makes segments from packets.
#[derive(Debug)]
pub(super) struct Segmenter {
    recipe: Recipe,
    silence: Silence,
    /// Length of a segment in frames of the track.
    grid: u64,
    /// The first number that may be made.
    from: u64,
    /// Where the next sample is expected.
    expected: Option<u64>,
    open: Option<Open>,
}

/// A segment that is being made.
#[derive(Debug)]
struct Open {
    number: u64,
    captured_at: Timestamp,
    fragment: Fragment,
}

/// The silence in place of a missing sample.
#[derive(Debug)]
enum Silence {
    Opus([u8; 3]),
    Flac { encoder: Box<FlacEncoder>, samples: Vec<f32> },
}

/// A moment of the capture, and the position of the track that it belongs to.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    at: Timestamp,
    /// In nanoseconds since the start of the stream.
    position: i128,
}

impl Segmenter {
    /// Makes the segments from number `from` on.
    pub(super) fn new(recipe: Recipe, from: u64) -> Result<Self, CodecError> {
        let silence = match recipe.track.coding {
            Coding::Opus { .. } => {
                let length = u64::from(recipe.sample_frames / 120).max(1).ilog2() as u8;
                let stereo = if recipe.track.channels > 1 { STEREO } else { 0 };
                Silence::Opus([(CELT_FULLBAND + (length << 3)) | stereo, SILENT_FRAME[0], SILENT_FRAME[1]])
            }
            Coding::Flac { bits, .. } => Silence::Flac {
                encoder: Box::new(FlacEncoder::new(recipe.format, bits.into())?),
                samples: vec![0.0; recipe.format.block_samples()],
            },
        };
        let grid = SEGMENT_SPAN.as_secs() * u64::from(recipe.track.rate_hz);
        Ok(Self { recipe, silence, grid, from, expected: None, open: None })
    }

    /// Takes a packet, and appends the segments that are whole with it.
    pub(super) fn push(&mut self, packet: &Item<Packet>, made: &mut Vec<Segment>) {
        let (stamp, format) = (packet.stamp, self.recipe.format);
        let position = nanos(format.position(stamp.sequence), format.rate_hz());
        self.push_samples(packet, Anchor { at: stamp.captured_at, position }, stamp.first(), made);
    }

    /// Takes the packet after the last block, if there is one, and ends the stream: the segment that is being made is complete.
    pub(super) fn finish(&mut self, tail: Option<&Packet>, made: &mut Vec<Segment>) {
        if let Some((tail, open)) = tail.zip(self.open.as_ref()) {
            let anchor = Anchor { at: open.captured_at, position: self.time_of_sound(open.number * self.grid) };
            self.push_samples(tail, anchor, 0, made);
        }
        self.close(made);
    }

    /// Takes the samples of a packet whose first block has the number `first`.
    fn push_samples(&mut self, packet: &Packet, anchor: Anchor, first: u64, made: &mut Vec<Segment>) {
        let sample_frames = self.recipe.sample_frames;
        match self.recipe.track.coding {
            Coding::Opus { .. } => {
                for sample in packets_in_pages(packet, sample_frames) {
                    self.add(sample.position, sample.frames, sample.bytes, anchor, made);
                }
            }
            Coding::Flac { .. } => {
                let bytes = &packet.bytes(Wire::Chunked)[packet.payload(Wire::Chunked)];
                let mut rest = bytes;
                for (sequence, frame) in (first..).zip(packet.frames()) {
                    let Some((sample, after)) = rest.split_at_checked(frame.bytes()) else { return };
                    rest = after;
                    self.add(self.recipe.format.position(sequence), sample_frames, sample, anchor, made);
                }
            }
        }
    }

    /// Adds a sample, after silence in place of those that are missing before it.
    fn add(&mut self, position: u64, frames: u32, sample: &[u8], anchor: Anchor, made: &mut Vec<Segment>) {
        match self.expected {
            Some(expected) if position > expected + MAX_FILLED * self.grid => self.open = None,
            Some(expected) => {
                let step = self.recipe.sample_frames;
                for missing in (expected..position).step_by(step as usize) {
                    let silence = self.silence.sample(missing / u64::from(step));
                    self.append(missing, step, &silence, anchor, made);
                }
            }
            None => {}
        }
        self.append(position, frames, sample, anchor, made);
    }

    fn append(&mut self, position: u64, frames: u32, sample: &[u8], anchor: Anchor, made: &mut Vec<Segment>) {
        let (number, into) = (position / self.grid, position % self.grid);
        self.expected = Some(position + u64::from(frames));
        if self.open.as_ref().is_some_and(|open| open.number != number) {
            self.close(made);
        }
        // No sample before this one begins in the same segment, so that will be whole.
        if self.open.is_none() && into < u64::from(self.recipe.sample_frames) && number >= self.from {
            let captured_at = anchor.at.offset_by((self.time_of_sound(position) - anchor.position) as i64);
            self.open = Some(Open { number, captured_at, fragment: Fragment::at(self.recipe.origin + position) });
        }
        let Some(open) = &mut self.open else { return };
        open.fragment.push(frames, sample);
        if position + u64::from(frames) >= (number + 1) * self.grid {
            self.close(made);
        }
    }

    /// Completes the segment that is being made, if one is.
    fn close(&mut self, made: &mut Vec<Segment>) {
        let Some(Open { number, captured_at, fragment }) = self.open.take() else { return };
        let span = Duration::from_nanos(nanos(fragment.frames(), self.recipe.track.rate_hz) as u64);
        match fragment.encode(number as u32) {
            Ok(bytes) => made.push(Segment { number, span, captured_at: captured_at.unix_nanos(), bytes }),
            // Not expected of it. The playlist begins anew behind the hole.
            Err(error) => tracing::error!("cannot write segment {number} of HLS: {error}"),
        }
    }

    /// Returns the time in the stream of the sound that a sample at this position decodes to, in nanoseconds.
    fn time_of_sound(&self, position: u64) -> i128 {
        let rate_hz = self.recipe.track.rate_hz;
        nanos(position, rate_hz) - nanos(self.recipe.track.delay().into(), rate_hz)
    }
}

/// Returns how long so many frames last, in nanoseconds.
fn nanos(frames: u64, rate_hz: u32) -> i128 {
    i128::from(frames) * 1_000_000_000 / i128::from(rate_hz)
}

impl Silence {
    /// Returns the sample with this number.
    fn sample(&mut self, number: u64) -> Bytes {
        match self {
            Self::Opus(packet) => Bytes::copy_from_slice(packet),
            // Without a frame where the encoder fails, which is not expected of it.
            Self::Flac { encoder, samples } => encoder.encode(number, samples).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests;
