//! Convolution as a matrix product over gathered patches, a block of output rows at a time.
//!
//! A 1×1 reads its input in place; any other gathers `kernel·in_c` values an output pixel (im2col). Of the patches only
//! one block exists at a time and thread, so large pictures do not multiply memory by nine.
//!
//! Patches lie with the pixels side by side, not with a pixel's values side by side: the matrix product packs its left operand
//! by runs of pixels, and with eight channels packing is most of its work. So the input is turned into planes, of which a tap
//! is a run of memory, and weights are transposed once: 1.7 ms a call of `digits` instead of 2.1 (AVX-512, one thread).

use rayon::prelude::*;

use super::matmul::{Matrix, matmul};
use crate::graph::{Conv2d, Graph, TensorId};

/// Multiply-adds of a block, about: small enough to share between threads, large enough to be worth it.
const BLOCK_MACS: usize = 1 << 20;
/// Elements of a block's patches at most (1 MiB).
const BLOCK_PATCH_ELEMS: usize = 1 << 18;

/// The weights of each source as the product wants its right operand: `[kh·kw·in_c, out_c]`.
pub fn prepare(op: &Conv2d) -> Vec<Vec<f32>> {
    let out_c = op.bias.len();
    let transpose = |weight: &[f32]| {
        let k = weight.len() / out_c.max(1);
        (0..weight.len()).map(|i| weight[(i % out_c) * k + i / out_c]).collect()
    };
    op.sources.iter().map(|source| transpose(&source.weight)).collect()
}

/// `weights` is what [`prepare`] made of the same operator.
pub fn run(
    graph: &Graph,
    op: &Conv2d,
    weights: &[Vec<f32>],
    tensors: &[Vec<f32>],
    projections: &[Vec<f32>],
    out: &mut [f32],
) {
    let shape = &graph.tensors[op.out];
    let in_c: usize = op.sources.iter().map(|source| graph.tensors[source.tensor].c).sum();
    let patch_elems = in_c * op.kernel[0] * op.kernel[1];
    let row_elems = shape.w * shape.c;
    let rows = (BLOCK_MACS / (row_elems * patch_elems)).min(BLOCK_PATCH_ELEMS / (shape.w * patch_elems)).max(1);
    let mut bias = op.bias.clone();
    if let Some(id) = op.time_bias {
        bias.iter_mut().zip(&projections[id]).for_each(|(bias, time)| *bias += time);
    }
    out.par_chunks_mut(rows * row_elems).enumerate().for_each_init(Scratch::default, |scratch, (block, out)| {
        let first_row = block * rows;
        for pixel in out.chunks_exact_mut(shape.c) {
            pixel.copy_from_slice(&bias);
        }
        for (source, weight) in op.sources.iter().zip(weights) {
            let part = Part { input: source.tensor, x: &tensors[source.tensor], weight };
            accumulate(graph, op, part, first_row, scratch, out);
        }
        let residual = op.residual.map(|id| &tensors[id][first_row * row_elems..]);
        for (index, value) in out.iter_mut().enumerate() {
            *value = (*value + residual.map_or(0.0, |residual| residual[index])) * op.out_scale;
        }
    });
}

/// Where a block's patches are put together; kept from block to block.
#[derive(Default)]
struct Scratch {
    /// The input rows of the block, padded: `[in_c, h, w]`.
    planes: Vec<f32>,
    /// `[kh, kw, in_c, pixels]`.
    patches: Vec<f32>,
}

/// One source of a convolution.
#[derive(Clone, Copy)]
struct Part<'a> {
    input: TensorId,
    x: &'a [f32],
    weight: &'a [f32],
}

/// Adds one source's part of the rows from `first_row` on, as many as `out` holds.
fn accumulate(
    graph: &Graph,
    op: &Conv2d,
    Part { input, x, weight }: Part,
    first_row: usize,
    scratch: &mut Scratch,
    out: &mut [f32],
) {
    let (out_w, out_c) = (graph.tensors[op.out].w, graph.tensors[op.out].c);
    let in_c = graph.tensors[input].c;
    let pixels = out.len() / out_c;
    let k = in_c * op.kernel[0] * op.kernel[1];
    let in_place = op.kernel == [1, 1] && op.stride == 1 && op.pad == [0; 4] && !op.upsample;
    let a = if in_place {
        Matrix { data: &x[first_row * out_w * in_c..], row_stride: k, col_stride: 1 }
    } else {
        gather(graph, op, input, x, first_row, pixels / out_w, scratch);
        Matrix { data: &scratch.patches, row_stride: 1, col_stride: pixels }
    };
    let b = Matrix { data: weight, row_stride: out_c, col_stride: 1 };
    matmul([pixels, out_c, k], a, b, out, out_c, true, 1.0);
}

/// The patches of `rows` output rows, zero where the padding is.
fn gather(
    graph: &Graph,
    op: &Conv2d,
    input: TensorId,
    x: &[f32],
    first_row: usize,
    rows: usize,
    scratch: &mut Scratch,
) {
    let input = &graph.tensors[input];
    let out_w = graph.tensors[op.out].w;
    let ([kh, kw], [top, left, ..], c) = (op.kernel, op.pad, input.c);
    let shift = usize::from(op.upsample);
    let (h, w) = (input.h << shift, input.w << shift);
    let (plane_h, plane_w) = ((rows - 1) * op.stride + kh, (out_w - 1) * op.stride + kw);
    let Scratch { planes, patches } = scratch;
    planes.clear();
    planes.resize(c * plane_h * plane_w, 0.0);
    // Planes begin at (top, left) before the picture.
    let columns = left..plane_w.min(left + w);
    for row in 0..plane_h {
        let Some(y) = (first_row * op.stride + row).checked_sub(top).filter(|y| *y < h) else { continue };
        let from = &x[(y >> shift) * input.w * c..][..input.w * c];
        for channel in 0..c {
            let to = &mut planes[(channel * plane_h + row) * plane_w..][columns.clone()];
            for (x, to) in to.iter_mut().enumerate() {
                *to = from[(x >> shift) * c + channel];
            }
        }
    }
    patches.clear();
    patches.reserve(kh * kw * c * rows * out_w);
    for tap in 0..kh * kw {
        let (ky, kx) = (tap / kw, tap % kw);
        for plane in planes.chunks_exact(plane_h * plane_w) {
            for row in 0..rows {
                let run = &plane[(row * op.stride + ky) * plane_w + kx..][..(out_w - 1) * op.stride + 1];
                match op.stride {
                    1 => patches.extend_from_slice(run),
                    stride => patches.extend(run.iter().step_by(stride)),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{ConvSource, TensorInfo};

    fn numbers(len: usize, step: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * step) % 17) as f32 - 8.0).collect()
    }

    /// A graph of two inputs, an output and a residual for one convolution, and the tensors' values.
    fn case([h, w]: [usize; 2], in_c: [usize; 2], out_c: usize, mut op: Conv2d) -> (Graph, Conv2d, Vec<Vec<f32>>) {
        let zoom = 1 + usize::from(op.upsample);
        let [top, left, bottom, right] = op.pad;
        let out_h = (h * zoom + top + bottom - op.kernel[0]) / op.stride + 1;
        let out_w = (w * zoom + left + right - op.kernel[1]) / op.stride + 1;
        let taps = op.kernel[0] * op.kernel[1];
        op.sources = (0..2).map(|i| ConvSource { tensor: i, weight: numbers(out_c * taps * in_c[i], 3 + i) }).collect();
        op.bias = numbers(out_c, 2);
        let info = |h, w, c| TensorInfo { name: String::new(), h, w, c };
        let tensors =
            vec![info(h, w, in_c[0]), info(h, w, in_c[1]), info(out_h, out_w, out_c), info(out_h, out_w, out_c)];
        let values = tensors.iter().enumerate().map(|(i, info)| numbers(info.elems(), 5 + 2 * i)).collect();
        let graph = Graph {
            tensors,
            ops: Vec::new(),
            input: 0,
            output: 2,
            input_mul: 1.0,
            input_add: 0.0,
            output_over_timestep: false,
            projections: Vec::new(),
            reuse: None,
        };
        (graph, op, values)
    }

    fn op(kernel: usize, stride: usize, pad: [usize; 4], upsample: bool) -> Conv2d {
        Conv2d {
            name: String::new(),
            sources: Vec::new(),
            bias: Vec::new(),
            kernel: [kernel; 2],
            stride,
            pad,
            upsample,
            time_bias: Some(0),
            residual: Some(3),
            out_scale: 0.5,
            out: 2,
        }
    }

    /// The formula at one output element; whole numbers, so every order of summation gives the same f32.
    fn formula(graph: &Graph, op: &Conv2d, values: &[Vec<f32>], time: &[f32], [y, x, o]: [usize; 3]) -> f32 {
        let out = &graph.tensors[op.out];
        let mut sum = op.bias[o] + time[o] + values[3][(y * out.w + x) * out.c + o];
        let shift = usize::from(op.upsample);
        for source in &op.sources {
            let info = &graph.tensors[source.tensor];
            for (tap, weights) in source.weight.chunks_exact(info.c).enumerate().skip(o * op.kernel[0] * op.kernel[1]) {
                let tap = tap - o * op.kernel[0] * op.kernel[1];
                if tap == op.kernel[0] * op.kernel[1] {
                    break;
                }
                let inside = |at: usize, pad: usize, size: usize| at.checked_sub(pad).filter(|at| *at < size << shift);
                let in_y = inside(y * op.stride + tap / op.kernel[1], op.pad[0], info.h);
                let in_x = inside(x * op.stride + tap % op.kernel[1], op.pad[1], info.w);
                if let (Some(in_y), Some(in_x)) = (in_y, in_x) {
                    let start = ((in_y >> shift) * info.w + (in_x >> shift)) * info.c;
                    let pixel = &values[source.tensor][start..start + info.c];
                    sum += weights.iter().zip(pixel).map(|(w, x)| w * x).sum::<f32>();
                }
            }
        }
        sum * op.out_scale
    }

    #[test]
    fn every_geometry_equals_the_formula_on_any_number_of_threads() {
        for (size, in_c, out_c, op) in [
            ([5, 7], [3, 2], 4, op(3, 1, [1; 4], false)),
            ([6, 4], [1, 5], 3, op(3, 2, [0, 0, 1, 1], false)),
            ([7, 5], [2, 2], 1, op(3, 2, [1; 4], false)),
            ([3, 4], [4, 1], 2, op(3, 1, [1; 4], true)),
            ([3, 4], [4, 1], 2, op(1, 1, [0; 4], true)),
            ([9, 1], [6, 7], 5, op(1, 1, [0; 4], false)),
            ([4, 4], [2, 3], 2, op(3, 2, [2; 4], false)),
            // Many blocks.
            ([65, 61], [8, 8], 24, op(3, 1, [1; 4], false)),
        ] {
            let (graph, op, values) = case(size, in_c, out_c, op);
            let time = numbers(out_c, 11);
            let shape = &graph.tensors[op.out];
            for threads in [1, 3] {
                let mut out = vec![0.0; shape.elems()];
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| run(&graph, &op, &prepare(&op), &values, std::slice::from_ref(&time), &mut out));
                for (i, have) in out.iter().enumerate() {
                    let at = [i / shape.c / shape.w, i / shape.c % shape.w, i % shape.c];
                    assert_eq!(*have, formula(&graph, &op, &values, &time, at), "{size:?} {at:?} {threads}");
                }
            }
        }
    }
}
