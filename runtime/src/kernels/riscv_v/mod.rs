//! RISC-V with vectors: RVV 1.0 as in `Zve32x`, integers up to 32 bits, of any length; the same bytes at each.
//!
//! `VSMUL` is the rounding rule. All loops are assembly, because a stable compiler has no intrinsics of the extension, and naked
//! functions, because it has no vector registers to clobber. What is not here is that of `riscv32`.
//!
//! What voids the promise: start-up code that leaves the vector unit off (`mstatus.VS`), or an interrupt's handler that uses vectors
//! without saving them, VL, VTYPE and VXRM.

#![allow(unsafe_code)]

mod conv;

use super::{Kernels, riscv32, scalar};
use crate::opset::OpSet;

pub use super::scratch::RISCV_V as TILING;

const KERNELS: Kernels =
    Kernels { name: "riscv_v", conv_i8: conv::conv_i8, conv_i16: conv::conv_i16, ..riscv32::KERNELS };

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
