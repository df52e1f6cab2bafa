//! The convolution: a register tile of two output channels by two pixels.
//!
//! A group of four elements takes six loads, which follow each other, four `SXTB16` and eight `SMLAD`: 18 instructions
//! and, by Arm's timings, 19 cycles for 16 multiply-adds. All fourteen registers are taken, so the end of a run is compared
//! with a word on the stack, and eight groups (32 channels) pass in between; the first pass of a run
//! begins in the middle. Two channels by three pixels would take 24 instructions for 24, but no more of them a cycle
//! (0.81 of 0.79), and leave two pixels of eight and of fourteen to a kernel of their own.

use super::super::Window;
use core::arch::naked_asm;

/// Groups that pass between two looks at the end of the run, and bytes of code of each.
const UNROLLED: usize = 8;
const GROUP_CODE_BYTES: usize = 72;

pub(super) fn conv_i16(out: &mut [i32], channels: usize, window: Window<'_, i16>, weights: &[i8]) {
    let Window { elems, runs, run_len, run_stride, pixel_stride, .. } = window;
    let (pixels, patch) = (out.len() / channels.max(1), runs * run_len);
    if pixels == 0 || !window.holds(pixels, channels, weights) {
        return;
    }
    if patch == 0 {
        return out.fill(0);
    }
    let skipped = (UNROLLED - run_len / 4 % UNROLLED) % UNROLLED;
    for p in (0..pixels).step_by(2) {
        // A last pixel alone is computed twice.
        let q = (p + 1).min(pixels - 1);
        // SAFETY: `holds` says that the pixels' patches are there, and all rows up to a multiple of four; sums of pixel p
        // and q lie below out.len(), because both are below `pixels`.
        unsafe {
            let x = elems.as_ptr().add(p * pixel_stride);
            two_pixels(
                x,
                elems.as_ptr().add(q * pixel_stride),
                weights.as_ptr(),
                out.as_mut_ptr().add(p * channels),
                out.as_mut_ptr().add(q * channels),
                channels,
                2 * (run_stride as isize - run_len as isize),
                2 * run_stride,
                x.add((runs - 1) * run_stride + run_len),
                4 * patch,
                x.add(run_len),
                skipped * GROUP_CODE_BYTES,
            );
        }
    }
}

/// Sums of all channels of two pixels. Lengths are bytes; `end` is that of the first run, `last` that of the last.
///
/// # Safety
/// From `x` and `y` on a patch each can be read, from `w` on the blocks of `channels` rows, and `channels` sums can be
/// written from `out_x` and `out_y` on. Runs are not empty, and `skipped_code` is what their first pass leaves out.
#[unsafe(naked)]
#[allow(clippy::too_many_arguments)] // they are the assembly's variables
unsafe extern "C" fn two_pixels(
    x: *const i16,
    y: *const i16,
    w: *const i8,
    out_x: *mut i32,
    out_y: *mut i32,
    channels: usize,
    run_gap: isize,
    run_stride: usize,
    last: *const i16,
    block: usize,
    end: *const i16,
    skipped_code: usize,
) {
    // r0 x, r1 y, r2 w; r3 to r6 two words of x and of y; r7 and r8 weights of two rows, r9 the same widened;
    // r10, r11 the first row's sums, r12, lr the second's.
    // The stack: 0 end of this run, 8 and 12 what is added to w behind this tile and the next, 16 x, 20 y, 24 w, 28 out_x,
    // 32 saved registers, then the arguments: 68 out_y, 72 channels, 76 run_gap, 80 run_stride, 84 last, 88 block, 92 end,
    // 96 skipped_code, then where a run begins in the code.
    naked_asm!(
        env!("MOTE_ARM_CPU"),
        "push {{r4-r11, lr}}",
        "push {{r0-r3}}",
        "sub sp, #16",
        "ldr r5, [sp, #88]",
        "ldr r6, [sp, #96]",
        "rsb r4, r5, #8",
        "mvn r5, #7",
        "strd r4, r5, [sp, #8]",
        "adr r3, 4f",
        "add r3, r6",
        "add r3, #1",
        "str r3, [sp, #96]",
        // A tile: all runs of two rows.
        "2:",
        "ldrd r0, r1, [sp, #16]",
        "ldrd r3, r9, [sp, #92]",
        "str r3, [sp]",
        "mov r10, #0",
        "mov r11, #0",
        "mov r12, #0",
        "mov lr, #0",
        "bx r9",
        // The next run.
        "3:",
        "ldrd r3, r4, [sp, #76]",
        "ldr r9, [sp, #96]",
        "ldr r5, [sp]",
        "add r0, r3",
        "add r1, r3",
        "add r5, r4",
        "str r5, [sp]",
        "bx r9",
        ".balign 4",
        "4:",
        ".rept {unrolled}",
        "ldr r7, [r2], #4",
        "ldr r8, [r2], #12",
        "ldr r3, [r0], #4",
        "ldr r4, [r0], #4",
        "ldr r5, [r1], #4",
        "ldr r6, [r1], #4",
        "sxtb16 r9, r7",
        "sxtb16 r7, r7, ror #8",
        "smlad r10, r9, r3, r10",
        "smlad r11, r9, r5, r11",
        "sxtb16 r9, r8",
        "sxtb16 r8, r8, ror #8",
        "smlad r12, r9, r3, r12",
        "smlad lr, r9, r5, lr",
        "smlad r10, r7, r4, r10",
        "smlad r11, r7, r6, r11",
        "smlad r12, r8, r4, r12",
        "smlad lr, r8, r6, lr",
        ".endr",
        "ldr r9, [sp]",
        "cmp r0, r9",
        "bne 4b",
        "ldr r9, [sp, #84]",
        "cmp r0, r9",
        "bne 3b",
        // The tile is done.
        "ldr r3, [sp, #28]",
        "ldrd r4, r5, [sp, #68]",
        "ldrd r6, r7, [sp, #8]",
        "subs r5, #2",
        "itt pl",
        "strpl lr, [r4, #4]",
        "strpl r12, [r3, #4]",
        "str r11, [r4], #8",
        "str r10, [r3], #8",
        "add r2, r6",
        "str r3, [sp, #28]",
        "strd r4, r5, [sp, #68]",
        "strd r7, r6, [sp, #8]",
        "bgt 2b",
        "add sp, #32",
        "pop {{r4-r11, pc}}",
        unrolled = const UNROLLED,
    )
}
