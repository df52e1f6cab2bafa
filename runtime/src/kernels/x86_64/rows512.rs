//! AVX-512 over rows: everything that is not a convolution, sixteen lanes of 32 bits. Tails are masked, not scalar.

use super::super::{Channels, Frame, scalar};
use crate::format::{Quant, Row};
use crate::sampler::coefficients::{self, Bounds};
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
pub(super) fn frame_i8(out: &mut [i8], elems: &[i8], frame: Frame<i8>) {
    if !frame.fits(out.len(), elems.len()) {
        return;
    }
    let pad = _mm512_set1_epi8(frame.pad);
    // SAFETY (of both): whole vectors of the piece, and of the last one what lies behind the piece is masked off.
    let fill = |to: *mut i8, len: usize| unsafe {
        let whole = len / 64 * 64;
        for at in (0..whole).step_by(64) {
            _mm512_storeu_si512(to.add(at).cast(), pad);
        }
        _mm512_mask_storeu_epi8(to.add(whole), first64(len - whole), pad);
    };
    let load = |to: *mut i8, from: *const i8, len: usize| unsafe {
        let whole = len / 64 * 64;
        for at in (0..whole).step_by(64) {
            _mm512_storeu_si512(to.add(at).cast(), _mm512_loadu_si512(from.add(at).cast()));
        }
        if len > whole {
            let some = first64(len - whole);
            _mm512_mask_storeu_epi8(to.add(whole), some, _mm512_maskz_loadu_epi8(some, from.add(whole)));
        }
    };
    pieces(out.as_mut_ptr(), out.len(), elems.as_ptr(), &frame, fill, load);
}

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn frame_i16(out: &mut [i16], elems: &[i8], frame: Frame<i16>) {
    if !frame.fits(out.len(), elems.len()) {
        return;
    }
    let pad = _mm512_set1_epi16(frame.pad);
    // SAFETY (of both): as in `frame_i8`.
    let fill = |to: *mut i16, len: usize| unsafe {
        let whole = len / 32 * 32;
        for at in (0..whole).step_by(32) {
            _mm512_storeu_si512(to.add(at).cast(), pad);
        }
        _mm512_mask_storeu_epi16(to.add(whole), first64(len - whole) as __mmask32, pad);
    };
    let load = |to: *mut i16, from: *const i8, len: usize| unsafe {
        let whole = len / 32 * 32;
        for at in (0..whole).step_by(32) {
            let elems = _mm256_loadu_si256(from.add(at).cast());
            _mm512_storeu_si512(to.add(at).cast(), _mm512_cvtepi8_epi16(elems));
        }
        if len > whole {
            let some = first64(len - whole) as __mmask32;
            let words = _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(some, from.add(whole)));
            _mm512_mask_storeu_epi16(to.add(whole), some, words);
        }
    };
    pieces(out.as_mut_ptr(), out.len(), elems.as_ptr(), &frame, fill, load);
}

/// The pieces of a frame that fits, of which there are no more than a few vectors each.
#[inline(always)]
fn pieces<D, S>(
    mut to: *mut D,
    len: usize,
    mut from: *const S,
    frame: &Frame<D>,
    fill: impl Fn(*mut D, usize),
    load: impl Fn(*mut D, *const S, usize),
) {
    let mut left = len - frame.before;
    fill(to, frame.before);
    to = to.wrapping_add(frame.before);
    for row in 0..frame.rows {
        load(to, from, frame.len);
        left -= frame.len;
        to = to.wrapping_add(frame.len);
        from = from.wrapping_add(frame.stride);
        let gap = if row + 1 < frame.rows { frame.gap } else { left };
        fill(to, gap);
        left -= gap;
        to = to.wrapping_add(gap);
    }
    fill(to, left);
}

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn quantize(out: &mut [i8], x: &[f32], affine: [f32; 2], quant: Quant) {
    scalar::quantize(out, x, affine, quant);
}

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn update(x: &mut [f32], model: &mut [f32], row: &Row, bounds: Bounds) {
    coefficients::plain(x, model, row, bounds);
}

/// Up to sixteen elements, zeros behind the end.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
pub(super) fn load(x: &[i32]) -> __m512i {
    // A masked read of a page that is not there, as where an empty slice points, is emulated in some 300 cycles.
    if x.is_empty() {
        return _mm512_setzero_si512();
    }
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
            low: _mm512_set1_epi32(i32::MIN.wrapping_shr(shift)),
            high: _mm512_set1_epi32(i32::MAX.wrapping_shr(shift)),
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

/// The quarters of `a` added by twos, then those of `b`: folded twice, four vectors become one of four sums each.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
pub(super) fn fold(a: __m512i, b: __m512i) -> __m512i {
    let even = _mm512_shuffle_i32x4::<0b10_00_10_00>(a, b);
    let odd = _mm512_shuffle_i32x4::<0b11_01_11_01>(a, b);
    _mm512_add_epi32(even, odd)
}
