//! The 3×3 convolution of an upsampled picture with a ninth of its reads and a quarter of its products.
//!
//! Of the four pixels that nearest upsampling makes of one, each is multiplied with every tap. So the products of a pixel
//! with all nine taps ([`Taps`]) are computed once, before it is upsampled, and an output pixel is the sum of nine of them,
//! from up to four pixels: the same integers in another order, exactly. In the format's blocks the nine taps of four output
//! channels lie behind each other, four rows each, so to a kernel it is a 1×1 convolution with nine times the channels.
//!
//! It takes two rows of products, 36 bytes an output channel and pixel, so it is for hosts
//! ([`Tiling::tap_bytes`](crate::kernels::tiling::Tiling)), for some output channels at a time.

use super::Context;
use super::conv::is_wide;
use crate::arena::{cast_mut, take_front};
use crate::format::Tensor;
use crate::kernels::Window;
use crate::kernels::scratch::TAPS;
use crate::opset::OpSet;
use core::ops::Range;

/// The products of two rows of the input with some output channels' taps.
pub(super) struct Taps<'a> {
    input: &'a Tensor,
    /// Products of a pixel: `TAPS` for each channel, `[channels / 4][TAPS][4]`.
    pixel_len: usize,
    /// Row r at place r % 2, with a pixel of padding at either end.
    rows: &'a mut [i32],
    /// Those of a pixel of padding.
    padding: &'a mut [i32],
    /// An input row, widened, or a pixel of padding.
    window: &'a mut [u8],
    /// Rows that are there.
    filled: Range<isize>,
}

impl<'a> Taps<'a> {
    /// For `channels` output channels, a multiple of 4, whose weights are `codes`; no rows yet.
    pub fn new<const OPS: OpSet>(
        ctx: &Context<'_, OPS>,
        input: &'a Tensor,
        channels: usize,
        codes: &[i8],
        mut scratch: &'a mut [u8],
    ) -> Taps<'a> {
        let pixel_len = TAPS * channels;
        let padding: &mut [i32] = cast_mut(take_front(&mut scratch, 4 * pixel_len));
        let rows = cast_mut(take_front(&mut scratch, 8 * (input.w as usize + 2) * pixel_len));
        let window = scratch;
        let zero = ctx.model.quant(input, ctx.row).zero_point;
        let c = input.c as usize;
        if is_wide(ctx.kernels) {
            let elems = cast_mut::<i16>(window).get_mut(..c).unwrap_or_default();
            elems.fill(zero);
            (ctx.kernels.conv_i16)(padding, pixel_len, pixels(elems, c), codes);
        } else {
            let elems = cast_mut::<i8>(window).get_mut(..c).unwrap_or_default();
            elems.fill(zero as i8);
            (ctx.kernels.conv_i8)(padding, pixel_len, pixels(elems, c), codes);
        }
        Taps { input, pixel_len, rows, padding, window, filled: 0..0 }
    }

    /// Output row y: `sums[x·channels + channel]`.
    pub fn row<const OPS: OpSet>(
        &mut self,
        ctx: &Context<'_, OPS>,
        elems: &[i8],
        codes: &[i8],
        y: usize,
        sums: &mut [i32],
    ) {
        let above = (y as isize - 1) >> 1;
        for row in above..above + 2 {
            if !self.filled.contains(&row) {
                self.fill(ctx, elems, codes, row);
            }
        }
        self.filled = above..above + 2;
        let row = |row: isize| {
            let len = (self.input.w as usize + 2) * self.pixel_len;
            self.rows.get((row & 1) as usize * len..).and_then(|rest| rest.get(..len)).unwrap_or_default()
        };
        let rows = [row(above), row(y as isize >> 1), row(above + 1)];
        (ctx.kernels.sum_taps)(sums, self.pixel_len / TAPS, rows);
    }

    /// The products of input row `row`, which may be padding.
    fn fill<const OPS: OpSet>(&mut self, ctx: &Context<'_, OPS>, elems: &[i8], codes: &[i8], row: isize) {
        let (c, w) = (self.input.c as usize, self.input.w as usize);
        let len = (w + 2) * self.pixel_len;
        let Some(to) = self.rows.get_mut((row & 1) as usize * len..).and_then(|rest| rest.get_mut(..len)) else {
            return;
        };
        let inside = 0..self.input.h as isize;
        let Some((elems, true)) = elems.get(row.max(0) as usize * w * c..).map(|rest| (rest, inside.contains(&row)))
        else {
            to.chunks_exact_mut(self.pixel_len.max(1)).for_each(|pixel| super::copy(pixel, self.padding));
            return;
        };
        let (first, rest) = to.split_at_mut_checked(self.pixel_len).unwrap_or_default();
        let (middle, last) = rest.split_at_mut_checked(w * self.pixel_len).unwrap_or_default();
        super::copy(first, self.padding);
        super::copy(last, self.padding);
        if is_wide(ctx.kernels) {
            let window = cast_mut::<i16>(self.window).get_mut(..w * c).unwrap_or_default();
            (ctx.kernels.widen)(window, elems);
            (ctx.kernels.conv_i16)(middle, self.pixel_len, pixels(window, c), codes);
        } else {
            (ctx.kernels.conv_i8)(middle, self.pixel_len, pixels(elems, c), codes);
        }
    }
}

/// Pixels of c channels, one behind the other.
fn pixels<T>(elems: &[T], c: usize) -> Window<'_, T> {
    Window { elems, runs: 1, run_len: c, run_stride: c, pixel_stride: c, row_gap: 0 }
}
