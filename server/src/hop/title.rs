//! The titles of a publisher's sound, byte for byte.
//!
//! A title is a message on the published subject, directly before its first block, so JetStream keeps it in its place, too. The answer
//! about the clock ends with the title of the newest block, for those who have come later. Numbers are little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 0 to 3 | `AIRC` |
//! | 4 | version: 1 |
//! | 5 | 3 |
//! | 6 to 7 | 0 |
//! | 8 to 15 | epoch |
//! | 16 to 23 | sequence number of the first block that it belongs to |
//! | 24 to the end | the metadata in JSON: `title` and `artist`, as far as they are known |

use aircheck_api::Metadata;

use super::message::{MAGIC, MessageError, VERSION};

/// What stands where a message with a block has the encoding of its samples.
const TITLE: u8 = 3;
/// Bytes before the metadata.
const HEAD_BYTES: usize = 24;
/// The most bytes of a title: 250 characters each for title and artist, which take 12 bytes at most in JSON.
const MAX_BYTES: usize = 8 * 1024;

/// A title, and where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Title {
    /// The run of the publisher's mount.
    pub epoch: u64,
    /// Number of the first block that it belongs to.
    pub sequence: u64,
    /// The metadata.
    pub metadata: Metadata,
}

impl Title {
    /// Returns epoch and sequence number, by which titles are ordered.
    #[must_use]
    pub fn place(&self) -> (u64, u64) {
        (self.epoch, self.sequence)
    }

    /// Returns its bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(MAGIC);
        bytes.extend([VERSION, TITLE, 0, 0]);
        bytes.extend([self.epoch, self.sequence].iter().flat_map(|it| it.to_le_bytes()));
        // Two texts are always JSON.
        bytes.extend(serde_json::to_vec(&self.metadata).unwrap_or_default());
        bytes
    }

    /// Reads a title; `None` for a message that is none.
    ///
    /// # Errors
    ///
    /// When it is one that cannot be read.
    pub fn read(bytes: &[u8]) -> Option<Result<Self, MessageError>> {
        let (head, metadata) = bytes.split_first_chunk::<HEAD_BYTES>()?;
        if head[..4] != MAGIC || head[4..6] != [VERSION, TITLE] {
            return None;
        }
        let number = |at: usize| u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|n| head[at + n]));
        let metadata = (bytes.len() <= MAX_BYTES).then(|| serde_json::from_slice(metadata).ok()).flatten();
        let metadata = metadata.ok_or(MessageError::Malformed("its title is not JSON, or too long"));
        Some(metadata.map(|metadata| Self { epoch: number(8), sequence: number(16), metadata }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hop::message;

    #[test]
    fn a_title_comes_out_as_it_went_in() {
        let metadata = Metadata { title: Some("“Ré”".to_owned()), artist: None };
        let title = Title { epoch: 0x0102_0304_0506_0708, sequence: 9, metadata };
        let bytes = title.to_bytes();
        let head = [b"AIRC".as_slice(), &[1, 3, 0, 0], &[8, 7, 6, 5, 4, 3, 2, 1], &[9, 0, 0, 0, 0, 0, 0, 0]].concat();
        assert_eq!(bytes, [&head[..], r#"{"title":"“Ré”"}"#.as_bytes()].concat());
        assert_eq!(Title::read(&bytes), Some(Ok(title)));
        assert!(message::read(&bytes).is_err(), "it is no block");
        assert_eq!(Title::read(&bytes[..20]), None);
        assert!(matches!(Title::read(&bytes[..30]), Some(Err(_))));
        let long = [&bytes[..], &vec![b' '; MAX_BYTES]].concat();
        assert!(matches!(Title::read(&long), Some(Err(_))));
    }
}
