//! The one rounding rule, and the recipes that turn a step's scales into integer constants.
//!
//! # The rule
//! `mul_round(a, m) = (a·m + 2³⁰) >> 31`, `|m| < 2³⁰`: round half up of `a·m/2³¹`. One instruction on Armv7E-M
//! (`SMMULR` with 2m), NEON and Helium (`SQRDMULH`, `VQRDMULH`, which cannot saturate at these m), two multiplies for
//! eight lanes on AVX2, four 16-bit products on a core without a 32×32→64 multiply. A factor of one half or more gets
//! there by a saturating left shift of `a`, the same for all channels of a tensor.
//!
//! # The recipes
//! Written-order f32, only `+ − × ÷ √` and conversions, each correctly rounded; so they give the same integers on every
//! core. They are run once an operator and step, not once an element. What voids the promise: reassociation, fused
//! multiply-add, flush-to-zero. Rust does none of these by itself.

/// One half more bits of a sum of several rounded products: sums carry this many fraction bits and round once.
pub const SUM_FRACTION_BITS: u32 = 4;

/// Fraction bits of a group norm's result before it is rounded to a table index.
pub const NORM_FRACTION_BITS: u32 = 8;

/// The largest offset of a group norm, apart from the half that rounds.
pub const OFFSET_MAX: i32 = 1 << 29;

/// The largest multiplier.
pub const MULTIPLIER_MAX: i32 = (1 << 30) - 1;

/// `(a·m + 2³⁰) >> 31`: a·m/2³¹ rounded half up. `|m| ≤` [`MULTIPLIER_MAX`].
#[inline(always)]
pub const fn mul_round(a: i32, m: i32) -> i32 {
    ((a as i64 * m as i64 + (1 << 30)) >> 31) as i32
}

/// `a·2^shift`, saturated. `shift` at most 30.
#[inline(always)]
pub fn shl_saturating(a: i32, shift: u32) -> i32 {
    a.clamp(i32::MIN >> shift, i32::MAX >> shift) << shift
}

/// x to the nearest integer, ties to even; saturates, and NaN gives 0.
///
/// By hand, because `libm::rintf` is a call each time, 2.7 % of a step of a small network on a host; where flash counts, this is one
/// too (200 bytes less on a Cortex-M4).
#[cfg(target_os = "none")]
#[inline(never)]
pub fn round_to_i32(x: f32) -> i32 {
    // From 2²³ on there are no fraction bits; below, adding it shifts them out, rounded as every sum is.
    const WHOLE: f32 = 8_388_608.0;
    let whole = WHOLE.copysign(x);
    let rounded = if x.abs() < WHOLE { (x + whole) - whole } else { x };
    rounded as i32
}

/// As there. A conversion that saturates keeps a compiler from vectors: with it, a norm's constants take twice as long.
#[cfg(not(target_os = "none"))]
#[inline]
pub fn round_to_i32(x: f32) -> i32 {
    // 1.5·2⁵², whose last bit is worth 1: what is added to it is rounded as every sum is, and stands in its last 32 bits.
    const WHOLE: f64 = 6_755_399_441_055_744.0;
    let wide = x as f64;
    let wide = if wide < i32::MAX as f64 { wide } else { i32::MAX as f64 };
    let wide = if wide > i32::MIN as f64 { wide } else { i32::MIN as f64 };
    let rounded = (wide + WHOLE).to_bits() as i32;
    if x.is_nan() { 0 } else { rounded }
}

/// The multiplier of a factor: `round(real·2³¹)`, held within ±[`MULTIPLIER_MAX`].
#[inline]
pub fn multiplier(real: f32) -> i32 {
    round_to_i32(real * 2_147_483_648.0).clamp(-MULTIPLIER_MAX, MULTIPLIER_MAX)
}

/// The smallest left shift e, at most 15, with `largest·2⁻ᵉ < 1/2`.
pub fn shift_for(largest: f32) -> u32 {
    let mut shift = 0;
    let mut rest = largest;
    while rest >= 0.5 && shift < 15 {
        rest *= 0.5;
        shift += 1;
    }
    shift
}

/// 2^−e, exact.
#[inline]
pub fn exp2_neg(e: u32) -> f32 {
    f32::from_bits(127u32.saturating_sub(e) << 23)
}

/// How far an element is shifted left before a multiplication of its own (residual, norm): both types then fill 24 bits.
pub const fn element_shift(dtype: crate::format::DType) -> u32 {
    match dtype {
        crate::format::DType::I8 => 16,
        crate::format::DType::I16 | crate::format::DType::F32 => 8,
    }
}

/// Quantizes a real value: `round(x/scale) + zero_point`, clamped to `low..=high`.
#[inline]
pub fn quantize(x: f32, scale: f32, zero_point: i32, low: i32, high: i32) -> i32 {
    round_to_i32(x / scale).saturating_add(zero_point).clamp(low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_half_up_like_the_exact_quotient() {
        let a =
            [0, 1, -1, 2, -2, 3, 255, -255, 65_535, 1 << 24, -(1 << 24), i32::MAX, i32::MIN, 12_345_678, -87_654_321];
        let m = [0, 1, -1, 1 << 10, 1 << 29, MULTIPLIER_MAX, -MULTIPLIER_MAX, 715_827_883, -3];
        for &a in &a {
            for &m in &m {
                let exact = (a as i128 * m as i128 * 2 + (1i128 << 31)).div_euclid(1i128 << 32);
                assert_eq!(mul_round(a, m) as i128, exact, "{a} {m}");
                // SMMULR with the doubled multiplier, from Arm's definition.
                let smmulr = ((a as i64 * (2 * m as i64) + 0x8000_0000) >> 32) as i32;
                assert_eq!(mul_round(a, m), smmulr);
            }
        }
    }

    #[test]
    fn shift_makes_room() {
        for (real, shift) in [(0.1, 0), (0.499, 0), (0.5, 1), (1.0, 2), (3.9, 3), (1e30, 15)] {
            assert_eq!(shift_for(real), shift);
        }
        assert_eq!(exp2_neg(3), 0.125);
        assert_eq!(multiplier(0.25), 1 << 29);
        assert_eq!(multiplier(f32::NAN), 0);
        assert_eq!(multiplier(1e9), MULTIPLIER_MAX);
    }

    #[test]
    fn rounding_is_half_to_even() {
        for (x, want) in [
            (0.5, 0),
            (1.5, 2),
            (2.5, 2),
            (-0.5, 0),
            (-1.5, -2),
            (8_388_607.5, 8_388_608),
            (4_194_303.5, 4_194_304),
            (-2.6, -3),
            (2_147_483_520.0, 2_147_483_520),
            (2_147_483_648.0, i32::MAX),
            (f32::INFINITY, i32::MAX),
            (-2_147_483_648.0, i32::MIN),
            (-3e9, i32::MIN),
            (f32::NAN, 0),
            (-f32::NAN, 0),
        ] {
            assert_eq!(round_to_i32(x), want, "{x}");
        }
    }
}
