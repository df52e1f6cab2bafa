//! Group normalisation over one or two tensors, then scale and shift; the activation is the caller's.

use crate::graph::{Graph, GroupNorm};

/// Mean and variance are two passes in f64: the oracle should not add an error of its own.
pub fn run(graph: &Graph, op: &GroupNorm, tensors: &[Vec<f32>], projections: &[Vec<f32>], out: &mut [f32]) {
    let shape = &graph.tensors[op.out];
    let (channels, pixels) = (shape.c, shape.h * shape.w);
    let group_c = channels / op.groups;
    let means = per_group(group_c, pixels, &sums(graph, op, tensors, channels, &|_, x| x));
    let deviation = |channel: usize, x: f64| (x - means[channel / group_c]).powi(2);
    let variances = per_group(group_c, pixels, &sums(graph, op, tensors, channels, &deviation));

    let scale_shift = op.time_scale_shift.map(|id| projections[id].split_at(channels));
    let (mul, add): (Vec<f32>, Vec<f32>) = (0..channels)
        .map(|c| {
            let group = c / group_c;
            let mul = f64::from(op.gamma[c]) / (variances[group] + f64::from(op.eps)).sqrt();
            let add = f64::from(op.beta[c]) - means[group] * mul;
            let (scale, shift) = scale_shift.map_or((0.0, 0.0), |(s, t)| (f64::from(s[c]), f64::from(t[c])));
            ((mul * (1.0 + scale)) as f32, (add * (1.0 + scale) + shift) as f32)
        })
        .unzip();

    let mut first_c = 0;
    for source in &op.sources {
        let c = graph.tensors[*source].c;
        let (mul, add) = (&mul[first_c..first_c + c], &add[first_c..first_c + c]);
        for (pixel, x) in out.chunks_exact_mut(channels).zip(tensors[*source].chunks_exact(c)) {
            for (((y, x), mul), add) in pixel[first_c..].iter_mut().zip(x).zip(mul).zip(add) {
                *y = x * mul + add;
            }
        }
        first_c += c;
    }
}

/// Σ f(channel, x) over the pixels, for each channel of the concatenation.
fn sums(
    graph: &Graph,
    op: &GroupNorm,
    tensors: &[Vec<f32>],
    channels: usize,
    f: &dyn Fn(usize, f64) -> f64,
) -> Vec<f64> {
    let mut sums = vec![0.0; channels];
    let mut first_c = 0;
    for source in &op.sources {
        let c = graph.tensors[*source].c;
        for pixel in tensors[*source].chunks_exact(c) {
            for (channel, x) in pixel.iter().enumerate() {
                sums[first_c + channel] += f(first_c + channel, f64::from(*x));
            }
        }
        first_c += c;
    }
    sums
}

/// Means over groups of `group_c` channels.
fn per_group(group_c: usize, pixels: usize, sums: &[f64]) -> Vec<f64> {
    sums.chunks_exact(group_c).map(|group| group.iter().sum::<f64>() / (group_c * pixels) as f64).collect()
}
