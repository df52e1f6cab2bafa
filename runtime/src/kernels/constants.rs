//! A step's constants, channel by channel: the recipes of [`quant`](crate::quant) for all channels of an operator.
//!
//! Loops without branches, so that a compiler makes vectors of them; a host's tables hold them compiled for their instructions
//! ([`Kernels::conv_constants`](super::Kernels::conv_constants)), and give the same bits: no operation is reordered.

use crate::format::DType;
use crate::quant::{
    NORM_FRACTION_BITS, OFFSET_MAX, SUM_FRACTION_BITS, element_shift, exp2_neg, multiplier, round_to_i32, shift_for,
};
use crate::sqrt::sqrt;

/// The most that a bias is lowered by to round down: a channel whose factor asks for more is hardly more than its bias.
const FLOOR_MAX: f32 = (1 << 24) as f32;

/// The most that a bias of source `k` is lowered by. A sum is rounded twice, first to its fraction bits. What then lies in the middle, one
/// in sixteen, goes up: 1/32 of a step on average in every convolution, unless the first rounding goes down.
#[inline(always)]
pub fn floor_max(k: usize, output: ConvOutput) -> f32 {
    if k == 0 && matches!(output, ConvOutput::Codes { .. }) { FLOOR_MAX } else { 0.0 }
}

/// One source of a convolution.
#[derive(Debug, Default)]
pub struct ConvSource<'a> {
    /// Scale (f32) and Σw (i32) of each channel's weights.
    pub weights: &'a [[u32; 2]],
    /// The input's scale.
    pub scale: f32,
    /// What is to be taken off each input element.
    pub zero_point: i32,
    /// A channel's bias, the bits of an f32, becomes what is added to its sum.
    pub bias: &'a mut [i32],
    /// Becomes its multiplier, or to an f32 output the bits of its factor.
    pub multiplier: &'a mut [i32],
}

/// What the sums become.
#[derive(Clone, Copy, Debug)]
pub enum ConvOutput {
    /// Codes of this scale, with [`SUM_FRACTION_BITS`] fraction bits.
    Codes {
        /// The scale.
        scale: f32,
    },
    /// f32.
    F32,
}

/// Constants of a convolution's channels, of a source or two; returns the shift.
#[inline(always)]
pub fn conv(sources: &mut [ConvSource<'_>], output: ConvOutput) -> u32 {
    let (out_scale, unit) = match output {
        ConvOutput::Codes { scale } => (scale, (1 << SUM_FRACTION_BITS) as f32),
        ConvOutput::F32 => (1.0, 1.0),
    };
    let to_codes = matches!(output, ConvOutput::Codes { .. });
    let mut largest = 0;
    for (k, source) in sources.iter_mut().enumerate() {
        let floor_max = floor_max(k, output);
        let to = source.bias.iter_mut().zip(&mut *source.multiplier);
        for ((bias, factor), &[weight_scale, weight_sum]) in to.zip(source.weights) {
            let scale = source.scale * f32::from_bits(weight_scale);
            let real = scale / out_scale * unit;
            let lowered = f32::from_bits(*bias as u32) / scale - (0.5 / real).min(floor_max);
            *bias = round_to_i32(lowered).wrapping_sub(source.zero_point.wrapping_mul(weight_sum as i32));
            *factor = real.to_bits() as i32;
            // Of positive numbers their bits are in the same order.
            largest = largest.max(*factor);
        }
    }
    if !to_codes {
        return 0;
    }
    let shift = shift_for(f32::from_bits(largest as u32));
    let scale_down = exp2_neg(shift);
    for source in sources {
        source.multiplier.iter_mut().for_each(|m| *m = multiplier(f32::from_bits(*m as u32) * scale_down));
    }
    shift
}

/// The part of a group that lies in one source.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    n: f32,
    mean: f32,
    /// Sum of squared deviations.
    m2: f32,
}

impl Part {
    /// From exact integers; mean and deviations in real units.
    #[cfg_attr(not(target_os = "none"), inline(always))]
    pub fn new(n: u64, sum: i64, squares: u64, scale: f32, zero_point: f32) -> Part {
        let count = n as f32;
        let deviation = n.wrapping_mul(squares).wrapping_sub(sum.wrapping_mul(sum) as u64);
        Part {
            n: count,
            mean: scale * (sum as f32 / count - zero_point),
            m2: scale * scale * (deviation as f32 / count),
        }
    }

    /// Chan et al., equation 2.1.
    #[cfg_attr(not(target_os = "none"), inline(always))]
    #[must_use]
    pub fn merge(self, other: Part) -> Part {
        let n = self.n + other.n;
        let delta = other.mean - self.mean;
        Part {
            n,
            mean: self.mean + delta * (other.n / n),
            m2: self.m2 + other.m2 + delta * delta * (self.n * (other.n / n)),
        }
    }
    /// Mean and 1/σ.
    #[cfg_attr(not(target_os = "none"), inline(always))]
    pub fn stats(self, eps: f32) -> [f32; 2] {
        [self.mean, 1.0 / sqrt(self.m2 / self.n + eps)]
    }
}

/// What a source's groups have in common.
#[derive(Clone, Copy, Debug)]
pub struct GroupSource {
    /// Elements of a group.
    pub n: u64,
    /// Their scale.
    pub scale: f32,
    /// Their zero point.
    pub zero_point: f32,
    /// Added to the variance.
    pub eps: f32,
}

/// Mean and 1/σ of groups with these sums, Σq (i64) and Σq².
#[inline(always)]
pub fn group_stats(out: &mut [[f32; 2]], sums: &[[u64; 2]], source: GroupSource) {
    let GroupSource { n, scale, zero_point, eps } = source;
    for (out, &[sum, squares]) in out.iter_mut().zip(sums) {
        *out = Part::new(n, sum as i64, squares, scale, zero_point).stats(eps);
    }
}

/// One source of a group norm.
#[derive(Clone, Copy, Debug)]
pub struct NormSource {
    /// Its scale.
    pub scale: f32,
    /// Its elements' type.
    pub dtype: DType,
    /// The step of what comes out.
    pub in_step: f32,
}

impl NormSource {
    /// The most by which an element changes the result.
    #[inline(always)]
    pub fn limit(&self) -> f32 {
        if self.dtype == DType::I8 { 127.9 } else { 0.4999 }
    }

    /// Multiplier and offset of a channel, from 1/σ, mean, weight and bias.
    #[inline(always)]
    pub fn channel(&self, [rstd, mean]: [f32; 2], [gamma, beta]: [f32; 2]) -> [i32; 2] {
        let NormSource { scale, dtype, in_step } = *self;
        let limit = self.limit();
        // slope·2^(8 + 31 − shift)/2³¹ of an element that was shifted left by `shift`.
        let unit = exp2_neg(element_shift(dtype));
        let slope = (scale * rstd * gamma / in_step).max(-limit).min(limit);
        let centre = beta / in_step - mean / scale * slope;
        let rounded = round_to_i32(centre * (1 << NORM_FRACTION_BITS) as f32).clamp(-OFFSET_MAX, OFFSET_MAX);
        let multiplier = multiplier(slope * (1 << NORM_FRACTION_BITS) as f32 * unit);
        [multiplier, rounded + (1 << (NORM_FRACTION_BITS - 1))]
    }
}

/// Constants of a group norm's channels: the bits of 1/σ become the multiplier, those of the mean the offset; weights and biases lie in
/// `affine`.
#[inline(always)]
pub fn norm(source: NormSource, [multipliers, offsets]: [&mut [i32]; 2], [gammas, betas]: [&[f32]; 2]) {
    for ((m, offset), (&gamma, &beta)) in multipliers.iter_mut().zip(offsets).zip(gammas.iter().zip(betas)) {
        [*m, *offset] = source.channel([*m, *offset].map(|x| f32::from_bits(x as u32)), [gamma, beta]);
    }
}
