//! A convolution's [`Window`]: the input rows below some output pixels, padded, loaded into scratch in the kernel's element type.

use crate::format::Tensor;
use crate::format::op::Conv;
use crate::kernels::scratch::WindowShape;
use crate::kernels::{Frame, Window, select};
use crate::opset::{self, OpSet, links};
use crate::shape::window_start;
use core::ops::Range;

/// Some output pixels of some rows, from (y, x) on; where the rows are several, they are whole.
pub(super) struct Tile<'a> {
    pub op: &'a Conv,
    pub input: &'a Tensor,
    pub y: usize,
    pub x: usize,
    pub rows: usize,
    pub pixels: usize,
}

impl Tile<'_> {
    /// Output rows: one, but for hosts.
    fn rows(&self) -> usize {
        if select::TILING.is_host() { self.rows } else { 1 }
    }

    /// The window of a 1×1 convolution: the pixels themselves.
    pub fn in_place<'a>(&self, elems: &'a [i8]) -> Window<'a, i8> {
        let c = self.input.c as usize;
        let elems = elems.get(self.y * self.input.row_elems() + self.x * c..).unwrap_or_default();
        Window { elems, runs: 1, run_len: c, run_stride: self.pixels * c, pixel_stride: c, row_gap: 0 }
    }

    /// Loads the window into scratch, padded with the zero point; `load` takes whole groups of four.
    pub fn load<'a, const OPS: OpSet, S: Copy, D: Copy + From<S>>(
        &self,
        elems: &[S],
        to: &'a mut [D],
        pad: D,
        exchanged: bool,
        load: impl Fn(&mut [D], &[S]),
        frame: impl Fn(&mut [D], &[S], Frame<D>),
    ) -> Window<'a, D> {
        let out_rows = self.rows();
        let shape = WindowShape::new(self.op, self.input, [out_rows, self.pixels]);
        let WindowShape { runs, run_len, run_stride, pixel_stride, staged } = shape;
        let [c, stride] = [self.input.c as usize, self.op.stride as usize];
        let [kh, kw] = self.op.kernel.map(usize::from);
        let columns = (self.pixels - 1) * stride + kw;
        let rows = (out_rows - 1) * stride + kh;
        let row_len = columns * c;
        if !links(OPS, opset::CONV_ODD) || c.is_multiple_of(4) {
            if select::TILING.is_host() && !self.op.upsample {
                let to = to.get_mut(..rows * row_len).unwrap_or_default();
                let (elems, of_rows) = self.frame(elems, [rows, columns], pad);
                frame(to, elems, of_rows);
            } else {
                for (ky, run) in to.chunks_exact_mut(run_stride.max(1)).take(rows).enumerate() {
                    self.load_row::<OPS, _, _>(elems, run, [ky, columns], pad, &load);
                }
            }
            let row_gap = if out_rows > 1 { stride * run_stride - self.pixels * pixel_stride } else { 0 };
            return Window { elems: to, runs, run_len, run_stride, pixel_stride, row_gap };
        }
        // Rows as they lie, of which each patch copies its own, each group of four as the kernel wants it.
        let (staged, to) = to.split_at_mut_checked(staged).unwrap_or_default();
        let plain = |to: &mut [D], from: &[S]| to.iter_mut().zip(from).for_each(|(to, &from)| *to = from.into());
        if select::TILING.is_host() && !self.op.upsample {
            let to = staged.get_mut(..rows * row_len).unwrap_or_default();
            let (elems, of_rows) = self.frame(elems, [rows, columns], pad);
            frame(to, elems, of_rows);
        } else {
            for (ky, row) in staged.chunks_exact_mut(row_len.max(1)).take(rows).enumerate() {
                self.load_row::<OPS, _, _>(elems, row, [ky, columns], pad, plain);
            }
        }
        for y in 0..out_rows {
            let rows = staged.get(y * stride * row_len..).unwrap_or_default();
            let mut done = 0;
            if select::TILING.is_host() && !exchanged && kw * c <= WIDE {
                let to = to.get_mut(y * self.pixels * run_len..).unwrap_or_default();
                done = gather_wide(to, rows, [self.pixels, run_len, stride * c], [kh, kw * c, row_len]);
            }
            for p in done..self.pixels {
                let to = to.get_mut((y * self.pixels + p) * run_len..).unwrap_or_default();
                gather(to, rows.get(p * stride * c..).unwrap_or_default(), row_len, (kw * c).max(1));
                if exchanged {
                    for [_, second, third, _] in to.get_mut(..run_len).unwrap_or_default().as_chunks_mut::<4>().0 {
                        core::mem::swap(second, third);
                    }
                }
            }
        }
        Window { elems: to, runs, run_len, run_stride, pixel_stride, row_gap: 0 }
    }

    /// A kernel's call for each output row, or one for all where it takes several or their patches lie one behind the other: 1×1, or no
    /// groups of four.
    #[inline(always)]
    pub fn each_row<T>(
        &self,
        takes_rows: bool,
        window: Window<'_, T>,
        sums: &mut [i32],
        call: impl Fn(Window<'_, T>, &mut [i32]),
    ) {
        if self.rows() == 1 || takes_rows || window.row_gap == 0 {
            return call(window, sums);
        }
        let row_stride = self.pixels * window.pixel_stride + window.row_gap;
        let row_len = sums.len() / self.rows();
        for (y, sums) in sums.chunks_exact_mut(row_len.max(1)).enumerate() {
            let elems = window.elems.get(y * row_stride..).unwrap_or_default();
            call(Window { elems, row_gap: 0, ..window }, sums);
        }
    }

    /// Loads the `columns` that kernel row `ky` reads of the input, padded.
    pub fn load_row<const OPS: OpSet, S: Copy, D: Copy>(
        &self,
        elems: &[S],
        to: &mut [D],
        [ky, columns]: [usize; 2],
        pad: D,
        load: impl Fn(&mut [D], &[S]),
    ) {
        if !self.has_row::<OPS>(ky) {
            to.fill(pad);
            return;
        }
        let c = self.input.c as usize;
        let up = links(OPS, opset::CONV_UPSAMPLED) && self.op.upsample;
        let inside = if up { 0..0 } else { self.inside(columns) };
        if let Some(from) = self.pixel::<OPS, _>(elems, ky, inside.start).filter(|_| !inside.is_empty()) {
            load(to.get_mut(inside.start * c..inside.end * c).unwrap_or_default(), from);
        }
        // Upsampled, or padding: pixel by pixel.
        let mut column = if inside.start == 0 { inside.end } else { 0 };
        while column < columns {
            let to = to.get_mut(column * c..(column + 1) * c).unwrap_or_default();
            match self.pixel::<OPS, _>(elems, ky, column) {
                Some(from) => load(to, from.get(..c).unwrap_or_default()),
                None => to.fill(pad),
            }
            column += 1;
            if column == inside.start {
                column = inside.end;
            }
        }
    }

    /// All rows of the window, each of `columns`, of an input that is not upsampled: its elements from the first on that lies inside.
    pub fn frame<'e, S, D>(&self, elems: &'e [S], [rows, columns]: [usize; 2], pad: D) -> (&'e [S], Frame<D>) {
        let (c, stride) = (self.input.c as usize, self.input.row_elems());
        let inside = |at: usize, pad: u8, len: u16, window: usize| {
            let start = window_start(at, self.op.stride as usize, pad as usize);
            let place = |index: isize| (index - start).max(0).min(window as isize) as usize;
            (place(0)..place(len as isize), start.max(0) as usize)
        };
        let (rows, y) = inside(self.y, self.op.pad[0], self.input.h, rows);
        let (inside, x) = inside(self.x, self.op.pad[1], self.input.w, columns);
        if rows.is_empty() || inside.is_empty() {
            // All of it is padding.
            return (&[], Frame { rows: 0, len: 0, stride: 0, before: 0, gap: 0, pad });
        }
        let frame = Frame {
            rows: rows.len(),
            len: inside.len() * c,
            stride,
            before: (rows.start * columns + inside.start) * c,
            gap: (columns - inside.len()) * c,
            pad,
        };
        (elems.get(y * stride + x * c..).unwrap_or_default(), frame)
    }

    /// The input's elements from a pixel of the window on; `None` where that is padding.
    fn pixel<'e, const OPS: OpSet, S>(&self, elems: &'e [S], ky: usize, column: usize) -> Option<&'e [S]> {
        let up = (links(OPS, opset::CONV_UPSAMPLED) && self.op.upsample) as u32;
        let iy = window_start(self.y, self.op.stride as usize, self.op.pad[0] as usize) + ky as isize;
        let ix = window_start(self.x, self.op.stride as usize, self.op.pad[1] as usize) + column as isize;
        let (h, w) = ((self.input.h as isize) << up, (self.input.w as isize) << up);
        if iy < 0 || iy >= h || ix < 0 || ix >= w {
            return None;
        }
        let [iy, ix] = [iy as usize >> up, ix as usize >> up];
        elems.get(iy * self.input.row_elems() + ix * self.input.c as usize..)
    }

    /// Whether kernel row `ky` lies in the input, not in the padding.
    fn has_row<const OPS: OpSet>(&self, ky: usize) -> bool {
        let up = (links(OPS, opset::CONV_UPSAMPLED) && self.op.upsample) as u32;
        let iy = window_start(self.y, self.op.stride as usize, self.op.pad[0] as usize) + ky as isize;
        iy >= 0 && iy < (self.input.h as isize) << up
    }

    /// The window's columns that are no padding.
    fn inside(&self, columns: usize) -> Range<usize> {
        let left = window_start(self.x, self.op.stride as usize, self.op.pad[1] as usize);
        let column = |ix: isize| (ix - left).max(0).min(columns as isize) as usize;
        column(0)..column(self.input.w as isize)
    }
}

/// Elements that hosts copy at once, whatever is wanted of them.
const WIDE: usize = 16;

/// Patches of `run_len` elements, whose runs are shorter than [`WIDE`]; what is too much is overwritten by the next run, or the next
/// patch. Returns how many there are: for the last ones there is not so much to read or to overwrite.
#[inline(always)]
fn gather_wide<T: Copy>(
    to: &mut [T],
    rows: &[T],
    [pixels, run_len, step]: [usize; 3],
    [kh, len, row_len]: [usize; 3],
) -> usize {
    for p in 0..pixels {
        for ky in 0..kh {
            let to = to.get_mut(p * run_len + ky * len..).and_then(<[T]>::first_chunk_mut::<WIDE>);
            let from = rows.get(p * step + ky * row_len..).and_then(<[T]>::first_chunk::<WIDE>);
            let (Some(to), Some(from)) = (to, from) else { return p };
            *to = *from;
        }
    }
    pixels
}

/// A patch: the first `run_len` elements of each row. Not by `chunks_exact`, which divides: that takes a
/// Cortex-M0+ longer than the copy; and apart, because within the tile's loop it has no registers left.
#[inline(never)]
fn gather<T: Copy>(patch: &mut [T], mut rows: &[T], row_len: usize, run_len: usize) {
    let mut rest = patch;
    loop {
        let Some((run, after)) = rest.split_at_mut_checked(run_len) else { return };
        let Some(row) = rows.get(..run_len) else { return };
        run.iter_mut().zip(row).for_each(|(to, &from)| *to = from);
        rest = after;
        rows = rows.get(row_len..).unwrap_or_default();
    }
}
