//! `Conv` on hosts from pixels to bytes in one pass, where the table has kernels for it ([`ByteKernels`]).
//!
//! No sums lie in memory, no window is loaded here, and on one thread nothing but the step's constants is in scratch and nothing is cut
//! in parts: with these in the way a step of a net of 15.6 M multiply-adds takes 1.03 times as long.

use super::Context;
use super::conv::{Finish, Place};
use crate::arena::{cast, cast_mut};
use crate::format::op::Conv;
use crate::format::{DType, NONE, Tensor};
use crate::kernels::scratch::is_direct;
use crate::kernels::{ByteKernels, ByteLimits, Picture, Pixels, select};
use crate::opset::OpSet;
use crate::shape::{window_start, winograd_fits};
use core::ops::Range;

/// Some rows and channels from pixels to bytes in one pass, or to floats, `byte_rows` rows in a call.
#[allow(clippy::too_many_arguments)] // an operator's parts
#[inline(always)]
pub(super) fn run<const OPS: OpSet>(
    ctx: &Context<'_, OPS>,
    op: &Conv,
    tensors: &[Tensor; 2],
    elems: [&[u8]; 2],
    codes: [&[i8]; 2],
    byte_rows: usize,
    finish: &Finish<'_, OPS>,
    rows: Range<usize>,
    [channel, some_c]: [usize; 2],
    out_bytes: &mut [u8],
) {
    let Some(kernels) = ctx.kernels.byte_kernels else { return };
    let model = ctx.model;
    let [out_w, out_c] = [finish.out.w as usize, finish.out.c as usize];
    for y in rows.clone().step_by(byte_rows) {
        let input = &tensors[0];
        let picture = Picture {
            elems: cast(elems[0]),
            size: [input.h, input.w, input.c].map(usize::from),
            zero_point: model.quant(input, ctx.row).zero_point as i8,
            kernel: op.kernel.map(usize::from),
            stride: op.stride as usize,
            from: [window_start(y, op.stride as usize, op.pad[0] as usize), -(op.pad[1] as isize)],
            out: [byte_rows.min(rows.end - y), out_w],
        };
        let place = Place { y, x: 0, channel, some_c };
        if let Some((to, constants)) = finish.bytes(&mut *out_bytes, rows.start, place) {
            if finish.two {
                let pixels = |source: usize| {
                    let (tensor, elems, codes) = match source {
                        0 => (&tensors[0], elems[0], codes[0]),
                        _ => (&tensors[1], elems[1], codes[1]),
                    };
                    let elems = super::rows_of(cast(elems), tensor.row_elems(), y..y + picture.out[0]);
                    Pixels { elems, c: tensor.c as usize, weights: codes }
                };
                (kernels.conv_pixels)(to, out_c, [pixels(0), pixels(1)], constants);
            } else if op.upsample {
                (kernels.conv_up_bytes)(to, out_c, picture, codes[0], constants);
            } else {
                (kernels.conv_bytes)(to, out_c, picture, codes[0], constants);
            }
        } else {
            let at = (y - rows.start) * out_w * out_c;
            let to = cast_mut(&mut *out_bytes).get_mut(at..).unwrap_or_default();
            (kernels.conv_f32)(to, picture, codes[0], finish.channels(0, channel..channel + some_c));
        }
    }
}

/// Output rows of a call, as many as it has room for; 0 where it is not for this operator.
#[inline(always)]
pub(super) fn rows<const OPS: OpSet>(
    ctx: &Context<'_, OPS>,
    op: &Conv,
    [input, second]: &[Tensor; 2],
    out: &Tensor,
    residual: &Tensor,
) -> usize {
    let Some(ByteKernels { limits, .. }) = ctx.kernels.byte_kernels.filter(|_| select::TILING.is_host()) else {
        return 0;
    };
    if input.dtype != DType::I8 {
        return 0;
    }
    if op.sources[1] != NONE {
        let bytes = second.dtype == DType::I8 && out.dtype == DType::I8 && op.residual == NONE;
        let direct = is_direct(op, input, out) && is_direct(op, second, out);
        let sources = [input, second].map(|source| source.c as usize);
        let fits = bytes && direct && ByteLimits::has_pixels(sources);
        return if fits { out.h as usize } else { 0 };
    }
    let [kh, kw] = op.kernel.map(usize::from);
    let [stride, c, w] = [op.stride as usize, input.c as usize, out.w as usize];
    let patch = match out.dtype {
        DType::I8 if op.residual != NONE && residual.dtype == DType::I16 => 0,
        DType::I8 if c.is_multiple_of(4) => limits.patch,
        DType::I8 => limits.odd_patch,
        DType::F32 if op.residual == NONE && ByteLimits::has_f32(out.c as usize, c, stride) => limits.f32_patch,
        DType::F32 | DType::I16 => 0,
    };
    if op.upsample {
        let fits = winograd_fits(op, input, out) && c <= limits.up_channels && w <= 2 * limits.up_width;
        return if fits && out.dtype == DType::I8 && patch > 0 { out.h as usize } else { 0 };
    }
    let window_rows = limits.window / ((w.saturating_sub(1) * stride + kw) * c).max(1);
    if kh * kw * c > patch || window_rows < kh || w * (out.h as usize) < limits.pixels {
        return 0;
    }
    (window_rows - kh) / stride.max(1) + 1
}
