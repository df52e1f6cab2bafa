//! The square root, correctly rounded: one instruction where the target's ABI says that the core has a floating-point unit.
//!
//! `libm` knows that instruction on other architectures, not on a Cortex-M; its own root takes 480 bytes. IEEE 754 has only
//! one answer, so which of them runs changes no byte of a picture.

#![cfg_attr(
    any(all(target_arch = "arm", target_abi = "eabihf"), all(target_arch = "x86_64", target_feature = "sse2")),
    allow(unsafe_code)
)]

/// √x.
#[cfg(all(target_arch = "arm", target_abi = "eabihf"))]
pub(crate) fn sqrt(x: f32) -> f32 {
    /// A function of its own, because a stable compiler takes no floating-point register as an operand.
    ///
    /// # Safety
    /// None: it reads and writes s0 only, and every core of this ABI has the instruction.
    #[unsafe(naked)]
    unsafe extern "C" fn vsqrt(x: f32) -> f32 {
        core::arch::naked_asm!(".fpu fpv4-sp-d16", "vsqrt.f32 s0, s0", "bx lr")
    }
    // SAFETY: as it says.
    unsafe { vsqrt(x) }
}

/// √x, of which a compiler makes vectors; `libm`'s is assembly.
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
#[inline(always)]
pub(crate) fn sqrt(x: f32) -> f32 {
    use core::arch::x86_64::{_mm_cvtss_f32, _mm_set_ss, _mm_sqrt_ss};
    // SAFETY: the build's processors have SSE.
    unsafe { _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x))) }
}

/// √x.
#[cfg(not(any(
    all(target_arch = "arm", target_abi = "eabihf"),
    all(target_arch = "x86_64", target_feature = "sse2")
)))]
#[inline(always)]
pub(crate) fn sqrt(x: f32) -> f32 {
    libm::sqrtf(x)
}
