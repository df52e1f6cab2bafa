//! What the firmware binaries share.
//!
//! - `bin/digit.rs` is the one to read first: a whole program that draws a digit.
//! - `bin/heap.rs`, `bin/tasks.rs`, `bin/resume.rs`: the same with a heap, with async tasks, across a reset.
//! - `bin/minimal.rs`: only the runtime, to see what it costs.
//! - `bin/conformance.rs`, `bin/checks.rs`: what `tests/on_target` runs on every core.
//!
//! [`board`] is all that knows the architecture: start-up, text output, exit code, clock. [`frame`] is the display.

#![no_std]

pub mod board;
pub mod frame;
#[cfg(feature = "defmt")]
mod log;

/// Logs through defmt where that feature is on; costs nothing where it is not.
#[macro_export]
macro_rules! info {
    ($($arg:tt)*) => {
        #[cfg(feature = "defmt")]
        defmt::info!($($arg)*);
    };
}
