//! A convolution's weights in the order in which `direct512` reads them: steps of two vectors.

use super::rows512::first16;
use core::arch::x86_64::*;

/// Bytes of a step.
pub(super) const STEP: usize = 128;

/// Weights of up to 32 channels, as they lie, to steps: of a group of four elements, sixteen channels in each vector; or `PAIRS` of
/// groups, of eight channels in each. Channels that are not there have zeros, and so have three or four groups behind the last.
///
/// # Safety
/// There are `lanes` channels of `groups` groups, rounded up to blocks of four, and room for four groups more, `STEP` each.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn line<const PAIRS: bool>(to: *mut i8, weights: *const i8, groups: usize, lanes: usize) {
    let stride = if PAIRS { STEP / 2 } else { STEP };
    let block_len = 16 * groups;
    for vector in 0..if PAIRS { 1 } else { 2 } {
        let blocks = lanes.saturating_sub(16 * vector).div_ceil(4).min(4);
        let (mut to, mut from) = (to.wrapping_add(64 * vector), weights.wrapping_add(4 * vector * block_len));
        let mut left = groups;
        // SAFETY: nothing that is masked off is read; room for four groups more than there are.
        unsafe {
            if blocks == 4 {
                while left >= 4 {
                    let four = [0, 1, 2, 3].map(|b| from.wrapping_add(b * block_len).cast());
                    let four = four.map(|from| _mm512_loadu_si512(from));
                    store_groups::<PAIRS>(to, four);
                    (to, from, left) = (to.wrapping_add(4 * stride), from.wrapping_add(64), left - 4);
                }
            }
            loop {
                let mask = first16(4 * left.min(4));
                let four = [0, 1, 2, 3].map(|b| {
                    let (mask, from) = if b < blocks { (mask, from.wrapping_add(b * block_len)) } else { (0, from) };
                    _mm512_maskz_loadu_epi32(mask, from.cast())
                });
                store_groups::<PAIRS>(to, four);
                if left < 4 {
                    break;
                }
                (to, from, left) = (to.wrapping_add(4 * stride), from.wrapping_add(64), left - 4);
            }
        }
    }
}

/// Four groups of four blocks, as steps.
///
/// # Safety
/// Room for four groups.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
unsafe fn store_groups<const PAIRS: bool>(to: *mut i8, [a, b, c, d]: [__m512i; 4]) {
    let [ab, cd] = [_mm512_shuffle_i32x4::<0x44>(a, b), _mm512_shuffle_i32x4::<0x44>(c, d)];
    let [more_ab, more_cd] = [_mm512_shuffle_i32x4::<0xee>(a, b), _mm512_shuffle_i32x4::<0xee>(c, d)];
    let [a, b] = [_mm512_shuffle_i32x4::<0x88>(ab, cd), _mm512_shuffle_i32x4::<0xdd>(ab, cd)];
    let [c, d] = [_mm512_shuffle_i32x4::<0x88>(more_ab, more_cd), _mm512_shuffle_i32x4::<0xdd>(more_ab, more_cd)];
    let vectors = match PAIRS {
        true => {
            let ([a, b], [c, d]) = (pair(a, b), pair(c, d));
            [a, b, c, d]
        }
        false => [a, b, c, d],
    };
    for (i, vector) in vectors.into_iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe { _mm512_storeu_si512(to.add(i * if PAIRS { STEP / 2 } else { STEP }).cast(), vector) };
    }
}

/// A step of two groups of sixteen channels: of every four channels two in each vector, each with both groups, as
/// [`Multiplier::mul_round_pairs`](super::rows512::Multiplier::mul_round_pairs) takes their sums.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
pub(super) fn pair(a: __m512i, b: __m512i) -> [__m512i; 2] {
    [_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b)]
}

/// Steps whose runs begin with a vector, behind a run's end zeros.
///
/// # Safety
/// `lined` holds what `line` has made of `runs·run_len` elements; there is room for as many steps as groups, those of each run rounded up.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn order(to: *mut i8, lined: *const i8, [runs, run_len]: [usize; 2], pairs: bool) {
    let mut to = to;
    for run in 0..runs {
        // Four elements from `at` on of the run.
        let group = |at: usize, vector: usize| {
            let from = run * run_len + at;
            let left = run_len.saturating_sub(at).min(4);
            if left == 0 {
                return _mm512_setzero_si512();
            }
            // SAFETY: from is below runs·run_len, and behind the last group is another.
            unsafe {
                let lined = lined.add(from / 4 * STEP + 64 * vector);
                let bits = (from % 4 * 8) as i32;
                let group = _mm512_srl_epi32(_mm512_loadu_si512(lined.cast()), _mm_cvtsi32_si128(bits));
                let next = _mm512_loadu_si512(lined.add(STEP).cast());
                let next = _mm512_sll_epi32(next, _mm_cvtsi32_si128(32 - bits));
                let valid = _mm512_set1_epi32((u32::MAX >> (32 - 8 * left)) as i32);
                _mm512_and_si512(_mm512_or_si512(group, next), valid)
            }
        };
        for at in (0..run_len).step_by(if pairs { 8 } else { 4 }) {
            let step = match pairs {
                true => pair(group(at, 0), group(at + 4, 0)),
                false => [group(at, 0), group(at, 1)],
            };
            // SAFETY: room for the step.
            unsafe {
                _mm512_storeu_si512(to.cast(), step[0]);
                _mm512_storeu_si512(to.add(64).cast(), step[1]);
                to = to.add(STEP);
            }
        }
    }
}
