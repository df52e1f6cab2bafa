//! Says which CRC every machine has to find: `MODEL SEED CRC`, a line for each picture of `on_target/cases.rs`.
//!
//!     cargo run --release -p mote-tests --bin golden            the lines
//!     cargo run --release -p mote-tests --bin golden -- --write also writes vectors/small.mote anew
//!
//! The firmware links `vectors/small.mote`, so the file is committed; the test `small_file_is_current` compares it with
//! what `small()` builds today.

#[path = "../../on_target/cases.rs"]
mod cases;

use mote_runtime::{Model, Poll, Request, Sampler};
use mote_tests::{Flash, arena_for, small};
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let small_path = repository.join("tests/vectors/small.mote");
    if std::env::args().any(|arg| arg == "--write") {
        std::fs::write(&small_path, small())?;
    }
    draw("digits", &std::fs::read(repository.join("models/digits/digits.mote"))?, cases::digits)?;
    draw("small", &std::fs::read(small_path)?, cases::small)?;
    Ok(())
}

fn draw(name: &str, file: &[u8], request: fn(u64) -> Request<'static>) -> Result<(), mote_runtime::Error> {
    let file = Flash::new(file);
    let model = Model::from_bytes(file.bytes())?;
    let mut arena = arena_for(&model);
    let mut sampler = Sampler::new(&model, arena.bytes_mut())?;
    for seed in cases::SEEDS {
        sampler.start(request(seed))?;
        while let Poll::Pending(_) = sampler.poll() {}
        println!("{name} {seed} {:08x}", sampler.sample_crc());
    }
    Ok(())
}
