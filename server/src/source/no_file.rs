//! Sound files in a program that was built without decoders: there are none.

use std::path::Path;
use std::sync::Arc;

use crate::metadata::MetadataLog;

/// Refuses.
pub(super) fn open(
    path: &Path,
    _looped: bool,
    _metadata: Arc<MetadataLog>,
) -> Result<impl super::Pull + use<>, String> {
    let refusal = format!("{}: this build has no decoders (build it with the feature `decode`)", path.display());
    Err::<super::Demo, _>(refusal)
}
