//! AVX2, eight lanes of 32 bits.
//!
//! Windows of 8-bit inputs are widened to 16 bits, so that `vpmaddwd` (16 exact products, summed in pairs) serves both
//! input types; `vpmaddubsw`, its 8-bit sibling, saturates. A convolution keeps a tile of 8 channels × up to 6 pixels in
//! registers: 16 weight bytes, a block's four rows of four, become 16 lanes of 16 bits, four input elements are
//! broadcast beside each row, and an accumulator holds two partial sums a channel, added in the end.

use super::super::scalar::KERNELS as SCALAR;
use super::super::{Kernels, Window};
use super::{norm, requantize, rows, winograd};
use core::arch::x86_64::*;
use core::mem::MaybeUninit;

/// The table, where it lies. Only [`super::tables`] hands it out.
pub(super) static TABLE: Kernels = KERNELS;

/// The table of these functions.
// SAFETY of every call below: `super::tables` has found AVX2, which is all that the called functions ask for.
pub(super) const KERNELS: Kernels = Kernels {
    name: "avx2",
    wide: true,
    exchanged: false,
    copy: SCALAR.copy,
    widen: |out, elems| unsafe { rows::widen(out, elems) },
    load: SCALAR.load,
    offset: 0,
    // Never called: 8-bit inputs are widened.
    conv_i8: SCALAR.conv_i8,
    conv_i16: |out, channels, window, weights| unsafe { conv_i16(out, channels, window, weights) },
    rows: true,
    taps_from: 0,
    sum_taps: |out, channels, rows| unsafe { rows::sum_taps(out, channels, rows) },
    winograd_from: 16,
    winograd_pixels: 0,
    winograd_up_to: usize::MAX,
    winograd_size: winograd::SIZE,
    winograd_weights: |out, block, codes, in_c, up| unsafe { winograd::weights(out, block, codes, in_c, up) },
    winograd: |out, channels, tile| unsafe { winograd::convolve(out, channels, tile) },
    unpack_i4: |out, nibbles, scales, group_len| unsafe { rows::unpack_i4(out, nibbles, scales, group_len) },
    // Never called: attention is convolutions here (`Kernels::softmax_rows`).
    dot_i8: SCALAR.dot_i8,
    softmax: SCALAR.softmax,
    mix_i8: SCALAR.mix_i8,
    scale: |acc, channels| unsafe { rows::scale(acc, channels) },
    add_i8: |acc, elems, zero, m| unsafe { rows::add::<i8, 16>(acc, elems, zero, m) },
    add_i16: |acc, elems, zero, m| unsafe { rows::add::<i16, 8>(acc, elems, zero, m) },
    // Never called: `requantize` stands for it.
    store_i8: SCALAR.store_i8,
    requantize: |out, out_c, sums, k| unsafe { requantize::requantize(out, out_c, sums, k) },
    sums_i8: |totals, row, c, first, group_c| unsafe { norm::sums_i8(totals, row, c, first, group_c) },
    sums_i16: |totals, row, c, first, group_c| unsafe { norm::sums_i16(totals, row, c, first, group_c) },
    norm_i8: |out, out_c, src, src_c, k| unsafe { norm::norm::<i8, 0>(out, out_c, src, src_c, k, SCALAR.norm_i8) },
    norm_i16: |out, out_c, src, src_c, k| unsafe { norm::norm::<i16, 8>(out, out_c, src, src_c, k, SCALAR.norm_i16) },
    softmax_rows: |weights, totals, scores, added, k| unsafe { rows::softmax_rows(weights, totals, scores, added, k) },
};

/// Pixels of the largest register tile: 2 × 6 accumulators, two weight vectors, an input and a product fill the 16
/// registers.
const TILE_PIXELS: usize = 6;

/// Groups of four elements of a patch whose weights are widened at a time.
const GROUPS: usize = 192;

#[target_feature(enable = "avx2")]
fn conv_i16(out: &mut [i32], channels: usize, window: Window<'_, i16>, weights: &[i8]) {
    let pixels = out.len() / channels.max(1);
    let Window { runs, run_len, .. } = window;
    if pixels == 0 || !window.holds(pixels, channels, weights) {
        return;
    }
    // Tiles of nearly equal size: 7 pixels are 4 + 3, not 6 + 1.
    let size = pixels.div_ceil(pixels.div_ceil(TILE_PIXELS));
    let groups = run_len / 4;
    let pieces = groups.div_ceil(GROUPS).max(1);
    let some_groups = groups.div_ceil(pieces);
    let some_runs = if pieces == 1 { GROUPS / groups.max(1) } else { 1 };
    let mut wide = [const { MaybeUninit::<__m256i>::uninit() }; 2 * GROUPS];
    for first in (0..channels).step_by(8) {
        let lanes = (channels - first).min(8);
        for run in (0..runs).step_by(some_runs.max(1)) {
            for group in (0..groups).step_by(some_groups.max(1)) {
                let mut tile = Tile {
                    x: unsafe { window.elems.as_ptr().add(run * window.run_stride + 4 * group) },
                    pixels: [0; TILE_PIXELS],
                    w: unsafe { weights.as_ptr().add(first * runs * run_len + (run * groups + group) * 16) },
                    block_len: 4 * runs * run_len,
                    wide: wide.as_mut_ptr().cast(),
                    out: unsafe { out.as_mut_ptr().add(first) },
                    runs: some_runs.min(runs - run),
                    groups: some_groups.min(groups - group),
                    run_stride: window.run_stride,
                    channels,
                    lanes,
                    fresh: run == 0 && group == 0,
                    ahead: if run + some_runs < runs || group + some_groups < groups { some_runs.max(1) * some_groups * 16 } else { (8 * runs * run_len).wrapping_sub((run * groups + group) * 16) },
                };
                let (mut at, mut column) = (0, 0);
                for p in (0..pixels).step_by(size) {
                    let some = (pixels - p).min(size);
                    for to in tile.pixels.iter_mut().take(some) {
                        *to = at;
                        at += window.pixel_stride;
                        column += 1;
                        if column == window.row_pixels {
                            column = 0;
                            at += window.row_gap;
                        }
                    }
                    unsafe {
                        if p == 0 {
                            tile.run_sized::<true>(some);
                        } else {
                            tile.run_sized::<false>(some);
                        }
                    }
                    tile.out = tile.out.wrapping_add(size * channels);
                }
            }
        }
    }
}

/// A register tile: where its first pixel, its first weights and its first sum lie.
struct Tile {
    x: *const i16,
    pixels: [usize; TILE_PIXELS],
    w: *const i8,
    block_len: usize,
    wide: *mut __m256i,
    out: *mut i32,
    runs: usize,
    groups: usize,
    run_stride: usize,
    /// Sums from one pixel to the next.
    channels: usize,
    /// Channels of the tile, at most 4·BLOCKS.
    lanes: usize,
    fresh: bool,
    ahead: usize,
}

impl Tile {
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn run_sized<const WIDEN: bool>(&self, pixels: usize) {
        unsafe {
            match (self.lanes > 4, pixels) {
                (true, 1) => self.run::<2, 1, WIDEN>(),
                (true, 2) => self.run::<2, 2, WIDEN>(),
                (true, 3) => self.run::<2, 3, WIDEN>(),
                (true, 4) => self.run::<2, 4, WIDEN>(),
                (true, 5) => self.run::<2, 5, WIDEN>(),
                (true, _) => self.run::<2, 6, WIDEN>(),
                (false, 1) => self.run::<1, 1, WIDEN>(),
                (false, 2) => self.run::<1, 2, WIDEN>(),
                (false, 3) => self.run::<1, 3, WIDEN>(),
                (false, 4) => self.run::<1, 4, WIDEN>(),
                (false, 5) => self.run::<1, 5, WIDEN>(),
                (false, _) => self.run::<1, 6, WIDEN>(),
            }
        }
    }

    /// `PIXELS` pixels by `BLOCKS` blocks of four channels.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn run<const BLOCKS: usize, const PIXELS: usize, const WIDEN: bool>(&self) {
        let mut acc = [[_mm256_setzero_si256(); BLOCKS]; PIXELS];
        let (mut w, mut wide) = (self.w, self.wide);
        for run in 0..self.runs {
            let x: [*const i16; PIXELS] = core::array::from_fn(|p| unsafe { self.x.add(run * self.run_stride + self.pixels[p]) });
            for k in 0..self.groups {
                let mut rows = [_mm256_setzero_si256(); BLOCKS];
                for (b, row) in rows.iter_mut().enumerate() {
                    unsafe {
                        if WIDEN {
                            *row = _mm256_cvtepi8_epi16(_mm_loadu_si128(w.add(b * self.block_len).cast()));
                            _mm256_store_si256(wide.add(b), *row);
                        } else {
                            *row = _mm256_load_si256(wide.add(b));
                            _mm_prefetch::<_MM_HINT_T0>(w.wrapping_add(b * self.block_len + self.ahead).cast());
                        }
                    }
                }
                for (x, acc) in x.iter().zip(&mut acc) {
                    // SAFETY: elements k to k + 3 of the run of pixel p.
                    let group = unsafe { x.add(4 * k).cast::<i64>().read_unaligned() };
                    let group = _mm256_set1_epi64x(group);
                    for (acc, &row) in acc.iter_mut().zip(&rows) {
                        *acc = _mm256_add_epi32(*acc, _mm256_madd_epi16(group, row));
                    }
                }
                // SAFETY: at most one behind the block.
                (w, wide) = unsafe { (w.add(16), wide.add(BLOCKS)) };
            }
        }
        for (p, acc) in acc.iter().enumerate() {
            let [first, last] = [acc[0], acc[BLOCKS - 1]];
            let pairs = _mm256_hadd_epi32(first, last);
            let mut sums = _mm256_permute4x64_epi64::<0b11_01_10_00>(pairs);
            // SAFETY: `lanes` sums of pixel p.
            unsafe {
                let to = self.out.add(p * self.channels);
                match self.lanes {
                    8 => {
                        if !self.fresh {
                            sums = _mm256_add_epi32(sums, _mm256_loadu_si256(to.cast()));
                        }
                        _mm256_storeu_si256(to.cast(), sums);
                    }
                    lanes => {
                        let mut all = [0i32; 8];
                        if !self.fresh {
                            core::ptr::copy_nonoverlapping(to, all.as_mut_ptr(), lanes);
                        }
                        sums = _mm256_add_epi32(sums, _mm256_loadu_si256(all.as_ptr().cast()));
                        _mm256_storeu_si256(all.as_mut_ptr().cast(), sums);
                        core::ptr::copy_nonoverlapping(all.as_ptr(), to, lanes);
                    }
                }
            }
        }
    }
}
