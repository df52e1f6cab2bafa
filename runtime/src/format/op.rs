//! Operator records: what the network does, in execution order.
//!
//! A record is 48 bytes: kind, output and input tensors, the live end (the highest arena byte that any tensor living
//! during the operator occupies; scratch begins there), then the operator's own fields. [`OpRecord::decode`] is a `const fn`:
//! `arena_len` walks the records at compile time.

use super::cursor::{Encoded, f32_at, record, u8_at, u16_at, u32_at};
use super::tensor::NONE;

/// A vector of the time and class embedding that an operator adds or multiplies by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Modulation {
    /// None.
    None,
    /// File offset of an f16 table, `[rows of all schedules, classes, len]`.
    Table(u32),
    /// An `F32` tensor, `[1, 1, len]`, that an earlier operator of the step wrote.
    Tensor(u16),
}

/// `out = Σ_sources conv(source) + bias + modulation + residual_scale·residual`, rounded once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conv {
    /// Inputs, `I8` or `I16`; the second is [`NONE`] except over a skip concatenation.
    pub sources: [u16; 2],
    /// Weight records, one a source.
    pub weights: [u16; 2],
    /// `I8`, `I16`, or `F32` (the model's output, straight from the accumulator).
    pub out: u16,
    /// A tensor of the output's shape, or [`NONE`]; may be the output itself (in place).
    pub residual: u16,
    /// Factor of the residual.
    pub residual_scale: f32,
    /// File offset of the f32 bias, `[out_c]`.
    pub bias: u32,
    /// Added to the bias, `len = out_c`.
    pub modulation: Modulation,
    /// Kernel height and width, 1..=15.
    pub kernel: [u8; 2],
    /// 1..=15.
    pub stride: u8,
    /// Padding above and to the left; below and right it follows from the output's shape.
    pub pad: [u8; 2],
    /// The input is read as if nearest-upsampled by two.
    pub upsample: bool,
    /// It is done by Winograd's algorithm where there are kernels for it, which gives the same integers and takes more
    /// scratch; only where [`winograd_fits`](crate::shape::winograd_fits). Its rows then come in pairs
    /// ([`op_rows`](crate::shape::op_rows)). Hosts do so whatever this says.
    pub winograd: bool,
}

/// Statistics of a group norm: mean and 1/σ of each group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormStats {
    /// Inputs, `I8` or `I16`; the second may be [`NONE`].
    pub sources: [u16; 2],
    /// `F32`, `[1, 1, 2·groups]`: mean, 1/σ, mean, 1/σ, …
    pub out: u16,
    /// Divides the total channel count.
    pub groups: u16,
    /// Added to the variance.
    pub eps: f32,
}

/// A pointwise function as a table in the payload.
///
/// `index = round(x / in_step)` clamped to −512..=511; the value is `table[index + 512]·out_step`. 1,024 entries of
/// i16, because an 8-bit index costs 6 dB: its rounding error is twice that of the 8-bit output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Table {
    /// File offset of [`Table::LEN`] `i16`, a multiple of 4.
    pub offset: u32,
    /// Input step.
    pub in_step: f32,
    /// Value of one unit of an entry.
    pub out_step: f32,
}

impl Table {
    /// Entries of a table.
    pub const LEN: usize = 1024;
}

/// Application of a group norm: `out = f((x − mean)/σ·γ + β)`, with a modulation
/// `out = f(((x − mean)/σ·γ + β)·(1 + scale) + shift)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormApply {
    /// The same inputs as the statistics'.
    pub sources: [u16; 2],
    /// What [`NormStats`] wrote.
    pub stats: u16,
    /// `I8`; may be the only source (in place) where that is `I8`.
    pub out: u16,
    /// As in the statistics.
    pub groups: u16,
    /// File offset of f32 γ `[c]`, then β `[c]`.
    pub affine: u32,
    /// Scale, then shift: `len = 2·c`.
    pub modulation: Modulation,
    /// The activation; none for the identity.
    pub table: Option<Table>,
}

/// Attention core over the h·w positions of each head.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Queries (`I8` with zero point 0), keys (`I8`), values (`I8`), `[h, w, heads·head_dim]`.
    pub qkv: [u16; 3],
    /// `I8`, same shape.
    pub out: u16,
    /// Number of heads.
    pub heads: u16,
    /// Factor of the scores.
    pub scale: f32,
    /// File offset of the exponential's two 64-entry u16 tables: exp(−i/4), then exp(−j/256), both in 1/32768.
    pub exp_table: u32,
}

/// Reads the embedding of (row, class) from the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmbedLookup {
    /// `I16`, `[1, 1, dim]`.
    pub out: u16,
    /// File offset of an i16 table, `[rows of all schedules, classes, dim]`.
    pub table: u32,
}

/// The embedding from the step's vector and the caller's: `out = f(steps[row] + vector)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EmbedAdd {
    /// The caller's class embedding: `F32`, `[1, 1, dim]`, carried.
    pub vector: u16,
    /// `I16`, `[1, 1, dim]`, whose scale is the table's `out_step`.
    pub out: u16,
    /// File offset of an f32 table, `[rows of all schedules, dim]`.
    pub steps: u32,
    /// The activation.
    pub table: Table,
}

/// The operators. Matches over this are exhaustive on purpose: adding one makes the compiler name what is missing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Op {
    /// `F32` → `I8`/`I16` of the same shape: `out = quantize(input·mul + add)`.
    Quantize {
        /// `F32`.
        input: u16,
        /// `I8` or `I16`.
        out: u16,
        /// See the formula.
        mul: f32,
        /// See the formula.
        add: f32,
    },
    /// Convolution or linear layer.
    Conv(Conv),
    /// Group norm, first half.
    NormStats(NormStats),
    /// Group norm, second half.
    NormApply(NormApply),
    /// Attention core.
    Attention(Attention),
    /// 2×2 mean with stride 2, `I8` or `I16`; both tensors have the same quantization.
    AvgPool {
        /// `[2h, 2w, c]` or one more.
        input: u16,
        /// `[h, w, c]`.
        out: u16,
    },
    /// Nearest upsampling by two, `I8` or `I16`; both tensors have the same quantization.
    Upsample {
        /// `[h, w, c]`.
        input: u16,
        /// `[2h, 2w, c]`.
        out: u16,
    },
    /// Embedding by table.
    EmbedLookup(EmbedLookup),
    /// Embedding with the caller's vector.
    EmbedAdd(EmbedAdd),
}

/// An operator with its place in the arena plan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OpRecord {
    /// The operator.
    pub op: Op,
    /// Where scratch may begin, in bytes, a multiple of 16.
    pub live_end: u32,
}

impl Op {
    /// The tensor that the operator writes.
    pub const fn out(&self) -> u16 {
        match *self {
            Op::Quantize { out, .. } | Op::AvgPool { out, .. } | Op::Upsample { out, .. } => out,
            Op::Conv(Conv { out, .. }) => out,
            Op::NormStats(NormStats { out, .. }) => out,
            Op::NormApply(NormApply { out, .. }) => out,
            Op::Attention(Attention { out, .. }) => out,
            Op::EmbedLookup(EmbedLookup { out, .. }) => out,
            Op::EmbedAdd(EmbedAdd { out, .. }) => out,
        }
    }

    /// The tensors that the operator reads, [`NONE`] in unused places.
    pub const fn inputs(&self) -> [u16; 4] {
        match *self {
            Op::Quantize { input, .. } | Op::AvgPool { input, .. } | Op::Upsample { input, .. } => {
                [input, NONE, NONE, NONE]
            }
            Op::Conv(Conv { sources: [a, b], residual, modulation, .. }) => [a, b, residual, modulation.tensor()],
            Op::NormStats(NormStats { sources: [a, b], .. }) => [a, b, NONE, NONE],
            Op::NormApply(NormApply { sources: [a, b], stats, modulation, .. }) => [a, b, stats, modulation.tensor()],
            Op::Attention(Attention { qkv: [q, k, v], .. }) => [q, k, v, NONE],
            Op::EmbedLookup(_) => [NONE; 4],
            Op::EmbedAdd(EmbedAdd { vector, .. }) => [vector, NONE, NONE, NONE],
        }
    }
}

impl Modulation {
    /// The tensor, or [`NONE`].
    pub const fn tensor(self) -> u16 {
        match self {
            Modulation::Tensor(id) => id,
            Modulation::None | Modulation::Table(_) => NONE,
        }
    }

    const fn parts(self) -> (u8, u32) {
        match self {
            Modulation::None => (0, 0),
            Modulation::Table(offset) => (1, offset),
            Modulation::Tensor(id) => (2, id as u32),
        }
    }

    const fn decode(tag: u8, value: u32) -> Option<Modulation> {
        match tag {
            0 => Some(Modulation::None),
            1 => Some(Modulation::Table(value)),
            2 => Some(Modulation::Tensor(value as u16)),
            _ => None,
        }
    }
}

impl OpRecord {
    /// Bytes of a record.
    pub const BYTES: usize = 48;

    // Bytes 0..16 are common: kind, modulation tag, out, four inputs, live_end. The operator's own begin at 16.

    /// The record's bytes.
    pub fn encode(&self) -> Encoded<{ OpRecord::BYTES }> {
        let [a, b, c, _] = self.op.inputs();
        let to = Encoded::new().u16(2, self.op.out()).u16(4, a).u16(6, b).u16(8, c).u32(12, self.live_end);
        match self.op {
            Op::Quantize { mul, add, .. } => to.u8(0, 1).f32(16, mul).f32(20, add),
            Op::Conv(op) => {
                let (tag, value) = op.modulation.parts();
                to.u8(0, 2)
                    .u8(1, tag)
                    .u16(16, op.weights[0])
                    .u16(18, op.weights[1])
                    .f32(20, op.residual_scale)
                    .u32(24, op.bias)
                    .u32(28, value)
                    .u8(32, op.kernel[0])
                    .u8(33, op.kernel[1])
                    .u8(34, op.stride)
                    .u8(35, op.pad[0])
                    .u8(36, op.pad[1])
                    .u8(37, op.upsample as u8)
                    .u8(38, op.winograd as u8)
            }
            Op::NormStats(op) => to.u8(0, 3).u16(16, op.groups).f32(20, op.eps),
            Op::NormApply(op) => {
                let (tag, value) = op.modulation.parts();
                let table = op.table.unwrap_or(Table { offset: 0, in_step: 0.0, out_step: 0.0 });
                to.u8(0, 4)
                    .u8(1, tag)
                    .u16(16, op.groups)
                    .u32(20, op.affine)
                    .u32(24, value)
                    .u32(28, table.offset)
                    .f32(32, table.in_step)
                    .f32(36, table.out_step)
            }
            Op::Attention(op) => to.u8(0, 5).u16(16, op.heads).f32(20, op.scale).u32(24, op.exp_table),
            Op::AvgPool { .. } => to.u8(0, 6),
            Op::Upsample { .. } => to.u8(0, 7),
            Op::EmbedLookup(op) => to.u8(0, 8).u32(16, op.table),
            Op::EmbedAdd(op) => to
                .u8(0, 9)
                .u32(16, op.steps)
                .u32(28, op.table.offset)
                .f32(32, op.table.in_step)
                .f32(36, op.table.out_step),
        }
    }

    /// Reads a record; `None` where a tag is unknown.
    #[cfg_attr(not(target_os = "none"), inline(always))]
    pub const fn decode(bytes: &[u8]) -> Option<OpRecord> {
        let bytes: &[u8; OpRecord::BYTES] = record(bytes);
        let out = u16_at(bytes, 2);
        let [a, b, c] = [u16_at(bytes, 4), u16_at(bytes, 6), u16_at(bytes, 8)];
        let table = Table { offset: u32_at(bytes, 28), in_step: f32_at(bytes, 32), out_step: f32_at(bytes, 36) };
        let modulation_at = if u8_at(bytes, 0) == 2 { 28 } else { 24 };
        let Some(modulation) = Modulation::decode(u8_at(bytes, 1), u32_at(bytes, modulation_at)) else { return None };
        let op = match u8_at(bytes, 0) {
            1 => Op::Quantize { input: a, out, mul: f32_at(bytes, 16), add: f32_at(bytes, 20) },
            2 => Op::Conv(Conv {
                sources: [a, b],
                weights: [u16_at(bytes, 16), u16_at(bytes, 18)],
                out,
                residual: c,
                residual_scale: f32_at(bytes, 20),
                bias: u32_at(bytes, 24),
                modulation,
                kernel: [u8_at(bytes, 32), u8_at(bytes, 33)],
                stride: u8_at(bytes, 34),
                pad: [u8_at(bytes, 35), u8_at(bytes, 36)],
                upsample: u8_at(bytes, 37) != 0,
                winograd: u8_at(bytes, 38) != 0,
            }),
            3 => Op::NormStats(NormStats { sources: [a, b], out, groups: u16_at(bytes, 16), eps: f32_at(bytes, 20) }),
            4 => Op::NormApply(NormApply {
                sources: [a, b],
                stats: c,
                out,
                groups: u16_at(bytes, 16),
                affine: u32_at(bytes, 20),
                modulation,
                table: if table.offset == 0 { None } else { Some(table) },
            }),
            5 => Op::Attention(Attention {
                qkv: [a, b, c],
                out,
                heads: u16_at(bytes, 16),
                scale: f32_at(bytes, 20),
                exp_table: u32_at(bytes, 24),
            }),
            6 => Op::AvgPool { input: a, out },
            7 => Op::Upsample { input: a, out },
            8 => Op::EmbedLookup(EmbedLookup { out, table: u32_at(bytes, 16) }),
            9 => Op::EmbedAdd(EmbedAdd { vector: a, out, steps: u32_at(bytes, 16), table }),
            _ => return None,
        };
        Some(OpRecord { op, live_end: u32_at(bytes, 12) })
    }
}
