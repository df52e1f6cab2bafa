//! A reset in mid-image: the picture goes on where it was, and ends in the same bytes.
//!
//! After a few polls the program writes a snapshot into memory that start-up leaves alone, and resets the core. The
//! second run finds the snapshot, whose checksum says whether it is one, and continues. With flash or battery-backed
//! memory in place of `.uninit`, the same survives a power cut.

#![no_std]
#![no_main]

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use mote_firmware::{board, println};
use mote_runtime::{Arena, Error, Poll, Request, Sampler};

mote_runtime::model!(static MODEL = "../../../../models/digits/digits.mote");
static ARENA: Arena<{ MODEL.arena_len() }> = Arena::new();

const SNAPSHOT_BYTES: usize = 4096;
/// Polls before the reset: in the middle of the picture, and of a step.
const POLLS: usize = 77;

mote_firmware::entry!(draw);

fn draw() -> Result<(), Error> {
    MODEL.verify()?;
    let mut sampler = Sampler::new(&MODEL, ARENA.take()?)?;
    let kept = kept();
    match sampler.restore(kept) {
        Ok(()) => println!("resumed"),
        Err(reason) => {
            println!("starting afresh: {reason}");
            sampler.start(Request { seed: 7, class: Some(7), poll_budget: 250_000, ..Default::default() })?;
            for _ in 0..POLLS {
                sampler.poll();
            }
            println!("snapshot of {} bytes, then a reset", sampler.snapshot(kept)?);
            board::reset()
        }
    }
    while let Poll::Pending(_) = sampler.poll() {}
    println!("crc digits 7 {:08x}", sampler.sample_crc());
    Ok(())
}

/// The memory that survives a reset.
fn kept() -> &'static mut [u8] {
    struct Kept(UnsafeCell<MaybeUninit<[u8; SNAPSHOT_BYTES]>>);
    // SAFETY: reached only below, by the one caller of this function.
    unsafe impl Sync for Kept {}

    #[unsafe(link_section = ".uninit.snapshot")]
    static KEPT: Kept = Kept(UnsafeCell::new(MaybeUninit::uninit()));

    // SAFETY: called once, from `draw`, so the reference is the only one. The section is not initialised by the start-up
    // code; on hardware each of its bytes is some byte, and the black box keeps the compiler from assuming otherwise.
    unsafe { &mut *core::hint::black_box(KEPT.0.get()).cast::<[u8; SNAPSHOT_BYTES]>() }
}
