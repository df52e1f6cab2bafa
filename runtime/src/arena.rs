//! The caller's memory, and disjoint slices of it.
//!
//! [`Arena`] is a static buffer whose length the linker checks; [`pieces`] cuts the tensors of one operator out of it
//! with the standard library's checked `get_disjoint_mut`. What voids the promise: nothing; a second `take` fails.

#![allow(unsafe_code)]

use core::cell::UnsafeCell;
use core::ops::Range;
use portable_atomic::{AtomicBool, Ordering};

/// A static, 16-byte-aligned buffer that can be taken once.
///
/// ```
/// use mote_runtime::Arena;
/// static ARENA: Arena<1024> = Arena::new();
/// assert_eq!(ARENA.take().map(|bytes| bytes.len()), Some(1024));
/// assert!(ARENA.take().is_none());
/// ```
///
/// `take` swaps a flag atomically, so it is sound from interrupts and from several cores: one caller gets the buffer.
/// On cores without compare-and-swap (Cortex-M0+), choose how `portable-atomic` makes that so in your firmware's
/// `Cargo.toml`: its feature `critical-section`, or `unsafe-assume-single-core` where there is but one core.
#[repr(C, align(16))]
pub struct Arena<const N: usize> {
    bytes: UnsafeCell<[u8; N]>,
    taken: AtomicBool,
}

// SAFETY: `bytes` is reached only through `take`, which hands it out once.
unsafe impl<const N: usize> Sync for Arena<N> {}

impl<const N: usize> Arena<N> {
    /// An untaken arena, all zero, so that it lies in `.bss`.
    pub const fn new() -> Self {
        Self { bytes: UnsafeCell::new([0; N]), taken: AtomicBool::new(false) }
    }

    /// The buffer, the first time; `None` afterwards.
    pub fn take(&'static self) -> Option<&'static mut [u8]> {
        if self.taken.swap(true, Ordering::AcqRel) {
            return None;
        }
        // SAFETY: the flag was false and is true for ever, so this is the only reference; the static lives for ever.
        let bytes: &'static mut [u8; N] = unsafe { &mut *self.bytes.get() };
        Some(bytes)
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
pub(crate) fn pieces<const N: usize>(arena: &mut [u8], ranges: [Range<usize>; N]) -> [&mut [u8]; N] {
    arena.get_disjoint_mut(ranges).unwrap_or_else(|_| core::array::from_fn(|_| &mut [] as &mut [u8]))
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
pub(crate) fn take_front<'a>(rest: &mut &'a mut [u8], len: usize) -> &'a mut [u8] {
    rest.split_off_mut(..len).unwrap_or_default()
}
