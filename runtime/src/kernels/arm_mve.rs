//! Cortex-M55 and M85: Helium (the M-profile vector extension), sixteen multiply-adds of 8 bits an instruction.
//!
//! `VMLADAVA` multiplies sixteen pairs of bytes and adds all products to one register, so the sixteen have to be of one
//! output channel: a gathering load takes a row's words out of four blocks of weights, which lie 16 bytes apart. A tile is
//! four channels by two pixels: their eight sums fill the registers of even number, which `VMLADAVA` takes, so the loop is
//! counted by `SUBS` and not by the low-overhead loop's LR. 17 instructions for 128 multiply-adds. What is left of a run is
//! loaded under a predicate that reads zeros behind its end.
//!
//! Requantization, residuals, norm and stores take four elements at a time in predicated low-overhead loops, `VQRDMULH`
//! being the rounding rule; the other kernels are those of `arm_dsp`, which these cores have too. All loops are
//! assembly, because a stable compiler has no intrinsics of this extension.

#![allow(unsafe_code)]

use super::arm_dsp;
use super::scalar;
use super::{Channels, Kernels, NormConstants, Window};
use crate::format::op::Table;
use crate::opset::OpSet;
use crate::quant::shl_saturating;
use core::arch::naked_asm;

pub use super::tiling::ARM_MVE as TILING;

const KERNELS: Kernels =
    Kernels { name: "arm_mve", copy, conv_i8, scale, add_i8, store_i8, norm_i8, ..arm_dsp::KERNELS };

/// The table of a build for these cores.
pub fn kernels<const OPS: OpSet>() -> &'static Kernels {
    const { &KERNELS.linked(OPS) }
}

/// Every table of this build, the fastest first, scalar last.
pub fn tables() -> &'static [&'static Kernels] {
    static TABLE: Kernels = KERNELS;
    static DSP: Kernels = arm_dsp::KERNELS;
    static TABLES: [&Kernels; 3] = [&TABLE, &DSP, &scalar::TABLE];
    &TABLES
}

fn copy(out: &mut [i8], elems: &[i8]) {
    // SAFETY: as many elements of each are there as the shorter has.
    unsafe { copy_elems(out.as_mut_ptr(), elems.as_ptr(), out.len().min(elems.len())) };
}

/// # Safety
/// `len` elements of each are there.
#[unsafe(naked)]
unsafe extern "C" fn copy_elems(out: *mut i8, elems: *const i8, len: usize) {
    naked_asm!(
        ".cpu cortex-m55",
        "cbz r2, 3f",
        "push {{lr}}",
        "dlstp.8 lr, r2",
        "2:",
        "vldrb.u8 q0, [r1], #16",
        "vstrb.8 q0, [r0], #16",
        "letp lr, 2b",
        "pop {{lr}}",
        "3:",
        "bx lr",
    )
}

fn conv_i8(out: &mut [i32], channels: usize, window: Window<'_, i8>, weights: &[i8]) {
    let Window { elems, runs, run_len, run_stride, pixel_stride, .. } = window;
    let pixels = out.len() / channels.max(1);
    if pixels == 0 || !window.holds(pixels, channels, weights) {
        return;
    }
    if runs * run_len == 0 {
        return out.fill(0);
    }
    for p in (0..pixels).step_by(2) {
        // A last pixel alone is computed twice.
        let q = (p + 1).min(pixels - 1);
        // SAFETY: `holds` says that the pixels' patches are there, and all rows up to a multiple of four; sums of pixel p
        // and q lie below out.len(), because both are below `pixels`. Weights lie at a multiple of four.
        unsafe {
            two_pixels(
                elems.as_ptr().add(p * pixel_stride),
                elems.as_ptr().add(q * pixel_stride),
                weights.as_ptr(),
                out.as_mut_ptr().add(p * channels),
                out.as_mut_ptr().add(q * channels),
                channels,
                runs,
                run_stride as isize - run_len as isize,
                run_len / 16,
                run_len % 16,
            );
        }
    }
}

/// Sums of all channels of two pixels.
///
/// # Safety
/// From `x` and `y` on a patch each can be read, from `w` on, which is a multiple of 4, the blocks of `channels` rows, and
/// `channels` sums can be written from `out_x` and `out_y` on. There is a run, of 16·`sixteens` + `rest` elements.
#[unsafe(naked)]
#[allow(clippy::too_many_arguments)] // they are the assembly's variables
unsafe extern "C" fn two_pixels(
    x: *const i8,
    y: *const i8,
    w: *const i8,
    out_x: *mut i32,
    out_y: *mut i32,
    channels: usize,
    runs: usize,
    run_gap: isize,
    sixteens: usize,
    rest: usize,
) {
    // r1 x, r3 y, r5 w, r7 what is counted; r0, r2, r4, r6 sums of x, r8, r10, r12, lr sums of y; q0 and q1 elements of x
    // and y, q2 and q3 weights, q4 to q7 where four words of each row lie.
    // The stack: 0 runs that are left, 8 x, 12 y, 16 w, 20 out_x, 24 saved registers, then the arguments: 124 out_y,
    // 128 channels, 132 runs, 136 run_gap, 140 sixteens, 144 rest.
    naked_asm!(
        ".cpu cortex-m55",
        "push {{r4-r11, lr}}",
        "vpush {{d8-d15}}",
        "push {{r0-r3}}",
        "sub sp, #8",
        "mov r4, #0",
        "mov r5, #4",
        "vidup.u32 q4, r4, #8",
        "vshl.i32 q4, q4, #1",
        "vadd.i32 q5, q4, r5",
        "vadd.i32 q6, q5, r5",
        "vadd.i32 q7, q6, r5",
        "ldr r5, [sp, #16]",
        // A tile: all runs of a block.
        "2:",
        "ldrd r1, r3, [sp, #8]",
        "ldr r7, [sp, #132]",
        "str r7, [sp]",
        "mov r0, #0",
        "mov r2, #0",
        "mov r4, #0",
        "mov r6, #0",
        "mov r8, #0",
        "mov r10, #0",
        "mov r12, #0",
        "mov lr, #0",
        // A run.
        "3:",
        "ldr r7, [sp, #140]",
        "cbz r7, 5f",
        "4:",
        "vldrb.u8 q0, [r1], #16",
        "vldrb.u8 q1, [r3], #16",
        "vldrw.u32 q2, [r5, q4]",
        "vmladava.s8 r0, q2, q0",
        "vmladava.s8 r8, q2, q1",
        "vldrw.u32 q3, [r5, q5]",
        "vmladava.s8 r2, q3, q0",
        "vmladava.s8 r10, q3, q1",
        "vldrw.u32 q2, [r5, q6]",
        "vmladava.s8 r4, q2, q0",
        "vmladava.s8 r12, q2, q1",
        "vldrw.u32 q3, [r5, q7]",
        "add r5, r5, #64",
        "vmladava.s8 r6, q3, q0",
        "vmladava.s8 lr, q3, q1",
        "subs r7, #1",
        "bne 4b",
        "5:",
        "ldr r7, [sp, #144]",
        "cbz r7, 6f",
        "vctp.8 r7",
        "vpstttt",
        "vldrbt.u8 q0, [r1]",
        "vldrbt.u8 q1, [r3]",
        "vldrwt.u32 q2, [r5, q4]",
        "vldrwt.u32 q3, [r5, q5]",
        "vmladava.s8 r0, q2, q0",
        "vmladava.s8 r8, q2, q1",
        "vmladava.s8 r2, q3, q0",
        "vmladava.s8 r10, q3, q1",
        "vpstt",
        "vldrwt.u32 q2, [r5, q6]",
        "vldrwt.u32 q3, [r5, q7]",
        "vmladava.s8 r4, q2, q0",
        "vmladava.s8 r12, q2, q1",
        "vmladava.s8 r6, q3, q0",
        "vmladava.s8 lr, q3, q1",
        "add r1, r7",
        "add r3, r7",
        "add r5, r5, r7, lsl #2",
        "6:",
        "ldr r7, [sp]",
        "ldr r9, [sp, #136]",
        "subs r7, #1",
        "str r7, [sp]",
        "add r1, r9",
        "add r3, r9",
        "bne 3b",
        // The tile is done.
        "vmov q0[2], q0[0], r0, r4",
        "vmov q0[3], q0[1], r2, r6",
        "vmov q1[2], q1[0], r8, r12",
        "vmov q1[3], q1[1], r10, lr",
        "ldrd r9, r7, [sp, #124]",
        "ldr r11, [sp, #20]",
        "vctp.32 r7",
        "vpstt",
        "vstrwt.32 q1, [r9], #16",
        "vstrwt.32 q0, [r11], #16",
        "subs r7, #4",
        "strd r9, r7, [sp, #124]",
        "str r11, [sp, #20]",
        "bgt 2b",
        "add sp, #24",
        "vpop {{d8-d15}}",
        "pop {{r4-r11, pc}}",
    )
}

fn scale(acc: &mut [i32], channels: Channels<'_>) {
    let Channels { bias, multiplier, shift } = channels;
    let (channels, len) = (bias.len().max(1), bias.len().min(multiplier.len()));
    if shift != 0 {
        for pixel in acc.chunks_exact_mut(channels) {
            for (acc, &bias) in pixel.iter_mut().zip(bias) {
                // Less the bias, which is added once more below.
                *acc = shl_saturating(acc.wrapping_add(bias), shift).wrapping_sub(bias);
            }
        }
    }
    for pixel in acc.chunks_exact_mut(channels) {
        // SAFETY: `len` elements of each are there.
        unsafe { scale_pixel(pixel.as_mut_ptr(), bias.as_ptr(), multiplier.as_ptr(), len) };
    }
}

/// # Safety
/// `len` elements of each are there.
#[unsafe(naked)]
unsafe extern "C" fn scale_pixel(acc: *mut i32, bias: *const i32, multiplier: *const i32, len: usize) {
    naked_asm!(
        ".cpu cortex-m55",
        "cbz r3, 3f",
        "push {{lr}}",
        "dlstp.32 lr, r3",
        "2:",
        "vldrw.u32 q0, [r0]",
        "vldrw.u32 q1, [r1], #16",
        "vldrw.u32 q2, [r2], #16",
        "vadd.i32 q0, q0, q1",
        "vqrdmulh.s32 q0, q0, q2",
        "vstrw.32 q0, [r0], #16",
        "letp lr, 2b",
        "pop {{lr}}",
        "3:",
        "bx lr",
    )
}

fn add_i8(acc: &mut [i32], elems: &[i8], zero_point: i32, multiplier: i32) {
    // SAFETY: as many elements of each are there as the shorter has.
    unsafe { add_elems(acc.as_mut_ptr(), elems.as_ptr(), zero_point, multiplier, acc.len().min(elems.len())) };
}

/// # Safety
/// `len` elements of each are there.
#[unsafe(naked)]
unsafe extern "C" fn add_elems(acc: *mut i32, elems: *const i8, zero_point: i32, multiplier: i32, len: usize) {
    naked_asm!(
        ".cpu cortex-m55",
        "ldr r12, [sp]",
        "cmp r12, #0",
        "beq 3f",
        "push {{lr}}",
        "dlstp.32 lr, r12",
        "2:",
        "vldrb.s32 q0, [r1], #4",
        "vldrw.u32 q1, [r0]",
        "vsub.i32 q0, q0, r2",
        "vshl.i32 q0, q0, #16",
        "vqrdmulh.s32 q0, q0, r3",
        "vadd.i32 q1, q1, q0",
        "vstrw.32 q1, [r0], #16",
        "letp lr, 2b",
        "pop {{lr}}",
        "3:",
        "bx lr",
    )
}

fn store_i8(out: &mut [i8], acc: &[i32], zero_point: i32) {
    // SAFETY: as many elements of each are there as the shorter has.
    unsafe { store_elems(out.as_mut_ptr(), acc.as_ptr(), zero_point, out.len().min(acc.len())) };
}

/// # Safety
/// `len` elements of each are there.
#[unsafe(naked)]
unsafe extern "C" fn store_elems(out: *mut i8, acc: *const i32, zero_point: i32, len: usize) {
    naked_asm!(
        ".cpu cortex-m55",
        "cbz r3, 3f",
        "push {{lr}}",
        "mov r12, #8",
        "vmov.i32 q2, #127",
        "vmvn.i32 q3, #127",
        "dlstp.32 lr, r3",
        "2:",
        "vldrw.u32 q0, [r1], #16",
        "vadd.i32 q0, q0, r12",
        "vshr.s32 q0, q0, #4",
        "vadd.i32 q0, q0, r2",
        "vmin.s32 q0, q0, q2",
        "vmax.s32 q0, q0, q3",
        "vstrb.32 q0, [r0], #4",
        "letp lr, 2b",
        "pop {{lr}}",
        "3:",
        "bx lr",
    )
}

fn norm_i8(out: &mut [i8], out_c: usize, src: &[i8], src_c: usize, k: NormConstants<'_>) {
    if k.table.len() != Table::LEN {
        return (arm_dsp::KERNELS.norm_i8)(out, out_c, src, src_c, k);
    }
    let len = src_c.min(k.multiplier.len()).min(k.offset.len());
    let mut rest = src;
    for out in out.chunks_mut(out_c.max(1)) {
        // Not zipped: that would leave a division, and its panic, in the program.
        let Some((src, after)) = rest.split_at_checked(src_c) else { return };
        rest = after;
        // SAFETY: as many elements are there, and a table.
        unsafe {
            norm_pixel(
                out.as_mut_ptr(),
                src.as_ptr(),
                k.multiplier.as_ptr(),
                k.offset.as_ptr(),
                len.min(out.len()),
                k.table.as_ptr(),
                k.zero_point,
                k.out_multiplier,
                k.out_zero_point,
            )
        };
    }
}

/// A pixel's elements through the table.
///
/// # Safety
/// `len` elements of each are there, and 1,024 of the table.
#[unsafe(naked)]
#[allow(clippy::too_many_arguments)] // they are the assembly's variables
unsafe extern "C" fn norm_pixel(
    out: *mut i8,
    src: *const i8,
    multiplier: *const i32,
    offset: *const i32,
    len: usize,
    table: *const i16,
    zero_point: i32,
    out_multiplier: i32,
    out_zero_point: i32,
) {
    naked_asm!(
        ".cpu cortex-m55",
        "push {{r4-r8, lr}}",
        "vpush {{d8-d9}}",
        "ldrd r12, r4, [sp, #40]",
        "ldrd r5, r6, [sp, #48]",
        "ldr r7, [sp, #56]",
        "cmp r12, #0",
        "beq 3f",
        "mov r8, #512",
        "vmov.i32 q2, #127",
        "vmvn.i32 q3, #127",
        "mvn lr, #0",
        "vdup.32 q4, lr",
        // 1,023, the last index.
        "vshr.u32 q4, q4, #22",
        "dlstp.32 lr, r12",
        "2:",
        "vldrb.s32 q0, [r1], #4",
        "vldrw.u32 q1, [r2], #16",
        "vsub.i32 q0, q0, r5",
        "vshl.i32 q0, q0, #16",
        "vqrdmulh.s32 q0, q0, q1",
        "vldrw.u32 q1, [r3], #16",
        "vadd.i32 q0, q0, q1",
        "vshr.s32 q0, q0, #8",
        "vadd.i32 q0, q0, r8",
        "vmov.i32 q1, #0",
        "vmax.s32 q0, q0, q1",
        "vmin.s32 q0, q0, q4",
        "vldrh.s32 q1, [r4, q0, uxtw #1]",
        "vqrdmulh.s32 q0, q1, r6",
        "vadd.i32 q0, q0, r7",
        "vmin.s32 q0, q0, q2",
        "vmax.s32 q0, q0, q3",
        "vstrb.32 q0, [r0], #4",
        "letp lr, 2b",
        "3:",
        "vpop {{d8-d9}}",
        "pop {{r4-r8, pc}}",
    )
}
