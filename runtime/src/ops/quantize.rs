//! `Quantize`: the sample, f32, becomes the network's integer input.
//!
//! `q = clamp(round((x·mul + add)/scale) + zero_point)`; mul and add carry `center_input_sample`. The sample itself
//! stays f32: its rounding error would add up over the steps.

use super::parts::{Cost, over_rows};
use super::{Context, rows_of, rows_of_mut};
use crate::arena::{cast, cast_mut, pieces};
use crate::format::DType;
use crate::kernels::select;
use crate::opset::{self, OpSet, links};
use crate::quant::quantize;
use core::ops::Range;

pub(super) fn run<const OPS: OpSet>(
    ctx: &Context<'_, OPS>,
    arena: &mut [u8],
    [input, out]: [u16; 2],
    [mul, add]: [f32; 2],
    rows: Range<usize>,
) {
    let (input, out) = (ctx.model.tensor(input), ctx.model.tensor(out));
    let quant = ctx.model.quant(&out, ctx.row);
    let [from, to] = pieces(arena, [input.range(), out.range()]);
    let from: &[f32] = rows_of(cast(from), input.row_elems(), rows.clone());
    let (row_elems, zero_point) = (out.row_elems(), quant.zero_point as i32);
    match out.dtype {
        DType::I8 => {
            let to = rows_of_mut(to, row_elems, rows.clone());
            let cost = Cost { work: to.len(), set_up: false };
            over_rows(ctx, 0..rows.len(), (to, row_elems), &mut [], cost, |rows, to, _| {
                if select::TILING.is_host() {
                    let from = rows_of(from, row_elems, rows);
                    return (ctx.kernels.quantize)(cast_mut(to), from, [mul, add], quant);
                }
                for (q, &x) in cast_mut::<i8>(to).iter_mut().zip(from) {
                    *q = quantize(x * mul + add, quant.scale, zero_point, -128, 127) as i8;
                }
            });
        }
        DType::I16 if links(OPS, opset::OUT_I16) => {
            for (q, &x) in rows_of_mut::<i16>(cast_mut(to), row_elems, rows).iter_mut().zip(from) {
                *q = quantize(x * mul + add, quant.scale, zero_point, -32_767, 32_767) as i16;
            }
        }
        DType::I16 | DType::F32 => {}
    }
}
