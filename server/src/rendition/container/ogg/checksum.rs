//! The checksum of Ogg pages, and its change when a few bytes of a page change.
//!
//! The checksum is the remainder of the page, read as a polynomial over bits, divided by [`POLYNOMIAL`]. It is linear: the
//! checksum of two pages' exclusive or is the exclusive or of their checksums. So the change of a checksum is that of a
//! page with nothing but the changed bits, and bytes of zero after those multiply it by a power of x.

use crc::{Algorithm, Crc};

/// The divisor without its highest term, x to the 32nd (RFC 3533, section 6).
const POLYNOMIAL: u32 = 0x04C1_1DB7;
const CHECKSUM: Crc<u32> = Crc::<u32>::new(&Algorithm {
    width: 32,
    poly: POLYNOMIAL,
    init: 0,
    refin: false,
    refout: false,
    xorout: 0,
    check: 0x89A1_897F,
    residue: 0,
});

/// Returns the checksum of a page whose own field for it is zero.
pub(super) fn checksum(page: &[u8]) -> u32 {
    CHECKSUM.checksum(page)
}

/// Returns the factor that `bytes` bytes after a change multiply its checksum by.
pub(super) fn shift(bytes: usize) -> u32 {
    let (mut factor, mut power) = (1, 1 << 8);
    let mut bytes = bytes;
    while bytes > 0 {
        if bytes & 1 == 1 {
            factor = multiply(factor, power);
        }
        power = multiply(power, power);
        bytes >>= 1;
    }
    factor
}

/// Returns how a page's checksum changes, by exclusive or, when `difference` is what changes of its bytes, also by
/// exclusive or, and [`shift`] that of the bytes after them.
#[inline]
pub(super) fn change(difference: &[u8], shift: u32) -> u32 {
    multiply(checksum(difference), shift)
}

/// Returns the remainder of a product of polynomials.
#[inline]
fn multiply(a: u32, b: u32) -> u32 {
    let mut product = 0_u32;
    for bit in (0..u32::BITS).rev() {
        let carry = 0_u32.wrapping_sub(product >> 31);
        product = product << 1 ^ carry & POLYNOMIAL ^ 0_u32.wrapping_sub(b >> bit & 1) & a;
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_catalogue() {
        assert_eq!(checksum(b"123456789"), 0x89A1_897F);
    }

    #[test]
    fn a_change_counts_wherever_it_is() {
        let mut page: Vec<u8> = (0..600).map(|n| (n * 7) as u8).collect();
        let before = checksum(&page);
        page[100] ^= 0xA5;
        page[101] ^= 0x01;
        assert_eq!(checksum(&page), before ^ change(&[0xA5, 0x01], shift(498)));
    }
}
