//! AVX-VNNI: `vpdpbusd` on eight lanes, for processors with it and without AVX-512, as most desktops are; the rest is AVX2's.
//!
//! A lane is a channel: four elements of a pixel stand in all lanes of a vector and meet the weights of eight channels, a group of
//! four of two blocks. So no lanes have to be added in the end. Inputs become unsigned by a flipped sign bit, which adds 128 to
//! each; the operator takes that back ([`Kernels::offset`]).

use super::super::{Kernels, Window};
use super::{avx2, lanes256};
use core::arch::asm;
use core::arch::x86_64::*;

/// The table. Only [`super::tables`] hands it out.
// SAFETY of every call below: `super::tables` has found AVX2 and AVX-VNNI.
pub(super) static TABLE: Kernels = Kernels {
    name: "avxvnni",
    wide: false,
    offset: 128,
    conv_i8: |out, channels, window, weights| unsafe { conv_i8(out, channels, window, weights) },
    takes_rows: false,
    // As for AVX-512, whose kernel has the same shape.
    taps_from: 128,
    // `avx2`'s, of 16 bits: half as many products an instruction, but four times fewer.
    winograd_from: 16,
    attend_pack: |packed, elems, sizes| unsafe { lanes256::attend_pack_vnni(packed, elems, sizes) },
    attend: |out, scratch, attention| unsafe { lanes256::attend_vnni(out, scratch, attention) },
    ..avx2::KERNELS
};

/// Channels of a vector.
const LANES: usize = 8;

/// Pixels of the largest register tile: 2 × 5 accumulators, two weight vectors, an input before and after its
/// signs are flipped, and the sign bits fit 16 registers; with 6 one is spilled, and a convolution takes 1.5 times as long.
const TILE_PIXELS: usize = 5;

#[target_feature(enable = "avx2,avxvnni")]
fn conv_i8(out: &mut [i32], channels: usize, window: Window<'_, i8>, weights: &[i8]) {
    let pixels = out.len() / channels.max(1);
    if pixels == 0 || !window.holds(pixels, channels, weights) {
        return;
    }
    let patch = window.runs * window.run_len;
    // Tiles of nearly equal size: 7 pixels are 4 + 3, not 6 + 1.
    let size = pixels.div_ceil(pixels.div_ceil(TILE_PIXELS));
    for first in (0..channels).step_by(2 * LANES) {
        for p in (0..pixels).step_by(size) {
            let tile = Tile {
                // SAFETY: pixel p and rows from `first` on exist: `holds`.
                x: unsafe { window.elems.as_ptr().add(p * window.pixel_stride) },
                w: unsafe { weights.as_ptr().add(first * patch) },
                // SAFETY: p·channels + first is below out.len().
                out: unsafe { out.as_mut_ptr().add(p * channels + first) },
                window: &window,
                channels,
                left: channels - first,
            };
            // SAFETY: `holds` says that all patches and all rows (rounded up to blocks of four) are there; the tile has the channels
            // from `first` on in each of its pixels, all within `out`.
            unsafe {
                match (tile.left > LANES, (pixels - p).min(size)) {
                    (true, 1) => tile.run::<2, 1>(),
                    (true, 2) => tile.run::<2, 2>(),
                    (true, 3) => tile.run::<2, 3>(),
                    (true, 4) => tile.run::<2, 4>(),
                    (true, _) => tile.run::<2, 5>(),
                    (false, 1) => tile.run::<1, 1>(),
                    (false, 2) => tile.run::<1, 2>(),
                    (false, 3) => tile.run::<1, 3>(),
                    (false, 4) => tile.run::<1, 4>(),
                    (false, _) => tile.run::<1, 5>(),
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
    /// Channels from the tile's first on, which may be more than it has.
    left: usize,
}

impl Tile<'_> {
    /// `PIXELS` pixels by `GROUPS` vectors of channels.
    ///
    /// # Safety
    /// From `x` on there are `PIXELS` patches of the window, from `w` on the blocks of `left` channels, which are more than `GROUPS − 1`
    /// vectors have, from `out` on as many sums in each of `PIXELS` rows of `channels`.
    #[target_feature(enable = "avx2,avxvnni")]
    #[inline]
    unsafe fn run<const GROUPS: usize, const PIXELS: usize>(self) {
        let Window { runs, run_len, run_stride, pixel_stride, .. } = *self.window;
        let block_len = 4 * runs * run_len;
        let last_block = self.left.div_ceil(4) - 1;
        // Where there is no other block, the last one stands for it: its sums are not stored.
        let block = |b: usize| b.min(last_block) * block_len;
        let sign = _mm256_set1_epi8(-128);
        let mut acc = [[_mm256_setzero_si256(); GROUPS]; PIXELS];
        let mut w = self.w;
        for run in 0..runs {
            // SAFETY: run `run` of the first patch.
            let x = unsafe { self.x.add(run * run_stride) };
            for k in (0..run_len).step_by(4) {
                // SAFETY: group k of the run, in each block: the caller's promise.
                let rows: [__m256i; GROUPS] = core::array::from_fn(|g| unsafe {
                    let load = |b: usize| _mm_loadu_si128(w.add(block(b)).cast());
                    _mm256_set_m128i(load(2 * g + 1), load(2 * g))
                });
                for (p, acc) in acc.iter_mut().enumerate() {
                    // SAFETY: elements k to k + 3 of the run of pixel p.
                    let group = unsafe { x.add(p * pixel_stride + k).cast::<i32>().read_unaligned() };
                    let mut group = _mm256_set1_epi32(group);
                    // SAFETY: no instruction. Without it the compiler flips the signs before it spreads the group, which is an
                    // instruction more.
                    unsafe { asm!("/* {} */", inout(ymm_reg) group, options(pure, nomem, nostack, preserves_flags)) };
                    let group = _mm256_xor_si256(group, sign);
                    for (acc, &row) in acc.iter_mut().zip(&rows) {
                        *acc = _mm256_dpbusd_avx_epi32(*acc, group, row);
                    }
                }
                // SAFETY: at most one behind the block.
                w = unsafe { w.add(16) };
            }
        }
        for (p, acc) in acc.iter().enumerate() {
            for (g, &sums) in acc.iter().enumerate() {
                // SAFETY: the channels that are left of pixel p.
                unsafe {
                    let to = self.out.add(p * self.channels + g * LANES);
                    match self.left - g * LANES {
                        LANES.. => _mm256_storeu_si256(to.cast(), sums),
                        4 => _mm_storeu_si128(to.cast(), _mm256_castsi256_si128(sums)),
                        left => {
                            let mut all = [0i32; LANES];
                            _mm256_storeu_si256(all.as_mut_ptr().cast(), sums);
                            core::ptr::copy_nonoverlapping(all.as_ptr(), to, left);
                        }
                    }
                }
            }
        }
    }
}
