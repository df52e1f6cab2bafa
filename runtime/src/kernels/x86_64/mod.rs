//! The tables of x86-64, and which of them this processor can run.
//!
//! One binary carries all of them, since a host program does not know its machine when it is compiled. The processor is
//! asked once (`cpuid`, which traps in a virtual machine and then costs microseconds, so the answer is kept), together
//! with the operating system, which has to save the wide registers (`xgetbv`).

#![allow(unsafe_code)]

/// A table's entries with arguments that are passed in memory. As closures they would copy them, sixteen bytes at a time, which waits for the
/// eight that the caller has just stored: 1 % of a small net's step.
macro_rules! entries {
    ($($name:ident = $kernel:path: ($($argument:ident: $kind:ty),*);)*) => {$(
        pub(super) fn $name($($argument: $kind),*) {
            // SAFETY: as of the table's other entries.
            unsafe { $kernel($($argument),*) }
        }
    )*};
}

mod attend;
mod avx2;
mod avx_vnni;
mod constants512;
mod direct512;
mod finish512;
mod floats512;
mod lanes;
mod lanes256;
mod lanes512;
mod norm;
mod norm512;
mod order512;
mod picture512;
mod pixels512;
mod requantize;
mod requantize512;
mod rows;
mod rows512;
mod sums512;
mod tables512;
mod up512;
mod vnni;
mod winograd;
mod winograd512;
mod winograd512_ends;
mod winograd512_row;
mod winograd512_up;

use super::{Kernels, scalar};
use crate::opset::OpSet;
use core::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use core::sync::atomic::{AtomicU8, Ordering};

pub use super::tiling::X86_64 as TILING;

// What a processor has, by bit; of AVX-512 and AVX-VNNI either may be there without the other.
const ASKED: u8 = 1;
const AVX2: u8 = 2;
const AVX_VNNI: u8 = 4;
const AVX512_VNNI: u8 = 8;
/// With GFNI and BITALG, and with [`AVX512_VNNI`] only; a norm's application takes 0.7 of the time with it, on a Zen 5.
const AVX512_VBMI: u8 = 16;

/// The fastest table that this machine can run, whole: on a host nobody counts a kernel's bytes.
pub fn kernels<const OPS: OpSet>() -> &'static Kernels {
    tables().first().copied().unwrap_or(&scalar::TABLE)
}

/// Every table that this machine can run, the fastest first, scalar last.
pub fn tables() -> &'static [&'static Kernels] {
    // Nothing else hands these tables out, so their kernels run where their instructions exist.
    static ALL: [&Kernels; 4] = [&vnni::TABLE, &avx_vnni::TABLE, &avx2::TABLE, &scalar::TABLE];
    static WITHOUT_AVX_VNNI: [&Kernels; 3] = [&vnni::TABLE, &avx2::TABLE, &scalar::TABLE];
    let has = has();
    if has & AVX512_VNNI != 0 && has & AVX_VNNI == 0 {
        return &WITHOUT_AVX_VNNI;
    }
    let first = match has {
        _ if has & AVX512_VNNI != 0 => 0,
        _ if has & AVX_VNNI != 0 => 1,
        _ if has & AVX2 != 0 => 2,
        _ => 3,
    };
    ALL.get(first..).unwrap_or_default()
}

/// What this processor has.
#[inline]
fn has() -> u8 {
    static HAS: AtomicU8 = AtomicU8::new(0);
    match HAS.load(Ordering::Relaxed) {
        0 => {
            let has = detect();
            HAS.store(has, Ordering::Relaxed);
            has
        }
        has => has,
    }
}

/// Asks the processor and the operating system.
#[cold]
#[inline(never)]
#[allow(unused_unsafe)] // `cpuid` is safe from Rust 1.93 on
fn detect() -> u8 {
    let has = |register: u32, bits: &[u32]| bits.iter().all(|bit| register & (1 << bit) != 0);
    // SAFETY: every x86-64 processor has `cpuid`.
    let (highest, first) = unsafe { (__cpuid(0).eax, __cpuid(1)) };
    // `xgetbv` (bit 27) and AVX (28).
    if highest < 7 || !has(first.ecx, &[27, 28]) {
        return ASKED;
    }
    // SAFETY: leaf 7 exists; the operating system has switched `xgetbv` on.
    let (extended, saved) = unsafe { (__cpuid_count(7, 0), os_saves()) };
    // The upper halves of the 256-bit registers are saved (bits 1 and 2), the processor has AVX2 (bit 5).
    if !has(saved, &[1, 2]) || !has(extended.ebx, &[5]) {
        return ASKED;
    }
    let mut found = ASKED | AVX2;
    // SAFETY: leaf 7 exists, and leaf 7.1 where its first part says so.
    let more = if extended.eax > 0 { unsafe { __cpuid_count(7, 1).eax } } else { 0 };
    if has(more, &[4]) {
        found |= AVX_VNNI;
    }
    // The mask registers and all of the 512-bit ones are saved (bits 5 to 7), the processor has AVX-512 F, DQ, BW
    // and VL (bits 16, 17, 30 and 31) and VNNI (bit 11).
    if has(saved, &[5, 6, 7]) && has(extended.ebx, &[16, 17, 30, 31]) && has(extended.ecx, &[11]) {
        found |= AVX512_VNNI;
        // VBMI, GFNI and BITALG (bits 1, 8 and 12): all of these but Cascade Lake and Cooper Lake.
        if has(extended.ecx, &[1, 8, 12]) {
            found |= AVX512_VBMI;
        }
    }
    found
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What a processor with VBMI never runs.
    #[test]
    fn norm_without_vbmi_equals_scalar() {
        if has() & AVX512_VNNI == 0 {
            return;
        }
        // SAFETY (of both): as the condition says.
        let norm_i8 = |out: &mut [i8], out_c, src: &[i8], src_c, k: super::super::NormConstants<'_>| unsafe {
            norm512::norm_i8(out, out_c, src, src_c, k)
        };
        let norm_table =
            |to: &mut [i8], table: &[i16], m, zero_point| unsafe { tables512::norm_table(to, table, m, zero_point) };
        let table = Kernels { norm_i8, norm_table: [norm_table], ..scalar::KERNELS };
        for seed in 0..2_000 {
            assert_eq!(super::super::compare::compare(&table, seed), Ok(()));
        }
    }
}
