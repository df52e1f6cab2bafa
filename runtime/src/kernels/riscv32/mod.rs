//! RV32IM: 31 registers, a multiplication of 32 bits and the upper half of one of 64, nothing that takes two elements at once.
//!
//! The convolution multiplies two pixels at a time (`conv.rs`), and the rounding rule is four instructions, `MULH`, `MUL` and the
//! latter's sign added, where a compiler takes the 64-bit sum apart into nine. Compressed instructions are used where
//! the target has them; others than I and M are not needed.

#![allow(unsafe_code)]

mod conv;

use super::scalar::{self, KERNELS as SCALAR};
use super::words::{clamp_i8, copy};
use super::{Channels, Kernels, NormConstants};
use crate::quant::{SUM_FRACTION_BITS, shl_saturating};

#[cfg(isa = "riscv32")]
pub use whole::*;

pub(super) const KERNELS: Kernels = Kernels {
    name: "riscv32",
    copy,
    conv_i8: conv::conv_i8,
    scale,
    add_i8: |acc, elems, zero, m| scalar::add::<i8, 16>(acc, elems, zero, m, mul_round),
    add_i16: |acc, elems, zero, m| scalar::add::<i16, 8>(acc, elems, zero, m, mul_round),
    store_i8,
    norm_i8: |out, out_c, src, src_c, k: NormConstants<'_>| {
        scalar::norm::<i8, 16>(out, out_c, src, src_c, k, mul_round, clamp_i8)
    },
    norm_i16: |out, out_c, src, src_c, k: NormConstants<'_>| {
        scalar::norm::<i16, 8>(out, out_c, src, src_c, k, mul_round, clamp_i8)
    },
    softmax: |scores, k| scalar::softmax(scores, k, mul_round),
    ..SCALAR
};

/// What `select` wants of an instruction set; `riscv_v` has its own.
#[cfg(isa = "riscv32")]
mod whole {
    pub use super::super::tiling::RISCV32 as TILING;
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

/// [`crate::quant::mul_round`]: the upper half of a·2m, and 1 where the lower half is one half of that or more.
#[inline(always)]
fn mul_round(a: i32, m: i32) -> i32 {
    let doubled = m << 1;
    let high = ((a as i64 * doubled as i64) >> 32) as i32;
    high.wrapping_add((a.wrapping_mul(doubled) as u32 >> 31) as i32)
}

fn scale(acc: &mut [i32], channels: Channels<'_>) {
    let Channels { bias, multiplier, shift } = channels;
    for pixel in acc.chunks_exact_mut(bias.len().max(1)) {
        if shift != 0 {
            for (acc, &bias) in pixel.iter_mut().zip(bias) {
                // Less the bias, which is added once more below.
                *acc = shl_saturating(acc.wrapping_add(bias), shift).wrapping_sub(bias);
            }
        }
        for ((acc, &bias), &m) in pixel.iter_mut().zip(bias).zip(multiplier) {
            *acc = mul_round(acc.wrapping_add(bias), m);
        }
    }
}

fn store_i8(out: &mut [i8], acc: &[i32], zero_point: i32) {
    for (q, &sum) in out.iter_mut().zip(acc) {
        // Without its fraction a sum is far from the ends of i32.
        let rounded = sum.wrapping_add(1 << (SUM_FRACTION_BITS - 1)) >> SUM_FRACTION_BITS;
        *q = clamp_i8(rounded.wrapping_add(zero_point));
    }
}
