//! Attention: a row against many, many rows' weighted sum, and softmax between.

use super::super::{Exponential, Strided};
use core::arch::naked_asm;

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
