//! AVX2 over rows: everything that is not a convolution. Tails shorter than a vector go to scalar.

use super::super::constants::{self, ConvOutput, ConvSource, GroupSource, NormSource};
use super::super::scalar::{self, KERNELS as SCALAR};
use super::super::{Channels, Frame};
use crate::format::{Quant, Row};
use crate::quant::mul_round;
use crate::sampler::coefficients::{self, Bounds};
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
pub(super) fn frame_i16(out: &mut [i16], elems: &[i8], frame: Frame<i16>) {
    frame.fill(out, elems, |out, elems| widen(out, elems));
}

#[target_feature(enable = "avx2")]
pub(super) fn quantize(out: &mut [i8], x: &[f32], affine: [f32; 2], quant: Quant) {
    scalar::quantize(out, x, affine, quant);
}

#[target_feature(enable = "avx2")]
pub(super) fn update(x: &mut [f32], model: &mut [f32], row: &Row, bounds: Bounds) {
    coefficients::plain(x, model, row, bounds);
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
pub(super) fn group_stats(out: &mut [[f32; 2]], sums: &[[u64; 2]], source: GroupSource) {
    constants::group_stats(out, sums, source)
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
