//! The deepest stack that a piece of code reaches, by painting.
//!
//! The memory below the stack is filled with a pattern, the code runs, and the lowest word that has changed says how
//! deep it went. A lower bound in principle (a word may be rewritten with the pattern), exact in practice. What voids
//! the number: code that goes deeper than [`WINDOW_BYTES`], which is reported as that many.

use core::hint::black_box;

/// How far below the stack pointer is painted. All boards have this much to spare.
const WINDOW_BYTES: usize = 6 << 10;
/// Left alone right below the stack pointer: this module's own frames.
const MARGIN_BYTES: usize = 256;
const PATTERN: u32 = 0x7a5e_17c3;

/// Runs `body` and says how many bytes of stack it used, this function's caller not included.
#[inline(never)]
pub fn stack_used<T>(body: impl FnOnce() -> T) -> (T, usize) {
    if cfg!(target_arch = "wasm32") {
        // The machine's own stack cannot be reached there.
        return (body(), 0);
    }
    let here = black_box(0u32);
    let top = (&raw const here) as usize;
    let words = || ((top - WINDOW_BYTES) & !3..top - MARGIN_BYTES).step_by(4).map(|at| at as *mut u32);
    // SAFETY: below the stack pointer and above the statics (`WINDOW_BYTES` are free there on every board), where
    // nothing lives: an interrupt that comes in between is over before painting goes on.
    words().for_each(|word| unsafe { word.write_volatile(PATTERN) });
    let out = body();
    // SAFETY: as above, and only read.
    let deepest = words().find(|word| unsafe { word.read_volatile() } != PATTERN);
    (out, deepest.map_or(MARGIN_BYTES, |word| top - word as usize))
}
