//! AVX2, eight lanes of 32 bits.
//!
//! Windows of 8-bit inputs are widened to 16 bits, so that `vpmaddwd` (16 exact products, summed in pairs) serves both
//! input types; `vpmaddubsw`, its 8-bit sibling, saturates. A convolution keeps a tile of 8 channels × up to 6 pixels in
//! registers: 16 weight bytes, a block's four rows of four, become 16 lanes of 16 bits, four input elements are
//! broadcast beside each row, and an accumulator holds two partial sums a channel, added in the end.

use super::super::scalar::KERNELS as SCALAR;
use super::super::{Kernels, Window};
use super::{lanes256, norm, requantize, rows, winograd};
use core::arch::x86_64::*;

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
    taps_from: 0,
    sum_taps: |out, channels, rows| unsafe { rows::sum_taps(out, channels, rows) },
    winograd_from: 16,
    winograd_pixels: 0,
    winograd_up_to: usize::MAX,
    winograd_size: winograd::SIZE,
    winograd_weights: |out, block, codes, in_c, up| unsafe { winograd::weights(out, block, codes, in_c, up) },
    winograd: |out, channels, tile| unsafe { winograd::convolve(out, channels, tile) },
    unpack_i4: |out, nibbles, scales, group_len| unsafe { rows::unpack_i4(out, nibbles, scales, group_len) },
    // Never called: `attend` stands for them.
    dot_i8: SCALAR.dot_i8,
    softmax: SCALAR.softmax,
    softmax_rows: SCALAR.softmax_rows,
    mix_i8: SCALAR.mix_i8,
    scale: |acc, channels| unsafe { rows::scale(acc, channels) },
    add_i8: |acc, elems, zero, m| unsafe { rows::add::<i8, 16>(acc, elems, zero, m) },
    add_i16: |acc, elems, zero, m| unsafe { rows::add::<i16, 8>(acc, elems, zero, m) },
    // Never called: `requantize` stands for it.
    store_i8: SCALAR.store_i8,
    conv_constants: |sources, output| unsafe { rows::conv_constants(sources, output) },
    norm_constants: |source, to, affine| unsafe { rows::norm_constants(source, to, affine) },
    requantize: |out, out_c, sums, k| unsafe { requantize::requantize(out, out_c, sums, k) },
    sums_i8: |totals, row, c, first, group_c| unsafe { norm::sums_i8(totals, row, c, first, group_c) },
    sums_i16: |totals, row, c, first, group_c| unsafe { norm::sums_i16(totals, row, c, first, group_c) },
    norm_i8: |out, out_c, src, src_c, k| unsafe { norm::norm::<i8, 0>(out, out_c, src, src_c, k, SCALAR.norm_i8) },
    norm_i16: |out, out_c, src, src_c, k| unsafe { norm::norm::<i16, 8>(out, out_c, src, src_c, k, SCALAR.norm_i16) },
    attend_pack: |packed, elems, sizes| unsafe { lanes256::attend_pack(packed, elems, sizes) },
    attend: |out, scratch, attention| unsafe { lanes256::attend(out, scratch, attention) },
};

/// Pixels of the largest register tile: 2 × 6 accumulators, two weight vectors, an input and a product fill the 16
/// registers.
const TILE_PIXELS: usize = 6;

#[target_feature(enable = "avx2")]
fn conv_i16(out: &mut [i32], channels: usize, window: Window<'_, i16>, weights: &[i8]) {
    let pixels = out.len() / channels.max(1);
    if pixels == 0 || !window.holds(pixels, channels, weights) {
        return;
    }
    let patch = window.runs * window.run_len;
    // Tiles of nearly equal size: 7 pixels are 4 + 3, not 6 + 1.
    let size = pixels.div_ceil(pixels.div_ceil(TILE_PIXELS));
    for first in (0..channels).step_by(8) {
        let lanes = (channels - first).min(8);
        for p in (0..pixels).step_by(size) {
            let tile = Tile {
                // SAFETY: pixel p and rows from `first` on exist: `holds`.
                x: unsafe { window.elems.as_ptr().add(p * window.pixel_stride) },
                w: unsafe { weights.as_ptr().add(first * patch) },
                // SAFETY: p·channels + first is below out.len().
                out: unsafe { out.as_mut_ptr().add(p * channels + first) },
                window: &window,
                channels,
                lanes,
            };
            // SAFETY: `holds` says that all patches and all rows (rounded up to blocks of four) are there; the tile has
            // `lanes` channels from `first` on in each of its pixels, all within `out`.
            unsafe {
                match (lanes > 4, (pixels - p).min(size)) {
                    (true, 1) => tile.run::<2, 1>(),
                    (true, 2) => tile.run::<2, 2>(),
                    (true, 3) => tile.run::<2, 3>(),
                    (true, 4) => tile.run::<2, 4>(),
                    (true, 5) => tile.run::<2, 5>(),
                    (true, _) => tile.run::<2, 6>(),
                    (false, 1) => tile.run::<1, 1>(),
                    (false, 2) => tile.run::<1, 2>(),
                    (false, 3) => tile.run::<1, 3>(),
                    (false, 4) => tile.run::<1, 4>(),
                    (false, 5) => tile.run::<1, 5>(),
                    (false, _) => tile.run::<1, 6>(),
                }
            }
        }
    }
}

/// A register tile: where its first pixel, its first weights and its first sum lie.
struct Tile<'a> {
    x: *const i16,
    w: *const i8,
    out: *mut i32,
    window: &'a Window<'a, i16>,
    /// Sums from one pixel to the next.
    channels: usize,
    /// Channels of the tile, at most 4·BLOCKS.
    lanes: usize,
}

impl Tile<'_> {
    /// `PIXELS` pixels by `BLOCKS` blocks of four channels.
    ///
    /// # Safety
    /// From `x` on there are `PIXELS` patches of the window, from `w` on `BLOCKS` blocks, from `out` on `lanes` elements
    /// in each of `PIXELS` rows of `channels`.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn run<const BLOCKS: usize, const PIXELS: usize>(self) {
        let Window { runs, run_len, run_stride, pixel_stride, .. } = *self.window;
        let block_len = 4 * runs * run_len;
        let mut acc = [[_mm256_setzero_si256(); BLOCKS]; PIXELS];
        let mut w = self.w;
        for run in 0..runs {
            // SAFETY: run `run` of the first patch.
            let x = unsafe { self.x.add(run * run_stride) };
            for k in (0..run_len).step_by(4) {
                // SAFETY: group k of the run, in each block: the caller's promise.
                let rows: [__m256i; BLOCKS] = core::array::from_fn(|b| unsafe {
                    _mm256_cvtepi8_epi16(_mm_loadu_si128(w.add(b * block_len).cast()))
                });
                for (p, acc) in acc.iter_mut().enumerate() {
                    // SAFETY: elements k to k + 3 of the run of pixel p.
                    let group = unsafe { x.add(p * pixel_stride + k).cast::<i64>().read_unaligned() };
                    let group = _mm256_set1_epi64x(group);
                    for (acc, &row) in acc.iter_mut().zip(&rows) {
                        *acc = _mm256_add_epi32(*acc, _mm256_madd_epi16(group, row));
                    }
                }
                // SAFETY: at most one behind the block.
                w = unsafe { w.add(16) };
            }
        }
        for (p, acc) in acc.iter().enumerate() {
            let [first, last] = [acc[0], acc[BLOCKS - 1]];
            let pairs = _mm256_hadd_epi32(first, last);
            let sums = _mm256_permute4x64_epi64::<0b11_01_10_00>(pairs);
            // SAFETY: `lanes` sums of pixel p.
            unsafe {
                let to = self.out.add(p * self.channels);
                match self.lanes {
                    8 => _mm256_storeu_si256(to.cast(), sums),
                    4 => _mm_storeu_si128(to.cast(), _mm256_castsi256_si128(sums)),
                    lanes => {
                        let mut all = [0i32; 8];
                        _mm256_storeu_si256(all.as_mut_ptr().cast(), sums);
                        core::ptr::copy_nonoverlapping(all.as_ptr(), to, lanes);
                    }
                }
            }
        }
    }
}
