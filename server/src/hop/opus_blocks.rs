//! From packets of Opus to blocks, each sample in its place.
//!
//! A decoder gives the sound of a packet late: by the delay of the encoder, which each message tells. So a block is whole once there is
//! sound up to its end and that delay. Its last frames are in the next message; where that is lost, the block is lost with it, and counted,
//! because nothing is made up here. The first frames that a decoder gives after a hole are of the time before, by the same delay, and are
//! left out, so all sound that goes on is of packets that have come.

use std::collections::VecDeque;

use opus::{Channels, Decoder};

use super::arrival::Arrival;
use super::message::packets::{MAX_PACKET_FRAMES, OPUS_RATE_HZ, Packet};
use super::message::{HopFormat, MessageError};

/// The most sound that a decoder makes up for a hole. Nobody hears it: it tells the decoder that packets are missing, so that it does not take
/// the levels of the next one for changes of those before the hole. libopus fades it out within as long.
const MAX_CONCEALED_FRAMES: u64 = 4800;
/// Blocks may wait for their sound, and sound for its block, for as long: far longer than any encoder's delay.
const MAX_AWAITED_FRAMES: u64 = OPUS_RATE_HZ as u64;

/// The decoder of one encoder's packets, and the blocks that wait for their sound.
pub struct OpusBlocks {
    decoder: Decoder,
    channels: usize,
    block_frames: u64,
    /// Frames by which the decoded sound is older than the positions of packets.
    pre_skip: u64,
    awaited: VecDeque<Arrival>,
    /// Decoded sound that goes on without a hole, and the position of its first frame.
    sound: Vec<f32>,
    start: u64,
    /// Frames of the last packet, and whether one was lost since then.
    packet_frames: u64,
    has_hole: bool,
    /// Blocks that came and are not whole, before the next one that is.
    broken: u64,
    decoded: Vec<f32>,
}

/// A block whose turn it is. It has no samples if a part of its sound is lost.
pub type Decoded = (Arrival, Option<Vec<f32>>);

impl OpusBlocks {
    /// Makes a decoder of blocks of this format, from an encoder with this delay.
    ///
    /// # Errors
    ///
    /// When libopus has none for it.
    pub fn new(format: HopFormat, pre_skip: u16) -> Result<Self, MessageError> {
        let layout = if format.channels == 1 { Channels::Mono } else { Channels::Stereo };
        let no_decoder = |_| MessageError::Malformed("there is no decoder of Opus for it");
        let channels = usize::from(format.channels);
        Ok(Self {
            decoder: Decoder::new(OPUS_RATE_HZ, layout).map_err(no_decoder)?,
            channels,
            block_frames: format.block_frames.into(),
            pre_skip: pre_skip.into(),
            awaited: VecDeque::new(),
            sound: Vec::new(),
            start: 0,
            packet_frames: 0,
            has_hole: false,
            broken: 0,
            decoded: vec![0.0; MAX_PACKET_FRAMES * channels],
        })
    }

    /// Returns the delay of the encoder, in frames at 48 kHz.
    #[must_use]
    pub fn pre_skip(&self) -> u16 {
        self.pre_skip as u16
    }

    /// Takes the blocks and packets of the next message, and returns the blocks whose turn it is now, in their order. Where blocks were lost
    /// before the message, its first block says how many.
    pub fn push(&mut self, arrivals: impl Iterator<Item = Arrival>, packets: &[Packet<'_>]) -> Vec<Decoded> {
        let mut ready = Vec::new();
        let waiting = self.awaited.len();
        self.awaited.extend(arrivals);
        self.has_hole |= self.awaited.get(waiting).is_some_and(|first| first.lost_on_hop > 0);
        for packet in packets {
            self.decode(packet);
            self.take_whole(&mut ready);
        }
        let most = MAX_AWAITED_FRAMES.div_ceil(self.block_frames) as usize;
        while self.awaited.len() > most {
            self.give_up_first(&mut ready);
        }
        ready
    }

    /// Returns the block with the end of the stream, if that is not a whole one. Blocks without sound are lost.
    pub fn finish(&mut self) -> Vec<Decoded> {
        let mut ready = Vec::new();
        if let Some(last) = self.awaited.front().copied()
            && let Some(samples) = self.sound_from(&last)
        {
            self.awaited.pop_front();
            ready.push((self.with_losses(last), Some(samples)));
        }
        while !self.awaited.is_empty() {
            self.give_up_first(&mut ready);
        }
        ready
    }

    /// Gives up the blocks that wait, and returns them, with the number of blocks that are lost before the next one.
    pub fn give_up(mut self) -> (Vec<Decoded>, u64) {
        let mut waiting = Vec::new();
        while !self.awaited.is_empty() {
            self.give_up_first(&mut waiting);
        }
        (waiting, self.broken)
    }

    /// Returns all sound from the beginning of a block on; `None` if there is none.
    fn sound_from(&self, block: &Arrival) -> Option<Vec<f32>> {
        let from = usize::try_from(self.offset_of(block)).ok()?.saturating_mul(self.channels);
        self.sound.get(from..).filter(|samples| !samples.is_empty()).map(<[f32]>::to_vec)
    }

    /// Appends the sound of a packet. After a hole, or a jump of the publisher's own, it begins anew.
    fn decode(&mut self, packet: &Packet<'_>) {
        let jump = packet.position.wrapping_sub(self.end());
        if std::mem::take(&mut self.has_hole) && jump > 0 {
            self.conceal(jump);
        }
        let Ok(frames) = self.decoder.decode_float(packet.bytes, &mut self.decoded, false) else {
            // Not expected of a packet that could be read. It counts as one that has not come.
            self.has_hole = true;
            return;
        };
        self.packet_frames = frames as u64;
        if jump > 0 || self.sound.len() as u64 > MAX_AWAITED_FRAMES * self.channels as u64 {
            self.sound.clear();
            self.start = packet.position;
        }
        let counted = frames.min(packet.frames.into()) * self.channels;
        self.sound.extend_from_slice(&self.decoded[..counted]);
    }

    /// Lets the decoder go through a hole of so many frames.
    fn conceal(&mut self, frames: u64) {
        let step = self.packet_frames as usize * self.channels;
        let packets = frames.min(MAX_CONCEALED_FRAMES).checked_div(self.packet_frames).unwrap_or_default();
        for _ in 0..packets {
            // If it cannot, it is in no worse a state than before.
            let _ = self.decoder.decode_float(&[], &mut self.decoded[..step], false);
        }
    }

    /// Takes the blocks that are whole, and those that cannot be any more.
    fn take_whole(&mut self, ready: &mut Vec<Decoded>) {
        while let Some(first) = self.awaited.front().copied() {
            let Ok(from) = usize::try_from(self.offset_of(&first)) else {
                self.give_up_first(ready);
                continue;
            };
            let [from, to] =
                [from, from.saturating_add(self.block_frames as usize)].map(|at| at.saturating_mul(self.channels));
            let Some(samples) = self.sound.get(from..to).map(<[f32]>::to_vec) else { break };
            self.awaited.pop_front();
            self.sound.drain(..to);
            self.start = self.start.wrapping_add((to / self.channels) as u64);
            ready.push((self.with_losses(first), Some(samples)));
        }
    }

    fn give_up_first(&mut self, ready: &mut Vec<Decoded>) {
        let Some(first) = self.awaited.pop_front() else { return };
        self.broken = self.broken.saturating_add(first.lost_on_hop).saturating_add(1);
        ready.push((first, None));
    }

    /// Returns the block with all that was lost directly before it.
    fn with_losses(&mut self, block: Arrival) -> Arrival {
        let broken = std::mem::take(&mut self.broken);
        Arrival { lost_on_hop: block.lost_on_hop.saturating_add(broken), ..block }
    }

    /// Returns where the sound of a block begins in what is decoded, in frames; less than 0 if that begins later. Positions are
    /// numbers modulo 2^64.
    fn offset_of(&self, block: &Arrival) -> i64 {
        let position = block.sequence.wrapping_mul(self.block_frames).wrapping_add(self.pre_skip);
        position.wrapping_sub(self.start) as i64
    }

    fn end(&self) -> u64 {
        self.start.wrapping_add((self.sound.len() / self.channels) as u64)
    }
}

impl std::fmt::Debug for OpusBlocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpusBlocks").field("start", &self.start).field("awaited", &self.awaited).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
