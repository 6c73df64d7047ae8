//! Blocks as lines of JSON, or as server-sent events with such a line as their data. Of a block's line only the
//! beginning is read, `{"sequence":…,"position":…,"captured_at":…,"samples":[`, in the order in which aircheck writes
//! it.

use aircheck_api::GapNotice;
use serde::Deserialize;

use super::item::Item;
use crate::sanitize::sanitize;

/// How much of a line is kept: the numbers before the samples take at most 110 bytes, and a notice of a gap less.
const HEAD_BYTES: usize = 256;
const EXCERPT_CHARS: usize = 60;

/// The lines of a stream in pieces of any size.
#[derive(Debug)]
pub(crate) struct Lines {
    /// Whether the lines are fields of events.
    events: bool,
    head: Vec<u8>,
    /// The last byte of the line so far.
    last: u8,
    lines: u64,
}

impl Lines {
    /// Makes a reader of lines, or of server-sent events.
    pub(crate) fn new(events: bool) -> Self {
        Self { events, head: Vec::with_capacity(HEAD_BYTES), last: 0, lines: 0 }
    }

    /// Reads bytes that arrived, and passes on the findings of the lines that end in them.
    ///
    /// # Errors
    ///
    /// A sentence about the line that can't be read.
    pub(crate) fn push(&mut self, mut bytes: &[u8], found: &mut dyn FnMut(Item)) -> Result<(), String> {
        while !bytes.is_empty() {
            let end = memchr::memchr(b'\n', bytes);
            let line = &bytes[..end.unwrap_or(bytes.len())];
            let room = HEAD_BYTES - self.head.len();
            self.head.extend(&line[..line.len().min(room)]);
            self.last = line.last().copied().unwrap_or(self.last);
            let Some(end) = end else { return Ok(()) };
            bytes = &bytes[end + 1..];
            self.lines += 1;
            let item = self.read().map_err(|why| {
                let excerpt = sanitize(&String::from_utf8_lossy(&self.head), EXCERPT_CHARS);
                format!("cannot read line {} of the stream: {why}: {excerpt}", self.lines)
            })?;
            self.head.clear();
            self.last = 0;
            item.into_iter().for_each(&mut *found);
        }
        Ok(())
    }

    fn read(&self) -> Result<Option<Item>, String> {
        let line = if self.events {
            match self.head.strip_prefix(b"data: ") {
                Some(data) => data,
                // Number and kind are in the data too; comments keep a connection alive.
                None => return Ok(None),
            }
        } else {
            self.head.trim_ascii()
        };
        if line.is_empty() {
            return Ok(None);
        }
        if self.last != b'}' && self.last != b'\r' {
            return Err("it breaks off".to_owned());
        }
        if line.starts_with(br#"{"gap""#) {
            return gap(line).map(Some);
        }
        // The server that the sound comes from was started anew.
        if line.starts_with(br#"{"epoch""#) {
            return Ok(None);
        }
        // A title, which may be longer than what is kept of it.
        if line.starts_with(br#"{"metadata""#) {
            return Ok(None);
        }
        block(line).map(Some).ok_or_else(|| "it does not begin as a block does".to_owned())
    }
}

fn gap(line: &[u8]) -> Result<Item, String> {
    #[derive(Deserialize)]
    struct GapLine {
        gap: GapNotice,
    }
    serde_json::from_slice(line).map(|GapLine { gap }| Item::Gap(gap)).map_err(|error| error.to_string())
}

fn block(line: &[u8]) -> Option<Item> {
    let (sequence, line) = number(line.strip_prefix(br#"{"sequence":"#)?)?;
    let (position, line) = number(line.strip_prefix(br#","position":"#)?)?;
    let (seconds, line) = number(line.strip_prefix(br#","captured_at":"#)?)?;
    let (fraction, line) = match line.strip_prefix(b".") {
        Some(digits) => {
            let (fraction, line) = number(digits)?;
            let places = u32::try_from(digits.len() - line.len()).ok()?;
            (fraction.checked_mul(10_u64.checked_pow(9_u32.checked_sub(places)?)?)?, line)
        }
        None => (0, line),
    };
    line.strip_prefix(br#","samples":["#)?;
    let captured_at_nanos = seconds.checked_mul(1_000_000_000)?.checked_add(fraction)?;
    Some(Item::Block { sequence, position: Some(position), captured_at_nanos })
}

/// Splits the digits at the beginning from the rest.
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let length = text.iter().position(|byte| !byte.is_ascii_digit())?;
    let digits = std::str::from_utf8(&text[..length]).ok()?;
    Some((digits.parse().ok()?, &text[length..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: &str = r#"{"sequence":7,"position":3360,"captured_at":1790000000.123456,"samples":[0.5,-1.0]}"#;
    const NOTICE: &str = r#"{"gap":{"from":8,"blocks":3,"reason":"overflow"}}"#;

    #[test]
    fn titles_are_passed_over() {
        let title = format!(r#"{{"metadata":{{"title":"{}"}},"sequence":7}}"#, "a".repeat(300));
        let line = format!("{title}\n{BLOCK}\n");
        assert_eq!(read(false, &line, 7).unwrap().len(), 1);
        let event = format!("event: metadata\ndata: {title}\n\nid: 7\ndata: {BLOCK}\n\n");
        assert_eq!(read(true, &event, 7).unwrap().len(), 1);
    }

    fn read(events: bool, text: &str, piece: usize) -> Result<Vec<Item>, String> {
        let mut lines = Lines::new(events);
        let mut items = Vec::new();
        text.as_bytes().chunks(piece).try_for_each(|piece| lines.push(piece, &mut |item| items.push(item)))?;
        Ok(items)
    }

    fn expected() -> Vec<Item> {
        let captured_at_nanos = 1_790_000_000_123_456_000;
        vec![
            Item::Block { sequence: 7, position: Some(3360), captured_at_nanos },
            Item::Gap(GapNotice { from: 8, blocks: 3, reason: "overflow".into() }),
        ]
    }

    #[test]
    fn numbers_and_gaps_are_read_from_pieces_of_any_size() {
        for piece in [1, 7, 1000] {
            assert_eq!(read(false, &format!("{BLOCK}\n{NOTICE}\n"), piece).unwrap(), expected());
            let epoch = r#"{"epoch":{"number":1,"sequence":7}}"#;
            assert_eq!(read(false, &format!("{epoch}\n{BLOCK}\n{NOTICE}\n"), piece).unwrap(), expected());
            let events = format!(":\n\nid: 7\ndata: {BLOCK}\n\nid: 10\nevent: gap\ndata: {NOTICE}\n\n");
            assert_eq!(read(true, &events, piece).unwrap(), expected());
        }
    }

    #[test]
    fn a_line_counts_when_it_has_ended() {
        assert_eq!(read(false, BLOCK, 1000), Ok(vec![]));
    }

    #[test]
    fn long_lines_cost_no_memory() {
        let long = BLOCK.replace("0.5", &"0.25,".repeat(100_000));
        let mut lines = Lines::new(false);
        let mut items = 0;
        lines.push(format!("{long}\n").as_bytes(), &mut |_| items += 1).unwrap();
        assert_eq!((items, lines.head.capacity()), (1, HEAD_BYTES));
    }

    #[test]
    fn an_unreadable_line_is_named() {
        let cases = [
            ("<html>}\n".to_owned(), "cannot read line 1 of the stream: it does not begin"),
            (format!("{BLOCK}\n{}\n", &BLOCK[..70]), "cannot read line 2 of the stream: it breaks off"),
            (BLOCK.replace("3360", "-1") + "\n", "does not begin"),
            (r#"{"gap":{"from":1}}"#.to_owned() + "\n", "missing field"),
        ];
        for (text, words) in cases {
            let why = read(false, &text, 1000).unwrap_err();
            assert!(why.contains(words), "{why:?} should say {words:?}");
        }
    }
}
