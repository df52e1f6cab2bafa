//! A convolution's weights in the order in which `direct512` reads them: steps of a group of four elements, sixteen channels a vector.

use super::rows512::first16;
use core::arch::x86_64::*;

/// Bytes of a vector.
pub(super) const VECTOR: usize = 64;

/// As `line`, and where there are runs, as `order`, each to its place.
///
/// # Safety
/// As of these.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
pub(super) unsafe fn arrange<const V: usize>(
    [lined, ordered]: [*mut i8; 2],
    weights: *const i8,
    [groups, lanes]: [usize; 2],
    runs: Option<[usize; 2]>,
) {
    // SAFETY: the caller's promise.
    unsafe {
        line::<V>(lined, weights, groups, lanes);
        if let Some(runs) = runs {
            order::<V>(ordered, lined, runs);
        }
    }
}

/// Weights of as many channels as `V` vectors have, or fewer, as they lie, to steps. Channels that are not there have zeros.
///
/// # Safety
/// There are `lanes` channels of `groups` groups, rounded up to blocks of four, and room for three groups more.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn line<const V: usize>(to: *mut i8, weights: *const i8, groups: usize, lanes: usize) {
    let stride = V * VECTOR;
    let block_len = 16 * groups;
    for vector in 0..V {
        let blocks = lanes.saturating_sub(16 * vector).div_ceil(4).min(4);
        let (mut to, mut from) = (to.wrapping_add(VECTOR * vector), weights.wrapping_add(4 * vector * block_len));
        let mut left = groups;
        // SAFETY: nothing that is masked off is read; room for three groups more than there are.
        unsafe {
            if blocks == 4 {
                while left >= 4 {
                    let four = [0, 1, 2, 3].map(|b| from.wrapping_add(b * block_len).cast());
                    let four = four.map(|from| _mm512_loadu_si512(from));
                    store_groups(to, stride, four);
                    (to, from, left) = (to.wrapping_add(4 * stride), from.wrapping_add(64), left - 4);
                }
            }
            while left > 0 {
                let mask = first16(4 * left.min(4));
                let four = [0, 1, 2, 3].map(|b| {
                    let (mask, from) = if b < blocks { (mask, from.wrapping_add(b * block_len)) } else { (0, from) };
                    _mm512_maskz_loadu_epi32(mask, from.cast())
                });
                store_groups(to, stride, four);
                (to, from, left) = (to.wrapping_add(4 * stride), from.wrapping_add(64), left.saturating_sub(4));
            }
        }
    }
}

/// Adds to `acc` the products of `len` elements from each of `from` on and the steps from `w` on. Returns those behind.
///
/// # Safety
/// Elements, rounded up to groups of four, and steps are there.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
pub(super) unsafe fn add_run<const V: usize, const N: usize>(
    acc: &mut [[__m512i; V]; N],
    from: [*const i8; N],
    len: usize,
    mut w: *const i8,
) -> *const i8 {
    for k in (0..len).step_by(4) {
        // SAFETY: the caller's promise.
        unsafe {
            let rows = load_rows::<V>(w);
            for (acc, from) in acc.iter_mut().zip(from) {
                let elems = _mm512_set1_epi32(from.add(k).cast::<i32>().read_unaligned());
                for v in 0..V {
                    acc[v] = _mm512_dpbusd_epi32(acc[v], elems, rows[v]);
                }
            }
        }
        w = w.wrapping_add(V * VECTOR);
    }
    w
}

/// A step.
///
/// # Safety
/// It is there.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
pub(super) unsafe fn load_rows<const V: usize>(w: *const i8) -> [__m512i; V] {
    let mut rows = [_mm512_setzero_si512(); V];
    for (v, row) in rows.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *row = unsafe { _mm512_loadu_si512(w.add(v * VECTOR).cast()) };
    }
    rows
}

/// Four groups of four blocks, as vectors, `stride` from each to the next.
///
/// # Safety
/// Room for these.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
unsafe fn store_groups(to: *mut i8, stride: usize, [a, b, c, d]: [__m512i; 4]) {
    let [ab, cd] = [_mm512_shuffle_i32x4::<0x44>(a, b), _mm512_shuffle_i32x4::<0x44>(c, d)];
    let [more_ab, more_cd] = [_mm512_shuffle_i32x4::<0xee>(a, b), _mm512_shuffle_i32x4::<0xee>(c, d)];
    let [a, b] = [_mm512_shuffle_i32x4::<0x88>(ab, cd), _mm512_shuffle_i32x4::<0xdd>(ab, cd)];
    let [c, d] = [_mm512_shuffle_i32x4::<0x88>(more_ab, more_cd), _mm512_shuffle_i32x4::<0xdd>(more_ab, more_cd)];
    for (i, vector) in [a, b, c, d].into_iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe { _mm512_storeu_si512(to.add(i * stride).cast(), vector) };
    }
}

/// Steps whose runs begin with a vector, behind a run's end zeros.
///
/// # Safety
/// `lined` holds what `line` has made of `runs·run_len` elements, and room for a step more; `to` has room for as many steps as groups,
/// those of each run rounded up.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn order<const V: usize>(to: *mut i8, lined: *mut i8, [runs, run_len]: [usize; 2]) {
    let mut to = to;
    // SAFETY: room for another step.
    unsafe { lined.add((runs * run_len).div_ceil(4) * V * VECTOR).write_bytes(0, V * VECTOR) };
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
                let lined = lined.add((from / 4 * V + vector) * VECTOR);
                let bits = (from % 4 * 8) as i32;
                let group = _mm512_srl_epi32(_mm512_loadu_si512(lined.cast()), _mm_cvtsi32_si128(bits));
                let next = _mm512_loadu_si512(lined.add(V * VECTOR).cast());
                let next = _mm512_sll_epi32(next, _mm_cvtsi32_si128(32 - bits));
                let valid = _mm512_set1_epi32((u32::MAX >> (32 - 8 * left)) as i32);
                _mm512_and_si512(_mm512_or_si512(group, next), valid)
            }
        };
        for at in (0..run_len).step_by(4) {
            for vector in 0..V {
                // SAFETY: room for the step.
                unsafe { _mm512_storeu_si512(to.cast(), group(at, vector)) };
                to = to.wrapping_add(VECTOR);
            }
        }
    }
}
