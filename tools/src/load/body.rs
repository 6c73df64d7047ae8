//! The body of an HTTP answer: until the connection ends, or in chunks (RFC 9112, section 7.1). It is decoded where it
//! lies, and nothing of it is kept.

/// A body as far as it has been decoded.
#[derive(Debug)]
pub(crate) enum Body {
    /// Ends with the connection, and may be cut off.
    UntilClose,
    /// In a chunk's first line; the size as far as its digits have come.
    Size(Option<u64>),
    /// After the digits of that line.
    Extension(u64),
    /// In a chunk; so many bytes of it are due.
    Data(u64),
    /// In the line break after a chunk.
    DataEnd,
    /// After the last chunk; whether the line has no bytes yet.
    Trailer { is_empty: bool },
    /// All of it has come.
    Ended,
}

impl Body {
    /// Begins a body that is in chunks, or ends with the connection.
    pub(crate) fn new(is_chunked: bool) -> Self {
        if is_chunked { Self::Size(None) } else { Self::UntilClose }
    }

    /// Takes the next piece of data from the front of `bytes`; `None` when the rest held none.
    ///
    /// # Errors
    ///
    /// If a chunk does not begin as one.
    pub(crate) fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>, &'static str> {
        while !bytes.is_empty() {
            let length = match *self {
                Self::UntilClose => bytes.len(),
                Self::Data(due) => bytes.len().min(usize::try_from(due).unwrap_or(usize::MAX)),
                Self::Ended => return Ok(None),
                _ => {
                    let (&byte, rest) = bytes.split_first().unwrap_or((&0, &[]));
                    *bytes = rest;
                    self.frame(byte)?;
                    continue;
                }
            };
            let (data, rest) = bytes.split_at(length);
            *bytes = rest;
            if let Self::Data(due) = self {
                *due -= length as u64;
                if *due == 0 {
                    *self = Self::DataEnd;
                }
            }
            return Ok(Some(data));
        }
        Ok(None)
    }

    /// Reads a byte between chunks.
    fn frame(&mut self, byte: u8) -> Result<(), &'static str> {
        *self = match (&*self, byte) {
            (Self::Size(Some(size)) | Self::Extension(size), b'\n') => match size {
                0 => Self::Trailer { is_empty: true },
                &size => Self::Data(size),
            },
            (&Self::Extension(size), _) => Self::Extension(size),
            (Self::Size(size), byte) => match ((byte as char).to_digit(16), size) {
                (Some(digit), size) => {
                    let size = size.unwrap_or(0).checked_mul(16).ok_or("a chunk is too long")?;
                    Self::Size(Some(size + u64::from(digit)))
                }
                (None, &Some(size)) if matches!(byte, b'\r' | b';' | b' ' | b'\t') => Self::Extension(size),
                (None, _) => return Err("a chunk does not begin with its length"),
            },
            (Self::DataEnd, b'\r') => Self::DataEnd,
            (Self::DataEnd, b'\n') => Self::Size(None),
            (Self::DataEnd, _) => return Err("a chunk is longer than it said"),
            (Self::Trailer { is_empty: true }, b'\n') => Self::Ended,
            (Self::Trailer { .. }, b'\n') => Self::Trailer { is_empty: true },
            (&Self::Trailer { is_empty }, byte) => Self::Trailer { is_empty: is_empty && byte == b'\r' },
            (Self::UntilClose | Self::Data(_) | Self::Ended, _) => return Ok(()),
        };
        Ok(())
    }

    /// Returns whether all of it has come.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self, Self::Ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(text: &str, piece: usize) -> Result<(String, bool), &'static str> {
        let mut body = Body::new(true);
        let mut data = Vec::new();
        for mut bytes in text.as_bytes().chunks(piece) {
            while let Some(piece) = body.next(&mut bytes)? {
                data.extend_from_slice(piece);
            }
        }
        Ok((String::from_utf8(data).unwrap(), body.has_ended()))
    }

    #[test]
    fn chunks_are_taken_from_pieces_of_any_size() {
        let text = "5\r\nhello\r\n1A;x=y\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nTrailer: 1\r\n\r\nmore";
        for piece in [1, 2, 3, 7, 1000] {
            let whole = ("helloabcdefghijklmnopqrstuvwxyz".to_owned(), true);
            assert_eq!(decode(text, piece), Ok(whole), "in pieces of {piece}");
            assert!(!decode(&text[..text.len() - 6], piece).unwrap().1, "without the last line break");
        }
    }

    #[test]
    fn bytes_that_are_no_chunk_are_refused() {
        for text in ["hello", "\r\n", "5\r\nhello!\r\n", "11112222333344445\r\n"] {
            assert!(decode(text, 1000).is_err(), "{text}");
        }
    }
}
