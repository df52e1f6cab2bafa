//! The validated view of a `.mote` file.
//!
//! [`Model::from_bytes`] checks every record once (`check.rs`); the accessors after it are infallible and zero-copy.
//! A `Model` is a few slices, `Copy`, and borrows the file from wherever it lies, usually flash.
//!
//! What voids the promise: bytes that change under the `Model`. They may then change a picture, never safety: every
//! access is bounds-checked and answers with nothing where the bytes lie.

mod check;

use crate::arena::{Aligned, cast};
use crate::error::Error;
use crate::format::checksum::{crc32, meta_crc, meta_crc_const};
use crate::format::cursor::{tail, u32_at};
use crate::format::header::{Tag, tag};
use crate::format::op::{Modulation, Table};
use crate::format::{Graph, Header, OpRecord, Quant, Row, Schedule, SelfTest, Tensor, Weights};
use crate::kernels::scratch::{arena_len_for, is_packed, tensor_at};
use crate::opset::{self, OpSet, links};
use crate::shape::Tensors;

/// A valid `.mote` file.
#[derive(Clone, Copy, Debug)]
pub struct Model<'a, const OPS: OpSet = { opset::ALL }> {
    bytes: &'a [u8],
    header: Header,
    /// The bodies of [`SECTIONS`], in that order; empty where an optional one is missing.
    sections: [&'a [u8]; SECTIONS.len()],
    arena_len: usize,
}

/// The sections that this runtime knows, with the bytes of a record.
const SECTIONS: [(Tag, usize); 10] = [
    (tag::TENSORS, Tensor::BYTES),
    (tag::QUANTS, Quant::BYTES),
    (tag::WEIGHTS, Weights::BYTES),
    (tag::OPS, OpRecord::BYTES),
    (tag::GRAPHS, Graph::BYTES),
    (tag::ROWS, Row::BYTES),
    (tag::SCHEDULES, Schedule::BYTES),
    (tag::BLOCKS, 4),
    (tag::INFO, 1),
    (tag::SELF_TEST, SelfTest::BYTES),
];

/// Places in [`SECTIONS`].
mod section {
    pub(super) const TENSORS: usize = 0;
    pub(super) const QUANTS: usize = 1;
    pub(super) const WEIGHTS: usize = 2;
    pub(super) const OPS: usize = 3;
    pub(super) const GRAPHS: usize = 4;
    pub(super) const ROWS: usize = 5;
    pub(super) const SCHEDULES: usize = 6;
    pub(super) const BLOCKS: usize = 7;
    pub(super) const INFO: usize = 8;
    pub(super) const SELF_TEST: usize = 9;
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
    /// Checks everything, once: magic, version, both checksums, every offset, shape, scale and dependency. For a file
    /// that is only known at run time (a flash partition, a download); one that is linked in is better checked by the
    /// compiler, see [`model!`](crate::model!).
    ///
    /// `bytes` begins at a multiple of four and may be longer than the file.
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
        model.verify_payload()?;
        Ok(model)
    }

    /// As [`Model::with_ops`], without the checksum over the weights.
    ///
    /// # Errors
    /// As [`Model::with_ops`], except [`Error::PayloadChecksum`].
    pub fn with_ops_trusting_payload(bytes: &'a [u8]) -> Result<Self, Error> {
        let (file, meta) = check::extent(bytes)?;
        if !(bytes.as_ptr() as usize).is_multiple_of(4) {
            return Err(Error::Unaligned);
        }
        Self::of_parts(file, meta, meta_crc(meta))
    }

    /// Checks everything but the weights' checksum, as a `const fn`: a file that is linked in is checked by the compiler,
    /// and the code of the checks is not. [`model!`](crate::model!) does that; [`Model::verify`] finds damage to the
    /// flash later.
    ///
    /// # Errors
    /// As [`Model::with_ops`], except [`Error::PayloadChecksum`] and [`Error::Unaligned`].
    pub const fn from_aligned(file: &'a Aligned<[u8]>) -> Result<Self, Error> {
        match check::extent(&file.0) {
            Ok((file, meta)) => Self::of_parts(file, meta, meta_crc_const(meta)),
            Err(error) => Err(error),
        }
    }

    const fn of_parts(file: &'a [u8], meta: &'a [u8], crc: u32) -> Result<Self, Error> {
        if crc != Header::decode(file).meta_crc {
            return Err(Error::MetaChecksum);
        }
        let mut model = match check::container(file, meta) {
            Ok(model) => model,
            Err(error) => return Err(error),
        };
        if let Err(error) = check::records(&model) {
            return Err(error);
        }
        model.arena_len = arena_len(file);
        Ok(model)
    }

    /// Whether the file still is what was checked: both checksums anew.
    ///
    /// # Errors
    /// [`Error::MetaChecksum`], [`Error::PayloadChecksum`].
    pub fn verify(&self) -> Result<(), Error> {
        if meta_crc(self.bytes.get(..self.header.meta_bytes as usize).unwrap_or_default()) != self.header.meta_crc {
            return Err(Error::MetaChecksum);
        }
        self.verify_payload()
    }

    fn verify_payload(&self) -> Result<(), Error> {
        let payload = self.bytes.get(self.header.meta_bytes as usize..).unwrap_or_default();
        for (index, block) in payload.chunks(self.header.block_bytes.max(1) as usize).enumerate() {
            if crc32(block) != u32_at(self.sections[section::BLOCKS], 4 * index) {
                return Err(Error::PayloadChecksum { block: index as u32 });
            }
        }
        Ok(())
    }

    /// The operators that the program links for it.
    pub const fn ops(&self) -> OpSet {
        OPS
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
    pub const fn arena_len(&self) -> usize {
        self.arena_len
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
        core::str::from_utf8(self.sections[section::INFO]).unwrap_or("").lines().filter_map(|line| line.split_once('='))
    }

    /// What the file says a correct runtime draws, if it does.
    pub fn self_test(&self) -> Option<SelfTest> {
        let record = self.sections[section::SELF_TEST];
        (!record.is_empty()).then(|| SelfTest::decode(record))
    }

    /// Number of tensor records.
    pub const fn tensor_count(&self) -> usize {
        self.sections[section::TENSORS].len() / Tensor::BYTES
    }

    /// The tensor; one without elements for [`NONE`](crate::format::NONE).
    pub const fn tensor(&self, id: u16) -> Tensor {
        tensor_at(self.sections[section::TENSORS], id)
    }

    /// The quantization of a tensor at a row of the schedules.
    pub const fn quant(&self, tensor: &Tensor, row: usize) -> Quant {
        let index = tensor.quant as usize + if tensor.per_step { row } else { 0 };
        Quant::decode(tail(self.sections[section::QUANTS], index * Quant::BYTES))
    }

    /// Number of weight records.
    pub const fn weights_count(&self) -> usize {
        self.sections[section::WEIGHTS].len() / Weights::BYTES
    }

    /// The weight record.
    pub const fn weights(&self, id: u16) -> Option<Weights> {
        let record = tail(self.sections[section::WEIGHTS], id as usize * Weights::BYTES);
        if record.is_empty() { None } else { Weights::decode(record) }
    }

    /// Whether the weights have to be unpacked.
    pub(crate) const fn is_packed(&self, id: u16) -> bool {
        is_packed(self.sections[section::WEIGHTS], id)
    }

    /// Number of operators, of all graphs.
    pub const fn op_count(&self) -> usize {
        self.sections[section::OPS].len() / OpRecord::BYTES
    }

    /// The operator.
    #[cfg_attr(not(target_os = "none"), inline(always))]
    pub const fn op(&self, index: usize) -> Option<OpRecord> {
        // Zeros, which stand for what is not there, are no operator.
        OpRecord::decode(tail(self.sections[section::OPS], index * OpRecord::BYTES))
    }

    /// Number of graphs.
    pub const fn graph_count(&self) -> usize {
        self.sections[section::GRAPHS].len() / Graph::BYTES
    }

    /// The graph.
    pub const fn graph(&self, index: usize) -> Graph {
        Graph::decode(tail(self.sections[section::GRAPHS], index * Graph::BYTES))
    }

    /// The index in the file of a graph's operator number `nth`; `None` where it has no more.
    pub const fn op_index(&self, graph: &Graph, nth: usize) -> Option<usize> {
        let (mut graph, mut nth) = (*graph, nth);
        while nth >= graph.ops as usize {
            if !links(OPS, opset::REUSE) || graph.next == crate::format::NONE {
                return None;
            }
            nth -= graph.ops as usize;
            graph = self.graph(graph.next as usize);
        }
        Some(graph.first_op as usize + nth)
    }

    /// Number of rows, of all schedules.
    pub const fn row_count(&self) -> usize {
        self.sections[section::ROWS].len() / Row::BYTES
    }

    /// The row of the schedules.
    pub const fn row(&self, index: usize) -> Option<Row> {
        let record = tail(self.sections[section::ROWS], index * Row::BYTES);
        if record.is_empty() { None } else { Row::decode(record) }
    }

    /// The schedules in the file, the default one first.
    pub fn schedules(&self) -> impl Iterator<Item = Schedule> + use<'a, OPS> {
        self.sections[section::SCHEDULES].chunks_exact(Schedule::BYTES).map(Schedule::decode)
    }

    /// Number of schedules.
    const fn schedule_count(&self) -> usize {
        self.sections[section::SCHEDULES].len() / Schedule::BYTES
    }

    const fn schedule(&self, index: usize) -> Schedule {
        Schedule::decode(tail(self.sections[section::SCHEDULES], index * Schedule::BYTES))
    }

    /// The weights' rows from `row` on, a multiple of four, and what follows them in the file.
    pub(crate) fn weight_rows(&self, id: u16, row: usize) -> &'a [u8] {
        let Some(weights) = self.weights(id) else { return &[] };
        let at = row / Weights::BLOCK_ROWS * weights.four_rows_bytes();
        self.bytes.get(weights.offset as usize + at..).unwrap_or_default()
    }

    /// Scale (f32) and Σw (i32) of each weight row.
    pub(crate) fn weight_params(&self, weights: &Weights) -> &'a [[u32; 2]] {
        cast(self.slice(weights.params, weights.rows as usize * Weights::PARAM_BYTES))
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
