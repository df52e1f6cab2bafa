//! What `benches/mcu` measures: the operators of a model, one after the other, each between the markers of its counter
//! (`benches/mcu/count.c`), then a softmax, then a whole picture. The file is the one that `MOTE_MODEL` names when this is
//! built, and its operators are linked as in any program.

#![no_std]
#![no_main]

use core::arch::asm;
use mote_firmware::println;
use mote_runtime::format::checksum::crc32;
use mote_runtime::kernels::{Exponential, Kernels, select};
use mote_runtime::ops::{Context, Workers, run_rows};
use mote_runtime::{Arena, Error, Poll, Request, Sampler, shape};

mote_runtime::model!(static MODEL = env!("MOTE_MODEL"));
static ARENA: Arena<{ MODEL.arena_len() }> = Arena::new();

mote_firmware::entry!(run);

/// Counts the instructions of `work`.
fn counted<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: the markers change nothing.
    #[cfg(target_arch = "arm")]
    unsafe {
        asm!("mov r10, r10");
        let done = work();
        asm!("mov r11, r11");
        done
    }
    // SAFETY: as above.
    #[cfg(target_arch = "riscv32")]
    unsafe {
        asm!("slti x0, x0, 266");
        let done = work();
        asm!("slti x0, x0, 267");
        done
    }
}

fn run() -> Result<(), Error> {
    let arena = ARENA.take()?;
    let class = MODEL.classes().checked_sub(1).map(|last| last.min(7));
    let request = Request { seed: 7, class, ..Default::default() };
    let kernels = select::kernels::<{ MODEL.ops() }>();
    println!("kernels {}", kernels.name);
    println!("arena {}", MODEL.arena_len());

    // Only for x_t: noise.
    Sampler::new(&MODEL, arena)?.start(request)?;
    let context = Context { model: &MODEL, kernels, row: 0, class: class.unwrap_or(0).into(), workers: Workers::ALONE };
    let graph = MODEL.graph(0);
    // What every operator wrote: the host compares.
    let mut written = 0u32;
    for index in graph.first_op..graph.first_op + graph.ops {
        let Some(record) = MODEL.op(index.into()) else { break };
        let rows = shape::op_rows(&record.op, &MODEL);
        counted(|| run_rows(&context, arena, &record.op, record.live_end as usize, 0..rows));
        let out = arena.get(MODEL.tensor(record.op.out()).range()).unwrap_or_default();
        written = written.rotate_left(1) ^ crc32(out);
    }
    println!("written {written:08x}");
    let score = |i: usize| ((i as u32).wrapping_mul(0x9e37_79b9) >> 14) as i32;
    let mut scores = core::array::from_fn(|row| core::array::from_fn(|j| score(49 * row + j)));
    counted(|| softmax(kernels, &mut scores));

    let mut sampler = Sampler::new(&MODEL, arena)?;
    sampler.start(request)?;
    counted(|| while let Poll::Pending(_) = sampler.poll() {});
    println!("picture {:08x}", sampler.sample_crc());
    Ok(())
}

/// 49 rows of 49 scores, as a head of an attention over 7×7 positions has them.
#[inline(never)]
fn softmax(kernels: &Kernels, scores: &mut [[i32; 49]; 49]) {
    static TABLE: [u16; 64] = [20_000; 64];
    let constants = Exponential { shift: 0, multiplier: 1 << 24, coarse: &TABLE, fine: &TABLE, right: 15 };
    // The compiler shall not know them: they are a model's.
    let (softmax, constants) = core::hint::black_box((kernels.softmax, constants));
    for row in scores {
        core::hint::black_box(softmax(row, constants));
    }
}
