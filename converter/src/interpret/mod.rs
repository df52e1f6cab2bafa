//! The f32 interpreter: runs a [`Graph`] on one sample. It is the oracle that the quantized network is compared with
//! and the engine of calibration, so an observer sees every tensor as it is made.
//!
//! Activations are HWC. Heavy operators split their output rows into blocks whose size depends on the shapes only, and
//! run the blocks on rayon's threads: the result is the same on any number of threads. It may differ in the last bits
//! between CPUs, because the matrix product uses the widest instructions that it finds.
//!
//! Voids the promise: a graph that was not built by [`arch`](crate::arch) (its shapes are trusted).

mod attention;
pub(crate) mod conv;
mod matmul;
mod norm;

use crate::graph::{Graph, Op, TensorId};

pub(crate) use matmul::{Matrix, matmul};

/// What an observer is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// The input as the network reads it, or an operator's output.
    Tensor(TensorId),
    /// What a norm gives before its activation, by the tensor that it writes.
    PreActivation(TensorId),
}

/// What a call does about the tensor of [`Graph::reuse`].
#[derive(Debug)]
pub enum Deep<'c> {
    /// Everything runs.
    Run,
    /// Everything runs, and the tensor is left here.
    Keep(&'c mut Vec<f32>),
    /// The tensor is this one, and what makes it does not run.
    Reuse(&'c [f32]),
}

/// A graph, ready to run.
#[derive(Clone, Debug)]
pub struct Interpreter<'a> {
    graph: &'a Graph,
    /// The tensors that no later operator reads, for each operator.
    dead_after: Vec<Vec<TensorId>>,
    /// For each operator, a convolution's weights as its product wants them.
    weights: Vec<Vec<Vec<f32>>>,
}

impl<'a> Interpreter<'a> {
    /// Prepares `graph`.
    pub fn new(graph: &'a Graph) -> Self {
        let mut last_use = vec![None; graph.tensors.len()];
        for (index, op) in graph.ops.iter().enumerate() {
            last_use[op.out()] = Some(index);
            for tensor in op.inputs() {
                last_use[tensor] = Some(index);
            }
        }
        last_use[graph.output] = None;
        let mut dead_after = vec![Vec::new(); graph.ops.len()];
        for (tensor, index) in last_use.iter().enumerate() {
            if let Some(index) = index {
                dead_after[*index].push(tensor);
            }
        }
        let weights = graph.ops.iter().map(|op| match op {
            Op::Conv2d(op) => conv::prepare(op),
            _ => Vec::new(),
        });
        Self { graph, dead_after, weights: weights.collect() }
    }

    /// The graph.
    pub fn graph(&self) -> &'a Graph {
        self.graph
    }

    /// The network's output for the sample `x` (HWC), with the vectors of
    /// [`TimePath::projections`](crate::arch::TimePath::projections).
    ///
    /// `observe` sees the input as the network reads it (after `input_mul` and `input_add`), then the output of every
    /// operator in order. The division by the timestep ([`Graph::output_over_timestep`]) is not applied.
    ///
    /// # Panics
    /// If `x` or `projections` do not have the graph's lengths.
    pub fn run(&self, x: &[f32], projections: &[Vec<f32>], observe: &mut dyn FnMut(TensorId, &[f32])) -> Vec<f32> {
        self.run_observed(x, projections, Deep::Run, &mut |what, values| {
            if let Observed::Tensor(id) = what {
                observe(id, values);
            }
        })
    }

    /// As [`Interpreter::run`], for observers that look inside norms too, and for calls that reuse deep features.
    ///
    /// # Panics
    /// As there.
    pub fn run_observed(
        &self,
        x: &[f32],
        projections: &[Vec<f32>],
        mut deep: Deep,
        observe: &mut dyn FnMut(Observed, &[f32]),
    ) -> Vec<f32> {
        let graph = self.graph;
        assert_eq!(x.len(), graph.tensors[graph.input].elems(), "the sample's length");
        assert_eq!(projections.len(), graph.projections.len(), "the number of projections");
        let mut tensors: Vec<Vec<f32>> = vec![Vec::new(); graph.tensors.len()];
        tensors[graph.input] = x.iter().map(|v| v * graph.input_mul + graph.input_add).collect();
        observe(Observed::Tensor(graph.input), &tensors[graph.input]);
        let cut = graph.reuse.as_ref().filter(|_| !matches!(deep, Deep::Run));
        if let (Some(cut), Deep::Reuse(values)) = (cut, &deep) {
            tensors[cut.tensor] = values.to_vec();
        }
        let runs = |index: usize| !matches!((cut, &deep), (Some(cut), Deep::Reuse(_)) if cut.deep.contains(&index));
        let runs: Vec<bool> = (0..graph.ops.len()).map(runs).collect();
        for (((op, dead), weights), _) in
            graph.ops.iter().zip(&self.dead_after).zip(&self.weights).zip(runs).filter(|(_, runs)| *runs)
        {
            let mut out = vec![0.0; graph.tensors[op.out()].elems()];
            match op {
                Op::Conv2d(op) => conv::run(graph, op, weights, &tensors, projections, &mut out),
                Op::GroupNorm(op) => {
                    norm::run(graph, op, &tensors, projections, &mut out);
                    observe(Observed::PreActivation(op.out), &out);
                    norm::activate(op.activation, &mut out);
                }
                Op::Attention(op) => attention::run(graph, op, &tensors, &mut out),
                Op::AvgPool { input, out: id } => avg_pool(graph, *input, *id, &tensors[*input], &mut out),
                Op::Upsample { input, out: id } => upsample(graph, *input, *id, &tensors[*input], &mut out),
            }
            observe(Observed::Tensor(op.out()), &out);
            if let (Some(cut), Deep::Keep(kept)) = (cut, &mut deep)
                && cut.tensor == op.out()
            {
                kept.clone_from(&out);
            }
            tensors[op.out()] = out;
            for tensor in dead {
                tensors[*tensor] = Vec::new();
            }
        }
        std::mem::take(&mut tensors[graph.output])
    }
}

/// Means of 2×2 squares; an odd last row or column is left out.
fn avg_pool(graph: &Graph, input: TensorId, out: TensorId, x: &[f32], y: &mut [f32]) {
    let (from, to) = (&graph.tensors[input], &graph.tensors[out]);
    let c = from.c;
    for (row, y_row) in y.chunks_exact_mut(to.w * c).enumerate() {
        for (column, y_pixel) in y_row.chunks_exact_mut(c).enumerate() {
            let first = (2 * row * from.w + 2 * column) * c;
            let below = first + from.w * c;
            for (channel, y) in y_pixel.iter_mut().enumerate() {
                let at = |start: usize| x[start + channel];
                *y = (at(first) + at(first + c) + at(below) + at(below + c)) * 0.25;
            }
        }
    }
}

/// Each pixel becomes 2×2.
fn upsample(graph: &Graph, input: TensorId, out: TensorId, x: &[f32], y: &mut [f32]) {
    let (from, to) = (&graph.tensors[input], &graph.tensors[out]);
    let c = from.c;
    for (row, y_row) in y.chunks_exact_mut(to.w * c).enumerate() {
        for (column, y_pixel) in y_row.chunks_exact_mut(c).enumerate() {
            let start = ((row / 2) * from.w + column / 2) * c;
            y_pixel.copy_from_slice(&x[start..start + c]);
        }
    }
}
