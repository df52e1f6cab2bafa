//! Convolution as a matrix product over gathered patches, a block of output rows at a time.
//!
//! A 1×1 reads its input in place; any other gathers `kernel·in_c` values an output pixel (im2col). Of the patches only
//! one block exists at a time and thread, so large pictures do not multiply memory by nine.

use rayon::prelude::*;

use super::matmul::{Matrix, matmul};
use crate::graph::{Conv2d, ConvSource, Graph};

/// Multiply-adds of a block, about: small enough to share between threads, large enough to be worth it.
const BLOCK_MACS: usize = 1 << 20;
/// Elements of a block's patches at most (1 MiB).
const BLOCK_PATCH_ELEMS: usize = 1 << 18;

pub fn run(graph: &Graph, op: &Conv2d, tensors: &[Vec<f32>], projections: &[Vec<f32>], out: &mut [f32]) {
    let shape = &graph.tensors[op.out];
    let in_c: usize = op.sources.iter().map(|source| graph.tensors[source.tensor].c).sum();
    let patch_elems = in_c * op.kernel[0] * op.kernel[1];
    let row_elems = shape.w * shape.c;
    let rows = (BLOCK_MACS / (row_elems * patch_elems)).min(BLOCK_PATCH_ELEMS / (shape.w * patch_elems)).max(1);
    let mut bias = op.bias.clone();
    if let Some(id) = op.time_bias {
        bias.iter_mut().zip(&projections[id]).for_each(|(bias, time)| *bias += time);
    }
    out.par_chunks_mut(rows * row_elems).enumerate().for_each_init(Vec::new, |patches, (block, out)| {
        let first_row = block * rows;
        for pixel in out.chunks_exact_mut(shape.c) {
            pixel.copy_from_slice(&bias);
        }
        for source in &op.sources {
            accumulate(graph, op, source, &tensors[source.tensor], first_row, patches, out);
        }
        let residual = op.residual.map(|id| &tensors[id][first_row * row_elems..]);
        for (index, value) in out.iter_mut().enumerate() {
            *value = (*value + residual.map_or(0.0, |residual| residual[index])) * op.out_scale;
        }
    });
}

/// Adds one source's part of the rows from `first_row` on, as many as `out` holds.
fn accumulate(
    graph: &Graph,
    op: &Conv2d,
    source: &ConvSource,
    x: &[f32],
    first_row: usize,
    patches: &mut Vec<f32>,
    out: &mut [f32],
) {
    let (out_w, out_c) = (graph.tensors[op.out].w, graph.tensors[op.out].c);
    let in_c = graph.tensors[source.tensor].c;
    let pixels = out.len() / out_c;
    let k = in_c * op.kernel[0] * op.kernel[1];
    let in_place = op.kernel == [1, 1] && op.stride == 1 && op.pad == [0; 4] && !op.upsample;
    let a = if in_place {
        &x[first_row * out_w * in_c..]
    } else {
        gather(graph, op, source, x, first_row, pixels / out_w, patches);
        &patches[..]
    };
    let a = Matrix { data: a, row_stride: k, col_stride: 1 };
    let b = Matrix { data: &source.weight, row_stride: 1, col_stride: k };
    matmul([pixels, out_c, k], a, b, out, out_c, true, 1.0);
}

/// The patches of `rows` output rows: for each pixel `[kh, kw, in_c]`, zero where the padding is.
fn gather(graph: &Graph, op: &Conv2d, source: &ConvSource, x: &[f32], first_row: usize, rows: usize, patches: &mut Vec<f32>) {
    let input = &graph.tensors[source.tensor];
    let out_w = graph.tensors[op.out].w;
    let ([kh, kw], [top, left, ..], c) = (op.kernel, op.pad, input.c);
    let shift = usize::from(op.upsample);
    let (h, w) = (input.h << shift, input.w << shift);
    patches.clear();
    patches.resize(rows * out_w * kh * kw * c, 0.0);
    for (pixel, patch) in patches.chunks_exact_mut(kh * kw * c).enumerate() {
        // Padded coordinates: the picture begins at (top, left).
        let y0 = (first_row + pixel / out_w) * op.stride;
        let x0 = (pixel % out_w) * op.stride;
        for ky in 0..kh {
            let Some(y) = (y0 + ky).checked_sub(top).filter(|y| *y < h) else { continue };
            let row = &x[(y >> shift) * input.w * c..][..input.w * c];
            let tap_row = &mut patch[ky * kw * c..][..kw * c];
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
}
