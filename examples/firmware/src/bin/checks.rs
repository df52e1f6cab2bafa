//! What else has to hold on the core itself, with a model small enough for 16 KB of RAM: the file's self-test, the bytes
//! of the pictures, the kernels against scalar, a file at any address, an arena too short or unaligned, damaged bytes, a snapshot after every few polls.
//!
//! On an ARMv6-M core an unaligned access is a fault, so this is where one would show.

#![no_std]
#![no_main]

#[path = "../../../../tests/on_target/cases.rs"]
#[allow(dead_code)] // the digits do not fit here
mod cases;

use core::fmt;
use mote_firmware::println;
use mote_runtime::kernels::{compare::compare, select};
use mote_runtime::{Aligned, Arena, Depth, Error, Model, Poll, Sampler, Verdict, arena_len, include_model};

static SMALL: &[u8] = include_model!("../../../../tests/vectors/small.mote");
/// With room to begin anywhere within 16 bytes.
static ARENA: Arena<{ arena_len(SMALL) + 16 }> = Arena::new();
static COPY: Arena<{ SMALL.len() + 16 }> = Arena::new();

mote_firmware::entry!(run);

/// What did not hold.
struct Broken(&'static str);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "check failed: {}", self.0)
    }
}

fn check(holds: bool, what: &'static str) -> Result<(), Broken> {
    if holds {
        println!("ok: {what}");
        Ok(())
    } else {
        Err(Broken(what))
    }
}

fn run() -> Result<(), Broken> {
    let (Ok(arena), Ok(copy)) = (ARENA.take(), COPY.take()) else { return Err(Broken("static memory")) };
    check(ARENA.take() == Err(Error::ArenaTaken), "the arena is handed out once")?;
    let broken = |_: Error| Broken("the model");
    let model = Model::from_bytes(SMALL).map_err(broken)?;
    for seed in cases::SEEDS {
        println!("crc small {seed} {:08x}", draw(&model, arena, seed).map_err(broken)?);
    }
    check(self_test(&model, arena) == Ok(Verdict::Passed), "the file's self-test")?;
    let want = draw(&model, arena, cases::SEEDS[0]).map_err(broken)?;
    check(any_address(copy, arena, want), "a file at any multiple of four, and nowhere else")?;
    check(arenas(&model, arena), "an arena too short or unaligned is refused with the numbers")?;
    check(damaged(copy), "a flipped bit anywhere is refused")?;
    check(snapshots(&model, arena, want).map_err(broken)?, "a snapshot after any poll ends in the same bytes")?;
    kernels()
}

/// Every table of this core against scalar, on random inputs. Not on the micro:bit, whose stack the inputs do not fit.
fn kernels() -> Result<(), Broken> {
    if option_env!("BOARD") == Some("microbit") {
        return Ok(());
    }
    for table in select::tables() {
        for seed in 0..100 {
            if let Err(difference) = compare(table, seed) {
                println!("{} of {} differs with seed {seed}", difference.kernel, table.name);
                return Err(Broken("kernels that equal scalar"));
            }
        }
        println!("ok: kernels {}", table.name);
    }
    Ok(())
}

fn draw(model: &Model<'_>, arena: &mut [u8], seed: u64) -> Result<u32, Error> {
    let mut sampler = Sampler::new(model, arena)?;
    sampler.start(cases::small(seed))?;
    while let Poll::Pending(_) = sampler.poll() {}
    Ok(sampler.sample_crc())
}

fn self_test(model: &Model<'_>, arena: &mut [u8]) -> Result<Verdict, Error> {
    Sampler::new(model, arena)?.self_test(Depth::Sample)
}

fn any_address(copy: &mut [u8], arena: &mut [u8], want: u32) -> bool {
    (0..16).all(|offset| {
        let Some(at) = copy.get_mut(offset..offset + SMALL.len()) else { return false };
        at.copy_from_slice(SMALL);
        match Model::from_bytes(at) {
            Ok(model) => offset % 4 == 0 && draw(&model, arena, cases::SEEDS[0]) == Ok(want),
            Err(error) => offset % 4 != 0 && error == Error::Unaligned,
        }
    })
}

fn arenas(model: &Model<'_>, arena: &mut [u8]) -> bool {
    let need = model.arena_len();
    let short = arena.get_mut(..need - 1).map(|arena| Sampler::new(model, arena).err());
    let unaligned = arena.get_mut(4..).map(|arena| Sampler::new(model, arena).err());
    short == Some(Some(Error::ArenaTooShort { have: need as u32 - 1, need: need as u32 }))
        && unaligned == Some(Some(Error::ArenaUnaligned))
}

/// Every 61st bit: all of them would take an hour in an emulator, and are flipped on the host.
fn damaged(copy: &mut [u8]) -> bool {
    let Some(at) = copy.get_mut(..SMALL.len()) else { return false };
    at.copy_from_slice(SMALL);
    (0..SMALL.len() * 8).step_by(61).all(|bit| {
        let (byte, mask) = (bit / 8, 1 << (bit % 8));
        if let Some(byte) = at.get_mut(byte) {
            *byte ^= mask;
        }
        let refused = Model::from_bytes(at).is_err();
        if let Some(byte) = at.get_mut(byte) {
            *byte ^= mask;
        }
        refused
    })
}

fn snapshots(model: &Model<'_>, arena: &mut [u8], want: u32) -> Result<bool, Error> {
    let mut memory = Aligned([0; 512]);
    for after in (0..).step_by(7) {
        let mut sampler = Sampler::new(model, arena)?;
        sampler.start(cases::small(cases::SEEDS[0]))?;
        let done = (0..after).any(|_| sampler.poll() == Poll::Ready);
        let len = sampler.snapshot(&mut memory.0)?;
        arena.fill(0xa5);
        let mut sampler = Sampler::new(model, arena)?;
        sampler.restore(memory.0.get(..len).unwrap_or_default())?;
        while let Poll::Pending(_) = sampler.poll() {}
        if sampler.sample_crc() != want {
            return Ok(false);
        }
        if done {
            return Ok(after > 7);
        }
    }
    Ok(false)
}
