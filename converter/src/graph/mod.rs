//! The f32 graph: a trained network as a list of operators in execution order.
//!
//! `arch` builds it from a checkpoint; `interpret` runs it (oracle and calibration); `quantize` lowers it.

pub mod op;
mod reuse;

pub use op::{Activation, Attention, Conv2d, ConvSource, GroupNorm, Op, ProjectionId, TensorId};
pub use reuse::Reuse;

/// Shape and name of an activation tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// For people: the operator that makes it.
    pub name: String,
    /// Height.
    pub h: usize,
    /// Width.
    pub w: usize,
    /// Channels.
    pub c: usize,
}

impl TensorInfo {
    /// Number of elements.
    pub fn elems(&self) -> usize {
        self.h * self.w * self.c
    }
}

/// One `time_emb_proj`: a linear layer from the activated embedding to a vector that a resnet block consumes.
#[derive(Clone, Debug)]
pub struct Projection {
    /// The parameter prefix in the checkpoint.
    pub name: String,
    /// `[out, time_embed_dim]`.
    pub weight: Vec<f32>,
    /// `[out]`.
    pub bias: Vec<f32>,
}

/// A network with its time path.
#[derive(Clone, Debug)]
pub struct Graph {
    /// All activation tensors, by [`TensorId`].
    pub tensors: Vec<TensorInfo>,
    /// Execution order.
    pub ops: Vec<Op>,
    /// x_t, `[h, w, c]`.
    pub input: TensorId,
    /// The model's output, `[h, w, c]`.
    pub output: TensorId,
    /// The network reads `input·input_mul + input_add` (`center_input_sample`: 2x − 1), padding comes after.
    pub input_mul: f32,
    /// See `input_mul`.
    pub input_add: f32,
    /// The output is divided by the timestep (`time_embedding_type = "fourier"`).
    pub output_over_timestep: bool,
    /// The time-embedding projections, by [`ProjectionId`].
    pub projections: Vec<Projection>,
    /// Where a network of several levels can be cut, so that a call reuses what lies below the outermost one.
    pub reuse: Option<Reuse>,
}
