//! AVX-512 with VNNI, sixteen lanes of 32 bits; what does not gain from it is AVX2's.
//!
//! `vpdpbusd` adds four products of an unsigned and a signed byte to each lane, exactly: 64 multiply-adds an instruction
//! where AVX2's pair of instructions does 16. Inputs become unsigned by a flipped sign bit, which adds 128 to each;
//! the operator takes that back ([`Kernels::offset`]), so the loop does not pay for it.
//!
//! A vector of weights is 64 bytes of a block as they lie: four channels by four groups of four elements. Sixteen input
//! elements are spread beside them, each group four times, and serve four blocks; in the end the four groups' lanes are
//! added. Behind a run's last whole vector a mask takes the groups that are left.

use super::super::{Kernels, Window};
use super::avx2;
use super::rows512::{self, fold};
use core::arch::x86_64::*;

/// The table. Only [`super::tables`] hands it out.
// SAFETY of every call below: `super::tables` has found AVX-512 F, BW, VL and VNNI.
pub(super) static TABLE: Kernels = Kernels {
    name: "avx512vnni",
    wide: false,
    offset: 128,
    conv_i8: |out, channels, window, weights| unsafe { conv_i8(out, channels, window, weights) },
    // With 64 channels it takes 1.1 times as long: what a tile costs apart from its products is paid nine times.
    taps_from: 128,
    scale: |acc, channels| unsafe { rows512::scale(acc, channels) },
    add_i8: |acc, elems, zero, m| unsafe { rows512::add_i8(acc, elems, zero, m) },
    store_i8: |out, acc, zero| unsafe { rows512::store_i8(out, acc, zero) },
    sums_i8: |row, c, first, group_c| unsafe { rows512::sums_i8(row, c, first, group_c) },
    norm_i8: |out, out_c, src, src_c, k| unsafe { rows512::norm_i8(out, out_c, src, src_c, k) },
    softmax_rows: |weights, totals, scores, added, k| unsafe {
        rows512::softmax_rows(weights, totals, scores, added, k)
    },
    ..avx2::KERNELS
};

/// Pixels of the largest register tile: 4 × 6 accumulators, four weight vectors and an input fit 32 registers.
const TILE_PIXELS: usize = 6;

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
fn conv_i8(out: &mut [i32], channels: usize, window: Window<'_, i8>, weights: &[i8]) {
    let pixels = out.len() / channels.max(1);
    if pixels == 0 || !window.holds(pixels, channels, weights) {
        return;
    }
    let patch = window.runs * window.run_len;
    // Tiles of nearly equal size: 7 pixels are 4 + 3, not 6 + 1.
    let size = pixels.div_ceil(pixels.div_ceil(TILE_PIXELS));
    for first in (0..channels).step_by(16) {
        let lanes = (channels - first).min(16);
        for p in (0..pixels).step_by(size) {
            let tile = Tile {
                // SAFETY: pixel p and rows from `first` on exist: `holds`.
                x: unsafe { window.elems.as_ptr().add(p * window.pixel_stride) },
                w: unsafe { weights.as_ptr().add(first * patch) },
                // SAFETY: p·channels + first is below out.len().
                out: unsafe { out.as_mut_ptr().add(p * channels + first) },
                window: &window,
                channels,
                lanes: ((1u32 << lanes) - 1) as __mmask16,
            };
            // SAFETY: `holds` says that all patches and all rows (rounded up to blocks of four) are there; the tile has
            // `lanes` channels from `first` on in each of its pixels, all within `out`.
            unsafe {
                match (pixels - p).min(size) {
                    1 => tile.run_blocks::<1>(lanes),
                    2 => tile.run_blocks::<2>(lanes),
                    3 => tile.run_blocks::<3>(lanes),
                    4 => tile.run_blocks::<4>(lanes),
                    5 => tile.run_blocks::<5>(lanes),
                    _ => tile.run_blocks::<6>(lanes),
                }
            }
        }
    }
}

/// A register tile: where its first pixel, its first weights and its first sum lie.
struct Tile<'a> {
    x: *const i8,
    w: *const i8,
    out: *mut i32,
    window: &'a Window<'a, i8>,
    /// Sums from one pixel to the next.
    channels: usize,
    /// The tile's channels, a bit each.
    lanes: __mmask16,
}

impl Tile<'_> {
    /// As [`Tile::run`], for as many blocks as `lanes` channels have.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn run_blocks<const PIXELS: usize>(self, lanes: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            match lanes {
                0..=4 => self.run::<1, PIXELS>(),
                5..=8 => self.run::<2, PIXELS>(),
                9..=12 => self.run::<3, PIXELS>(),
                _ => self.run::<4, PIXELS>(),
            }
        }
    }

    /// `PIXELS` pixels by `BLOCKS` blocks of four channels.
    ///
    /// # Safety
    /// From `x` on there are `PIXELS` patches of the window, from `w` on `BLOCKS` blocks, from `out` on the channels of
    /// `lanes` in each of `PIXELS` rows of `channels`.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn run<const BLOCKS: usize, const PIXELS: usize>(self) {
        let Window { runs, run_len, run_stride, pixel_stride, .. } = *self.window;
        let block_len = 4 * runs * run_len;
        let spread = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
        let sign = _mm512_set1_epi8(-128);
        let mut acc = [[_mm512_setzero_si512(); BLOCKS]; PIXELS];
        let mut w = self.w;
        for run in 0..runs {
            // SAFETY: run `run` of the first patch.
            let x = unsafe { self.x.add(run * run_stride) };
            for k in (0..run_len / 16 * 16).step_by(16) {
                // SAFETY: groups k/4 to k/4 + 3 of the run, in each block: the caller's promise.
                let rows: [__m512i; BLOCKS] =
                    core::array::from_fn(|b| unsafe { _mm512_loadu_si512(w.add(b * block_len).cast()) });
                for (p, acc) in acc.iter_mut().enumerate() {
                    // SAFETY: elements k to k + 15 of the run of pixel p.
                    let elems = unsafe { _mm_loadu_si128(x.add(p * pixel_stride + k).cast()) };
                    let lanes = _mm512_permutexvar_epi32(spread, _mm512_broadcast_i32x4(elems));
                    let lanes = _mm512_xor_si512(lanes, sign);
                    for (acc, &row) in acc.iter_mut().zip(&rows) {
                        *acc = _mm512_dpbusd_epi32(*acc, lanes, row);
                    }
                }
                // SAFETY: at most one behind the block.
                w = unsafe { w.add(64) };
            }
            let groups = run_len % 16 / 4;
            if groups > 0 {
                // Masked-off weights are zero, so that their products are.
                let mask = ((1u32 << (4 * groups)) - 1) as __mmask16;
                let some = ((1u32 << groups) - 1) as __mmask8;
                // SAFETY: the run's last groups, in each block; nothing that is masked off is read.
                let rows: [__m512i; BLOCKS] =
                    core::array::from_fn(|b| unsafe { _mm512_maskz_loadu_epi32(mask, w.add(b * block_len).cast()) });
                for (p, acc) in acc.iter_mut().enumerate() {
                    // SAFETY: the last elements of the run of pixel p; nothing that is masked off is read.
                    let elems =
                        unsafe { _mm_maskz_loadu_epi32(some, x.add(p * pixel_stride + run_len / 16 * 16).cast()) };
                    let lanes = _mm512_permutexvar_epi32(spread, _mm512_broadcast_i32x4(elems));
                    let lanes = _mm512_xor_si512(lanes, sign);
                    for (acc, &row) in acc.iter_mut().zip(&rows) {
                        *acc = _mm512_dpbusd_epi32(*acc, lanes, row);
                    }
                }
                // SAFETY: at most one behind the block.
                w = unsafe { w.add(16 * groups) };
            }
        }
        for (p, acc) in acc.iter().enumerate() {
            let of = |b: usize| acc[b.min(BLOCKS - 1)];
            let sums = fold(fold(of(0), of(1)), fold(of(2), of(3)));
            // SAFETY: the channels of `lanes` of pixel p.
            unsafe { _mm512_mask_storeu_epi32(self.out.add(p * self.channels), self.lanes, sums) };
        }
    }
}
