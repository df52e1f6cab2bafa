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

/// Patches kept of a layer, for each element of a patch. Second moments have full rank with one; with 24 instead of 6 fashion's
/// Fréchet distance is 0.5 % above float's instead of 2.7 % over 1,000 pairs: fewer fit the layer to accidents of the sample.
const PER_ELEM: usize = 24;
/// Patches kept of a layer, at least.
const LEAST: usize = 8192;
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
    /// For a trajectory that begins with network call `first_call` of `calls`, of which `full_share` run what
    /// [`Graph::reuse`] skips.
    pub fn new(graph: &'a Graph, first_call: usize, calls: usize, full_share: f64) -> Self {
        let deep = graph.reuse.as_ref().map_or(0..0, |reuse| reuse.deep.clone());
        let deep: Vec<TensorId> = graph.ops[deep].iter().map(Op::out).collect();
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
                let runs = if deep.contains(&conv.out) { full_share } else { 1.0 };
                let count = (wanted(elems(conv, id)) as f64 * share / (calls.max(1) as f64 * runs)).ceil() as usize;
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

/// Appends what output pixel `[y, x]` reads of a source: `[kh, kw, in_c]`, zero where the padding is.
fn patch(graph: &Graph, op: &Conv2d, source: TensorId, values: &[f32], [y, x]: [usize; 2], to: &mut Vec<f32>) {
    let input = &graph.tensors[source];
    let ([kh, kw], [top, left, ..], c) = (op.kernel, op.pad, input.c);
    let shift = usize::from(op.upsample);
    let (h, w) = (input.h << shift, input.w << shift);
    let begin = to.len();
    to.resize(begin + kh * kw * c, 0.0);
    // Padded coordinates: the picture begins at (top, left).
    let [y0, x0] = [y * op.stride, x * op.stride];
    for (ky, tap_row) in to[begin..].chunks_exact_mut(kw * c).enumerate() {
        let Some(y) = (y0 + ky).checked_sub(top).filter(|y| *y < h) else { continue };
        let row = &values[(y >> shift) * input.w * c..][..input.w * c];
        if shift == 0 && x0 >= left && x0 - left + kw <= w {
            tap_row.copy_from_slice(&row[(x0 - left) * c..][..kw * c]);
            continue;
        }
        for (kx, tap) in tap_row.chunks_exact_mut(c).enumerate() {
            if let Some(x) = (x0 + kx).checked_sub(left).filter(|x| *x < w) {
                tap.copy_from_slice(&row[(x >> shift) * c..][..c]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{ConvSource, TensorInfo};

    #[test]
    fn a_patch_is_what_the_convolution_multiplies() {
        let info = |h, w, c| TensorInfo { name: String::new(), h, w, c };
        for (kernel, stride, pad, upsample) in
            [(3, 1, [1; 4], false), (3, 2, [0, 0, 1, 1], false), (1, 1, [0; 4], false), (3, 1, [1; 4], true)]
        {
            let (h, w, c) = (4, 6, 3);
            let zoom = 1 + usize::from(upsample);
            let out = |size: usize, before: usize, after: usize| (size * zoom + before + after - kernel) / stride + 1;
            let (out_h, out_w) = (out(h, pad[0], pad[2]), out(w, pad[1], pad[3]));
            let elems = kernel * kernel * c;
            // One output channel for each element of a patch, which its weights pick.
            let weight = (0..elems * elems).map(|i| if i % elems == i / elems { 1.0 } else { 0.0 }).collect();
            let conv = Conv2d {
                name: String::new(),
                sources: vec![ConvSource { tensor: 0, weight }],
                bias: vec![0.0; elems],
                kernel: [kernel; 2],
                stride,
                pad,
                upsample,
                time_bias: None,
                residual: None,
                out_scale: 1.0,
                out: 1,
            };
            let graph = Graph {
                tensors: vec![info(h, w, c), info(out_h, out_w, elems)],
                ops: vec![Op::Conv2d(conv.clone())],
                input: 0,
                output: 1,
                input_mul: 1.0,
                input_add: 0.0,
                output_over_timestep: false,
                projections: Vec::new(),
                reuse: None,
            };
            let x: Vec<f32> = (1..=h * w * c).map(|i| i as f32).collect();
            let wanted = crate::interpret::Interpreter::new(&graph).run(&x, &[], &mut |_, _| {});
            let mut have = Vec::new();
            for pixel in 0..out_h * out_w {
                patch(&graph, &conv, 0, &x, [pixel / out_w, pixel % out_w], &mut have);
            }
            assert_eq!(have, wanted, "{kernel} {stride} {pad:?} {upsample}");
            // A single call gives as many patches as it has pixels.
            let mut sampler = Sampler::new(&graph, 0, 1, 1.0);
            sampler.see(0, &x);
            let taken = sampler.finish();
            assert_eq!(taken.at((1, 0)).len(), out_h * out_w * elems);
        }
    }
}
