//! The configuration of diffusers' `UNet2DModel` (0.0.4 to 0.42), typed.
//!
//! Defaults are those of the class. `dropout` is read and has no effect, as in diffusers' evaluation mode.

use miette::{Result, miette};
use serde_json::Value;

use crate::fields::{ConfigText, Fields, as_integer, brief, names};
use crate::graph::Activation;

/// Largest sizes that are taken from a file; far beyond any microcontroller, small enough that no product overflows.
const MAX_CHANNELS: i64 = 1 << 14;
const MAX_SIZE: usize = 1 << 13;

/// A block of the way down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DownBlock {
    /// `DownBlock2D`: resnets, then a strided convolution.
    Down,
    /// `AttnDownBlock2D`: each resnet followed by attention, then what `downsample_type` says.
    AttnDown,
    /// `ResnetDownsampleBlock2D`: resnets, then a resnet that halves.
    ResnetDownsample,
}

/// A block of the way up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpBlock {
    /// `UpBlock2D`: resnets, then an upsampled convolution.
    Up,
    /// `AttnUpBlock2D`: each resnet followed by attention, then what `upsample_type` says.
    AttnUp,
    /// `ResnetUpsampleBlock2D`: resnets, then a resnet that doubles.
    ResnetUpsample,
}

/// `downsample_type` and `upsample_type`, which only the attention blocks obey.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampling {
    /// A 3×3 convolution.
    Conv,
    /// A whole resnet block around the change of size.
    Resnet,
}

/// `time_embedding_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeEmbeddingType {
    /// Sinusoids of the timestep.
    Positional,
    /// Sinusoids of the timestep's logarithm at random frequencies; the output is divided by the timestep.
    Fourier,
    /// A table with one row a training timestep.
    Learned,
}

/// `class_embed_type`, with `None` told apart by `num_class_embeds`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassEmbedType {
    /// The network is unconditional.
    None,
    /// A table of `num_class_embeds` rows.
    Table,
    /// The class goes through the timestep's sinusoid and an MLP of its own.
    Timestep,
    /// The caller's vector is added as it is.
    Identity,
}

/// A `UNet2DModel`'s configuration; fields are named as the keys.
#[derive(Clone, Debug)]
pub struct Unet2dConfig {
    /// `[h, w]`, if the configuration fixes it.
    pub sample_size: Option<[usize; 2]>,
    /// Channels of the picture (in and out alike).
    pub channels: usize,
    /// The network reads 2x − 1.
    pub center_input_sample: bool,
    /// How a timestep becomes a vector.
    pub time_embedding_type: TimeEmbeddingType,
    /// Width of the embedding; 4 × the first width unless given.
    pub time_embed_dim: usize,
    /// `num_train_timesteps`: rows of the learned table.
    pub num_train_timesteps: Option<usize>,
    /// Subtracted from the number of frequencies.
    pub freq_shift: f64,
    /// Cosines first.
    pub flip_sin_to_cos: bool,
    /// From the full size down.
    pub down_block_types: Vec<DownBlock>,
    /// From the smallest size up.
    pub up_block_types: Vec<UpBlock>,
    /// False for `mid_block_type: null`.
    pub mid_block: bool,
    /// Widths, from the full size down.
    pub block_out_channels: Vec<usize>,
    /// Resnets a block on the way down; one more on the way up.
    pub layers_per_block: usize,
    /// `output_scale_factor` of the mid block's resnets and attention.
    pub mid_block_scale_factor: f64,
    /// Zero padding of the strided convolutions; 0 pads right and bottom by one.
    pub downsample_padding: usize,
    /// For `AttnDownBlock2D`.
    pub downsample_type: Sampling,
    /// For `AttnUpBlock2D`.
    pub upsample_type: Sampling,
    /// Of resnets; the time MLP and the output use SiLU always.
    pub act_fn: Activation,
    /// Channels a head; `None` makes one head of all channels.
    pub attention_head_dim: Option<usize>,
    /// Groups of every group norm that is not said otherwise.
    pub norm_num_groups: usize,
    /// Groups of the mid block's attention norm; `None` there means no norm.
    pub mid_attn_groups: Option<usize>,
    /// Epsilon of every group norm.
    pub norm_eps: f32,
    /// `resnet_time_scale_shift = "scale_shift"`.
    pub scale_shift: bool,
    /// Whether the mid block has attention.
    pub add_attention: bool,
    /// What a class is.
    pub class_embed_type: ClassEmbedType,
    /// Number of classes, where it is known.
    pub num_class_embeds: Option<usize>,
}

const DOWN: [(&str, DownBlock); 3] = [
    ("DownBlock2D", DownBlock::Down),
    ("AttnDownBlock2D", DownBlock::AttnDown),
    ("ResnetDownsampleBlock2D", DownBlock::ResnetDownsample),
];
const UP: [(&str, UpBlock); 3] = [
    ("UpBlock2D", UpBlock::Up),
    ("AttnUpBlock2D", UpBlock::AttnUp),
    ("ResnetUpsampleBlock2D", UpBlock::ResnetUpsample),
];
const SAMPLING: [(&str, Sampling); 2] = [("conv", Sampling::Conv), ("resnet", Sampling::Resnet)];
const ACTIVATIONS: [(&str, Activation); 5] = [
    ("silu", Activation::Silu),
    ("swish", Activation::Silu),
    ("mish", Activation::Mish),
    ("gelu", Activation::Gelu),
    ("relu", Activation::Relu),
];

impl Unet2dConfig {
    /// Reads and checks every key.
    pub fn read(text: &ConfigText) -> Result<Self> {
        if let Some(class) = text.class_name().filter(|class| *class != "UNet2DModel") {
            return Err(miette!(
                help = "UNet2DModel is supported; a pipeline's VAE, text encoder or conditional U-Net is not",
                "{}: `_class_name` = \"{class}\" is not supported (supported: UNet2DModel)",
                text.origin
            ));
        }
        let mut fields = Fields::new(text);
        let config = Self::from_fields(&mut fields);
        fields.finish("UNet2DModel")?;
        Ok(config)
    }

    fn from_fields(fields: &mut Fields) -> Self {
        let channels = fields.integer("in_channels", 1..=MAX_CHANNELS).unwrap_or(3) as usize;
        let out_channels = fields.integer("out_channels", 1..=MAX_CHANNELS).unwrap_or(3) as usize;
        if out_channels != channels {
            fields.refuse(
                "out_channels",
                out_channels,
                format!("the same as `in_channels`, {channels}: learned variances and joined conditions are not"),
            );
        }
        let block_out_channels = fields
            .list("block_out_channels", &format!("whole numbers from 1 to {MAX_CHANNELS}"), |item| {
                as_integer(item).filter(|c| (1..=MAX_CHANNELS).contains(c)).map(|c| c as usize)
            })
            .unwrap_or_else(|| vec![224, 448, 672, 896]);
        let default_down = vec![DownBlock::Down, DownBlock::AttnDown, DownBlock::AttnDown, DownBlock::AttnDown];
        let default_up = vec![UpBlock::AttnUp, UpBlock::AttnUp, UpBlock::AttnUp, UpBlock::Up];
        let down_block_types = blocks(fields, "down_block_types", &DOWN).unwrap_or(default_down);
        let up_block_types = blocks(fields, "up_block_types", &UP).unwrap_or(default_up);
        let levels = block_out_channels.len();
        if levels == 0 || levels > 12 {
            fields.refuse("block_out_channels", format!("{levels} levels"), "1 to 12 levels");
        }
        for (key, len) in [("down_block_types", down_block_types.len()), ("up_block_types", up_block_types.len())] {
            if len != levels {
                fields.refuse(key, format!("{len} blocks"), format!("as many as `block_out_channels`, {levels}"));
            }
        }
        let first = block_out_channels.first().copied().unwrap_or(1);
        let scale_shift =
            fields.choice("resnet_time_scale_shift", &[("default", false), ("scale_shift", true)]).unwrap_or(false);
        let norm_num_groups = if fields.is_null("norm_num_groups") {
            fields.refuse("norm_num_groups", "null", "a number of groups: diffusers' down blocks need it too");
            32
        } else {
            fields.integer("norm_num_groups", 1..=MAX_CHANNELS).unwrap_or(32) as usize
        };
        let attn_norm_num_groups = fields.integer("attn_norm_num_groups", 1..=MAX_CHANNELS).map(|n| n as usize);
        let mid_block = if fields.is_null("mid_block_type") {
            false
        } else {
            fields.choice("mid_block_type", &[("UNetMidBlock2D", true)]).unwrap_or(true)
        };
        fields.number("dropout", "a number from 0 to 1, without effect here", |p| (0.0..=1.0).contains(&p));
        let mut config = Self {
            sample_size: sample_size(fields),
            channels,
            center_input_sample: fields.flag("center_input_sample").unwrap_or(false),
            time_embedding_type: fields
                .choice(
                    "time_embedding_type",
                    &[
                        ("positional", TimeEmbeddingType::Positional),
                        ("fourier", TimeEmbeddingType::Fourier),
                        ("learned", TimeEmbeddingType::Learned),
                    ],
                )
                .unwrap_or(TimeEmbeddingType::Positional),
            // `time_embedding_dim or …`: 0 counts as absent.
            time_embed_dim: fields
                .integer("time_embedding_dim", 0..=1 << 16)
                .filter(|dim| *dim > 0)
                .map_or(4 * first, |dim| dim as usize),
            num_train_timesteps: fields.integer("num_train_timesteps", 1..=1 << 20).map(|n| n as usize),
            freq_shift: fields.number("freq_shift", "a number", |_| true).unwrap_or(0.0),
            flip_sin_to_cos: fields.flag("flip_sin_to_cos").unwrap_or(true),
            down_block_types,
            up_block_types,
            mid_block,
            block_out_channels,
            layers_per_block: fields.integer("layers_per_block", 0..=64).unwrap_or(2) as usize,
            mid_block_scale_factor: fields
                .number("mid_block_scale_factor", "a number other than 0", |factor| factor != 0.0)
                .unwrap_or(1.0),
            downsample_padding: fields.integer("downsample_padding", 0..=8).unwrap_or(1) as usize,
            downsample_type: fields.choice("downsample_type", &SAMPLING).unwrap_or(Sampling::Conv),
            upsample_type: fields.choice("upsample_type", &SAMPLING).unwrap_or(Sampling::Conv),
            act_fn: act_fn(fields),
            attention_head_dim: if fields.is_null("attention_head_dim") {
                None
            } else {
                Some(fields.integer("attention_head_dim", 1..=MAX_CHANNELS).unwrap_or(8) as usize)
            },
            norm_num_groups,
            mid_attn_groups: attn_norm_num_groups.or((!scale_shift).then_some(norm_num_groups)),
            norm_eps: fields.number("norm_eps", "a number of at least 0", |eps| eps >= 0.0).unwrap_or(1e-5) as f32,
            scale_shift,
            add_attention: fields.flag("add_attention").unwrap_or(true),
            class_embed_type: ClassEmbedType::None,
            num_class_embeds: fields.integer("num_class_embeds", 1..=1 << 16).map(|n| n as usize),
        };
        config.class_embed_type = fields
            .choice(
                "class_embed_type",
                &[("timestep", ClassEmbedType::Timestep), ("identity", ClassEmbedType::Identity)],
            )
            .unwrap_or(if config.num_class_embeds.is_some() { ClassEmbedType::Table } else { ClassEmbedType::None });
        config.check_time(fields);
        config
    }

    /// Rules between the keys of the time path.
    fn check_time(&self, fields: &mut Fields) {
        let half = (self.block_out_channels.first().copied().unwrap_or(1) / 2) as f64;
        match self.time_embedding_type {
            // A single channel has no frequency at all, and so no division.
            TimeEmbeddingType::Positional if half > 0.0 && half == self.freq_shift => fields.refuse(
                "freq_shift",
                self.freq_shift,
                format!("anything but {half}, the number of frequencies: diffusers divides by the difference"),
            ),
            TimeEmbeddingType::Learned if self.num_train_timesteps.is_none() => fields
                .problem("`num_train_timesteps` is missing; `time_embedding_type` = \"learned\" needs it".to_owned()),
            _ => {}
        }
    }

    /// The size to build for: `wanted`, else `sample_size`.
    pub fn size(&self, wanted: Option<[usize; 2]>) -> Result<[usize; 2]> {
        let size = wanted.or(self.sample_size).ok_or_else(|| {
            miette!(
                help = "say the picture's height and width: `--size 32` or `--size 24x32`",
                "`sample_size` is null: the configuration leaves the picture's size open"
            )
        })?;
        if size.iter().all(|side| (1..=MAX_SIZE).contains(side)) {
            return Ok(size);
        }
        Err(miette!(
            help = format!("sides from 1 to {MAX_SIZE} are taken"),
            "a picture of {}x{} cannot be built",
            size[0],
            size[1]
        ))
    }
}

fn blocks<T: Copy>(fields: &mut Fields, key: &'static str, known: &[(&str, T)]) -> Option<Vec<T>> {
    fields.list(key, &names(known), |item| {
        let name = item.as_str()?;
        // diffusers strips the prefix of its first releases.
        let name = name.strip_prefix("UNetRes").unwrap_or(name);
        known.iter().find(|(known, _)| *known == name).map(|(_, block)| *block)
    })
}

fn act_fn(fields: &mut Fields) -> Activation {
    let Some(value) = fields.value("act_fn") else { return Activation::Silu };
    let name = value.as_str().map(str::to_lowercase);
    match ACTIVATIONS.iter().find(|(known, _)| name.as_deref() == Some(known)) {
        Some((_, activation)) => *activation,
        None => {
            fields.refuse("act_fn", brief(value), names(&ACTIVATIONS));
            Activation::Silu
        }
    }
}

fn sample_size(fields: &mut Fields) -> Option<[usize; 2]> {
    let side =
        |value: &Value| as_integer(value).and_then(|n| usize::try_from(n).ok()).filter(|n| (1..=MAX_SIZE).contains(n));
    let value = fields.value("sample_size")?;
    let size = match value {
        Value::Array(sides) if sides.len() == 2 => side(&sides[0]).zip(side(&sides[1])).map(|(h, w)| [h, w]),
        one => side(one).map(|n| [n, n]),
    };
    if size.is_none() {
        fields.refuse("sample_size", brief(value), format!("a side or [height, width], each from 1 to {MAX_SIZE}"));
    }
    size
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Unet2dConfig> {
        Unet2dConfig::read(&ConfigText::parse("config.json", json).unwrap())
    }

    #[test]
    fn defaults_are_those_of_the_class() {
        let config = read("{}").unwrap();
        assert_eq!(config.block_out_channels, [224, 448, 672, 896]);
        assert_eq!(config.time_embed_dim, 896);
        assert_eq!(config.attention_head_dim, Some(8));
        assert!(config.mid_block && config.add_attention && config.flip_sin_to_cos);
        assert_eq!(config.mid_attn_groups, Some(32));
        assert!(config.size(None).unwrap_err().help().unwrap().to_string().contains("--size"));
        assert_eq!(read(r#"{"attention_head_dim": null}"#).unwrap().attention_head_dim, None);
        assert_eq!(read(r#"{"resnet_time_scale_shift": "scale_shift"}"#).unwrap().mid_attn_groups, None);
    }

    #[test]
    fn everything_that_is_not_supported_is_named() {
        let error = read(
            r#"{"_class_name": "UNet2DModel", "cross_attention_dim": 768, "out_channels": 6, "freq_shift": 112,
                "down_block_types": ["DownBlock2D", "AttnSkipDownBlock2D", "KDownBlock2D", "DownBlock2D"]}"#,
        );
        let message = error.unwrap_err().to_string();
        for part in [
            "cross_attention_dim",
            "`out_channels` = 6",
            "AttnSkipDownBlock2D",
            "[2]",
            "ResnetDownsample",
            "freq_shift",
        ] {
            assert!(message.contains(part), "{part} in {message}");
        }
        let message = read(r#"{"_class_name": "UNet2DConditionModel"}"#).unwrap_err().to_string();
        assert!(message.contains("UNet2DConditionModel") && message.contains("supported: UNet2DModel"), "{message}");
    }
}
