//! The operators of the f32 graph.
//!
//! One operator here is one operator (or one statistics/apply pair) on the device: residual adds, the time embedding's
//! bias, nearest upsampling and the activation after a norm are fused already, so what the f32 interpreter measures is
//! exactly what the quantized graph will hold, tensor for tensor.
//!
//! Layouts: activations HWC; convolution weights OHWI (`out_c` rows of `kh·kw·in_c`). All sizes in elements.

/// Index into [`Graph::tensors`](super::Graph::tensors).
pub type TensorId = usize;

/// Index into [`Graph::projections`](super::Graph::projections).
pub type ProjectionId = usize;

/// Pointwise activation functions, as diffusers' `get_activation` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x
    Identity,
    /// x·σ(x); `silu` or `swish`
    Silu,
    /// x·tanh(ln(1 + eˣ))
    Mish,
    /// x·Φ(x), the exact (erf) form
    Gelu,
    /// max(x, 0)
    Relu,
}

impl Activation {
    /// The function itself.
    pub fn apply(self, x: f32) -> f32 {
        match self {
            Self::Identity => x,
            Self::Silu => x / (1.0 + (-x).exp()),
            // Above 20, ln(1 + eˣ) is x in f32; below, eˣ cannot overflow.
            Self::Mish if x > 20.0 => x,
            Self::Mish => x * x.exp().ln_1p().tanh(),
            Self::Gelu => x * 0.5 * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2)),
            Self::Relu => x.max(0.0),
        }
    }
}

/// One input of a convolution with its own weights; several inputs are a channel concatenation that is never made.
#[derive(Clone, Debug)]
pub struct ConvSource {
    /// The input, `[h, w, in_c]`.
    pub tensor: TensorId,
    /// `[out_c, kh, kw, in_c]`, where `in_c` is this input's channel count.
    pub weight: Vec<f32>,
}

/// `out = (Σ_sources conv(source) + bias + projection[c] + residual) · out_scale`.
///
/// A linear layer over channels is a 1×1 convolution.
#[derive(Clone, Debug)]
pub struct Conv2d {
    /// The parameter prefix in the checkpoint, such as `down_blocks.0.resnets.0.conv1`.
    pub name: String,
    /// One input, or two for a 1×1 shortcut (or any convolution) over a skip concatenation.
    pub sources: Vec<ConvSource>,
    /// `[out_c]`.
    pub bias: Vec<f32>,
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Stride, the same in both directions.
    pub stride: usize,
    /// Zero padding: top, left, bottom, right (of the upsampled input where `upsample` is set).
    pub pad: [usize; 4],
    /// The input is read as if nearest-upsampled by two in both directions.
    pub upsample: bool,
    /// A time-embedding projection (`[out_c]`) that is added to the bias.
    pub time_bias: Option<ProjectionId>,
    /// A tensor of the output's shape that is added before `out_scale`.
    pub residual: Option<TensorId>,
    /// Factor of the whole sum: 1 / `output_scale_factor`.
    pub out_scale: f32,
    /// The output, `[out_h, out_w, out_c]`.
    pub out: TensorId,
}

/// Group normalisation over the channel concatenation of one or two sources, an optional scale and shift by the time
/// embedding, and an activation: `act(norm(x)·γ + β)`, or `act((norm(x)·γ + β)·(1 + scale) + shift)`.
/// Wu and He, *Group Normalization*, arXiv:1803.08494, equations 1, 2 and 7.
#[derive(Clone, Debug)]
pub struct GroupNorm {
    /// The parameter prefix in the checkpoint.
    pub name: String,
    /// One or two inputs of equal height and width; groups may straddle their border.
    pub sources: Vec<TensorId>,
    /// Number of groups; divides the total channel count.
    pub groups: usize,
    /// Added to the variance.
    pub eps: f32,
    /// γ, `[c]`.
    pub gamma: Vec<f32>,
    /// β, `[c]`.
    pub beta: Vec<f32>,
    /// A projection of `2·c`: scale, then shift (`resnet_time_scale_shift = "scale_shift"`).
    pub time_scale_shift: Option<ProjectionId>,
    /// Applied last.
    pub activation: Activation,
    /// The output, `[h, w, c]`, `c` the sum of the sources' channels.
    pub out: TensorId,
}

/// Scaled dot-product attention core over the h·w positions: `softmax(Q·Kᵀ·scale)·V` for each head.
/// Vaswani et al., arXiv:1706.03762, equation 1. The projections around it are 1×1 convolutions.
#[derive(Clone, Debug)]
pub struct Attention {
    /// The parameter prefix in the checkpoint.
    pub name: String,
    /// Queries, keys, values, each `[h, w, heads·head_dim]`; head `i` owns channels `i·head_dim ..`.
    pub qkv: [TensorId; 3],
    /// Number of heads.
    pub heads: usize,
    /// Factor of the scores, 1/√head_dim.
    pub scale: f32,
    /// The output, `[h, w, heads·head_dim]`.
    pub out: TensorId,
}

/// The operators. Matches over this are exhaustive on purpose: adding one makes the compiler name what is missing.
#[derive(Clone, Debug)]
pub enum Op {
    /// Convolution or linear layer.
    Conv2d(Conv2d),
    /// Group normalisation with activation.
    GroupNorm(GroupNorm),
    /// Attention core.
    Attention(Attention),
    /// 2×2 mean, stride 2.
    AvgPool {
        /// `[2h, 2w, c]`.
        input: TensorId,
        /// `[h, w, c]`.
        out: TensorId,
    },
    /// Nearest upsampling by two; only where no convolution can read through it.
    Upsample {
        /// `[h, w, c]`.
        input: TensorId,
        /// `[2h, 2w, c]`.
        out: TensorId,
    },
}

impl Op {
    /// The output tensor.
    pub fn out(&self) -> TensorId {
        match self {
            Op::Conv2d(op) => op.out,
            Op::GroupNorm(op) => op.out,
            Op::Attention(op) => op.out,
            Op::AvgPool { out, .. } | Op::Upsample { out, .. } => *out,
        }
    }

    /// Every tensor that the operator reads, residuals included.
    pub fn inputs(&self) -> Vec<TensorId> {
        match self {
            Op::Conv2d(op) => op.sources.iter().map(|s| s.tensor).chain(op.residual).collect(),
            Op::GroupNorm(op) => op.sources.clone(),
            Op::Attention(op) => op.qkv.to_vec(),
            Op::AvgPool { input, .. } | Op::Upsample { input, .. } => vec![*input],
        }
    }
}
