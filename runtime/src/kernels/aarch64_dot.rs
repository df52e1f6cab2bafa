//! aarch64 with the dot-product extension: `sdot`, sixteen multiply-adds of bytes an instruction.
//!
//! The format's block is what the instruction takes: sixteen weight bytes are four rows of four, and a group of four input
//! bytes is an element of a register, multiplied with each row. A tile is up to 16 channels × 4 pixels: sixteen sums, four
//! weight vectors and four input vectors of four groups each, of 32 registers.
//!
//! The intrinsic is not stable Rust, so `sdot` is written as assembly.

#![allow(unsafe_code)]

use super::{Kernels, Window, aarch64};
use core::arch::aarch64::*;
use core::arch::asm;

/// The table. Only [`aarch64::tables`] hands it out.
// SAFETY of the call: `aarch64::tables` has found the extension.
pub(super) static TABLE: Kernels = Kernels {
    name: "dotprod",
    conv_i8: |out, channels, window, weights| unsafe { conv_i8(out, channels, window, weights) },
    ..aarch64::KERNELS
};

/// Pixels of the largest register tile.
const TILE_PIXELS: usize = 4;

/// Whether this core has the extension. The register that says so can be read by programs on bare metal and under Linux,
/// which emulates it; elsewhere what the compiler was told counts, as on macOS, where every core has it.
pub(super) fn is_here() -> bool {
    #[cfg(any(target_os = "none", target_os = "linux", target_os = "android"))]
    if !cfg!(target_feature = "dotprod") {
        let features: u64;
        // SAFETY: reads a register.
        unsafe { asm!("mrs {}, ID_AA64ISAR0_EL1", out(reg) features, options(nomem, nostack, preserves_flags)) };
        return features >> 44 & 0xf != 0;
    }
    cfg!(target_feature = "dotprod")
}

/// `acc + Σ w·x` for each group of four bytes of `w` and group `GROUP` of `x`.
#[target_feature(enable = "neon,dotprod")]
#[inline]
fn dot<const GROUP: usize>(acc: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    let mut acc = acc;
    // SAFETY: the extension is there: the target feature.
    unsafe {
        asm!(
            "sdot {acc:v}.4s, {w:v}.16b, {x:v}.4b[{group}]",
            acc = inout(vreg) acc, w = in(vreg) w, x = in(vreg) x, group = const GROUP,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    acc
}

#[target_feature(enable = "neon,dotprod")]
fn conv_i8(out: &mut [i32], channels: usize, window: Window<'_, i8>, weights: &[i8]) {
    let pixels = out.len() / channels.max(1);
    if pixels == 0 || !window.holds(pixels, channels, weights) {
        return;
    }
    let patch = window.runs * window.run_len;
    for first in (0..channels).step_by(16) {
        let lanes = (channels - first).min(16);
        for p in (0..pixels).step_by(TILE_PIXELS) {
            // SAFETY: pixel p and rows from `first` on exist: `holds`; p·channels + first is below out.len(); the tile has
            // `lanes` channels from `first` on in each of its pixels.
            unsafe {
                let tile = Tile {
                    x: window.elems.as_ptr().add(p * window.pixel_stride),
                    w: weights.as_ptr().add(first * patch),
                    out: out.as_mut_ptr().add(p * channels + first),
                    window: &window,
                    channels,
                    lanes,
                };
                match (pixels - p).min(TILE_PIXELS) {
                    1 => tile.run_blocks::<1>(),
                    2 => tile.run_blocks::<2>(),
                    3 => tile.run_blocks::<3>(),
                    _ => tile.run_blocks::<4>(),
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
    /// Channels of the tile, at most 16.
    lanes: usize,
}

impl Tile<'_> {
    /// As [`Tile::run`], for as many blocks as `lanes` channels have.
    #[target_feature(enable = "neon,dotprod")]
    #[inline]
    unsafe fn run_blocks<const PIXELS: usize>(self) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.lanes {
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
    /// From `x` on there are `PIXELS` patches of the window, from `w` on `BLOCKS` blocks, from `out` on `lanes` elements
    /// in each of `PIXELS` rows of `channels`.
    #[target_feature(enable = "neon,dotprod")]
    #[inline]
    unsafe fn run<const BLOCKS: usize, const PIXELS: usize>(self) {
        let Window { runs, run_len, run_stride, pixel_stride, .. } = *self.window;
        let block_len = 4 * runs * run_len;
        let mut acc = [[vdupq_n_s32(0); BLOCKS]; PIXELS];
        let mut w = self.w;
        for run in 0..runs {
            // SAFETY (here and below): groups of the run, of each patch and in each block: the caller's promise.
            let x = unsafe { self.x.add(run * run_stride) };
            for k in (0..run_len / 16 * 16).step_by(16) {
                let mut elems = [vdupq_n_s8(0); PIXELS];
                for (p, elems) in elems.iter_mut().enumerate() {
                    *elems = unsafe { vld1q_s8(x.add(p * pixel_stride + k)) };
                }
                for b in 0..BLOCKS {
                    let rows = unsafe { vld1q_s8_x4(w.add(b * block_len)) };
                    for (acc, &elems) in acc.iter_mut().zip(&elems) {
                        let sum = dot::<1>(dot::<0>(acc[b], rows.0, elems), rows.1, elems);
                        acc[b] = dot::<3>(dot::<2>(sum, rows.2, elems), rows.3, elems);
                    }
                }
                w = unsafe { w.add(64) };
            }
            for k in (run_len / 16 * 16..run_len).step_by(4) {
                for (p, acc) in acc.iter_mut().enumerate() {
                    let group = unsafe { x.add(p * pixel_stride + k).cast::<i32>().read_unaligned() };
                    let group = vreinterpretq_s8_s32(vdupq_n_s32(group));
                    for (b, acc) in acc.iter_mut().enumerate() {
                        *acc = dot::<0>(*acc, unsafe { vld1q_s8(w.add(b * block_len)) }, group);
                    }
                }
                w = unsafe { w.add(16) };
            }
        }
        for (p, acc) in acc.iter().enumerate() {
            let mut all = [0i32; 16];
            for (to, &sums) in all.as_chunks_mut::<4>().0.iter_mut().zip(acc) {
                // SAFETY: four elements.
                unsafe { vst1q_s32(to.as_mut_ptr(), sums) };
            }
            // SAFETY: `lanes` sums of pixel p.
            unsafe { core::ptr::copy_nonoverlapping(all.as_ptr(), self.out.add(p * self.channels), self.lanes) };
        }
    }
}
