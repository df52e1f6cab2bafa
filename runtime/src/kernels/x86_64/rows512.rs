//! AVX-512 over rows: everything that is not a convolution, sixteen lanes of 32 bits. Tails are masked, not scalar.
//!
//! What it gains on AVX2 is more than the width: softmax's two tables lie in four registers.

use super::super::scalar::KERNELS as SCALAR;
use super::super::{Channels, Exponential};
use crate::quant::SUM_FRACTION_BITS;
use core::arch::x86_64::*;

/// The first `n` of sixteen lanes.
#[inline(always)]
fn first16(n: usize) -> __mmask16 {
    ((1u32 << n.min(16)) - 1) as __mmask16
}

/// The first `n` of 64 bytes.
#[inline(always)]
pub(super) fn first64(n: usize) -> __mmask64 {
    if n >= 64 { !0 } else { (1 << n) - 1 }
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

/// Up to sixteen bytes as lanes of 32 bits, zeros behind the end.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
fn load_i8(x: &[i8]) -> __m512i {
    // SAFETY: what lies behind the slice is masked off.
    _mm512_cvtepi8_epi32(unsafe { _mm_maskz_loadu_epi8(first16(x.len()), x.as_ptr()) })
}

/// [`mul_round`](crate::quant::mul_round): the even lanes' products moved down to bit 0, the odd lanes' up to bit 32.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
fn mul_round(a: __m512i, m: __m512i) -> __m512i {
    let half = _mm512_set1_epi64(1 << 30);
    let even = _mm512_add_epi64(_mm512_mul_epi32(a, m), half);
    // By shuffles, as in `rows`.
    let [a, m] = [_mm512_shuffle_epi32::<0b11_11_01_01>(a), _mm512_shuffle_epi32::<0b11_11_01_01>(m)];
    let odd = _mm512_add_epi64(_mm512_mul_epi32(a, m), half);
    _mm512_mask_blend_epi32(0b1010_1010_1010_1010, _mm512_srli_epi64::<31>(even), _mm512_add_epi64(odd, odd))
}

/// A left shift that saturates, the same for all lanes.
#[derive(Clone, Copy)]
struct Shift {
    low: __m512i,
    high: __m512i,
    count: __m128i,
}

impl Shift {
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    fn new(shift: u32) -> Shift {
        Shift {
            low: _mm512_set1_epi32(i32::MIN >> shift),
            high: _mm512_set1_epi32(i32::MAX >> shift),
            count: _mm_cvtsi32_si128(shift as i32),
        }
    }

    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    fn of(self, x: __m512i) -> __m512i {
        _mm512_sll_epi32(_mm512_min_epi32(_mm512_max_epi32(x, self.low), self.high), self.count)
    }
}

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn scale(acc: &mut [i32], channels: Channels<'_>) {
    let shift = Shift::new(channels.shift);
    let one = |acc: &mut [i32], bias: &[i32], m: &[i32]| {
        let sum = _mm512_add_epi32(load(acc), load(bias));
        store(acc, mul_round(shift.of(sum), load(m)));
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

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn add_i8(acc: &mut [i32], elems: &[i8], zero_point: i32, multiplier: i32) {
    let (zero, m) = (_mm512_set1_epi32(zero_point), Split::new(_mm512_set1_epi32(multiplier)));
    let one = |acc: &mut [i32], elems: &[i8]| {
        let sum = _mm512_add_epi32(load(acc), m.mul_round(_mm512_sub_epi32(load_i8(elems), zero)));
        store(acc, sum);
    };
    let len = acc.len().min(elems.len());
    let (acc, acc_tail) = acc.get_mut(..len).unwrap_or_default().as_chunks_mut::<16>();
    let (elems, elems_tail) = elems.get(..len).unwrap_or_default().as_chunks::<16>();
    acc.iter_mut().zip(elems).for_each(|(acc, elems)| one(acc, elems));
    one(acc_tail, elems_tail);
}

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn store_i8(out: &mut [i8], acc: &[i32], zero_point: i32) {
    let half = _mm512_set1_epi32(1 << (SUM_FRACTION_BITS - 1));
    let zero = _mm512_set1_epi32(zero_point);
    let one = |out: &mut [i8], acc: &[i32]| {
        let rounded = _mm512_srai_epi32::<{ SUM_FRACTION_BITS }>(_mm512_add_epi32(load(acc), half));
        let bytes = _mm512_cvtsepi32_epi8(_mm512_add_epi32(rounded, zero));
        // SAFETY: what lies behind the slice is masked off.
        unsafe { _mm_mask_storeu_epi8(out.as_mut_ptr(), first16(out.len()), bytes) };
    };
    let len = out.len().min(acc.len());
    let (out, out_tail) = out.get_mut(..len).unwrap_or_default().as_chunks_mut::<16>();
    let (acc, acc_tail) = acc.get(..len).unwrap_or_default().as_chunks::<16>();
    out.iter_mut().zip(acc).for_each(|(out, acc)| one(out, acc));
    one(out_tail, acc_tail);
}

/// Multipliers m for elements c of 9 bits that are shifted left by 16 before they are multiplied: what `mul_round` gives
/// is (c·m + 2¹⁴) >> 15, and with m in two halves of 15 bits that is c·high + ((c·low + 2¹⁴) >> 15), all of it 32 bits.
#[derive(Clone, Copy)]
struct Split {
    high: __m512i,
    low: __m512i,
}

impl Split {
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    fn new(m: __m512i) -> Split {
        Split { high: _mm512_srai_epi32::<15>(m), low: _mm512_and_si512(m, _mm512_set1_epi32(0x7fff)) }
    }

    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    fn mul_round(self, centred: __m512i) -> __m512i {
        let low = _mm512_add_epi32(_mm512_mullo_epi32(centred, self.low), _mm512_set1_epi32(1 << 14));
        _mm512_add_epi32(_mm512_mullo_epi32(centred, self.high), _mm512_srai_epi32::<15>(low))
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
    let (shift, m) = (Shift::new(k.shift), _mm512_set1_epi32(k.multiplier));
    let last = _mm512_set1_epi16(Exponential::INDEX_MAX as i16);
    let right = _mm_cvtsi32_si128(k.right as i32 - 15);
    let in_order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    let len = added.len().max(1);
    let rows = weights.chunks_exact_mut(len.next_multiple_of(4)).zip(totals).zip(scores.chunks_exact(len));
    for ((weights, total), scores) in rows {
        let mut most = _mm512_set1_epi32(i32::MIN);
        for (scores, added) in scores.chunks(16).zip(added.chunks(16)) {
            let scores_of = _mm512_sub_epi32(load(scores), load(added));
            most = _mm512_mask_max_epi32(most, first16(scores.len()), most, scores_of);
        }
        let most = _mm512_set1_epi32(_mm512_reduce_max_epi32(most));
        let mut sums = _mm512_setzero_si512();
        for ((weights, scores), added) in weights.chunks_mut(32).zip(scores.chunks(32)).zip(added.chunks(32)) {
            let index = |at: usize| {
                let [scores, added] = [scores, added].map(|x| load(x.get(at..).unwrap_or_default()));
                // The distance is exact without a sign, then saturated.
                let below = _mm512_sub_epi32(_mm512_add_epi32(most, added), scores);
                mul_round(_mm512_sll_epi32(_mm512_min_epu32(below, shift.high), shift.count), m)
            };
            let index = _mm512_min_epu16(_mm512_packus_epi32(index(0), index(16)), last);
            let index = _mm512_permutexvar_epi64(in_order, index);
            let coarse = _mm512_permutex2var_epi16(coarse[0], _mm512_srli_epi16::<6>(index), coarse[1]);
            let fine = _mm512_permutex2var_epi16(fine[0], index, fine[1]);
            let weight = _mm512_srl_epi16(_mm512_mulhi_epu16(coarse, fine), right);
            let weight = _mm512_maskz_mov_epi16(first64(scores.len()) as __mmask32, weight);
            sums = _mm512_add_epi32(sums, _mm512_madd_epi16(weight, _mm512_set1_epi16(1)));
            // SAFETY: what lies behind the slice is masked off.
            unsafe {
                _mm512_mask_storeu_epi16(weights.as_mut_ptr(), first64(weights.len()) as __mmask32, weight);
            }
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
