//! Everything that differs between architectures: start-up, text output, exit code, a clock, a reset, stack measuring.
//!
//! Text and exit codes go through semihosting, which an emulator or a debugger serves. A real product replaces this
//! module by its HAL. What voids the promise: semihosting without anybody who serves it is a fault on every
//! architecture.

#[cfg(target_arch = "arm")]
#[path = "cortex_m.rs"]
mod arch;
#[cfg(target_arch = "riscv32")]
#[path = "riscv.rs"]
mod arch;
#[cfg(target_arch = "aarch64")]
#[path = "aarch64.rs"]
mod arch;
#[cfg(target_arch = "wasm32")]
#[path = "wasm.rs"]
mod arch;
mod stack;

#[doc(hidden)]
pub use arch::rt;
pub use arch::{exit, reset, ticks, write_log, write_text};
pub use stack::stack_used;

use core::fmt;

/// Exit code of a panic.
pub const EXIT_PANIC: i32 = 101;
/// Exit code of a processor fault.
pub const EXIT_FAULT: i32 = 102;

/// Text output.
pub struct Text;

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        write_text(text.as_bytes());
        Ok(())
    }
}

/// Writes a line of text.
#[macro_export]
macro_rules! println {
    ($($arg:tt)*) => {{
        use core::fmt::Write;
        // `Text` never fails.
        let _ = writeln!($crate::board::Text, $($arg)*);
    }};
}

/// Makes `fn() -> Result<(), impl Display>` the program. An error is printed and becomes exit code 1.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        $crate::start!(program);

        fn program() -> ! {
            let code = match $main() {
                Ok(()) => 0,
                Err(error) => {
                    $crate::println!("error: {error}");
                    1
                }
            };
            $crate::board::exit(code)
        }
    };
}

/// Clock ticks from `begin` to now; right for intervals of up to [`MAX_TICKS`].
pub fn ticks_since(begin: u32) -> u32 {
    ticks().wrapping_sub(begin) & MAX_TICKS
}

/// The clock counts modulo this plus one: 24 bits, because SysTick has no more.
pub const MAX_TICKS: u32 = (1 << 24) - 1;

/// Ends the program after a processor fault. Says where without formatting code, which would stay linked for this alone.
#[cfg_attr(any(target_arch = "wasm32", target_arch = "aarch64"), allow(dead_code))] // no handlers there
fn fault(at: u32) -> ! {
    write_text(b"fault at 0x");
    for shift in (0..32).step_by(4).rev() {
        let digit = (at >> shift & 15) as u8;
        write_text(&[if digit < 10 { b'0' + digit } else { b'a' - 10 + digit }]);
    }
    write_text(b"\n");
    exit(EXIT_FAULT)
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    println!("{info}");
    exit(EXIT_PANIC)
}
