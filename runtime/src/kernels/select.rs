//! Which kernels run: the only place that knows the instruction set.
//!
//! `build.rs` turns the target into one `cfg(isa)`. The file of that instruction set says how large scratch must be, and
//! which tables this machine can run: on hosts that is asked at run time, on microcontrollers it is known.

use super::Kernels;
#[cfg(isa = "aarch64")]
use super::aarch64 as isa;
#[cfg(isa = "arm_dsp")]
use super::arm_dsp as isa;
#[cfg(isa = "arm_mve")]
use super::arm_mve as isa;
#[cfg(isa = "arm_v6m")]
use super::arm_v6m as isa;
#[cfg(isa = "riscv_v")]
use super::riscv_v as isa;
#[cfg(isa = "riscv32")]
use super::riscv32 as isa;
#[cfg(isa = "portable")]
use super::scalar as isa;
use super::tiling::Tiling;
#[cfg(isa = "wasm_simd128")]
use super::wasm_simd128 as isa;
#[cfg(isa = "x86_64")]
use super::x86_64 as isa;
use crate::opset::OpSet;

/// The tiling of this build: what scratch is sized for. It covers every table of the build.
pub const TILING: Tiling = isa::TILING;

/// The fastest table that this machine can run, with what the operators of a set need (see [`Kernels::linked`]).
pub fn kernels<const OPS: OpSet>() -> &'static Kernels {
    isa::kernels::<OPS>()
}

/// Every table that this machine can run, the fastest first, scalar last: to compare them, or to force one by name.
pub fn tables() -> &'static [&'static Kernels] {
    isa::tables()
}
