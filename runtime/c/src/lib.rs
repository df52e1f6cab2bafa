//! The C library: `libmote.a` and `include/mote.h`, which is made from these sources.
//!
//! A C program goes through the same states as a Rust one, in one object of its own: [`mote_sampler_t`](handle) holds the
//! checked model and the sampler in the caller's memory, [`api`] are the functions, [`status`] the numbers for what can
//! go wrong and their words. What Rust's types say to a Rust caller is checked here at every call, as far as it can be:
//! null and misaligned pointers, lengths, buffers that lie over each other, a sampler that was never initialised, was
//! copied elsewhere or is at work already. Nothing here panics and nothing formats text.
//!
//! The names are C's, so that one search finds a thing in both languages. `unsafe` is denied here and allowed in
//! `handle.rs` (the object in the caller's memory), `raw.rs` (pointers to slices) and `api.rs` (exported names).

#![no_std]
#![deny(unsafe_code)]
#![warn(missing_docs)]
#![allow(non_camel_case_types)]

mod api;
mod handle;
mod raw;
mod status;

/// The operators that are linked: all, or those of the file that `MOTE_LIKE` named when the library was built.
const OPS: mote_runtime::OpSet = include!(concat!(env!("OUT_DIR"), "/ops.rs"));

/// Demanded by the compiler; not linked into any program, which the tests check.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
