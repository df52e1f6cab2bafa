//! Only the runtime: what it costs in flash, stack and static memory beyond the arena is what this program has more than
//! an empty one (`empty.rs`). No text is formatted and no error printed; the exit code says how it went.

#![no_std]
#![no_main]

use mote_firmware::board;
use mote_runtime::{Arena, Error, Model, OpSet, Poll, Request, Sampler, arena_len, include_model, ops_used, opset};

static MODEL: &[u8] = include_model!("../../../../models/digits/digits.mote");
/// What the model uses; with the feature `all-ops` everything, to see what that costs.
const OPS: OpSet = if cfg!(feature = "all-ops") { opset::ALL } else { ops_used(MODEL) };
static ARENA: Arena<{ arena_len(MODEL) }> = Arena::new();

mote_firmware::start!(program);

fn program() -> ! {
    board::exit(draw().is_err() as i32)
}

fn draw() -> Result<(), Error> {
    let model = Model::<OPS>::with_ops(MODEL)?;
    let mut sampler = Sampler::new(&model, ARENA.take()?)?;
    sampler.start(Request { seed: 7, class: Some(7), poll_budget: 250_000, ..Default::default() })?;
    while let Poll::Pending(_) = sampler.poll() {}
    let mut pixels = [0; 28 * 28];
    sampler.image().write_gray8(&mut pixels)?;
    core::hint::black_box(&pixels);
    Ok(())
}
