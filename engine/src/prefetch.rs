//! A hint to the processor, for loops over thousands of owners whose state is in no cache.

use std::ptr;

/// Bytes of a cache line. Where lines are longer, some are fetched twice.
const LINE_BYTES: usize = 64;

/// Asks the processor to fetch the memory of `value`, without waiting for it. Does nothing on processors for which the
/// standard library has no such hint.
///
/// ```
/// let counts = Box::new([0; 64]);
/// aircheck_engine::prefetch(&*counts);
/// ```
#[inline]
pub fn prefetch<T: ?Sized>(value: &T) {
    let first = ptr::from_ref(value).cast::<u8>();
    let before = first.addr() % LINE_BYTES;
    for offset in (0..before + size_of_val(value)).step_by(LINE_BYTES) {
        fetch_line(first.wrapping_sub(before).wrapping_add(offset));
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[allow(unsafe_code, reason = "the intrinsic is unsafe only for processors without SSE")]
fn fetch_line(line: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

    // SAFETY: each x86-64 has SSE, and a prefetch never faults, whatever the address is.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn fetch_line(_line: *const u8) {}
