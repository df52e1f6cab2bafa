//! Reuse of deep features between steps: Ma et al., *DeepCache*, arXiv:2312.00858.
//!
//! A U-Net's deep levels change little from step to step, so a call may take what the last full call left in one tensor of
//! the way up and run only what the output needs besides: a *shallow* call. What is skipped follows from the tensor alone.

use std::ops::Range;

use super::{Graph, Op, TensorId};

/// A graph, cut at one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reuse {
    /// What a full call leaves for the shallow ones behind it.
    pub tensor: TensorId,
    /// The operators that full calls alone run; the last of them makes the tensor.
    pub deep: Range<usize>,
}

impl Reuse {
    /// Cuts `graph` at `tensor`, which a convolution makes; `None` where a shallow call would have to run operators between
    /// those that it skips.
    pub fn at(graph: &Graph, tensor: TensorId) -> Option<Self> {
        let mut needed = vec![false; graph.tensors.len()];
        needed[graph.output] = true;
        let mut deep = vec![false; graph.ops.len()];
        for (index, op) in graph.ops.iter().enumerate().rev() {
            deep[index] = op.out() == tensor || !needed[op.out()];
            if !deep[index] {
                op.inputs().into_iter().for_each(|id| needed[id] = true);
            }
        }
        let first = deep.iter().position(|&deep| deep)?;
        let last = graph.ops.iter().position(|op| op.out() == tensor && matches!(op, Op::Conv2d(_)))?;
        let skipped = first..last + 1;
        let one_run = deep.iter().enumerate().all(|(index, &deep)| deep == skipped.contains(&index));
        one_run.then_some(Self { tensor, deep: skipped })
    }

    /// The tensors that full calls alone make, by [`TensorId`].
    pub fn deep_tensors(&self, graph: &Graph) -> Vec<bool> {
        let mut deep = vec![false; graph.tensors.len()];
        graph.ops[self.deep.clone()].iter().for_each(|op| deep[op.out()] = true);
        deep
    }
}
