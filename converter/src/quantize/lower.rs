//! Lowering: each operator of the f32 graph becomes one of the device's, a group norm becomes two, the input gets a
//! quantization, and the time path becomes tables or layers.
//!
//! Every scale is chosen so that the runtime's integer recipes hold for it: factors fit their multipliers, 16-bit inputs
//! are kept small enough that no sum of products leaves 31 bits whatever the input, biases stay below 2²⁷ units.
//!
//! Voids the promise: nothing; a graph that the device cannot take is an error that names the layer.

use miette::{Result, miette};
use mote_runtime::format::op::{
    Attention, Conv, EmbedAdd, EmbedLookup, Modulation, NormApply, NormStats, Op as DeviceOp, Table,
};
use mote_runtime::format::schedule::{HISTORY, Store};
use mote_runtime::format::{DType, NONE, Quant, Tensor, Weights};

use super::payload::{BlobKind, Payload};
use super::precision::Precision;
use super::time::{TimeFold, TimeValues, f16_bytes, vectors};
use super::weights::QuantizedWeights;
use super::{QuantGraph, QuantOp, ranges, tables};
use crate::arch::Network;
use crate::calibrate::{Classes, RangeMethod, Ranges};
use crate::graph::{self, Activation, Conv2d, Graph, GroupNorm, Op, ProjectionId, TensorId};
use crate::schedule::Schedules;

/// Biases stay below this many accumulator units.
const BIAS_MAX: f32 = (1 << 26) as f32;
/// What a sum of products may reach; the rest up to 2³¹ is the bias's.
const SUM_MAX: i64 = (1 << 31) - (1 << 28);
/// Elements of a group, per source, up to which the runtime's sums of 8-bit values are exact.
const GROUP_ELEMS_MAX: usize = 1 << 24;

/// How to quantize.
#[derive(Clone, Copy, Debug, Default)]
pub struct LowerOptions {
    /// How ranges are made of what calibration saw.
    pub method: RangeMethod,
    /// What a user may ask for.
    pub classes: Classes,
}

/// Lowers a network.
pub fn lower(
    network: &Network,
    schedules: &Schedules,
    ranges: &Ranges,
    precision: &Precision,
    fold: &TimeFold,
    options: &LowerOptions,
) -> Result<QuantGraph> {
    let graph = &network.graph;
    let mut lower = Lower {
        graph,
        ranges,
        precision,
        fold,
        options,
        rows: schedules.rows.len(),
        ids: vec![NONE; graph.tensors.len()],
        is_query: vec![false; graph.tensors.len()],
        embedding: NONE,
        out: QuantGraph {
            tensors: Vec::new(),
            names: Vec::new(),
            origins: Vec::new(),
            quants: Vec::new(),
            weights: Vec::new(),
            ops: Vec::new(),
            payload: Payload::default(),
            input: NONE,
            output: NONE,
            class_embedding: NONE,
            uncond: NONE,
            history: [NONE; HISTORY],
        },
    };
    for op in &graph.ops {
        if let Op::Attention(op) = op {
            lower.is_query[op.qkv[0]] = true;
        }
    }
    lower.state(network, schedules)?;
    lower.embedding(network)?;
    for op in &graph.ops {
        match op {
            Op::Conv2d(op) => lower.conv(op)?,
            Op::GroupNorm(op) => lower.norm(op)?,
            Op::Attention(op) => lower.attention(op)?,
            Op::AvgPool { input, out } => {
                let (input, out) = lower.same_quant(*input, *out)?;
                lower.push("avg_pool", DeviceOp::AvgPool { input, out });
            }
            Op::Upsample { input, out } => {
                let (input, out) = lower.same_quant(*input, *out)?;
                lower.push("upsample", DeviceOp::Upsample { input, out });
            }
        }
    }
    lower.out.output = lower.ids[graph.output];
    if lower.out.tensors.get(usize::from(lower.out.output)).is_none_or(|out| out.dtype != DType::F32) {
        return Err(miette!(help = "report this network", "the network does not end in a convolution"));
    }
    Ok(lower.out)
}

/// The sources, with those that read one tensor added up to one: a tensor that is joined with itself.
fn joined(sources: &[graph::ConvSource]) -> Vec<graph::ConvSource> {
    let mut joined: Vec<graph::ConvSource> = Vec::new();
    for source in sources {
        match joined.iter_mut().find(|other| other.tensor == source.tensor) {
            Some(other) => other.weight.iter_mut().zip(&source.weight).for_each(|(sum, w)| *sum += w),
            None => joined.push(source.clone()),
        }
    }
    joined
}

/// The largest Σ|w| of a row that reads a tensor of this type: no sum of products can leave 31 bits.
fn row_sum_max(dtype: DType) -> i64 {
    // Codes less their zero point.
    let code_max = match dtype {
        DType::I8 => 255,
        DType::I16 | DType::F32 => i64::from(ranges::I16_MAX),
    };
    SUM_MAX / code_max
}

struct Lower<'a> {
    graph: &'a Graph,
    ranges: &'a Ranges,
    precision: &'a Precision,
    fold: &'a TimeFold,
    options: &'a LowerOptions,
    rows: usize,
    /// By tensor of the graph; `NONE` until it is made. The graph's input is its quantized copy.
    ids: Vec<u16>,
    is_query: Vec<bool>,
    /// The activated embedding, where projections are layers.
    embedding: u16,
    out: QuantGraph,
}

impl Lower<'_> {
    fn push(&mut self, name: impl Into<String>, op: DeviceOp) {
        self.out.ops.push(QuantOp { name: name.into(), op });
    }

    /// Adds a tensor record; `quants` are one a row, one, or none (`F32`).
    fn tensor(&mut self, name: &str, shape: [usize; 3], dtype: DType, carried: bool, quants: &[Quant]) -> Result<u16> {
        let quant = self.out.quants.len() as u32;
        self.out.quants.extend(quants);
        let per_step = quants.len() > 1;
        self.record(
            name,
            shape,
            Tensor {
                h: 0,
                w: 0,
                c: 0,
                dtype,
                carried,
                per_step,
                offset: 0,
                quant: if quants.is_empty() { 0 } else { quant },
            },
        )
    }

    fn record(&mut self, name: &str, [h, w, c]: [usize; 3], like: Tensor) -> Result<u16> {
        let (Ok(h), Ok(w), Ok(c)) = (h.try_into(), w.try_into(), c.try_into()) else {
            return Err(miette!(
                help = "sides and channels go up to 65,535",
                "{name}: an activation of {h}x{w}x{c} is too large"
            ));
        };
        // The runtime keeps one bit for each tensor on the stack.
        let id = self.out.tensors.len();
        if id >= 2048 {
            return Err(miette!(help = "use fewer layers", "{name}: the network has more than 2,048 tensors"));
        }
        self.out.tensors.push(Tensor { h, w, c, ..like });
        self.out.names.push(name.to_owned());
        self.out.origins.push(None);
        Ok(id as u16)
    }

    /// The device's tensor of one of the graph, which an earlier operator made.
    fn id(&self, tensor: TensorId) -> Result<u16> {
        match self.ids[tensor] {
            NONE => Err(miette!(
                help = "report this network",
                "{}: read before it is written",
                self.graph.tensors[tensor].name
            )),
            id => Ok(id),
        }
    }

    /// (scale, zero_point) of a device tensor at a row.
    fn quant(&self, id: u16, row: usize) -> Quant {
        let tensor = &self.out.tensors[usize::from(id)];
        self.out.quants[tensor.quant as usize + if tensor.per_step { row } else { 0 }]
    }

    fn shape(&self, tensor: TensorId) -> [usize; 3] {
        let info = &self.graph.tensors[tensor];
        [info.h, info.w, info.c]
    }

    /// Makes the tensor that an operator writes, with a quantization for each row; `least_scale` by row.
    fn per_step(&mut self, tensor: TensorId, dtype: DType, least_scale: &dyn Fn(&Self, usize) -> f32) -> Result<u16> {
        let quants: Vec<Quant> = (0..self.rows)
            .map(|row| {
                let seen = self.ranges.tensor(self.graph, tensor, row)?;
                let range =
                    seen.range(self.options.method, dtype).unwrap_or(crate::calibrate::Range { min: 0.0, max: 0.0 });
                let least = least_scale(self, row);
                Ok(match self.is_query[tensor] {
                    true => ranges::symmetric(range, least),
                    false => ranges::quant(range, dtype, least),
                })
            })
            .collect::<Result<_>>()?;
        let quants = if dtype == DType::F32 { &[][..] } else { &quants[..] };
        let id = self.tensor(&self.graph.tensors[tensor].name.clone(), self.shape(tensor), dtype, false, quants)?;
        self.made(tensor, id);
        Ok(id)
    }

    fn made(&mut self, tensor: TensorId, id: u16) {
        self.ids[tensor] = id;
        self.out.origins[usize::from(id)] = Some(tensor);
    }

    /// x_t and what else the sampler keeps, and the quantization of the network's input.
    fn state(&mut self, network: &Network, schedules: &Schedules) -> Result<()> {
        let shape = self.shape(self.graph.input);
        self.out.input = self.tensor("x_t", shape, DType::F32, true, &[])?;
        if network.time.takes_vector() {
            self.out.class_embedding =
                self.tensor("class_embedding", [1, 1, network.time.dim()], DType::F32, true, &[])?;
        }
        if self.options.classes.null.is_some() {
            self.out.uncond = self.tensor("unconditional output", shape, DType::F32, false, &[])?;
        }
        for slot in 0..HISTORY {
            let used = |row: &mote_runtime::format::Row| {
                row.e[slot] != 0.0 || (row.store != Store::None && usize::from(row.store_slot) == slot)
            };
            if schedules.rows.iter().any(used) {
                self.out.history[slot] = self.tensor(&format!("history {slot}"), shape, DType::F32, true, &[])?;
            }
        }
        let out = self.per_step(self.graph.input, self.precision.dtype(self.graph.input), &|_, _| 0.0)?;
        let (mul, add) = (self.graph.input_mul, self.graph.input_add);
        self.push("quantize input", DeviceOp::Quantize { input: self.out.input, out, mul, add });
        Ok(())
    }

    /// The operator that makes the embedding, where projections are layers.
    fn embedding(&mut self, network: &Network) -> Result<()> {
        let dim = network.time.dim();
        match &self.fold.values {
            TimeValues::Tables(_) => {}
            TimeValues::Embedding(values) => {
                let per_row = dim * vectors(self.options.classes);
                let (mut codes, mut quants) = (Vec::new(), Vec::new());
                for row in values.chunks_exact(per_row) {
                    let magnitude = row.iter().fold(0f32, |m, x| m.max(x.abs()));
                    let range = crate::calibrate::Range { min: -magnitude, max: magnitude };
                    let quant = ranges::quant(range, DType::I16, 0.0);
                    let code = |x: &f32| {
                        mote_runtime::quant::quantize(*x, quant.scale, 0, -ranges::I16_MAX, ranges::I16_MAX) as i16
                    };
                    codes.extend(row.iter().flat_map(|x| code(x).to_le_bytes()));
                    quants.push(quant);
                }
                let table = self.out.payload.push(BlobKind::Time, &codes);
                let out = self.tensor("embedding", [1, 1, dim], DType::I16, false, &quants)?;
                self.push("embedding", DeviceOp::EmbedLookup(EmbedLookup { out, table }));
                self.embedding = out;
            }
            TimeValues::Vector(steps) => {
                let largest = steps.iter().fold(0f32, |m, x| m.max(x.abs()));
                // As much again for the caller's vector.
                let table = tables::covering(network.time.activation(), 2.0 * largest + 4.0, &mut self.out.payload);
                let quant = Quant { scale: table.out_step, zero_point: 0 };
                let out = self.tensor("embedding", [1, 1, dim], DType::I16, false, &[quant])?;
                let steps = self.out.payload.push_f32(BlobKind::Time, steps);
                let vector = self.out.class_embedding;
                self.push("embedding", DeviceOp::EmbedAdd(EmbedAdd { vector, out, steps, table }));
                self.embedding = out;
            }
        }
        Ok(())
    }

    /// What an operator adds from the time path, multiplied by `factor`; pushes the projection's layer if it is one.
    fn modulation(&mut self, projection: Option<ProjectionId>, factor: f32) -> Result<Modulation> {
        let Some(id) = projection else { return Ok(Modulation::None) };
        if let TimeValues::Tables(tables) = &self.fold.values {
            let offset = self.out.payload.push(BlobKind::Time, &f16_bytes(&tables[id], factor));
            return Ok(Modulation::Table(offset));
        }
        let projection = &self.graph.projections[id];
        let (n, embedding) = (projection.bias.len(), self.embedding);
        let dim = usize::from(self.out.tensors[usize::from(embedding)].c);
        let bias: Vec<f32> = projection.bias.iter().map(|b| b * factor).collect();
        let least = self.least_weight_scales(embedding, &bias, &[]);
        let weights = QuantizedWeights::new(&projection.weight, dim, factor, &least, row_sum_max(DType::I16));
        let weights = self.weights_record(&projection.name, &weights)?;
        let out = self.tensor(&projection.name, [1, 1, n], DType::F32, false, &[])?;
        let conv = Conv {
            sources: [embedding, NONE],
            weights: [weights, NONE],
            out,
            residual: NONE,
            residual_scale: 1.0,
            bias: self.out.payload.push_f32(BlobKind::Constants, &bias),
            modulation: Modulation::None,
            kernel: [1, 1],
            stride: 1,
            pad: [0, 0],
            upsample: false,
        };
        self.push(&projection.name, DeviceOp::Conv(conv));
        Ok(Modulation::Tensor(out))
    }

    /// The weight scales below which a channel's bias would not fit the accumulator.
    fn least_weight_scales(&self, input: u16, bias: &[f32], largest_modulation: &[f32]) -> Vec<f32> {
        let smallest = (0..self.rows).map(|row| self.quant(input, row).scale).fold(f32::INFINITY, f32::min);
        let modulation = largest_modulation.iter().copied().chain(std::iter::repeat(0.0));
        bias.iter().zip(modulation).map(|(b, m)| (b.abs() + m) / (smallest * BIAS_MAX)).collect()
    }

    fn weights_record(&mut self, name: &str, weights: &QuantizedWeights) -> Result<u16> {
        let record: Weights = weights.store(&mut self.out.payload);
        let id = self.out.weights.len();
        if weights.scales.len() > usize::from(u16::MAX) || id >= usize::from(NONE) {
            return Err(miette!(help = "use fewer or narrower layers", "{name}: too many weights for the format"));
        }
        self.out.weights.push(record);
        Ok(id as u16)
    }

    fn conv(&mut self, op: &Conv2d) -> Result<()> {
        let modulation = self.modulation(op.time_bias, op.out_scale)?;
        let bias: Vec<f32> = op.bias.iter().map(|b| b * op.out_scale).collect();
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
            let row_elems = op.kernel[0] * op.kernel[1] * usize::from(input.c);
            let weights =
                QuantizedWeights::new(&source.weight, row_elems, op.out_scale, &least, row_sum_max(input.dtype));
            units.push((id, weights.largest_scale()));
            (source_ids[k], weight_ids[k]) = (id, self.weights_record(&op.name, &weights)?);
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
        };
        self.push(&op.name, DeviceOp::Conv(conv));
        Ok(())
    }

    fn norm(&mut self, op: &GroupNorm) -> Result<()> {
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
        let range =
            seen.range(self.options.method, DType::I8).unwrap_or(crate::calibrate::Range { min: 0.0, max: 0.0 });
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

    fn attention(&mut self, op: &graph::Attention) -> Result<()> {
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

    /// A tensor that copies codes: it has its source's records.
    fn same_quant(&mut self, input: TensorId, out: TensorId) -> Result<(u16, u16)> {
        let from = self.id(input)?;
        let like = self.out.tensors[usize::from(from)];
        let to =
            self.record(&self.graph.tensors[out].name.clone(), self.shape(out), Tensor { carried: false, ..like })?;
        self.made(out, to);
        Ok((from, to))
    }
}
