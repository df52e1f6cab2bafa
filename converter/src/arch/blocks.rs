//! The pieces of a U-Net: convolutions, norms, resnets, attention and changes of size, appended to a graph.
//!
//! Names and shapes of parameters are diffusers'. What the device fuses is fused here: a residual add, a time
//! embedding's bias, nearest upsampling before a convolution, the activation after a norm.

use miette::{Result, miette};

use super::config::Unet2dConfig;
use super::parameters::Parameters;
use crate::graph::{
    Activation, Attention, Conv2d, ConvSource, Graph, GroupNorm, Op, Projection, ProjectionId, TensorId, TensorInfo,
};

/// Elements of the largest activation that is taken.
const MAX_TENSOR_ELEMS: usize = 1 << 31;

/// What a convolution has besides its weights; the default is a 3×3 that keeps the size.
pub struct ConvOptions {
    pub kernel: usize,
    pub stride: usize,
    /// Top, left, bottom, right.
    pub pad: [usize; 4],
    pub upsample: bool,
    pub time_bias: Option<ProjectionId>,
    pub residual: Option<TensorId>,
    pub out_scale: f32,
}

impl Default for ConvOptions {
    fn default() -> Self {
        Self { kernel: 3, stride: 1, pad: [1; 4], upsample: false, time_bias: None, residual: None, out_scale: 1.0 }
    }
}

impl ConvOptions {
    fn pointwise() -> Self {
        Self { kernel: 1, pad: [0; 4], ..Self::default() }
    }
}

/// How a resnet changes the size.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Resize {
    Keep,
    /// 2×2 mean after the first norm, and on the way past.
    Down,
    /// Nearest upsampling at the same places.
    Up,
}

/// A graph in the making.
pub struct Builder<'a, 'b> {
    pub config: &'a Unet2dConfig,
    pub parameters: &'a mut Parameters<'b>,
    pub graph: Graph,
}

impl Builder<'_, '_> {
    /// A new tensor.
    pub fn tensor(&mut self, name: &str, [h, w, c]: [usize; 3]) -> Result<TensorId> {
        let elems = h.checked_mul(w).and_then(|hw| hw.checked_mul(c));
        if !elems.is_some_and(|elems| (1..=MAX_TENSOR_ELEMS).contains(&elems)) {
            return Err(miette!(
                help = "build for another picture size (`--size`) or other widths (`block_out_channels`)",
                "{name}: an activation of {h}x{w}x{c} is {}",
                if elems == Some(0) { "empty" } else { "too large" }
            ));
        }
        self.graph.tensors.push(TensorInfo { name: name.to_owned(), h, w, c });
        Ok(self.graph.tensors.len() - 1)
    }

    fn shape(&self, id: TensorId) -> [usize; 3] {
        let info = &self.graph.tensors[id];
        [info.h, info.w, info.c]
    }

    /// Checks that a concatenation's parts have one size, and gives the joined shape.
    fn joined(&self, prefix: &str, sources: &[TensorId]) -> Result<[usize; 3]> {
        let [h, w, mut c] = self.shape(sources[0]);
        for source in &sources[1..] {
            let other = self.shape(*source);
            if other[..2] != [h, w] {
                return Err(miette!(
                    help = "each level must halve and double back to the same size: sides divisible by 2 for every level but the last, and \
                            `downsample_padding` 0 or 1",
                    "{prefix}: {h}x{w} from below meets a skip connection of {}x{}",
                    other[0],
                    other[1]
                ));
            }
            c += other[2];
        }
        Ok([h, w, c])
    }

    /// A convolution with parameters `{prefix}.weight` of shape `[out_c, in_c, k, k]`, or `[out_c, in_c]` where `linear`.
    fn conv_of(
        &mut self,
        prefix: &str,
        sources: &[TensorId],
        out_c: usize,
        linear: bool,
        options: ConvOptions,
    ) -> Result<TensorId> {
        let [h, w, in_c] = self.joined(prefix, sources)?;
        let k = options.kernel;
        let shape = [out_c, in_c, k, k];
        let weight = self.parameters.take(&format!("{prefix}.weight"), if linear { &shape[..2] } else { &shape })?;
        let bias = self.parameters.take(&format!("{prefix}.bias"), &[out_c])?;
        let [top, left, bottom, right] = options.pad;
        let zoom = 1 + usize::from(options.upsample);
        let extent = |size: usize, pad: usize| Some((size * zoom + pad).checked_sub(k)? / options.stride + 1);
        let (Some(out_h), Some(out_w)) = (extent(h, top + bottom), extent(w, left + right)) else {
            return Err(miette!(
                help = "build for a larger picture (`--size`), or use fewer levels",
                "{prefix}: a {k}x{k} kernel does not fit into {h}x{w}"
            ));
        };
        let out = self.tensor(prefix, [out_h, out_w, out_c])?;
        let mut first_c = 0;
        let mut conv_sources = Vec::with_capacity(sources.len());
        for tensor in sources {
            let c = self.shape(*tensor)[2];
            conv_sources
                .push(ConvSource { tensor: *tensor, weight: oihw_to_ohwi(&weight, shape, first_c..first_c + c) });
            first_c += c;
        }
        self.graph.ops.push(Op::Conv2d(Conv2d {
            name: prefix.to_owned(),
            sources: conv_sources,
            bias,
            kernel: [k, k],
            stride: options.stride,
            pad: options.pad,
            upsample: options.upsample,
            time_bias: options.time_bias,
            residual: options.residual,
            out_scale: options.out_scale,
            out,
        }));
        Ok(out)
    }

    /// A convolution.
    pub fn conv(&mut self, prefix: &str, x: TensorId, out_c: usize, options: ConvOptions) -> Result<TensorId> {
        self.conv_of(prefix, &[x], out_c, false, options)
    }

    /// Group norm and activation.
    pub fn norm(
        &mut self,
        prefix: &str,
        sources: &[TensorId],
        groups: usize,
        time_scale_shift: Option<ProjectionId>,
        activation: Activation,
    ) -> Result<TensorId> {
        let shape = self.joined(prefix, sources)?;
        let c = shape[2];
        if c % groups != 0 {
            return Err(miette!(
                help = "choose `norm_num_groups` (or `attn_norm_num_groups`) so that it divides every width, the joined \
                        widths of the way up included",
                "{prefix}: {c} channels cannot be divided into {groups} groups"
            ));
        }
        let gamma = self.parameters.take(&format!("{prefix}.weight"), &[c])?;
        let beta = self.parameters.take(&format!("{prefix}.bias"), &[c])?;
        let out = self.tensor(prefix, shape)?;
        self.graph.ops.push(Op::GroupNorm(GroupNorm {
            name: prefix.to_owned(),
            sources: sources.to_vec(),
            groups,
            eps: self.config.norm_eps,
            gamma,
            beta,
            time_scale_shift,
            activation,
            out,
        }));
        Ok(out)
    }

    fn projection(&mut self, prefix: &str, out_dim: usize) -> Result<ProjectionId> {
        let (weight, bias) = self.parameters.linear(prefix, out_dim, self.config.time_embed_dim)?;
        self.graph.projections.push(Projection { name: prefix.to_owned(), weight, bias });
        Ok(self.graph.projections.len() - 1)
    }

    /// diffusers' `ResnetBlock2D` over the concatenation of `sources`.
    pub fn resnet(
        &mut self,
        prefix: &str,
        sources: &[TensorId],
        out_c: usize,
        resize: Resize,
        out_scale: f32,
    ) -> Result<TensorId> {
        let config = self.config;
        let [_, _, in_c] = self.joined(prefix, sources)?;
        let mut hidden = self.norm(&format!("{prefix}.norm1"), sources, config.norm_num_groups, None, config.act_fn)?;
        let mut bypass = sources.to_vec();
        if resize == Resize::Down {
            hidden = self.avg_pool(&format!("{prefix}.downsample.hidden"), hidden)?;
            for source in &mut bypass {
                *source = self.avg_pool(&format!("{prefix}.downsample.input"), *source)?;
            }
        }
        let name = format!("{prefix}.time_emb_proj");
        let projection = self.projection(&name, if config.scale_shift { 2 * out_c } else { out_c })?;
        let (time_bias, scale_shift) =
            if config.scale_shift { (None, Some(projection)) } else { (Some(projection), None) };
        let upsample = resize == Resize::Up;
        let options = ConvOptions { upsample, time_bias, ..ConvOptions::default() };
        hidden = self.conv(&format!("{prefix}.conv1"), hidden, out_c, options)?;
        hidden =
            self.norm(&format!("{prefix}.norm2"), &[hidden], config.norm_num_groups, scale_shift, config.act_fn)?;
        let residual = if in_c != out_c {
            let options = ConvOptions { upsample, ..ConvOptions::pointwise() };
            self.conv_of(&format!("{prefix}.conv_shortcut"), &bypass, out_c, false, options)?
        } else {
            match (&bypass[..], upsample) {
                (&[x], false) => x,
                (&[x], true) => self.upsample(&format!("{prefix}.upsample.input"), x)?,
                // Cannot happen to a UNet2DModel: a skip connection always makes the input wider than the output.
                _ => return Err(miette!(help = "use other widths", "{prefix}: a concatenation without conv_shortcut")),
            }
        };
        let options = ConvOptions { residual: Some(residual), out_scale, ..ConvOptions::default() };
        self.conv(&format!("{prefix}.conv2"), hidden, out_c, options)
    }

    /// diffusers' `Attention` with its residual connection; `groups` of its norm, if it has one.
    pub fn attention(&mut self, prefix: &str, x: TensorId, groups: Option<usize>, out_scale: f32) -> Result<TensorId> {
        let [h, w, c] = self.shape(x);
        let head_dim = self.config.attention_head_dim.unwrap_or(c);
        let heads = c / head_dim;
        if heads == 0 {
            return Err(miette!(
                help = "choose an `attention_head_dim` of at most the width of every level with attention, or null",
                "{prefix}: heads of {head_dim} channels do not fit into {c} channels"
            ));
        }
        let hidden = match groups {
            Some(groups) => self.norm(&format!("{prefix}.group_norm"), &[x], groups, None, Activation::Identity)?,
            None => x,
        };
        let inner_c = heads * head_dim;
        let mut qkv = [0; 3];
        for (tensor, name) in qkv.iter_mut().zip(["to_q", "to_k", "to_v"]) {
            *tensor = self.conv_of(&format!("{prefix}.{name}"), &[hidden], inner_c, true, ConvOptions::pointwise())?;
        }
        let out = self.tensor(prefix, [h, w, inner_c])?;
        let scale = (1.0 / (head_dim as f64).sqrt()) as f32;
        self.graph.ops.push(Op::Attention(Attention { name: prefix.to_owned(), qkv, heads, scale, out }));
        let options = ConvOptions { residual: Some(x), out_scale, ..ConvOptions::pointwise() };
        self.conv_of(&format!("{prefix}.to_out.0"), &[out], c, true, options)
    }

    /// `Downsample2D` with a convolution.
    pub fn downsample(&mut self, prefix: &str, x: TensorId, c: usize) -> Result<TensorId> {
        let pad = match self.config.downsample_padding {
            0 => [0, 0, 1, 1],
            p => [p; 4],
        };
        self.conv(&format!("{prefix}.conv"), x, c, ConvOptions { stride: 2, pad, ..ConvOptions::default() })
    }

    fn avg_pool(&mut self, name: &str, input: TensorId) -> Result<TensorId> {
        let [h, w, c] = self.shape(input);
        let out = self.tensor(name, [h / 2, w / 2, c])?;
        self.graph.ops.push(Op::AvgPool { input, out });
        Ok(out)
    }

    fn upsample(&mut self, name: &str, input: TensorId) -> Result<TensorId> {
        let [h, w, c] = self.shape(input);
        let out = self.tensor(name, [h * 2, w * 2, c])?;
        self.graph.ops.push(Op::Upsample { input, out });
        Ok(out)
    }
}

/// The input channels `range` of PyTorch's weight order, in the graph's.
fn oihw_to_ohwi(weight: &[f32], [out_c, in_c, kh, kw]: [usize; 4], range: std::ops::Range<usize>) -> Vec<f32> {
    let taps = kh * kw;
    let mut out = Vec::with_capacity(out_c * taps * range.len());
    for o in 0..out_c {
        for tap in 0..taps {
            out.extend(range.clone().map(|i| weight[(o * in_c + i) * taps + tap]));
        }
    }
    out
}
