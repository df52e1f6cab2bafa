//! Range → scale and zero point, and the room that the integer recipes need.
//!
//! Scales are bfloat16 in the file; the scale is rounded *up*, so the range stays covered, and the rounded value is what
//! everything else is computed with. Zero is always exactly representable: padding and clipped activations are zeros.
//!
//! Voids the promise: nothing; every function gives a valid [`Quant`] for any input.

use half::bf16;
use mote_runtime::format::{DType, Quant};

use crate::calibrate::Range;

/// Largest magnitude of an `I16` element.
pub const I16_MAX: i32 = 32_767;

/// Scale of a tensor that is always zero.
const SMALLEST_SCALE: f32 = 1.0 / (1 << 24) as f32;

/// The smallest bfloat16 that is not below `x`, at least `SMALLEST_SCALE`.
pub fn scale_up(x: f32) -> f32 {
    let x = if x.is_finite() { x.clamp(SMALLEST_SCALE, 1e30) } else { 1e30 };
    let nearest = bf16::from_f32(x);
    if nearest.to_f32() >= x { nearest.to_f32() } else { bf16::from_bits(nearest.to_bits() + 1).to_f32() }
}

/// The quantization of a tensor with this range; its scale is at least `least_scale`, which a recipe may ask for.
pub fn quant(range: Range, dtype: DType, least_scale: f32) -> Quant {
    let range = range.with_zero();
    match dtype {
        DType::I16 | DType::F32 => {
            Quant { scale: scale_up((range.magnitude() / I16_MAX as f32).max(least_scale)), zero_point: 0 }
        }
        DType::I8 => {
            let scale = scale_up(((range.max - range.min) / 255.0).max(least_scale));
            let zero_point = (-128.0 - range.min / scale).round_ties_even().clamp(-128.0, 127.0);
            Quant { scale, zero_point: zero_point as i16 }
        }
    }
}

/// As [`quant`], with zero point 0, for attention's queries.
pub fn symmetric(range: Range, least_scale: f32) -> Quant {
    Quant { scale: scale_up((range.magnitude() / 127.0).max(least_scale)), zero_point: 0 }
}

/// The least output scale of a convolution that adds a residual: `s_r·factor/s_out·16·2^-shift` must stay below ½.
pub fn least_scale_for_residual(residual: Quant, dtype: DType, residual_scale: f32) -> f32 {
    let shift = mote_runtime::quant::element_shift(dtype) - mote_runtime::quant::SUM_FRACTION_BITS;
    // A sixteenth to spare: the runtime's f32 products round.
    residual.scale * residual_scale.abs() / 2f32.powi(shift as i32 - 1) * 1.0625
}

/// The least output scale of a convolution whose accumulator's unit is at most `largest_unit`: the shift ends at 15.
pub fn least_scale_for_sum(largest_unit: f32) -> f32 {
    largest_unit * 16.0 / 2f32.powi(14) * 1.0625
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_covered_and_zero_is_exact() {
        for (min, max) in
            [(0.0, 0.0), (-1.0, 1.0), (0.0, 6.0), (2.0, 3.0), (-0.27846, 9.3), (-7e-6, 1e-7), (-900.0, 0.0)]
        {
            let range = Range { min, max };
            for dtype in [DType::I8, DType::I16] {
                let q = quant(range, dtype, 0.0);
                assert!(q.is_valid(dtype), "{q:?}");
                assert_eq!(bf16::from_f32(q.scale).to_f32(), q.scale);
                let (low, high) = if dtype == DType::I8 { (-128.0, 127.0) } else { (-32_767.0, 32_767.0) };
                let z = f32::from(q.zero_point);
                assert!((low - 0.5 - z) * q.scale <= min && max <= (high + 0.5 - z) * q.scale, "{range:?} {q:?}");
                assert!(quant(range, dtype, 0.5).scale >= 0.5);
            }
            assert!(symmetric(range, 0.0).is_valid(DType::I8));
        }
        assert!(quant(Range { min: f32::NEG_INFINITY, max: f32::NAN }, DType::I8, 0.0).is_valid(DType::I8));
    }

    #[test]
    fn residual_factors_fit_the_multiplier() {
        for dtype in [DType::I8, DType::I16] {
            let residual = Quant { scale: 1.0, zero_point: 0 };
            let scale = scale_up(least_scale_for_residual(residual, dtype, 0.7));
            let real = 0.7 / scale * 16.0 / 2f32.powi(mote_runtime::quant::element_shift(dtype) as i32);
            assert!((0.4..0.5).contains(&real), "{dtype:?} {real}");
        }
        assert!(mote_runtime::quant::shift_for(1.0 / least_scale_for_sum(1.0) * 16.0) <= 15);
    }
}
