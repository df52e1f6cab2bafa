//! The validated view of a `.mote` file.
//!
//! [`Model::from_bytes`] checks every record once (`check.rs`); the accessors after it are infallible and zero-copy.
//! A `Model` is a few slices, `Copy`, and borrows the file from wherever it lies, usually flash.
//!
//! What voids the promise: bytes that change under the `Model`. They may then change a picture, never safety: every
//! access is bounds-checked and answers with nothing where the bytes lie.

mod check;

use crate::arena::cast;
use crate::error::Error;
use crate::format::op::{Modulation, Table};
use crate::format::{Graph, Header, OpRecord, Quant, Row, Schedule, SelfTest, Tensor, Weights};
use crate::kernels::scratch::{arena_len_for, tensor_at};
use crate::opset::{self, OpSet};
use crate::shape::Tensors;

/// A valid `.mote` file.
#[derive(Clone, Copy, Debug)]
pub struct Model<'a, const OPS: OpSet = { opset::ALL }> {
    bytes: &'a [u8],
    header: Header,
    tensors: &'a [u8],
    quants: &'a [u8],
    weights: &'a [u8],
    ops: &'a [u8],
    graphs: &'a [u8],
    rows: &'a [u8],
    schedules: &'a [u8],
    blocks: &'a [u8],
    info: &'a [u8],
    self_test: &'a [u8],
}

/// The arena bytes that a model needs on this machine, from its records alone; 0 bytes where `bytes` is no model.
///
/// ```
/// # static MODEL: &[u8] = &[];
/// static ARENA: mote_runtime::Arena<{ mote_runtime::arena_len(MODEL) }> = mote_runtime::Arena::new();
/// ```
pub const fn arena_len(bytes: &[u8]) -> usize {
    arena_len_for(bytes, crate::kernels::select::TILING)
}

impl<'a> Model<'a> {
    /// Checks everything, once: magic, version, both checksums, every offset, shape, scale and dependency. Links every
    /// operator; [`Model::with_ops`] links those that a file needs.
    ///
    /// `bytes` begins at a multiple of four and may be longer than the file (a flash partition, say).
    ///
    /// # Errors
    /// Whatever is malformed, by name and index; see [`Error`].
    pub fn from_bytes(bytes: &'a [u8]) -> Result<Self, Error> {
        Self::with_ops(bytes)
    }

    /// As [`Model::from_bytes`], without the checksum over the weights: for callers that trust their flash and want to
    /// start sooner. Damaged weights change the picture, never safety.
    ///
    /// # Errors
    /// As [`Model::from_bytes`], except [`Error::PayloadChecksum`].
    pub fn from_bytes_trusting_payload(bytes: &'a [u8]) -> Result<Self, Error> {
        Self::with_ops_trusting_payload(bytes)
    }
}

impl<'a, const OPS: OpSet> Model<'a, OPS> {
    /// As [`Model::from_bytes`], for a program that links only the operators of `OPS` (see [`opset`]).
    ///
    /// # Errors
    /// As [`Model::from_bytes`], and [`Fault::NotLinked`](crate::error::Fault::NotLinked) of the first record that needs
    /// more.
    pub fn with_ops(bytes: &'a [u8]) -> Result<Self, Error> {
        let model = Self::with_ops_trusting_payload(bytes)?;
        check::payload(&model)?;
        Ok(model)
    }

    /// As [`Model::with_ops`], without the checksum over the weights.
    ///
    /// # Errors
    /// As [`Model::with_ops`], except [`Error::PayloadChecksum`].
    pub fn with_ops_trusting_payload(bytes: &'a [u8]) -> Result<Self, Error> {
        let model = check::container(bytes)?;
        check::records(&model)?;
        Ok(model)
    }

    /// The file's bytes, without what lies behind it in the buffer.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The arena bytes that a [`Sampler`](crate::Sampler) of this model needs on this machine.
    pub fn arena_len(&self) -> usize {
        arena_len(self.bytes)
    }

    /// Height, width and channels of the pictures.
    pub fn image_shape(&self) -> [usize; 3] {
        let x = self.tensor(self.graph(0).input);
        [x.h as usize, x.w as usize, x.c as usize]
    }

    /// Number of classes, the null class included; 0 where the model takes none.
    pub fn classes(&self) -> u16 {
        self.header.classes
    }

    /// The class that stands for "none", where the model was trained with one; only then guidance is possible.
    pub fn null_class(&self) -> Option<u16> {
        (self.header.null_class != crate::format::NONE).then_some(self.header.null_class)
    }

    /// Length of the class embedding that the caller gives, 0 where the model takes none.
    pub fn class_embedding_len(&self) -> usize {
        self.tensor(self.graph(0).class_embedding).elems()
    }

    /// Lines `key=value` for people, such as `name` and `license`.
    pub fn info(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        core::str::from_utf8(self.info).unwrap_or("").lines().filter_map(|line| line.split_once('='))
    }

    /// What the file says a correct runtime draws, if it does.
    pub fn self_test(&self) -> Option<SelfTest> {
        (!self.self_test.is_empty()).then(|| SelfTest::decode(self.self_test))
    }

    /// Number of tensor records.
    pub fn tensor_count(&self) -> usize {
        self.tensors.len() / Tensor::BYTES
    }

    /// The tensor; one without elements for [`NONE`](crate::format::NONE).
    #[inline]
    pub fn tensor(&self, id: u16) -> Tensor {
        tensor_at(self.tensors, id)
    }

    /// The quantization of a tensor at a row of the schedules.
    pub fn quant(&self, tensor: &Tensor, row: usize) -> Quant {
        let index = tensor.quant as usize + if tensor.per_step { row } else { 0 };
        Quant::decode(self.quants.get(index * Quant::BYTES..).unwrap_or(&[]))
    }

    /// Number of weight records.
    pub fn weights_count(&self) -> usize {
        self.weights.len() / Weights::BYTES
    }

    /// The weight record.
    pub fn weights(&self, id: u16) -> Option<Weights> {
        Weights::decode(self.weights.get(id as usize * Weights::BYTES..)?)
    }

    /// Number of operators, of all graphs.
    pub fn op_count(&self) -> usize {
        self.ops.len() / OpRecord::BYTES
    }

    /// The operator.
    pub fn op(&self, index: usize) -> Option<OpRecord> {
        OpRecord::decode(self.ops.get(index * OpRecord::BYTES..(index + 1) * OpRecord::BYTES)?)
    }

    /// Number of graphs.
    pub fn graph_count(&self) -> usize {
        self.graphs.len() / Graph::BYTES
    }

    /// The graph.
    pub fn graph(&self, index: usize) -> Graph {
        Graph::decode(self.graphs.get(index * Graph::BYTES..).unwrap_or(&[]))
    }

    /// Number of rows, of all schedules.
    pub fn row_count(&self) -> usize {
        self.rows.len() / Row::BYTES
    }

    /// The row of the schedules.
    pub fn row(&self, index: usize) -> Option<Row> {
        Row::decode(self.rows.get(index * Row::BYTES..(index + 1) * Row::BYTES)?)
    }

    /// The schedules in the file, the default one first.
    pub fn schedules(&self) -> impl Iterator<Item = Schedule> + use<'a, OPS> {
        self.schedules.chunks_exact(Schedule::BYTES).map(Schedule::decode)
    }

    /// The weights' blocks.
    pub(crate) fn weight_blocks(&self, weights: &Weights) -> &'a [i8] {
        cast(self.slice(weights.offset, weights.len_bytes()))
    }

    /// Scale and Σw of each weight row.
    pub(crate) fn weight_params(&self, weights: &Weights) -> impl Iterator<Item = (f32, i32)> + use<'a, OPS> {
        let words: &[u32] = cast(self.slice(weights.params, weights.rows as usize * Weights::PARAM_BYTES));
        words.chunks_exact(2).map(|pair| match *pair {
            [scale, sum] => (f32::from_bits(scale), sum as i32),
            _ => (0.0, 0),
        })
    }

    /// `len` f32 of the payload.
    pub(crate) fn floats(&self, offset: u32, len: usize) -> &'a [f32] {
        cast(self.slice(offset, len * 4))
    }

    /// `len` i16 of the payload.
    pub(crate) fn shorts(&self, offset: u32, len: usize) -> &'a [i16] {
        cast(self.slice(offset, len * 2))
    }

    /// The entries of a pointwise table.
    pub(crate) fn table(&self, table: &Table) -> &'a [i16] {
        self.shorts(table.offset, Table::LEN)
    }

    /// A modulation that lies in the payload, for a row and a class: `len` f16.
    pub(crate) fn modulation_table(
        &self,
        modulation: Modulation,
        row: usize,
        class: usize,
        len: usize,
    ) -> &'a [half::f16] {
        let Modulation::Table(offset) = modulation else { return &[] };
        let index = row * (self.header.classes as usize).max(1) + class;
        let bits: &[u16] = cast(self.slice(offset.saturating_add((index * len * 2) as u32), len * 2));
        half::slice::HalfBitsSliceExt::reinterpret_cast(bits)
    }

    fn slice(&self, offset: u32, len_bytes: usize) -> &'a [u8] {
        self.bytes.get(offset as usize..).and_then(|rest| rest.get(..len_bytes)).unwrap_or_default()
    }
}

impl<const OPS: OpSet> Tensors for Model<'_, OPS> {
    fn tensor(&self, id: u16) -> Tensor {
        Model::tensor(self, id)
    }
}
