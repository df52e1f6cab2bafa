//! The layout of diffusers' `UNet2DModel`: which blocks, in which order, with which skip connections.
//!
//! Ho et al., *Denoising Diffusion Probabilistic Models*, arXiv:2006.11239, appendix B, as diffusers generalises it.

use miette::{Result, miette};

use super::blocks::{Builder, ConvOptions, Resize};
use super::config::{DownBlock, Sampling, TimeEmbeddingType, Unet2dConfig, UpBlock};
use super::parameters::Parameters;
use crate::graph::{Activation, Graph, Reuse, TensorId};

/// Builds the graph for pictures of `[h, w]`.
pub fn build(config: &Unet2dConfig, [h, w]: [usize; 2], parameters: &mut Parameters) -> Result<Graph> {
    let center = config.center_input_sample;
    let graph = Graph {
        tensors: Vec::new(),
        ops: Vec::new(),
        input: 0,
        output: 0,
        input_mul: if center { 2.0 } else { 1.0 },
        input_add: if center { -1.0 } else { 0.0 },
        output_over_timestep: config.time_embedding_type == TimeEmbeddingType::Fourier,
        projections: Vec::new(),
        reuse: None,
    };
    let mut builder = Builder { config, parameters, graph };
    builder.graph.input = builder.tensor("sample", [h, w, config.channels])?;
    let x = builder.graph.input;
    let x = builder.conv("conv_in", x, config.block_out_channels[0], ConvOptions::default())?;
    let mut skips = vec![x];
    let x = down(&mut builder, x, &mut skips)?;
    let x = mid(&mut builder, x)?;
    let (x, cut) = up(&mut builder, x, &mut skips)?;
    let x = builder.norm("conv_norm_out", &[x], config.norm_num_groups, None, Activation::Silu)?;
    let output = builder.conv("conv_out", x, config.channels, ConvOptions::default())?;
    let mut graph = builder.graph;
    graph.output = output;
    graph.reuse = cut.and_then(|tensor| Reuse::at(&graph, tensor));
    Ok(graph)
}

fn down(builder: &mut Builder, mut x: TensorId, skips: &mut Vec<TensorId>) -> Result<TensorId> {
    let config = builder.config;
    let levels = config.block_out_channels.len();
    for (i, (block, c)) in config.down_block_types.iter().zip(&config.block_out_channels).enumerate() {
        let prefix = format!("down_blocks.{i}");
        for j in 0..config.layers_per_block {
            x = builder.resnet(&format!("{prefix}.resnets.{j}"), &[x], *c, Resize::Keep, 1.0)?;
            if *block == DownBlock::AttnDown {
                x = builder.attention(&format!("{prefix}.attentions.{j}"), x, Some(config.norm_num_groups), 1.0)?;
            }
            skips.push(x);
        }
        if builder.graph.tensors[x].c != *c {
            return Err(miette!(
                help = "use `layers_per_block` of at least 1, or one width for all levels",
                "{prefix}: {} channels come in and no resnet makes them {c}",
                builder.graph.tensors[x].c
            ));
        }
        if i + 1 == levels {
            break;
        }
        let prefix = format!("{prefix}.downsamplers.0");
        let resnet = match block {
            DownBlock::Down => false,
            DownBlock::AttnDown => config.downsample_type == Sampling::Resnet,
            DownBlock::ResnetDownsample => true,
        };
        x = if resnet {
            builder.resnet(&prefix, &[x], *c, Resize::Down, 1.0)?
        } else {
            builder.downsample(&prefix, x, *c)?
        };
        skips.push(x);
    }
    Ok(x)
}

fn mid(builder: &mut Builder, mut x: TensorId) -> Result<TensorId> {
    let config = builder.config;
    if !config.mid_block {
        return Ok(x);
    }
    let c = config.block_out_channels[config.block_out_channels.len() - 1];
    let out_scale = (1.0 / config.mid_block_scale_factor) as f32;
    x = builder.resnet("mid_block.resnets.0", &[x], c, Resize::Keep, out_scale)?;
    if config.add_attention {
        x = builder.attention("mid_block.attentions.0", x, config.mid_attn_groups, out_scale)?;
    }
    builder.resnet("mid_block.resnets.1", &[x], c, Resize::Keep, out_scale)
}

/// Also returns where [`Graph::reuse`] cuts: in front of the last resnet, whose skip connection is the first convolution's
/// output. Cuts further in cost a shallow call more and pictures as much: `digits` with every second call shallow 33.7 dB of
/// PSNR here, where a shallow call has 8 % of the multiply-adds, 34.1 dB one level further in with 33 %.
fn up(builder: &mut Builder, mut x: TensorId, skips: &mut Vec<TensorId>) -> Result<(TensorId, Option<TensorId>)> {
    let config = builder.config;
    let levels = config.block_out_channels.len();
    let mut cut = None;
    for (i, (block, c)) in config.up_block_types.iter().zip(config.block_out_channels.iter().rev()).enumerate() {
        let prefix = format!("up_blocks.{i}");
        for j in 0..config.layers_per_block + 1 {
            cut = (levels > 1).then_some(x);
            let sources: Vec<TensorId> = [x].into_iter().chain(skips.pop()).collect();
            x = builder.resnet(&format!("{prefix}.resnets.{j}"), &sources, *c, Resize::Keep, 1.0)?;
            if *block == UpBlock::AttnUp {
                x = builder.attention(&format!("{prefix}.attentions.{j}"), x, Some(config.norm_num_groups), 1.0)?;
            }
        }
        if i + 1 == levels {
            break;
        }
        let prefix = format!("{prefix}.upsamplers.0");
        let resnet = match block {
            UpBlock::Up => false,
            UpBlock::AttnUp => config.upsample_type == Sampling::Resnet,
            UpBlock::ResnetUpsample => true,
        };
        x = if resnet {
            builder.resnet(&prefix, &[x], *c, Resize::Up, 1.0)?
        } else {
            let options = ConvOptions { upsample: true, ..ConvOptions::default() };
            builder.conv(&format!("{prefix}.conv"), x, *c, options)?
        };
    }
    Ok((x, cut))
}
