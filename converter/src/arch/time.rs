//! The time path: a timestep and a condition to the vector that the resnet blocks' projections read.
//!
//! It runs on the host only (contract 1): the schedule's timesteps are known, so the sinusoid and the time MLP are
//! folded away. f32 where diffusers computes in f32 and rounding would show (the sinusoids' arguments), f64 sums elsewhere.
//!
//! Voids the promise: nothing.

use miette::{Result, miette};

use super::config::{ClassEmbedType, TimeEmbeddingType, Unet2dConfig};
use super::parameters::Parameters;
use crate::graph::{Activation, Graph, ProjectionId};

/// What a sample is conditioned on.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Cond {
    /// Nothing; the only choice of an unconditional network.
    #[default]
    None,
    /// A class label.
    Class(usize),
    /// A vector of [`TimePath::dim`] elements (`class_embed_type = "identity"`).
    Vector(Vec<f32>),
}

/// y = W·x + b.
#[derive(Clone, Debug)]
struct Linear {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Linear {
    fn take(parameters: &mut Parameters, prefix: &str, out_dim: usize, in_dim: usize) -> Result<Self> {
        let (weight, bias) = parameters.linear(prefix, out_dim, in_dim)?;
        Ok(Self { weight, bias })
    }

    fn apply(&self, x: &[f32]) -> Vec<f32> {
        linear(&self.weight, &self.bias, x)
    }
}

/// diffusers' `TimestepEmbedding`: linear, SiLU, linear.
#[derive(Clone, Debug)]
struct Mlp {
    linear_1: Linear,
    linear_2: Linear,
}

impl Mlp {
    fn take(parameters: &mut Parameters, prefix: &str, in_dim: usize, dim: usize) -> Result<Self> {
        Ok(Self {
            linear_1: Linear::take(parameters, &format!("{prefix}.linear_1"), dim, in_dim)?,
            linear_2: Linear::take(parameters, &format!("{prefix}.linear_2"), dim, dim)?,
        })
    }

    fn apply(&self, x: &[f32]) -> Vec<f32> {
        let hidden: Vec<f32> = self.linear_1.apply(x).iter().map(|v| Activation::Silu.apply(*v)).collect();
        self.linear_2.apply(&hidden)
    }
}

/// A number to a vector: `time_proj`.
#[derive(Clone, Debug)]
enum TimeProj {
    /// Frequencies 10000^(−i / (half − freq_shift)).
    Positional { dim: usize, freq_shift: f64, flip_sin_to_cos: bool },
    /// Frequencies of the logarithm.
    Fourier { weight: Vec<f32> },
    /// Rows of a table.
    Learned { table: Vec<f32>, dim: usize },
}

impl TimeProj {
    fn apply(&self, what: &str, t: f32) -> Result<Vec<f32>> {
        match self {
            Self::Positional { dim, freq_shift, flip_sin_to_cos } => {
                Ok(sinusoid(t, *dim, *freq_shift, *flip_sin_to_cos))
            }
            Self::Fourier { weight } => {
                if t <= 0.0 {
                    return Err(miette!(
                        help = "a Fourier embedding takes the logarithm: use a `steps_offset` of 1 (or classes from 1)",
                        "{what} {t} has no Fourier time embedding"
                    ));
                }
                let phases = weight.iter().map(|w| t.ln() * w * 2.0 * std::f32::consts::PI);
                Ok(phases.clone().map(f32::sin).chain(phases.map(f32::cos)).collect())
            }
            Self::Learned { table, dim } => {
                let row = (t >= 0.0 && t.fract() == 0.0).then_some(t as usize);
                row.and_then(|row| table.chunks_exact(*dim).nth(row)).map(<[f32]>::to_vec).ok_or_else(|| {
                    miette!(
                        help = "use timesteps of the schedule that the network was trained with",
                        "{what} {t} has no row in the learned time embedding of {} rows",
                        table.len() / dim
                    )
                })
            }
        }
    }
}

/// `get_timestep_embedding` of diffusers, in its order and precision.
fn sinusoid(t: f32, dim: usize, freq_shift: f64, flip_sin_to_cos: bool) -> Vec<f32> {
    let half = dim / 2;
    let log_period = -(10000f64.ln()) as f32;
    let phases = (0..half).map(|i| t * (log_period * i as f32 / (half as f64 - freq_shift) as f32).exp());
    let (sin, cos) = (phases.clone().map(f32::sin), phases.map(f32::cos));
    let mut out: Vec<f32> = if flip_sin_to_cos { cos.chain(sin).collect() } else { sin.chain(cos).collect() };
    out.resize(dim, 0.0);
    out
}

#[derive(Clone, Debug)]
enum ClassEmbedding {
    None,
    Table(Vec<f32>),
    Timestep(Mlp),
    Identity,
}

/// `time_proj`, `time_embedding` and `class_embedding` of a network.
#[derive(Clone, Debug)]
pub struct TimePath {
    time_proj: TimeProj,
    time_embedding: Mlp,
    class_embedding: ClassEmbedding,
    num_classes: Option<usize>,
    activation: Activation,
    dim: usize,
}

impl TimePath {
    /// Takes the parameters of the time path.
    pub fn build(config: &Unet2dConfig, parameters: &mut Parameters) -> Result<Self> {
        let (width, dim) = (config.block_out_channels[0], config.time_embed_dim);
        let (time_proj, in_dim) = match config.time_embedding_type {
            TimeEmbeddingType::Positional => {
                let (freq_shift, flip_sin_to_cos) = (config.freq_shift, config.flip_sin_to_cos);
                (TimeProj::Positional { dim: width, freq_shift, flip_sin_to_cos }, width)
            }
            TimeEmbeddingType::Fourier => {
                (TimeProj::Fourier { weight: parameters.take("time_proj.weight", &[width])? }, 2 * width)
            }
            TimeEmbeddingType::Learned => {
                let rows = config.num_train_timesteps.unwrap_or(0);
                (TimeProj::Learned { table: parameters.take("time_proj.weight", &[rows, width])?, dim: width }, width)
            }
        };
        Ok(Self {
            time_proj,
            time_embedding: Mlp::take(parameters, "time_embedding", in_dim, dim)?,
            class_embedding: match config.class_embed_type {
                ClassEmbedType::None => ClassEmbedding::None,
                ClassEmbedType::Table => {
                    let rows = config.num_class_embeds.unwrap_or(0);
                    ClassEmbedding::Table(parameters.take("class_embedding.weight", &[rows, dim])?)
                }
                ClassEmbedType::Timestep => {
                    ClassEmbedding::Timestep(Mlp::take(parameters, "class_embedding", in_dim, dim)?)
                }
                ClassEmbedType::Identity => ClassEmbedding::Identity,
            },
            num_classes: config.num_class_embeds.filter(|_| config.class_embed_type != ClassEmbedType::None),
            activation: config.act_fn,
            dim,
        })
    }

    /// `time_embed_dim`: elements of every vector here.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Whether a [`Cond`] other than `None` is needed.
    pub fn is_conditional(&self) -> bool {
        !matches!(self.class_embedding, ClassEmbedding::None)
    }

    /// Whether the condition is a vector of the caller's (`class_embed_type = "identity"`), so that it cannot be folded.
    pub fn takes_vector(&self) -> bool {
        matches!(self.class_embedding, ClassEmbedding::Identity)
    }

    /// Number of classes, where the configuration tells it.
    pub fn num_classes(&self) -> Option<usize> {
        self.num_classes
    }

    /// The activation between the summed embedding and the projections (`act_fn`).
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// The timestep's part of the embedding, before the activation.
    pub fn time_vector(&self, timestep: f32) -> Result<Vec<f32>> {
        Ok(self.time_embedding.apply(&self.time_proj.apply("timestep", timestep)?))
    }

    /// The condition's part, before the activation; `None` for an unconditional network.
    pub fn class_vector(&self, cond: &Cond) -> Result<Option<Vec<f32>>> {
        let vector = match (&self.class_embedding, cond) {
            (ClassEmbedding::None, Cond::None) => return Ok(None),
            (ClassEmbedding::None, _) => {
                return Err(miette!(
                    help = "leave the class out; guidance needs a conditional network too",
                    "the network is unconditional: it has no class embedding"
                ));
            }
            (_, Cond::None) => {
                return Err(miette!(
                    help = "name one with `--class`",
                    "the network is conditional: it needs a class{}",
                    self.num_classes.map_or(String::new(), |n| format!(" from 0 to {}", n - 1))
                ));
            }
            (ClassEmbedding::Table(table), Cond::Class(class)) => {
                table.chunks_exact(self.dim).nth(*class).map(<[f32]>::to_vec).ok_or_else(|| {
                    miette!(
                        help = "classes count from 0",
                        "class {class} does not exist: the network has {} classes",
                        table.len() / self.dim
                    )
                })?
            }
            (ClassEmbedding::Timestep(mlp), Cond::Class(class)) => {
                mlp.apply(&self.time_proj.apply("class", *class as f32)?)
            }
            // A batch of one integer label is broadcast over the embedding.
            (ClassEmbedding::Identity, Cond::Class(class)) => vec![*class as f32; self.dim],
            (ClassEmbedding::Identity, Cond::Vector(vector)) if vector.len() == self.dim => vector.clone(),
            (ClassEmbedding::Identity, Cond::Vector(vector)) => {
                return Err(miette!(
                    help = "give as many elements as the time embedding has",
                    "the condition has {} elements, need {}",
                    vector.len(),
                    self.dim
                ));
            }
            (_, Cond::Vector(_)) => {
                return Err(miette!(
                    help = "give a class number",
                    "the network takes classes, not a vector (that is `class_embed_type` = \"identity\")"
                ));
            }
        };
        Ok(Some(vector))
    }

    /// act(time vector + class vector): what every `time_emb_proj` reads.
    pub fn embed(&self, timestep: f32, cond: &Cond) -> Result<Vec<f32>> {
        let mut sum = self.time_vector(timestep)?;
        for (sum, class) in sum.iter_mut().zip(self.class_vector(cond)?.iter().flatten()) {
            *sum += class;
        }
        for value in &mut sum {
            *value = self.activation.apply(*value);
        }
        Ok(sum)
    }

    /// One projection of an embedding that [`TimePath::embed`] made.
    pub fn projection(graph: &Graph, id: ProjectionId, embedding: &[f32]) -> Vec<f32> {
        linear(&graph.projections[id].weight, &graph.projections[id].bias, embedding)
    }

    /// All projections, by their id: what [`Interpreter::run`](crate::interpret::Interpreter::run) takes.
    pub fn projections(graph: &Graph, embedding: &[f32]) -> Vec<Vec<f32>> {
        (0..graph.projections.len()).map(|id| Self::projection(graph, id, embedding)).collect()
    }
}

fn linear(weight: &[f32], bias: &[f32], x: &[f32]) -> Vec<f32> {
    let row = |(weights, bias): (&[f32], &f32)| {
        let sum: f64 = weights.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
        (sum + f64::from(*bias)) as f32
    };
    weight.chunks_exact(x.len().max(1)).zip(bias).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sinusoids_as_diffusers_orders_them() {
        let plain = sinusoid(2.0, 5, 1.0, false);
        let f = (-(10000f32.ln())).exp();
        let expected = [2f32.sin(), (2.0 * f).sin(), 2f32.cos(), (2.0 * f).cos(), 0.0];
        for (have, need) in plain.iter().zip(expected) {
            assert!((have - need).abs() < 1e-6, "{plain:?}");
        }
        let flipped = sinusoid(2.0, 4, 1.0, true);
        assert_eq!(flipped[..2], plain[2..4]);
        assert_eq!(flipped[2..], plain[..2]);
    }
}
