//! Operator order: moves single operators earlier or later where no dependency forbids it, while memory falls.
//!
//! A U-Net is nearly a chain; what can move are shortcuts over a skip concatenation (early, they free both halves before
//! the main branch grows) and the projections of the embedding.

use mote_runtime::format::NONE;
use mote_runtime::kernels::tiling::Tiling;

use super::Layout;
use crate::quantize::QuantGraph;

/// The best order found, from the graph's own by single moves.
pub fn best(graph: &QuantGraph, tiling: Tiling) -> Vec<usize> {
    let mut order: Vec<usize> = (0..graph.ops.len()).collect();
    let mut cost = cost(graph, &order, tiling);
    // Each round costs (moves × n); a few rounds settle it.
    for _ in 0..4 {
        let before = cost;
        for op in 0..graph.ops.len() {
            let Some(at) = order.iter().position(|&o| o == op) else { continue };
            for to in slots(graph, &order, at) {
                let mut candidate = order.clone();
                let moved = candidate.remove(at);
                candidate.insert(to, moved);
                let new_cost = self::cost(graph, &candidate, tiling);
                if new_cost < cost {
                    (order, cost) = (candidate, new_cost);
                    break;
                }
            }
        }
        if cost == before {
            break;
        }
    }
    order
}

/// The lower bound, then the bytes of the ten hungriest operators: a tie at the peak is broken below it.
fn cost(graph: &QuantGraph, order: &[usize], tiling: Tiling) -> (usize, usize) {
    let mut need = Layout::new(graph, order, tiling, &|_| true).problem.need_bytes();
    need.sort_unstable_by(|a, b| b.cmp(a));
    (need.first().copied().unwrap_or(0), need.iter().take(10).sum())
}

/// Places that the operator at `at` may move to, nearest dependencies respected.
fn slots(graph: &QuantGraph, order: &[usize], at: usize) -> impl Iterator<Item = usize> + use<> {
    let op = &graph.ops[order[at]].op;
    let (inputs, out) = (op.inputs(), op.out());
    let writes_input =
        |&other: &usize| inputs.contains(&graph.ops[other].op.out()) && graph.ops[other].op.out() != NONE;
    let reads_out = |&other: &usize| graph.ops[other].op.inputs().contains(&out);
    // What shallow rows skip stays in one piece, and nothing else comes into it.
    let deep = graph.reuse.as_ref().map_or(0..0, |reuse| reuse.deep.clone());
    let borders = [0, deep.start, deep.end, order.len()];
    let first = borders.into_iter().filter(|&border| border <= at).max().unwrap_or(0);
    let last = borders.into_iter().filter(|&border| border > at).min().unwrap_or(order.len()) - 1;
    let earliest = order[..at].iter().rposition(writes_input).map_or(0, |i| i + 1).max(first);
    let latest = order[at + 1..].iter().position(reads_out).map_or(order.len() - 1, |i| at + i).min(last);
    (earliest..=latest).filter(move |&to| to != at)
}
