//! Windows, requantization, residuals and stores: elements in lanes, as many as fit eight registers, 32 at a time with 128 bits.
//!
//! Loops over pixels lie within those over their channels (in `norm.rs` too), so that a channel's constants are loaded once a call.
//! `VXRM` is set to round half up where `VSMUL` is the rounding rule.

use super::super::Channels;
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
