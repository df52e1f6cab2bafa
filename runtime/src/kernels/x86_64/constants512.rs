//! AVX-512, a step's constants: [`constants`](super::super::constants) sixteen channels at a time, the same operations in the same order.
//!
//! A small net's operators have a vector or three of channels, of which loops that a compiler makes take 1.5 times as long.

use super::super::constants::{ConvOutput, ConvSource, GroupSource, NormSource, floor_max};
use super::super::scalar;
use super::rows512::first16;
use crate::quant::{
    MULTIPLIER_MAX, NORM_FRACTION_BITS, OFFSET_MAX, SUM_FRACTION_BITS, element_shift, exp2_neg, shift_for,
};
use core::arch::x86_64::*;

/// Sixteen of 32 bits, or the first some of them. What a mask has stored waits for the cache before it is read again, so whole vectors have
/// none: constants are read by what comes next.
///
/// # Safety
/// So many are there.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn load<T>(from: *const T, left: usize) -> __m512i {
    // SAFETY: what is masked off is not read.
    unsafe {
        match left {
            16.. => _mm512_loadu_si512(from.cast()),
            _ => _mm512_maskz_loadu_epi32(first16(left), from.cast()),
        }
    }
}

/// As [`load`].
///
/// # Safety
/// Room for so many.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn store<T>(to: *mut T, left: usize, x: __m512i) {
    // SAFETY: what is masked off is not written.
    unsafe {
        match left {
            16.. => _mm512_storeu_si512(to.cast(), x),
            _ => _mm512_mask_storeu_epi32(to.cast(), first16(left), x),
        }
    }
}

/// [`round_to_i32`](crate::quant::round_to_i32): a conversion rounds half to even, but makes `i32::MIN` of what does not fit.
#[target_feature(enable = "avx512f")]
#[inline]
fn round(x: __m512) -> __m512i {
    let ordered = _mm512_cmp_ps_mask::<_CMP_ORD_Q>(x, x);
    let above = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(x, _mm512_set1_ps(2_147_483_648.0));
    let rounded = _mm512_maskz_cvtps_epi32(ordered, x);
    _mm512_mask_mov_epi32(rounded, above, _mm512_set1_epi32(i32::MAX))
}

/// As [`round`] and held within ±`most`, an integer.
#[target_feature(enable = "avx512f")]
#[inline]
fn round_within(x: __m512, most: f32) -> __m512i {
    let ordered = _mm512_cmp_ps_mask::<_CMP_ORD_Q>(x, x);
    let held = _mm512_min_ps(_mm512_max_ps(x, _mm512_set1_ps(-most)), _mm512_set1_ps(most));
    _mm512_maskz_cvtps_epi32(ordered, held)
}

/// [`multiplier`](crate::quant::multiplier) of 2⁻³¹·`real`. What becomes of a factor that is too small for a normal number is 0.
#[target_feature(enable = "avx512f")]
#[inline]
fn multiplier(real: __m512) -> __m512i {
    let most = _mm512_set1_epi32(MULTIPLIER_MAX);
    let rounded = round_within(real, (MULTIPLIER_MAX + 1) as f32);
    _mm512_min_epi32(_mm512_max_epi32(rounded, _mm512_sub_epi32(_mm512_setzero_si512(), most)), most)
}

/// [`constants::conv`](super::super::constants::conv).
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn conv(sources: &mut [ConvSource<'_>], output: ConvOutput) -> u32 {
    let (out_scale, unit) = match output {
        ConvOutput::Codes { scale } => (scale, (1 << SUM_FRACTION_BITS) as f32),
        ConvOutput::F32 => (1.0, 1.0),
    };
    let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    let mut largest = _mm512_setzero_si512();
    for (k, source) in sources.iter_mut().enumerate() {
        let floor_max = _mm512_set1_ps(floor_max(k, output));
        let zero_point = _mm512_set1_epi32(source.zero_point);
        let len = source.weights.len().min(source.bias.len()).min(source.multiplier.len());
        for at in (0..len).step_by(16) {
            let left = len - at;
            // SAFETY: what lies behind the shortest slice is masked off.
            unsafe {
                let weights = source.weights.as_ptr().add(at);
                let [a, b] = [load(weights, 2 * left), load(weights.wrapping_add(8), (2 * left).saturating_sub(16))];
                let weight_scale = _mm512_castsi512_ps(_mm512_permutex2var_epi32(a, even, b));
                let weight_sum = _mm512_permutex2var_epi32(a, odd, b);
                let (to_bias, to_factor) = (source.bias.as_mut_ptr().add(at), source.multiplier.as_mut_ptr().add(at));
                let bias = _mm512_castsi512_ps(load(to_bias, left));
                let scale = _mm512_mul_ps(_mm512_set1_ps(source.scale), weight_scale);
                let real = _mm512_mul_ps(_mm512_div_ps(scale, _mm512_set1_ps(out_scale)), _mm512_set1_ps(unit));
                let down = _mm512_min_ps(_mm512_div_ps(_mm512_set1_ps(0.5), real), floor_max);
                let lowered = _mm512_sub_ps(_mm512_div_ps(bias, scale), down);
                let bias = _mm512_sub_epi32(round(lowered), _mm512_mullo_epi32(zero_point, weight_sum));
                store(to_bias, left, bias);
                let factor = _mm512_castps_si512(real);
                store(to_factor, left, factor);
                largest = _mm512_mask_max_epi32(largest, first16(left), largest, factor);
            }
        }
    }
    if matches!(output, ConvOutput::F32) {
        return 0;
    }
    let shift = shift_for(f32::from_bits(_mm512_reduce_max_epi32(largest) as u32));
    let scale = _mm512_set1_ps(exp2_neg(shift) * 2_147_483_648.0);
    for source in sources {
        for at in (0..source.multiplier.len()).step_by(16) {
            let left = source.multiplier.len() - at;
            // SAFETY: what lies behind the slice is masked off.
            unsafe {
                let to = source.multiplier.as_mut_ptr().add(at);
                let factor = _mm512_castsi512_ps(load(to, left));
                store(to, left, multiplier(_mm512_mul_ps(factor, scale)));
            }
        }
    }
    shift
}

/// [`constants::norm`](super::super::constants::norm).
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn norm(source: NormSource, [multipliers, offsets]: [&mut [i32]; 2], [gammas, betas]: [&[f32]; 2]) {
    let [scale, in_step, limit] = [source.scale, source.in_step, source.limit()].map(|x| _mm512_set1_ps(x));
    let unit = exp2_neg(element_shift(source.dtype)) * (1 << NORM_FRACTION_BITS) as f32 * 2_147_483_648.0;
    let len = multipliers.len().min(offsets.len()).min(gammas.len()).min(betas.len());
    for at in (0..len).step_by(16) {
        let left = len - at;
        // SAFETY: what lies behind the shortest slice is masked off.
        unsafe {
            let (to_m, to_offset) = (multipliers.as_mut_ptr().add(at), offsets.as_mut_ptr().add(at));
            let [rstd, mean, gamma, beta] = [
                to_m.cast_const().cast(),
                to_offset.cast_const().cast(),
                gammas.as_ptr().add(at),
                betas.as_ptr().add(at),
            ]
            .map(|from: *const f32| _mm512_castsi512_ps(load(from, left)));
            let slope = _mm512_div_ps(_mm512_mul_ps(_mm512_mul_ps(scale, rstd), gamma), in_step);
            let slope = _mm512_min_ps(_mm512_max_ps(slope, _mm512_sub_ps(_mm512_setzero_ps(), limit)), limit);
            let centre = _mm512_mul_ps(_mm512_div_ps(mean, scale), slope);
            let centre = _mm512_sub_ps(_mm512_div_ps(beta, in_step), centre);
            let centre = _mm512_mul_ps(centre, _mm512_set1_ps((1 << NORM_FRACTION_BITS) as f32));
            let half = _mm512_set1_epi32(1 << (NORM_FRACTION_BITS - 1));
            let offset = _mm512_add_epi32(round_within(centre, OFFSET_MAX as f32), half);
            store(to_m, left, multiplier(_mm512_mul_ps(slope, _mm512_set1_ps(unit))));
            store(to_offset, left, offset);
        }
    }
}

/// [`constants::group_stats`](super::super::constants::group_stats).
#[target_feature(enable = "avx2,avx512f,avx512dq,avx512bw,avx512vl,avx512vnni")]
pub(super) fn group_stats(out: &mut [[f32; 2]], sums: &[[u64; 2]], source: GroupSource) {
    let [count, scale, scale_squared] =
        [source.n as f32, source.scale, source.scale * source.scale].map(|x| _mm256_set1_ps(x));
    let (zero_point, eps) = (_mm256_set1_ps(source.zero_point), _mm256_set1_ps(source.eps));
    let n = _mm512_set1_epi64(source.n as i64);
    let even = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14);
    let odd = _mm512_add_epi64(even, _mm512_set1_epi64(1));
    let both = _mm512_setr_epi32(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
    let len = out.len().min(sums.len());
    for at in (0..len).step_by(8) {
        let left = len - at;
        // SAFETY: what lies behind the shorter slice is masked off.
        unsafe {
            let from = sums.as_ptr().add(at);
            let [a, b] = [load(from, 4 * left), load(from.wrapping_add(4), (4 * left).saturating_sub(16))];
            let (sum, squares) = (_mm512_permutex2var_epi64(a, even, b), _mm512_permutex2var_epi64(a, odd, b));
            let deviation = _mm512_sub_epi64(_mm512_mullo_epi64(n, squares), _mm512_mullo_epi64(sum, sum));
            let mean = _mm256_sub_ps(_mm256_div_ps(_mm512_cvtepi64_ps(sum), count), zero_point);
            let mean = _mm256_mul_ps(scale, mean);
            let m2 = _mm256_mul_ps(scale_squared, _mm256_div_ps(_mm512_cvtepu64_ps(deviation), count));
            let sigma = _mm256_sqrt_ps(_mm256_add_ps(_mm256_div_ps(m2, count), eps));
            let rstd = _mm256_div_ps(_mm256_set1_ps(1.0), sigma);
            let stats = _mm512_insertf32x8::<1>(_mm512_castps256_ps512(mean), rstd);
            store(out.as_mut_ptr().add(at), 2 * left, _mm512_castps_si512(_mm512_permutexvar_ps(both, stats)));
        }
    }
}

/// Channels are stored one by one otherwise, and read as vectors then, which waits for the stores.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn spread([rstds, means]: [&mut [i32]; 2], stats: &[[f32; 2]], group_c: usize) {
    let c = rstds.len().min(means.len());
    // Up to 2¹⁶ channels a half and a division by multiplication give the quotient.
    if group_c == 0 || stats.len().saturating_mul(group_c) < c || c > 1 << 16 {
        return (scalar::KERNELS.spread)([rstds, means], stats, group_c);
    }
    let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    let inverse = _mm512_set1_ps(1.0 / group_c as f32);
    let from: *const f32 = stats.as_ptr().cast();
    // SAFETY: what lies behind `stats` is masked off.
    let eight = unsafe { _mm512_castsi512_ps(load(from, 2 * stats.len())) };
    for at in (0..c).step_by(16) {
        let some = first16(c - at);
        let channel = _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_set1_epi32(at as i32), lanes));
        let group = _mm512_cvttps_epi32(_mm512_mul_ps(_mm512_add_ps(channel, _mm512_set1_ps(0.5)), inverse));
        let mean = _mm512_slli_epi32::<1>(group);
        let rstd = _mm512_add_epi32(mean, _mm512_set1_epi32(1));
        let [rstd, mean] = [rstd, mean].map(|index| match stats.len() {
            ..=8 => _mm512_permutexvar_ps(index, eight),
            // SAFETY: groups of channels that are there.
            _ => unsafe { _mm512_mask_i32gather_ps::<4>(_mm512_setzero_ps(), some, index, from) },
        });
        // SAFETY: what lies behind the slices is masked off.
        unsafe {
            store(rstds.as_mut_ptr().add(at), c - at, _mm512_castps_si512(rstd));
            store(means.as_mut_ptr().add(at), c - at, _mm512_castps_si512(mean));
        }
    }
}
