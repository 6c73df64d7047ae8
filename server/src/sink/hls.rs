//! HTTP Live Streaming (RFC 8216): the sound of a mount in segments, for caches and for players that know nothing else.
//!
//! A [`Packager`] of each [`Variant`] is a consumer of the mount's encoders, which listeners have too. It makes segments of
//! [`SEGMENT_SPAN`] while somebody asks for them, and a [`playlist`] names the newest.
//!
//! **Numbers survive everything.** A segment's number follows from its position in the stream, so it is the same whenever somebody begins to
//! ask. Its URL has the [`Epoch`] of the stream besides, so that no cache serves sound of another one. In playlists, numbers count on
//! from the epoch in seconds. A stream has one segment in two seconds, so the numbers of a later one are always higher. The times in segments
//! count on from the epoch, too.

mod epoch;
mod packager;
pub mod playlist;
mod segmenter;
mod variant;
mod window;

use std::sync::Arc;
use std::time::Duration;

use aircheck_engine::Format;

use crate::rendition::encoders::Encoders;
pub use epoch::Epoch;
pub use packager::{Account, HlsError, Listing, Packager};
pub use variant::Variant;
pub use window::{Found, SEGMENT_SPAN, Segment};

/// The variants of a mount.
#[derive(Debug)]
pub struct Hls {
    epoch: Epoch,
    packagers: [Arc<Packager>; Variant::ALL.len()],
}

impl Hls {
    /// Makes the variants of a stream of `format`; FLAC with samples of `flac_bits` bits. `history` is how much of it the encoders have
    /// when they start.
    #[must_use]
    pub fn new(encoders: &Arc<Encoders>, format: Format, flac_bits: u32, history: Duration) -> Self {
        let epoch = Epoch::begin();
        let packager = |variant| {
            let recipe = variant::Recipe::new(variant, format, flac_bits, epoch);
            Packager::new(variant, recipe, Arc::clone(encoders), history)
        };
        Self { epoch, packagers: Variant::ALL.map(packager) }
    }

    /// Returns the epoch of the stream.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Returns the packagers of the variants that can carry the sound, in the order of [`Variant::ALL`].
    pub fn possible(&self) -> impl Iterator<Item = &Arc<Packager>> {
        self.packagers.iter().filter(|packager| packager.bandwidth().is_some())
    }

    /// Returns the packager of a variant.
    #[must_use]
    pub fn packager(&self, variant: Variant) -> &Arc<Packager> {
        &self.packagers[variant as usize]
    }
}
