//! Draws the pictures of `tests/on_target/cases.rs` and prints their CRCs, which have to be the host's; then what they
//! took: the longest poll in clock ticks, and the deepest stack. Where this core has kernels of its own, the scalar ones
//! draw too, and have to draw the same.

#![no_std]
#![no_main]

#[path = "../../../../tests/on_target/cases.rs"]
mod cases;

use mote_firmware::board::{stack_used, ticks, ticks_since};
use mote_firmware::println;
use mote_runtime::kernels::{Kernels, select};
use mote_runtime::opset;
use mote_runtime::{Arena, Error, Model, Poll, Request, Sampler, arena_len, include_model};

static DIGITS: &[u8] = include_model!("../../../../models/digits/digits.mote");
static SMALL: &[u8] = include_model!("../../../../tests/vectors/small.mote");

const ARENA_LEN: usize = if arena_len(DIGITS) > arena_len(SMALL) { arena_len(DIGITS) } else { arena_len(SMALL) };
static ARENA: Arena<ARENA_LEN> = Arena::new();

mote_firmware::entry!(run);

fn run() -> Result<(), Error> {
    let arena = ARENA.take()?;
    let fast = select::kernels::<{ opset::ALL }>();
    println!("kernels {}", fast.name);
    draw("small", SMALL, arena, fast, cases::small)?;
    draw("digits", DIGITS, arena, fast, cases::digits)?;
    for &other in select::tables().iter().filter(|table| table.name != fast.name) {
        println!("kernels {}", other.name);
        draw("small", SMALL, arena, other, cases::small)?;
        // In an emulated microcontroller this would take a minute.
        if cfg!(not(target_os = "none")) || cfg!(target_arch = "aarch64") {
            draw("digits", DIGITS, arena, other, cases::digits)?;
        }
    }
    Ok(())
}

fn draw(
    name: &str,
    file: &'static [u8],
    arena: &mut [u8],
    kernels: &'static Kernels,
    request: fn(u64) -> Request<'static>,
) -> Result<(), Error> {
    let (model, load_stack) = stack_used(|| Model::from_bytes(file));
    let model = model?;
    println!("stack {name} load {load_stack}");
    println!("arena {name} {}", model.arena_len());
    let mut sampler = Sampler::with_kernels(&model, arena, kernels)?;
    for seed in cases::SEEDS {
        let (mut deepest, mut longest, mut total, mut polls, mut steps) = (0, 0, 0u64, 0, 0);
        let (started, start_stack) = stack_used(|| sampler.start(request(seed)));
        started?;
        loop {
            let ((poll, took), stack) = stack_used(|| {
                let begin = ticks();
                let poll = sampler.poll();
                (poll, ticks_since(begin))
            });
            deepest = stack.max(deepest);
            longest = took.max(longest);
            total += took as u64;
            polls += 1;
            match poll {
                Poll::Pending(progress) => steps = progress.step,
                Poll::Ready | Poll::Idle => break,
            }
        }
        println!("crc {name} {seed} {:08x}", sampler.sample_crc());
        println!("stack {name} start {start_stack} poll {deepest}");
        println!("ticks {name} polls {polls} longest {longest} total {total} steps {}", steps + 1);
    }
    Ok(())
}
