//! Which convolutions are done by Winograd's algorithm: `runtime/src/ops/winograd.rs`. Same bytes, fewer multiplications,
//! more scratch; so the arena decides.

use mote_runtime::format::op::{Conv, Op};
use mote_runtime::kernels::tiling::Tiling;
use mote_runtime::shape::{Tensors, winograd_fits};

use super::{Plan, plan};
use crate::quantize::QuantGraph;

/// What a user asks for. It counts on microcontrollers; a host does it wherever it is faster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Winograd {
    /// Wherever it is faster and the arena stays within its budget. Nowhere without a budget, or where the target's kernels do
    /// not gain: the budget would be held there, and broken on a core whose kernels take the scratch.
    Auto,
    /// Wherever it is faster.
    On,
    /// Nowhere.
    Off,
}

/// Output pixels from which it is faster: of fewer, the weights' transform takes what it saves.
const PIXELS_MIN: u32 = 16;

/// Marks the convolutions, and plans the graph with them.
pub fn plan_with(graph: &mut QuantGraph, choice: Winograd, tiling: Tiling, ram_bytes: Option<usize>) -> Plan {
    let budget = match choice {
        Winograd::Auto if tiling.winograd > 0 && !tiling.winograd_always() => ram_bytes,
        Winograd::On => Some(usize::MAX),
        Winograd::Auto | Winograd::Off => None,
    };
    let Some(budget) = budget else { return plan(graph, tiling) };
    for index in 0..graph.ops.len() {
        if let Op::Conv(conv) = graph.ops[index].op {
            let (input, out) = (graph.tensor(conv.sources[0]), graph.tensor(conv.out));
            let pays = u32::from(out.h) * u32::from(out.w) >= PIXELS_MIN;
            graph.ops[index].op = Op::Conv(Conv { winograd: pays && winograd_fits(&conv, &input, &out), ..conv });
        }
    }
    let mut planned = plan(graph, tiling);
    // Given back one at a time: the peak, or, where that is another operator, whichever needs most.
    while planned.arena_bytes > budget {
        let marked = (0..planned.order.len()).filter(|&at| is_marked(&graph.ops[planned.order[at]].op));
        let worst = marked.max_by_key(|&at| (planned.order[at] == planned.peak_op, planned.need_bytes[at]));
        let Some(at) = worst else { break };
        if let Op::Conv(conv) = &mut graph.ops[planned.order[at]].op {
            conv.winograd = false;
        }
        planned = plan(graph, tiling);
    }
    planned
}

/// Whether an operator is marked.
pub fn is_marked(op: &Op) -> bool {
    matches!(op, Op::Conv(Conv { winograd: true, .. }))
}
