//! Draws a digit as firmware would: the model in read-only memory, a static arena whose length the linker knows, a poll
//! loop that lets other work have its turn. Only the display differs: here a terminal and a PGM file.
//!
//!     cargo run --release -p mote-example-host -- [CLASS] [SEED] [picture.pgm]

use std::process::ExitCode;

use mote_runtime::{Arena, Error, Poll, Request, Sampler};

mote_runtime::model!(static MODEL = "../../../models/digits/digits.mote");
static ARENA: Arena<{ MODEL.arena_len() }> = Arena::new();

/// The picture's size, known when the model is chosen; `draw` says so if it is another.
const WIDTH: usize = 28;
const HEIGHT: usize = 28;

/// Multiply-adds between two turns of everything else: about 10 ms on a 100 MHz core.
const POLL_BUDGET: u32 = 500_000;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let class = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(3);
    let seed = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(7);
    let mut frame = [0; WIDTH * HEIGHT];
    if let Err(error) = draw(class, seed, &mut frame) {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    show(&frame);
    if let Some(path) = arguments.next()
        && let Err(error) = std::fs::write(&path, pgm(&frame))
    {
        eprintln!("{path}: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// What firmware does; nothing here needs more than `core`.
fn draw(class: u16, seed: u64, frame: &mut [u8]) -> Result<(), Error> {
    // Is the flash still what the compiler has checked?
    MODEL.verify()?;
    // `take` answers once: a second task that asked for the same arena would get an error.
    let mut sampler = Sampler::new(&MODEL, ARENA.take()?)?;
    sampler.start(Request { seed, class: Some(class), poll_budget: POLL_BUDGET, ..Default::default() })?;
    while let Poll::Pending(progress) = sampler.poll() {
        if progress.step_done {
            eprint!("\rstep {} of {}", progress.step, progress.steps);
        }
        // Here an RTOS yields, a main loop feeds its watchdog, an async task awaits.
    }
    eprintln!();
    sampler.image().write_gray8(frame)
}

/// Two pixels a character cell, from dark to bright.
fn show(frame: &[u8]) {
    const SHADES: &[u8] = b" .:-=+*#%@";
    for rows in frame.chunks(2 * WIDTH) {
        let (upper, lower) = rows.split_at(WIDTH);
        let shade = |(&a, &b): (&u8, &u8)| SHADES[(a as usize + b as usize) * (SHADES.len() - 1) / 510] as char;
        println!("{}", upper.iter().zip(lower).map(shade).collect::<String>());
    }
}

/// A gray picture that every viewer opens.
fn pgm(frame: &[u8]) -> Vec<u8> {
    let mut file = format!("P5\n{WIDTH} {HEIGHT}\n255\n").into_bytes();
    file.extend(frame);
    file
}
