//! AVX-512 over rows: everything that is not a convolution, sixteen lanes of 32 bits. Tails are masked, not scalar.
//!
//! What it gains on AVX2 is more than the width: softmax's two tables lie in four registers.

use super::super::constants::{self, ConvOutput, ConvSource, NormSource};
use super::super::scalar::KERNELS as SCALAR;
use super::super::{Channels, Exponential};
use core::arch::x86_64::*;

/// The first `n` of sixteen lanes.
#[inline(always)]
pub(super) fn first16(n: usize) -> __mmask16 {
    ((1u32 << n.min(16)) - 1) as __mmask16
}

/// The first `n` of 64 bytes.
#[inline(always)]
pub(super) fn first64(n: usize) -> __mmask64 {
    if n >= 64 { !0 } else { (1 << n) - 1 }
}

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn widen(out: &mut [i16], elems: &[i8]) {
    let len = out.len().min(elems.len());
    for at in (0..len).step_by(32) {
        let some = first64(len - at) as __mmask32;
        // SAFETY: what lies behind the shorter slice is masked off.
        unsafe {
            let words = _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(some, elems.as_ptr().add(at)));
            _mm512_mask_storeu_epi16(out.as_mut_ptr().add(at), some, words);
        }
    }
}

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn conv_constants(sources: &mut [ConvSource<'_>], output: ConvOutput) -> u32 {
    constants::conv(sources, output)
}

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn norm_constants(source: NormSource, to: [&mut [i32]; 2], affine: [&[f32]; 2]) {
    constants::norm(source, to, affine)
}

/// Up to sixteen elements, zeros behind the end.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
pub(super) fn load(x: &[i32]) -> __m512i {
    // SAFETY: what lies behind the slice is masked off.
    unsafe { _mm512_maskz_loadu_epi32(first16(x.len()), x.as_ptr()) }
}

/// Stores as many lanes as the slice has elements, at most sixteen.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
fn store(to: &mut [i32], x: __m512i) {
    // SAFETY: what lies behind the slice is masked off.
    unsafe { _mm512_mask_storeu_epi32(to.as_mut_ptr(), first16(to.len()), x) }
}

/// Multipliers m of sixteen lanes for [`mul_round`](crate::quant::mul_round), which is the upper half of a·2m + 2³¹.
#[derive(Clone, Copy)]
pub(super) struct Multiplier {
    even: __m512i,
    odd: __m512i,
    half: __m512i,
}

impl Multiplier {
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    pub(super) fn new(m: __m512i) -> Multiplier {
        Multiplier::adding(m, 0)
    }

    /// For [`mul_round`](crate::quant::mul_round) and a small number added to it.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    pub(super) fn adding(m: __m512i, more: i32) -> Multiplier {
        let even = _mm512_slli_epi32::<1>(m);
        let half = _mm512_set1_epi64(((more as i64) << 32) + (1 << 31));
        Multiplier { even, odd: _mm512_shuffle_epi32::<0b11_11_01_01>(even), half }
    }

    /// By shuffles, as in `rows`.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    pub(super) fn mul_round(self, a: __m512i) -> __m512i {
        let even = _mm512_add_epi64(_mm512_mul_epi32(a, self.even), self.half);
        let odd = _mm512_mul_epi32(_mm512_shuffle_epi32::<0b11_11_01_01>(a), self.odd);
        let odd = _mm512_add_epi64(odd, self.half);
        _mm512_mask_shuffle_epi32::<0b11_11_01_01>(odd, 0b0101_0101_0101_0101, even)
    }
}

/// A left shift that saturates, the same for all lanes.
#[derive(Clone, Copy)]
pub(super) struct Shift {
    low: __m512i,
    high: __m512i,
    count: __m128i,
}

impl Shift {
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    pub(super) fn new(shift: u32) -> Shift {
        Shift {
            low: _mm512_set1_epi32(i32::MIN >> shift),
            high: _mm512_set1_epi32(i32::MAX >> shift),
            count: _mm_cvtsi32_si128(shift as i32),
        }
    }

    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    pub(super) fn of(self, x: __m512i) -> __m512i {
        _mm512_sll_epi32(_mm512_min_epi32(_mm512_max_epi32(x, self.low), self.high), self.count)
    }
}

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn scale(acc: &mut [i32], channels: Channels<'_>) {
    let shift = Shift::new(channels.shift);
    let one = |acc: &mut [i32], bias: &[i32], m: &[i32]| {
        let sum = _mm512_add_epi32(load(acc), load(bias));
        store(acc, Multiplier::new(load(m)).mul_round(shift.of(sum)));
    };
    let (bias, bias_tail) = channels.bias.as_chunks::<16>();
    let (m, m_tail) = channels.multiplier.as_chunks::<16>();
    for pixel in acc.chunks_exact_mut(channels.bias.len().max(1)) {
        let (whole, tail) = pixel.as_chunks_mut::<16>();
        for ((acc, bias), m) in whole.iter_mut().zip(bias).zip(m) {
            one(acc, bias, m);
        }
        if !tail.is_empty() {
            one(tail, bias_tail, m_tail);
        }
    }
}

/// Either table is two registers of words, and one instruction looks 32 entries up. With twice the coarse entry, the upper
/// half of a product of words is already shifted right by 15.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn softmax_rows(weights: &mut [i16], totals: &mut [i32], scores: &[i32], added: &[i32], k: Exponential<'_>) {
    let (Some(coarse), Some(fine)) = (k.coarse.first_chunk::<64>(), k.fine.first_chunk::<64>()) else {
        return (SCALAR.softmax_rows)(weights, totals, scores, added, k);
    };
    // SAFETY: 128 bytes each.
    let [coarse, fine] = [coarse, fine].map(|table| unsafe {
        let words = table.as_ptr().cast::<i8>();
        [_mm512_loadu_si512(words.cast()), _mm512_loadu_si512(words.add(64).cast())]
    });
    let coarse = [_mm512_slli_epi16::<1>(coarse[0]), _mm512_slli_epi16::<1>(coarse[1])];
    let (shift, m) = (Shift::new(k.shift), Multiplier::new(_mm512_set1_epi32(k.multiplier)));
    let last = _mm512_set1_epi16(Exponential::INDEX_MAX as i16);
    let right = _mm_cvtsi32_si128(k.right as i32 - 15);
    let in_order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    let below_most = |most: __m512i, scores: [&[i32]; 2], added: [&[i32]; 2]| {
        let index = |i: usize| {
            // The distance is exact without a sign, then saturated.
            let below = _mm512_sub_epi32(_mm512_add_epi32(most, load(added[i])), load(scores[i]));
            m.mul_round(_mm512_sll_epi32(_mm512_min_epu32(below, shift.high), shift.count))
        };
        let index = _mm512_min_epu16(_mm512_packus_epi32(index(0), index(1)), last);
        let index = _mm512_permutexvar_epi64(in_order, index);
        let coarse = _mm512_permutex2var_epi16(coarse[0], _mm512_srli_epi16::<6>(index), coarse[1]);
        let fine = _mm512_permutex2var_epi16(fine[0], index, fine[1]);
        _mm512_srl_epi16(_mm512_mulhi_epu16(coarse, fine), right)
    };
    let ones = _mm512_set1_epi16(1);
    let len = added.len().max(1);
    let (added, added_tail) = added.as_chunks::<16>();
    let (added, added_odd) = added.as_chunks::<2>();
    let rows = weights.chunks_exact_mut(len.next_multiple_of(4)).zip(totals).zip(scores.chunks_exact(len));
    for ((weights, total), scores) in rows {
        // Whole vectors by twos, then what is left: 31 at most.
        let (scores, scores_tail) = scores.as_chunks::<16>();
        let (scores, scores_odd) = scores.as_chunks::<2>();
        let mut most = [_mm512_set1_epi32(i32::MIN); 2];
        for (scores, added) in scores.iter().zip(added) {
            for (most, (scores, added)) in most.iter_mut().zip(scores.iter().zip(added)) {
                *most = _mm512_max_epi32(*most, _mm512_sub_epi32(load(scores), load(added)));
            }
        }
        let odd = [scores_odd.as_flattened(), scores_tail];
        let odd_added = [added_odd.as_flattened(), added_tail];
        for (most, (scores, added)) in most.iter_mut().zip(odd.iter().zip(odd_added)) {
            let distance = _mm512_sub_epi32(load(scores), load(added));
            *most = _mm512_mask_max_epi32(*most, first16(scores.len()), *most, distance);
        }
        let most = _mm512_set1_epi32(_mm512_reduce_max_epi32(_mm512_max_epi32(most[0], most[1])));
        let mut sums = _mm512_setzero_si512();
        let (whole, rest) = weights.split_at_mut_checked(32 * scores.len()).unwrap_or_default();
        for ((to, [a, b]), [added_a, added_b]) in whole.as_chunks_mut::<32>().0.iter_mut().zip(scores).zip(added) {
            let weight = below_most(most, [a, b], [added_a, added_b]);
            sums = _mm512_add_epi32(sums, _mm512_madd_epi16(weight, ones));
            // SAFETY: 64 bytes.
            unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), weight) };
        }
        if !rest.is_empty() {
            // Where there is no whole vector the tail comes first.
            let left = odd.map(<[i32]>::len);
            let [odd, odd_added] = if left[0] > 0 { [odd, odd_added] } else { [[odd[1], &[]], [odd_added[1], &[]]] };
            let weight = below_most(most, odd, odd_added);
            let weight = _mm512_maskz_mov_epi16(first64(left[0] + left[1]) as __mmask32, weight);
            sums = _mm512_add_epi32(sums, _mm512_madd_epi16(weight, ones));
            // SAFETY: what lies behind the slice is masked off.
            unsafe { _mm512_mask_storeu_epi16(rest.as_mut_ptr(), first64(rest.len()) as __mmask32, weight) };
        }
        *total = _mm512_reduce_add_epi32(sums);
    }
}

/// The quarters of `a` added by twos, then those of `b`: folded twice, four vectors become one of four sums each.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
pub(super) fn fold(a: __m512i, b: __m512i) -> __m512i {
    let even = _mm512_shuffle_i32x4::<0b10_00_10_00>(a, b);
    let odd = _mm512_shuffle_i32x4::<0b11_01_11_01>(a, b);
    _mm512_add_epi32(even, odd)
}
