//! The configuration of diffusers' `DDIMScheduler` and `DDPMScheduler`, typed.
//!
//! Both classes' keys are taken in either file: diffusers itself carries the other class's keys along when one scheduler
//! is made from another.

use miette::{Result, miette};
use mote_runtime::format::schedule::Clip;

use crate::fields::{ConfigText, Fields, brief};

/// `beta_schedule`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BetaSchedule {
    /// Evenly from `beta_start` to `beta_end`.
    Linear,
    /// Evenly in the square root.
    ScaledLinear,
    /// Nichol and Dhariwal's cosine, arXiv:2102.09672.
    SquaredCosine,
    /// GeoDiff's sigmoid.
    Sigmoid,
    /// Laplace noise levels.
    Laplace,
}

/// `prediction_type`: what the network's output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PredictionType {
    /// The noise.
    Epsilon,
    /// The picture.
    Sample,
    /// √ᾱ·ε − √(1 − ᾱ)·x₀.
    VPrediction,
}

/// `timestep_spacing`: Lin et al., arXiv:2305.08891, table 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spacing {
    /// From the first timestep to the last, both included.
    Linspace,
    /// Multiples of the stride from 0 up.
    Leading,
    /// Multiples of the stride from the last timestep down.
    Trailing,
}

/// A scheduler's configuration; fields are named as the keys.
#[derive(Clone, Debug)]
pub struct SchedulerConfig {
    /// Number of noise levels.
    pub num_train_timesteps: usize,
    /// First beta.
    pub beta_start: f64,
    /// Last beta.
    pub beta_end: f64,
    /// How the betas lie between.
    pub beta_schedule: BetaSchedule,
    /// The betas themselves; override the three above.
    pub trained_betas: Option<Vec<f32>>,
    /// From `thresholding`, `clip_sample` and their ranges.
    pub clip: Clip,
    /// The state after the last step has ᾱ = 1 rather than ᾱ₀.
    pub set_alpha_to_one: bool,
    /// Added to the timesteps of leading spacing.
    pub steps_offset: i64,
    /// What the network's output is.
    pub prediction_type: PredictionType,
    /// Which timesteps are visited.
    pub timestep_spacing: Spacing,
    /// Betas are changed so that the last noise level has no signal.
    pub rescale_betas_zero_snr: bool,
}

const BETA_SCHEDULES: [(&str, BetaSchedule); 5] = [
    ("linear", BetaSchedule::Linear),
    ("scaled_linear", BetaSchedule::ScaledLinear),
    ("squaredcos_cap_v2", BetaSchedule::SquaredCosine),
    ("sigmoid", BetaSchedule::Sigmoid),
    ("laplace", BetaSchedule::Laplace),
];
const PREDICTION_TYPES: [(&str, PredictionType); 3] = [
    ("epsilon", PredictionType::Epsilon),
    ("sample", PredictionType::Sample),
    ("v_prediction", PredictionType::VPrediction),
];
const SPACINGS: [(&str, Spacing); 3] =
    [("leading", Spacing::Leading), ("trailing", Spacing::Trailing), ("linspace", Spacing::Linspace)];
/// Variances of the ancestral sampler, without effect on DDIM; the learned ones double the network's output.
const VARIANCE_TYPES: [(&str, ()); 4] =
    [("fixed_small", ()), ("fixed_small_log", ()), ("fixed_large", ()), ("fixed_large_log", ())];

impl SchedulerConfig {
    /// Reads and checks every key.
    pub fn read(text: &ConfigText) -> Result<Self> {
        let class = text.class_name();
        if class.is_some_and(|class| class != "DDIMScheduler" && class != "DDPMScheduler") {
            return Err(miette!(
                help = "if the network was trained with DDPM noise, save that scheduler: \
                        `DDIMScheduler.from_config(pipeline.scheduler.config).save_pretrained(folder)`",
                "{}: `_class_name` = \"{}\" is not supported (supported: DDIMScheduler, DDPMScheduler)",
                text.origin,
                class.unwrap_or_default()
            ));
        }
        let mut fields = Fields::new(text);
        let config = Self::from_fields(&mut fields);
        fields.finish(class.unwrap_or("DDIMScheduler"))?;
        Ok(config)
    }

    fn from_fields(fields: &mut Fields) -> Self {
        let beta = |fields: &mut Fields, key| fields.number(key, "a number from 0 to 1", |b| (0.0..=1.0).contains(&b));
        fields.choice("variance_type", &VARIANCE_TYPES);
        leftovers(fields);
        Self {
            num_train_timesteps: fields.integer("num_train_timesteps", 1..=1 << 16).unwrap_or(1000) as usize,
            beta_start: beta(fields, "beta_start").unwrap_or(0.0001),
            beta_end: beta(fields, "beta_end").unwrap_or(0.02),
            beta_schedule: fields.choice("beta_schedule", &BETA_SCHEDULES).unwrap_or(BetaSchedule::Linear),
            trained_betas: fields.list("trained_betas", "numbers from 0 to 1", |item| {
                item.as_f64().filter(|beta| (0.0..=1.0).contains(beta)).map(|beta| beta as f32)
            }),
            clip: clip(fields),
            set_alpha_to_one: fields.flag("set_alpha_to_one").unwrap_or(true),
            steps_offset: fields.integer("steps_offset", 0..=1 << 16).unwrap_or(0),
            prediction_type: fields.choice("prediction_type", &PREDICTION_TYPES).unwrap_or(PredictionType::Epsilon),
            timestep_spacing: fields.choice("timestep_spacing", &SPACINGS).unwrap_or(Spacing::Leading),
            rescale_betas_zero_snr: fields.flag("rescale_betas_zero_snr").unwrap_or(false),
        }
    }
}

/// Thresholding goes before clipping, as in diffusers; ranges are read (and checked) even where they have no effect.
fn clip(fields: &mut Fields) -> Clip {
    let ratio = fields.number("dynamic_thresholding_ratio", "a number from 0 to 1", |r| (0.0..=1.0).contains(&r));
    let max = fields.number("sample_max_value", "a number of at least 1", |max| max >= 1.0);
    let range = fields.number("clip_sample_range", "a number above 0", |range| range > 0.0);
    let thresholding = fields.flag("thresholding").unwrap_or(false);
    let clip_sample = fields.flag("clip_sample").unwrap_or(true);
    if thresholding {
        Clip::Dynamic { ratio: ratio.unwrap_or(0.995) as f32, max: max.unwrap_or(1.0) as f32 }
    } else if clip_sample {
        Clip::Range(range.unwrap_or(1.0) as f32)
    } else {
        Clip::None
    }
}

/// Keys of diffusers' first releases that later ones ignore; taken with the one value that changes nothing.
fn leftovers(fields: &mut Fields) {
    if let Some(value) = fields.value("predict_epsilon")
        && value.as_bool() != Some(true)
    {
        fields.refuse("predict_epsilon", brief(value), "true; write `prediction_type` = \"sample\" for false");
    }
    if let Some(value) = fields.value("timestep_values") {
        fields.refuse("timestep_values", brief(value), "null");
    }
    fields.choice("tensor_format", &[("pt", ()), ("np", ())]);
}
