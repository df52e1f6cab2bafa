//! The padded rows of a picture, in bytes without a sign, as AVX-512 VNNI's convolutions read them.

use super::super::Picture;
use super::direct512::LIMITS;
use super::rows512::first64;
use core::arch::x86_64::*;
use core::mem::MaybeUninit;

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
    /// Padded input rows.
    window_rows: usize,
}

impl Shape {
    /// None where there is nothing to do, the picture is not what it says, or does not fit, or a patch is longer than `limit`.
    pub(super) fn new(picture: &Picture<'_>, limit: usize) -> Option<Shape> {
        let Picture { elems, size: [h, w, c], kernel: [runs, kernel_w], stride, out: [rows, row_pixels], .. } =
            *picture;
        rows.checked_mul(row_pixels)?;
        let columns = row_pixels.checked_sub(1)?.checked_mul(stride)?.checked_add(kernel_w)?;
        let window_rows = rows.checked_sub(1)?.checked_mul(stride)?.checked_add(runs)?;
        let (run_len, run_stride) = (kernel_w.checked_mul(c)?, columns.checked_mul(c)?);
        let fits = (1..=limit).contains(&runs.checked_mul(run_len)?)
            && window_rows.checked_mul(run_stride)? <= LIMITS.window
            && h.checked_mul(w)?.checked_mul(c)? <= elems.len();
        let (pixel_stride, row_stride) = (stride.checked_mul(c)?, stride.checked_mul(run_stride)?);
        let shape = Shape { runs, run_len, run_stride, pixel_stride, rows, row_pixels, row_stride, window_rows };
        fits.then_some(shape)
    }

    /// Whether patches are three pixels wide and begin a pixel, of whole groups of four, behind each other.
    pub(super) fn slides(&self) -> bool {
        self.run_len == 3 * self.pixel_stride && self.pixel_stride.is_multiple_of(4)
    }

    /// Elements of the window.
    pub(super) fn len(&self) -> usize {
        self.window_rows * self.run_stride
    }
}

/// The window: elements with 128 more each, and some more that may be read in vain.
///
/// # Safety
/// The window and 64 elements more can be written.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn load(to: *mut i8, picture: &Picture<'_>, shape: &Shape) {
    let Picture { elems, size: [h, w, c], from: [top, left], .. } = *picture;
    let sign = _mm512_set1_epi8(-128);
    let pad = _mm512_xor_si512(_mm512_set1_epi8(picture.zero_point), sign);
    let columns = (shape.run_stride / c) as isize;
    // Columns that are no padding.
    let begin = left.saturating_neg().clamp(0, columns);
    let end = (w as isize).saturating_sub(left).clamp(begin, columns);
    // Each vector may leave too much behind it, which is written again, or is nobody's.
    // SAFETY: less than 64 elements behind those that are meant are written; those that are read are there, the others masked off.
    unsafe {
        let mut to = to;
        let fill = |to: *mut i8, len: usize| {
            for at in (0..len).step_by(64) {
                _mm512_storeu_si512(to.add(at).cast(), pad);
            }
            to.add(len)
        };
        for row in 0..shape.window_rows as isize {
            let row = top.saturating_add(row);
            if !(0..h as isize).contains(&row) || begin == end {
                to = fill(to, shape.run_stride);
                continue;
            }
            to = fill(to, begin as usize * c);
            let from = elems.as_ptr().add((row as usize * w + (left + begin) as usize) * c);
            let len = (end - begin) as usize * c;
            flip(to, from, len);
            to = fill(to.add(len), (columns - end) as usize * c);
        }
        _mm512_storeu_si512(to.cast(), pad);
    }
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
