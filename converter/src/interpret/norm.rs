//! Group normalisation over one or two tensors, then scale and shift; the activation is the caller's.

use crate::graph::{Activation, Graph, GroupNorm};

/// Sums are f64: squares of f32 are exact there, so one pass gives the variance to about 1e-16·mean².
pub fn run(graph: &Graph, op: &GroupNorm, tensors: &[Vec<f32>], projections: &[Vec<f32>], out: &mut [f32]) {
    let shape = &graph.tensors[op.out];
    let channels = shape.c;
    let group_c = channels / op.groups;
    let moments = moments(graph, op, tensors, channels);
    let (means, variances): (Vec<f64>, Vec<f64>) = moments
        .chunks_exact(group_c)
        .map(|group| {
            let elems = (group_c * shape.h * shape.w) as f64;
            let mean = group.iter().map(|[sum, _]| sum).sum::<f64>() / elems;
            let square = group.iter().map(|[_, square]| square).sum::<f64>() / elems;
            (mean, (square - mean * mean).max(0.0))
        })
        .unzip();

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

/// The activation, in place.
pub fn activate(activation: Activation, values: &mut [f32]) {
    match activation {
        Activation::Identity => {}
        Activation::Silu => silu(values),
        activation => values.iter_mut().for_each(|y| *y = activation.apply(*y)),
    }
}

/// x·σ(x) with an exponential that the compiler can vectorise: 2ⁿ·eʳ by a polynomial (Cephes' coefficients, within
/// 2 ulp). `f32::exp` is a call an element, which took as long as all convolutions of a small network.
fn silu(values: &mut [f32]) {
    const COEFFICIENTS: [f32; 6] = [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
    /// 1.5·2²³: adding it rounds to a whole number, which then is in the low bits.
    const ROUND: f32 = 12_582_912.0;
    for x in values {
        // e⁸⁸ is the largest whole power that fits; where the clamp bites, x·σ(x) is 0 or x to 1e-35.
        let minus = (-*x).clamp(-87.0, 88.0);
        let rounded = minus * std::f32::consts::LOG2_E + ROUND;
        let n = rounded - ROUND;
        let r = minus - n * 0.693_359_4 + n * 2.121_944_4e-4;
        let tail = COEFFICIENTS.iter().fold(0.0, |sum, c| sum * r + c);
        let power = f32::from_bits((rounded.to_bits() << 23).wrapping_add(127 << 23));
        *x /= 1.0 + (tail * r * r + r + 1.0) * power;
    }
}

/// Σx and Σx² over the pixels, for each channel of the concatenation.
fn moments(graph: &Graph, op: &GroupNorm, tensors: &[Vec<f32>], channels: usize) -> Vec<[f64; 2]> {
    let mut moments = vec![[0.0; 2]; channels];
    let mut first_c = 0;
    for source in &op.sources {
        let c = graph.tensors[*source].c;
        let moments = &mut moments[first_c..first_c + c];
        for pixel in tensors[*source].chunks_exact(c) {
            for ([sum, square], x) in moments.iter_mut().zip(pixel) {
                let x = f64::from(*x);
                *sum += x;
                *square += x * x;
            }
        }
        first_c += c;
    }
    moments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fast_silu_is_the_function() {
        let points: Vec<f32> = (-200_000..200_000).map(|i| i as f32 * 1e-3).collect();
        let mut fast = points.clone();
        silu(&mut fast);
        for (x, fast) in points.iter().zip(fast) {
            let exact = (f64::from(*x) / (1.0 + (-f64::from(*x)).exp())) as f32;
            assert!((fast - exact).abs() <= 4e-7 * exact.abs() + 1e-35, "{x}: {fast} against {exact}");
        }
    }
}
