//! One network call: the operator list from its first operator to its last, in pieces of bounded cost.

use crate::format::Graph;
use crate::kernels::select;
#[cfg(feature = "std")]
use crate::ops::together;
use crate::ops::{Context, run_rows};
use crate::opset::OpSet;
use crate::shape::{op_rows, row_macs};

/// How far a network call has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Index of the operator in the graph.
    pub op: usize,
    /// Its next output row.
    pub row: usize,
}

/// Runs operators until about `budget` multiply-adds are spent or the graph is done; returns whether it is.
///
/// An operator is split between output rows, so a call costs at most `budget`, or one row where that is more (and the
/// preparation of one operator). `budget` is reduced by what was spent; `u32::MAX` is no bound and stays. `after` is called behind every operator that was
/// finished, with its index among all operators of the file.
pub fn advance<const OPS: OpSet>(
    ctx: &Context<'_, OPS>,
    arena: &mut [u8],
    graph: &Graph,
    position: &mut Position,
    budget: &mut u32,
    after: &mut dyn FnMut(usize, &[u8]),
) -> bool {
    while let Some(index) = ctx.model.op_index(graph, position.op) {
        let Some(record) = ctx.model.op(index) else { return true };
        let rows = op_rows(&record.op, ctx.model);
        // Hosts do not compute what nobody counts.
        let counts = !select::TILING.is_host() || *budget != u32::MAX;
        let cost = if counts { row_macs(&record.op, ctx.model).max(1) } else { 1 };
        if *budget == 0 {
            return false;
        }
        #[cfg(feature = "std")]
        if *budget == u32::MAX && position.row == 0 && together::run(ctx, arena, graph, position.op, &record) {
            for nth in 0..together::COUNT {
                ctx.model.op_index(graph, position.op + nth).into_iter().for_each(|index| after(index, arena));
            }
            position.op += together::COUNT;
            continue;
        }
        let affordable = (*budget / cost).max(1) as usize;
        let end = rows.min(position.row + affordable);
        run_rows(ctx, arena, &record.op, record.live_end as usize, position.row..end);
        if *budget != u32::MAX {
            *budget = budget.saturating_sub(cost.saturating_mul((end - position.row) as u32));
        }
        position.row = end;
        if end == rows {
            *position = Position { op: position.op + 1, row: 0 };
            after(index, arena);
        }
    }
    true
}
