//! That every operator reads what was written: within a graph, and from row to row where rows reuse what earlier ones left in
//! cached tensors.

use super::{Check, F32, INT, TENSORS_MAX, apart, operand, sampler_tensors};
use crate::error::{Error, Fault, Record};
use crate::format::{Graph, NONE, OpRecord, Row};
use crate::model::Model;
use crate::opset::{self, OpSet, links};

/// Most graphs: the check keeps a byte for each on the stack.
pub(super) const GRAPHS_MAX: usize = 32;

/// What a graph does to a cached tensor: a set of these, three bits for each of the two.
mod touch {
    /// It reads what an earlier row left.
    pub(super) const READS: u8 = 1;
    /// It writes it.
    pub(super) const WRITES: u8 = 2;
    /// Operators or their scratch lie over it, before it is written if it is.
    pub(super) const CLOBBERS: u8 = 4;
    /// All of them.
    pub(super) const ANY: u8 = 7;
    /// Bits of a tensor.
    pub(super) const BITS: usize = 3;
    /// The graph was checked.
    pub(super) const CHECKED: u8 = 1 << 7;
}

/// Checks the order of each graph that a row names, and notes what it does to the cached tensors.
pub(super) const fn graphs_in_use<const OPS: OpSet>(
    model: &Model<'_, OPS>,
    graphs: &mut [u8; GRAPHS_MAX],
) -> Result<(), Error> {
    let mut index = 0;
    while index < model.row_count() {
        if let Some(row) = model.row(index) {
            let named = [row.graph, row.null_graph];
            let mut i = 0;
            while i < named.len() {
                let graph = named[i] as usize;
                if graph < GRAPHS_MAX && graphs[graph] == 0 {
                    graphs[graph] = match order(model, &model.graph(graph)) {
                        Ok(touched) => touched | touch::CHECKED,
                        Err(what) => return Err(Error::Record { kind: Record::Graph, index: graph as u32, what }),
                    };
                }
                i += 1;
            }
        }
        index += 1;
    }
    Ok(())
}

/// That every operator of a graph reads what was written before, and that none lies over what is kept. Returns what the
/// graph does to the cached tensors.
const fn order<const OPS: OpSet>(model: &Model<'_, OPS>, graph: &Graph) -> Result<u8, Fault> {
    let mut written = [0u32; TENSORS_MAX / 32];
    mark(&mut written, graph.input);
    mark(&mut written, graph.class_embedding);
    let mut kept = sampler_tensors(model, graph);
    kept[1] = graph.class_embedding;
    let cached = &model.header.cached;
    let (mut touched, mut nth) = ([0u8; 2], 0);
    while let Some(index) = model.op_index(graph, nth) {
        nth += 1;
        let Some(OpRecord { op, live_end }) = model.op(index) else { return Err(Fault::Unknown) };
        let inputs = op.inputs();
        let mut i = 0;
        while i < inputs.len() {
            if inputs[i] != NONE && !is_marked(&written, inputs[i]) {
                let k = (inputs[i] == cached[1]) as usize;
                ensure!(inputs[i] == cached[k] && touched[k] & touch::CLOBBERS == 0, Order);
                touched[k] |= touch::READS;
            }
            i += 1;
        }
        // Neither the operator nor its scratch may lie over what the sampler keeps.
        ensure!(op.out() != graph.input && op.out() != graph.class_embedding, Order);
        let out = model.tensor(op.out());
        let mut i = 0;
        while i < kept.len() {
            if kept[i] != NONE {
                let kept = model.tensor(kept[i]);
                ensure!(apart(&kept, &out) && kept.range().end <= live_end as usize, Overlap);
            }
            i += 1;
        }
        // Nor over a cached tensor, once this graph has written it.
        let mut k = 0;
        while k < cached.len() {
            if cached[k] != NONE {
                let tensor = model.tensor(cached[k]);
                if op.out() == cached[k] {
                    ensure!(touched[k] & touch::READS == 0, Order);
                    touched[k] |= touch::WRITES;
                } else if !apart(&tensor, &out) || tensor.range().end > live_end as usize {
                    ensure!(touched[k] & touch::WRITES == 0, Overlap);
                    touched[k] |= touch::CLOBBERS;
                }
            }
            k += 1;
        }
        mark(&mut written, op.out());
    }
    ensure!(is_marked(&written, graph.output), Order);
    Ok(touched[0] | touched[1] << touch::BITS)
}

const fn mark(set: &mut [u32; TENSORS_MAX / 32], id: u16) {
    if (id as usize) < TENSORS_MAX {
        set[id as usize / 32] |= 1 << (id % 32);
    }
}

const fn is_marked(set: &[u32; TENSORS_MAX / 32], id: u16) -> bool {
    (id as usize) < TENSORS_MAX && set[id as usize / 32] & (1 << (id % 32)) != 0
}

/// The cached tensors lie apart from each other and from what else the sampler writes.
pub(super) const fn cached<const OPS: OpSet>(model: &Model<'_, OPS>) -> Check {
    let [first, second] = model.header.cached;
    linked!(OPS, REUSE, first != NONE || second != NONE);
    // The second is that of the null class's calls.
    ensure!(second == NONE || model.header.null_class != NONE, Range);
    let kept = sampler_tensors(model, &model.graph(0));
    let mut k = 0;
    while k < 2 {
        let id = model.header.cached[k];
        if id != NONE {
            let tensor = attempt!(operand(model, id, INT | F32));
            ensure!(tensor.carried, Type);
            ensure!(k == 0 || first == NONE || apart(&tensor, &model.tensor(first)), Overlap);
            let mut i = 0;
            while i < kept.len() {
                ensure!(kept[i] == NONE || apart(&tensor, &model.tensor(kept[i])), Overlap);
                i += 1;
            }
        }
        k += 1;
    }
    Ok(())
}

/// What a row does to the cached tensors: by its own graph, by that of the null class.
pub(super) const fn touched<const OPS: OpSet>(model: &Model<'_, OPS>, graphs: &[u8; GRAPHS_MAX], row: &Row) -> [u8; 2] {
    let (own, null) = (row.graph as usize % GRAPHS_MAX, row.null_graph as usize % GRAPHS_MAX);
    [graphs[own], if model.header.null_class == NONE { 0 } else { graphs[null] }]
}

/// That whatever a row reuses was left by the same kind of call, and is still there: the first row of its schedule
/// writes it, and every row that does not write it leaves it alone.
pub(super) const fn reuse(first: [u8; 2], row: [u8; 2]) -> Check {
    use touch::{ANY, BITS, CLOBBERS, READS, WRITES};
    let mut k = 0;
    while k < 2 {
        let (own, other) = (row[k] >> (k * BITS), row[k] >> ((1 - k) * BITS));
        ensure!(own & READS == 0 || first[k] >> (k * BITS) & WRITES != 0, Order);
        ensure!(own & CLOBBERS == 0 || own & WRITES != 0, Overlap);
        // The call for the null class comes first, so it may lie over what the other call of its row will write.
        let rewritten = k == 1 && row[0] & WRITES != 0;
        ensure!(other & ANY & !CLOBBERS == 0, Order);
        ensure!(other & CLOBBERS == 0 || rewritten, Overlap);
        k += 1;
    }
    Ok(())
}
