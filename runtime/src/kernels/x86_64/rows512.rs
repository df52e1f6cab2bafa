//! AVX-512 over rows: everything that is not a convolution, sixteen lanes of 32 bits. Tails are masked, not scalar.
//!
//! What it gains on AVX2 is more than the width: a pointwise table of 1,024 entries becomes 1,024 bytes of results in
//! sixteen registers, softmax's two tables lie in four, and sums of bytes are `vpdpbusd`.

use super::super::scalar::KERNELS as SCALAR;
use super::super::{Channels, Exponential, NormConstants};
use crate::format::op::Table;
use crate::quant::{NORM_FRACTION_BITS, SUM_FRACTION_BITS};
use core::arch::x86_64::*;

/// The first `n` of sixteen lanes.
#[inline(always)]
fn first16(n: usize) -> __mmask16 {
    ((1u32 << n.min(16)) - 1) as __mmask16
}

/// The first `n` of 64 bytes.
#[inline(always)]
fn first64(n: usize) -> __mmask64 {
    if n >= 64 { !0 } else { (1 << n) - 1 }
}

/// Up to sixteen elements, zeros behind the end.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
fn load(x: &[i32]) -> __m512i {
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

/// Table entries as the bytes that they become, two a word: entry i is byte i.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
fn results(table: &[i16; Table::LEN], k: &NormConstants<'_>) -> [__m512i; 16] {
    let (m, zero) = (_mm512_set1_epi32(k.out_multiplier), _mm512_set1_epi32(k.out_zero_point));
    let mut bytes = [0i8; Table::LEN];
    for (bytes, entries) in bytes.as_chunks_mut::<16>().0.iter_mut().zip(table.as_chunks::<16>().0) {
        // SAFETY: 32 bytes, and sixteen.
        unsafe {
            let entries = _mm512_cvtepi16_epi32(_mm256_loadu_si256(entries.as_ptr().cast()));
            let value = _mm512_add_epi32(mul_round(entries, m), zero);
            _mm_storeu_si128(bytes.as_mut_ptr().cast(), _mm512_cvtsepi32_epi8(value));
        }
    }
    let mut words = [_mm512_setzero_si512(); 16];
    for (words, bytes) in words.iter_mut().zip(bytes.as_chunks::<64>().0) {
        // SAFETY: 64 bytes.
        *words = unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) };
    }
    words
}

/// Byte `index` of 1,024 for each of 32 words; the upper byte of a word is whatever.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
fn look_up(words: &[__m512i; 16], index: __m512i) -> __m512i {
    let at = _mm512_srli_epi16::<1>(index);
    let of = |pair: usize| _mm512_permutex2var_epi16(words[2 * pair], at, words[2 * pair + 1]);
    let bit = |bit: i16| _mm512_test_epi16_mask(at, _mm512_set1_epi16(1 << bit));
    let (first, second, third) = (bit(6), bit(7), bit(8));
    let two = |pair: usize| _mm512_mask_blend_epi16(first, of(pair), of(pair + 1));
    let four = |pair: usize| _mm512_mask_blend_epi16(second, two(pair), two(pair + 2));
    let word = _mm512_mask_blend_epi16(third, four(0), four(4));
    let odd = _mm512_slli_epi16::<3>(_mm512_and_si512(index, _mm512_set1_epi16(1)));
    _mm512_srlv_epi16(word, odd)
}

/// Pixels at a time, all channels of them, so that they stay in the first cache.
const NORM_PIXELS: usize = 32;

/// 32 channels at a time keep their constants in registers while some pixels pass.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn norm_i8(out: &mut [i8], out_c: usize, src: &[i8], src_c: usize, k: NormConstants<'_>) {
    const HALF: i32 = Table::LEN as i32 / 2;
    let table: Option<[__m512i; 16]> = k.table.first_chunk().map(|table| results(table, &k));
    let [out_c, src_c] = [out_c.max(1), src_c.max(1)];
    let width = src_c.min(out_c).min(k.multiplier.len()).min(k.offset.len());
    let zero = _mm512_set1_epi32(k.zero_point);
    let out_zero = _mm512_set1_epi32(k.out_zero_point);
    let (low, high) = (_mm512_set1_epi32(-HALF), _mm512_set1_epi32(HALF - 1));
    for (out, src) in out.chunks_mut(out_c * NORM_PIXELS).zip(src.chunks(src_c * NORM_PIXELS)) {
        for first in (0..width).step_by(32) {
            let some = (width - first).min(32);
            let constants = |constants: &[i32], at: usize| {
                let rest = constants.get(first + at..width).unwrap_or_default();
                rest.get(..rest.len().min(16)).unwrap_or_default().as_ptr_range()
            };
            let lanes = |constants: core::ops::Range<*const i32>| {
                let len = (constants.end as usize - constants.start as usize) / 4;
                // SAFETY: a slice's elements; what lies behind them is masked off.
                unsafe { _mm512_maskz_loadu_epi32(first16(len), constants.start) }
            };
            let m = [0, 16].map(|at| lanes(constants(k.multiplier, at)));
            let offset = [0, 16].map(|at| lanes(constants(k.offset, at)));
            let m = [Split::new(m[0]), Split::new(m[1])];
            let mask = first64(some) as __mmask32;
            for (out, src) in out.chunks_mut(out_c).zip(src.chunks_exact(src_c)) {
                let (Some(out), Some(src)) = (out.get_mut(first..), src.get(first..first + some)) else { break };
                let mask = mask & first64(out.len()) as __mmask32;
                // SAFETY: `some` bytes; the others are masked off.
                let elems = unsafe { _mm256_maskz_loadu_epi8(mask, src.as_ptr()) };
                let index = |elems: __m128i, half: usize| {
                    let centred = _mm512_sub_epi32(_mm512_cvtepi8_epi32(elems), zero);
                    // Both summands are below 2³⁰: nothing saturates.
                    let sum = _mm512_add_epi32(m[half].mul_round(centred), offset[half]);
                    _mm512_srai_epi32::<NORM_FRACTION_BITS>(sum)
                };
                let [a, b] = [index(_mm256_castsi256_si128(elems), 0), index(_mm256_extracti128_si256::<1>(elems), 1)];
                let bytes = match &table {
                    None => {
                        let narrow = |x: __m512i| _mm512_cvtsepi32_epi8(_mm512_add_epi32(x, out_zero));
                        _mm256_set_m128i(narrow(b), narrow(a))
                    }
                    Some(table) => {
                        let inside = |x: __m512i| {
                            let inside = _mm512_min_epi32(_mm512_max_epi32(x, low), high);
                            _mm512_cvtepi32_epi16(_mm512_sub_epi32(inside, low))
                        };
                        let index = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(inside(a)), inside(b));
                        _mm512_cvtepi16_epi8(look_up(table, index))
                    }
                };
                // SAFETY: `some` bytes, as many as `out` has; the others are masked off.
                unsafe { _mm256_mask_storeu_epi8(out.as_mut_ptr(), mask, bytes) };
            }
        }
    }
}

/// Vectors whose sums surely fit 32 bits: a lane takes at most 4·255·128 of each.
const SUM_VECTORS: usize = 1 << 13;

/// As many pixels as 64 bytes hold, or 64 channels of one; what is not of the group is masked off. Σq² is
/// Σ(q + 128)·q − 128·Σq, because one factor of `vpdpbusd` has no sign.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn sums_i8(row: &[i8], channels: usize, first: usize, group_c: usize) -> (i64, u64) {
    let c = channels.max(1);
    let group_c = group_c.min(c.saturating_sub(first));
    let pixels = (64 / c).max(1);
    let (ones, sign) = (_mm512_set1_epi8(1), _mm512_set1_epi8(-128));
    let row = row.get(..row.len() / c * c).unwrap_or_default();
    let mut total = (0i64, 0i64);
    for part in (0..group_c).step_by(64) {
        let part_c = (group_c - part).min(64);
        let mut mask = 0;
        for pixel in 0..pixels {
            mask |= first64(part_c) << (pixel * c);
        }
        for row in row.chunks(c * pixels * SUM_VECTORS) {
            let (mut sums, mut products) = (_mm512_setzero_si512(), _mm512_setzero_si512());
            for some in row.chunks(c * pixels) {
                let Some(some) = some.get(first + part..) else { continue };
                // SAFETY: what lies behind the slice is masked off.
                let elems = unsafe { _mm512_maskz_loadu_epi8(mask & first64(some.len()), some.as_ptr()) };
                sums = _mm512_dpbusd_epi32(sums, ones, elems);
                products = _mm512_dpbusd_epi32(products, _mm512_xor_si512(elems, sign), elems);
            }
            let add = |x: __m512i| {
                let wide = |half: __m256i| _mm512_reduce_add_epi64(_mm512_cvtepi32_epi64(half));
                wide(_mm512_castsi512_si256(x)) + wide(_mm512_extracti64x4_epi64::<1>(x))
            };
            total = (total.0 + add(sums), total.1 + add(products));
        }
    }
    (total.0, (total.1 - 128 * total.0) as u64)
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
