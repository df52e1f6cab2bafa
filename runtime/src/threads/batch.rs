//! Pictures side by side, each on a thread of its own.

extern crate std;

use core::num::NonZeroUsize;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::panic::resume_unwind;
use std::vec::Vec;

use crate::error::Error;
use crate::kernels::{Kernels, select};
use crate::model::Model;
use crate::opset::OpSet;
use crate::sampler::{Request, Sampler};

/// Draws a picture for each request, `threads` at a time, each in an arena of its own on one thread; `done` is given the
/// request's index and the picture's elements (HWC) as soon as it is drawn, in any order, on the thread that drew it.
///
/// ```
/// # use mote_runtime::{Error, Model, Request, threads};
/// # fn draw(model: &Model<'_>) -> Result<(), Error> {
/// let requests: Vec<Request> = (0..64).map(|seed| Request { seed, ..Default::default() }).collect();
/// let threads = std::thread::available_parallelism().unwrap_or(std::num::NonZero::<usize>::MIN);
/// threads::draw_batch(model, &requests, threads, |index, elems| println!("{index}: {:?}", elems.first()))
/// # }
/// ```
///
/// # Errors
/// The first that a request meets, as [`Sampler::start`]; the others are drawn or dropped.
pub fn draw_batch<const OPS: OpSet>(
    model: &Model<'_, OPS>,
    requests: &[Request<'_>],
    threads: NonZeroUsize,
    done: impl Fn(usize, &[f32]) + Sync,
) -> Result<(), Error> {
    draw_batch_with_kernels(model, select::kernels::<OPS>(), requests, threads, done)
}

/// As [`draw_batch`] with a chosen kernel table, to compare tables with each other.
///
/// # Errors
/// As [`draw_batch`].
pub fn draw_batch_with_kernels<const OPS: OpSet>(
    model: &Model<'_, OPS>,
    kernels: &'static Kernels,
    requests: &[Request<'_>],
    threads: NonZeroUsize,
    done: impl Fn(usize, &[f32]) + Sync,
) -> Result<(), Error> {
    let next = AtomicUsize::new(0);
    let draw = || -> Result<(), Error> {
        let mut arena = std::vec![0u128; model.arena_len().div_ceil(size_of::<u128>())];
        let mut sampler = Sampler::with_kernels(model, bytemuck::cast_slice_mut(&mut arena), kernels)?;
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(&request) = requests.get(index) else { return Ok(()) };
            done(index, sampler.generate(request)?.elems());
        }
    };
    let mut ended = Ok(());
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.get().min(requests.len())).map(|_| scope.spawn(draw)).collect();
        ended = draw();
        for other in others {
            let other = other.join().unwrap_or_else(|panic| resume_unwind(panic));
            ended = ended.and(other);
        }
    });
    ended
}
