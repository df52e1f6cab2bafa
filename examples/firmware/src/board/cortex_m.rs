//! Cortex-M.

use cortex_m::peripheral::syst::SystClkSource;
use semihosting::io::Write;

#[doc(hidden)]
pub mod rt {
    pub use cortex_m_rt::entry;
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
    cortex_m::peripheral::SCB::sys_reset()
}

/// Processor clocks, modulo 2²⁴ (SysTick counts down).
///
/// The first call sets SysTick up, without its interrupt; a program that uses that for something else has set it up
/// already, and reads its own period here.
pub fn ticks() -> u32 {
    // SAFETY: SysTick is used by nothing else, or was set up before by the program's own code, which is then left alone.
    let mut syst = unsafe { cortex_m::Peripherals::steal().SYST };
    if !syst.is_counter_enabled() {
        syst.set_clock_source(SystClkSource::Core);
        syst.set_reload(super::MAX_TICKS);
        syst.clear_current();
        syst.enable_counter();
    }
    cortex_m::peripheral::SYST::get_current().wrapping_neg() & super::MAX_TICKS
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
#[cortex_m_rt::exception]
unsafe fn HardFault(frame: &cortex_m_rt::ExceptionFrame) -> ! {
    super::fault(frame.pc())
}
