//! Gaussian noise: seedable, counter-based, the same bytes on every core.
//!
//! Bits come from ChaCha with 8 rounds (Bernstein 2008; the state as in RFC 8439, section 2.3): 32-bit adds, xors and
//! rotations only, so it is cheap even on a Cortex-M0+ that would need four multiplies for each of Philox's. Any element
//! of any stream is reached without the ones before it, so a snapshot holds no generator state. Own code, because the
//! public crates bring run-time CPU detection and several KB of vector code for what is thirty lines here.
//!
//! Bits become a normal deviate by the inverse of its distribution function: algorithm AS 241 (PPND7), Wichura, *The
//! Percentage Points of the Normal Distribution*, Applied Statistics 37 (1988): relative accuracy about 1e-7. It needs a
//! logarithm in the tails; that is written out below, because output bits depend on it. Golden values in the tests pin
//! all of it. What voids the promise: any f32 operation that is not correctly rounded.

use crate::sqrt::sqrt;

/// One block of ChaCha8: 16 words for (seed, stream, block).
pub fn chacha8(seed: u64, stream: u32, block: u32) -> [u32; 16] {
    let (low, high) = (seed as u32, (seed >> 32) as u32);
    // "expand 32-byte k", the key (the seed, then zeros), the block counter, the nonce (the stream, then zeros).
    let input = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574, low, high, 0, 0, 0, 0, 0, 0, block, stream, 0, 0];
    let mut s = input;
    for _ in 0..4 {
        for [a, b, c, d] in [[0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15]] {
            quarter_round(&mut s, a, b, c, d);
        }
        for [a, b, c, d] in [[0, 5, 10, 15], [1, 6, 11, 12], [2, 7, 8, 13], [3, 4, 9, 14]] {
            quarter_round(&mut s, a, b, c, d);
        }
    }
    core::array::from_fn(|i| s[i].wrapping_add(input[i]))
}

#[inline(always)]
fn quarter_round(s: &mut [u32; 16], a: usize, b: usize, c: usize, d: usize) {
    for (x, y, z, bits) in [(a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)] {
        // `& 15` is what shows the compiler that no index is out of bounds.
        s[x & 15] = s[x & 15].wrapping_add(s[y & 15]);
        s[z & 15] = (s[z & 15] ^ s[x & 15]).rotate_left(bits);
    }
}

/// The standard normal deviate of 32 random bits (the upper 23 are used; magnitudes reach 5.4).
pub fn normal(bits: u32) -> f32 {
    // (2n + 1)/2²⁴ for a 23-bit n: exact, never 0 or 1, and symmetric.
    let p = ((bits >> 9) * 2 + 1) as f32 * (1.0 / 16_777_216.0);
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        let r = 0.180_625 - q * q;
        let numerator = ((59.109_375 * r + 159.291_13) * r + 50.434_272) * r + 3.387_132_7;
        let denominator = ((67.187_56 * r + 78.757_76) * r + 17.895_17) * r + 1.0;
        return q * numerator / denominator;
    }
    let tail = if q < 0.0 { p } else { 1.0 - p };
    let r = sqrt(-ln(tail)) - 1.6;
    let numerator = ((0.170_238_21 * r + 1.306_728_5) * r + 2.756_815_4) * r + 1.423_437_3;
    let denominator = (0.120_211_33 * r + 0.737_001_66) * r + 1.0;
    let magnitude = numerator / denominator;
    if q < 0.0 { -magnitude } else { magnitude }
}

/// Natural logarithm of a positive normal number, to about 1e-7 relative: `x = m·2ᵉ` with m in √½..√2, and
/// `ln m = 2·artanh((m − 1)/(m + 1))` by five terms of its series (the sixth is below 3e-9).
fn ln(x: f32) -> f32 {
    let bits = x.to_bits();
    // 0x3f3504f3 is √½: subtracting it makes the exponent that of m.
    let exponent = bits.wrapping_sub(0x3f35_04f3) as i32 >> 23;
    let m = f32::from_bits(bits.wrapping_sub((exponent as u32) << 23));
    let s = (m - 1.0) / (m + 1.0);
    let s2 = s * s;
    let series = (((s2 * (1.0 / 9.0) + 1.0 / 7.0) * s2 + 0.2) * s2 + 1.0 / 3.0) * s2 + 1.0;
    exponent as f32 * core::f32::consts::LN_2 + 2.0 * s * series
}

/// A stream of a seed's noise: element i is [`normal`] of word i mod 16 of block i / 16.
///
/// Stream 0 is x_T; stream 1 + r is that of row r of the schedule.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    seed: u64,
    stream: u32,
    block: u32,
    words: [u32; 16],
}

impl Stream {
    /// The stream.
    pub fn new(seed: u64, stream: u32) -> Self {
        Self { seed, stream, block: 0, words: chacha8(seed, stream, 0) }
    }

    /// Element `i`; cheapest in order.
    pub fn at(&mut self, i: usize) -> f32 {
        let block = (i / 16) as u32;
        if block != self.block {
            (self.block, self.words) = (block, chacha8(self.seed, self.stream, block));
        }
        normal(self.words[i % 16])
    }
}

/// Fills `out` with stream `stream` of the seed's noise.
pub fn fill(seed: u64, stream: u32, out: &mut [f32]) {
    let mut noise = Stream::new(seed, stream);
    out.iter_mut().enumerate().for_each(|(i, x)| *x = noise.at(i));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chacha8_is_the_published_cipher() {
        // ECRYPT / draft-strombergson-chacha-test-vectors-01, TC1 for 8 rounds and a 256-bit key: all zero.
        let words = chacha8(0, 0, 0);
        let bytes: [u8; 8] = [0x3e, 0x00, 0xef, 0x2f, 0x89, 0x5f, 0x40, 0xd6];
        assert_eq!(words[0].to_le_bytes(), bytes[..4]);
        assert_eq!(words[1].to_le_bytes(), bytes[4..]);
    }

    #[test]
    fn quantiles_are_the_normal_ones() {
        for (p, z) in [
            (0.5f64, 0.0f64),
            (0.975, 1.959_964),
            (0.025, -1.959_964),
            (0.841_344_75, 1.0),
            (0.998_650_1, 3.0),
            (1e-6, -4.753_424),
        ] {
            let bits = ((p * 8_388_608.0) as u32) << 9;
            assert!(
                (normal(bits) as f64 - z).abs() < 0.006 * (1.0 + z.abs() / 2.0) * if p < 1e-5 { 10.0 } else { 1.0 },
                "{p}: {}",
                normal(bits)
            );
        }
        // Accuracy proper, where p is exact: n + 1/2 over 2²³.
        let n = 8_178_892u32; // p = 0.974 999 964
        assert!((normal(n << 9) as f64 - 1.959_963_37).abs() < 1e-6, "{}", normal(n << 9));
    }

    #[test]
    fn noise_is_standard_normal() {
        let mut x = [0.0f32; 4096];
        fill(7, 0, &mut x);
        let mean = x.iter().map(|&x| x as f64).sum::<f64>() / 4096.0;
        let var = x.iter().map(|&x| (x as f64 - mean).powi(2)).sum::<f64>() / 4096.0;
        assert!(mean.abs() < 0.05 && (var - 1.0).abs() < 0.07, "{mean} {var}");
        let mut other = [0.0f32; 16];
        fill(7, 1, &mut other);
        assert_ne!(x[..16], other);
    }

    #[test]
    fn logarithm_is_accurate() {
        for i in 1..2000u32 {
            let x = i as f32 / 2000.0 * 0.08;
            let exact = libm::log(x as f64);
            assert!(((ln(x) as f64 - exact) / exact).abs() < 2e-7, "{x}");
        }
    }
}
