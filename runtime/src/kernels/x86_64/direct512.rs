//! AVX-512 VNNI where a call has enough pixels to bring weights and window into the order in which they are read.
//!
//! A lane is a channel: weights lie as vectors of sixteen channels by four elements, two beside each other, which meet four elements of
//! a pixel, broadcast. So nothing has to be added in the end, which of 288 products a sum takes a tenth of the time, and no input is
//! permuted. Of sixteen channels or fewer the two vectors are of eight channels by eight elements, so that there are no more reads
//! for a product. The window's copy has its signs flipped.

use super::super::{Requantization, Window};
use super::requantize512::Sixteen;
use super::rows512::{first16, first64};
use core::arch::x86_64::*;
use core::mem::MaybeUninit;

/// Channels at a time.
const CHANNELS: usize = 32;

/// Pixels of a tile: 8 × 2 accumulators, as many as hide the latency of two products a cycle twice, and a register each for their places.
const PIXELS: usize = 8;

/// Bytes of the window's copy and of the ordered weights: with what they are made of they fit the first cache.
const WINDOW: usize = 12 << 10;
const WEIGHTS: usize = 24 << 10;

/// Bytes of weights whose runs do not begin with a vector, ordered again.
const ODD: usize = 8 << 10;

/// Bytes of an ordered step, two vectors.
const STEP: usize = 128;

#[repr(align(64))]
struct Lines<const N: usize>([MaybeUninit<u8>; N]);

/// Where sums go.
enum Target<'a> {
    Sums(&'a mut [i32]),
    /// Of as many pixels, `out_c` apart.
    Bytes(&'a mut [i8], [usize; 2], Requantization<'a>),
}

/// As `conv_i8`; `false`, and nothing done, where that would not pay, or is too much for the buffers. Runs may have any length.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn conv_i8(out: &mut [i32], channels: usize, window: Window<'_, i8>, weights: &[i8]) -> bool {
    let pixels = out.len() / channels.max(1);
    run(Target::Sums(out), [pixels, channels], window, weights)
}

/// As `conv_bytes`.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn conv_bytes(
    out: &mut [i8],
    [pixels, out_c]: [usize; 2],
    window: Window<'_, i8>,
    weights: &[i8],
    k: Requantization<'_>,
) -> bool {
    let c = k.channels[0].bias.len();
    let len = pixels.saturating_sub(1).saturating_mul(out_c).saturating_add(c);
    let there = |elems: &[i8]| len <= elems.len();
    if out_c < c || !there(out) || !k.residual.and_then(|residual| residual.elems).is_none_or(there) {
        return false;
    }
    run(Target::Bytes(out, [pixels, out_c], k), [pixels, c], window, weights)
}

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
fn run(mut target: Target<'_>, [pixels, channels]: [usize; 2], window: Window<'_, i8>, weights: &[i8]) -> bool {
    let Window { elems, runs, run_len, pixel_stride, row_gap, .. } = window;
    let row_pixels = if row_gap == 0 { pixels } else { window.row_pixels() };
    let len = window.len(pixels);
    let groups = (runs * run_len).div_ceil(4);
    let there = len <= elems.len() && channels.next_multiple_of(4) * 4 * groups <= weights.len();
    let odd = !run_len.is_multiple_of(4) || channels % CHANNELS <= 16 && !run_len.is_multiple_of(8);
    let fits = len + 64 <= WINDOW && (groups + 4) * STEP <= WEIGHTS && (!odd || runs * run_len.div_ceil(4) * STEP <= ODD);
    let pays = pixels >= PIXELS || !run_len.is_multiple_of(4);
    if !there || !fits || !pays || channels == 0 || row_pixels == 0 || !pixels.is_multiple_of(row_pixels) {
        return false;
    }
    let mut flipped = Lines([const { MaybeUninit::uninit() }; WINDOW]);
    let mut lined = Lines([const { MaybeUninit::uninit() }; WEIGHTS]);
    let mut ordered = Lines([const { MaybeUninit::uninit() }; ODD]);
    let from: *mut i8 = flipped.0.as_mut_ptr().cast();
    // SAFETY: `len` elements, and 64 more, fit.
    unsafe { flip(from, elems.as_ptr(), len) };
    let row_stride = row_pixels * pixel_stride + row_gap;
    // Tiles of nearly equal size.
    let size = row_pixels.div_ceil(row_pixels.div_ceil(PIXELS));
    for first in (0..channels).step_by(CHANNELS) {
        let lanes = (channels - first).min(CHANNELS);
        let pairs = lanes <= 16;
        // SAFETY: `there`, and `fits`.
        let w = unsafe {
            let lined = lined.0.as_mut_ptr().cast();
            let weights = weights.as_ptr().add(first * 4 * groups);
            match pairs && run_len.is_multiple_of(8) {
                true => line::<true>(lined, weights, groups, lanes),
                false => line::<false>(lined, weights, groups, lanes),
            }
            match run_len.is_multiple_of(if pairs { 8 } else { 4 }) {
                true => lined,
                false => {
                    let ordered = ordered.0.as_mut_ptr().cast();
                    order(ordered, lined, [runs, run_len], pairs);
                    ordered
                }
            }
        };
        let finish = match &mut target {
            Target::Sums(out) => Finish::Sums(out.as_mut_ptr().wrapping_add(first), channels),
            Target::Bytes(out, [_, out_c], k) => {
                let to = out.as_mut_ptr().wrapping_add(first);
                let places = Places { to, residual: to, out_c: *out_c };
                let vectors = [first, first + 16];
                match k.residual {
                    None => Finish::Bytes(places, vectors.map(|first| Sixteen::new(k, first))),
                    Some(residual) => {
                        let elems = residual.elems.map_or(to.cast_const(), |elems| elems.as_ptr().wrapping_add(first));
                        let places = Places { residual: elems, ..places };
                        Finish::Residual(places, vectors.map(|first| Sixteen::new(k, first)))
                    }
                }
            }
        };
        let masks = [first16(lanes), first16(lanes.saturating_sub(16))];
        for row in 0..pixels / row_pixels {
            for p in (0..row_pixels).step_by(size) {
                let x = from.wrapping_add(row * row_stride + p * pixel_stride).cast_const();
                let pixel = row * row_pixels + p;
                let tile = Tile { x, w, window: &window, finish: &finish, pixel, masks };
                // SAFETY: pixels from p on are there: `there`.
                unsafe {
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

/// Elements with 128 more each, and as many as a read may take too much.
///
/// # Safety
/// `len` can be read, and `len + 64` be written.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn flip(to: *mut i8, from: *const i8, len: usize) {
    let sign = _mm512_set1_epi8(-128);
    for at in (0..len).step_by(64) {
        // SAFETY: what lies behind the elements is masked off, and written as if it were 0.
        unsafe {
            let elems = _mm512_maskz_loadu_epi8(first64(len - at), from.add(at));
            _mm512_storeu_si512(to.add(at).cast(), _mm512_xor_si512(elems, sign));
        }
    }
    // SAFETY: the caller's promise.
    unsafe { _mm512_storeu_si512(to.add(len).cast(), sign) };
}

/// Weights of up to 32 channels, as they lie, to steps: of a group of four elements, sixteen channels in each vector; or `PAIRS` of
/// groups, of eight channels in each. Channels that are not there have zeros, and so have three or four groups behind the last.
///
/// # Safety
/// There are `lanes` channels of `groups` groups, rounded up to blocks of four, and room for four groups more, `STEP` each.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn line<const PAIRS: bool>(to: *mut i8, weights: *const i8, groups: usize, lanes: usize) {
    let blocks = lanes.div_ceil(4);
    let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    let high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
    for vector in 0..lanes.div_ceil(16) {
        let weights = weights.wrapping_add(64 * vector * groups);
        let four = |group: usize| {
            let left = first16(4 * (groups - group).min(4));
            // Up to four groups of each block.
            let block = |b: usize| {
                let mask = if 4 * vector + b < blocks { left } else { 0 };
                // SAFETY: nothing that is masked off is read.
                unsafe { _mm512_maskz_loadu_epi32(mask, weights.wrapping_add((b * groups + group) * 16).cast()) }
            };
            let [a, b, c, d] = [block(0), block(1), block(2), block(3)];
            let [ab, cd] = [_mm512_shuffle_i32x4::<0x44>(a, b), _mm512_shuffle_i32x4::<0x44>(c, d)];
            let [more_ab, more_cd] = [_mm512_shuffle_i32x4::<0xee>(a, b), _mm512_shuffle_i32x4::<0xee>(c, d)];
            let [a, b] = [_mm512_shuffle_i32x4::<0x88>(ab, cd), _mm512_shuffle_i32x4::<0xdd>(ab, cd)];
            let [c, d] = [_mm512_shuffle_i32x4::<0x88>(more_ab, more_cd), _mm512_shuffle_i32x4::<0xdd>(more_ab, more_cd)];
            match PAIRS {
                true => {
                    let pair = |a, b| [_mm512_permutex2var_epi32(a, low, b), _mm512_permutex2var_epi32(a, high, b)];
                    let ([a, b], [c, d]) = (pair(a, b), pair(c, d));
                    [a, b, c, d]
                }
                false => [a, b, c, d],
            }
        };
        let stride = if PAIRS { STEP / 2 } else { STEP };
        for group in (0..groups + 1).step_by(4) {
            let vectors = four(group);
            for (i, vector_of) in vectors.into_iter().enumerate() {
                // SAFETY: room for four groups more than there are.
                unsafe { _mm512_storeu_si512(to.add((group + i) * stride + 64 * vector).cast(), vector_of) };
            }
        }
    }
}

/// Steps whose runs begin with a vector, behind a run's end zeros.
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

/// Where bytes go and residuals come from: the first pixel's, `out_c` apart.
#[derive(Clone, Copy)]
struct Places {
    to: *mut i8,
    residual: *const i8,
    out_c: usize,
}

/// What becomes of the sums of two vectors of channels.
enum Finish {
    /// They are stored, so many a pixel.
    Sums(*mut i32, usize),
    Bytes(Places, [Sixteen<false, false>; 2]),
    Residual(Places, [Sixteen<false, true>; 2]),
}

/// A register tile.
struct Tile<'a> {
    /// Its first pixel's patch.
    x: *const i8,
    w: *const i8,
    window: &'a Window<'a, i8>,
    finish: &'a Finish,
    /// The number of its first pixel.
    pixel: usize,
    /// The tile's channels, a bit each.
    masks: [__mmask16; 2],
}

impl Tile<'_> {
    /// # Safety
    /// From `x` on there are `COUNT` patches, and 8 elements more, from `w` on their steps, in `finish` the channels of `masks` of
    /// `COUNT` pixels from `pixel` on.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn run<const PAIRS: bool, const COUNT: usize>(self) {
        let Window { runs, run_len, run_stride, pixel_stride, .. } = *self.window;
        let mut acc = [[_mm512_setzero_si512(); 2]; COUNT];
        let mut w = self.w;
        for run in 0..runs {
            let x = self.x.wrapping_add(run * run_stride);
            let mut from = [x; COUNT];
            for (p, from) in from.iter_mut().enumerate() {
                *from = x.wrapping_add(p * pixel_stride);
            }
            for k in (0..run_len).step_by(if PAIRS { 8 } else { 4 }) {
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
        if PAIRS {
            for acc in &mut acc {
                let each = |index| _mm512_permutex2var_epi32(acc[0], index, acc[1]);
                acc[0] = _mm512_add_epi32(each(even), each(odd));
            }
        }
        // SAFETY: the channels of `masks` of the tile's pixels.
        unsafe {
            match self.finish {
                Finish::Sums(out, channels) => {
                    for (p, acc) in acc.iter().enumerate() {
                        let out = out.wrapping_add((self.pixel + p) * channels);
                        for (v, &sums) in acc.iter().enumerate().take(if PAIRS { 1 } else { 2 }) {
                            _mm512_mask_storeu_epi32(out.wrapping_add(16 * v), self.masks[v], sums);
                        }
                    }
                }
                Finish::Bytes(places, constants) => self.store::<PAIRS, false, COUNT>(acc, places, constants),
                Finish::Residual(places, constants) => self.store::<PAIRS, true, COUNT>(acc, places, constants),
            }
        }
    }

    /// # Safety
    /// As of `run`.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn store<const PAIRS: bool, const RESIDUAL: bool, const COUNT: usize>(
        &self,
        acc: [[__m512i; 2]; COUNT],
        places: &Places,
        constants: &[Sixteen<false, RESIDUAL>; 2],
    ) {
        for v in 0..if PAIRS { 1 } else { 2 } {
            let mask = self.masks[v];
            for (p, acc) in acc.iter().enumerate() {
                let at = (self.pixel + p) * places.out_c + 16 * v;
                // SAFETY: the caller's promise; what is masked off is neither read nor written.
                unsafe {
                    let mut elems = _mm_setzero_si128();
                    if RESIDUAL {
                        elems = _mm_maskz_loadu_epi8(mask, places.residual.wrapping_add(at));
                    }
                    let bytes = constants[v].bytes([acc[v]; 2], elems);
                    let to = places.to.wrapping_add(at);
                    if mask == !0 { _mm_storeu_si128(to.cast(), bytes) } else { _mm_mask_storeu_epi8(to, mask, bytes) }
                }
            }
        }
    }
}
