//! What the weights are multiplied with: a sample of every convolution's input patches.
//!
//! Rounding a weight costs what the error does to the layer's output, so the choice needs the inputs' second moments
//! ([`solve`](crate::quantize::solve)), not only the weights. A few pixels of every network call of every trajectory are
//! kept, chosen by the place of the call alone: all steps, classes and guidance values have their share, and the same
//! pixels are taken on any number of threads.
//!
//! Voids the promise: nothing.

use std::collections::HashMap;

use crate::graph::{Conv2d, Graph, Op, TensorId};
use crate::interpret::patch;

/// Patches kept of a layer, for each element of a patch: enough for second moments of full rank.
const PER_ELEM: usize = 6;
/// Patches kept of a layer, at least.
const LEAST: usize = 2048;
/// Elements kept of all layers together, about (1.6 GB): what a large network may take of the host's memory.
const ELEMS_MAX: usize = 400_000_000;

/// A layer's input: the tensor that a convolution writes, and the one that it reads.
pub type Place = (TensorId, TensorId);

/// Patches by place, `[n, kh·kw·in_c]`.
#[derive(Clone, Debug, Default)]
pub struct Patches {
    by_place: HashMap<Place, Vec<f32>>,
}

/// Takes patches in one trajectory.
pub struct Sampler<'a> {
    graph: &'a Graph,
    /// By tensor: the convolutions that read it, with the patches to take in a call.
    readers: Vec<Vec<(&'a Conv2d, usize)>>,
    call: usize,
    taken: Patches,
}

impl<'a> Sampler<'a> {
    /// For a trajectory that begins with network call `first_call` of `calls`.
    pub fn new(graph: &'a Graph, first_call: usize, calls: usize) -> Self {
        let convs = || graph.ops.iter().filter_map(|op| if let Op::Conv2d(conv) = op { Some(conv) } else { None });
        let elems = |conv: &Conv2d, id: TensorId| conv.kernel[0] * conv.kernel[1] * graph.tensors[id].c;
        let wanted = |len: usize| (PER_ELEM * len).max(LEAST);
        let places = convs().flat_map(|conv| conv.sources.iter().map(move |source| (conv, source.tensor)));
        let total: usize = places.map(|(conv, id)| elems(conv, id)).map(|len| len * wanted(len)).sum();
        let share = (ELEMS_MAX as f64 / total.max(1) as f64).min(1.0);
        let mut readers = vec![Vec::new(); graph.tensors.len()];
        for conv in convs() {
            let mut ids: Vec<TensorId> = conv.sources.iter().map(|source| source.tensor).collect();
            ids.sort_unstable();
            ids.dedup();
            for id in ids {
                let count = (wanted(elems(conv, id)) as f64 * share / calls.max(1) as f64).ceil() as usize;
                readers[id].push((conv, count));
            }
        }
        Self { graph, readers, call: first_call, taken: Patches::default() }
    }

    /// The next network call begins.
    pub fn next_call(&mut self) {
        self.call += 1;
    }

    /// A tensor was made.
    pub fn see(&mut self, id: TensorId, values: &[f32]) {
        for &(conv, count) in &self.readers[id] {
            let out = &self.graph.tensors[conv.out];
            let pixels = out.h * out.w;
            let to = self.taken.by_place.entry((conv.out, id)).or_default();
            for i in 0..count.min(pixels) {
                // Spread over the picture, elsewhere in each call: multiples of the golden ratio.
                let turn = (self.call as f64 * 0.618_033_988_749 + i as f64 / count as f64).fract();
                let pixel = ((turn * pixels as f64) as usize).min(pixels - 1);
                patch(self.graph, conv, id, values, [pixel / out.w, pixel % out.w], to);
            }
        }
    }

    /// What was taken.
    pub fn finish(self) -> Patches {
        self.taken
    }
}

impl Patches {
    /// Adds those of another trajectory behind these.
    pub fn extend(&mut self, other: Patches) {
        for (place, elems) in other.by_place {
            self.by_place.entry(place).or_default().extend(elems);
        }
    }

    /// The patches of a place, one after the other; none where calibration did not run.
    pub fn at(&self, place: Place) -> &[f32] {
        self.by_place.get(&place).map_or(&[], |elems| elems)
    }
}
