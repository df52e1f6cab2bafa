//! An operator's rows in parts: on one thread all of them at once, with the feature `std` perhaps on several.

use super::Context;
use crate::opset::OpSet;
use core::ops::Range;

/// Where an operator's parts run. Holds nothing unless the feature `std` is on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Workers<'m> {
    /// None runs on the caller's thread.
    #[cfg(feature = "std")]
    threads: Option<&'m crate::threads::Threads>,
    lifetime: core::marker::PhantomData<&'m ()>,
}

#[cfg(feature = "std")]
impl<'m> Workers<'m> {
    /// The caller's thread and these, where they are more than it.
    pub fn on(threads: &'m crate::threads::Threads) -> Self {
        Workers { threads: (threads.count() > 1).then_some(threads), lifetime: core::marker::PhantomData }
    }
}

impl Workers<'_> {
    /// Whether there are others than the caller's thread, for which alone costs are counted.
    pub(super) const fn are_some(&self) -> bool {
        #[cfg(feature = "std")]
        return self.threads.is_some();
        #[cfg(not(feature = "std"))]
        false
    }
}

impl Workers<'_> {
    /// The caller's thread alone.
    pub const ALONE: Workers<'static> = Workers {
        #[cfg(feature = "std")]
        threads: None,
        lifetime: core::marker::PhantomData,
    };
}

/// What rows cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// In output bytes, or 64 multiply-adds instead of each.
    pub work: usize,
    /// Whether each part begins with work of its own, as large whatever its rows: weights are unpacked or transformed.
    pub set_up: bool,
}

/// Runs `job` over `rows`, whole or in pieces: it is given some of them, their bytes of `out` (`row_bytes` a row, `out`
/// begins with the first), and scratch as long as `scratch`, with whatever in it.
#[inline(always)]
pub(super) fn over_rows<const OPS: OpSet>(
    ctx: &Context<'_, OPS>,
    rows: Range<usize>,
    (out, row_bytes): (&mut [u8], usize),
    scratch: &mut [u8],
    cost: Cost,
    job: impl Fn(Range<usize>, &mut [u8], &mut [u8]) + Sync,
) {
    #[cfg(feature = "std")]
    if let Some(threads) = ctx.workers.threads
        && threads.over_rows(rows.clone(), (&mut *out, row_bytes), scratch.len(), cost, &job)
    {
        return;
    }
    let _ = (ctx, row_bytes, cost.work, cost.set_up);
    job(rows, out, scratch);
}

/// Runs `job` over `rows` in pieces on several threads: it is given some of them and their bytes of each output, as [`over_rows`] gives
/// them of one. `false`, and nothing done, where that would not pay.
#[cfg(feature = "std")]
pub(super) fn over_rows_of_three<const OPS: OpSet>(
    ctx: &Context<'_, OPS>,
    rows: Range<usize>,
    (outs, row_bytes): ([&mut [u8]; 3], usize),
    cost: Cost,
    job: impl Fn(Range<usize>, [&mut [u8]; 3]) + Sync,
) -> bool {
    ctx.workers.threads.is_some_and(|threads| threads.over_rows_of_three(rows, (outs, row_bytes), cost, &job))
}

/// As [`over_rows`], but what is cut are the `pixel_bytes` of every pixel of `out`, at multiples of `unit_bytes`: `job` is given some of
/// them, and a piece `[pixels][these bytes]` that is copied to its place afterwards. It holds what lies in that place of `found`, or of `out`
/// where `found` is empty, or whatever. `false`, and nothing done, where rows are to be cut or nothing.
#[inline(always)]
pub(super) fn over_columns<const OPS: OpSet>(
    ctx: &Context<'_, OPS>,
    (out, pixel_bytes, unit_bytes): (&mut [u8], usize, usize),
    found: Option<&[u8]>,
    scratch_bytes: usize,
    cost: Cost,
    job: impl Fn(Range<usize>, &mut [u8], &mut [u8]) + Sync,
) -> bool {
    #[cfg(feature = "std")]
    if let Some(threads) = ctx.workers.threads {
        return threads.over_columns((out, pixel_bytes, unit_bytes), found, scratch_bytes, cost, &job);
    }
    let _ = (ctx, out, pixel_bytes, unit_bytes, found, scratch_bytes, cost, job);
    false
}
