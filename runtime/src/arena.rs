//! The caller's memory, and disjoint slices of it.
//!
//! [`Arena`] is a static buffer whose length the linker checks; `pieces` cuts the tensors of one operator out of it
//! in order of their places. What voids the promise: nothing; a second `take` fails.

#![allow(unsafe_code)]

use crate::error::Error;
use crate::kernels::select;
use core::cell::UnsafeCell;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A static, 16-byte-aligned buffer that can be taken once.
///
/// ```
/// use mote_runtime::Arena;
/// static ARENA: Arena<1024> = Arena::new();
/// assert_eq!(ARENA.take().map(|bytes| bytes.len()), Ok(1024));
/// assert_eq!(ARENA.take(), Err(mote_runtime::Error::ArenaTaken));
/// ```
///
/// `take` needs atomic loads and stores only, no compare-and-swap and no disabled interrupts, so it is the same on a
/// Cortex-M0+ and on two cores. From interrupts, tasks or other cores **at most one** caller ever gets the buffer. A
/// caller that nobody disturbs gets it for certain; if two take it in the same instant, it may be that neither does, so
/// take it at start-up.
#[repr(C, align(16))]
pub struct Arena<const N: usize> {
    bytes: UnsafeCell<[u8; N]>,
    /// The caller that came last, as the address of a local variable of its.
    last: AtomicUsize,
    taken: AtomicBool,
}

// SAFETY: `bytes` is reached only through `take`, which hands it out at most once.
unsafe impl<const N: usize> Sync for Arena<N> {}

impl<const N: usize> Arena<N> {
    /// An untaken arena, all zero, so that it lies in `.bss`.
    pub const fn new() -> Self {
        Self { bytes: UnsafeCell::new([0; N]), last: AtomicUsize::new(0), taken: AtomicBool::new(false) }
    }

    /// The buffer, the first time.
    ///
    /// # Errors
    /// [`Error::ArenaTaken`] afterwards.
    ///
    /// The splitter of Lamport, *A Fast Mutual Exclusion Algorithm* (1987), and Moir and Anderson (1995). Why at most one
    /// caller passes: let P be the winner that wrote `last` latest, Q another. Q saw its own number in `last` after it set
    /// `taken`, so P wrote `last` after that; but then P found `taken` set. Numbers of callers at work at the same time
    /// differ, because they are addresses of living variables.
    #[allow(clippy::mut_from_ref)] // at most one caller passes
    pub fn take(&'static self) -> Result<&'static mut [u8], Error> {
        let living = 0u8;
        let me = core::hint::black_box(&raw const living) as usize;
        self.last.store(me, Ordering::SeqCst);
        if self.taken.load(Ordering::SeqCst) {
            return Err(Error::ArenaTaken);
        }
        self.taken.store(true, Ordering::SeqCst);
        if self.last.load(Ordering::SeqCst) != me {
            return Err(Error::ArenaTaken);
        }
        // SAFETY: at most one caller ever gets here, so this is the only reference; the static lives for ever.
        let bytes: &'static mut [u8; N] = unsafe { &mut *self.bytes.get() };
        Ok(bytes)
    }
}

impl<const N: usize> Default for Arena<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// Bytes aligned to 16, as `.mote` files and arenas want them.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(16))]
pub struct Aligned<T: ?Sized>(pub T);

/// The pieces of `arena` at these ranges, all empty if two overlap or one leaves it.
///
/// An absent tensor is the range `0..0`.
#[cfg_attr(not(target_os = "none"), inline(always))]
pub(crate) fn pieces<const N: usize>(arena: &mut [u8], ranges: [Range<usize>; N]) -> [&mut [u8]; N] {
    if select::TILING.is_host() {
        return arena.get_disjoint_mut(ranges).unwrap_or_else(|_| [(); N].map(|()| Default::default()));
    }
    let mut pieces = core::array::from_fn(|_| &mut [] as &mut [u8]);
    pieces_into(arena, &ranges, &mut pieces);
    pieces
}

/// For firmware, one function for all numbers of pieces: an instance for each, with the standard library's `get_disjoint_mut`, would be
/// 1 KB more, and 200 bytes of stack. On a host this one would take 1 % of a small network's step.
#[inline(never)]
fn pieces_into<'a>(arena: &'a mut [u8], ranges: &[Range<usize>], pieces: &mut [&'a mut [u8]]) {
    // In the order of their places: cut off what lies before a piece, then the piece. One that begins before the last one's end is
    // never the next, so fewer are cut.
    let (mut rest, mut cut, mut done) = (arena, 0, 0);
    loop {
        let ahead = |range: &Range<usize>| !range.is_empty() && range.start >= cut;
        let next = ranges.iter().enumerate().filter(|(_, range)| ahead(range)).min_by_key(|(_, range)| range.start);
        let Some((index, range)) = next else { break };
        let Some((_, from)) = rest.split_at_mut_checked(range.start - cut) else { break };
        let Some((piece, after)) = from.split_at_mut_checked(range.len()) else { break };
        if let Some(to) = pieces.get_mut(index) {
            *to = piece;
        }
        (rest, cut, done) = (after, range.end, done + 1);
    }
    if done < ranges.iter().filter(|range| !range.is_empty()).count() {
        pieces.iter_mut().for_each(|piece| *piece = &mut []);
    }
}

/// The bytes as elements of another type; empty where alignment or length do not fit.
pub(crate) fn cast<T: bytemuck::AnyBitPattern>(bytes: &[u8]) -> &[T] {
    bytemuck::try_cast_slice(bytes).unwrap_or_default()
}

/// As [`cast`], to write.
pub(crate) fn cast_mut<T: bytemuck::AnyBitPattern + bytemuck::NoUninit>(bytes: &mut [u8]) -> &mut [T] {
    bytemuck::try_cast_slice_mut(bytes).unwrap_or_default()
}

/// Cuts `len` bytes off the front of `rest`; empty where there are fewer.
#[cfg_attr(not(target_os = "none"), inline(always))]
pub(crate) fn take_front<'a>(rest: &mut &'a mut [u8], len: usize) -> &'a mut [u8] {
    rest.split_off_mut(..len).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::thread;
    use std::vec::Vec;

    #[test]
    fn at_most_one_of_many_threads_takes_it() {
        for _ in 0..200 {
            let arena: &'static Arena<16> = std::boxed::Box::leak(std::boxed::Box::new(Arena::new()));
            let threads: Vec<_> = (0..4).map(|_| thread::spawn(move || arena.take().is_ok())).collect();
            let winners = threads.into_iter().filter_map(|thread| thread.join().ok()).filter(|&won| won).count();
            assert!(winners <= 1);
            assert_eq!(arena.take(), Err(Error::ArenaTaken));
        }
    }

    #[test]
    fn overlapping_or_outside_pieces_are_empty() {
        let mut bytes = [0u8; 32];
        assert_eq!(pieces(&mut bytes, [0..16, 16..32, 0..0]).map(|piece| piece.len()), [16, 16, 0]);
        assert_eq!(pieces(&mut bytes, [0..17, 16..32]).map(|piece| piece.len()), [0, 0]);
        assert_eq!(pieces(&mut bytes, [0..16, 16..33]).map(|piece| piece.len()), [0, 0]);
    }
}
