//! The classifier's layers, by the f32 interpreter's convolution.

use miette::{Report, Result};

use super::Reading;
use crate::graph::{Conv2d, ConvSource, Graph, TensorId, TensorInfo};
use crate::interpret;
use crate::weights::Checkpoint;

/// Convolutions with ReLU and pooling, and a linear layer.
#[derive(Debug)]
pub struct Classifier {
    /// The tensors that convolutions read and write: the input, then of each layer its maps before and after pooling.
    graph: Graph,
    /// With their weights as the product wants them.
    convs: Vec<(Conv2d, Vec<Vec<f32>>)>,
    /// `[classes, h, w, c]` of the last pooled maps.
    linear: Vec<f32>,
    bias: Vec<f32>,
}

impl Classifier {
    /// Reads and checks the layers; `unlike` is the error of a file that holds something else.
    pub fn read(file: &Checkpoint, unlike: &dyn Fn(String) -> Report) -> Result<Self> {
        let Some(&[width, channels, 3, 3]) = file.shape("conv1.weight") else {
            return Err(unlike("it needs a 3x3 convolution `conv1.weight`".to_owned()));
        };
        let size = match file.metadata().get("sample_size").map(|text| text.parse::<usize>()) {
            Some(Ok(size)) if size > 0 => size,
            _ => return Err(unlike("its metadata has no `sample_size` in pixels".to_owned())),
        };
        let mut tensors = vec![TensorInfo { name: "input".to_owned(), h: size, w: size, c: channels }];
        let (mut convs, mut side, mut in_c, mut out_c) = (Vec::new(), size, channels, width);
        for layer in 1.. {
            let name = format!("conv{layer}");
            match file.shape(&format!("{name}.weight")) {
                Some(&[width, ..]) => out_c = width,
                _ => break,
            }
            let weight = file.tensor(&format!("{name}.weight"), &[out_c, in_c, 3, 3])?;
            let weight = weight.chunks_exact(9 * in_c).flat_map(|row| last_from_first(row, in_c)).collect();
            let input = tensors.len() - 1;
            let op = conv(name, input, weight, file.tensor(&format!("conv{layer}.bias"), &[out_c])?);
            let weights = interpret::conv::prepare(&op);
            convs.push((op, weights));
            tensors.push(TensorInfo { name: "maps".to_owned(), h: side, w: side, c: out_c });
            (side, in_c) = (side / 2, out_c);
            tensors.push(TensorInfo { name: "pooled".to_owned(), h: side, w: side, c: out_c });
        }
        if side == 0 {
            return Err(unlike(format!("{} poolings leave nothing of {size} pixels", convs.len())));
        }
        let Some(&[classes, _]) = file.shape("linear.weight") else {
            return Err(unlike("it needs a layer `linear.weight`".to_owned()));
        };
        let elems = side * side * out_c;
        let linear = file.tensor("linear.weight", &[classes, elems])?;
        let linear = linear.chunks_exact(elems).flat_map(|row| last_from_first(row, out_c)).collect();
        let output = tensors.len() - 1;
        let graph = Graph {
            tensors,
            ops: Vec::new(),
            input: 0,
            output,
            input_mul: 1.0,
            input_add: 0.0,
            output_over_timestep: false,
            projections: Vec::new(),
            reuse: None,
        };
        Ok(Self { graph, convs, linear, bias: file.tensor("linear.bias", &[classes])? })
    }

    /// Height, width and channels of the pictures.
    pub fn input(&self) -> [usize; 3] {
        let input = &self.graph.tensors[self.graph.input];
        [input.h, input.w, input.c]
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.bias.len()
    }

    /// Number of features.
    pub fn feature_len(&self) -> usize {
        self.graph.tensors[self.graph.output].c
    }

    /// Reads one picture (HWC).
    ///
    /// # Panics
    /// If the picture has another length.
    pub fn run(&self, picture: &[f32]) -> Reading {
        let mut tensors: Vec<Vec<f32>> = self.graph.tensors.iter().map(|info| vec![0.0; info.elems()]).collect();
        assert_eq!(picture.len(), tensors[0].len(), "the picture's length");
        tensors[0].iter_mut().zip(picture).for_each(|(to, x)| *to = x.clamp(-1.0, 1.0));
        for (op, weights) in &self.convs {
            let mut maps = std::mem::take(&mut tensors[op.out]);
            interpret::conv::run(&self.graph, op, weights, &tensors, &[], &mut maps);
            relu_max_pool(&self.graph, op.out, &maps, &mut tensors[op.out + 1]);
        }
        let maps = &tensors[self.graph.output];
        let logit = |(row, bias): (&[f32], &f32)| bias + row.iter().zip(maps).map(|(w, x)| w * x).sum::<f32>();
        let logits = self.linear.chunks_exact(maps.len()).zip(&self.bias).map(logit);
        // The first of equals, as `argmax` of NumPy and PyTorch.
        let best = logits.enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best });
        Reading { class: best.map_or(0, |(class, _)| class), features: means(maps, self.feature_len()) }
    }
}

fn conv(name: String, input: TensorId, weight: Vec<f32>, bias: Vec<f32>) -> Conv2d {
    Conv2d {
        name,
        sources: vec![ConvSource { tensor: input, weight }],
        bias,
        kernel: [3; 2],
        stride: 1,
        pad: [1; 4],
        upsample: false,
        time_bias: None,
        residual: None,
        out_scale: 1.0,
        out: input + 1,
    }
}

/// One row of weights with the channel as its last axis instead of its first.
fn last_from_first(row: &[f32], channels: usize) -> impl Iterator<Item = f32> + '_ {
    let pixels = row.len() / channels.max(1);
    (0..row.len()).map(move |i| row[(i % channels) * pixels + i / channels])
}

/// The maximum of zero and of each 2×2 square; an odd last row or column is left out.
fn relu_max_pool(graph: &Graph, maps: TensorId, x: &[f32], pooled: &mut [f32]) {
    let (from, to) = (&graph.tensors[maps], &graph.tensors[maps + 1]);
    let c = from.c;
    for (y, row) in pooled.chunks_exact_mut(to.w * c).enumerate() {
        for (column, pixel) in row.chunks_exact_mut(c).enumerate() {
            let first = (2 * y * from.w + 2 * column) * c;
            for corner in [first, first + c, first + from.w * c, first + (from.w + 1) * c] {
                pixel.iter_mut().zip(&x[corner..corner + c]).for_each(|(best, x)| *best = best.max(*x));
            }
        }
    }
}

/// The mean of each channel.
fn means(maps: &[f32], channels: usize) -> Vec<f32> {
    let mut sums = vec![0.0f64; channels];
    for pixel in maps.chunks_exact(channels) {
        sums.iter_mut().zip(pixel).for_each(|(sum, x)| *sum += f64::from(*x));
    }
    let pixels = (maps.len() / channels.max(1)) as f64;
    sums.iter().map(|sum| (sum / pixels) as f32).collect()
}
