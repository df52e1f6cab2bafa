//! Cortex-M4, M7 and M33: the DSP extension of Armv7E-M and Armv8-M, two multiply-adds of 16 bits an instruction (`SMLAD`).
//!
//! `SXTB16` widens bytes 0 and 2 of a word, rotated by eight bits bytes 1 and 3. So windows are widened as they are loaded,
//! in the order 0, 2, 1, 3 within a group, and weights, as they lie in flash, by two instructions a word.
//!
//! What voids the promise: a core with this target but without the extension stops with a fault at the first picture
//! (`MOTE_ISA=portable` is for those); one whose start-up code traps unaligned accesses (`CCR.UNALIGN_TRP`) as well.

#![allow(unsafe_code)]

mod conv;
mod rows;
mod winograd;

use super::Kernels;
use super::scalar::KERNELS as SCALAR;
use core::arch::asm;

#[cfg(isa = "arm_dsp")]
pub use whole::*;

pub(super) const KERNELS: Kernels = Kernels {
    name: "arm_dsp",
    exchanged: true,
    widen,
    load,
    conv_i16: conv::conv_i16,
    winograd_weights: winograd::weights,
    winograd: winograd::convolve,
    dot_i8: rows::dot_i8,
    scale: rows::scale,
    add_i8: rows::add::<i8, 16>,
    add_i16: rows::add::<i16, 8>,
    store_i8: rows::store_i8,
    sums_i8: rows::sums_i8,
    norm_i8: rows::norm::<i8>,
    norm_i16: rows::norm::<i16>,
    softmax: rows::softmax,
    mix_i8: rows::mix_i8,
    ..SCALAR
};

/// What `select` wants of an instruction set; `arm_mve` has its own.
#[cfg(isa = "arm_dsp")]
mod whole {
    pub use super::super::tiling::ARM_DSP as TILING;
    use super::super::{Kernels, scalar};
    use super::KERNELS;
    use crate::opset::OpSet;

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
}

/// One instruction of the extension with one result, two or three operands.
macro_rules! instruction {
    ($(#[$doc:meta])* $name:ident($($operand:ident),*) = $text:literal) => {
        $(#[$doc])*
        #[inline(always)]
        fn $name($($operand: i32),*) -> i32 {
            let result;
            // SAFETY: it reads and writes registers only, and every core of this table has it.
            unsafe {
                asm!(env!("MOTE_ARM_CPU"), $text, result = lateout(reg) result, $($operand = in(reg) $operand),*,
                    options(pure, nomem, nostack))
            };
            result
        }
    };
}

instruction! {
    /// Bytes 0 and 2, sign-extended.
    sxtb16(x) = "sxtb16 {result}, {x}"
}
instruction! {
    /// Bytes 1 and 3, sign-extended.
    sxtb16_odd(x) = "sxtb16 {result}, {x}, ror #8"
}
instruction! {
    /// Sums of the low and of the high halves.
    sadd16(a, b) = "sadd16 {result}, {a}, {b}"
}
instruction! {
    /// Differences of the low and of the high halves.
    ssub16(a, b) = "ssub16 {result}, {a}, {b}"
}
instruction! {
    /// The low halves of both.
    pack_low(a, b) = "pkhbt {result}, {a}, {b}, lsl #16"
}
instruction! {
    /// The high halves of both.
    pack_high(a, b) = "pkhtb {result}, {b}, {a}, asr #16"
}

instruction! {
    /// `a·b` by 2³², rounded half up.
    smmulr(a, b) = "smmulr {result}, {a}, {b}"
}
instruction! {
    /// `acc + smmulr(a, b)`.
    smmlar(a, b, acc) = "smmlar {result}, {a}, {b}, {acc}"
}
instruction! {
    /// `acc` and the products of the low and of the high halves.
    smlad(a, b, acc) = "smlad {result}, {a}, {b}, {acc}"
}
instruction! {
    /// `acc` and the product of a's low half with b's low half.
    smlabb(a, b, acc) = "smlabb {result}, {a}, {b}, {acc}"
}
instruction! {
    /// `acc` and the product of a's low half with b's high half.
    smlabt(a, b, acc) = "smlabt {result}, {a}, {b}, {acc}"
}

fn widen(out: &mut [i16], elems: &[i8]) {
    let one = |out: &mut [i16; 4], elems: &[i8; 4]| {
        let word = i32::from_le_bytes(elems.map(|elem| elem as u8));
        store(out, sxtb16(word), sxtb16_odd(word));
    };
    let (eights, rest) = out.as_chunks_mut::<4>().0.as_chunks_mut::<2>();
    let (elems, elems_rest) = elems.as_chunks::<4>().0.as_chunks::<2>();
    for ([a, b], [c, d]) in eights.iter_mut().zip(elems) {
        one(a, c);
        one(b, d);
    }
    rest.iter_mut().zip(elems_rest).for_each(|(out, elems)| one(out, elems));
}

fn load(out: &mut [i16], elems: &[i16]) {
    for (out, &[a, b, c, d]) in out.as_chunks_mut::<4>().0.iter_mut().zip(elems.as_chunks::<4>().0) {
        let (first, second) = (word(a, b), word(c, d));
        store(out, pack_low(first, second), pack_high(first, second));
    }
}

/// Two elements as a word.
#[inline(always)]
fn word(low: i16, high: i16) -> i32 {
    low as u16 as i32 | (high as i32) << 16
}

/// Four elements as two words, which need not be aligned.
#[inline(always)]
fn store(out: &mut [i16; 4], first: i32, second: i32) {
    let out: *mut i32 = out.as_mut_ptr().cast();
    // SAFETY: `out` has eight bytes.
    unsafe {
        out.write_unaligned(first);
        out.add(1).write_unaligned(second);
    }
}
