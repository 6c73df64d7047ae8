//! The recorder: WAV or FLAC files in which every sample is at its position in the stream.
//!
//! The recorder is a consumer like any other, on a thread of its own. A block that it did not get becomes exactly as
//! much silence, and a line in the sidecar, the file beside the WAV, says where and why. So the position of a sample in
//! a file plus the position of the file is the sample's position in the stream. The consumer's
//! [`Stats`](aircheck_engine::Stats) counts lost and waiting blocks; nothing is counted twice.
//!
//! A `SegmentWriter` decides which `Part` of the stream goes into which `Segment`, a WAV with its `Sidecar`, in a
//! `Storage`, the directory. While the disk fails, the recorder takes nothing from its ring. The ring holds the sound as
//! long as it can, so that the next segment continues where the last one ends; afterwards it counts the blocks that it
//! refuses.
//!
//! The recorder never delays the source or another consumer, and never opens or overwrites an existing file.

mod progress;
mod storage;

mod directory;

mod fail_stop;
mod failure_log;
mod flac_reader;
mod flac_writer;
mod length;
mod name;
mod parts;
mod segment;
mod segment_writer;
mod sidecar;

mod index;
mod recording;
mod retention;
mod run_reader;
mod worker;

#[cfg(test)]
mod fake_storage;
#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod fuzz;

pub(crate) use directory::free_bytes;
pub use directory::{RecordError, RecordingDirectory};
pub use index::{Entry, Index};
pub(crate) use recording::coding;
pub use recording::{FormatError, Recording};
pub use run_reader::{Found, RunReader};
