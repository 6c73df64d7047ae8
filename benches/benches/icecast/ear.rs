//! One listener that hears how old the sound is.
//!
//! The sound of every source is a loop of four seconds that begins with silence: the end of the silence is a *mark*,
//! which can be found in samples and in what Opus makes of them. `/stream.json` of the aircheck whose sound it is says
//! when a mark was captured. The ear decodes its stream until it has heard a mark; from then on, each position in the
//! stream has its time of capture. An age is taken of the oldest sound of each piece, when all of the piece is here. An
//! age of more than a loop looks four seconds younger.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use aircheck_benches::WAV_RATE_HZ;
use ogg::PacketReader;
use opus::{Channels, Decoder};
use serde_json::Value;

use crate::Result;
use crate::case::{FRAME_BYTES, RATE_HZ, Stream};
use crate::feed::{Unseekable, read_head};
use crate::tls::{Tls, connect};

/// The length of the sound.
pub(crate) const LOOP_SECONDS: u32 = 4;
/// The silence at its beginning.
const SILENCE_SECONDS: f64 = 0.2;
/// What counts as sound: a tenth of the chirps, and more than Opus makes of silence.
const LOUD: f64 = 0.025;
/// Less than the silence that is left of it in Opus, and more than chirps are near zero.
const MIN_SILENT_FRAMES: u64 = 4800;
/// Bytes of PCM that are read at once.
const READ_BYTES: usize = 256 << 10;
/// How long finding a mark may take: two loops.
const MARK_TIMEOUT: Duration = Duration::from_secs(2 * LOOP_SECONDS as u64);
/// Frames of the longest packet of Opus.
const MAX_PACKET_FRAMES: usize = 5760;

/// Returns the sound: silence, and then chirps in stereo, which a codec has to work for.
pub(crate) fn sound(frame: u32, channel: u16) -> f64 {
    let t = f64::from(frame) / f64::from(WAV_RATE_HZ);
    let hz = if channel == 0 { 440.0 } else { 660.0 };
    if t < SILENCE_SECONDS { 0.0 } else { 0.25 * (std::f64::consts::TAU * t * (hz + 300.0 * t)).sin() }
}

/// A listener on a thread of its own.
pub(crate) struct Ear(Arc<Mutex<Heard>>);

#[derive(Default)]
struct Heard {
    /// The position of the mark.
    mark: Option<u64>,
    /// When a piece had come, in Unix seconds, and at which position it began.
    pieces: Vec<(Instant, f64, u64)>,
}

/// Finds the end of silence.
#[derive(Default)]
struct MarkFinder {
    silent_frames: u64,
}

impl MarkFinder {
    /// Takes a frame's loudness. Returns whether it is the mark.
    fn is_mark(&mut self, loudness: f64) -> bool {
        let was_silent = self.silent_frames >= MIN_SILENT_FRAMES;
        if loudness < LOUD {
            self.silent_frames += 1;
            return false;
        }
        self.silent_frames = 0;
        was_silent
    }
}

/// Returns when an aircheck captured a mark, in Unix seconds.
pub(crate) fn mark_time(aircheck: SocketAddr, tls: Option<&Tls>) -> Result<f64> {
    let mut connection = connect(aircheck, tls, Some(MARK_TIMEOUT))?;
    write!(connection, "GET /stream.json HTTP/1.0\r\nHost: {aircheck}\r\n\r\n")?;
    let mut body = BufReader::new(connection);
    read_head(&mut body, " 200 ")?;
    let (mut finder, start, mut line) = (MarkFinder::default(), Instant::now(), String::new());
    while start.elapsed() < MARK_TIMEOUT && body.read_line(&mut line)? > 0 {
        let block: Value = serde_json::from_str(&line)?;
        line.clear();
        let (Some(at), Some(samples)) = (block["captured_at"].as_f64(), block["samples"].as_array()) else { continue };
        for (frame, left) in samples.iter().step_by(2).enumerate() {
            if finder.is_mark(left.as_f64().unwrap_or(0.0).abs()) {
                return Ok(at + frame as f64 / f64::from(RATE_HZ));
            }
        }
    }
    Err("the sound has no mark".into())
}

impl Ear {
    /// Begins to listen to `path` at `address`.
    pub(crate) fn open(address: SocketAddr, tls: Option<&Tls>, path: &str, stream: Stream) -> Result<Self> {
        let mut connection = connect(address, tls, None)?;
        write!(connection, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
        let mut body = BufReader::with_capacity(READ_BYTES, connection);
        read_head(&mut body, " 200 ")?;
        let heard = Arc::new(Mutex::new(Heard::default()));
        let own = Arc::clone(&heard);
        thread::spawn(move || {
            // An error means that the server has ended.
            let _ = match stream {
                Stream::Opus => hear_opus(body, &own),
                Stream::Wav => hear_samples(body, &own),
            };
        });
        Ok(Self(heard))
    }

    /// Returns the median and the highest age of what came since then, in seconds; `mark` is when a mark was captured.
    pub(crate) fn ages(&self, mark: f64, since: Instant) -> Option<[f64; 2]> {
        let heard = self.0.lock().ok()?;
        let first = heard.mark?;
        let age = |&(_, came, position): &(Instant, f64, u64)| {
            let captured = mark + (position as f64 - first as f64) / f64::from(RATE_HZ);
            (came - captured).rem_euclid(f64::from(LOOP_SECONDS))
        };
        let pieces = heard.pieces.iter().filter(|(came, ..)| *came >= since);
        let mut ages: Vec<f64> = pieces.map(age).collect();
        ages.sort_unstable_by(f64::total_cmp);
        Some([*ages.get(ages.len() / 2)?, *ages.last()?])
    }
}

impl Heard {
    fn piece(&mut self, position: u64) {
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.pieces.push((Instant::now(), unix.as_secs_f64(), position));
    }
}

fn hear_opus(body: impl BufRead, heard: &Mutex<Heard>) -> Result<()> {
    let mut packets = PacketReader::new(Unseekable(body));
    let mut decoder = Decoder::new(RATE_HZ, Channels::Stereo)?;
    let mut samples = vec![0.0; 2 * MAX_PACKET_FRAMES];
    let (mut finder, mut position, mut begins_page, mut is_marked) = (MarkFinder::default(), 0, true, false);
    loop {
        let packet = packets.read_packet_expected()?;
        if packet.data.starts_with(b"Opus") {
            continue;
        }
        if begins_page {
            heard.lock().map_err(|_| "poisoned")?.piece(position);
        }
        begins_page = packet.last_in_page();
        let frames = if is_marked {
            decoder.get_nb_samples(&packet.data)?
        } else {
            let frames = decoder.decode_float(&packet.data, &mut samples, false)?;
            for (frame, pair) in samples[..2 * frames].chunks(2).enumerate() {
                if !is_marked && finder.is_mark(f64::from(pair[0].abs())) {
                    is_marked = true;
                    heard.lock().map_err(|_| "poisoned")?.mark = Some(position + frame as u64);
                }
            }
            frames
        };
        position += frames as u64;
    }
}

fn hear_samples(mut body: impl BufRead, heard: &Mutex<Heard>) -> Result<()> {
    let (mut bytes, mut left, mut finder) = (vec![0; READ_BYTES], 0, MarkFinder::default());
    let (mut position, mut is_marked) = (0, false);
    loop {
        let length = left + body.read(&mut bytes[left..])?;
        if length == left {
            return Ok(());
        }
        let mut heard = heard.lock().map_err(|_| "poisoned")?;
        heard.piece(position);
        let whole = length / FRAME_BYTES * FRAME_BYTES;
        for frame in bytes[..whole].chunks(FRAME_BYTES) {
            let loudness = f64::from(i16::from_le_bytes([frame[0], frame[1]])).abs() / 32_768.0;
            if !is_marked && finder.is_mark(loudness) {
                is_marked = true;
                heard.mark = Some(position);
            }
            position += 1;
        }
        bytes.copy_within(whole..length, 0);
        left = length - whole;
    }
}
