//! `AvgPool` and `Upsample`: halving and doubling a picture without touching its quantization.

use super::{Context, rows_of, rows_of_mut};
use crate::arena::{cast, cast_mut, pieces};
use crate::format::{DType, Tensor};
use crate::opset::{self, OpSet, links};
use bytemuck::Pod;
use core::ops::Range;

/// `out = (a + b + c + d + 2) >> 2` over 2×2 pixels: the mean, rounded half up, in the input's quantization.
pub(super) fn avg_pool<const OPS: OpSet>(
    ctx: &Context<'_, OPS>,
    arena: &mut [u8],
    input: u16,
    out: u16,
    rows: Range<usize>,
) {
    let (input, out) = (ctx.model.tensor(input), ctx.model.tensor(out));
    let [from, to] = pieces(arena, [input.range(), out.range()]);
    match input.dtype {
        DType::I8 => avg_pool_rows::<i8>(cast(from), cast_mut(to), &input, &out, rows, |mean| mean as i8),
        DType::I16 if links(OPS, opset::OUT_I16) => {
            avg_pool_rows::<i16>(cast(from), cast_mut(to), &input, &out, rows, |mean| mean as i16)
        }
        DType::I16 | DType::F32 => {}
    }
}

fn avg_pool_rows<T: Pod + Into<i32>>(
    from: &[T],
    to: &mut [T],
    input: &Tensor,
    out: &Tensor,
    rows: Range<usize>,
    narrow: fn(i32) -> T,
) {
    let c = (input.c as usize).max(1);
    for y in rows {
        let top = rows_of(from, input.row_elems(), 2 * y..2 * y + 1).chunks_exact(2 * c);
        let bottom = rows_of(from, input.row_elems(), 2 * y + 1..2 * y + 2).chunks_exact(2 * c);
        let pixels = rows_of_mut(to, out.row_elems(), y..y + 1).chunks_exact_mut(c);
        for ((pixel, top), bottom) in pixels.zip(top).zip(bottom) {
            let (top_left, top_right) = top.split_at_checked(c).unwrap_or_default();
            let (left, right) = bottom.split_at_checked(c).unwrap_or_default();
            for ((((q, &a), &b), &l), &r) in pixel.iter_mut().zip(top_left).zip(top_right).zip(left).zip(right) {
                *q = narrow((a.into() + b.into() + l.into() + r.into() + 2) >> 2);
            }
        }
    }
}

/// `out[y, x] = in[y/2, x/2]`.
pub(super) fn upsample<const OPS: OpSet>(
    ctx: &Context<'_, OPS>,
    arena: &mut [u8],
    input: u16,
    out: u16,
    rows: Range<usize>,
) {
    let (input, out) = (ctx.model.tensor(input), ctx.model.tensor(out));
    let pixel_bytes = (input.c as usize * input.dtype.bytes()).max(1);
    let [from, to] = pieces(arena, [input.range(), out.range()]);
    for y in rows {
        let source = rows_of(from, input.w as usize * pixel_bytes, y / 2..y / 2 + 1).chunks_exact(pixel_bytes);
        let pairs = rows_of_mut(to, out.w as usize * pixel_bytes, y..y + 1).chunks_exact_mut(2 * pixel_bytes);
        for (pair, pixel) in pairs.zip(source) {
            pair.chunks_exact_mut(pixel_bytes).for_each(|to| super::copy(to, pixel));
        }
    }
}
