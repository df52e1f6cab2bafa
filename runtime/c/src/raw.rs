//! From C's pointers to slices.
//!
//! What can be seen of a pointer is checked: null, alignment, a length that no object can have. What cannot be seen is
//! the caller's promise, in `mote.h`: that the memory is there, that many elements of it, and that nothing else writes
//! it during the call (an input), or uses it (an output). Memory that C has not initialised is, to this side, memory of
//! unknown content; every bit pattern of the element types is a value.

#![allow(unsafe_code)]

use crate::status::mote_status_t::{self, *};
use bytemuck::AnyBitPattern;
use core::slice;

/// The addresses of a buffer.
#[derive(Clone, Copy)]
pub(crate) struct Region {
    start: usize,
    len_bytes: usize,
}

impl Region {
    /// Of `count` elements at `at`.
    pub(crate) fn new<T>(at: *const T, count: usize) -> Result<Self, mote_status_t> {
        let start = at.addr();
        if at.is_null() {
            return Err(MOTE_ERROR_NULL);
        }
        if !at.is_aligned() {
            return Err(MOTE_ERROR_UNALIGNED);
        }
        let len_bytes = count.checked_mul(size_of::<T>()).filter(|&len| len <= isize::MAX as usize);
        match len_bytes.filter(|&len| start.checked_add(len).is_some()) {
            Some(len_bytes) => Ok(Self { start, len_bytes }),
            None => Err(MOTE_ERROR_LENGTH),
        }
    }

    /// An error if the two have bytes in common.
    pub(crate) fn apart(self, other: Self) -> Result<(), mote_status_t> {
        let end = |region: Self| region.start.wrapping_add(region.len_bytes);
        if self.start < end(other) && other.start < end(self) { Err(MOTE_ERROR_OVERLAP) } else { Ok(()) }
    }
}

/// An input.
///
/// # Safety
/// `count` elements at `at` can be read, and do not change for as long as the slice is used.
pub(crate) unsafe fn input<'a, T: AnyBitPattern>(at: *const T, count: usize) -> Result<&'a [T], mote_status_t> {
    Region::new(at, count)?;
    // SAFETY: not null, aligned, of a possible length (checked); there, and unchanged (the caller's promise).
    Ok(unsafe { slice::from_raw_parts(at, count) })
}

/// An input that may be left out: null, and a count of zero.
///
/// # Safety
/// As [`input`].
pub(crate) unsafe fn optional<'a, T: AnyBitPattern>(
    at: *const T,
    count: usize,
) -> Result<Option<&'a [T]>, mote_status_t> {
    if at.is_null() && count == 0 {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    unsafe { input(at, count) }.map(Some)
}

/// An output.
///
/// # Safety
/// `count` elements at `at` can be written, and nothing else uses them for as long as the slice is used.
pub(crate) unsafe fn output<'a, T: AnyBitPattern>(at: *mut T, count: usize) -> Result<&'a mut [T], mote_status_t> {
    Region::new(at, count)?;
    // SAFETY: not null, aligned, of a possible length (checked); there, and nobody else's (the caller's promise).
    Ok(unsafe { slice::from_raw_parts_mut(at, count) })
}

/// An error if there is a pointer, and it cannot be one to a `T`. For results that the caller may leave out.
pub(crate) fn check_optional<T>(at: *const T) -> Result<(), mote_status_t> {
    if at.is_null() { Ok(()) } else { Region::new(at, 1).map(|_| ()) }
}

/// Stores a result, where the caller wants it. Nothing is stored through a misaligned pointer.
///
/// # Safety
/// A `T` can be written to `at`, unless it is null.
pub(crate) unsafe fn store<T>(at: *mut T, value: T) {
    if Region::new(at, 1).is_ok() {
        // SAFETY: not null and aligned (checked), and there (the caller's promise).
        unsafe { at.write(value) }
    }
}
