//! What is no convolution: elements in lanes, as many as fit eight registers, 32 at a time with 128 bits.
//!
//! Loops over pixels lie within those over their channels, so that a channel's constants are loaded once a call. `VXRM` is set to
//! round half up where `VSMUL` is the rounding rule.

use super::super::{Channels, Exponential, NormConstants, Strided};
use crate::format::op::Table;
use core::arch::naked_asm;

pub(super) fn copy(out: &mut [i8], elems: &[i8]) {
    // SAFETY: as many bytes of each are there as the shorter has.
    unsafe { copy_bytes(out.as_mut_ptr().cast(), elems.as_ptr().cast(), out.len().min(elems.len())) };
}

pub(super) fn load(out: &mut [i16], elems: &[i16]) {
    // SAFETY: as above.
    unsafe { copy_bytes(out.as_mut_ptr().cast(), elems.as_ptr().cast(), 2 * out.len().min(elems.len())) };
}

/// # Safety
/// `len` bytes of each are there.
#[unsafe(naked)]
unsafe extern "C" fn copy_bytes(out: *mut u8, from: *const u8, len: usize) {
    naked_asm!(
        ".option push",
        ".option arch, +zve32x",
        "2:",
        "vsetvli t0, a2, e8, m8, ta, ma",
        "vle8.v v0, (a1)",
        "vse8.v v0, (a0)",
        "add a1, a1, t0",
        "add a0, a0, t0",
        "sub a2, a2, t0",
        "bnez a2, 2b",
        "ret",
        ".option pop",
    )
}

pub(super) fn scale(acc: &mut [i32], channels: Channels<'_>) {
    let Channels { bias, multiplier, shift } = channels;
    let len = bias.len().min(multiplier.len());
    let pixels = acc.len() / bias.len().max(1);
    if pixels == 0 || len == 0 {
        return;
    }
    // SAFETY: there is a pixel, and a channel; `len` constants of either kind are there, and as many sums of each pixel.
    unsafe {
        scale_pixels(
            acc.as_mut_ptr(),
            pixels,
            bias.as_ptr(),
            multiplier.as_ptr(),
            len,
            4 * bias.len(),
            shift,
            i32::MIN >> (shift & 31),
        )
    };
}

/// # Safety
/// `len` constants of either kind are there, and as many sums of each of `pixels`, `stride` bytes apart; neither is 0. `lowest` is
/// the least that can be shifted.
#[unsafe(naked)]
#[allow(clippy::too_many_arguments)] // they are the assembly's variables
unsafe extern "C" fn scale_pixels(
    acc: *mut i32,
    pixels: usize,
    bias: *const i32,
    multiplier: *const i32,
    len: usize,
    stride: usize,
    shift: u32,
    lowest: i32,
) {
    naked_asm!(
        ".option push",
        ".option arch, +zve32x",
        "csrwi vxrm, 0",
        "not t6, a7",
        "2:",
        "vsetvli t2, a4, e32, m8, ta, ma",
        "vle32.v v8, (a2)",
        "vle32.v v16, (a3)",
        "mv t0, a0",
        "mv t1, a1",
        "3:",
        "vle32.v v0, (t0)",
        "vadd.vv v0, v0, v8",
        "beqz a6, 4f",
        "vmax.vx v0, v0, a7",
        "vmin.vx v0, v0, t6",
        "vsll.vx v0, v0, a6",
        "4:",
        "vsmul.vv v0, v0, v16",
        "vse32.v v0, (t0)",
        "add t0, t0, a5",
        "addi t1, t1, -1",
        "bnez t1, 3b",
        "sub a4, a4, t2",
        "slli t2, t2, 2",
        "add a0, a0, t2",
        "add a2, a2, t2",
        "add a3, a3, t2",
        "bnez a4, 2b",
        "ret",
        ".option pop",
    )
}

/// A residual of 8 or 16 bits: the load, how it is widened, the shift, and an element's bytes (as a shift).
macro_rules! add {
    ($name:ident, $asm:ident, $elem:ty, $load:literal, $widen:literal, $shift:literal, $bytes:literal) => {
        pub(super) fn $name(acc: &mut [i32], elems: &[$elem], zero_point: i32, multiplier: i32) {
            // SAFETY: as many elements of each are there as the shorter has.
            unsafe { $asm(acc.as_mut_ptr(), elems.as_ptr(), zero_point, multiplier, acc.len().min(elems.len())) };
        }

        /// # Safety
        /// `len` elements of each are there.
        #[unsafe(naked)]
        unsafe extern "C" fn $asm(acc: *mut i32, elems: *const $elem, zero_point: i32, multiplier: i32, len: usize) {
            naked_asm!(
                ".option push",
                ".option arch, +zve32x",
                "csrwi vxrm, 0",
                "2:",
                "vsetvli t0, a4, e32, m8, ta, ma",
                concat!($load, " v16, (a1)"),
                concat!($widen, " v8, v16"),
                "vsub.vx v8, v8, a2",
                concat!("vsll.vi v8, v8, ", $shift),
                "vsmul.vx v8, v8, a3",
                "vle32.v v0, (a0)",
                "vadd.vv v0, v0, v8",
                "vse32.v v0, (a0)",
                concat!("slli t1, t0, ", $bytes),
                "add a1, a1, t1",
                "slli t1, t0, 2",
                "add a0, a0, t1",
                "sub a4, a4, t0",
                "bnez a4, 2b",
                "ret",
                ".option pop",
            )
        }
    };
}

add!(add_i8, add_elems_i8, i8, "vle8.v", "vsext.vf4", "16", "0");
add!(add_i16, add_elems_i16, i16, "vle16.v", "vsext.vf2", "8", "1");

pub(super) fn store_i8(out: &mut [i8], acc: &[i32], zero_point: i32) {
    // SAFETY: as many elements of each are there as the shorter has.
    unsafe { store_elems(out.as_mut_ptr(), acc.as_ptr(), zero_point, out.len().min(acc.len())) };
}

/// # Safety
/// `len` elements of each are there.
#[unsafe(naked)]
unsafe extern "C" fn store_elems(out: *mut i8, acc: *const i32, zero_point: i32, len: usize) {
    naked_asm!(
        ".option push",
        ".option arch, +zve32x",
        // Down, because the half is added before, where it may wrap.
        "csrwi vxrm, 2",
        "2:",
        "vsetvli t0, a3, e32, m8, ta, ma",
        "vle32.v v0, (a1)",
        "vadd.vi v0, v0, 8",
        "vsetvli zero, zero, e16, m4, ta, ma",
        "vnclip.wi v8, v0, 4",
        "vsadd.vx v8, v8, a2",
        "vsetvli zero, zero, e8, m2, ta, ma",
        "vnclip.wi v0, v8, 0",
        "vse8.v v0, (a0)",
        "add a0, a0, t0",
        "sub a3, a3, t0",
        "slli t0, t0, 2",
        "add a1, a1, t0",
        "bnez a3, 2b",
        "ret",
        ".option pop",
    )
}

/// What a norm's assembly reads besides its arguments.
#[repr(C)]
struct Norm {
    pixels: usize,
    /// Bytes from a pixel to the next.
    src_stride: usize,
    out_stride: usize,
    zero_point: i32,
    /// The middle of the table, or null.
    middle: *const i16,
    out_multiplier: i32,
    out_zero_point: i32,
}

/// A norm of 8 or 16 bits: the load, how it is widened, the shift, and an element's bytes (as a shift).
macro_rules! norm {
    ($name:ident, $asm:ident, $elem:ty, $load:literal, $widen:literal, $shift:literal, $bytes:literal) => {
        pub(super) fn $name(out: &mut [i8], out_c: usize, src: &[$elem], src_c: usize, k: NormConstants<'_>) {
            let middle = match k.table {
                [] => core::ptr::null(),
                table if table.len() == Table::LEN => table.as_ptr().wrapping_add(Table::LEN / 2),
                _ => return,
            };
            let len = src_c.min(out_c).min(k.multiplier.len()).min(k.offset.len());
            // The last pixel's output may end with its last channel.
            let pixels = (out.len() + out_c.saturating_sub(len)) / out_c.max(1);
            let norm = Norm {
                pixels: pixels.min(src.len() / src_c.max(1)),
                src_stride: src_c * size_of::<$elem>(),
                out_stride: out_c,
                zero_point: k.zero_point,
                middle,
                out_multiplier: k.out_multiplier,
                out_zero_point: k.out_zero_point,
            };
            if norm.pixels > 0 && len > 0 {
                // SAFETY: there is a pixel, and a channel; `len` elements of every pixel are there, and constants; the table is whole.
                unsafe { $asm(out.as_mut_ptr(), src.as_ptr(), k.multiplier.as_ptr(), k.offset.as_ptr(), len, &norm) };
            }
        }

        /// # Safety
        /// `len` constants of either kind are there, and as many elements of each pixel, which there are; neither is 0. The table,
        /// if any, has 512 entries on either side of its middle.
        #[unsafe(naked)]
        unsafe extern "C" fn $asm(
            out: *mut i8,
            src: *const $elem,
            multiplier: *const i32,
            offset: *const i32,
            len: usize,
            norm: &Norm,
        ) {
            // v8 multipliers, v16 offsets. An offset into the table is added modulo 2³².
            naked_asm!(
                ".option push",
                ".option arch, +zve32x",
                "csrwi vxrm, 0",
                "addi sp, sp, -16",
                "sw s0, 8(sp)",
                "sw s1, 12(sp)",
                "lw a6, 12(a5)",
                "lw a7, 16(a5)",
                "lw t3, 20(a5)",
                "lw t4, 24(a5)",
                "lw t5, 4(a5)",
                "lw t6, 8(a5)",
                "li s0, 511",
                "not s1, s0",
                "2:",
                "vsetvli zero, a4, e32, m8, ta, ma",
                "vle32.v v8, (a2)",
                "vle32.v v16, (a3)",
                "mv t0, a0",
                "mv t1, a1",
                "lw t2, 0(a5)",
                "3:",
                concat!($load, " v24, (t1)"),
                concat!($widen, " v0, v24"),
                "vsub.vx v0, v0, a6",
                concat!("vsll.vi v0, v0, ", $shift),
                "vsmul.vv v0, v0, v8",
                "vsadd.vv v0, v0, v16",
                "vsra.vi v0, v0, 8",
                "beqz a7, 4f",
                "vmin.vx v0, v0, s0",
                "vmax.vx v0, v0, s1",
                "vsll.vi v0, v0, 1",
                "vsetvli zero, zero, e16, m4, ta, ma",
                "vluxei32.v v24, (a7), v0",
                "vsetvli zero, zero, e32, m8, ta, ma",
                "vsext.vf2 v0, v24",
                "vsmul.vx v0, v0, t3",
                "4:",
                "vadd.vx v0, v0, t4",
                "vsetvli zero, zero, e16, m4, ta, ma",
                "vnclip.wi v24, v0, 0",
                "vsetvli zero, zero, e8, m2, ta, ma",
                "vnclip.wi v0, v24, 0",
                "vse8.v v0, (t0)",
                "vsetvli zero, zero, e32, m8, ta, ma",
                "add t1, t1, t5",
                "add t0, t0, t6",
                "addi t2, t2, -1",
                "bnez t2, 3b",
                "vsetvli t0, a4, e32, m8, ta, ma",
                "sub a4, a4, t0",
                "add a0, a0, t0",
                concat!("slli t1, t0, ", $bytes),
                "add a1, a1, t1",
                "slli t1, t0, 2",
                "add a2, a2, t1",
                "add a3, a3, t1",
                "bnez a4, 2b",
                "lw s0, 8(sp)",
                "lw s1, 12(sp)",
                "addi sp, sp, 16",
                "ret",
                ".option pop",
            )
        }
    };
}

norm!(norm_i8, norm_pixels_i8, i8, "vle8.v", "vsext.vf4", "16", "0");
norm!(norm_i16, norm_pixels_i16, i16, "vle16.v", "vsext.vf2", "8", "1");

pub(super) fn sums_i8(row: &[i8], channels: usize, first: usize, group_c: usize) -> (i64, u64) {
    let mut total = (0i64, 0u64);
    if group_c == 0 || first.saturating_add(group_c) > channels {
        return total;
    }
    // Sums of this many elements fit 32 bits: 128²·2¹⁶ = 2³⁰.
    let pixels = ((1 << 16) / group_c).max(1);
    for some in row.chunks(pixels.saturating_mul(channels)) {
        let pixels = some.len() / channels;
        // Of channels and pixels the more are lanes.
        let (outer, inner) =
            if group_c < pixels { ((group_c, 1), (pixels, channels)) } else { ((pixels, channels), (group_c, 1)) };
        let mut sums = [0i32, 0];
        if pixels > 0 {
            // SAFETY: a channel's place within the group and a pixel, either way, are those of an element; there are some of both.
            unsafe { sum_elems(some.as_ptr().add(first), outer.0, outer.1, inner.0, inner.1, &mut sums) };
        }
        total = (total.0 + sums[0] as i64, total.1 + sums[1] as u64);
    }
    total
}

/// Sum and sum of squares.
///
/// # Safety
/// There are `outer` times `inner` elements with these strides, and neither is 0.
#[unsafe(naked)]
unsafe extern "C" fn sum_elems(
    elems: *const i8,
    outer: usize,
    outer_stride: usize,
    inner: usize,
    inner_stride: usize,
    sums: &mut [i32; 2],
) {
    naked_asm!(
        ".option push",
        ".option arch, +m, +zve32x",
        "vsetvli t0, zero, e32, m8, ta, ma",
        "vmv.v.i v8, 0",
        "vmv.v.i v16, 0",
        "2:",
        "mv t0, a0",
        "mv t1, a3",
        "3:",
        "vsetvli t2, t1, e16, m4, tu, ma",
        "vlse8.v v0, (t0), a4",
        "vsext.vf2 v4, v0",
        "vwadd.wv v8, v8, v4",
        "vwmacc.vv v16, v4, v4",
        "mul t3, t2, a4",
        "add t0, t0, t3",
        "sub t1, t1, t2",
        "bnez t1, 3b",
        "add a0, a0, a2",
        "addi a1, a1, -1",
        "bnez a1, 2b",
        "vsetvli t0, zero, e32, m8, ta, ma",
        "vmv.s.x v0, zero",
        "vredsum.vs v8, v8, v0",
        "vredsum.vs v16, v16, v0",
        "vmv.x.s t0, v8",
        "vmv.x.s t1, v16",
        "sw t0, 0(a5)",
        "sw t1, 4(a5)",
        "ret",
        ".option pop",
    )
}

pub(super) fn dot_i8(out: &mut [i32], row: &[i8], rows: Strided<'_, i8>) {
    let last = out.len().saturating_sub(1).saturating_mul(rows.stride);
    if last.saturating_add(row.len()) > rows.elems.len() {
        return;
    }
    // SAFETY: the last row's last element is there.
    unsafe { combine_i8(out.as_mut_ptr(), out.len(), row.as_ptr(), row.len(), rows.elems.as_ptr(), rows.stride, 1) };
}

pub(super) fn mix_i8(out: &mut [i32], weights: &[i32], rows: Strided<'_, i8>) {
    let last = weights.len().saturating_sub(1).saturating_mul(rows.stride);
    if last.saturating_add(out.len()) > rows.elems.len() {
        return;
    }
    let (len, stride) = (weights.len(), rows.stride);
    // SAFETY: as above.
    unsafe { combine_i32(out.as_mut_ptr(), out.len(), weights.as_ptr(), len, rows.elems.as_ptr(), 1, stride) };
}

/// `out[i] = Σⱼ factors[j]·elems[i·lane_stride + j·stride]`, factors of 16 bits or less: their load, and bytes.
macro_rules! combine {
    ($name:ident, $factor:ty, $load:literal, $bytes:literal) => {
        /// # Safety
        /// So many are there.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(
            out: *mut i32,
            len: usize,
            factors: *const $factor,
            count: usize,
            elems: *const i8,
            lane_stride: usize,
            stride: usize,
        ) {
            naked_asm!(
                ".option push",
                ".option arch, +m, +zve32x",
                "beqz a1, 5f",
                "2:",
                "vsetvli t0, a1, e32, m8, ta, ma",
                "vmv.v.i v8, 0",
                "vsetvli t0, a1, e16, m4, ta, ma",
                "mv t1, a2",
                "mv t2, a3",
                "mv t3, a4",
                "beqz a3, 4f",
                "3:",
                concat!($load, " t4, 0(t1)"),
                "vlse8.v v0, (t3), a5",
                "vsext.vf2 v4, v0",
                "vwmacc.vx v8, t4, v4",
                concat!("addi t1, t1, ", $bytes),
                "add t3, t3, a6",
                "addi t2, t2, -1",
                "bnez t2, 3b",
                "4:",
                "vsetvli t0, a1, e32, m8, ta, ma",
                "vse32.v v8, (a0)",
                "sub a1, a1, t0",
                "mul t1, t0, a5",
                "add a4, a4, t1",
                "slli t0, t0, 2",
                "add a0, a0, t0",
                "bnez a1, 2b",
                "5:",
                "ret",
                ".option pop",
            )
        }
    };
}

combine!(combine_i8, i8, "lb", "1");
combine!(combine_i32, i32, "lw", "4");

pub(super) fn softmax(scores: &mut [i32], k: Exponential<'_>) -> i32 {
    let (Ok(coarse), Ok(fine)) = (<&[u16; 64]>::try_from(k.coarse), <&[u16; 64]>::try_from(k.fine)) else { return 0 };
    // SAFETY: as many scores are there; both tables are whole.
    unsafe {
        softmax_row(
            scores.as_mut_ptr(),
            scores.len(),
            coarse,
            fine,
            k.shift,
            k.multiplier,
            k.right,
            i32::MAX >> (k.shift & 31),
        )
    }
}

/// Scores to weights; returns their sum.
///
/// # Safety
/// `len` scores are there. `highest` is the most that can be shifted.
#[unsafe(naked)]
#[allow(clippy::too_many_arguments)] // they are the assembly's variables
unsafe extern "C" fn softmax_row(
    scores: *mut i32,
    len: usize,
    coarse: &[u16; 64],
    fine: &[u16; 64],
    shift: u32,
    multiplier: i32,
    right: u32,
    highest: i32,
) -> i32 {
    // v8 in every lane the largest score; v16 the largest, then the sum.
    naked_asm!(
        ".option push",
        ".option arch, +zve32x",
        "csrwi vxrm, 0",
        "lui t0, 0x80000",
        "vsetvli t1, zero, e32, m8, ta, ma",
        "vmv.s.x v16, t0",
        "mv t1, a0",
        "mv t2, a1",
        "2:",
        "vsetvli t0, t2, e32, m8, ta, ma",
        "vle32.v v0, (t1)",
        "vredmax.vs v16, v0, v16",
        "sub t2, t2, t0",
        "slli t0, t0, 2",
        "add t1, t1, t0",
        "bnez t2, 2b",
        "vmv.x.s t0, v16",
        "vsetvli t1, zero, e32, m8, ta, ma",
        "vmv.v.x v8, t0",
        "vmv.s.x v16, zero",
        "li t3, 4095",
        "li t4, 126",
        "3:",
        "vsetvli t0, a1, e32, m8, ta, ma",
        "vle32.v v0, (a0)",
        "vssub.vv v0, v8, v0",
        "vmin.vx v0, v0, a7",
        "vsll.vx v0, v0, a4",
        "vsmul.vx v0, v0, a5",
        "vmax.vx v0, v0, zero",
        "vmin.vx v0, v0, t3",
        // Bytes from the begin of either table.
        "vsrl.vi v24, v0, 5",
        "vsll.vi v0, v0, 1",
        "vand.vx v24, v24, t4",
        "vand.vx v0, v0, t4",
        "vsetvli zero, zero, e16, m4, ta, ma",
        "vluxei32.v v20, (a2), v24",
        "vluxei32.v v24, (a3), v0",
        "vwmulu.vv v0, v20, v24",
        "vsetvli zero, zero, e32, m8, ta, ma",
        "vsrl.vx v0, v0, a6",
        "vredsum.vs v16, v0, v16",
        "vse32.v v0, (a0)",
        "sub a1, a1, t0",
        "slli t0, t0, 2",
        "add a0, a0, t0",
        "bnez a1, 3b",
        "vmv.x.s a0, v16",
        "ret",
        ".option pop",
    )
}
