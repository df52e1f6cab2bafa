//! AVX2 over rows: everything that is not a convolution. Tails shorter than a vector go to scalar.

use super::super::scalar::{self, KERNELS as SCALAR, round_sum, weight};
use super::super::{Channels, Exponential, NormConstants, Strided};
use crate::format::op::Table;
use crate::quant::{NORM_FRACTION_BITS, SUM_FRACTION_BITS, mul_round};
use core::arch::x86_64::*;

/// Elements of both types of tensor.
pub(super) trait Element: Copy + Into<i32> {
    const ZERO: Self;
    /// Eight elements as lanes of 32 bits.
    fn lanes(elems: &[Self; 8]) -> __m256i;
    /// Twice eight elements as lanes of 16 bits.
    fn words(first: &[Self; 8], second: &[Self; 8]) -> __m256i;
    /// Adds lanes of 32 bits without a sign, each two squares.
    fn add_squares(total: __m256i, squares: __m256i) -> __m256i;
    fn total_of_squares(total: __m256i) -> u64;
}

// Every function here is inlined into functions with AVX2, and only there: they are called from this file alone.
impl Element for i8 {
    const ZERO: i8 = 0;

    #[inline(always)]
    fn lanes(elems: &[i8; 8]) -> __m256i {
        // SAFETY: eight bytes; the caller has AVX2.
        unsafe { _mm256_cvtepi8_epi32(_mm_loadl_epi64(elems.as_ptr().cast())) }
    }

    #[inline(always)]
    fn words(first: &[i8; 8], second: &[i8; 8]) -> __m256i {
        let [first, second] = [first, second].map(|elems| i64::from_le_bytes(elems.map(|q| q as u8)));
        // SAFETY: the caller has AVX2.
        unsafe { _mm256_cvtepi8_epi16(_mm_set_epi64x(second, first)) }
    }

    #[inline(always)]
    fn add_squares(total: __m256i, squares: __m256i) -> __m256i {
        // Two squares are at most 2¹⁵. SAFETY: the caller has AVX2.
        unsafe { _mm256_add_epi32(total, squares) }
    }

    #[inline(always)]
    fn total_of_squares(total: __m256i) -> u64 {
        let mut lanes = [0; 8];
        // SAFETY: the caller has AVX2.
        unsafe { store(&mut lanes, total) };
        lanes.iter().map(|&sum| sum as u32 as u64).sum()
    }
}

impl Element for i16 {
    const ZERO: i16 = 0;

    #[inline(always)]
    fn lanes(elems: &[i16; 8]) -> __m256i {
        // SAFETY: sixteen bytes; the caller has AVX2.
        unsafe { _mm256_cvtepi16_epi32(_mm_loadu_si128(elems.as_ptr().cast())) }
    }

    #[inline(always)]
    fn words(first: &[i16; 8], second: &[i16; 8]) -> __m256i {
        // SAFETY: sixteen bytes each; the caller has AVX2.
        unsafe { _mm256_loadu2_m128i(second.as_ptr().cast(), first.as_ptr().cast()) }
    }

    #[inline(always)]
    fn add_squares(total: __m256i, squares: __m256i) -> __m256i {
        // Two squares take 32 bits, so lanes of 64. SAFETY: the caller has AVX2.
        unsafe {
            let even = _mm256_blend_epi32::<0b1010_1010>(squares, _mm256_setzero_si256());
            _mm256_add_epi64(total, _mm256_add_epi64(even, _mm256_srli_epi64::<32>(squares)))
        }
    }

    #[inline(always)]
    fn total_of_squares(total: __m256i) -> u64 {
        let mut lanes = [0; 8];
        // SAFETY: the caller has AVX2.
        unsafe { store(&mut lanes, total) };
        lanes.as_chunks::<2>().0.iter().map(|&[low, high]| low as u32 as u64 | (high as u32 as u64) << 32).sum()
    }
}

#[target_feature(enable = "avx2")]
#[inline]
fn load(x: &[i32; 8]) -> __m256i {
    // SAFETY: 32 bytes.
    unsafe { _mm256_loadu_si256(x.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn store(to: &mut [i32; 8], x: __m256i) {
    // SAFETY: 32 bytes.
    unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), x) }
}

/// [`mul_round`]: the even lanes' products moved down to bit 0, the odd lanes' up to bit 32.
#[target_feature(enable = "avx2")]
#[inline]
fn mul_round_lanes(a: __m256i, m: __m256i) -> __m256i {
    let half = _mm256_set1_epi64x(1 << 30);
    let even = _mm256_add_epi64(_mm256_mul_epi32(a, m), half);
    // By shuffles, not shifts: LLVM sees through those and multiplies in three pieces where it knows the sign.
    let [a, m] = [_mm256_shuffle_epi32::<0b11_11_01_01>(a), _mm256_shuffle_epi32::<0b11_11_01_01>(m)];
    let odd = _mm256_mul_epi32(a, m);
    let odd = _mm256_add_epi64(odd, half);
    _mm256_blend_epi32::<0b1010_1010>(_mm256_srli_epi64::<31>(even), _mm256_add_epi64(odd, odd))
}

/// A left shift that saturates, the same for all lanes.
#[derive(Clone, Copy)]
struct Shift {
    low: __m256i,
    high: __m256i,
    count: __m128i,
}

impl Shift {
    #[target_feature(enable = "avx2")]
    #[inline]
    fn new(shift: u32) -> Shift {
        Shift {
            low: _mm256_set1_epi32(i32::MIN >> shift),
            high: _mm256_set1_epi32(i32::MAX >> shift),
            count: _mm_cvtsi32_si128(shift as i32),
        }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn of(self, x: __m256i) -> __m256i {
        _mm256_sll_epi32(_mm256_min_epi32(_mm256_max_epi32(x, self.low), self.high), self.count)
    }
}

#[target_feature(enable = "avx2")]
pub(super) fn widen(out: &mut [i16], elems: &[i8]) {
    for (out, &elem) in out.iter_mut().zip(elems) {
        *out = elem as i16;
    }
}

#[target_feature(enable = "avx2")]
pub(super) fn unpack_i4(out: &mut [i8], nibbles: &[u8], scales: &[u16], group_len: usize) {
    scalar::unpack_i4(out, nibbles, scales, group_len);
}

#[target_feature(enable = "avx2")]
pub(super) fn sum_taps(out: &mut [i32], channels: usize, rows: [&[i32]; 3]) {
    scalar::sum_taps(out, channels, rows);
}

#[target_feature(enable = "avx2")]
pub(super) fn scale(acc: &mut [i32], channels: Channels<'_>) {
    let shift = Shift::new(channels.shift);
    let (bias, bias_tail) = channels.bias.as_chunks::<8>();
    let (multiplier, multiplier_tail) = channels.multiplier.as_chunks::<8>();
    let tail = Channels { bias: bias_tail, multiplier: multiplier_tail, shift: channels.shift };
    for pixel in acc.chunks_exact_mut(channels.bias.len().max(1)) {
        let (lanes, rest) = pixel.as_chunks_mut::<8>();
        for ((acc, bias), m) in lanes.iter_mut().zip(bias).zip(multiplier) {
            let sum = _mm256_add_epi32(load(acc), load(bias));
            store(acc, mul_round_lanes(shift.of(sum), load(m)));
        }
        if !rest.is_empty() {
            (SCALAR.scale)(rest, tail);
        }
    }
}

/// `SHIFT` is that of the element type.
#[target_feature(enable = "avx2")]
pub(super) fn add<T: Element, const SHIFT: i32>(acc: &mut [i32], elems: &[T], zero_point: i32, multiplier: i32) {
    let (zero, m) = (_mm256_set1_epi32(zero_point), _mm256_set1_epi32(multiplier));
    let (acc_lanes, acc_tail) = acc.as_chunks_mut::<8>();
    let (elem_lanes, elem_tail) = elems.as_chunks::<8>();
    for (acc, elems) in acc_lanes.iter_mut().zip(elem_lanes) {
        let centred = _mm256_slli_epi32::<SHIFT>(_mm256_sub_epi32(T::lanes(elems), zero));
        store(acc, _mm256_add_epi32(load(acc), mul_round_lanes(centred, m)));
    }
    for (acc, &q) in acc_tail.iter_mut().zip(elem_tail) {
        *acc = acc.wrapping_add(mul_round((q.into() - zero_point) << SHIFT, multiplier));
    }
}

/// Eight lanes to eight bytes, saturated.
#[target_feature(enable = "avx2")]
#[inline]
fn narrow(x: __m256i) -> [i8; 8] {
    let words = _mm_packs_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256::<1>(x));
    _mm_cvtsi128_si64(_mm_packs_epi16(words, words)).to_le_bytes().map(|byte| byte as i8)
}

#[target_feature(enable = "avx2")]
pub(super) fn store_i8(out: &mut [i8], acc: &[i32], zero_point: i32) {
    let half = _mm256_set1_epi32(1 << (SUM_FRACTION_BITS - 1));
    let zero = _mm256_set1_epi32(zero_point);
    let (out_lanes, out_tail) = out.as_chunks_mut::<8>();
    let (acc_lanes, acc_tail) = acc.as_chunks::<8>();
    for (out, acc) in out_lanes.iter_mut().zip(acc_lanes) {
        let rounded = _mm256_srai_epi32::<{ SUM_FRACTION_BITS as i32 }>(_mm256_add_epi32(load(acc), half));
        *out = narrow(_mm256_add_epi32(rounded, zero));
    }
    for (out, &sum) in out_tail.iter_mut().zip(acc_tail) {
        *out = round_sum(sum).saturating_add(zero_point).clamp(-128, 127) as i8;
    }
}

/// The table's entries are fetched one by one; a gather has not been measured.
#[target_feature(enable = "avx2")]
pub(super) fn norm<T: Element, const SHIFT: i32>(
    out: &mut [i8],
    out_c: usize,
    src: &[T],
    src_c: usize,
    k: NormConstants<'_>,
    scalar: fn(&mut [i8], usize, &[T], usize, NormConstants<'_>),
) {
    const HALF: i32 = Table::LEN as i32 / 2;
    let table: Option<&[i16; Table::LEN]> = k.table.first_chunk();
    let (zero, out_m) = (_mm256_set1_epi32(k.zero_point), _mm256_set1_epi32(k.out_multiplier));
    let out_zero = _mm256_set1_epi32(k.out_zero_point);
    let (low, high) = (_mm256_set1_epi32(-HALF), _mm256_set1_epi32(HALF - 1));
    let (multiplier, multiplier_tail) = k.multiplier.as_chunks::<8>();
    let (offset, offset_tail) = k.offset.as_chunks::<8>();
    let tail = NormConstants { multiplier: multiplier_tail, offset: offset_tail, ..k };
    for (out, src) in out.chunks_mut(out_c.max(1)).zip(src.chunks_exact(src_c.max(1))) {
        let (out_lanes, _) = out.as_chunks_mut::<8>();
        let (src_lanes, src_tail) = src.as_chunks::<8>();
        for (((out, src), m), offset) in out_lanes.iter_mut().zip(src_lanes).zip(multiplier).zip(offset) {
            let centred = _mm256_slli_epi32::<SHIFT>(_mm256_sub_epi32(T::lanes(src), zero));
            // Both summands are below 2³⁰: nothing saturates.
            let sum = _mm256_add_epi32(mul_round_lanes(centred, load(m)), load(offset));
            let index = _mm256_srai_epi32::<{ NORM_FRACTION_BITS as i32 }>(sum);
            let value = match table {
                None => index,
                Some(table) => {
                    let inside = _mm256_min_epi32(_mm256_max_epi32(index, low), high);
                    let mut at = [0i32; 8];
                    store(&mut at, inside);
                    // The mask changes nothing; it shows that the index is in bounds.
                    let entry = |lane: usize| table[((at[lane] + HALF) as usize) & (Table::LEN - 1)];
                    let entries: [i16; 8] = core::array::from_fn(entry);
                    mul_round_lanes(i16::lanes(&entries), out_m)
                }
            };
            *out = narrow(_mm256_add_epi32(value, out_zero));
        }
        if !src_tail.is_empty() {
            let done = src.len() - src_tail.len();
            scalar(out.get_mut(done..).unwrap_or_default(), out_c, src_tail, src_tail.len(), tail);
        }
    }
}

/// Pairs of pixels whose sums surely fit 32-bit lanes: 2¹⁶ is the most that a pair adds.
const SUM_PAIRS: usize = 1 << 14;

/// Eight channels of two pixels a vector.
#[target_feature(enable = "avx2")]
pub(super) fn sums<T: Element>(row: &[T], channels: usize, first: usize, group_c: usize) -> (i64, u64) {
    let c = channels.max(1);
    let mut total = (0i64, 0u64);
    let group = first.min(c)..first.saturating_add(group_c).min(c);
    for part in row.chunks(2 * SUM_PAIRS * c) {
        for channel in group.clone().step_by(8) {
            let mask = words_below(group.end - channel);
            let (mut sums, mut squares) = (_mm256_setzero_si256(), _mm256_setzero_si256());
            for pair in part.chunks(2 * c) {
                // A last pixel without a partner, or without eight elements behind it, reads zeros there.
                let first = eight(pair, channel);
                let second = if pair.len() > c { eight(pair, c + channel) } else { [T::ZERO; 8] };
                let words = _mm256_and_si256(T::words(&first, &second), mask);
                sums = _mm256_add_epi32(sums, _mm256_madd_epi16(words, _mm256_set1_epi16(1)));
                squares = T::add_squares(squares, _mm256_madd_epi16(words, words));
            }
            let mut lanes = [0i32; 8];
            store(&mut lanes, sums);
            total.0 += lanes.iter().map(|&sum| sum as i64).sum::<i64>();
            total.1 += T::total_of_squares(squares);
        }
    }
    total
}

/// All bits of the first `n` of eight words, in both halves.
#[target_feature(enable = "avx2")]
#[inline]
fn words_below(n: usize) -> __m256i {
    let lane = _mm256_broadcastsi128_si256(_mm_set_epi16(7, 6, 5, 4, 3, 2, 1, 0));
    _mm256_cmpgt_epi16(_mm256_set1_epi16(n.min(8) as i16), lane)
}

/// Eight elements from `at` on, zeros behind the end.
#[inline(always)]
fn eight<T: Element>(elems: &[T], at: usize) -> [T; 8] {
    let rest = elems.get(at..).unwrap_or_default();
    rest.first_chunk().copied().unwrap_or_else(|| core::array::from_fn(|i| rest.get(i).copied().unwrap_or(T::ZERO)))
}

/// Four rows at a time, sixteen elements of each.
#[target_feature(enable = "avx2")]
pub(super) fn dot_i8(out: &mut [i32], row: &[i8], rows: Strided<'_, i8>) {
    let len = row.len();
    let stride = rows.stride;
    let (row_sixteens, row_rest) = row.as_chunks::<16>();
    let (row_eights, row_tail) = row_rest.as_chunks::<8>();
    let (four, out_tail) = out.as_chunks_mut::<4>();
    let done = four.len() * 4;
    for (j, out) in four.iter_mut().enumerate() {
        // Loops, not `from_fn` and `and_then`: closures with AVX2 are not inlined into those, which cost more than the
        // products.
        let mut others: [&[i8]; 4] = [&[]; 4];
        for (i, other) in others.iter_mut().enumerate() {
            let at = (4 * j + i) * stride;
            *other = rows.elems.get(at..at + len).unwrap_or_default();
        }
        let mut acc = [_mm256_setzero_si256(); 4];
        // Heads of eight are usual: without loops `digits` spends 3.3 ms a picture in attention, with them 4.1.
        if let (Ok(x), [Ok(a), Ok(b), Ok(c), Ok(d)]) = (row.try_into(), others.map(<&[i8; 8]>::try_from)) {
            let x = words8(x);
            let [a, b, c, d] = [a, b, c, d].map(|other| _mm_madd_epi16(x, words8(other)));
            let sums = _mm_hadd_epi32(_mm_hadd_epi32(a, b), _mm_hadd_epi32(c, d));
            // SAFETY: sixteen bytes.
            unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), sums) };
            continue;
        }
        for (acc, other) in acc.iter_mut().zip(&others) {
            let (sixteens, rest) = other.as_chunks::<16>();
            for (x, w) in row_sixteens.iter().zip(sixteens) {
                *acc = _mm256_add_epi32(*acc, _mm256_madd_epi16(words16(x), words16(w)));
            }
            for (x, w) in row_eights.iter().zip(rest.as_chunks::<8>().0) {
                let products = _mm_madd_epi16(words8(x), words8(w));
                *acc = _mm256_add_epi32(*acc, _mm256_zextsi128_si256(products));
            }
        }
        let pairs = _mm256_hadd_epi32(_mm256_hadd_epi32(acc[0], acc[1]), _mm256_hadd_epi32(acc[2], acc[3]));
        let sums = _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256::<1>(pairs));
        // SAFETY: sixteen bytes.
        unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), sums) };
        if !row_tail.is_empty() {
            for (out, other) in out.iter_mut().zip(&others) {
                let other = other.get(len - row_tail.len()..).unwrap_or_default();
                let tail = row_tail.iter().zip(other).map(|(&x, &w)| x as i32 * w as i32);
                *out = out.wrapping_add(tail.sum::<i32>());
            }
        }
    }
    let rest = Strided { elems: rows.elems.get(done * stride..).unwrap_or_default(), stride };
    (SCALAR.dot_i8)(out_tail, row, rest);
}

#[target_feature(enable = "avx2")]
#[inline]
fn words16(x: &[i8; 16]) -> __m256i {
    // SAFETY: sixteen bytes.
    _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(x.as_ptr().cast()) })
}

#[target_feature(enable = "avx2")]
#[inline]
fn words8(x: &[i8; 8]) -> __m128i {
    // SAFETY: eight bytes.
    _mm_cvtepi8_epi16(unsafe { _mm_loadl_epi64(x.as_ptr().cast()) })
}

#[target_feature(enable = "avx2")]
pub(super) fn softmax(scores: &mut [i32], k: Exponential<'_>) -> i32 {
    let (Some(coarse), Some(fine)) = (k.coarse.first_chunk::<64>(), k.fine.first_chunk::<64>()) else {
        return (SCALAR.softmax)(scores, k);
    };
    let max = scores.iter().copied().fold(i32::MIN, i32::max);
    let (most, shift, m) = (_mm256_set1_epi32(max), Shift::new(k.shift), _mm256_set1_epi32(k.multiplier));
    let (zero, last) = (_mm256_setzero_si256(), _mm256_set1_epi32(Exponential::INDEX_MAX));
    let mut total = 0i32;
    let (lanes, tail) = scores.as_chunks_mut::<8>();
    for scores in lanes {
        // The distance is exact without a sign, then saturated.
        let below = _mm256_min_epu32(_mm256_sub_epi32(most, load(scores)), _mm256_set1_epi32(i32::MAX));
        let index = mul_round_lanes(shift.of(below), m);
        store(scores, _mm256_min_epi32(_mm256_max_epi32(index, zero), last));
        for score in scores {
            let index = *score as usize;
            // The masks change nothing; they show that the indices are in bounds.
            let product = coarse[(index >> 6) & 63] as u32 * fine[index & 63] as u32;
            *score = (product >> k.right) as i32;
            total = total.wrapping_add(*score);
        }
    }
    for score in tail {
        *score = weight(max.saturating_sub(*score), k, mul_round);
        total = total.wrapping_add(*score);
    }
    total
}

/// 32 channels at a time stay in registers while all rows pass, then eight, then scalar.
#[target_feature(enable = "avx2")]
pub(super) fn mix_i8(out: &mut [i32], weights: &[i32], rows: Strided<'_, i8>) {
    let len = out.len();
    let (wide, rest) = out.as_chunks_mut::<32>();
    let mut done = 0;
    for out in wide {
        mix::<4>(out.as_chunks_mut::<8>().0, weights, rows, done);
        done += 32;
    }
    let (lanes, tail) = rest.as_chunks_mut::<8>();
    for out in lanes {
        mix::<1>(core::slice::from_mut(out), weights, rows, done);
        done += 8;
    }
    if done < len {
        let rows = Strided { elems: rows.elems.get(done..).unwrap_or_default(), stride: rows.stride };
        (SCALAR.mix_i8)(tail, weights, rows);
    }
}

/// Channels `first..first + 8·N`.
#[target_feature(enable = "avx2")]
#[inline]
fn mix<const N: usize>(out: &mut [[i32; 8]], weights: &[i32], rows: Strided<'_, i8>, first: usize) {
    let mut acc = [_mm256_setzero_si256(); N];
    for (&weight, row) in weights.iter().zip(rows.elems.chunks(rows.stride.max(1))) {
        let Some(elems) = row.get(first..).and_then(|row| row.as_chunks::<8>().0.first_chunk::<N>()) else { break };
        let weight = _mm256_set1_epi32(weight);
        for (acc, elems) in acc.iter_mut().zip(elems) {
            *acc = _mm256_add_epi32(*acc, _mm256_mullo_epi32(i8::lanes(elems), weight));
        }
    }
    for (out, acc) in out.iter_mut().zip(acc) {
        store(out, acc);
    }
}
