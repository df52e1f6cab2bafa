//! The memory plan: an order of operators, and a place in the arena for every tensor.
//!
//! Lifetimes run from the operator that writes a tensor to the last that reads it; what the sampler keeps between
//! network calls lives always. Two operators may write over an input that dies with them (`plan/place.rs` sees the pair
//! as one buffer): a norm over its only 8-bit source, a convolution over a residual of the same type. `order` moves
//! operators where the graph leaves a choice. A cached tensor lives from the full row that writes it through the shallow
//! rows behind it: of a full row's operators, only those that shallow rows skip may lie over it.
//!
//! Voids the promise: nothing; `Model::from_bytes` checks the result again on the device.

mod order;
pub mod place;
pub mod winograd;

use mote_runtime::format::op::{Conv, NormApply, Op};
use mote_runtime::format::{DType, NONE, Tensor};
use mote_runtime::kernels::scratch::scratch_bytes;
use mote_runtime::kernels::tiling::Tiling;
use mote_runtime::shape::Tensors;

use crate::quantize::QuantGraph;
use place::{Buffer, Placement, Problem};

/// Where everything lies.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Execution order: indices into [`QuantGraph::ops`].
    pub order: Vec<usize>,
    /// Arena offset of each tensor, in bytes.
    pub offsets: Vec<usize>,
    /// Where scratch may begin, by place in the order.
    pub live_ends: Vec<usize>,
    /// Arena length with the tiling that was planned for.
    pub arena_bytes: usize,
    /// No placement of these operators in this order needs less.
    pub lower_bound_bytes: usize,
    /// The operator that needs most: an index into [`QuantGraph::ops`].
    pub peak_op: usize,
    /// Bytes that live during each operator, scratch included, by place in the order.
    pub need_bytes: Vec<usize>,
}

/// Plans the graph's arena for the scratch of `tiling`.
pub fn plan(graph: &QuantGraph, tiling: Tiling) -> Plan {
    let order = order::best(graph, tiling);
    // Working in place lengthens lives, which can cost more than it saves; so it is tried everywhere, and only where the
    // bound needs it.
    let everywhere = Layout::new(graph, &order, tiling, &|_| true);
    let bound = everywhere.problem.lower_bound_bytes();
    let apart = Layout::new(graph, &order, tiling, &|_| false).problem.need_bytes();
    let needed = Layout::new(graph, &order, tiling, &|at| apart[at] > bound);
    let (layout, placement) = [everywhere, needed]
        .into_iter()
        .map(|layout| {
            let placement = layout.problem.solve();
            (layout, placement)
        })
        .min_by_key(|(_, placement)| placement.arena_bytes)
        .unwrap_or_default();
    let need_bytes = layout.problem.need_bytes();
    let totals: Vec<usize> =
        placement.live_ends.iter().zip(&layout.problem.scratch_bytes).map(|(a, b)| a + b).collect();
    // The first of those with the largest need among those that end highest.
    let peak = (0..order.len()).rev().max_by_key(|&at| (totals[at], need_bytes[at])).unwrap_or(0);
    let Placement { offsets, live_ends, arena_bytes } = placement;
    Plan {
        offsets: layout.buffer_of.iter().map(|&buffer| offsets[buffer]).collect(),
        live_ends,
        arena_bytes,
        lower_bound_bytes: bound,
        peak_op: order.get(peak).copied().unwrap_or(0),
        need_bytes,
        order,
    }
}

/// The placement problem of one order.
#[derive(Default)]
struct Layout {
    problem: Problem,
    /// The buffer of each tensor; tensors in place of each other share one.
    buffer_of: Vec<usize>,
}

impl Layout {
    /// `share` says, by place in the order, whether an operator may work in place.
    fn new(graph: &QuantGraph, order: &[usize], tiling: Tiling, share: &dyn Fn(usize) -> bool) -> Self {
        let count = graph.tensors.len();
        let end = order.len().saturating_sub(1);
        let mut lives: Vec<Option<(usize, usize)>> = vec![None; count];
        for (at, &index) in order.iter().enumerate() {
            let op = &graph.ops[index].op;
            for id in op.inputs().into_iter().chain([op.out()]).filter(|&id| id != NONE) {
                let life = lives[usize::from(id)].get_or_insert((at, at));
                life.1 = at;
            }
        }
        for id in graph.kept() {
            lives[usize::from(id)] = Some((0, end));
        }
        if let Some(life) = &mut lives[usize::from(graph.output)] {
            life.1 = end;
        }
        let mut buffer_of: Vec<usize> = (0..count).collect();
        let mut buffers: Vec<Buffer> = (0..count)
            .map(|id| {
                let (first, last) = lives[id].unwrap_or((0, 0));
                let bytes = if lives[id].is_some() { graph.tensors[id].len_bytes() } else { 0 };
                Buffer { bytes, first, last, idle: 0..0 }
            })
            .collect();
        if let Some(reuse) = &graph.reuse {
            let buffer = &mut buffers[usize::from(reuse.cached)];
            (buffer.first, buffer.last, buffer.idle) = (0, end, reuse.deep.start..reuse.deep.end - 1);
        }
        let mut scratch = Vec::with_capacity(order.len());
        for (at, &index) in order.iter().enumerate() {
            let op = &graph.ops[index].op;
            let is_cached = |id: u16| graph.reuse.as_ref().is_some_and(|reuse| reuse.cached == id);
            let shared = in_place(graph, op).filter(|_| share(at)).filter(|&input| {
                let kept = graph.kept().any(|id| id == input) || is_cached(input) || is_cached(op.out());
                !kept && buffers[buffer_of[usize::from(input)]].last == at
            });
            if let Some(input) = shared {
                let (from, out) = (buffer_of[usize::from(input)], usize::from(op.out()));
                buffers[from].last = buffers[out].last;
                buffers[out].bytes = 0;
                buffer_of[out] = from;
            }
            scratch.push(scratch_of(graph, op, shared.is_some(), tiling));
        }
        // Emptied buffers are left out.
        let mut kept = Vec::new();
        let mut number = vec![0; count];
        for (id, buffer) in buffers.iter().enumerate().filter(|(_, buffer)| buffer.bytes > 0) {
            number[id] = kept.len();
            kept.push(buffer.clone());
        }
        let buffer_of = buffer_of.into_iter().map(|id| number[id]).collect();
        Self { problem: Problem { buffers: kept, scratch_bytes: scratch }, buffer_of }
    }
}

/// The input that an operator may write over, if it dies there.
fn in_place(graph: &QuantGraph, op: &Op) -> Option<u16> {
    let out = graph.tensor(op.out());
    match *op {
        Op::NormApply(NormApply { sources: [first, NONE], .. }) if graph.tensor(first).dtype == DType::I8 => {
            Some(first)
        }
        Op::Conv(Conv { residual, sources, .. }) if residual != NONE => {
            Some(residual).filter(|id| graph.tensor(*id).dtype == out.dtype && !sources.contains(id))
        }
        _ => None,
    }
}

fn scratch_of(graph: &QuantGraph, op: &Op, in_place: bool, tiling: Tiling) -> usize {
    let [first, second, ..] = op.inputs();
    // The runtime sees from the offsets whether an operator works in place.
    let at = |id: u16, offset: u32| Tensor { offset, ..graph.tensor(id) };
    let named = [at(first, u32::from(!in_place)), at(second, 2), at(op.out(), 0)];
    let packed = graph.weights(op).map(|weights| weights.is_some_and(|weights| weights.encoding.is_packed()));
    scratch_bytes(op, named.each_ref(), packed, tiling)
}
