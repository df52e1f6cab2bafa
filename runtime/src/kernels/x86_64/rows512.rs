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

/// Factors of 32 words, and what is added to the products: `(w·m + add·2¹⁵) >> 15`, for even words and for odd ones, each in
/// a lane of 32 bits. m has two halves of 15 bits, so that it is w·high + add + (w·low >> 15), and `vpdpwssd` multiplies and
/// adds at once; the other word of a lane meets a zero.
#[derive(Clone, Copy)]
struct Pairs {
    high: [__m512i; 2],
    low: [__m512i; 2],
    add: [__m512i; 2],
    /// Of the lower product.
    half: __m512i,
}

impl Pairs {
    /// From factors and addends in order, sixteen a vector.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    fn new(m: [__m512i; 2], add: [__m512i; 2], half: i32) -> Pairs {
        let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
        let split = |x: [__m512i; 2]| [even, odd].map(|index| _mm512_permutex2var_epi32(x[0], index, x[1]));
        let (m, add) = (split(m), split(add));
        let word = _mm512_set1_epi32(0xffff);
        let high = [
            _mm512_and_si512(_mm512_srai_epi32::<15>(m[0]), word),
            _mm512_andnot_si512(word, _mm512_slli_epi32::<1>(m[1])),
        ];
        let low = m.map(|m| _mm512_and_si512(m, _mm512_set1_epi32(0x7fff)));
        Pairs { high, low: [low[0], _mm512_slli_epi32::<16>(low[1])], add, half: _mm512_set1_epi32(half) }
    }

    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    fn of(&self, words: __m512i) -> [__m512i; 2] {
        let one = |i: usize| {
            let low = _mm512_srai_epi32::<15>(_mm512_dpwssd_epi32(self.half, words, self.low[i]));
            _mm512_add_epi32(_mm512_dpwssd_epi32(self.add[i], words, self.high[i]), low)
        };
        [one(0), one(1)]
    }
}

/// Words of eight, the even ones first, as bytes in order.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
fn in_order(bytes: __m256i) -> __m256i {
    let order = _mm256_setr_epi8(
        0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15, 0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15,
    );
    _mm256_shuffle_epi8(bytes, order)
}

/// Table entries as the bytes that they become, two a word: entry i is byte i.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
fn results(table: &[i16; Table::LEN], k: &NormConstants<'_>) -> [__m512i; 16] {
    // Rounded at bit 31, which is bit 16 of what `Pairs` gives.
    let (m, half) = (_mm512_set1_epi32(k.out_multiplier), _mm512_set1_epi32(1 << 15));
    let pairs = Pairs::new([m; 2], [half; 2], 0);
    let zero = _mm512_set1_epi16(k.out_zero_point as i16);
    let bytes_of = |entries: &[i16]| {
        // SAFETY: what lies behind the slice is masked off.
        let entries = unsafe { _mm512_maskz_loadu_epi16(first64(entries.len()) as __mmask32, entries.as_ptr()) };
        let [even, odd] = pairs.of(entries).map(|x| _mm512_srai_epi32::<16>(x));
        in_order(_mm512_cvtsepi16_epi8(_mm512_adds_epi16(_mm512_packs_epi32(even, odd), zero)))
    };
    let mut words = [_mm512_setzero_si512(); 16];
    for (words, entries) in words.iter_mut().zip(table.as_chunks::<64>().0) {
        let (low, high) = (bytes_of(&entries[..32]), bytes_of(&entries[32..]));
        *words = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high);
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

/// 32 channels at a time, or the last sixteen of two pixels, keep their constants in registers while some pixels pass.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn norm_i8(out: &mut [i8], out_c: usize, src: &[i8], src_c: usize, k: NormConstants<'_>) {
    let table: Option<[__m512i; 16]> = k.table.first_chunk().map(|table| results(table, &k));
    let [out_c, src_c] = [out_c.max(1), src_c.max(1)];
    let width = src_c.min(out_c).min(k.multiplier.len()).min(k.offset.len());
    let zero = _mm512_set1_epi16(k.zero_point as i16);
    let out_zero = _mm512_set1_epi16(k.out_zero_point as i16);
    let last = _mm512_set1_epi16(Table::LEN as i16 - 1);
    // A table's index has no sign.
    let middle = if table.is_some() { (Table::LEN as i32 / 2) << NORM_FRACTION_BITS } else { 0 };
    for (out, src) in out.chunks_mut(out_c * NORM_PIXELS).zip(src.chunks(src_c * NORM_PIXELS)) {
        let mut first = 0;
        while first < width {
            let some = (width - first).min(32);
            let two = some <= 16;
            let lanes =
                |constants: &[i32], at: usize| load(constants.get(first + at..first + some).unwrap_or_default());
            let second = if two { 0 } else { 16 };
            let m = [lanes(k.multiplier, 0), lanes(k.multiplier, second)];
            let offset = [lanes(k.offset, 0), lanes(k.offset, second)];
            let offset = offset.map(|offset| _mm512_add_epi32(offset, _mm512_set1_epi32(middle)));
            let pairs = Pairs::new(m, offset, 1 << 14);
            let bytes_of = |elems: __m256i| {
                let centred = _mm512_sub_epi16(_mm512_cvtepi8_epi16(elems), zero);
                // Both summands are below 2³⁰: nothing saturates.
                let [even, odd] = pairs.of(centred).map(|x| _mm512_srai_epi32::<NORM_FRACTION_BITS>(x));
                in_order(match &table {
                    None => _mm512_cvtsepi16_epi8(_mm512_adds_epi16(_mm512_packs_epi32(even, odd), out_zero)),
                    Some(table) => {
                        let index = _mm512_min_epu16(_mm512_packus_epi32(even, odd), last);
                        _mm512_cvtepi16_epi8(look_up(table, index))
                    }
                })
            };
            let mask = first64(some) as __mmask32;
            if two {
                let mask = mask as __mmask16;
                let pixels = out.chunks_mut(2 * out_c).zip(src.chunks(2 * src_c));
                for (out, src) in pixels {
                    let at = |pixel: usize, c: usize| pixel * c + first;
                    // SAFETY (of both): `some` bytes, or none; the others are masked off.
                    let of = |pixel: usize| match src.get(at(pixel, src_c)..at(pixel, src_c) + some) {
                        Some(src) => unsafe { _mm_maskz_loadu_epi8(mask, src.as_ptr()) },
                        None => _mm_setzero_si128(),
                    };
                    let bytes = bytes_of(_mm256_set_m128i(of(1), of(0)));
                    let mut to = |pixel: usize, bytes: __m128i| {
                        let inside = src.len() >= (pixel + 1) * src_c;
                        if let Some(out) = out.get_mut(at(pixel, out_c)..).filter(|_| inside) {
                            let mask = mask & first64(out.len()) as __mmask16;
                            unsafe { _mm_mask_storeu_epi8(out.as_mut_ptr(), mask, bytes) };
                        }
                    };
                    to(0, _mm256_castsi256_si128(bytes));
                    to(1, _mm256_extracti128_si256::<1>(bytes));
                }
            } else {
                for (out, src) in out.chunks_mut(out_c).zip(src.chunks_exact(src_c)) {
                    let (Some(out), Some(src)) = (out.get_mut(first..), src.get(first..first + some)) else { break };
                    let mask = mask & first64(out.len()) as __mmask32;
                    // SAFETY (of both): `some` bytes, of which `out` may have fewer; the others are masked off.
                    let bytes = bytes_of(unsafe { _mm256_maskz_loadu_epi8(mask, src.as_ptr()) });
                    unsafe { _mm256_mask_storeu_epi8(out.as_mut_ptr(), mask, bytes) };
                }
            }
            first += some;
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
