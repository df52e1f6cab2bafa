//! The weights of every layer in every width that was asked for, each solved once.
//!
//! A search lowers the same network many times with other widths; what is costly about it, the solving, depends on a
//! layer and its width only.
//!
//! Voids the promise: nothing. Where a lowering needs coarser scales than the layer alone would take, it is solved anew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use rayon::prelude::*;

use super::Techniques;
use super::precision::{Layer, WeightWidth};
use super::solve::{Moments, solve};
use super::time::{TimeFold, TimeValues};
use super::weights::QuantizedWeights;
use crate::calibrate::Patches;
use crate::graph::Graph;

/// A solved layer.
#[derive(Clone, Debug)]
pub struct Solution {
    /// Its integers.
    pub weights: QuantizedWeights,
    /// What rounding takes from each output on average over the inputs: belongs to the bias, in real units.
    pub bias: Vec<f32>,
}

/// Solved layers of a network.
#[derive(Debug)]
pub struct Solutions<'a> {
    graph: &'a Graph,
    patches: &'a Patches,
    fold: &'a TimeFold,
    techniques: Techniques,
    solved: Mutex<HashMap<(Layer, WeightWidth), Arc<Solution>>>,
}

/// What a lowering asks of a layer's scales.
#[derive(Clone, Copy, Debug)]
pub struct Limits<'l> {
    /// The smallest scale of each row.
    pub least_scales: &'l [f32],
    /// The largest Σ|code| of a row.
    pub row_sum_max: i64,
}

impl<'a> Solutions<'a> {
    /// None yet.
    pub fn new(graph: &'a Graph, patches: &'a Patches, fold: &'a TimeFold, techniques: Techniques) -> Self {
        Self { graph, patches, fold, techniques, solved: Mutex::default() }
    }

    /// What they are solved with.
    pub fn techniques(&self) -> Techniques {
        self.techniques
    }

    /// Solves layers in all the widths, on all cores; `done` is called behind each.
    pub fn prepare(&self, layers: &[Layer], widths: &[WeightWidth], done: &(dyn Fn() + Sync)) {
        let wanted: Vec<(Layer, WeightWidth)> =
            layers.iter().flat_map(|&layer| widths.iter().map(move |&width| (layer, width))).collect();
        wanted.par_iter().for_each(|&(layer, width)| {
            self.free(layer, width);
            done();
        });
    }

    /// The layer in a width, within limits.
    pub fn get(&self, layer: Layer, width: WeightWidth, limits: Limits) -> Arc<Solution> {
        let free = self.free(layer, width);
        let coarse_enough = free.weights.scales().zip(limits.least_scales).all(|(scale, &least)| scale >= least);
        let sum = |codes: Vec<i8>| codes.iter().map(|&code| i64::from(code).abs()).sum::<i64>();
        if coarse_enough && free.weights.codes().all(|codes| sum(codes) <= limits.row_sum_max) {
            return free;
        }
        Arc::new(self.solve(layer, width, limits))
    }

    fn free(&self, layer: Layer, width: WeightWidth) -> Arc<Solution> {
        let locked = || self.solved.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(solution) = locked().get(&(layer, width)) {
            return solution.clone();
        }
        let zeros = vec![0.0; layer.matrix(self.graph).rows()];
        let solution = self.solve(layer, width, Limits { least_scales: &zeros, row_sum_max: i64::MAX });
        locked().entry((layer, width)).or_insert(Arc::new(solution)).clone()
    }

    fn solve(&self, layer: Layer, width: WeightWidth, limits: Limits) -> Solution {
        let matrix = layer.matrix(self.graph);
        let samples = match layer {
            Layer::Conv { out, source } => self.patches.at((out, source)),
            // All inputs that there are (TFMQ-DM, arXiv:2311.16503: the time path is a finite set).
            Layer::Projection(_) => match &self.fold.values {
                TimeValues::Embedding(vectors) => &vectors[..],
                TimeValues::Tables(_) | TimeValues::Vector(_) => &[],
            },
        };
        let moments = Moments::of(samples, matrix.row_elems);
        let encoding = width.encoding(matrix.tap_elems, self.techniques.group_elems);
        let solved = moments.as_ref().filter(|_| self.techniques.least_squares);
        let rows = solve(&matrix.weight, matrix.factor, encoding, solved, limits.least_scales, limits.row_sum_max);
        let weights = QuantizedWeights { rows, row_elems: matrix.row_elems, encoding };
        let mean = moments.map(|moments| moments.mean).filter(|_| self.techniques.bias_correction);
        let rows = matrix.weight.chunks_exact(matrix.row_elems.max(1)).zip(weights.codes().zip(weights.scales()));
        let bias = rows.map(|(weight, (codes, scale))| {
            let lost = weight.iter().zip(codes).zip(mean.iter().flatten());
            lost.map(|((w, code), mean)| (w * matrix.factor - f32::from(code) * scale) * mean).sum()
        });
        let bias = bias.collect();
        Solution { weights, bias }
    }
}
