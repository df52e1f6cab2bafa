//! AArch64 in user-mode emulation: the core and its NEON, no machine around it.

use semihosting::io::Write;

#[doc(hidden)]
pub mod rt {}

/// Makes `fn() -> !` the program.
#[macro_export]
macro_rules! start {
    ($program:ident) => {
        // SAFETY: the linker's entry point; nothing else has this name. The loader has set up a stack.
        #[unsafe(no_mangle)]
        extern "C" fn _start() -> ! {
            $program()
        }
    };
}

/// Ends the program.
pub fn exit(code: i32) -> ! {
    semihosting::process::exit(code)
}

/// A process cannot restart itself.
pub fn reset() -> ! {
    exit(super::EXIT_FAULT)
}

/// No clock.
pub fn ticks() -> u32 {
    0
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
