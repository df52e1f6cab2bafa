//! What 32-bit cores without vectors or saturating instructions share.

#![allow(unsafe_code)]

/// Saturated to int8, for cores without an instruction that does.
#[inline(always)]
pub(super) fn clamp_i8(value: i32) -> i8 {
    if value.wrapping_add(128) as u32 > 255 { (value >> 31 ^ 127) as i8 } else { value as i8 }
}

/// Loads a window by words: without unaligned loads a compiler copies byte by byte.
pub(super) fn copy(out: &mut [i8], elems: &[i8]) {
    let (to, from) = (out.as_mut_ptr(), elems.as_ptr());
    let len = out.len().min(elems.len());
    let mut done = 0;
    if (to.addr() | from.addr()).is_multiple_of(4) {
        while done + 4 <= len {
            // SAFETY: four elements of either are there, at multiples of four.
            unsafe { to.add(done).cast::<i32>().write(from.add(done).cast::<i32>().read()) };
            done += 4;
        }
    }
    while done < len {
        // SAFETY: an element of either.
        unsafe { to.add(done).write(*from.add(done)) };
        done += 1;
    }
}
