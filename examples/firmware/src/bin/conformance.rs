//! Draws the pictures of `tests/on_target/cases.rs` and prints their CRCs, which have to be the host's; then what they
//! took: the longest poll in clock ticks, and the deepest stack.

#![no_std]
#![no_main]

#[path = "../../../../tests/on_target/cases.rs"]
mod cases;

use mote_firmware::board::{stack_used, ticks, ticks_since};
use mote_firmware::println;
use mote_runtime::{Arena, Error, Model, Poll, Request, Sampler, arena_len, include_model};

static DIGITS: &[u8] = include_model!("../../../../models/digits/digits.mote");
static SMALL: &[u8] = include_model!("../../../../tests/vectors/small.mote");

const ARENA_LEN: usize = if arena_len(DIGITS) > arena_len(SMALL) { arena_len(DIGITS) } else { arena_len(SMALL) };
static ARENA: Arena<ARENA_LEN> = Arena::new();

mote_firmware::entry!(run);

fn run() -> Result<(), Error> {
    let arena = ARENA.take()?;
    draw("small", SMALL, arena, cases::small)?;
    draw("digits", DIGITS, arena, cases::digits)
}

fn draw(name: &str, file: &'static [u8], arena: &mut [u8], request: fn(u64) -> Request<'static>) -> Result<(), Error> {
    let (model, load_stack) = stack_used(|| Model::from_bytes(file));
    let model = model?;
    println!("stack {name} load {load_stack}");
    let mut sampler = Sampler::new(&model, arena)?;
    for seed in cases::SEEDS {
        let (mut deepest, mut longest, mut total, mut polls) = (0, 0, 0u64, 0);
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
            if poll == Poll::Ready {
                break;
            }
        }
        println!("crc {name} {seed} {:08x}", sampler.sample_crc());
        println!("stack {name} start {start_stack} poll {deepest}");
        println!("ticks {name} polls {polls} longest {longest} total {total}");
    }
    Ok(())
}
