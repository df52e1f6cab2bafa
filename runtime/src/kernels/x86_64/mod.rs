//! The tables of x86-64, and which of them this processor can run.
//!
//! One binary carries all of them, since a host program does not know its machine when it is compiled. The processor is
//! asked once (`cpuid`, which traps in a virtual machine and then costs microseconds, so the answer is kept), together
//! with the operating system, which has to save the wide registers (`xgetbv`).

#![allow(unsafe_code)]

mod avx2;
mod norm;
mod norm512;
mod rows;
mod rows512;
mod vnni;
mod winograd;

use super::{Kernels, scalar};
use crate::opset::OpSet;
use core::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use core::sync::atomic::{AtomicU8, Ordering};

pub use super::scratch::X86_64 as TILING;

/// What the fastest table needs; each level includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Level {
    Baseline = 1,
    Avx2 = 2,
    Avx512Vnni = 3,
}

/// The fastest table that this machine can run, whole: on a host nobody counts a kernel's bytes.
pub fn kernels<const OPS: OpSet>() -> &'static Kernels {
    tables().first().copied().unwrap_or(&scalar::TABLE)
}

/// Every table that this machine can run, the fastest first, scalar last.
pub fn tables() -> &'static [&'static Kernels] {
    // Nothing else hands these tables out, so their kernels run where their instructions exist.
    static TABLES: [&Kernels; 3] = [&vnni::TABLE, &avx2::TABLE, &scalar::TABLE];
    let first = TABLES.len() - level() as usize;
    TABLES.get(first..).unwrap_or_default()
}

fn level() -> Level {
    static LEVEL: AtomicU8 = AtomicU8::new(0);
    match LEVEL.load(Ordering::Relaxed) {
        1 => Level::Baseline,
        2 => Level::Avx2,
        3 => Level::Avx512Vnni,
        _ => {
            let level = detect();
            LEVEL.store(level as u8, Ordering::Relaxed);
            level
        }
    }
}

/// Asks the processor and the operating system.
#[allow(unused_unsafe)] // `cpuid` is safe from Rust 1.93 on
fn detect() -> Level {
    let has = |register: u32, bits: &[u32]| bits.iter().all(|bit| register & (1 << bit) != 0);
    // SAFETY: every x86-64 processor has `cpuid`.
    let (highest, first) = unsafe { (__cpuid(0).eax, __cpuid(1)) };
    // `xgetbv` (bit 27) and AVX (28).
    if highest < 7 || !has(first.ecx, &[27, 28]) {
        return Level::Baseline;
    }
    // SAFETY: leaf 7 exists; the operating system has switched `xgetbv` on.
    let (extended, saved) = unsafe { (__cpuid_count(7, 0), os_saves()) };
    // The upper halves of the 256-bit registers are saved (bits 1 and 2), the processor has AVX2 (bit 5).
    if !has(saved, &[1, 2]) || !has(extended.ebx, &[5]) {
        return Level::Baseline;
    }
    // The mask registers and all of the 512-bit ones are saved (bits 5 to 7), the processor has AVX-512 F, BW and VL
    // (bits 16, 30 and 31) and VNNI (bit 11).
    if !has(saved, &[5, 6, 7]) || !has(extended.ebx, &[16, 30, 31]) || !has(extended.ecx, &[11]) {
        return Level::Avx2;
    }
    Level::Avx512Vnni
}

/// The registers that the operating system saves, by bit.
///
/// # Safety
/// The processor has `xgetbv` and the operating system uses it: bit 27 of ECX of leaf 1.
#[target_feature(enable = "xsave")]
unsafe fn os_saves() -> u32 {
    // SAFETY: the caller's promise; register 0 always exists.
    unsafe { _xgetbv(0) as u32 }
}
