//! A part of the recording as one WAV file, with silence where nothing was recorded.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;

use aircheck_api::moment;
use aircheck_engine::source::PcmEncoding;
use aircheck_engine::{Format, Timestamp};
use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::sync::mpsc;

use super::places::{ReplayPlace, Replays};
use super::start::ReplayError;
use crate::rendition::container::wav::wav_header;
use crate::sink::recorder::{Entry, Found, Index, RunReader};

/// Most bytes of samples: a WAV file has 32 bits for its size.
const MAX_BYTES: u64 = u32::MAX as u64 - 100;
/// Parts that wait for the connection, each of a second.
const MAX_PARTS: usize = 4;

/// A part of the recording on its way to one client.
#[derive(Debug)]
pub struct Export {
    /// Bytes of the whole file.
    pub bytes: u64,
    parts: mpsc::Receiver<Bytes>,
}

impl Export {
    /// Starts to read what was recorded `from` a moment `to` another, in nanoseconds of Unix time.
    ///
    /// # Errors
    ///
    /// When that is no part of the recording, or too long for a file.
    pub fn start(
        replays: &Replays,
        index: &Arc<Index>,
        format: Format,
        from: u64,
        to: u64,
    ) -> Result<Self, ReplayError> {
        let now = Timestamp::now().unix_nanos();
        if to > now {
            return Err(ReplayError::Future(moment::format(to), moment::format(now)));
        }
        let frames = (u128::from(to.saturating_sub(from)) * u128::from(format.rate_hz()) / 1_000_000_000) as u64;
        let data = frames * u64::from(format.channels()) * size_of::<f32>() as u64;
        if frames == 0 || data > MAX_BYTES {
            let most =
                MAX_BYTES / (u64::from(format.channels()) * size_of::<f32>() as u64 * u64::from(format.rate_hz()));
            return Err(ReplayError::Length(most));
        }
        let begins_at = index.begins_at(format).unwrap_or(now);
        if index.find(from, format).is_none_or(|entry| entry.captured_at >= to) {
            return Err(ReplayError::TooEarly(moment::format(from), moment::format(begins_at)));
        }
        let place = replays.enter().ok_or(ReplayError::Full)?;
        let header = sized_header(format, data as u32);
        let bytes = header.len() as u64 + data;
        let (sender, parts) = mpsc::channel(MAX_PARTS);
        let cutter = Cutter { index: Arc::clone(index), format, from, frames, written: 0, sender, _place: place };
        thread::Builder::new().name("export".into()).spawn(move || cutter.run(header))?;
        Ok(Self { bytes, parts })
    }
}

/// Returns the header of a WAV file with so many bytes of samples.
fn sized_header(format: Format, data: u32) -> Bytes {
    let mut header = wav_header(format, PcmEncoding::F32Le).to_vec();
    let (length, riff) = (header.len(), header.len() as u32 - 8 + data);
    header[4..8].copy_from_slice(&riff.to_le_bytes());
    header[length - 4..].copy_from_slice(&data.to_le_bytes());
    header.into()
}

impl Body for Export {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.parts.poll_recv(context).map(|part| part.map(|part| Ok(Frame::data(part))))
    }
}

/// The thread that reads. If it fails, the response ends before its length, which the client notices.
struct Cutter {
    index: Arc<Index>,
    format: Format,
    from: u64,
    frames: u64,
    written: u64,
    sender: mpsc::Sender<Bytes>,
    _place: ReplayPlace,
}

impl Cutter {
    fn run(mut self, header: Bytes) {
        if self.sender.blocking_send(header).is_err() {
            return;
        }
        if let Err(error) = self.cut()
            && !self.sender.is_closed()
        {
            tracing::warn!("cannot read a part of the recording for an export: {error}");
        }
    }

    fn cut(&mut self) -> io::Result<()> {
        while self.written < self.frames {
            let moment = self.from + self.format.span(self.written).as_nanos() as u64;
            // Times are whole nanoseconds, and half a frame decides which frame is meant.
            let half_frame = 500_000_000 / u64::from(self.format.rate_hz());
            match self.index.find(moment + half_frame, self.format) {
                None => self.silence(self.frames - self.written)?,
                Some(entry) if entry.captured_at > moment + half_frame => {
                    let pause = u128::from(entry.captured_at - moment) * u128::from(self.format.rate_hz());
                    self.silence(((pause + 500_000_000) / 1_000_000_000) as u64)?;
                }
                Some(entry) => self.segment(&entry, moment)?,
            }
        }
        Ok(())
    }

    /// Writes the sound of a segment from `moment` on.
    fn segment(&mut self, entry: &Entry, moment: u64) -> io::Result<()> {
        let mut reader = RunReader::new(Arc::clone(&self.index), entry.run);
        let (mut position, end) = (reader.position_at(entry, moment)?, entry.end());
        // At least a frame, so that each call gets on.
        while position < end && self.written < self.frames {
            let most = u64::from(self.format.rate_hz()).min(end - position).min(self.frames - self.written);
            match reader.read(position, most).map_err(|(error, _)| error)? {
                Found::Sound(samples, _) => {
                    let frames = samples.len() as u64 / u64::from(self.format.channels());
                    self.send(&samples)?;
                    position += frames.max(1);
                }
                Found::Hole(to) => {
                    let to = to.min(end);
                    self.silence(to - position)?;
                    position = to;
                }
                Found::Beyond => return self.silence(end - position),
            }
        }
        Ok(())
    }

    fn silence(&mut self, frames: u64) -> io::Result<()> {
        let mut rest = frames.min(self.frames - self.written);
        while rest > 0 {
            let part = rest.min(self.format.rate_hz().into());
            self.send(&vec![0.0; (part * u64::from(self.format.channels())) as usize])?;
            rest -= part;
        }
        Ok(())
    }

    fn send(&mut self, samples: &[f32]) -> io::Result<()> {
        self.written += samples.len() as u64 / u64::from(self.format.channels());
        let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        self.sender.blocking_send(bytes.into()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
