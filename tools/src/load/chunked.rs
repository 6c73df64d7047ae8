//! Where an answer's body is in the bytes of a connection: all of them, or the chunks of RFC 9112, section 7.1.

/// Longest line of a chunk's size that is taken: aircheck's have 6 bytes, extensions are rare.
const LINE_MOST: usize = 256;

/// How the end of a body is known.
#[derive(Debug)]
pub(crate) enum Body {
    /// It is not: the connection's end is the body's, and nobody can tell whether it was meant.
    UntilClosed,
    /// By a last chunk.
    Chunked(Chunked),
}

/// Where in the chunks a connection is.
#[derive(Debug, Default)]
pub(crate) struct Chunked {
    /// What is left of a chunk.
    left: u64,
    /// The line of the next one's size, as far as it has come; the end of the chunk before it counts as its beginning.
    line: Vec<u8>,
    /// The last chunk has come.
    over: bool,
}

impl Body {
    /// The next piece of the body in `bytes`, and what follows it; nothing when `bytes` holds no more.
    ///
    /// # Errors
    ///
    /// When what should be a chunk is none.
    pub(crate) fn piece<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>, String> {
        match self {
            Self::UntilClosed => Ok(Some(std::mem::take(bytes)).filter(|piece| !piece.is_empty())),
            Self::Chunked(chunked) => chunked.piece(bytes),
        }
    }

    /// Whether its end has come.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self, Self::Chunked(Chunked { over: true, .. }))
    }
}

impl Chunked {
    fn piece<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>, String> {
        while self.left == 0 && !self.over {
            let Some((&byte, rest)) = bytes.split_first() else { return Ok(None) };
            *bytes = rest;
            if byte == b'\n' {
                self.size()?;
            } else if self.line.len() < LINE_MOST {
                self.line.push(byte);
            } else {
                return Err("its chunks have no sizes".to_owned());
            }
        }
        if bytes.is_empty() || self.over {
            return Ok(None);
        }
        let length = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let (piece, rest) = bytes.split_at(length);
        *bytes = rest;
        self.left -= length as u64;
        Ok(Some(piece))
    }

    fn size(&mut self) -> Result<(), String> {
        let line = self.line.trim_ascii();
        let digits = line.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii_end();
        if !digits.is_empty() {
            let text = std::str::from_utf8(digits).unwrap_or_default();
            self.left = u64::from_str_radix(text, 16).map_err(|_| "its chunks have no sizes".to_owned())?;
            self.over = self.left == 0;
        }
        self.line.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, piece: usize) -> Result<(String, bool), String> {
        let mut body = Body::Chunked(Chunked::default());
        let mut read = Vec::new();
        for mut bytes in text.as_bytes().chunks(piece) {
            while let Some(piece) = body.piece(&mut bytes)? {
                read.extend(piece);
            }
        }
        Ok((String::from_utf8(read).unwrap(), body.is_over()))
    }

    #[test]
    fn chunks_are_put_together_in_whatever_pieces_they_come() {
        for piece in [1, 4, 1000] {
            let text = "5\r\nhello\r\nA;x=y\r\n0123456789\r\n";
            assert_eq!(read(text, piece), Ok(("hello0123456789".to_owned(), false)));
            assert_eq!(read(&format!("{text}0\r\n\r\n"), piece), Ok(("hello0123456789".to_owned(), true)));
        }
    }

    #[test]
    fn what_is_no_chunk_is_told() {
        assert!(read("hello\r\n", 100).is_err());
        assert!(read(&"1".repeat(300), 100).is_err());
    }

    #[test]
    fn without_chunks_all_is_the_body() {
        let mut bytes = &b"abc"[..];
        let mut body = Body::UntilClosed;
        assert_eq!(body.piece(&mut bytes), Ok(Some(&b"abc"[..])));
        assert_eq!(body.piece(&mut bytes), Ok(None));
        assert!(!body.is_over());
    }
}
