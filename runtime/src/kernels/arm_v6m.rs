//! Cortex-M0 and M0+: one multiplication, 32 × 32 to the low 32 bits, serves two pixels.
//!
//! With x = x₀ + 2¹⁶·x₁ of neighbouring pixels, x·w holds both products, and so does a sum of two such: |x₀·w + x₀'·w'| is
//! at most 2·128·127, below 2¹⁵. Added 2¹⁵ to, its upper half is the second pixel's sum exactly; those are summed apart,
//! and the low half's sums follow in the end from the sum of all. Seven instructions for four multiply-adds beside their
//! loads, where one at a time takes twice as many, because `MULS` destroys an operand. A pair of patches is joined once
//! and serves all output channels, two at a time.
//!
//! There is no multiplication to 64 bits either: [`mul_round`] makes its own of four 16-bit products, and a row's clamps are
//! one comparison.

#![allow(unsafe_code)]

use super::scalar::{self, KERNELS as SCALAR};
use super::words::{clamp_i8, copy};
use super::{Channels, Kernels, NormConstants, Window};
use crate::opset::OpSet;
use crate::quant::{SUM_FRACTION_BITS, shl_saturating};
use core::arch::naked_asm;

pub use super::tiling::ARM_V6M as TILING;

const KERNELS: Kernels = Kernels {
    name: "arm_v6m",
    copy,
    conv_i8,
    scale,
    add_i8: |acc, elems, zero, m| scalar::add::<i8, 16>(acc, elems, zero, m, mul_round),
    store_i8,
    norm_i8: |out, out_c, src, src_c, k: NormConstants<'_>| {
        scalar::norm::<i8, 16>(out, out_c, src, src_c, k, mul_round, clamp_i8)
    },
    softmax: |scores, k| scalar::softmax(scores, k, mul_round),
    ..SCALAR
};

/// The table of a build for these cores.
pub fn kernels<const OPS: OpSet>() -> &'static Kernels {
    const { &KERNELS.linked(OPS) }
}

/// Every table of this build, the fastest first, scalar last.
pub fn tables() -> &'static [&'static Kernels] {
    static TABLE: Kernels = KERNELS;
    static TABLES: [&Kernels; 2] = [&TABLE, &scalar::TABLE];
    &TABLES
}

/// [`crate::quant::mul_round`] of 16-bit products: m is split so that its low half is signed, which keeps all sums below
/// 2³¹. What is below 2¹⁶ in the product of the low halves cannot reach the result.
#[inline(always)]
fn mul_round(a: i32, m: i32) -> i32 {
    let (m_low, m_high) = (m as i16 as i32, m.wrapping_add(1 << 15) >> 16);
    let (low, high) = (a as u16 as i32, a >> 16);
    let middle = (low.wrapping_mul(m_low) >> 16) + (1 << 14);
    let middle = middle.wrapping_add(low.wrapping_mul(m_high)).wrapping_add(high.wrapping_mul(m_low));
    (middle >> 15).wrapping_add(high.wrapping_mul(m_high) << 1)
}

fn scale(acc: &mut [i32], channels: Channels<'_>) {
    let Channels { bias, multiplier, shift } = channels;
    let count = bias.len();
    if shift != 0 {
        for pixel in acc.chunks_exact_mut(count.max(1)) {
            for (acc, &bias) in pixel.iter_mut().zip(bias) {
                // Less the bias, which is added once more below.
                *acc = shl_saturating(acc.wrapping_add(bias), shift).wrapping_sub(bias);
            }
        }
    }
    let channels = count.min(multiplier.len());
    if channels > 0 && acc.len() >= count {
        // SAFETY: a channel's elements are there from the first pixel's on, `count` apart, as far as they lie below the end.
        unsafe {
            let end = acc.as_mut_ptr_range().end;
            scale_channels(acc.as_mut_ptr(), end, 4 * count, channels, bias.as_ptr(), multiplier.as_ptr())
        };
    }
}

/// [`mul_round`] of every sum and its bias, a channel of all pixels after the other, so that constants stay in registers.
///
/// # Safety
/// From `acc` on there are `channels` elements, and others `stride` bytes apart, as far as they lie below `end`; and as many
/// biases and multipliers. There is a channel.
#[unsafe(naked)]
unsafe extern "C" fn scale_channels(
    acc: *mut i32,
    end: *mut i32,
    stride: usize,
    channels: usize,
    bias: *const i32,
    multiplier: *const i32,
) {
    // r0 an element, r1 and r2 the multiplier's low and high half, r3 to r5 temporary; r8 end, r9 stride, r10 the channel's
    // first element, r11 how many channels are left, r12 bias, lr 2^14; r6 and r7 where bias and multiplier lie.
    naked_asm!(
        "push {{r4-r7, lr}}",
        "mov r4, r8",
        "mov r5, r9",
        "mov r6, r10",
        "mov r7, r11",
        "push {{r4-r7}}",
        "mov r8, r1",
        "mov r9, r2",
        "mov r10, r0",
        "mov r11, r3",
        "movs r4, #64",
        "lsls r4, r4, #8",
        "mov lr, r4",
        "ldr r6, [sp, #36]",
        "ldr r7, [sp, #40]",
        "2:",
        "ldm r6!, {{r3}}",
        "mov r12, r3",
        "ldm r7!, {{r3}}",
        "sxth r1, r3",
        "subs r3, r3, r1",
        "asrs r2, r3, #16",
        "mov r0, r10",
        "adds r3, r0, #4",
        "mov r10, r3",
        "3:",
        "ldr r3, [r0]",
        "add r3, r12",
        "asrs r4, r3, #16",
        "uxth r3, r3",
        "mov r5, r3",
        "muls r5, r1, r5",
        "asrs r5, r5, #16",
        "muls r3, r2, r3",
        "adds r3, r3, r5",
        "mov r5, r4",
        "muls r5, r1, r5",
        "adds r3, r3, r5",
        "add r3, lr",
        "asrs r3, r3, #15",
        "muls r4, r2, r4",
        "lsls r4, r4, #1",
        "adds r3, r3, r4",
        "str r3, [r0]",
        "add r0, r9",
        "cmp r0, r8",
        "blo 3b",
        "mov r3, r11",
        "subs r3, r3, #1",
        "mov r11, r3",
        "bne 2b",
        "pop {{r4-r7}}",
        "mov r8, r4",
        "mov r9, r5",
        "mov r10, r6",
        "mov r11, r7",
        "pop {{r4-r7, pc}}",
    )
}

fn store_i8(out: &mut [i8], acc: &[i32], zero_point: i32) {
    let len = out.len().min(acc.len());
    if len >= 2 {
        // SAFETY: `len` elements of each are there.
        unsafe { store_pairs(out.as_mut_ptr(), acc.as_ptr(), zero_point, len / 2) };
    }
    if let (1, Some(q), Some(&sum)) = (len % 2, out.get_mut(len.wrapping_sub(1)), acc.get(len.wrapping_sub(1))) {
        let rounded = sum.wrapping_add(1 << (SUM_FRACTION_BITS - 1)) >> SUM_FRACTION_BITS;
        *q = clamp_i8(rounded.wrapping_add(zero_point));
    }
}

/// # Safety
/// Twice `pairs` elements of each are there, at least two.
#[unsafe(naked)]
unsafe extern "C" fn store_pairs(out: *mut i8, acc: *const i32, zero_point: i32, pairs: usize) {
    naked_asm!(
        "push {{r4-r7, lr}}",
        "movs r7, #127",
        "2:",
        "ldm r1!, {{r4, r5}}",
        "adds r4, r4, #8",
        "adds r5, r5, #8",
        "asrs r4, r4, #4",
        "asrs r5, r5, #4",
        "adds r4, r4, r2",
        "adds r5, r5, r2",
        "sxtb r6, r4",
        "cmp r6, r4",
        "bne 4f",
        "3:",
        "strb r4, [r0]",
        "sxtb r6, r5",
        "cmp r6, r5",
        "bne 6f",
        "5:",
        "strb r5, [r0, #1]",
        "adds r0, r0, #2",
        "subs r3, r3, #1",
        "bne 2b",
        "pop {{r4-r7, pc}}",
        // Saturated.
        "4:",
        "asrs r4, r4, #31",
        "eors r4, r7",
        "b 3b",
        "6:",
        "asrs r5, r5, #31",
        "eors r5, r7",
        "b 5b",
    )
}

/// Elements of a pair of patches that are joined at a time, on the stack: three taps of 24 channels.
const JOINED: usize = 72;

fn conv_i8(out: &mut [i32], channels: usize, window: Window<'_, i8>, weights: &[i8]) {
    let Window { elems, runs, run_len, run_stride, pixel_stride, .. } = window;
    let pixels = out.len() / channels.max(1);
    if pixels == 0 || !window.holds(pixels, channels, weights) {
        return;
    }
    if runs * run_len == 0 {
        return out.fill(0);
    }
    let mut joined = [0i32; JOINED];
    for p in (0..pixels).step_by(2) {
        // A last pixel alone is computed twice.
        let q = (p + 1).min(pixels - 1);
        let (mut run, mut at, mut done) = (0, 0, 0);
        while run < runs {
            let mut len = 0;
            while run < runs && len < JOINED {
                let some = (run_len - at).min(JOINED - len);
                let first = run * run_stride + at;
                // SAFETY: `holds` says that the patches of both pixels are there, of whole groups of four; `some` is not 0.
                unsafe {
                    let [x, y] = [p, q].map(|p| elems.as_ptr().add(p * pixel_stride + first));
                    join(joined.as_mut_ptr().add(len), x, y, some)
                };
                (len, at) = (len + some, at + some);
                if at == run_len {
                    (run, at) = (run + 1, 0);
                }
            }
            let two_pixels = if done == 0 { first_products } else { more_products };
            // SAFETY: `len` elements were joined, a multiple of four, at least one group; `holds` says that all rows up to a
            // multiple of four are there, which lie at a multiple of four; sums of pixel p and q lie below out.len(), because
            // both are below `pixels`.
            unsafe {
                two_pixels(
                    joined.as_ptr(),
                    joined.as_ptr().add(len),
                    weights.as_ptr().add(4 * done),
                    out.as_mut_ptr().add(p * channels),
                    out.as_mut_ptr().add(q * channels),
                    channels,
                    8 - 4 * len as isize,
                    (4 * runs * run_len) as isize - 4 * len as isize - 8,
                )
            };
            done += len;
        }
    }
}

/// `to[k] = x[k] + 2¹⁶·y[k]`, four at a time.
///
/// # Safety
/// `len` elements of each are there, a multiple of four and not 0.
#[unsafe(naked)]
unsafe extern "C" fn join(to: *mut i32, x: *const i8, y: *const i8, len: usize) {
    naked_asm!(
        "push {{r4-r6, lr}}",
        "movs r4, #0",
        "2:",
        ".rept 4",
        "ldrsb r5, [r1, r4]",
        "ldrsb r6, [r2, r4]",
        "lsls r6, r6, #16",
        "adds r5, r5, r6",
        "stm r0!, {{r5}}",
        "adds r4, r4, #1",
        ".endr",
        "cmp r4, r3",
        "bne 2b",
        "pop {{r4-r6, pc}}",
    )
}

/// A function with the sums of two pixels' joined products; with `add` they are added to what is there.
macro_rules! products {
    ($(#[$doc:meta])* $name:ident $(, $add:ident)?) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// `x` to `end` are whole groups of four; from `w`, a multiple of 4, on there are as many elements of each of
        /// `channels` rows, in blocks; `channels` sums can be changed from `out_x` and `out_y` on. `step` and `other_step` are
        /// what is added to w behind the first pair of rows of a block, and behind the second.
        #[unsafe(naked)]
        #[allow(clippy::too_many_arguments)] // they are the assembly's variables
        unsafe extern "C" fn $name(
            x: *const i32,
            end: *const i32,
            w: *const i8,
            out_x: *mut i32,
            out_y: *mut i32,
            channels: usize,
            step: isize,
            other_step: isize,
        ) {
            // r0 x, r1 w, r2 and r3 joined elements, r4 and r5 weights and products, r6 and r7 four weights of either row;
            // r8 the first row's sum of everything, r9 of the upper halves, r10 and r11 the second's; r12 end, lr 2^15.
            // The stack: 0 x, 4 out_x, 8 saved registers, then the arguments: 44 out_y, 48 channels, 52 step, 56 other_step.
            naked_asm!(
                "push {{r4-r7, lr}}",
                "mov r4, r8",
                "mov r5, r9",
                "mov r6, r10",
                "mov r7, r11",
                "push {{r4-r7}}",
                "mov r12, r1",
                "mov r1, r3",
                "push {{r0, r1}}",
                "mov r1, r2",
                "movs r7, #128",
                "lsls r7, r7, #8",
                "mov lr, r7",
                // Two rows.
                "2:",
                "ldr r0, [sp]",
                "movs r7, #0",
                "mov r8, r7",
                "mov r9, r7",
                "mov r10, r7",
                "mov r11, r7",
                // A group of four elements.
                "3:",
                "ldm r0!, {{r2, r3}}",
                "ldr r6, [r1]",
                "ldr r7, [r1, #4]",
                "sxtb r4, r6",
                "lsls r5, r6, #16",
                "asrs r5, r5, #24",
                "muls r4, r2, r4",
                "muls r5, r3, r5",
                "adds r4, r4, r5",
                "add r8, r4",
                "add r4, lr",
                "asrs r4, r4, #16",
                "add r9, r4",
                "sxtb r4, r7",
                "lsls r5, r7, #16",
                "asrs r5, r5, #24",
                "muls r4, r2, r4",
                "muls r5, r3, r5",
                "adds r4, r4, r5",
                "add r10, r4",
                "add r4, lr",
                "asrs r4, r4, #16",
                "add r11, r4",
                "ldm r0!, {{r2, r3}}",
                "lsls r4, r6, #8",
                "asrs r4, r4, #24",
                "asrs r5, r6, #24",
                "muls r4, r2, r4",
                "muls r5, r3, r5",
                "adds r4, r4, r5",
                "add r8, r4",
                "add r4, lr",
                "asrs r4, r4, #16",
                "add r9, r4",
                "lsls r4, r7, #8",
                "asrs r4, r4, #24",
                "asrs r5, r7, #24",
                "muls r4, r2, r4",
                "muls r5, r3, r5",
                "adds r4, r4, r5",
                "add r10, r4",
                "add r4, lr",
                "asrs r4, r4, #16",
                "add r11, r4",
                "adds r1, r1, #16",
                "cmp r0, r12",
                "bne 3b",
                // The first row is done. Both sums are read before either is written: the pixels may be the same.
                "ldr r2, [sp, #4]",
                "ldr r3, [sp, #44]",
                "mov r4, r9",
                "lsls r5, r4, #16",
                "mov r6, r8",
                "subs r6, r6, r5",
                products!(@add $($add)? "ldr r5, [r2]\nldr r7, [r3]\nadds r6, r6, r5\nadds r4, r4, r7"),
                "str r4, [r3]",
                "str r6, [r2]",
                "ldr r0, [sp, #48]",
                "subs r0, r0, #2",
                "str r0, [sp, #48]",
                "bmi 4f",
                // The second.
                "mov r4, r11",
                "lsls r5, r4, #16",
                "mov r6, r10",
                "subs r6, r6, r5",
                products!(@add $($add)? "ldr r5, [r2, #4]\nldr r7, [r3, #4]\nadds r6, r6, r5\nadds r4, r4, r7"),
                "str r4, [r3, #4]",
                "str r6, [r2, #4]",
                "4:",
                "adds r2, r2, #8",
                "adds r3, r3, #8",
                "str r2, [sp, #4]",
                "str r3, [sp, #44]",
                "ldr r4, [sp, #52]",
                "ldr r5, [sp, #56]",
                "adds r1, r1, r4",
                "str r5, [sp, #52]",
                "str r4, [sp, #56]",
                "cmp r0, #0",
                "bgt 2b",
                "add sp, #8",
                "pop {{r4-r7}}",
                "mov r8, r4",
                "mov r9, r5",
                "mov r10, r6",
                "mov r11, r7",
                "pop {{r4-r7, pc}}",
            )
        }
    };
    (@add add $text:literal) => { $text };
    (@add $text:literal) => { "" };
}

products! {
    /// The first elements of two patches.
    first_products
}
products! {
    /// What follows them.
    more_products, add
}
