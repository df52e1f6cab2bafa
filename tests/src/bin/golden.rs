//! Says which CRC every machine has to find: `MODEL SEED CRC`, a line for each picture of `on_target/cases.rs`.
//!
//!     cargo run --release -p mote-tests --bin golden            the lines
//!     cargo run --release -p mote-tests --bin golden -- --write also writes vectors/small.mote anew
//!
//! Every kernel table of this machine draws, and all have to draw the same. The firmware links `vectors/small.mote`, so
//! the file is committed; the test `small_file_is_current` compares it with what `small()` builds today.

#[path = "../../on_target/cases.rs"]
mod cases;

use mote_runtime::kernels::select;
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

fn draw(name: &str, file: &[u8], request: fn(u64) -> Request<'static>) -> Result<(), Box<dyn std::error::Error>> {
    let file = Flash::new(file);
    let model = Model::from_bytes(file.bytes())?;
    let mut arena = arena_for(&model);
    for seed in cases::SEEDS {
        let mut scalar = None;
        for kernels in select::tables().iter().rev() {
            let mut sampler = Sampler::with_kernels(&model, arena.bytes_mut(), kernels)?;
            sampler.start(request(seed))?;
            while let Poll::Pending(_) = sampler.poll() {}
            let (crc, scalar) = (sampler.sample_crc(), *scalar.get_or_insert(sampler.sample_crc()));
            if crc != scalar {
                return Err(format!("{} draws {crc:08x}, scalar {scalar:08x}", kernels.name).into());
            }
        }
        println!("{name} {seed} {:08x}", scalar.unwrap_or_default());
    }
    Ok(())
}
