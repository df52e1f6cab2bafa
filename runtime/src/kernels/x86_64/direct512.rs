//! AVX-512 VNNI where a call has enough pixels to bring weights and window into the order in which they are read.
//!
//! A lane is a channel: weights lie as vectors of sixteen channels by four elements, two beside each other, which meet four elements of
//! a pixel, broadcast. So nothing has to be added in the end, which of 288 products a sum takes a tenth of the time, and no input is
//! permuted. Of sixteen channels or fewer the two vectors are of eight channels by eight elements, so that there are no more reads
//! for a product. The window's copy has its signs flipped.

use super::super::Window;
use super::rows512::first16;
use core::arch::x86_64::*;
use core::mem::MaybeUninit;

/// Channels at a time.
const CHANNELS: usize = 32;

/// Pixels of a tile: 8 × 2 accumulators, as many as hide the latency of two products a cycle twice, and a register each for their places.
const PIXELS: usize = 8;

/// Bytes of the ordered weights, and of the window's copy: with what they are made of they fit the first cache.
const WEIGHTS: usize = 24 << 10;
const WINDOW: usize = 12 << 10;

/// Bytes of an ordered step, two vectors.
const STEP: usize = 128;

#[repr(align(64))]
struct Lines<const N: usize>([MaybeUninit<u8>; N]);

/// As `conv_i8`; `false`, and nothing done, where that would not pay, or is too much for the buffers. Runs may have any length.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn conv_i8(out: &mut [i32], channels: usize, window: Window<'_, i8>, weights: &[i8]) -> bool {
    let pixels = out.len() / channels.max(1);
    let Window { elems, runs, run_len, run_stride, pixel_stride, row_gap } = window;
    let len = window.len(pixels);
    let groups = (runs * run_len).div_ceil(4);
    let room = (runs * run_len.div_ceil(4) + 1) * STEP;
    let there = len <= elems.len() && channels.next_multiple_of(4) * 4 * groups <= weights.len();
    if !there || pixels < PIXELS || len + 64 > WINDOW || room > WEIGHTS {
        return false;
    }
    let mut flipped = Lines([const { MaybeUninit::uninit() }; WINDOW]);
    let mut lined = Lines([const { MaybeUninit::uninit() }; WEIGHTS]);
    let mut ordered = Lines([const { MaybeUninit::uninit() }; WEIGHTS]);
    let x: *mut i8 = flipped.0.as_mut_ptr().cast();
    // SAFETY: `len` elements, and 64 more, fit.
    unsafe { flip(x, elems.as_ptr(), len) };
    let row_pixels = if row_gap == 0 { pixels } else { window.row_pixels() };
    let row_stride = row_pixels * pixel_stride + row_gap;
    // Tiles of nearly equal size.
    let size = row_pixels.div_ceil(row_pixels.div_ceil(PIXELS));
    for first in (0..channels).step_by(CHANNELS) {
        let lanes = (channels - first).min(CHANNELS);
        let pairs = lanes <= 16;
        // SAFETY: `there`; room for `groups` steps, of which those of each run are rounded up.
        let w = unsafe {
            let lined = lined.0.as_mut_ptr().cast();
            line(lined, weights.as_ptr().add(first * 4 * groups), groups, lanes);
            match pairs {
                false if run_len.is_multiple_of(4) => lined,
                _ => {
                    let ordered = ordered.0.as_mut_ptr().cast();
                    order(ordered, lined, [runs, run_len], pairs);
                    ordered.cast_const()
                }
            }
        };
        let masks = [first16(lanes), first16(lanes.saturating_sub(16))];
        for at in (0..pixels).step_by(row_pixels) {
            for p in (0..row_pixels).step_by(size) {
                // SAFETY: pixel at + p is there, and row_pixels divides their number.
                unsafe {
                    let x = x.add(at / row_pixels * row_stride + p * pixel_stride).cast_const();
                    let out = out.as_mut_ptr().add((at + p) * channels + first);
                    let tile = Tile { x, w, out, runs, run_len, run_stride, pixel_stride, channels, masks };
                    match (pairs, (row_pixels - p).min(size)) {
                        (false, 1) => tile.run::<false, 1>(),
                        (false, 2) => tile.run::<false, 2>(),
                        (false, 3) => tile.run::<false, 3>(),
                        (false, 4) => tile.run::<false, 4>(),
                        (false, 5) => tile.run::<false, 5>(),
                        (false, 6) => tile.run::<false, 6>(),
                        (false, 7) => tile.run::<false, 7>(),
                        (false, _) => tile.run::<false, 8>(),
                        (true, 1) => tile.run::<true, 1>(),
                        (true, 2) => tile.run::<true, 2>(),
                        (true, 3) => tile.run::<true, 3>(),
                        (true, 4) => tile.run::<true, 4>(),
                        (true, 5) => tile.run::<true, 5>(),
                        (true, 6) => tile.run::<true, 6>(),
                        (true, 7) => tile.run::<true, 7>(),
                        (true, _) => tile.run::<true, 8>(),
                    }
                }
            }
        }
    }
    true
}

/// Elements with 128 more each, and as many zeros as a read may take too much.
///
/// # Safety
/// `len` can be read, and `len + 64` be written.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn flip(to: *mut i8, from: *const i8, len: usize) {
    let sign = _mm512_set1_epi8(-128);
    for at in (0..len).step_by(64) {
        // SAFETY: what lies behind the elements is masked off, and written as zeros.
        unsafe {
            let elems = _mm512_maskz_loadu_epi8(super::rows512::first64(len - at), from.add(at));
            _mm512_storeu_si512(to.add(at).cast(), _mm512_xor_si512(elems, sign));
        }
    }
    // SAFETY: the caller's promise.
    unsafe { _mm512_storeu_si512(to.add(len).cast(), sign) };
}

/// Weights of up to 32 channels, as they lie, to steps: of a group of four elements, sixteen channels in each vector. Channels that are not
/// there have zeros.
///
/// # Safety
/// There are `lanes` channels of `groups` groups, rounded up to blocks of four, and room for as many steps.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn line(to: *mut i8, weights: *const i8, groups: usize, lanes: usize) {
    let blocks = lanes.div_ceil(4);
    for vector in 0..lanes.div_ceil(16) {
        for group in (0..groups).step_by(4) {
            let some = (groups - group).min(4);
            // Up to four groups of each block.
            let block = |b: usize| {
                let block = 4 * vector + b;
                let mask = if block < blocks { first16(4 * some) } else { 0 };
                // SAFETY: nothing that is masked off is read.
                unsafe {
                    _mm512_maskz_loadu_epi32(mask, weights.wrapping_add((block * groups + group) * 16).cast::<i32>())
                }
            };
            let [a, b, c, d] = [block(0), block(1), block(2), block(3)];
            let [ab, cd] = [_mm512_shuffle_i32x4::<0x44>(a, b), _mm512_shuffle_i32x4::<0x44>(c, d)];
            let [more_ab, more_cd] = [_mm512_shuffle_i32x4::<0xee>(a, b), _mm512_shuffle_i32x4::<0xee>(c, d)];
            let of_groups = [
                _mm512_shuffle_i32x4::<0x88>(ab, cd),
                _mm512_shuffle_i32x4::<0xdd>(ab, cd),
                _mm512_shuffle_i32x4::<0x88>(more_ab, more_cd),
                _mm512_shuffle_i32x4::<0xdd>(more_ab, more_cd),
            ];
            for (i, of_group) in of_groups.into_iter().enumerate().take(some) {
                // SAFETY: room for each group's step.
                unsafe { _mm512_storeu_si512(to.add((group + i) * STEP + 64 * vector).cast(), of_group) };
            }
        }
    }
    // What reads a group further than there are meets zeros; so does what reads a second vector that is not there.
    // SAFETY: room for a step more.
    unsafe {
        _mm512_storeu_si512(to.add(groups * STEP).cast(), _mm512_setzero_si512());
        _mm512_storeu_si512(to.add(groups * STEP + 64).cast(), _mm512_setzero_si512());
    }
}

/// Steps whose runs begin with a group, those behind a run's end zeros; in `pairs`, a step is two groups, of eight channels a vector.
///
/// # Safety
/// `lined` holds what `line` has made of `runs·run_len` elements; there is room for as many steps as groups, those of each run rounded up.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn order(to: *mut i8, lined: *const i8, [runs, run_len]: [usize; 2], pairs: bool) {
    let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    let high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
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
                let group = _mm512_loadu_si512(lined.cast());
                let next = _mm512_loadu_si512(lined.add(STEP).cast());
                let bits = (from % 4 * 8) as i32;
                let group = _mm512_srl_epi32(group, _mm_cvtsi32_si128(bits));
                let next = _mm512_sll_epi32(next, _mm_cvtsi32_si128(32 - bits));
                let valid = _mm512_set1_epi32((u32::MAX >> (32 - 8 * left)) as i32);
                _mm512_and_si512(_mm512_or_si512(group, next), valid)
            }
        };
        for at in (0..run_len).step_by(if pairs { 8 } else { 4 }) {
            let step = match pairs {
                true => {
                    let [a, b] = [group(at, 0), group(at + 4, 0)];
                    [_mm512_permutex2var_epi32(a, low, b), _mm512_permutex2var_epi32(a, high, b)]
                }
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

/// A register tile: where its first pixel, its weights and its first sum lie.
struct Tile {
    x: *const i8,
    w: *const i8,
    out: *mut i32,
    runs: usize,
    run_len: usize,
    run_stride: usize,
    pixel_stride: usize,
    /// Sums from one pixel to the next.
    channels: usize,
    /// The tile's channels, a bit each.
    masks: [__mmask16; 2],
}

impl Tile {
    /// # Safety
    /// From `x` on there are `COUNT` patches, and 8 elements more, from `w` on their steps, from `out` on the channels of `masks` in each of
    /// `COUNT` rows of `channels`.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn run<const PAIRS: bool, const COUNT: usize>(self) {
        let mut acc = [[_mm512_setzero_si512(); 2]; COUNT];
        let mut w = self.w;
        for run in 0..self.runs {
            let x = self.x.wrapping_add(run * self.run_stride);
            let mut from = [x; COUNT];
            for (p, from) in from.iter_mut().enumerate() {
                *from = x.wrapping_add(p * self.pixel_stride);
            }
            for k in (0..self.run_len).step_by(if PAIRS { 8 } else { 4 }) {
                // SAFETY: the caller's promise.
                unsafe {
                    let rows = [_mm512_loadu_si512(w.cast()), _mm512_loadu_si512(w.add(64).cast())];
                    for (acc, from) in acc.iter_mut().zip(from) {
                        let elems = match PAIRS {
                            true => _mm512_set1_epi64(from.add(k).cast::<i64>().read_unaligned()),
                            false => _mm512_set1_epi32(from.add(k).cast::<i32>().read_unaligned()),
                        };
                        acc[0] = _mm512_dpbusd_epi32(acc[0], elems, rows[0]);
                        acc[1] = _mm512_dpbusd_epi32(acc[1], elems, rows[1]);
                    }
                    w = w.add(STEP);
                }
            }
        }
        let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
        for (p, acc) in acc.into_iter().enumerate() {
            // SAFETY: the channels of `masks` of pixel p.
            unsafe {
                let out = self.out.add(p * self.channels);
                if PAIRS {
                    let each = |index| _mm512_permutex2var_epi32(acc[0], index, acc[1]);
                    _mm512_mask_storeu_epi32(out, self.masks[0], _mm512_add_epi32(each(even), each(odd)));
                } else {
                    _mm512_mask_storeu_epi32(out, self.masks[0], acc[0]);
                    _mm512_mask_storeu_epi32(out.wrapping_add(16), self.masks[1], acc[1]);
                }
            }
        }
    }
}
