//! Raw samples from a pipe, or from anything else that can be read.

use std::io::{ErrorKind, Read};

use strum::{EnumString, IntoStaticStr};

use crate::source::pull::{Arrival, Pull, Waiting};

/// Encoding of a raw sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, EnumString, IntoStaticStr)]
#[strum(serialize_all = "lowercase", parse_err_ty = UnknownPcmEncoding, parse_err_fn = UnknownPcmEncoding::new)]
#[non_exhaustive]
pub enum PcmEncoding {
    /// Signed 16-bit integer, little-endian.
    #[default]
    S16Le,
    /// Signed 24-bit integer in three bytes, little-endian.
    S24Le,
    /// 32-bit float, little-endian, nominally -1 to 1.
    F32Le,
}

impl PcmEncoding {
    /// All encodings.
    pub const ALL: &'static [Self] = &[Self::S16Le, Self::S24Le, Self::F32Le];

    /// Returns the encoding as users write it.
    ///
    /// ```
    /// use aircheck_engine::source::PcmEncoding;
    ///
    /// assert_eq!(PcmEncoding::S24Le.label(), "s24le");
    /// assert_eq!("f32le".parse(), Ok(PcmEncoding::F32Le));
    /// ```
    #[must_use]
    pub fn label(self) -> &'static str {
        self.into()
    }

    /// Returns the bytes of one sample.
    ///
    /// ```
    /// use aircheck_engine::source::PcmEncoding;
    ///
    /// assert_eq!(PcmEncoding::S24Le.sample_bytes(), 3);
    /// ```
    #[must_use]
    pub const fn sample_bytes(self) -> usize {
        match self {
            Self::S16Le => 2,
            Self::S24Le => 3,
            Self::F32Le => 4,
        }
    }

    /// Appends samples as bytes. Integers are rounded to the nearest and clipped to their range; NaN becomes silence.
    /// Samples that came from integers of at most this width come out bit for bit.
    ///
    /// ```
    /// use aircheck_engine::source::PcmEncoding;
    ///
    /// let mut bytes = Vec::new();
    /// PcmEncoding::S16Le.encode(&[0.0, -1.0], &mut bytes);
    /// assert_eq!(bytes, [0, 0, 0x00, 0x80]);
    /// ```
    pub fn encode(self, samples: &[f32], bytes: &mut Vec<u8>) {
        bytes.reserve(samples.len() * self.sample_bytes());
        match self {
            Self::S16Le => bytes.extend(samples.iter().flat_map(|s| (quantise(*s, 15) as i16).to_le_bytes())),
            Self::S24Le => {
                for sample in samples {
                    bytes.extend_from_slice(&quantise(*sample, 23).to_le_bytes()[..3]);
                }
            }
            Self::F32Le => bytes.extend(samples.iter().flat_map(|s| s.to_le_bytes())),
        }
    }

    /// Decodes as many bytes as the samples take: the inverse of [`encode`](Self::encode).
    fn decode(self, bytes: &[u8], samples: &mut [f32]) {
        for (sample, bytes) in samples.iter_mut().zip(bytes.chunks_exact(self.sample_bytes())) {
            *sample = match *bytes {
                [a, b] => f32::from(i16::from_le_bytes([a, b])) / 32_768.0,
                [a, b, c] => (i32::from_le_bytes([0, a, b, c]) >> 8) as f32 / 8_388_608.0,
                [a, b, c, d] => f32::from_le_bytes([a, b, c, d]),
                _ => 0.0,
            };
        }
    }
}

/// A word that is not an encoding of samples.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a sample encoding (there are s16le, s24le and f32le)")]
pub struct UnknownPcmEncoding(String);

impl UnknownPcmEncoding {
    fn new(word: &str) -> Self {
        Self(word.to_owned())
    }
}

/// Converts `sample` to an integer of `bits` bits and a sign.
fn quantise(sample: f32, bits: u32) -> i32 {
    let scale = (1_u32 << bits) as f32;
    // A cast from float saturates, and turns NaN into 0.
    ((sample * scale).round() as i32).clamp(-(1 << bits), (1 << bits) - 1)
}

/// Bytes in front of a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuedBytes {
    /// Those that wait.
    pub waiting: u64,
    /// The most that can wait.
    pub capacity: u64,
}

/// Raw interleaved samples from a reader.
#[derive(Debug)]
pub struct Pcm<R> {
    reader: R,
    name: String,
    rate_hz: u32,
    channels: u16,
    encoding: PcmEncoding,
    bytes: Vec<u8>,
    /// Bytes read so far.
    taken: u64,
    /// Asks for the bytes that wait in front of the reader.
    queue: Option<fn(&R) -> Option<QueuedBytes>>,
    /// The failure to return after the whole frames before it.
    failure: Option<String>,
}

impl<R: Read> Pcm<R> {
    /// Creates a source of the samples in `reader`, which are interleaved. `name` is for people.
    ///
    /// ```
    /// use aircheck_engine::source::{Pcm, PcmEncoding, Pull};
    ///
    /// let mut pcm = Pcm::new(&b"\x00\x40\x00\xc0"[..], "two samples", 48_000, 1, PcmEncoding::S16Le);
    /// let mut samples = [0.0; 8];
    /// assert_eq!(pcm.pull(&mut samples), Ok(2));
    /// assert_eq!(samples[..2], [0.5, -0.5]);
    /// ```
    pub fn new(reader: R, name: impl Into<String>, rate_hz: u32, channels: u16, encoding: PcmEncoding) -> Self {
        let (name, bytes) = (name.into(), Vec::new());
        Self { reader, name, rate_hz, channels, encoding, bytes, taken: 0, queue: None, failure: None }
    }

    /// Asks `queue` for what waits in front of the reader, so that it is worked off after a hiccup. The reader must have no
    /// buffer of its own.
    ///
    /// ```
    /// use aircheck_engine::source::{Pcm, PcmEncoding, Pull, QueuedBytes};
    ///
    /// let zeros = std::io::repeat(0);
    /// // A real one asks the system how much waits in a pipe.
    /// let pcm = Pcm::new(zeros, "zeros", 48_000, 1, PcmEncoding::S16Le)
    ///     .with_queue(|_| Some(QueuedBytes { waiting: 960, capacity: 65_536 }));
    /// assert_eq!(pcm.waiting().map(|waiting| waiting.frames), Some(480));
    /// ```
    #[must_use]
    pub fn with_queue(self, queue: fn(&R) -> Option<QueuedBytes>) -> Self {
        Self { queue: Some(queue), ..self }
    }

    /// Returns the bytes of a frame. No stream has frames without channels: its format is refused.
    fn frame_bytes(&self) -> usize {
        usize::from(self.channels.max(1)) * self.encoding.sample_bytes()
    }
}

impl<R: Read + Send + 'static> Pull for Pcm<R> {
    fn rate_hz(&self) -> u32 {
        self.rate_hz
    }

    fn channels(&self) -> u16 {
        self.channels
    }

    fn sample_bits(&self) -> Option<u16> {
        (self.encoding != PcmEncoding::F32Le).then_some(8 * self.encoding.sample_bytes() as u16)
    }

    fn description(&self) -> String {
        format!("{} ({}, {} Hz, {} ch)", self.name, self.encoding.label(), self.rate_hz, self.channels)
    }

    fn arrival(&self) -> Arrival {
        Arrival::External
    }

    fn waiting(&self) -> Option<Waiting> {
        let QueuedBytes { waiting, capacity } = self.queue?(&self.reader)?;
        let frames = |bytes: u64| bytes / self.frame_bytes() as u64;
        Some(Waiting { taken: frames(self.taken), frames: frames(waiting), capacity: frames(capacity) })
    }

    fn pull(&mut self, samples: &mut [f32]) -> Result<usize, String> {
        let frame_bytes = self.frame_bytes();
        self.bytes.resize(samples.len() * self.encoding.sample_bytes(), 0);
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let mut read = 0;
        // Reads until there are whole frames: a pipe may return any number of bytes.
        while read == 0 || read % frame_bytes != 0 {
            let failure = match self.reader.read(&mut self.bytes[read..]) {
                Ok(0) if read % frame_bytes == 0 => break,
                Ok(0) => format!(
                    "{}: ended inside a frame, {} of {frame_bytes} bytes (see whether it has {} channels of {})",
                    self.name,
                    read % frame_bytes,
                    self.channels,
                    self.encoding.label()
                ),
                Ok(bytes) => {
                    read += bytes;
                    self.taken += bytes as u64;
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => format!("{}: {error}", self.name),
            };
            read -= read % frame_bytes;
            if read == 0 {
                return Err(failure);
            }
            self.failure = Some(failure);
        }
        let filled = read / self.encoding.sample_bytes();
        self.encoding.decode(&self.bytes[..read], &mut samples[..filled]);
        Ok(filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_integer_survives_the_conversion_to_floats() {
        for encoding in [PcmEncoding::S16Le, PcmEncoding::S24Le] {
            let bytes: Vec<u8> = match encoding {
                PcmEncoding::S16Le => (i16::MIN..=i16::MAX).flat_map(i16::to_le_bytes).collect(),
                _ => (-(1 << 23)..1 << 23)
                    .step_by(251)
                    .flat_map(|v: i32| [v as u8, (v >> 8) as u8, (v >> 16) as u8])
                    .collect(),
            };
            let mut samples = vec![0.0; bytes.len() / encoding.sample_bytes()];
            encoding.decode(&bytes, &mut samples);
            let mut again = Vec::new();
            encoding.encode(&samples, &mut again);
            assert_eq!(bytes, again, "{}", encoding.label());
        }
    }

    #[test]
    fn loud_samples_are_clipped_and_nan_is_silent() {
        let mut bytes = Vec::new();
        PcmEncoding::S16Le.encode(&[2.0, -2.0, f32::NAN, f32::INFINITY, 1.0], &mut bytes);
        let values: Vec<i16> = bytes.chunks(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect();
        assert_eq!(values, [32767, -32768, 0, 32767, 32767]);
    }

    /// A reader that returns one byte at a time.
    struct Trickle(std::io::Cursor<Vec<u8>>);

    impl Read for Trickle {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let length = buffer.len().min(1);
            self.0.read(&mut buffer[..length])
        }
    }

    #[test]
    fn frames_stay_whole_when_bytes_come_singly() {
        let bytes: Vec<u8> = (0..12_i16).flat_map(i16::to_le_bytes).collect();
        let mut pcm = Pcm::new(Trickle(std::io::Cursor::new(bytes)), "pipe", 48_000, 2, PcmEncoding::S16Le);
        let mut samples = [0.0; 8];
        assert_eq!(pcm.pull(&mut samples), Ok(2));
        assert_eq!(samples[1] * 32768.0, 1.0);
    }

    #[test]
    fn an_unknown_word_is_told_the_known_ones() {
        let error = "mp3".parse::<PcmEncoding>().unwrap_err().to_string();
        assert_eq!(error, "`mp3` is not a sample encoding (there are s16le, s24le and f32le)");
        assert!(PcmEncoding::ALL.iter().all(|encoding| error.contains(encoding.label())), "{error}");
    }

    #[test]
    fn no_channels_are_no_panic() {
        let pcm = Pcm::new(&b"\0\0\0\0"[..], "pipe", 48_000, 0, PcmEncoding::S16Le);
        let mut pcm = pcm.with_queue(|_| Some(QueuedBytes { waiting: 4, capacity: 8 }));
        assert_eq!(pcm.waiting().map(|waiting| waiting.frames), Some(2));
        assert_eq!(pcm.pull(&mut [0.0; 4]), Ok(2));
    }

    #[test]
    fn an_end_inside_a_frame_is_an_error() {
        let mut pcm = Pcm::new(&b"\0\0\0\0\0"[..], "pipe", 48_000, 2, PcmEncoding::S16Le);
        let mut samples = [0.0; 8];
        assert_eq!(pcm.pull(&mut samples), Ok(2), "the whole frame before it is not lost");
        let error = pcm.pull(&mut samples).unwrap_err();
        assert!(error.contains("1 of 4 bytes"), "{error}");
    }
}
