//! Fragmented MP4 (ISO/IEC 14496-12) with one track of sound: a header, and fragments of some seconds each.
//!
//! Opus lies in it as the Opus project's *Encapsulation of Opus in ISO Base Media File Format* has it, FLAC as Xiph's
//! *Encapsulation of FLAC in ISO Base Media File Format*. A position of the track is one of the stream, in frames of the
//! track's rate.

use bytes::Bytes;
use mp4_atom::{
    Audio, Codec, Dfla, Dinf, Dops, Dref, Edts, Elst, ElstEntry, Encode as _, Flac, FlacMetadataBlock, Ftyp, Hdlr,
    Mdhd, Mdia, Mfhd, Minf, Moof, Moov, Mvex, Mvhd, Opus, Smhd, Stbl, Stco, Stsd, Tfdt, Tfhd, Tkhd, Traf, Trak, Trex,
    Trun, TrunEntry, Url,
};

/// The only track.
const TRACK: u32 = 1;
/// Flags of a sample that depends on no other one (ISO/IEC 14496-12, section 8.8.3.1).
const INDEPENDENT: u32 = 0x0200_0000;
/// Bytes of the header of the box with the samples.
const MDAT_HEADER_BYTES: usize = 8;

/// The track of sound in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Track {
    /// The rate of the sound in Hz, in whose frames all positions and lengths are counted.
    pub rate_hz: u32,
    /// Its channels.
    pub channels: u8,
    /// What its samples are.
    pub coding: Coding,
}

/// What the samples of a track are: each is a packet of Opus, or a frame of FLAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Packets of Opus.
    Opus {
        /// Delay of the encoder in frames: the sound of a packet is so much older than its position.
        pre_skip: u16,
        /// The source's rate, which is information only.
        input_rate_hz: u32,
    },
    /// Frames of FLAC.
    Flac {
        /// Bits of a sample.
        bits: u8,
        /// Length of a frame of FLAC.
        block_frames: u16,
    },
}

impl Track {
    /// Returns the header that each player needs before its first fragment.
    ///
    /// # Errors
    ///
    /// Only when the library fails, which is not expected of it.
    pub fn header(&self) -> Result<Bytes, mp4_atom::Error> {
        let mut bytes = Vec::new();
        let brands = [b"iso6", b"mp41"];
        Ftyp { major_brand: b"iso6".into(), minor_version: 0, compatible_brands: brands.map(Into::into).into() }
            .encode(&mut bytes)?;
        let Self { rate_hz, .. } = *self;
        let stbl = Stbl {
            stsd: Stsd { codecs: vec![self.codec()?] },
            // Without samples: those are in the fragments.
            stco: Some(Stco::default()),
            ..Stbl::default()
        };
        let minf = Minf {
            smhd: Some(Smhd::default()),
            dinf: Dinf { dref: Dref { entries: vec![Url::default().into()] } },
            stbl,
            ..Minf::default()
        };
        let mdia = Mdia {
            mdhd: Mdhd { timescale: rate_hz, language: "und".to_owned(), ..Mdhd::default() },
            hdlr: Hdlr { handler: b"soun".into(), name: String::new() },
            minf,
        };
        let tkhd = Tkhd { track_id: TRACK, enabled: true, in_movie: true, volume: 1.into(), ..Tkhd::default() };
        let trex = Trex { track_id: TRACK, default_sample_description_index: 1, ..Trex::default() };
        let moov = Moov {
            mvhd: Mvhd {
                timescale: rate_hz,
                rate: 1.into(),
                volume: 1.into(),
                next_track_id: TRACK + 1,
                ..Mvhd::default()
            },
            mvex: Some(Mvex { mehd: None, trex: vec![trex] }),
            trak: vec![Trak { tkhd, edts: self.edit(), mdia, ..Trak::default() }],
            ..Moov::default()
        };
        moov.encode(&mut bytes)?;
        Ok(bytes.into())
    }

    fn codec(&self) -> Result<Codec, mp4_atom::Error> {
        let Self { rate_hz, channels, coding } = *self;
        let audio = |sample_size: u8, rate: u16| Audio {
            data_reference_index: 1,
            channel_count: channels.into(),
            sample_size: sample_size.into(),
            sample_rate: rate.into(),
        };
        Ok(match coding {
            Coding::Opus { pre_skip, input_rate_hz } => {
                let dops = Dops {
                    output_channel_count: channels,
                    pre_skip,
                    input_sample_rate: input_rate_hz,
                    output_gain: 0,
                    channel_mapping: None,
                };
                Opus { audio: audio(16, 48_000), dops, btrt: None }.into()
            }
            Coding::Flac { bits, block_frames } => {
                let unknown = [0; 3].into();
                let block = FlacMetadataBlock::StreamInfo {
                    minimum_block_size: block_frames,
                    maximum_block_size: block_frames,
                    minimum_frame_size: unknown,
                    maximum_frame_size: unknown,
                    sample_rate: rate_hz,
                    num_channels_minus_one: channels.saturating_sub(1),
                    bits_per_sample_minus_one: bits.saturating_sub(1),
                    number_of_interchannel_samples: 0,
                    md5_checksum: vec![0; 16],
                };
                Flac { audio: audio(bits, expressible(rate_hz)), dfla: Dfla { blocks: vec![block] } }.into()
            }
        })
    }

    /// Returns the edit by which the sound of a packet is played when its own time has come, although the encoder delays it.
    fn edit(&self) -> Option<Edts> {
        let Coding::Opus { pre_skip, .. } = self.coding else { return None };
        let entry = ElstEntry { segment_duration: 0, media_time: Some(pre_skip.into()), media_rate: 1.into() };
        Some(Edts { elst: Some(Elst { entries: vec![entry] }) })
    }

    /// Returns how much older the sound of a sample is than its position, in frames.
    #[must_use]
    pub fn delay(&self) -> u16 {
        match self.coding {
            Coding::Opus { pre_skip, .. } => pre_skip,
            Coding::Flac { .. } => 0,
        }
    }
}

/// Returns the rate as the 16 bits of the sample entry hold it: the largest whole part of a rate that is too high for them.
fn expressible(rate_hz: u32) -> u16 {
    let whole_parts = (1..).map(|divisor| (divisor, rate_hz / divisor));
    let mut fitting =
        whole_parts.filter(|(divisor, part)| rate_hz.is_multiple_of(*divisor) && *part <= u16::MAX.into());
    fitting.next().map_or(0, |(_, part)| part as u16)
}

/// Samples that follow each other, for a fragment.
#[derive(Clone, Debug, Default)]
pub struct Fragment {
    position: u64,
    lengths: Vec<u32>,
    sizes: Vec<u32>,
    bytes: Vec<u8>,
}

impl Fragment {
    /// Begins a fragment at a position of the track.
    #[must_use]
    pub fn at(position: u64) -> Self {
        Self { position, ..Self::default() }
    }

    /// Appends a sample with sound of so many frames.
    pub fn push(&mut self, frames: u32, sample: &[u8]) {
        self.lengths.push(frames);
        self.sizes.push(sample.len() as u32);
        self.bytes.extend_from_slice(sample);
    }

    /// Returns the length of all its sound, in frames.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.lengths.iter().map(|frames| u64::from(*frames)).sum()
    }

    /// Returns the fragment as it stands in a file. `number` is its own, which grows from one to the next.
    ///
    /// # Errors
    ///
    /// Only when the library fails, which is not expected of it.
    pub fn encode(&self, number: u32) -> Result<Bytes, mp4_atom::Error> {
        let length = self.lengths.first().copied().unwrap_or_default();
        let are_alike = self.lengths.iter().all(|frames| *frames == length);
        let entries = self.lengths.iter().zip(&self.sizes).map(|(frames, size)| TrunEntry {
            duration: (!are_alike).then_some(*frames),
            size: Some(*size),
            ..TrunEntry::default()
        });
        let trun = Trun { data_offset: Some(0), samples: entries.collect::<Vec<_>>().into() };
        let tfhd = Tfhd {
            track_id: TRACK,
            default_sample_duration: are_alike.then_some(length),
            default_sample_flags: Some(INDEPENDENT),
            default_base_is_moof: true,
            ..Tfhd::default()
        };
        let tfdt = Some(Tfdt { base_media_decode_time: self.position });
        let traf = Traf { tfhd, tfdt, trun: vec![trun], ..Traf::default() };
        let mut moof = Moof { mfhd: Mfhd { sequence_number: number }, traf: vec![traf] };
        let mut bytes = Vec::with_capacity(self.bytes.len() + 8 * self.sizes.len() + 256);
        moof.encode(&mut bytes)?;
        // The samples begin behind this box, whose length does not depend on that.
        moof.traf[0].trun[0].data_offset = Some((bytes.len() + MDAT_HEADER_BYTES) as i32);
        bytes.clear();
        moof.encode(&mut bytes)?;
        bytes.extend(((MDAT_HEADER_BYTES + self.bytes.len()) as u32).to_be_bytes());
        bytes.extend(b"mdat");
        bytes.extend_from_slice(&self.bytes);
        Ok(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_beyond_16_bits_is_told_by_its_largest_part() {
        let rates = [(48_000, 48_000), (44_100, 44_100), (96_000, 48_000), (192_000, 64_000), (88_200, 44_100)];
        for (rate_hz, told) in rates {
            assert_eq!(expressible(rate_hz), told, "{rate_hz}");
        }
    }

    #[test]
    fn the_samples_begin_where_the_fragment_says() {
        let mut fragment = Fragment::at(96_000);
        fragment.push(960, b"first");
        fragment.push(500, b"second");
        assert_eq!(fragment.frames(), 1460);
        let bytes = fragment.encode(7).unwrap();
        let moof = u32::from_be_bytes(*bytes.first_chunk().unwrap()) as usize;
        assert_eq!(&bytes[moof + MDAT_HEADER_BYTES..], b"firstsecond");
        let offset = ((moof + MDAT_HEADER_BYTES) as u32).to_be_bytes();
        assert!(bytes[..moof].windows(4).any(|word| word == offset), "{bytes:?}");
    }
}
