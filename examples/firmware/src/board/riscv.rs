//! RISC-V: QEMU's `virt`.

use semihosting::io::Write;

// Before anything that was compiled: the vector unit goes on (`mstatus.VS` = initial). On a core without one the bits stay zero.
core::arch::global_asm!(
    ".section .init.pre_init, \"ax\"",
    ".global __pre_init",
    "__pre_init:",
    "li t0, 0x200",
    "csrs mstatus, t0",
    "ret",
    ".previous",
);

#[doc(hidden)]
pub mod rt {
    pub use riscv_rt::entry;
}

/// Makes `fn() -> !` the program.
#[macro_export]
macro_rules! start {
    ($program:ident) => {
        #[$crate::board::rt::entry]
        fn start() -> ! {
            $program()
        }
    };
}

/// Ends the program.
pub fn exit(code: i32) -> ! {
    semihosting::process::exit(code)
}

/// Restarts the program; what lies in `.uninit` survives.
pub fn reset() -> ! {
    /// `virt`'s test device; this word asks it for a reset.
    const TEST: *mut u32 = 0x10_0000 as *mut u32;
    // SAFETY: the device's address on this board; a write has no other effect.
    unsafe { TEST.write_volatile(0x7777) };
    loop {
        riscv::asm::wfi();
    }
}

/// Instructions retired (exact under `-icount` only), modulo 2²⁴ like the other boards' clocks.
pub fn ticks() -> u32 {
    riscv::register::minstret::read() as u32 & super::MAX_TICKS
}

/// Writes to stdout.
pub fn write_text(bytes: &[u8]) {
    if let Ok(mut out) = semihosting::io::stdout() {
        // Nobody could be told that telling fails.
        let _ = out.write_all(bytes);
    }
}

/// Writes to stderr.
pub fn write_log(bytes: &[u8]) {
    if let Ok(mut out) = semihosting::io::stderr() {
        let _ = out.write_all(bytes);
    }
}

/// The default handler loops for ever; an emulator would too.
// SAFETY: the name and the type that riscv-rt documents for the handler.
#[unsafe(export_name = "ExceptionHandler")]
fn exception(_: &riscv_rt::TrapFrame) -> ! {
    super::fault(riscv::register::mepc::read() as u32)
}
