//! Only the runtime: what it costs in flash, stack and static memory beyond the arena is what this program has more than
//! an empty one (`empty.rs`). No text is formatted and no error printed; the exit code says how it went.

#![no_std]
#![no_main]

use mote_firmware::board;
use mote_runtime::{Arena, Error, Image, Poll, Request, Sampler};

mote_runtime::model!(static MODEL = "../../../../models/digits/digits.mote");
static ARENA: Arena<{ MODEL.arena_len() }> = Arena::new();

mote_firmware::start!(program);

fn program() -> ! {
    board::exit(draw().is_none() as i32)
}

/// Nothing but whether it went well: that an error is copied about is no cost of the runtime.
fn draw() -> Option<()> {
    // A model that the compiler has checked, and of which only the needed operators are linked; with the feature
    // `all-ops` one that might be any, to see what all of it costs.
    #[cfg(not(feature = "all-ops"))]
    let model = {
        MODEL.verify().ok()?;
        &MODEL
    };
    #[cfg(feature = "all-ops")]
    let model = &mote_runtime::Model::from_bytes(core::hint::black_box(MODEL.bytes())).ok()?;
    let mut sampler = Sampler::new(model, ARENA.take().ok()?).ok()?;
    sampler.start(Request { seed: 7, class: Some(7), poll_budget: 250_000, ..Default::default() }).ok()?;
    while let Poll::Pending(_) = sampler.poll() {}
    show(&sampler.image()).ok()
}

/// Apart, so that the pixels are not on the stack while the picture is drawn.
#[inline(never)]
fn show(image: &Image<'_>) -> Result<(), Error> {
    let mut pixels = [0; 28 * 28];
    image.write_gray8(&mut pixels)?;
    core::hint::black_box(&pixels);
    Ok(())
}
