//! RISC-V with vectors: RVV 1.0 as in `Zve32x`, integers up to 32 bits, of any length; the same bytes at each.
//!
//! `VSMUL` is the rounding rule. All loops are assembly, because a stable compiler has no intrinsics of the extension, and naked
//! functions, because it has no vector registers to clobber. What is not here is that of `riscv32`.
//!
//! What voids the promise: start-up code that leaves the vector unit off (`mstatus.VS`), or an interrupt's handler that uses vectors
//! without saving them, VL, VTYPE and VXRM.

#![allow(unsafe_code)]

mod attention;
mod conv;
mod norm;
mod rows;

use super::{Kernels, riscv32, scalar};
use crate::opset::OpSet;

pub use super::tiling::RISCV_V as TILING;

const KERNELS: Kernels = Kernels {
    name: "riscv_v",
    copy: rows::copy,
    load: rows::load,
    conv_i8: conv::conv_i8,
    conv_i16: conv::conv_i16,
    dot_i8: attention::dot_i8,
    scale: rows::scale,
    add_i8: rows::add_i8,
    add_i16: rows::add_i16,
    store_i8: rows::store_i8,
    sums_i8: norm::sums_i8,
    norm_i8: norm::norm_i8,
    norm_i16: norm::norm_i16,
    softmax: attention::softmax,
    mix_i8: attention::mix_i8,
    ..riscv32::KERNELS
};

/// The table of a build for these cores.
pub fn kernels<const OPS: OpSet>() -> &'static Kernels {
    const { &KERNELS.linked(OPS) }
}

/// Every table of this build, the fastest first, scalar last.
pub fn tables() -> &'static [&'static Kernels] {
    static TABLE: Kernels = KERNELS;
    static BASE: Kernels = riscv32::KERNELS;
    static TABLES: [&Kernels; 3] = [&TABLE, &BASE, &scalar::TABLE];
    &TABLES
}
