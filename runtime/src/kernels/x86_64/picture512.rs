//! The padded rows of a picture, in bytes without a sign, as AVX-512 VNNI's convolutions read them.

use super::super::{Frame, Picture};
use super::direct512::LIMITS;
use super::rows512::first64;
use core::arch::x86_64::*;
use core::mem::MaybeUninit;

/// What is written more than a window: 63 elements before it, 3 behind it, and 63 to the end of a vector.
pub(super) const SLACK: usize = 192;

/// Room on the stack, from a line of the cache on.
#[repr(align(64))]
pub(super) struct Lines<const N: usize>([MaybeUninit<u8>; N]);

impl<const N: usize> Lines<N> {
    pub(super) const fn new() -> Self {
        Lines([const { MaybeUninit::uninit() }; N])
    }

    pub(super) fn start(&mut self) -> *mut i8 {
        self.0.as_mut_ptr().cast()
    }
}

/// A picture's rows, padded, as patches of runs.
pub(super) struct Shape {
    pub(super) runs: usize,
    pub(super) run_len: usize,
    pub(super) run_stride: usize,
    pub(super) pixel_stride: usize,
    /// Output rows, pixels of each, and elements from the first patch of one to the next one's.
    pub(super) rows: usize,
    pub(super) row_pixels: usize,
    pub(super) row_stride: usize,
    /// Where rows of the picture lie among padding, all as one where nothing is between them; and the first element of them.
    frame: Frame<i8>,
    first: usize,
    /// Elements of the window.
    pub(super) len: usize,
}

impl Shape {
    /// None where there is nothing to do, the picture is not what it says, or does not fit, or a patch is longer than `limit`.
    #[inline(always)] // what is written field by field and copied whole waits for the stores
    pub(super) fn new(picture: &Picture<'_>, limit: usize) -> Option<Shape> {
        let &Picture { elems, size: [h, w, c], kernel: [runs, kernel_w], stride, out: [rows, row_pixels], .. } =
            picture;
        let pixels = rows.checked_mul(row_pixels)?;
        let columns = row_pixels.checked_sub(1)?.checked_mul(stride)?.checked_add(kernel_w)?;
        let window_rows = rows.checked_sub(1)?.checked_mul(stride)?.checked_add(runs)?;
        let (run_len, run_stride) = (kernel_w.checked_mul(c)?, columns.checked_mul(c)?);
        let len = window_rows.checked_mul(run_stride)?;
        let fits = (1..=limit).contains(&runs.checked_mul(run_len)?)
            && len <= LIMITS.window
            && h.checked_mul(w)?.checked_mul(c)? <= elems.len();
        let (pixel_stride, row_stride) = (stride.checked_mul(c)?, stride.checked_mul(run_stride)?);
        if !fits {
            return None;
        }
        // Rows and columns of the window that are no padding.
        let inside = |from: isize, there: usize, most: usize| {
            let begin = from.saturating_neg().clamp(0, most as isize);
            begin as usize..(there as isize).saturating_sub(from).clamp(begin, most as isize) as usize
        };
        let [top, left] = picture.from;
        let (inner, within) = (inside(top, h, window_rows), inside(left, w, columns));
        let mut frame = Frame {
            rows: inner.len(),
            len: within.len() * c,
            stride: w.wrapping_mul(c), // of no rows, perhaps more than there is
            before: inner.start * run_stride + within.start * c,
            gap: run_stride - within.len() * c,
            pad: picture.zero_point ^ -128,
        };
        let mut first = 0;
        if inner.is_empty() || within.is_empty() {
            (frame.rows, frame.before) = (0, 0);
        } else {
            first = ((top + inner.start as isize) as usize * w + (left + within.start as isize) as usize) * c;
        }
        if frame.gap == 0 && frame.len == frame.stride {
            (frame.len, frame.rows) = (frame.len * frame.rows, 1);
        }
        // Of 1×1 all rows are one.
        let [rows, row_pixels] =
            if runs == 1 && kernel_w == 1 && stride == 1 { [1, pixels] } else { [rows, row_pixels] };
        Some(Shape { runs, run_len, run_stride, pixel_stride, rows, row_pixels, row_stride, frame, first, len })
    }

    /// Whether patches are three pixels wide and begin a pixel, of whole groups of four, behind each other.
    pub(super) fn slides(&self) -> bool {
        self.run_len == 3 * self.pixel_stride && self.pixel_stride.is_multiple_of(4)
    }
}

/// The window: elements with 128 more each; and some more that may be read in vain. Begins where the picture's first element comes to a line
/// of the cache, so that most stores do not meet two of them.
///
/// # Safety
/// The window and [`SLACK`] elements more can be written.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn load(to: *mut i8, picture: &Picture<'_>, shape: &Shape) -> *mut i8 {
    let Frame { rows, len, stride, before, gap, pad } = shape.frame;
    let pad = _mm512_set1_epi8(pad);
    let window = to.wrapping_add(before.wrapping_neg() % 64);
    // Each vector may leave too much behind it, which is written again, or is nobody's.
    // SAFETY: less than 64 elements behind those that are meant are written; those that are read are there, the others masked off.
    unsafe {
        let fill = |to: *mut i8, len: usize| {
            for at in (0..len).step_by(64) {
                _mm512_storeu_si512(to.add(at).cast(), pad);
            }
        };
        fill(window, before);
        let (mut to, mut from) = (window.add(before), picture.elems.as_ptr().wrapping_add(shape.first));
        for row in 0..rows {
            if row > 0 {
                fill(to, gap);
                to = to.add(gap);
            }
            flip(to, from, len);
            (to, from) = (to.add(len), from.wrapping_add(stride));
        }
        // All that is left, which is less than a gap where the last row is the window's, and three elements that an odd patch reads more.
        let done = to.offset_from(window) as usize;
        fill(to, shape.len + 3 - done);
    }
    window
}

/// `len` elements, with 128 more each.
///
/// # Safety
/// They are there, and less than 64 more can be written.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
pub(super) unsafe fn flip(to: *mut i8, from: *const i8, len: usize) {
    let sign = _mm512_set1_epi8(-128);
    let whole = len / 64 * 64;
    // SAFETY: the caller's promise; what lies behind is masked off.
    unsafe {
        for at in (0..whole).step_by(64) {
            let some = _mm512_loadu_si512(from.add(at).cast());
            _mm512_storeu_si512(to.add(at).cast(), _mm512_xor_si512(some, sign));
        }
        if whole < len {
            let some = _mm512_maskz_loadu_epi8(first64(len - whole), from.add(whole));
            _mm512_storeu_si512(to.add(whole).cast(), _mm512_xor_si512(some, sign));
        }
    }
}
