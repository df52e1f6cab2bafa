//! AVX2 over rows: everything that is not a convolution. Tails shorter than a vector go to scalar.

use super::super::constants::{self, ConvOutput, ConvSource, NormSource};
use super::super::scalar::{self, KERNELS as SCALAR};
use super::super::{Channels, Exponential};
use crate::quant::mul_round;
use core::arch::x86_64::*;

/// Elements of both types of tensor.
pub(super) trait Element: Copy + Default + Into<i32> {
    /// Eight elements as lanes of 32 bits.
    fn lanes(elems: &[Self; 8]) -> __m256i;
    /// Twice eight elements as lanes of 16 bits.
    fn words(first: &[Self; 8], second: &[Self; 8]) -> __m256i;
}

// Every function here is inlined into functions with AVX2, and only there: they are called from this file and from `norm` alone.
impl Element for i8 {
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
}

impl Element for i16 {
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
}

#[target_feature(enable = "avx2")]
pub(super) fn conv_constants(sources: &mut [ConvSource<'_>], output: ConvOutput) -> u32 {
    constants::conv(sources, output)
}

#[target_feature(enable = "avx2")]
pub(super) fn norm_constants(source: NormSource, to: [&mut [i32]; 2], affine: [&[f32]; 2]) {
    constants::norm(source, to, affine)
}

#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn load(x: &[i32; 8]) -> __m256i {
    // SAFETY: 32 bytes.
    unsafe { _mm256_loadu_si256(x.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn store(to: &mut [i32; 8], x: __m256i) {
    // SAFETY: 32 bytes.
    unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), x) }
}

/// Multipliers m of eight lanes for [`mul_round`](crate::quant::mul_round), which is the upper half of a·2m + 2³¹.
#[derive(Clone, Copy)]
pub(super) struct Multiplier {
    even: __m256i,
    odd: __m256i,
    half: __m256i,
}

impl Multiplier {
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(super) fn new(m: __m256i) -> Multiplier {
        Multiplier::adding(m, 0)
    }

    /// For [`mul_round`](crate::quant::mul_round) and a small number added to it.
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(super) fn adding(m: __m256i, more: i32) -> Multiplier {
        let even = _mm256_slli_epi32::<1>(m);
        let half = _mm256_set1_epi64x(((more as i64) << 32) + (1 << 31));
        Multiplier { even, odd: upper(even), half }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    pub(super) fn mul_round(self, a: __m256i) -> __m256i {
        let even = _mm256_add_epi64(_mm256_mul_epi32(a, self.even), self.half);
        let odd = _mm256_add_epi64(_mm256_mul_epi32(upper(a), self.odd), self.half);
        _mm256_blend_epi32::<0b1010_1010>(upper(even), odd)
    }
}

/// The upper halves of lanes of 64 bits, at the place of the lower ones. By a shuffle, not a shift: LLVM sees through that and
/// multiplies in three pieces where it knows the sign.
#[target_feature(enable = "avx2")]
#[inline]
fn upper(x: __m256i) -> __m256i {
    _mm256_shuffle_epi32::<0b11_11_01_01>(x)
}

/// A left shift that saturates, the same for all lanes.
#[derive(Clone, Copy)]
pub(super) struct Shift {
    low: __m256i,
    high: __m256i,
    count: __m128i,
}

impl Shift {
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(super) fn new(shift: u32) -> Shift {
        Shift {
            low: _mm256_set1_epi32(i32::MIN >> shift),
            high: _mm256_set1_epi32(i32::MAX >> shift),
            count: _mm_cvtsi32_si128(shift as i32),
        }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    pub(super) fn of(self, x: __m256i) -> __m256i {
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
            store(acc, Multiplier::new(load(m)).mul_round(shift.of(sum)));
        }
        if !rest.is_empty() {
            (SCALAR.scale)(rest, tail);
        }
    }
}

/// `SHIFT` is that of the element type.
#[target_feature(enable = "avx2")]
pub(super) fn add<T: Element, const SHIFT: i32>(acc: &mut [i32], elems: &[T], zero_point: i32, multiplier: i32) {
    let (zero, m) = (_mm256_set1_epi32(zero_point), Multiplier::new(_mm256_set1_epi32(multiplier)));
    let (acc_lanes, acc_tail) = acc.as_chunks_mut::<8>();
    let (elem_lanes, elem_tail) = elems.as_chunks::<8>();
    for (acc, elems) in acc_lanes.iter_mut().zip(elem_lanes) {
        let centred = _mm256_slli_epi32::<SHIFT>(_mm256_sub_epi32(T::lanes(elems), zero));
        store(acc, _mm256_add_epi32(load(acc), m.mul_round(centred)));
    }
    for (acc, &q) in acc_tail.iter_mut().zip(elem_tail) {
        *acc = acc.wrapping_add(mul_round((q.into() - zero_point) << SHIFT, multiplier));
    }
}

/// Eight elements from `at` on, zeros behind the end.
#[inline(always)]
pub(super) fn eight<T: Copy + Default>(elems: &[T], at: usize) -> [T; 8] {
    let rest = elems.get(at..).unwrap_or_default();
    rest.first_chunk().copied().unwrap_or_else(|| core::array::from_fn(|i| rest.get(i).copied().unwrap_or_default()))
}

/// 64 words as the bytes that `vpshufb` looks up: the low ones, then the high ones, sixteen a register.
struct Words([[__m256i; 4]; 2]);

impl Words {
    #[target_feature(enable = "avx2")]
    #[inline]
    fn new(entries: [u16; 64]) -> Words {
        let mut planes = [[0u8; 64]; 2];
        for (i, entry) in entries.iter().enumerate() {
            (planes[0][i], planes[1][i]) = (*entry as u8, (*entry >> 8) as u8);
        }
        let mut registers = [[_mm256_setzero_si256(); 4]; 2];
        for (registers, bytes) in registers.iter_mut().zip(&planes) {
            for (register, bytes) in registers.iter_mut().zip(bytes.as_chunks::<16>().0) {
                // SAFETY: sixteen bytes.
                *register = _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) });
            }
        }
        Words(registers)
    }

    /// Entries for 32 indices below 64, those of each half's first eight bytes in the first vector.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn look_up(&self, index: __m256i) -> [__m256i; 2] {
        // Bits 4 and 5 choose the register, at the place of the sign.
        let (odd, upper) = (_mm256_slli_epi16::<3>(index), _mm256_slli_epi16::<2>(index));
        let mut bytes = [index; 2];
        for (bytes, &[a, b, c, d]) in bytes.iter_mut().zip(&self.0) {
            let ab = _mm256_blendv_epi8(_mm256_shuffle_epi8(a, index), _mm256_shuffle_epi8(b, index), odd);
            let cd = _mm256_blendv_epi8(_mm256_shuffle_epi8(c, index), _mm256_shuffle_epi8(d, index), odd);
            *bytes = _mm256_blendv_epi8(ab, cd, upper);
        }
        [_mm256_unpacklo_epi8(bytes[0], bytes[1]), _mm256_unpackhi_epi8(bytes[0], bytes[1])]
    }
}

/// A softmax's constants in registers. With twice the coarse entry, the upper half of a product of words is already
/// shifted right by 15.
struct Softmax {
    coarse: Words,
    fine: Words,
    shift: Shift,
    multiplier: Multiplier,
    right: __m128i,
}

impl Softmax {
    /// Weights of 32 scores, and their sums, eight of them.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn of(&self, most: __m256i, scores: &[i32; 32], added: &[i32; 32]) -> ([__m256i; 2], __m256i) {
        let mut index = [_mm256_setzero_si256(); 4];
        let each = scores.as_chunks::<8>().0.iter().zip(added.as_chunks::<8>().0);
        for (index, (scores, added)) in index.iter_mut().zip(each) {
            // The distance is exact without a sign, then saturated.
            let below = _mm256_sub_epi32(_mm256_add_epi32(most, load(added)), load(scores));
            let shifted = _mm256_sll_epi32(_mm256_min_epu32(below, self.shift.high), self.shift.count);
            *index = self.multiplier.mul_round(shifted);
        }
        let last = _mm256_set1_epi16(Exponential::INDEX_MAX as i16);
        // In the order 0, 2, 1, 3 of each pair's quarters, which `unpack` keeps.
        let words = |a, b| _mm256_min_epu16(_mm256_packus_epi32(a, b), last);
        let [a, b] = [words(index[0], index[1]), words(index[2], index[3])];
        let coarse = _mm256_packus_epi16(_mm256_srli_epi16::<6>(a), _mm256_srli_epi16::<6>(b));
        let low = _mm256_set1_epi16(63);
        let fine = _mm256_packus_epi16(_mm256_and_si256(a, low), _mm256_and_si256(b, low));
        let (coarse, fine) = (self.coarse.look_up(coarse), self.fine.look_up(fine));
        let weight = |i: usize| {
            let product = _mm256_srl_epi16(_mm256_mulhi_epu16(coarse[i], fine[i]), self.right);
            _mm256_permute4x64_epi64::<0b11_01_10_00>(product)
        };
        let weights = [weight(0), weight(1)];
        let ones = _mm256_set1_epi16(1);
        let sums = _mm256_add_epi32(_mm256_madd_epi16(weights[0], ones), _mm256_madd_epi16(weights[1], ones));
        (weights, sums)
    }
}

/// Both tables are looked up in registers, 32 entries at a time.
#[target_feature(enable = "avx2")]
pub(super) fn softmax_rows(weights: &mut [i16], totals: &mut [i32], scores: &[i32], added: &[i32], k: Exponential<'_>) {
    let (Some(coarse), Some(fine)) = (k.coarse.first_chunk::<64>(), k.fine.first_chunk::<64>()) else {
        return (SCALAR.softmax_rows)(weights, totals, scores, added, k);
    };
    let softmax = Softmax {
        coarse: Words::new(coarse.map(|entry| entry << 1)),
        fine: Words::new(*fine),
        shift: Shift::new(k.shift),
        multiplier: Multiplier::new(_mm256_set1_epi32(k.multiplier)),
        right: _mm_cvtsi32_si128(k.right as i32 - 15),
    };
    let len = added.len().max(1);
    let rows = weights.chunks_exact_mut(len.next_multiple_of(4)).zip(totals).zip(scores.chunks_exact(len));
    for ((weights, total), scores) in rows {
        let most = scores.iter().zip(added).map(|(&score, &added)| score.wrapping_sub(added)).fold(i32::MIN, i32::max);
        let most = _mm256_set1_epi32(most);
        let (scores, scores_tail) = scores.as_chunks::<32>();
        let (added, added_tail) = added.as_chunks::<32>();
        let mut sums = _mm256_setzero_si256();
        let (whole, rest) = weights.split_at_mut_checked(32 * scores.len()).unwrap_or_default();
        for ((to, scores), added) in whole.as_chunks_mut().0.iter_mut().zip(scores).zip(added) {
            let (weights, some) = softmax.of(most, scores, added);
            store_words(to, weights);
            sums = _mm256_add_epi32(sums, some);
        }
        let mut lanes = [0; 8];
        store(&mut lanes, sums);
        *total = lanes.iter().sum();
        if !scores_tail.is_empty() {
            let (mut scores, mut added, mut tail) = ([0; 32], [0; 32], [0i16; 32]);
            scores.iter_mut().zip(scores_tail).for_each(|(to, &score)| *to = score);
            added.iter_mut().zip(added_tail).for_each(|(to, &added)| *to = added);
            store_words(&mut tail, softmax.of(most, &scores, &added).0);
            tail.iter_mut().skip(scores_tail.len()).for_each(|weight| *weight = 0);
            rest.iter_mut().zip(tail).for_each(|(to, weight)| *to = weight);
            *total += tail.iter().map(|&weight| weight as i32).sum::<i32>();
        }
    }
}

#[target_feature(enable = "avx2")]
#[inline]
fn store_words(to: &mut [i16; 32], words: [__m256i; 2]) {
    for (to, words) in to.as_chunks_mut::<16>().0.iter_mut().zip(words) {
        // SAFETY: 32 bytes.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), words) };
    }
}
