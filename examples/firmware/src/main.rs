//! Firmware that draws a digit, as small as it can be and still be whole.
//!
//! The model lies in flash, the arena in `.bss`: if either does not fit the board, linking fails and says so. Progress goes
//! to a 32×32 frame as a ring around the picture, and to the debugger. Ends with the CRC-32 of the sample, which is the
//! same on every core and on the host, and with an exit code.
//!
//! With the feature `heap` the arena comes from `embedded-alloc`'s heap instead.

#![no_std]
#![no_main]

mod frame;

use core::panic::PanicInfo;
use cortex_m_rt::{ExceptionFrame, entry, exception};
use cortex_m_semihosting::{debug, hprintln};
use frame::Frame;
use mote_runtime::format::checksum::crc32_digest;
use mote_runtime::{Error, Model, Poll, Request, Sampler, include_model};

static MODEL: &[u8] = include_model!("../../../models/digits/digits.mote");

#[cfg(not(feature = "heap"))]
static ARENA: mote_runtime::Arena<{ mote_runtime::arena_len(MODEL) }> = mote_runtime::Arena::new();

#[cfg(feature = "heap")]
mod heap;

/// Multiply-adds between two looks at the world.
const POLL_BUDGET: u32 = 500_000;

#[entry]
fn main() -> ! {
    match draw() {
        Ok(()) => debug::exit(debug::EXIT_SUCCESS),
        Err(error) => {
            hprintln!("{}", error);
            debug::exit(debug::EXIT_FAILURE);
        }
    }
    loop {}
}

fn draw() -> Result<(), Error> {
    #[cfg(not(feature = "heap"))]
    let arena = ARENA.take()?;
    #[cfg(feature = "heap")]
    let mut arena = heap::Buffer::new(mote_runtime::arena_len(MODEL));
    #[cfg(feature = "heap")]
    let arena = arena.bytes();

    let model = Model::from_bytes(MODEL)?;
    let mut sampler = Sampler::new(&model, arena)?;
    sampler.start(Request { seed: 7, class: Some(3), poll_budget: POLL_BUDGET, ..Default::default() })?;

    let mut frame = Frame::new();
    // How many polls each step took: small state in a container of fixed capacity.
    let mut polls: heapless::Vec<u16, 64> = heapless::Vec::new();
    let mut count = 1;
    while let Poll::Pending(progress) = sampler.poll() {
        if progress.step_done {
            frame.ring(progress.step, progress.steps);
            // More steps than 64 are drawn, only not counted.
            let _ = polls.push(count);
            count = 0;
        }
        count += 1;
    }
    let _ = polls.push(count);

    sampler.image().write_gray8(frame.picture())?;
    frame.show();
    hprintln!("ring pixels that libm would set elsewhere: {}", frame::ring_errors());
    hprintln!("polls a step: {}", polls.iter().max().unwrap_or(&0));
    let mut crc = crc32_digest();
    sampler.image().elems().iter().for_each(|x| crc.update(&x.to_le_bytes()));
    hprintln!("CRC {:08x}", crc.finalize());
    Ok(())
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    hprintln!("{}", info);
    debug::exit(debug::EXIT_FAILURE);
    loop {}
}

/// The default handler loops for ever; an emulator would too.
#[exception]
unsafe fn HardFault(_: &ExceptionFrame) -> ! {
    debug::exit(debug::EXIT_FAILURE);
    loop {}
}
