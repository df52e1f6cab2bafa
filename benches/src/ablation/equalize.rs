//! Channel-wise smoothing (SmoothQuant, Xiao et al., arXiv:2211.10438, equation 4 with α = ½), where a U-Net allows it.
//!
//! A factor moves from a channel to the weights that read it; that is exact only where nothing bends between them. Between
//! the residual blocks' norms and convolutions stands SiLU, so what is left is attention: its norm, which has no
//! activation, and the projections to queries, keys and values.

use miette::Result;
use mote_converter::calibrate::{self, Patches, calibrate};
use mote_converter::graph::{Activation, Op};
use mote_converter::pipeline::{Calibrated, Options};
use mote_converter::quantize::{Level, Techniques, WeightWidth};
use mote_converter::search::{Evaluator, Measured};

/// Draws with an equalized network, calibrated anew; the float pictures stay the same.
pub fn measure(calibrated: &Calibrated, count: u32, width: WeightWidth) -> Result<Measured> {
    let mut equal = calibrated.clone();
    let graph = &mut equal.network.graph;
    let norms: Vec<usize> = graph
        .ops
        .iter()
        .filter_map(|op| match op {
            Op::GroupNorm(norm) if norm.activation == Activation::Identity => Some(norm.out),
            _ => None,
        })
        .collect();
    for norm in norms {
        let factors = factors(&graph.ops, &calibrated.patches, norm, graph.tensors[norm].c);
        for op in &mut graph.ops {
            match op {
                Op::GroupNorm(op) if op.out == norm => {
                    op.gamma.iter_mut().zip(&factors).for_each(|(gamma, factor)| *gamma /= factor);
                    op.beta.iter_mut().zip(&factors).for_each(|(beta, factor)| *beta /= factor);
                }
                Op::Conv2d(conv) => {
                    for source in conv.sources.iter_mut().filter(|source| source.tensor == norm) {
                        let channels = factors.iter().cycle();
                        source.weight.iter_mut().zip(channels).for_each(|(weight, factor)| *weight *= factor);
                    }
                }
                _ => {}
            }
        }
    }
    let options = Options::default();
    let runs = calibrate::Options {
        trajectories: options.trajectories,
        guidance: options.guidance,
        seed: options.seed,
        classes: equal.classes,
    };
    (equal.ranges, equal.patches) = calibrate(&equal.network, &equal.schedules, &runs, &|_, _| {})?;
    let precision = super::precision(&equal, Level::Int8, width, false);
    let lowered = equal.lower(&equal.solutions(Techniques::default()), &precision)?;
    let evaluator = Evaluator::new(calibrated, super::FIRST_SEED, count as usize, &|| {})?;
    evaluator.measure(&lowered)
}

/// √(largest activation / largest weight) of each channel that a norm writes, their mean 1.
fn factors(ops: &[Op], patches: &Patches, norm: usize, channels: usize) -> Vec<f32> {
    let (mut activations, mut weights) = (vec![0f32; channels], vec![0f32; channels]);
    let raise = |most: &mut [f32], values: &[f32]| {
        for pixel in values.chunks_exact(channels) {
            most.iter_mut().zip(pixel).for_each(|(most, x)| *most = most.max(x.abs()));
        }
    };
    for op in ops {
        if let Op::Conv2d(conv) = op {
            for source in conv.sources.iter().filter(|source| source.tensor == norm) {
                raise(&mut activations, patches.at((conv.out, norm)));
                raise(&mut weights, &source.weight);
            }
        }
    }
    let factors: Vec<f32> = activations
        .iter()
        .zip(&weights)
        .map(|(x, w)| if *x > 0.0 && *w > 0.0 { (x / w).sqrt() } else { 1.0 })
        .collect();
    let mean = factors.iter().sum::<f32>() / channels.max(1) as f32;
    factors.iter().map(|factor| factor / mean).collect()
}
