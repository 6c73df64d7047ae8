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

/// The changes of a page's checksum with each of 128 bits. They are kept for the next listener, which gets the same page:
/// adding up those of the changed bits takes a quarter of the time of a checksum and a product.
#[derive(Debug)]
pub struct Weights {
    /// What they were made for.
    shift: u32,
    /// The change with each bit, from the lowest of the last byte on, in two halves.
    of_bits: [[u32; 64]; 2],
}

impl Default for Weights {
    fn default() -> Self {
        // No factor is 0.
        Self { shift: 0, of_bits: [[0; 64]; 2] }
    }
}

impl Weights {
    /// Returns how a page's checksum changes, by exclusive or, when `difference` is what changes of its bytes, also by
    /// exclusive or, and [`shift`] that of the bytes after them.
    #[inline]
    pub(super) fn change(&mut self, difference: [u8; 16], shift: u32) -> u32 {
        if self.shift != shift {
            self.make(shift);
        }
        let bits = u128::from_be_bytes(difference);
        let mut change = 0;
        for (mut half, weights) in [bits as u64, (bits >> 64) as u64].into_iter().zip(&self.of_bits) {
            while half != 0 {
                change ^= weights[half.trailing_zeros() as usize];
                half &= half - 1;
            }
        }
        change
    }

    fn make(&mut self, shift: u32) {
        self.shift = shift;
        let mut weight = multiply(checksum(&[1]), shift);
        for of_bit in self.of_bits.as_flattened_mut() {
            *of_bit = weight;
            weight = times_x(weight);
        }
    }
}

/// Returns the remainder of a product of polynomials.
fn multiply(a: u32, b: u32) -> u32 {
    let mut product = 0_u32;
    for bit in (0..u32::BITS).rev() {
        product = times_x(product) ^ 0_u32.wrapping_sub(b >> bit & 1) & a;
    }
    product
}

/// Returns the remainder of a polynomial times x.
fn times_x(a: u32) -> u32 {
    let carry = 0_u32.wrapping_sub(a >> 31);
    a << 1 ^ carry & POLYNOMIAL
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
        let (mut weights, difference) = (Weights::default(), std::array::from_fn(|n| (0xA5 * n) as u8));
        for start in [100, 101, 101, 584] {
            let mut page: Vec<u8> = (0..600).map(|n| (n * 7) as u8).collect();
            let before = checksum(&page);
            page[start..start + 16].iter_mut().zip(difference).for_each(|(byte, difference)| *byte ^= difference);
            assert_eq!(checksum(&page), before ^ weights.change(difference, shift(600 - start - 16)), "{start}");
        }
    }
}
