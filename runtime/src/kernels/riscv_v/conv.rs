//! The convolution: a tile of four output channels by two pixels, vectors along a run.
//!
//! A segment load of words takes a block of weights apart into its four rows. Two products of 8 bits fit 16 (a weight is never
//! −128), so a pair is `VWMUL` and `VWMACC`, and two `VWADD` bring it to 32 bits, its halves to the same lanes: then all
//! eight sums of a tile take sixteen registers, and a block is read for two pixels. 49 instructions for 2·VLEN multiply-adds,
//! 256 with 128 bits. One pixel at a time, the halves apart, is as many, but twice the segment loads, which are slow on many cores.
//!
//! The rest of a run comes first, into inputs that were zeroed: whatever the weights' registers hold behind it counts nothing.

use super::super::Window;
use core::arch::naked_asm;

/// Two pixels of 8 or 16 bits: input x, from there to the other pixel's, weights, sums of x and the other, channels, runs, bytes of
/// a run, bytes from a run to the next.
type TwoPixels = unsafe extern "C" fn(*const u8, isize, *const i8, *mut i32, *mut i32, usize, usize, usize, usize);

pub(super) fn conv_i8(out: &mut [i32], channels: usize, window: Window<'_, i8>, weights: &[i8]) {
    conv(out, channels, window, weights, two_pixels_i8)
}

pub(super) fn conv_i16(out: &mut [i32], channels: usize, window: Window<'_, i16>, weights: &[i8]) {
    conv(out, channels, window, weights, two_pixels_i16)
}

#[inline(always)]
fn conv<T>(out: &mut [i32], channels: usize, window: Window<'_, T>, weights: &[i8], two_pixels: TwoPixels) {
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
        let more = (pixels - 1 - p).min(1);
        // SAFETY: `holds` says that the pixels' patches are there, of whole groups of four, and all rows up to a multiple of four;
        // sums of both pixels lie below out.len(), because both are below `pixels`. Weights lie at a multiple of four.
        unsafe {
            let sums = out.as_mut_ptr().add(p * channels);
            two_pixels(
                elems.as_ptr().add(p * pixel_stride).cast(),
                (more * pixel_stride * size_of::<T>()) as isize,
                weights.as_ptr(),
                sums,
                sums.add(more * channels),
                channels,
                runs,
                run_len * size_of::<T>(),
                run_stride * size_of::<T>(),
            );
        }
    }
}

/// Sums of all channels of two pixels: what turns the bytes of a run into words of weights, words of weights at a time (as VTYPE), how
/// many bytes of inputs one is (as a shift), the inputs' registers, and what is done with as many.
macro_rules! two_pixels {
    ($name:ident, $to_words:literal, $words:literal, $bytes:literal, $inputs:literal, $($products:expr),*) => {
        /// # Safety
        /// From both pixels on a patch each can be read, from `w` on, which is a multiple of 4, the blocks of `channels` rows, and
        /// `channels` sums can be written, of which there is one. There is a run, not empty, of whole groups of four.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(
            x: *const u8,
            other: isize,
            w: *const i8,
            out_x: *mut i32,
            out_other: *mut i32,
            channels: usize,
            runs: usize,
            run_bytes: usize,
            run_stride: usize,
        ) {
            // a0 to a7 the arguments, t6 from a run's end to the next; t5 words of a run's first part, t4 of the others, s0 of this
            // one; t3 the run's end, t2 the inputs, t1 runs left.
            // v0 to v15 the sums, channel by channel, for both pixels; v16 on weights.
            naked_asm!(
                ".option push",
                ".option arch, +zve32x",
                "addi sp, sp, -16",
                "sw s0, 8(sp)",
                "sw s1, 12(sp)",
                "lw t6, 16(sp)",
                "sub t6, t6, a7",
                concat!("vsetvli t4, zero, ", $words, ", ta, ma"),
                concat!("srli t5, a7, ", $to_words),
                "addi t5, t5, -1",
                "addi t0, t4, -1",
                "and t5, t5, t0",
                "addi t5, t5, 1",
                // A tile: all runs of a block.
                "2:",
                "vsetvli t0, zero, e32, m8, ta, ma",
                "vmv.v.i v0, 0",
                "vmv.v.i v8, 0",
                "mv t2, a0",
                "mv t1, a6",
                // A run.
                "3:",
                "vsetvli t0, zero, e8, m4, ta, ma",
                concat!("vmv.v.i ", $inputs, ", 0"),
                "mv s0, t5",
                "add t3, t2, a7",
                "4:",
                concat!("vsetvli zero, s0, ", $words, ", ta, ma"),
                "vlseg4e32.v v16, (a2)",
                "slli t0, s0, 2",
                "add s1, t2, a1",
                $($products,)*
                concat!("slli t0, s0, ", $bytes),
                "add t2, t2, t0",
                "slli t0, s0, 4",
                "add a2, a2, t0",
                "mv s0, t4",
                "bne t2, t3, 4b",
                "add t2, t2, t6",
                "addi t1, t1, -1",
                "bnez t1, 3b",
                // The tile is done: one lane a sum, the four channels of a pixel into one register.
                "vsetvli t0, zero, e32, m2, ta, ma",
                "vmv.s.x v17, zero",
                "vredsum.vs v16, v0, v17",
                "vredsum.vs v20, v4, v17",
                "vredsum.vs v24, v8, v17",
                "vredsum.vs v28, v12, v17",
                "vredsum.vs v0, v2, v17",
                "vredsum.vs v4, v6, v17",
                "vredsum.vs v8, v10, v17",
                "vredsum.vs v12, v14, v17",
                "li t0, 4",
                "bgeu a5, t0, 5f",
                "mv t0, a5",
                "5:",
                "vsetvli zero, t0, e32, m4, ta, ma",
                "vslideup.vi v16, v20, 1",
                "vslideup.vi v0, v4, 1",
                "vslideup.vi v16, v24, 2",
                "vslideup.vi v0, v8, 2",
                "vslideup.vi v16, v28, 3",
                "vslideup.vi v0, v12, 3",
                "vse32.v v16, (a3)",
                "vse32.v v0, (a4)",
                "addi a3, a3, 16",
                "addi a4, a4, 16",
                "addi a5, a5, -4",
                "bgtz a5, 2b",
                "lw s0, 8(sp)",
                "lw s1, 12(sp)",
                "addi sp, sp, 16",
                "ret",
                ".option pop",
            )
        }
    };
}

/// A pair of products: its register, weights and inputs.
macro_rules! pair {
    ($at:literal, $w0:literal, $w1:literal, $x0:literal, $x1:literal) => {
        concat!("vwmul.vv ", $at, ", ", $w0, ", ", $x0, "\nvwmacc.vv ", $at, ", ", $w1, ", ", $x1)
    };
}

/// Both halves of a pair, and the sums that they are added to.
macro_rules! add {
    ($sums:literal, $low:literal, $high:literal) => {
        concat!("vwadd.wv ", $sums, ", ", $sums, ", ", $low, "\nvwadd.wv ", $sums, ", ", $sums, ", ", $high)
    };
}

/// A row of weights of 16 bits with both pixels.
macro_rules! row {
    ($at:literal, $other:literal, $w0:literal, $w1:literal) => {
        concat!(
            "vwmacc.vv ",
            $at,
            ", ",
            $w0,
            ", v28\nvwmacc.vv ",
            $other,
            ", ",
            $w0,
            ", v30\n",
            "vwmacc.vv ",
            $at,
            ", ",
            $w1,
            ", v29\nvwmacc.vv ",
            $other,
            ", ",
            $w1,
            ", v31",
        )
    };
}

two_pixels!(
    two_pixels_i8,
    "2",
    "e32, m2",
    "2",
    "v24",
    // v24 to v27 the inputs, v28 on pairs, and where weights were that are done with.
    "vsetvli zero, t0, e8, m2, tu, ma",
    "vle8.v v24, (t2)",
    "vle8.v v26, (s1)",
    "vsetvli t0, zero, e8, m1, ta, ma",
    pair!("v28", "v16", "v17", "v24", "v25"),
    pair!("v30", "v16", "v17", "v26", "v27"),
    pair!("v16", "v18", "v19", "v24", "v25"),
    "vsetvli t0, zero, e16, m1, ta, ma",
    add!("v0", "v28", "v29"),
    add!("v2", "v30", "v31"),
    add!("v4", "v16", "v17"),
    "vsetvli t0, zero, e8, m1, ta, ma",
    pair!("v28", "v18", "v19", "v26", "v27"),
    pair!("v30", "v20", "v21", "v24", "v25"),
    pair!("v16", "v20", "v21", "v26", "v27"),
    pair!("v18", "v22", "v23", "v24", "v25"),
    pair!("v20", "v22", "v23", "v26", "v27"),
    "vsetvli t0, zero, e16, m1, ta, ma",
    add!("v6", "v28", "v29"),
    add!("v8", "v30", "v31"),
    add!("v10", "v16", "v17"),
    add!("v12", "v18", "v19"),
    add!("v14", "v20", "v21")
);

two_pixels!(
    two_pixels_i16,
    "3",
    "e32, m1",
    "3",
    "v28",
    // v20 to v27 the weights, widened, v28 to v31 the inputs.
    "vsetvli zero, t0, e16, m2, tu, ma",
    "vle16.v v28, (t2)",
    "vle16.v v30, (s1)",
    "vsext.vf2 v20, v16",
    "vsext.vf2 v22, v17",
    "vsext.vf2 v24, v18",
    "vsext.vf2 v26, v19",
    "vsetvli t0, zero, e16, m1, ta, ma",
    row!("v0", "v2", "v20", "v21"),
    row!("v4", "v6", "v22", "v23"),
    row!("v8", "v10", "v24", "v25"),
    row!("v12", "v14", "v26", "v27")
);
