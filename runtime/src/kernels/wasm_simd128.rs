//! WebAssembly with 128-bit vectors.
//!
//! `i32x4.dot_i16x8_s` is the only multiply that sums, so windows of 8-bit inputs are widened and one kernel serves both
//! types: 16 weight bytes, a block's four rows of four, become two vectors of 16 bits; four input elements are broadcast
//! beside two rows at a time; an accumulator holds two partial sums of two channels. The other kernels are scalar's, which
//! the compiler vectorises as they stand.

#![allow(unsafe_code)]

use super::scalar::{self, KERNELS as SCALAR};
use super::{Kernels, Window};
use crate::opset::OpSet;
use core::arch::wasm32::*;

pub use super::tiling::WASM as TILING;

static TABLE: Kernels = Kernels { name: "simd128", conv_i16, ..SCALAR };

/// The fastest table that this machine can run, whole: on a host nobody counts a kernel's bytes.
pub fn kernels<const OPS: OpSet>() -> &'static Kernels {
    &TABLE
}

/// Every table of this build, the fastest first, scalar last.
pub fn tables() -> &'static [&'static Kernels] {
    static TABLES: [&Kernels; 2] = [&TABLE, &scalar::TABLE];
    &TABLES
}

/// Pixels of the largest register tile: 4 × 2 accumulators, which fit the 16 vector registers of an x86 host.
const TILE_PIXELS: usize = 4;

fn conv_i16(out: &mut [i32], channels: usize, window: Window<'_, i16>, weights: &[i8]) {
    let pixels = out.len() / channels.max(1);
    if pixels == 0 || !window.holds(pixels, channels, weights) {
        return;
    }
    let patch = window.runs * window.run_len;
    for first in (0..channels).step_by(4) {
        for p in (0..pixels).step_by(TILE_PIXELS) {
            // SAFETY: pixel p and rows from `first` on exist: `holds`; p·channels + first is below out.len().
            let tile = unsafe {
                Tile {
                    x: window.elems.as_ptr().add(p * window.pixel_stride),
                    w: weights.as_ptr().add(first * patch),
                    out: out.as_mut_ptr().add(p * channels + first),
                    window: &window,
                    channels,
                    lanes: (channels - first).min(4),
                }
            };
            // SAFETY: `holds` says that all patches and all rows (rounded up to blocks of four) are there; the tile has
            // `lanes` channels from `first` on in each of its pixels, all within `out`.
            unsafe {
                match (pixels - p).min(TILE_PIXELS) {
                    1 => tile.run::<1>(),
                    2 => tile.run::<2>(),
                    3 => tile.run::<3>(),
                    _ => tile.run::<4>(),
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
    /// Channels of the tile, at most 4.
    lanes: usize,
}

impl Tile<'_> {
    /// # Safety
    /// From `x` on there are `PIXELS` patches of the window, from `w` on a block, from `out` on `lanes` elements in each
    /// of `PIXELS` rows of `channels`.
    unsafe fn run<const PIXELS: usize>(self) {
        let Window { runs, run_len, run_stride, pixel_stride, .. } = *self.window;
        let mut acc = [[i32x4_splat(0); 2]; PIXELS];
        let mut w = self.w;
        // SAFETY: all groups of four lie in runs of the tile's patches, all weights in its block, and `lanes` sums in each
        // of its pixels: the caller's promise. Loads of vectors need no alignment in WebAssembly.
        unsafe {
            for run in 0..runs {
                let x = self.x.add(run * run_stride);
                for k in (0..run_len).step_by(4) {
                    let rows = v128_load(w.cast());
                    let (low, high) = (i16x8_extend_low_i8x16(rows), i16x8_extend_high_i8x16(rows));
                    w = w.add(16);
                    for (p, acc) in acc.iter_mut().enumerate() {
                        let group = v128_load64_splat(x.add(p * pixel_stride + k).cast());
                        acc[0] = i32x4_add(acc[0], i32x4_dot_i16x8(group, low));
                        acc[1] = i32x4_add(acc[1], i32x4_dot_i16x8(group, high));
                    }
                }
            }
            for (p, acc) in acc.iter().enumerate() {
                let even = i32x4_shuffle::<0, 2, 4, 6>(acc[0], acc[1]);
                let odd = i32x4_shuffle::<1, 3, 5, 7>(acc[0], acc[1]);
                let mut all = [0i32; 4];
                v128_store(all.as_mut_ptr().cast(), i32x4_add(even, odd));
                core::ptr::copy_nonoverlapping(all.as_ptr(), self.out.add(p * self.channels), self.lanes);
            }
        }
    }
}
