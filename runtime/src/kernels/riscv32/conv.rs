//! The convolution: a register tile of four output channels by four pixels, two pixels a multiplication.
//!
//! As on the Cortex-M0+ (`arm_v6m.rs`, where the arithmetic is explained), x = x₀ + 2¹⁶·x₁ of neighbouring pixels: two products
//! x·w are summed, and the upper half of that, rounded, is the second pixel's sum. Seven instructions for four multiply-adds, of
//! which two are multiplications, where four of either would be eight: on a core whose multiplier takes several cycles this
//! counts twice. With loads 68 instructions for 32 multiply-adds; one pixel at a time takes 80.

use super::super::Window;
use core::arch::{asm, naked_asm};

/// Elements of four patches that are joined at a time, on the stack: 72 would take 0.1 instructions a multiply-add less, but
/// 288 bytes of stack more than 1.5 KB allow.
const JOINED: usize = 36;

/// Two pairs of pixels.
type Joined = [i32; 2];

pub(super) fn conv_i8(out: &mut [i32], channels: usize, window: Window<'_, i8>, weights: &[i8]) {
    let Window { elems, runs, run_len, run_stride, pixel_stride, .. } = window;
    let pixels = out.len() / channels.max(1);
    if pixels == 0 || !window.holds(pixels, channels, weights) {
        return;
    }
    // Products are added to what is there.
    out.fill(0);
    let patch = runs * run_len;
    let mut joined = [[0; 2]; JOINED];
    for p in (0..pixels).step_by(4) {
        // Where fewer than four are left, the last is computed several times.
        let four = [p, p + 1, p + 2, p + 3].map(|p| p.min(pixels - 1));
        let (mut run, mut at, mut done) = (0, 0, 0);
        while done < patch {
            let mut len = 0;
            while run < runs && len < JOINED {
                let some = (run_len - at).min(JOINED - len);
                let first = run * run_stride + at;
                // SAFETY: `holds` says that the patches of all four pixels are there, of whole groups of four; `some` is not 0, and
                // no more than there is room for.
                unsafe {
                    join(joined.as_mut_ptr().add(len), four.map(|p| elems.as_ptr().add(p * pixel_stride + first)), some)
                };
                (len, at) = (len + some, at + some);
                if at == run_len {
                    (run, at) = (run + 1, 0);
                }
            }
            // SAFETY: `len` elements were joined, a multiple of four, at least one group; `holds` says that all rows up to a
            // multiple of four are there; sums of all four pixels lie below out.len(), because they are below `pixels`.
            unsafe {
                let mut sums = four.map(|p| out.as_mut_ptr().add(p * channels));
                four_pixels(
                    joined.as_ptr(),
                    joined.as_ptr().add(len),
                    weights.as_ptr().add(4 * done),
                    &mut sums,
                    channels,
                    4 * (patch - len),
                )
            };
            done += len;
        }
    }
}

/// `to[k] = [x₀[k] + 2¹⁶·x₁[k], x₂[k] + 2¹⁶·x₃[k]]`, four at a time.
///
/// # Safety
/// `len` elements of each are there, a multiple of four and not 0.
#[inline(always)]
unsafe fn join(to: *mut Joined, [x0, x1, x2, x3]: [*const i8; 4], len: usize) {
    macro_rules! one {
        ($k:literal) => {
            concat!(
                "lb {a}, ",
                $k,
                "({x0})\n",
                "lb {b}, ",
                $k,
                "({x1})\n",
                "lb {c}, ",
                $k,
                "({x2})\n",
                "lb {d}, ",
                $k,
                "({x3})\n",
                "slli {b}, {b}, 16\n",
                "slli {d}, {d}, 16\n",
                "add {a}, {a}, {b}\n",
                "add {c}, {c}, {d}\n",
                "sw {a}, 8*",
                $k,
                "({to})\n",
                "sw {c}, 8*",
                $k,
                "+4({to})",
            )
        };
    }
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "2:",
            one!(0),
            one!(1),
            one!(2),
            one!(3),
            "addi {x0}, {x0}, 4",
            "addi {x1}, {x1}, 4",
            "addi {x2}, {x2}, 4",
            "addi {x3}, {x3}, 4",
            "addi {to}, {to}, 32",
            "bne {x0}, {end}, 2b",
            to = inout(reg) to => _,
            end = in(reg) x0.add(len),
            x0 = inout(reg) x0 => _,
            x1 = inout(reg) x1 => _,
            x2 = inout(reg) x2 => _,
            x3 = inout(reg) x3 => _,
            a = out(reg) _,
            b = out(reg) _,
            c = out(reg) _,
            d = out(reg) _,
            options(nostack),
        )
    }
}

/// The products of two elements of four pixels with those of a row: where its weights begin, the first element, and the sums of everything and of the
/// upper halves, for either pair of pixels.
macro_rules! row {
    ($row:literal, $k:literal, $all0:literal, $high0:literal, $all1:literal, $high1:literal) => {
        concat!(
            "lb t0, ",
            $row,
            "+",
            $k,
            "(a2)\n",
            "lb t1, ",
            $row,
            "+",
            $k,
            "+1(a2)\n",
            "mul a4, t2, t0\n",
            "mul a5, a6, t1\n",
            "mul t0, ra, t0\n",
            "mul t1, a7, t1\n",
            "add a4, a4, a5\n",
            "add t0, t0, t1\n",
            "add ",
            $all0,
            ", ",
            $all0,
            ", a4\n",
            "add ",
            $all1,
            ", ",
            $all1,
            ", t0\n",
            "add a4, a4, a3\n",
            "add a5, t0, a3\n",
            "srai a4, a4, 16\n",
            "srai a5, a5, 16\n",
            "add ",
            $high0,
            ", ",
            $high0,
            ", a4\n",
            "add ",
            $high1,
            ", ",
            $high1,
            ", a5",
        )
    };
}

/// Two elements of four rows: their place among the joined ones, and among a row's weights.
macro_rules! two {
    ($x:literal, $k:literal) => {
        concat!(
            "lw t2, ",
            $x,
            "(a0)\n",
            "lw ra, ",
            $x,
            "+4(a0)\n",
            "lw a6, ",
            $x,
            "+8(a0)\n",
            "lw a7, ",
            $x,
            "+12(a0)\n",
            row!(0, $k, "s0", "s8", "s1", "s9"),
            "\n",
            row!(4, $k, "s2", "s10", "s3", "s11"),
            "\n",
            row!(8, $k, "s4", "t3", "s5", "t4"),
            "\n",
            row!(12, $k, "s6", "t5", "s7", "t6"),
        )
    };
}

/// Adds a channel's sums to those of all four pixels, which are read before one is written: they may be the same.
macro_rules! add_sums {
    ($at:literal, $all0:literal, $high0:literal, $all1:literal, $high1:literal) => {
        concat!(
            "slli t0, ",
            $high0,
            ", 16\n",
            "slli t1, ",
            $high1,
            ", 16\n",
            "sub ",
            $all0,
            ", ",
            $all0,
            ", t0\n",
            "sub ",
            $all1,
            ", ",
            $all1,
            ", t1\n",
            "lw t0, ",
            $at,
            "(a4)\n",
            "lw t1, ",
            $at,
            "(a5)\n",
            "lw t2, ",
            $at,
            "(a6)\n",
            "lw ra, ",
            $at,
            "(a7)\n",
            "add ",
            $all0,
            ", ",
            $all0,
            ", t0\n",
            "add ",
            $high0,
            ", ",
            $high0,
            ", t1\n",
            "add ",
            $all1,
            ", ",
            $all1,
            ", t2\n",
            "add ",
            $high1,
            ", ",
            $high1,
            ", ra\n",
            "sw ",
            $all0,
            ", ",
            $at,
            "(a4)\n",
            "sw ",
            $high0,
            ", ",
            $at,
            "(a5)\n",
            "sw ",
            $all1,
            ", ",
            $at,
            "(a6)\n",
            "sw ",
            $high1,
            ", ",
            $at,
            "(a7)",
        )
    };
}

/// Adds products of some elements of four pixels to the sums of all channels.
///
/// # Safety
/// `x` to `end` are whole groups of four, at least one; from `w` on there are as many elements of each of `channels` rows, in blocks;
/// from each of `sums` on `channels` can be changed. `step` is what is added to w behind a block.
#[unsafe(naked)]
unsafe extern "C" fn four_pixels(
    x: *const Joined,
    end: *const Joined,
    w: *const i8,
    sums: &mut [*mut i32; 4],
    channels: usize,
    step: usize,
) {
    // a0 x, a1 end, a2 w, a3 2¹⁵; t2 and ra an element of either pair of pixels, a6 and a7 the next; t0 and t1 weights, a4 and a5
    // products. s0 to s7 sums of everything, s8 to s11 and t3 to t6 of the upper halves, row by row, for both pairs.
    // The stack: 0 x, 4 sums, 8 channels, 12 step, 16 end, then saved registers.
    naked_asm!(
        // At link time the assembler has forgotten what the target has.
        ".option push",
        ".option arch, +m",
        "addi sp, sp, -80",
        "sw ra, 20(sp)",
        "sw s0, 24(sp)",
        "sw s1, 28(sp)",
        "sw s2, 32(sp)",
        "sw s3, 36(sp)",
        "sw s4, 40(sp)",
        "sw s5, 44(sp)",
        "sw s6, 48(sp)",
        "sw s7, 52(sp)",
        "sw s8, 56(sp)",
        "sw s9, 60(sp)",
        "sw s10, 64(sp)",
        "sw s11, 68(sp)",
        "sw a0, 0(sp)",
        "sw a3, 4(sp)",
        "sw a4, 8(sp)",
        "sw a5, 12(sp)",
        "sw a1, 16(sp)",
        "li a3, 32768",
        // Four rows.
        "2:",
        "li s0, 0",
        "li s1, 0",
        "li s2, 0",
        "li s3, 0",
        "li s4, 0",
        "li s5, 0",
        "li s6, 0",
        "li s7, 0",
        "li s8, 0",
        "li s9, 0",
        "li s10, 0",
        "li s11, 0",
        "li t3, 0",
        "li t4, 0",
        "li t5, 0",
        "li t6, 0",
        // A group of four elements.
        "3:",
        two!(0, 0),
        two!(16, 2),
        "addi a0, a0, 32",
        "addi a2, a2, 16",
        "bne a0, a1, 3b",
        // The block is done.
        "lw a1, 4(sp)",
        "lw a4, 0(a1)",
        "lw a5, 4(a1)",
        "lw a6, 8(a1)",
        "lw a7, 12(a1)",
        "lw a0, 8(sp)",
        add_sums!(0, "s0", "s8", "s1", "s9"),
        "addi a0, a0, -1",
        "beqz a0, 4f",
        add_sums!(4, "s2", "s10", "s3", "s11"),
        "addi a0, a0, -1",
        "beqz a0, 4f",
        add_sums!(8, "s4", "t3", "s5", "t4"),
        "addi a0, a0, -1",
        "beqz a0, 4f",
        add_sums!(12, "s6", "t5", "s7", "t6"),
        "addi a0, a0, -1",
        "beqz a0, 4f",
        "addi a4, a4, 16",
        "addi a5, a5, 16",
        "addi a6, a6, 16",
        "addi a7, a7, 16",
        "sw a4, 0(a1)",
        "sw a5, 4(a1)",
        "sw a6, 8(a1)",
        "sw a7, 12(a1)",
        "sw a0, 8(sp)",
        "lw t0, 12(sp)",
        "lw a0, 0(sp)",
        "lw a1, 16(sp)",
        "add a2, a2, t0",
        "j 2b",
        "4:",
        "lw ra, 20(sp)",
        "lw s0, 24(sp)",
        "lw s1, 28(sp)",
        "lw s2, 32(sp)",
        "lw s3, 36(sp)",
        "lw s4, 40(sp)",
        "lw s5, 44(sp)",
        "lw s6, 48(sp)",
        "lw s7, 52(sp)",
        "lw s8, 56(sp)",
        "lw s9, 60(sp)",
        "lw s10, 64(sp)",
        "lw s11, 68(sp)",
        "addi sp, sp, 80",
        "ret",
        ".option pop",
    )
}
