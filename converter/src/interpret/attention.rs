//! Scaled dot-product attention over the pixels, a block of queries at a time.

use rayon::prelude::*;

use super::matmul::{Matrix, matmul};
use crate::graph::{Attention, Graph};

/// Queries of a block: a block's scores are this times the number of pixels.
const BLOCK_QUERIES: usize = 64;

pub fn run(graph: &Graph, op: &Attention, tensors: &[Vec<f32>], out: &mut [f32]) {
    let shape = &graph.tensors[op.out];
    let (pixels, inner_c) = (shape.h * shape.w, shape.c);
    let head_dim = inner_c / op.heads;
    let [q, k, v] = op.qkv.map(|id| &tensors[id][..]);
    out.par_chunks_mut(BLOCK_QUERIES * inner_c).enumerate().for_each_init(Vec::new, |scores, (block, out)| {
        let queries = out.len() / inner_c;
        scores.resize(queries * pixels, 0.0f32);
        for head in 0..op.heads {
            let first_c = head * head_dim;
            let q = &q[block * BLOCK_QUERIES * inner_c + first_c..];
            let q = Matrix { data: q, row_stride: inner_c, col_stride: 1 };
            let k = Matrix { data: &k[first_c..], row_stride: 1, col_stride: inner_c };
            let v = Matrix { data: &v[first_c..], row_stride: inner_c, col_stride: 1 };
            matmul([queries, pixels, head_dim], q, k, scores, pixels, false, op.scale);
            scores.chunks_exact_mut(pixels).for_each(softmax);
            let scores = Matrix { data: scores, row_stride: pixels, col_stride: 1 };
            matmul([queries, head_dim, pixels], scores, v, &mut out[first_c..], inner_c, false, 1.0);
        }
    });
}

fn softmax(row: &mut [f32]) {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0f64;
    for value in row.iter_mut() {
        *value = (*value - max).exp();
        sum += f64::from(*value);
    }
    let inverse = (1.0 / sum) as f32;
    row.iter_mut().for_each(|value| *value *= inverse);
}
