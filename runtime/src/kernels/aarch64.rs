//! aarch64: NEON, which every 64-bit Arm core has, and the choice between it and the dot-product extension
//! (`aarch64_dot.rs`).
//!
//! A convolution keeps a tile of 4 channels × up to 4 pixels. 16 weight bytes are a block's four rows of four; four input
//! bytes are broadcast beside each row. Two products of 8 bits fit 16 (2·127·128 = 32,512, since no weight is −128), so
//! `smull` and `smlal` take two groups of four before `sadalp` widens the pairs. The other kernels are scalar's, which the
//! compiler vectorises for NEON as it stands.

#![allow(unsafe_code)]

use super::scalar::{self, KERNELS as SCALAR};
use super::{Kernels, Window, aarch64_dot};
use crate::opset::OpSet;
use core::arch::aarch64::*;
use core::sync::atomic::{AtomicU8, Ordering};

pub use super::tiling::AARCH64 as TILING;

/// The table of these functions.
pub(super) const KERNELS: Kernels = Kernels { name: "neon", conv_i8, conv_i16, ..SCALAR };

static TABLE: Kernels = KERNELS;

/// The fastest table that this machine can run, whole: on a host nobody counts a kernel's bytes.
pub fn kernels<const OPS: OpSet>() -> &'static Kernels {
    tables().first().copied().unwrap_or(&TABLE)
}

/// Every table that this machine can run, the fastest first, scalar last.
pub fn tables() -> &'static [&'static Kernels] {
    // Nothing else hands the first of them out, so its kernels run where their instruction exists.
    static TABLES: [&Kernels; 3] = [&aarch64_dot::TABLE, &TABLE, &scalar::TABLE];
    TABLES.get(usize::from(!has_dotprod())..).unwrap_or_default()
}

/// Whether the core has the extension. It is asked once: under Linux the question is a trap.
fn has_dotprod() -> bool {
    static ASKED: AtomicU8 = AtomicU8::new(0);
    match ASKED.load(Ordering::Relaxed) {
        0 => {
            let here = aarch64_dot::is_here();
            ASKED.store(1 + here as u8, Ordering::Relaxed);
            here
        }
        answer => answer == 2,
    }
}

/// Pixels of the largest register tile: 4 × 2 accumulators for 8-bit inputs, 4 × 4 for 16-bit ones.
const TILE_PIXELS: usize = 4;

fn conv_i8(out: &mut [i32], channels: usize, window: Window<'_, i8>, weights: &[i8]) {
    // SAFETY (here and below): `tiles` calls with tiles that `Window::holds` has found to be there.
    tiles(out, channels, window, weights, |tile, pixels| unsafe {
        match pixels {
            1 => tile.run_i8::<1>(),
            2 => tile.run_i8::<2>(),
            3 => tile.run_i8::<3>(),
            _ => tile.run_i8::<4>(),
        }
    });
}

fn conv_i16(out: &mut [i32], channels: usize, window: Window<'_, i16>, weights: &[i8]) {
    tiles(out, channels, window, weights, |tile, pixels| unsafe {
        match pixels {
            1 => tile.run_i16::<1>(),
            2 => tile.run_i16::<2>(),
            3 => tile.run_i16::<3>(),
            _ => tile.run_i16::<4>(),
        }
    });
}

/// Runs over the tiles of a convolution, or does nothing where the window does not hold what it says.
fn tiles<T>(out: &mut [i32], channels: usize, window: Window<'_, T>, weights: &[i8], run: impl Fn(Tile<'_, T>, usize)) {
    let pixels = out.len() / channels.max(1);
    if pixels == 0 || !window.holds(pixels, channels, weights) {
        return;
    }
    let patch = window.runs * window.run_len;
    for first in (0..channels).step_by(4) {
        for p in (0..pixels).step_by(TILE_PIXELS) {
            let tile = Tile {
                // SAFETY: pixel p and rows from `first` on exist: `holds`; p·channels + first is below out.len().
                x: unsafe { window.elems.as_ptr().add(p * window.pixel_stride) },
                w: unsafe { weights.as_ptr().add(first * patch) },
                out: unsafe { out.as_mut_ptr().add(p * channels + first) },
                window: &window,
                channels,
                lanes: (channels - first).min(4),
            };
            run(tile, (pixels - p).min(TILE_PIXELS));
        }
    }
}

/// A register tile: where its first pixel, its first weights and its first sum lie.
struct Tile<'a, T> {
    x: *const T,
    w: *const i8,
    out: *mut i32,
    window: &'a Window<'a, T>,
    /// Sums from one pixel to the next.
    channels: usize,
    /// Channels of the tile, at most 4.
    lanes: usize,
}

impl<T> Tile<'_, T> {
    /// Stores the four channels' sums of pixel p.
    ///
    /// # Safety
    /// The pixel is one of the tile's.
    #[target_feature(enable = "neon")]
    unsafe fn store(&self, p: usize, sums: int32x4_t) {
        let mut all = [0i32; 4];
        // SAFETY: four elements; `lanes` of them are the pixel's.
        unsafe {
            vst1q_s32(all.as_mut_ptr(), sums);
            core::ptr::copy_nonoverlapping(all.as_ptr(), self.out.add(p * self.channels), self.lanes);
        }
    }
}

impl Tile<'_, i8> {
    /// # Safety
    /// From `x` on there are `PIXELS` patches of the window, from `w` on a block, from `out` on `lanes` elements in each
    /// of `PIXELS` rows of `channels`.
    #[target_feature(enable = "neon")]
    unsafe fn run_i8<const PIXELS: usize>(self) {
        let Window { runs, run_len, run_stride, pixel_stride, .. } = *self.window;
        // Channels 0 and 1 in the first, 2 and 3 in the second, two partial sums each.
        let mut acc = [[vdupq_n_s32(0); 2]; PIXELS];
        let mut w = self.w;
        // SAFETY: all groups of four lie in runs of the tile's patches, all weights in its block: the caller's promise.
        unsafe {
            let group = |at: *const i8| vreinterpretq_s8_s32(vdupq_n_s32(at.cast::<i32>().read_unaligned()));
            for run in 0..runs {
                let x = self.x.add(run * run_stride);
                for k in (0..run_len / 8 * 8).step_by(8) {
                    let rows = [vld1q_s8(w), vld1q_s8(w.add(16))];
                    w = w.add(32);
                    for (p, acc) in acc.iter_mut().enumerate() {
                        let at = x.add(p * pixel_stride + k);
                        let (a, b) = (group(at), group(at.add(4)));
                        let low = vmull_s8(vget_low_s8(rows[0]), vget_low_s8(a));
                        let high = vmull_high_s8(rows[0], a);
                        acc[0] = vpadalq_s16(acc[0], vmlal_s8(low, vget_low_s8(rows[1]), vget_low_s8(b)));
                        acc[1] = vpadalq_s16(acc[1], vmlal_high_s8(high, rows[1], b));
                    }
                }
                if run_len % 8 != 0 {
                    let row = vld1q_s8(w);
                    w = w.add(16);
                    for (p, acc) in acc.iter_mut().enumerate() {
                        let a = group(x.add(p * pixel_stride + run_len - 4));
                        acc[0] = vpadalq_s16(acc[0], vmull_s8(vget_low_s8(row), vget_low_s8(a)));
                        acc[1] = vpadalq_s16(acc[1], vmull_high_s8(row, a));
                    }
                }
            }
            for (p, acc) in acc.iter().enumerate() {
                self.store(p, vpaddq_s32(acc[0], acc[1]));
            }
        }
    }
}

impl Tile<'_, i16> {
    /// # Safety
    /// As for 8 bits.
    #[target_feature(enable = "neon")]
    unsafe fn run_i16<const PIXELS: usize>(self) {
        let Window { runs, run_len, run_stride, pixel_stride, .. } = *self.window;
        // One channel each, four partial sums.
        let mut acc = [[vdupq_n_s32(0); 4]; PIXELS];
        let mut w = self.w;
        // SAFETY: as for 8 bits.
        unsafe {
            for run in 0..runs {
                let x = self.x.add(run * run_stride);
                for k in (0..run_len).step_by(4) {
                    let rows = vld1q_s8(w);
                    let (low, high) = (vmovl_s8(vget_low_s8(rows)), vmovl_high_s8(rows));
                    w = w.add(16);
                    for (p, acc) in acc.iter_mut().enumerate() {
                        let group = vld1_s16(x.add(p * pixel_stride + k));
                        acc[0] = vmlal_s16(acc[0], vget_low_s16(low), group);
                        acc[1] = vmlal_s16(acc[1], vget_high_s16(low), group);
                        acc[2] = vmlal_s16(acc[2], vget_low_s16(high), group);
                        acc[3] = vmlal_s16(acc[3], vget_high_s16(high), group);
                    }
                }
            }
            for (p, acc) in acc.iter().enumerate() {
                self.store(p, vpaddq_s32(vpaddq_s32(acc[0], acc[1]), vpaddq_s32(acc[2], acc[3])));
            }
        }
    }
}
