//! Diffusion models on microcontrollers: draws pictures from a `.mote` file, without an allocator.
//!
//! A tour, in the order in which data flows:
//!
//! 1. [`model!`] puts a file that `converter quantize` wrote into flash ([`format`] is its bytes). The compiler checks it: after
//!    that nothing in it can panic, overflow or leave bounds. [`Model::from_bytes`] does the same at run time.
//! 2. Only the operators that the file uses are linked ([`opset`]).
//! 3. [`Model::arena_len`] says at compile time how much memory a picture takes; [`Arena`] is that much static memory.
//! 4. [`Sampler`] draws by the file's compiled schedule, a [`poll`](Sampler::poll) at a time: [`step`] runs the network's
//!    operators ([`ops`], geometry in [`shape`]) over the [`kernels`], [`sampler::coefficients`] updates the sample.
//! 5. [`Image`] writes it as gray8, rgb888 or rgb565, or is drawn onto an `embedded-graphics` target (`draw`).
//!
//! ```
//! use mote_runtime::{Error, Model, Poll, Request, Sampler};
//!
//! # fn main() {}
//! # fn firmware(file: &'static [u8], arena: &'static mut [u8], frame: &mut [u8]) -> Result<(), Error> {
//! // In firmware there is no `file`, but
//! //     mote_runtime::model!(static MODEL = "digits.mote");
//! //     static ARENA: Arena<{ MODEL.arena_len() }> = Arena::new();
//! let model = Model::from_bytes(file)?;
//! let mut sampler = Sampler::new(&model, arena)?;
//! sampler.start(Request { seed: 7, class: Some(3), poll_budget: 500_000, ..Default::default() })?;
//! while let Poll::Pending(progress) = sampler.poll() {
//!     // show progress.step of progress.steps; let other tasks run
//! #   let _ = progress;
//! }
//! sampler.image().write_gray8(frame)?;
//! # Ok(())
//! # }
//! ```
//!
//! All arithmetic that reaches output bits is integer, or f32 with correctly rounded operations in written order, so the
//! same file and seed give the same bytes on every core; [`quant`] has the rounding rule. Bad bytes and bad arguments
//! give an [`Error`] that names them; no panic is reachable from either. `unsafe` is denied here and allowed in
//! `arena.rs` (the static buffer), `threads.rs` and in the kernels of instruction sets (`kernels/x86_64/`, `aarch64.rs`,
//! `aarch64_dot.rs`, `wasm_simd128.rs`, `arm_dsp/`, `arm_mve.rs`).

#![no_std]
#![deny(unsafe_code)]
#![warn(missing_docs)]

#[cfg(target_endian = "big")]
compile_error!("a .mote file is read in place, so the core must be little-endian");

pub mod arena;
#[cfg(feature = "embedded-graphics")]
pub mod draw;
pub mod error;
pub mod format;
pub mod kernels;
pub mod model;
pub mod ops;
pub mod opset;
pub mod quant;
pub mod sampler;
pub mod selftest;
pub mod shape;
mod sqrt;
pub mod step;
#[cfg(feature = "std")]
pub mod threads;

pub use arena::{Aligned, Arena};
pub use error::Error;
pub use model::{Model, arena_len};
pub use opset::{OpSet, ops_used};
pub use sampler::{Image, Poll, Progress, Request, Sampler};
pub use selftest::{Depth, Verdict};

/// A model in flash, checked by the compiler: a static of type [`Model`], of which only the needed operators are linked.
///
/// A malformed file does not compile. The path is relative to the source file, as with `include_bytes!`.
///
/// ```ignore
/// mote_runtime::model!(static MODEL = "digits.mote");
/// static ARENA: Arena<{ MODEL.arena_len() }> = Arena::new();
/// ```
#[macro_export]
macro_rules! model {
    ($(#[$attribute:meta])* $visibility:vis static $name:ident = $path:expr) => {
        $(#[$attribute])*
        // A compiler asks back after two million steps; the records of a large model may take as many.
        #[allow(long_running_const_eval)]
        $visibility static $name: $crate::Model<'static, { $crate::ops_used($crate::include_model!($path)) }> = {
            static FILE: &$crate::Aligned<[u8]> = &$crate::Aligned(*include_bytes!($path));
            match $crate::Model::from_aligned(FILE) {
                Ok(model) => model,
                Err(error) => panic!("{}", error.text()),
            }
        };
    };
}

/// The bytes of a `.mote` file, aligned, as a `&'static [u8]` in read-only memory.
///
/// The path is relative to the source file, as with `include_bytes!`.
#[macro_export]
macro_rules! include_model {
    ($path:expr) => {{
        static MODEL: &$crate::Aligned<[u8]> = &$crate::Aligned(*include_bytes!($path));
        &MODEL.0
    }};
}
