//! Inputs and assertions that the fuzz targets share. The targets stand beside the parsers that they try.
//!
//! A fuzzer makes bytes. Of random bytes alone, a parser refuses the first one and no more is tried; [`text`] and [`edited`]
//! turn them into input that gets further, and leave files of a corpus readable.

/// Makes a text of `bytes`: each below 128 is its ASCII character, and each other one is one of `words`.
///
/// ```
/// assert_eq!(aircheck_fuzz::text(b"a\x80=\x81\x83", &["one", "two"]), "aone=twotwo");
/// ```
#[must_use]
pub fn text(bytes: &[u8], words: &[&str]) -> String {
    let mut text = String::new();
    for byte in bytes {
        let number = usize::from(byte & 0x7f);
        match words.get(number.checked_rem(words.len()).unwrap_or(0)) {
            Some(word) if !byte.is_ascii() => text.push_str(word),
            _ => text.push(char::from(byte & 0x7f)),
        }
    }
    text
}

/// Makes a file of `bytes`: the first one chooses one of `bases`, which the others edit, four bytes an edit (place, kind, value).
/// With a first byte of 0, the others are the file.
///
/// ```
/// use aircheck_fuzz::edited;
///
/// assert_eq!(edited(b"\x00raw", &[b"RIFF"]), b"raw");
/// assert_eq!(edited(&[1, 1, 0, 0, b'a'], &[b"RIFF"]), b"RaFF");
/// assert_eq!(edited(&[1, 2, 0, 4, 0], &[b"RIFF"]), b"RI");
/// ```
#[must_use]
pub fn edited(bytes: &[u8], bases: &[&[u8]]) -> Vec<u8> {
    let Some((first, edits)) = bytes.split_first() else { return Vec::new() };
    let Some(base) =
        usize::from(*first).checked_rem(bases.len() + 1).and_then(|number| bases.get(number.wrapping_sub(1)))
    else {
        return edits.to_vec();
    };
    let mut file = base.to_vec();
    let (edits, _) = edits.as_chunks::<4>();
    for [low, high, kind, value] in edits {
        // Most of what is read is at the beginning.
        let place = usize::from(u16::from_le_bytes([*low, *high])) % (file.len() + 1);
        match kind % 5 {
            1 => file.insert(place, *value),
            2 if place < file.len() => drop(file.remove(place)),
            3 => {
                let end = file.len().min(place + 4);
                file[place..end].fill(*value);
            }
            4 => file.truncate(place),
            _ => {
                if let Some(byte) = file.get_mut(place) {
                    *byte = *value;
                }
            }
        }
    }
    file
}

/// Asserts that `sentence` is one line that a terminal can show.
///
/// # Panics
///
/// When it is empty or has a control character.
pub fn assert_one_line(sentence: &str) {
    assert!(!sentence.trim().is_empty(), "an error says nothing");
    assert!(!sentence.chars().any(char::is_control), "an error is more than a line: {sentence:?}");
}
