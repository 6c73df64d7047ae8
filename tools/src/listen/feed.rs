//! From bytes to blocks and gaps: one JSON object a line.

use serde::{Deserialize, Deserializer};

use crate::client::block::{Block, Gap, Line};
use crate::failure::Failure;
use crate::units as words;

/// Longest line taken. The longest that aircheck makes, 100 ms of 32 channels at 768 kHz with 12 characters a
/// sample, has 30 MB; without a bound, a server that never ends its line would take all memory.
const MAX_LINE_BYTES: usize = 64 << 20;
/// How much of a line that makes no sense is shown.
const EXCERPT_CHARS: usize = 60;

/// Puts lines together from pieces of any size, and reads them.
#[derive(Debug)]
pub(crate) struct Feed {
    channels: u16,
    bytes: Vec<u8>,
    /// Where the line that is next begins, and up to where there is surely no end of it.
    start: usize,
    searched: usize,
    lines: u64,
}

impl Feed {
    /// For a stream of `channels` channels, at its beginning.
    pub(crate) fn new(channels: u16) -> Self {
        Self { channels, bytes: Vec::new(), start: 0, searched: 0, lines: 0 }
    }

    /// Takes in what arrived.
    pub(crate) fn push(&mut self, piece: &[u8]) {
        self.bytes.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        self.bytes.extend_from_slice(piece);
    }

    /// The next complete line, if there is one.
    ///
    /// # Errors
    ///
    /// [`Failure::Malformed`]: not what the interface describes, or too long.
    pub(crate) fn next_line(&mut self) -> Result<Option<Line>, Failure> {
        let unsearched = &self.bytes[self.searched..];
        let Some(length) = unsearched.iter().position(|&byte| byte == b'\n') else {
            self.searched = self.bytes.len();
            if self.bytes.len() - self.start > MAX_LINE_BYTES {
                return Err(self.malformed(&self.bytes[self.start..], "longer than any block is"));
            }
            return Ok(None);
        };
        let end = self.searched + length;
        let line = self.start..end;
        self.lines += 1;
        (self.start, self.searched) = (end + 1, end + 1);
        let line = &self.bytes[line];
        parse(line, self.channels).map(Some).map_err(|why| self.malformed(line, &why))
    }

    /// To be called when the stream has ended.
    ///
    /// # Errors
    ///
    /// [`Failure::Lost`] if it ended in the middle of a line.
    pub(crate) fn finish(&self) -> Result<(), Failure> {
        if self.bytes[self.start..].iter().all(u8::is_ascii_whitespace) {
            Ok(())
        } else {
            Err(Failure::Lost("the stream ended in the middle of a line".to_owned()))
        }
    }

    fn malformed(&self, line: &[u8], why: &str) -> Failure {
        // Four bytes are the most that a character has.
        let head = String::from_utf8_lossy(&line[..line.len().min(4 * EXCERPT_CHARS)]);
        let excerpt = words::quoted(head.trim_end(), EXCERPT_CHARS);
        Failure::Malformed { line: self.lines.max(1), why: why.to_owned(), excerpt }
    }
}

/// A line with every field that is known here; others are ignored, so that a server may learn to say more.
#[derive(Deserialize)]
struct Fields {
    gap: Option<Gap>,
    sequence: Option<u64>,
    position: Option<u64>,
    captured_at: Option<f64>,
    samples: Option<Vec<Sample>>,
}

/// A sample, read as a single-precision number at once: rounding twice can change it.
struct Sample(f32);

impl<'de> Deserialize<'de> for Sample {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Option::deserialize(deserializer)?.unwrap_or(f32::NAN)))
    }
}

fn parse(line: &[u8], channels: u16) -> Result<Line, String> {
    let line = line.trim_ascii();
    if line.is_empty() {
        return Ok(Line::default());
    }
    if line[0] != b'{' {
        return Err("not a JSON object".to_owned());
    }
    let fields: Fields = serde_json::from_slice(line).map_err(|error| {
        let text = error.to_string();
        // It is always line 1 to the parser, which is not the line that the message is about.
        text.replace(" at line 1 column ", " at column ")
    })?;
    let block = match (fields.sequence, fields.samples) {
        (None, None) => None,
        (Some(sequence), Some(samples)) => {
            let position = fields.position.ok_or("a block without a position")?;
            let captured_at = fields.captured_at.ok_or("a block without captured_at")?;
            if samples.is_empty() || !samples.len().is_multiple_of(usize::from(channels)) {
                return Err(format!("{} samples are not whole frames of {channels}", samples.len()));
            }
            let frames = (samples.len() / usize::from(channels)) as u64;
            let samples = samples.into_iter().map(|Sample(sample)| sample).collect();
            Some(Block { sequence, position, captured_at, frames, samples })
        }
        (Some(_), None) => return Err("a block without samples".to_owned()),
        (None, Some(_)) => return Err("a block without a sequence".to_owned()),
    };
    Ok(Line { gap: fields.gap, block })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: &str = r#"{"sequence":7,"position":14,"captured_at":1790000000.25,"samples":[0.5,-1,0.1,-0.0]}"#;

    fn read(text: &str) -> Result<Line, String> {
        let mut feed = Feed::new(2);
        feed.push(format!("{text}\n").as_bytes());
        feed.next_line().map(Option::unwrap).map_err(|failure| failure.to_string())
    }

    #[test]
    fn a_block_is_read_exactly() {
        let block = read(BLOCK).unwrap().block.unwrap();
        assert_eq!((block.sequence, block.position, block.frames), (7, 14, 2));
        assert_eq!(block.captured_at, 1_790_000_000.25);
        let bits: Vec<u32> = block.samples.iter().map(|sample| sample.to_bits()).collect();
        assert_eq!(bits, [0.5f32, -1.0, 0.1, -0.0].map(f32::to_bits));
    }

    #[test]
    fn every_f32_survives_its_shortest_decimal() {
        // A walk over all exponents and signs, with mantissas that a multiplicative hash scatters.
        for step in 0..200_000u32 {
            let sample = f32::from_bits(step.wrapping_mul(2_654_435_761));
            if !sample.is_finite() {
                continue;
            }
            let text = serde_json::to_string(&sample).unwrap();
            let Sample(read) = serde_json::from_str(&text).unwrap();
            assert_eq!(read.to_bits(), sample.to_bits(), "{text}");
        }
    }

    #[test]
    fn pieces_of_any_size_give_the_same_lines() {
        let text = format!("{BLOCK}\r\n\n{{\"gap\":{{\"from\":8,\"blocks\":3,\"reason\":\"overflow\"}}}}\n{BLOCK}\n");
        let all = |size: usize| {
            let mut feed = Feed::new(2);
            let mut lines = Vec::new();
            for piece in text.as_bytes().chunks(size) {
                feed.push(piece);
                while let Some(line) = feed.next_line().unwrap() {
                    lines.push(line);
                }
            }
            feed.finish().unwrap();
            lines
        };
        let whole = all(text.len());
        assert_eq!(whole.len(), 4);
        assert_eq!(whole[2].gap, Some(Gap { from: 8, blocks: 3, reason: "overflow".to_owned() }));
        for size in 1..text.len() {
            assert_eq!(all(size), whole, "pieces of {size}");
        }
    }

    #[test]
    fn what_is_not_known_is_ignored() {
        assert_eq!(read(r#"{"epoch":{"rate":1}}"#).unwrap(), Line::default());
        let more = BLOCK.replace("{\"seq", "{\"new\":[1],\"seq");
        assert_eq!(read(&more).unwrap(), read(BLOCK).unwrap());
    }

    #[test]
    fn null_is_not_a_number() {
        let block = read(&BLOCK.replace("0.5", "null")).unwrap().block.unwrap();
        assert!(block.samples[0].is_nan());
    }

    #[test]
    fn what_makes_no_sense_is_told_with_its_line() {
        let cases = [
            ("garbage", "line 1 of the stream makes no sense: not a JSON object: garbage"),
            ("[1,2]", "not a JSON object"),
            ("{\"sequence\":", "EOF"),
            (r#"{"sequence":-1,"samples":[0,0]}"#, "invalid value"),
            (r#"{"sequence":1,"position":0,"captured_at":0,"samples":[1,2,3]}"#, "3 samples are not whole frames of 2"),
            (r#"{"sequence":1,"position":0,"captured_at":0,"samples":[]}"#, "0 samples"),
            (r#"{"sequence":1,"samples":[1,2]}"#, "without a position"),
            (r#"{"sequence":1}"#, "without samples"),
            (r#"{"samples":[1,2]}"#, "without a sequence"),
            (r#"{"gap":{"from":1}}"#, "missing field `blocks`"),
        ];
        for (text, words) in cases {
            let error = read(text).unwrap_err();
            assert!(error.contains(words) && !error.contains('\n'), "{text} gives {error}");
        }
    }

    #[test]
    fn a_line_that_isn_t_ended_is_no_end() {
        let mut feed = Feed::new(1);
        feed.push(b"{\"sequence\":1");
        assert_eq!(feed.next_line().unwrap(), None);
        assert!(feed.finish().unwrap_err().to_string().contains("middle of a line"));
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut feed = Feed::new(1);
        feed.push(&vec![b' '; MAX_LINE_BYTES + 1]);
        assert!(feed.next_line().is_err());
    }
}
