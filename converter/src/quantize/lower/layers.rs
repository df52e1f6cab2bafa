//! Lowering of the operators that compute: convolution, norm, attention.

use miette::{Result, miette};
use mote_runtime::format::op::{Attention, Conv, NormApply, NormStats, Op as DeviceOp, Table};
use mote_runtime::format::{DType, NONE};

use super::{Lower, row_sum_max};
use crate::calibrate::Range;
use crate::graph::{self, Activation, Conv2d, GroupNorm};
use crate::quantize::payload::BlobKind;
use crate::quantize::precision::{Layer, joined};
use crate::quantize::solutions::Limits;
use crate::quantize::{ranges, tables};

/// Elements of a group, per source, up to which the runtime's sums of 8-bit values are exact.
const GROUP_ELEMS_MAX: usize = 1 << 24;

impl Lower<'_> {
    pub(super) fn conv(&mut self, op: &Conv2d) -> Result<()> {
        let modulation = self.modulation(op.time_bias, op.out_scale)?;
        let mut bias: Vec<f32> = op.bias.iter().map(|b| b * op.out_scale).collect();
        let time: Vec<f32> = op
            .time_bias
            .map_or(Vec::new(), |id| self.fold.largest[id].iter().map(|m| m * op.out_scale.abs()).collect());
        let sources = joined(&op.sources);
        if sources.len() > 2 || sources.is_empty() {
            return Err(miette!(
                help = "report this network",
                "{}: a convolution over {} tensors",
                op.name,
                sources.len()
            ));
        }
        let (mut source_ids, mut weight_ids) = ([NONE; 2], [NONE; 2]);
        // By source: device tensor and largest weight scale.
        let mut units: Vec<(u16, f32)> = Vec::new();
        for (k, source) in sources.iter().enumerate() {
            let id = self.id(source.tensor)?;
            let least = if k == 0 { self.least_weight_scales(id, &bias, &time) } else { vec![0.0; bias.len()] };
            let input = self.out.tensors[usize::from(id)];
            let layer = Layer::Conv { out: op.out, source: source.tensor };
            let limits = Limits { least_scales: &least, row_sum_max: row_sum_max(input.dtype) };
            let solution = self.solutions.get(layer, self.precision.width(layer), limits);
            bias.iter_mut().zip(&solution.bias).for_each(|(bias, lost)| *bias += lost);
            units.push((id, solution.weights.largest_scale()));
            (source_ids[k], weight_ids[k]) = (id, self.weights_record(&op.name, &solution.weights)?);
        }
        let residual = op.residual.map(|id| self.id(id)).transpose()?;
        let dtype = self.precision.dtype(op.out);
        let least_scale = |lower: &Self, row: usize| {
            let unit = units.iter().map(|&(id, weight)| lower.quant(id, row).scale * weight).fold(0.0, f32::max);
            let residual = residual.map_or(0.0, |id| {
                let dtype = lower.out.tensors[usize::from(id)].dtype;
                ranges::least_scale_for_residual(lower.quant(id, row), dtype, op.out_scale)
            });
            ranges::least_scale_for_sum(unit).max(residual)
        };
        let out = self.per_step(op.out, dtype, &least_scale)?;
        let small = |what: &str, x: usize, range: std::ops::RangeInclusive<usize>| {
            u8::try_from(x).ok().filter(|_| range.contains(&x)).ok_or_else(|| {
                miette!(
                    help = "the device takes kernels and strides from 1 to 15, padding from 0 to 15",
                    "{}: {what} of {x}",
                    op.name
                )
            })
        };
        let conv = Conv {
            sources: source_ids,
            weights: weight_ids,
            out,
            residual: residual.unwrap_or(NONE),
            residual_scale: op.out_scale,
            bias: self.out.payload.push_f32(BlobKind::Constants, &bias),
            modulation,
            kernel: [small("a kernel", op.kernel[0], 1..=15)?, small("a kernel", op.kernel[1], 1..=15)?],
            stride: small("a stride", op.stride, 1..=15)?,
            pad: [small("padding", op.pad[0], 0..=15)?, small("padding", op.pad[1], 0..=15)?],
            upsample: op.upsample,
            winograd: false,
        };
        self.push(&op.name, DeviceOp::Conv(conv));
        Ok(())
    }

    pub(super) fn norm(&mut self, op: &GroupNorm) -> Result<()> {
        let [h, w, c] = self.shape(op.out);
        if h * w * c / op.groups.max(1) > GROUP_ELEMS_MAX {
            return Err(miette!(
                help = "use more groups or a smaller picture",
                "{}: groups of more than 2²⁴ elements",
                op.name
            ));
        }
        let (Ok(groups), [first, rest @ ..]) = (u16::try_from(op.groups), &op.sources[..]) else {
            return Err(miette!(help = "report this network", "{}: a norm over {} tensors", op.name, op.sources.len()));
        };
        let sources = [self.id(*first)?, rest.first().map_or(Ok(NONE), |&id| self.id(id))?];
        let stats = self.tensor(&format!("{}.stats", op.name), [1, 1, 2 * op.groups], DType::F32, false, &[])?;
        self.push(
            format!("{}.stats", op.name),
            DeviceOp::NormStats(NormStats { sources, out: stats, groups, eps: op.eps }),
        );
        let modulation = self.modulation(op.time_scale_shift, 1.0)?;
        let table = tables::activation(op.activation, self.ranges.pre_activation(op.out), &mut self.out.payload);
        // out_step/scale must stay below ½.
        let least = table.map_or(0.0, |table: Table| table.out_step * 2.125);
        let seen = self.ranges.tensor_overall(self.graph, op.out)?;
        let method = self.precision.ranges(op.out).unwrap_or(self.options.techniques.ranges);
        let range = seen.range(method, DType::I8).unwrap_or(Range { min: 0.0, max: 0.0 });
        let quant = if self.is_query[op.out] {
            ranges::symmetric(range, least)
        } else {
            ranges::quant(range, DType::I8, least)
        };
        let out = self.tensor(&op.name, [h, w, c], DType::I8, false, &[quant])?;
        self.made(op.out, out);
        let affine: Vec<f32> = op.gamma.iter().chain(&op.beta).copied().collect();
        let affine = self.out.payload.push_f32(BlobKind::Constants, &affine);
        let name = match op.activation {
            Activation::Identity => op.name.clone(),
            activation => format!("{}+{activation:?}", op.name),
        };
        self.push(name, DeviceOp::NormApply(NormApply { sources, stats, out, groups, affine, modulation, table }));
        Ok(())
    }

    pub(super) fn attention(&mut self, op: &graph::Attention) -> Result<()> {
        let mut qkv = [NONE; 3];
        for (id, tensor) in qkv.iter_mut().zip(op.qkv) {
            *id = self.id(tensor)?;
        }
        let Ok(heads) = u16::try_from(op.heads) else {
            return Err(miette!(help = "use wider heads (`attention_head_dim`)", "{}: {} heads", op.name, op.heads));
        };
        let exp_table = tables::exponential(&mut self.out.payload);
        let out = self.per_step(op.out, DType::I8, &|_, _| 0.0)?;
        self.push(&op.name, DeviceOp::Attention(Attention { qkv, out, heads, scale: op.scale, exp_table }));
        Ok(())
    }
}
