//! The arena from a heap: for firmware that has one anyway and needs the memory for other things between pictures.
//!
//! Here memory runs out at run time, not at link time, so this program also shows what that says.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;
use embedded_alloc::LlffHeap;
use mote_firmware::println;
use mote_runtime::{Aligned, Error, Request, Sampler};

#[global_allocator]
static HEAP: LlffHeap = LlffHeap::empty();

const HEAP_BYTES: usize = 192 << 10;

mote_runtime::model!(static MODEL = "../../../../models/digits/digits.mote");

mote_firmware::entry!(draw);

fn draw() -> Result<(), Error> {
    // SAFETY: called once, before any allocation; the static inside the macro is used for nothing else.
    unsafe {
        embedded_alloc::init!(HEAP, HEAP_BYTES);
    }
    MODEL.verify()?;
    // Blocks that are aligned to 16, as the arena has to be.
    let block = Aligned([0u8; 16]);
    let mut blocks: Vec<Aligned<[u8; 16]>> = alloc::vec![block; MODEL.arena_len().div_ceil(16)];

    let blocks_len = blocks.len();
    let short = blocks.get_mut(..blocks_len - 1).unwrap_or_default();
    match Sampler::new(&MODEL, bytes(short)) {
        Ok(_) => println!("an arena that is too short was accepted"),
        Err(error) => println!("too short: {error}"),
    }

    let mut sampler = Sampler::new(&MODEL, bytes(&mut blocks))?;
    sampler.generate(Request { seed: 7, class: Some(7), ..Default::default() })?;
    println!("crc digits 7 {:08x}", sampler.sample_crc());
    drop(blocks);
    println!("heap in use afterwards: {} bytes", HEAP.used());
    Ok(())
}

/// The blocks as bytes.
fn bytes(blocks: &mut [Aligned<[u8; 16]>]) -> &mut [u8] {
    // SAFETY: `Aligned<[u8; 16]>` is `repr(C)`, 16 initialised bytes without padding.
    unsafe { core::slice::from_raw_parts_mut(blocks.as_mut_ptr().cast(), size_of_val(blocks)) }
}
