//! Which operators a program links.
//!
//! A program that carries one model need not carry the code of every operator. [`ops_used`] reads the file's records at
//! compile time; as the parameter `OPS` of [`Model`](crate::Model) it removes what the file does not use: in checking,
//! in running, in the kernel table. [`model!`](crate::model!) does that for a file that is linked in; by hand, for a file
//! that is like another:
//!
//! ```
//! use mote_runtime::{Error, Model, OpSet, ops_used};
//! # static LIKE_THIS: &[u8] = &[];
//! // static LIKE_THIS: &[u8] = mote_runtime::include_model!("digits.mote");
//! const OPS: OpSet = ops_used(LIKE_THIS);
//! fn load(partition: &[u8]) -> Result<Model<'_, OPS>, Error> {
//!     Model::with_ops(partition)
//! }
//! ```
//!
//! What voids the promise: nothing. A file that needs more than `OPS` is refused with
//! [`Fault::NotLinked`](crate::error::Fault::NotLinked).

use crate::format::cursor::tail;
use crate::format::header::{Header, Section, tag};
use crate::format::op::{Modulation, Op, OpRecord};
use crate::format::schedule::{Clip, Row};
use crate::format::{DType, Graph, NONE, Tensor};
use crate::kernels::scratch::{is_packed, section, tensor_at};

/// A set of the bits below. (A number, because a const parameter can be no other type.)
pub type OpSet = u32;

/// Everything.
pub const ALL: OpSet = u32::MAX;

/// `AvgPool`.
pub const AVG_POOL: OpSet = 1;
/// `Upsample` as an operator of its own.
pub const UPSAMPLE: OpSet = 1 << 1;
/// `EmbedLookup`.
pub const EMBED_LOOKUP: OpSet = 1 << 2;
/// `EmbedAdd`, and the caller's class embedding.
pub const EMBED_ADD: OpSet = 1 << 3;
/// `Attention`.
pub const ATTENTION: OpSet = 1 << 4;
/// `NormStats` and `NormApply`.
pub const NORM: OpSet = 1 << 5;
/// A norm over two sources.
pub const NORM_TWO: OpSet = 1 << 6;
/// A norm over a 16-bit source.
pub const NORM_I16: OpSet = 1 << 7;
/// A norm that is scaled and shifted by the embedding.
pub const NORM_MODULATED: OpSet = 1 << 8;
/// A norm in place.
pub const NORM_IN_PLACE: OpSet = 1 << 9;
/// A convolution over two sources.
pub const CONV_TWO: OpSet = 1 << 10;
/// A convolution of an 8-bit source.
pub const CONV_I8: OpSet = 1 << 11;
/// A convolution of a 16-bit source.
pub const CONV_I16: OpSet = 1 << 12;
/// A convolution that reads its source upsampled.
pub const CONV_UPSAMPLED: OpSet = 1 << 13;
/// A convolution of a source whose channels are no multiple of four.
pub const CONV_ODD: OpSet = 1 << 14;
/// A convolution with a residual.
pub const RESIDUAL: OpSet = 1 << 15;
/// A 16-bit residual.
pub const RESIDUAL_I16: OpSet = 1 << 16;
/// A 16-bit output, of a convolution, a resampling or the first quantization.
pub const OUT_I16: OpSet = 1 << 17;
/// An embedding from a table in the file.
pub const MODULATION_TABLE: OpSet = 1 << 18;
/// An embedding that operators compute.
pub const MODULATION_TENSOR: OpSet = 1 << 19;
/// Dynamic thresholding.
pub const CLIP_DYNAMIC: OpSet = 1 << 20;
/// History of earlier rows.
pub const HISTORY: OpSet = 1 << 21;
/// Classifier-free guidance.
pub const GUIDANCE: OpSet = 1 << 22;
/// A convolution with int4 weights.
pub const WEIGHTS_I4: OpSet = 1 << 23;
/// A convolution by Winograd's algorithm.
pub const WINOGRAD: OpSet = 1 << 24;

/// Rows that reuse what earlier ones left in cached tensors.
pub const REUSE: OpSet = 1 << 25;

/// Whether all of `bits` are in the set. Inlined, or operators compiled into another crate ask at run time, 2 % of a small net's step.
#[inline(always)]
pub(crate) const fn links(ops: OpSet, bits: OpSet) -> bool {
    ops & bits == bits
}

/// What a `.mote` file needs; on bytes that are no model the answer means nothing.
pub const fn ops_used(bytes: &[u8]) -> OpSet {
    let header = Header::decode(bytes);
    let tensors = section(bytes, Section::find(bytes, tag::TENSORS));
    let mut used = if header.null_class != NONE { GUIDANCE } else { 0 };
    if header.cached[0] != NONE || header.cached[1] != NONE {
        used |= REUSE;
    }
    let mut i = 0;
    while i < header.history.len() {
        if header.history[i] != NONE {
            used |= HISTORY;
        }
        i += 1;
    }
    let weights = section(bytes, Section::find(bytes, tag::WEIGHTS));
    let mut at = section(bytes, Section::find(bytes, tag::OPS));
    while at.len() >= OpRecord::BYTES {
        if let Some(OpRecord { op, .. }) = OpRecord::decode(at) {
            used |= op_used(&op, tensors, weights);
        }
        at = tail(at, OpRecord::BYTES);
    }
    let mut at = section(bytes, Section::find(bytes, tag::ROWS));
    while at.len() >= Row::BYTES {
        if let Some(Row { clip: Clip::Dynamic { .. }, .. }) = Row::decode(at) {
            used |= CLIP_DYNAMIC;
        }
        at = tail(at, Row::BYTES);
    }
    let mut at = section(bytes, Section::find(bytes, tag::GRAPHS));
    while at.len() >= Graph::BYTES {
        if Graph::decode(at).class_embedding != NONE {
            used |= EMBED_ADD;
        }
        at = tail(at, Graph::BYTES);
    }
    used
}

const fn op_used(op: &Op, tensors: &[u8], weights: &[u8]) -> OpSet {
    let out = tensor_at(tensors, op.out());
    let out_i16 = if is_i16(&out) { OUT_I16 } else { 0 };
    match op {
        Op::Quantize { .. } => out_i16,
        Op::Conv(op) => {
            let mut used = out_i16 | modulation_used(op.modulation);
            let mut k = 0;
            while k < 2 {
                if op.sources[k] != NONE {
                    let source = tensor_at(tensors, op.sources[k]);
                    used |= if is_i16(&source) { CONV_I16 } else { CONV_I8 };
                    used |= if source.c.is_multiple_of(4) { 0 } else { CONV_ODD };
                    used |= if k == 1 { CONV_TWO } else { 0 };
                    used |= if is_packed(weights, op.weights[k]) { WEIGHTS_I4 } else { 0 };
                }
                k += 1;
            }
            if op.upsample {
                used |= CONV_UPSAMPLED;
            }
            if op.winograd {
                used |= WINOGRAD;
            }
            if op.residual != NONE {
                used |= RESIDUAL | if is_i16(&tensor_at(tensors, op.residual)) { RESIDUAL_I16 } else { 0 };
            }
            used
        }
        Op::NormStats(op) => NORM | norm_used(op.sources, tensors),
        Op::NormApply(op) => {
            let modulated = match op.modulation {
                Modulation::None => 0,
                other => NORM_MODULATED | modulation_used(other),
            };
            let in_place = tensor_at(tensors, op.sources[0]).offset == out.offset;
            NORM | norm_used(op.sources, tensors) | modulated | if in_place { NORM_IN_PLACE } else { 0 }
        }
        Op::Attention(_) => ATTENTION,
        Op::AvgPool { .. } => AVG_POOL | out_i16,
        Op::Upsample { .. } => UPSAMPLE | out_i16,
        Op::EmbedLookup(_) => EMBED_LOOKUP,
        Op::EmbedAdd(_) => EMBED_ADD,
    }
}

const fn norm_used(sources: [u16; 2], tensors: &[u8]) -> OpSet {
    let two = sources[1] != NONE;
    let wide = is_i16(&tensor_at(tensors, sources[0])) || two && is_i16(&tensor_at(tensors, sources[1]));
    (if two { NORM_TWO } else { 0 }) | if wide { NORM_I16 } else { 0 }
}

const fn modulation_used(modulation: Modulation) -> OpSet {
    match modulation {
        Modulation::None => 0,
        Modulation::Table(_) => MODULATION_TABLE,
        Modulation::Tensor(_) => MODULATION_TENSOR,
    }
}

const fn is_i16(tensor: &Tensor) -> bool {
    matches!(tensor.dtype, DType::I16)
}
