//! Firmware that draws a digit, as small as it can be and still be whole.
//!
//! The model lies in flash, the arena in `.bss`: if either does not fit the board, linking fails and says so. Progress
//! goes to a 32×32 display as a ring around the picture, and to the debugger through defmt. Ends with the CRC-32 of the
//! sample, which is the same on every core and on the host, and with an exit code.

#![no_std]
#![no_main]

use embedded_graphics::Drawable;
use mote_firmware::board::{ticks, ticks_since};
use mote_firmware::frame::{Frame, PICTURE_AT, ring_errors};
use mote_firmware::{info, println};
use mote_runtime::{Arena, Depth, Error, Poll, Request, Sampler};

mote_runtime::model!(static MODEL = "../../../../models/digits/digits.mote");
static ARENA: Arena<{ MODEL.arena_len() }> = Arena::new();

/// Multiply-adds between two looks at the world.
const POLL_BUDGET: u32 = 250_000;

mote_firmware::entry!(draw);

fn draw() -> Result<(), Error> {
    MODEL.verify()?;
    let mut sampler = Sampler::new(&MODEL, ARENA.take()?)?;
    sampler.start(Request { seed: 7, class: Some(7), poll_budget: POLL_BUDGET, ..Default::default() })?;
    info!("model of {=usize} bytes, arena of {=usize}", MODEL.bytes().len(), MODEL.arena_len());

    let mut frame = Frame::new();
    // Clock ticks that each step took: small state in a container of fixed capacity.
    let mut steps: heapless::Vec<u32, 64> = heapless::Vec::new();
    let (mut longest, mut this_step) = (0, 0);
    loop {
        let begin = ticks();
        let poll = sampler.poll();
        let took = ticks_since(begin);
        longest = took.max(longest);
        this_step += took;
        let Poll::Pending(progress) = poll else { break };
        if progress.step_done {
            frame.ring(progress.step, progress.steps);
            info!("step {=u16} of {=u16}: {=u32} ticks", progress.step, progress.steps, this_step);
            // More steps than 64 are drawn, only not remembered.
            let _ = steps.push(core::mem::take(&mut this_step));
        }
    }
    let _ = steps.push(this_step);

    let image = sampler.image();
    embedded_graphics::image::Image::new(&image.gray8()?, PICTURE_AT)
        .draw(&mut frame)
        .unwrap_or_else(|never| match never {});
    frame.ring(1, 1);
    frame.show();
    info!("longest poll {=u32} ticks, longest step {=u32}", longest, steps.iter().copied().max().unwrap_or(0));
    println!("ring points more than a pixel off: {}", ring_errors());
    println!("longest poll, ticks: {longest}");
    println!("crc digits 7 {:08x}", sampler.sample_crc());
    match sampler.self_test(Depth::Step) {
        Ok(verdict) => println!("self-test: {verdict:?}"),
        Err(error) => println!("self-test: {error}"),
    }
    Ok(())
}
