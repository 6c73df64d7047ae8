//! The messages of the hop, byte for byte.
//!
//! All numbers are little-endian. A message with a block, on the published subject:
//!
//! | bytes | what |
//! |---|---|
//! | 0 to 3 | `AIRC` |
//! | 4 | version: 1; 2 if the sound is Opus, which airchecks that know version 1 alone do not take |
//! | 5 | coding of the sound: 1 = samples, `f32`, 2 = samples, `s16`, as in the messages of a WebSocket; 4 = Opus; 0 = none: the publisher announces its format; 3 = the message is a title, which `title.rs` documents |
//! | 6 | where the sound comes from: 0 = the source, 1 = nowhere (silence, lost by the source), 2 = the fallback, 3 = nowhere (silence, lost on the hop to the publisher) |
//! | 7 | channels, 1 to 32 |
//! | 8 to 11 | frames per second; 48,000 for Opus |
//! | 12 to 15 | frames per block of the stream |
//! | 16 to 19 | frames in this message: those of a block, fewer only in the last block of a stream. For Opus, those of all blocks that the message stands for; none if it ends the stream with what the codec has held back |
//! | 20 to 21 | Opus: frames by which the sound of a packet is older than its position, the delay of encoder and resampler; else 0 |
//! | 22 to 23 | 0 |
//! | 24 to 31 | epoch: a number of this run of the publisher's mount, larger in each later run |
//! | 32 to 39 | serial number of the first block: counts the blocks that the publisher had, sent or not; one that is missing was lost on the hop |
//! | 40 to 47 | sequence number of the first block; one that is missing while no serial number is was lost before |
//! | 48 to 55 | when the first frame of the first block was captured, in ns on the publisher's clock, which never jumps and was Unix time when it started |
//! | 56 to 63 | when the message was sent, on the same clock |
//! | 64 to the end | interleaved samples, or the packets of Opus that were completed by these blocks, as `message/packets.rs` documents them |
//!
//! The sound of a block of Opus is whole once packets reach beyond its end by the delay, so its last frames come with the next message.
//!
//! A publisher answers requests on the subject with `.clock` after it, so that others can compare their clocks with its own. What the
//! request has is not read. The answer:
//!
//! | bytes | what |
//! |---|---|
//! | 0 to 3 | `AIRC` |
//! | 4 | version: 1 |
//! | 5 to 7 | 0 |
//! | 8 to 15 | epoch |
//! | 16 to 23 | when the request came, on the publisher's clock |
//! | 24 to 31 | when the answer was sent |
//! | 32 to the end | the title of the block that was sent last, if there is one, as `title.rs` documents it |

pub mod packets;

use aircheck_engine::source::PcmEncoding;
use aircheck_engine::{Format, Origin};

use self::packets::{OPUS_RATE_HZ, Packet, read_packets};

/// The version of the messages.
pub const VERSION: u8 = 1;
/// The version of those with Opus.
pub const OPUS_VERSION: u8 = 2;
/// The first bytes of each message.
pub(super) const MAGIC: [u8; 4] = *b"AIRC";
/// Bytes before the samples.
pub const HEAD_BYTES: usize = 64;
/// Bytes of the answer about the clock.
const CLOCK_BYTES: usize = 32;
/// The most bytes of a message: a block of 100 ms at 768 kHz with 32 channels of floats is 9.8 MB.
pub const MAX_BYTES: usize = 16 << 20;
/// The most frames of Opus in a message: a second. Publishers send 20 ms, or a block if that is longer.
const MAX_OPUS_FRAMES: u32 = OPUS_RATE_HZ;
/// The highest sequence number is below this, because the engine has no higher ones.
const MAX_SEQUENCE: u64 = 1 << 58;

/// What a message says of its block, or its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// How the sound is coded; `None` if there is none.
    pub coding: Option<Coding>,
    /// Where the sound comes from.
    pub origin: Origin,
    /// Rate, channels and frames per block of the stream.
    pub format: HopFormat,
    /// Frames in this message.
    pub frames: u32,
    /// The run of the publisher's mount.
    pub epoch: u64,
    /// Number of the first block among those that the publisher had.
    pub serial: u64,
    /// Number of the first block in the publisher's stream.
    pub sequence: u64,
    /// When its first frame was captured, in ns on the publisher's clock.
    pub captured_nanos: u64,
    /// When it was sent, in ns on the same clock.
    pub sent_nanos: u64,
}

impl Head {
    /// Returns how many blocks the message stands for: none if it announces a format or ends a stream.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        match self.coding {
            None => 0,
            Some(Coding::Samples(_)) => 1,
            Some(Coding::Opus { .. }) => u64::from(self.frames) / u64::from(self.format.block_frames.max(1)),
        }
    }
}

/// Rate, channels and frames per block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HopFormat {
    /// Frames per second.
    pub rate_hz: u32,
    /// Samples per frame.
    pub channels: u16,
    /// Frames per block.
    pub block_frames: u32,
}

/// The coding of the sound in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Samples, as they are.
    Samples(SampleEncoding),
    /// Packets of Opus.
    Opus {
        /// Frames at 48 kHz by which the sound of a packet is older than its position.
        pre_skip: u16,
    },
}

/// The encoding of the samples in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleEncoding {
    /// Floats of 32 bits.
    F32,
    /// Integers of 16 bits.
    S16,
}

/// The reason why a message is not one that this version takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// It has another version.
    #[error(
        "it is of version {0}, and this server takes versions {VERSION} and {OPUS_VERSION} (run the same version of aircheck on both sides)"
    )]
    Version(u8),
    /// It is no message of the hop, or damaged.
    #[error("{0} (publish nothing else on the subject)")]
    Malformed(&'static str),
}

impl HopFormat {
    /// Returns the format of blocks.
    ///
    /// # Errors
    ///
    /// When there is no such format.
    pub fn to_format(self) -> Result<Format, MessageError> {
        let Self { rate_hz, channels, block_frames } = self;
        let nanos = (u64::from(block_frames) * 1_000_000_000).checked_div(rate_hz.into()).unwrap_or_default();
        let format = Format::new(rate_hz, channels, std::time::Duration::from_nanos(nanos));
        let format =
            format.map_err(|_| MessageError::Malformed("its rate, channels or block length are out of range"))?;
        // The length in whole ns may be one frame off at odd rates.
        if format.block_frames() == block_frames {
            Ok(format)
        } else {
            Err(MessageError::Malformed("its block length is out of range"))
        }
    }
}

impl From<Format> for HopFormat {
    fn from(format: Format) -> Self {
        Self { rate_hz: format.rate_hz(), channels: format.channels(), block_frames: format.block_frames() }
    }
}

impl SampleEncoding {
    /// Returns the encoding in which no sample changes: `s16` for sources of 16 bits or fewer.
    #[must_use]
    pub fn exact_for(sample_bits: Option<u16>) -> Self {
        if sample_bits.is_some_and(|bits| bits <= 16) { Self::S16 } else { Self::F32 }
    }

    /// Returns the bits of a sample, if it is an integer.
    #[must_use]
    pub fn sample_bits(self) -> Option<u16> {
        (self == Self::S16).then_some(16)
    }

    const fn sample_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::S16 => 2,
        }
    }
}

impl Coding {
    /// Returns its name in one word.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Samples(SampleEncoding::F32) => "f32",
            Self::Samples(SampleEncoding::S16) => "s16",
            Self::Opus { .. } => "opus",
        }
    }

    /// Returns the bits of a sample, if it is an integer.
    #[must_use]
    pub fn sample_bits(self) -> Option<u16> {
        match self {
            Self::Samples(encoding) => encoding.sample_bits(),
            Self::Opus { .. } => None,
        }
    }

    /// Returns the version of its messages, and its code in them.
    const fn code(this: Option<Self>) -> (u8, u8) {
        match this {
            None => (VERSION, 0),
            Some(Self::Samples(SampleEncoding::F32)) => (VERSION, 1),
            Some(Self::Samples(SampleEncoding::S16)) => (VERSION, 2),
            Some(Self::Opus { .. }) => (OPUS_VERSION, 4),
        }
    }

    fn from_code(version: u8, code: u8, pre_skip: u16) -> Result<Option<Self>, MessageError> {
        match (version, code) {
            (VERSION, 0) => Ok(None),
            (VERSION, 1) => Ok(Some(Self::Samples(SampleEncoding::F32))),
            (VERSION, 2) => Ok(Some(Self::Samples(SampleEncoding::S16))),
            (OPUS_VERSION, 4) => Ok(Some(Self::Opus { pre_skip })),
            _ => Err(MessageError::Malformed("its sound has an unknown coding")),
        }
    }
}

fn origin_code(origin: Origin) -> u8 {
    match origin {
        Origin::Missing => 1,
        Origin::Fallback => 2,
        Origin::Hop => 3,
        _ => 0,
    }
}

fn origin_from(code: u8) -> Result<Origin, MessageError> {
    match code {
        0 => Ok(Origin::Source),
        1 => Ok(Origin::Missing),
        2 => Ok(Origin::Fallback),
        3 => Ok(Origin::Hop),
        _ => Err(MessageError::Malformed("its sound has an unknown origin")),
    }
}

/// Returns the bytes of a message with these samples, which are none if the head has no coding of samples.
#[must_use]
pub fn write(head: &Head, samples: &[f32]) -> Vec<u8> {
    let Some(Coding::Samples(encoding)) = head.coding else { return write_head(head, 0) };
    let mut bytes = write_head(head, encoding.sample_bytes() * samples.len());
    match encoding {
        SampleEncoding::F32 => PcmEncoding::F32Le.encode(samples, &mut bytes),
        SampleEncoding::S16 => PcmEncoding::S16Le.encode(samples, &mut bytes),
    }
    bytes
}

/// Returns the bytes of a message with these packets of Opus.
#[must_use]
pub fn write_packets<'p>(head: &Head, packets: impl Iterator<Item = Packet<'p>>) -> Vec<u8> {
    let mut bytes = write_head(head, 0);
    packets.for_each(|packet| packet.append_to(&mut bytes));
    bytes
}

/// Returns the bytes of a head, with room for so many more.
fn write_head(head: &Head, body_bytes: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + body_bytes);
    let (version, code) = Coding::code(head.coding);
    let pre_skip = if let Some(Coding::Opus { pre_skip }) = head.coding { pre_skip } else { 0 };
    bytes.extend(MAGIC);
    bytes.extend([version, code, origin_code(head.origin), head.format.channels as u8]);
    let words = [head.format.rate_hz, head.format.block_frames, head.frames, pre_skip.into()];
    bytes.extend(words.iter().flat_map(|it| it.to_le_bytes()));
    let numbers = [head.epoch, head.serial, head.sequence, head.captured_nanos, head.sent_nanos];
    bytes.extend(numbers.iter().flat_map(|it| it.to_le_bytes()));
    bytes
}

/// Returns the bytes of a message with a whole block.
#[must_use]
pub fn bytes_of_block(format: HopFormat, encoding: SampleEncoding) -> usize {
    HEAD_BYTES + format.block_frames as usize * usize::from(format.channels) * encoding.sample_bytes()
}

/// Reads a message. Its sound is left where it is, for [`read_samples`] or [`read_packets`].
///
/// # Errors
///
/// When it has another version, or is no message of the hop.
pub fn read(bytes: &[u8]) -> Result<(Head, &[u8]), MessageError> {
    let malformed = |why| Err(MessageError::Malformed(why));
    let Some((version, _)) = bytes.strip_prefix(&MAGIC).and_then(|rest| rest.split_first()) else {
        return malformed("it is not from an aircheck server");
    };
    if ![VERSION, OPUS_VERSION].contains(version) {
        return Err(MessageError::Version(*version));
    }
    let Some((head, body)) = bytes.split_first_chunk::<HEAD_BYTES>() else {
        return malformed("it is too short");
    };
    if bytes.len() > MAX_BYTES {
        return malformed("it is too long");
    }
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let number = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
    let head = Head {
        coding: Coding::from_code(*version, head[5], u16::from_le_bytes([head[20], head[21]]))?,
        origin: origin_from(head[6])?,
        format: HopFormat { channels: head[7].into(), rate_hz: word(8), block_frames: word(12) },
        frames: word(16),
        epoch: number(24),
        serial: number(32),
        sequence: number(40),
        captured_nanos: number(48),
        sent_nanos: number(56),
    };
    head.format.to_format()?;
    if head.sequence >= MAX_SEQUENCE {
        return malformed("its sequence number is out of range");
    }
    let is_right = match head.coding {
        Some(Coding::Samples(encoding)) => {
            let samples = head.frames as usize * usize::from(head.format.channels);
            (1..=head.format.block_frames).contains(&head.frames) && body.len() == samples * encoding.sample_bytes()
        }
        Some(Coding::Opus { .. }) => {
            if head.format.rate_hz != OPUS_RATE_HZ || head.format.channels > 2 {
                return malformed("its rate or channels are none of Opus");
            }
            if read_packets(body).is_none() {
                return malformed("its packets are no Opus");
            }
            head.frames <= MAX_OPUS_FRAMES && head.frames.is_multiple_of(head.format.block_frames)
        }
        None => head.frames == 0 && body.is_empty(),
    };
    if !is_right {
        return malformed("its length is not that of its frames");
    }
    Ok((head, body))
}

/// Decodes the samples of a message into `samples`, which is emptied before.
pub fn read_samples(encoding: SampleEncoding, bytes: &[u8], samples: &mut Vec<f32>) {
    samples.clear();
    match encoding {
        SampleEncoding::F32 => {
            samples.extend(bytes.chunks_exact(4).map(|it| f32::from_le_bytes([it[0], it[1], it[2], it[3]])));
        }
        SampleEncoding::S16 => {
            samples.extend(bytes.chunks_exact(2).map(|it| f32::from(i16::from_le_bytes([it[0], it[1]])) / 32_768.0));
        }
    }
}

/// The answer of a publisher about its clock, in ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockAnswer {
    /// The run of the publisher's mount.
    pub epoch: u64,
    /// When the request came.
    pub received_nanos: u64,
    /// When the answer was sent.
    pub sent_nanos: u64,
}

impl ClockAnswer {
    /// Returns its bytes.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(CLOCK_BYTES);
        bytes.extend(MAGIC);
        bytes.extend([VERSION, 0, 0, 0]);
        bytes.extend([self.epoch, self.received_nanos, self.sent_nanos].iter().flat_map(|it| it.to_le_bytes()));
        bytes
    }

    /// Reads an answer, and returns what follows it; `None` for anything else.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (bytes, following) = bytes.split_first_chunk::<CLOCK_BYTES>()?;
        let (magic, rest) = bytes.split_first_chunk::<4>()?;
        let number = |at: usize| bytes[at..at + 8].try_into().map(u64::from_le_bytes).ok();
        let answer = Self { epoch: number(8)?, received_nanos: number(16)?, sent_nanos: number(24)? };
        (*magic == MAGIC && rest[0] == VERSION).then_some((answer, following))
    }
}

/// Returns the subject on which the publisher of `subject` tells of its clock.
#[must_use]
pub fn clock_subject(subject: &str) -> String {
    format!("{subject}.clock")
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: HopFormat = HopFormat { rate_hz: 48_000, channels: 2, block_frames: 480 };

    fn head() -> Head {
        Head {
            coding: Some(Coding::Samples(SampleEncoding::F32)),
            origin: Origin::Source,
            format: FORMAT,
            frames: 480,
            epoch: 0x0102_0304_0506_0708,
            serial: 0x1112_1314_1516_1718,
            sequence: 0x0022_2324_2526_2728,
            captured_nanos: 0x3132_3334_3536_3738,
            sent_nanos: 0x4142_4344_4546_4748,
        }
    }

    #[test]
    fn a_message_has_the_bytes_that_are_documented() {
        let bytes = write(
            &Head { coding: Some(Coding::Samples(SampleEncoding::S16)), frames: 1, origin: Origin::Fallback, ..head() },
            &[0.5, -1.0],
        );
        let expected = [
            b"AIRC".as_slice(),
            &[1, 2, 2, 2],
            &[0x80, 0xbb, 0, 0, 0xe0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
            &[8, 7, 6, 5, 4, 3, 2, 1],
            &[0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11],
            &[0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0],
            &[0x38, 0x37, 0x36, 0x35, 0x34, 0x33, 0x32, 0x31],
            &[0x48, 0x47, 0x46, 0x45, 0x44, 0x43, 0x42, 0x41],
            &[0, 0x40, 0, 0x80],
        ];
        assert_eq!(bytes, expected.concat());
    }

    /// A packet of 20 ms, and the message with it that stands for two blocks.
    const PACKET: Packet<'static> = Packet { position: 960, frames: 960, bytes: &[31 << 3, 7] };

    fn opus_message() -> Vec<u8> {
        let head = Head { coding: Some(Coding::Opus { pre_skip: 312 }), frames: 960, ..head() };
        write_packets(&head, [PACKET].into_iter())
    }

    #[test]
    fn a_message_of_opus_is_one_of_version_2_and_stands_for_its_blocks() {
        let bytes = opus_message();
        assert_eq!(bytes[..8], *b"AIRC\x02\x04\0\x02");
        assert_eq!(bytes[8..24], [0x80, 0xbb, 0, 0, 0xe0, 1, 0, 0, 0xc0, 3, 0, 0, 0x38, 1, 0, 0]);
        let (read_head, body) = read(&bytes).unwrap();
        assert_eq!((read_head.blocks(), read_packets(body)), (2, Some(vec![PACKET])));
        let last = Head { frames: 0, ..read_head };
        assert_eq!(read(&write_packets(&last, [PACKET].into_iter())).unwrap().0.blocks(), 0);
    }

    #[test]
    fn every_message_comes_out_as_it_went_in() {
        let samples: Vec<f32> = (0..960).map(|n| (n as f32 - 480.0) / 512.0).collect();
        let origins = [Origin::Source, Origin::Missing, Origin::Fallback, Origin::Hop];
        for encoding in [SampleEncoding::F32, SampleEncoding::S16] {
            for origin in origins {
                let written = Head { coding: Some(Coding::Samples(encoding)), origin, ..head() };
                let bytes = write(&written, &samples);
                let (read_head, body) = read(&bytes).unwrap();
                let mut read_back = Vec::new();
                read_samples(encoding, body, &mut read_back);
                assert_eq!((read_head, &read_back), (written, &samples), "samples of 10 bits fit into both");
            }
        }
        let announcement = Head { coding: None, frames: 0, ..head() };
        assert_eq!(read(&write(&announcement, &[])), Ok((announcement, &[][..])));
        let answer = ClockAnswer { epoch: 7, received_nanos: 8, sent_nanos: 9 };
        let bytes = [&answer.to_bytes()[..], b"title"].concat();
        assert_eq!(ClockAnswer::read(&bytes), Some((answer, &b"title"[..])));
        assert_eq!(ClockAnswer::read(&answer.to_bytes()[1..]), None);
    }

    #[test]
    fn what_is_no_message_is_told() {
        let good = write(&head(), &[0.25; 960]);
        let changed = |at: usize, to: u8| {
            let mut bytes = good.clone();
            bytes[at] = to;
            read(&bytes).map(|_| ()).unwrap_err()
        };
        let malformed = MessageError::Malformed;
        assert_eq!(read(b"").unwrap_err(), malformed("it is not from an aircheck server"));
        assert_eq!(read(b"AIRC").unwrap_err(), malformed("it is not from an aircheck server"));
        assert_eq!(changed(0, b'a'), malformed("it is not from an aircheck server"));
        assert_eq!(read(b"AIRC\x03").unwrap_err(), MessageError::Version(3), "whatever follows");
        assert_eq!(read(b"AIRC\x01").unwrap_err(), malformed("it is too short"));
        for (at, to) in [(5, 3), (5, 4), (4, 2)] {
            assert_eq!(changed(at, to), malformed("its sound has an unknown coding"), "{at}");
        }
        assert_eq!(changed(6, 4), malformed("its sound has an unknown origin"));
        for (at, to) in [(7, 0), (7, 33), (11, 1)] {
            assert_eq!(changed(at, to), malformed("its rate, channels or block length are out of range"), "{at}");
        }
        assert_eq!(changed(47, 4), malformed("its sequence number is out of range"));
        for (at, to) in [(5, 2), (5, 0), (7, 1), (16, 0), (17, 2), (17, 0)] {
            assert_eq!(changed(at, to), malformed("its length is not that of its frames"), "{at} {to}");
        }
        let opus = opus_message();
        for (at, to, why) in [
            (9, 0x7d, "its rate or channels are none of Opus"),
            (7, 3, "its rate or channels are none of Opus"),
            (74, 0, "its packets are no Opus"),
            (16, 0xc1, "its length is not that of its frames"),
            (18, 1, "its length is not that of its frames"),
            (4, 1, "its sound has an unknown coding"),
        ] {
            let mut bytes = opus.clone();
            bytes[at] = to;
            assert_eq!(read(&bytes).unwrap_err(), malformed(why), "{at}");
        }
        let long = [good.clone(), vec![0; MAX_BYTES]].concat();
        assert_eq!(read(&long).unwrap_err(), malformed("it is too long"));
    }
}
