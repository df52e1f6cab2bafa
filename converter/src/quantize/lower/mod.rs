//! Lowering: each operator of the f32 graph becomes one of the device's, a group norm becomes two, the input gets a
//! quantization, and the time path becomes tables or layers.
//!
//! Every scale is chosen so that the runtime's integer recipes hold for it: factors fit their multipliers, 16-bit inputs
//! are kept small enough that no sum of products leaves 31 bits whatever the input, biases stay below 2²⁷ units.
//!
//! Voids the promise: nothing; a graph that the device cannot take is an error that names the layer.

mod embedding;
mod layers;

use miette::{Result, miette};
use mote_runtime::format::op::Op as DeviceOp;
use mote_runtime::format::schedule::{HISTORY, Store};
use mote_runtime::format::{DType, NONE, Quant, Tensor, Weights};

use super::payload::Payload;
use super::precision::Precision;
use super::solutions::Solutions;
use super::time::TimeFold;
use super::weights::QuantizedWeights;
use super::{QuantGraph, QuantOp, QuantReuse, Techniques, ranges};
use crate::arch::Network;
use crate::calibrate::{Classes, Range, Ranges};
use crate::graph::{Graph, Op, Reuse, TensorId};
use crate::schedule::Schedules;

/// Biases stay below this many accumulator units.
const BIAS_MAX: f32 = (1 << 26) as f32;
/// What a sum of products may reach; the rest up to 2³¹ is the bias's.
const SUM_MAX: i64 = (1 << 31) - (1 << 28);
/// How to quantize.
#[derive(Clone, Copy, Debug, Default)]
pub struct LowerOptions {
    /// What is done to lose less.
    pub techniques: Techniques,
    /// What a user may ask for.
    pub classes: Classes,
}

/// Lowers a network.
pub fn lower(
    network: &Network,
    schedules: &Schedules,
    ranges: &Ranges,
    precision: &Precision,
    solutions: &Solutions,
    fold: &TimeFold,
    options: &LowerOptions,
) -> Result<QuantGraph> {
    let graph = &network.graph;
    let mut lower = Lower {
        graph,
        ranges,
        precision,
        solutions,
        fold,
        options,
        rows: schedules.rows.len(),
        full_rows: schedules.full_rows(),
        deep: vec![false; graph.tensors.len()],
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
            reuse: None,
        },
    };
    for op in &graph.ops {
        if let Op::Attention(op) = op {
            lower.is_query[op.qkv[0]] = true;
        }
    }
    let reuse = graph.reuse.as_ref().filter(|_| schedules.reuses());
    if let Some(reuse) = reuse {
        lower.deep = reuse.deep_tensors(graph);
    }
    lower.state(network, schedules)?;
    lower.embedding(network)?;
    let mut first_deep = 0;
    for (index, op) in graph.ops.iter().enumerate() {
        if reuse.is_some_and(|reuse| reuse.deep.start == index) {
            first_deep = lower.out.ops.len();
        }
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
        if let Some(reuse) = reuse.filter(|reuse| reuse.tensor == op.out()) {
            lower.reuse(reuse, first_deep)?;
        }
    }
    lower.out.output = lower.ids[graph.output];
    if lower.out.tensors.get(usize::from(lower.out.output)).is_none_or(|out| out.dtype != DType::F32) {
        return Err(miette!(help = "report this network", "the network does not end in a convolution"));
    }
    Ok(lower.out)
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
    solutions: &'a Solutions<'a>,
    fold: &'a TimeFold,
    options: &'a LowerOptions,
    rows: usize,
    /// By row: that whose deep features it has.
    full_rows: Vec<usize>,
    /// By tensor of the graph: full rows alone make it.
    deep: Vec<bool>,
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
        let method = self.precision.ranges(tensor).unwrap_or(self.options.techniques.ranges);
        let whole = self.ranges.tensor_overall(self.graph, tensor)?;
        let quants: Vec<Quant> = (0..self.rows)
            .map(|row| {
                // What a shallow row does not make stays as it is, bytes and scale.
                let row = if self.deep[tensor] { self.full_rows[row] } else { row };
                let per_step = self.options.techniques.per_step;
                let seen = if per_step { self.ranges.tensor(self.graph, tensor, row)? } else { &whole };
                let range = seen.range(method, dtype).unwrap_or(Range { min: 0.0, max: 0.0 });
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

    /// Remembers which device tensor holds one of the graph.
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

    /// Marks the tensor that shallow rows reuse, which the last operator has made, and adds the null class's.
    fn reuse(&mut self, reuse: &Reuse, first_deep: usize) -> Result<()> {
        let cached = self.id(reuse.tensor)?;
        self.out.tensors[usize::from(cached)].carried = true;
        let like = self.out.tensors[usize::from(cached)];
        let null_cached = match self.options.classes.null {
            Some(_) => self.record("cached for the null class", self.shape(reuse.tensor), like)?,
            None => NONE,
        };
        self.out.reuse = Some(QuantReuse { deep: first_deep..self.out.ops.len(), cached, null_cached });
        Ok(())
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
        if weights.rows.len() > usize::from(u16::MAX) || id >= usize::from(NONE) {
            return Err(miette!(help = "use fewer or narrower layers", "{name}: too many weights for the format"));
        }
        self.out.weights.push(record);
        Ok(id as u16)
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
