//! A value in cache lines of its own, so that threads that use its neighbours do not fight for them.

use std::ops::Deref;

/// A value in cache lines of its own: of 64 bytes, or of 128 where lines are as long.
///
/// `CachePadded` takes 128 bytes on x86-64, too, because Intel's processors may fetch lines in pairs. An account has three
/// of these values: the counts of a producing end, which fill two lines, and those of a consuming end and the signals, which
/// fill one each. So it takes 256 bytes in place of 384, and less lies unused before it, which is up to an alignment.
#[derive(Debug)]
#[cfg_attr(not(target_arch = "aarch64"), repr(align(64)))]
#[cfg_attr(target_arch = "aarch64", repr(align(128)))]
pub(crate) struct CacheLines<T>(pub(crate) T);

impl<T> Deref for CacheLines<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
