//! defmt's logger: frames go to semihosting's stderr, text to its stdout, so that both can be read apart.
//!
//! On a board with a debug probe, `defmt-rtt` takes this file's place; nothing else changes. The default encoding
//! (rzcobs) marks frame ends, so a reader may start anywhere.

use crate::board;
use core::sync::atomic::{AtomicBool, Ordering};

#[defmt::global_logger]
struct Logger;

/// Whether a frame is being written. The binaries log from one context only (never from interrupts), so a second
/// `acquire` is a mistake.
static BUSY: AtomicBool = AtomicBool::new(false);

/// The frame encoder's state. Reached only between `acquire` and `release`.
static ENCODER: Encoder = Encoder(core::cell::UnsafeCell::new(defmt::Encoder::new()));

struct Encoder(core::cell::UnsafeCell<defmt::Encoder>);

// SAFETY: reached only by whoever has set `BUSY`, of which there is one at a time.
unsafe impl Sync for Encoder {}

// SAFETY: `acquire` gives the logger to one caller at a time, and panics otherwise as the trait asks.
unsafe impl defmt::Logger for Logger {
    fn acquire() {
        assert!(!BUSY.load(Ordering::Acquire), "logging within logging");
        BUSY.store(true, Ordering::Release);
        // SAFETY: `BUSY` is ours.
        unsafe { (*ENCODER.0.get()).start_frame(board::write_log) };
    }

    unsafe fn flush() {}

    unsafe fn release() {
        // SAFETY: called between `acquire` and the store below, so `BUSY` is ours.
        unsafe { (*ENCODER.0.get()).end_frame(board::write_log) };
        BUSY.store(false, Ordering::Release);
    }

    unsafe fn write(bytes: &[u8]) {
        // SAFETY: called between `acquire` and `release`, so `BUSY` is ours.
        unsafe { (*ENCODER.0.get()).write(bytes, board::write_log) };
    }
}

defmt::timestamp!("{=u32}", board::ticks());
