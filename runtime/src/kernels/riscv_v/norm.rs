//! Group norm: statistics, and their application through the table, whose entries a gathering load takes.

use super::super::NormConstants;
use crate::format::op::Table;
use core::arch::naked_asm;

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

/// Σq and Σq² of some groups of channels.
pub(super) fn sums_i8(totals: &mut [[u64; 2]], row: &[i8], channels: usize, mut first: usize, group_c: usize) {
    let channels = channels.max(1);
    // Sums of this many elements fit 32 bits: 128²·2¹⁶ = 2³⁰.
    let pixels = ((1 << 16) / group_c.max(1)).max(1);
    for [total, total_of_squares] in totals {
        if group_c == 0 || first.saturating_add(group_c) > channels {
            return;
        }
        for some in row.chunks(pixels.saturating_mul(channels).max(1)) {
            let pixels = some.len() / channels;
            // Of channels and pixels the more are lanes.
            let (outer, inner) =
                if group_c < pixels { ((group_c, 1), (pixels, channels)) } else { ((pixels, channels), (group_c, 1)) };
            let mut sums = [0i32, 0];
            if pixels > 0 {
                // SAFETY: a channel's place within the group and a pixel, either way, are those of an element; there are some of both.
                unsafe { sum_elems(some.as_ptr().add(first), outer.0, outer.1, inner.0, inner.1, &mut sums) };
            }
            *total = total.wrapping_add(sums[0] as i64 as u64);
            *total_of_squares = total_of_squares.wrapping_add(sums[1] as u64);
        }
        first += group_c;
    }
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
