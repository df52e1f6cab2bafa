//! Packing: the planned graph as the bytes of a `.mote` file.
//!
//! Header, directory, sections in the format's order, padded to 16 bytes; then the payload. Written through the
//! runtime's own records, so what is written here is what is read there. Every byte is under a checksum: the first part
//! as a whole, the payload block by block.
//!
//! Voids the promise: nothing; the same graph and plan give the same bytes.

use std::ops::Range;

use miette::{Result, miette};
use mote_runtime::format::checksum::{crc32, meta_crc};
use mote_runtime::format::op::{Modulation, Op};
use mote_runtime::format::{Graph, Header, NONE, OpRecord, Row, Section, SelfTest, Tensor, Weights, tag};
use mote_runtime::kernels::scalar;
use mote_runtime::{Model, Poll, Request, Sampler};

use crate::calibrate::Classes;
use crate::draw::AlignedBuffer;
use crate::plan::Plan;
use crate::quantize::QuantGraph;
use crate::schedule::{Schedules, is_shallow};

/// Payload bytes a checksum: the erase block of most flash chips.
const BLOCK_BYTES: usize = 4096;
/// The runtime takes files up to this length, in bytes.
const FILE_MAX: usize = 1 << 30;
/// Seed of the self-test; any would do.
const SELF_TEST_SEED: u64 = 7;

/// A complete file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Header, directory and sections, in bytes; the payload follows.
    pub meta_bytes: usize,
    /// Where the record of the self-test lies.
    self_test_at: usize,
}

/// Writes the file, with the self-test that the scalar kernels draw. `info` are lines for people: key and value, in order.
pub fn pack(
    graph: &QuantGraph,
    plan: &Plan,
    schedules: &Schedules,
    classes: Classes,
    info: &[(String, String)],
) -> Result<Packed> {
    let mut packed = assemble(graph, plan, schedules, classes, info)?;
    let record = draw_self_test(&packed.bytes, classes)
        .map_err(|error| miette!(help = "report this network", "the runtime refuses the file: {error}"))?;
    let at = packed.self_test_at;
    packed.bytes[at..at + SelfTest::BYTES].copy_from_slice(&record.encode().0);
    seal(&mut packed.bytes, packed.meta_bytes);
    Ok(packed)
}

/// The file with a self-test of zeros, which nothing passes: for a search, where drawing it would take longer than all else.
pub fn assemble(
    graph: &QuantGraph,
    plan: &Plan,
    schedules: &Schedules,
    classes: Classes,
    info: &[(String, String)],
) -> Result<Packed> {
    let payload = graph.payload.bytes();
    let parts = Parts::new(graph, plan);
    let text: String =
        info.iter().map(|(key, value)| format!("{}={}\n", line(key).replace('=', " "), line(value))).collect();
    // Where the payload begins does not depend on any offset, so lengths come first.
    let lens = [
        (tag::TENSORS, graph.tensors.len() * Tensor::BYTES),
        (tag::QUANTS, graph.quants.len() * mote_runtime::format::Quant::BYTES),
        (tag::WEIGHTS, graph.weights.len() * Weights::BYTES),
        (tag::OPS, parts.ops.len() * OpRecord::BYTES),
        (tag::GRAPHS, parts.graphs.len() * Graph::BYTES),
        (tag::ROWS, schedules.rows.len() * Row::BYTES),
        (tag::SCHEDULES, schedules.schedules.len() * mote_runtime::format::Schedule::BYTES),
        (tag::BLOCKS, payload.len().div_ceil(BLOCK_BYTES) * 4),
        (tag::INFO, text.len()),
        (tag::SELF_TEST, SelfTest::BYTES),
    ];
    let mut at = Header::BYTES + lens.len() * Section::BYTES;
    let mut directory = Vec::new();
    for (tag, len) in lens {
        at = at.next_multiple_of(4);
        directory.push(Section { tag, offset: at as u32, bytes: len as u32 });
        at += len;
    }
    let meta_bytes = at.next_multiple_of(16);
    let file_bytes = meta_bytes + payload.len();
    if file_bytes > FILE_MAX || parts.ops.len() >= usize::from(NONE) {
        return Err(miette!(
            help = "use a smaller network",
            "the file would have {file_bytes} bytes, more than the format takes"
        ));
    }
    let base = meta_bytes as u32;

    let mut bytes = Vec::with_capacity(file_bytes);
    let classes_u16 = |n: usize| u16::try_from(n).ok().filter(|&n| n != NONE);
    let (Some(count), Some(null_class)) = (classes_u16(classes.count), classes.null.map_or(Some(NONE), classes_u16))
    else {
        return Err(miette!(help = "use fewer classes", "{} classes are more than the format takes", classes.count));
    };
    let header = Header {
        sections: directory.len() as u16,
        file_bytes: file_bytes as u32,
        meta_bytes: base,
        meta_crc: 0,
        block_bytes: BLOCK_BYTES as u32,
        classes: count,
        null_class,
        uncond: graph.uncond,
        history: graph.history,
        cached: graph.reuse.as_ref().map_or([NONE; 2], |reuse| [reuse.cached, reuse.null_cached]),
    };
    bytes.extend(header.encode().0);
    directory.iter().for_each(|section| bytes.extend(section.encode().0));
    let mut sections = directory.iter();
    let mut begin = |bytes: &mut Vec<u8>| {
        if let Some(section) = sections.next() {
            bytes.resize(section.offset as usize, 0);
        }
    };
    begin(&mut bytes);
    for (tensor, &offset) in graph.tensors.iter().zip(&plan.offsets) {
        bytes.extend(Tensor { offset: offset as u32, ..*tensor }.encode().0);
    }
    begin(&mut bytes);
    graph.quants.iter().for_each(|quant| bytes.extend(quant.encode().0));
    begin(&mut bytes);
    for weights in &graph.weights {
        bytes.extend(Weights { offset: weights.offset + base, params: weights.params + base, ..*weights }.encode().0);
    }
    begin(&mut bytes);
    for &(op, live_end) in &parts.ops {
        bytes.extend(OpRecord { op: moved(op, base), live_end: live_end as u32 }.encode().0);
    }
    begin(&mut bytes);
    parts.graphs.iter().for_each(|record| bytes.extend(record.encode().0));
    begin(&mut bytes);
    for row in &schedules.rows {
        let [graph, null_graph] = parts.entries[usize::from(is_shallow(row))];
        bytes.extend(Row { graph, null_graph, ..*row }.encode().0);
    }
    begin(&mut bytes);
    schedules.schedules.iter().for_each(|schedule| bytes.extend(schedule.encode().0));
    begin(&mut bytes);
    payload.chunks(BLOCK_BYTES).for_each(|block| bytes.extend(crc32(block).to_le_bytes()));
    begin(&mut bytes);
    bytes.extend(text.as_bytes());
    begin(&mut bytes);
    let self_test_at = bytes.len();
    bytes.resize(meta_bytes, 0);
    bytes.extend(payload);
    seal(&mut bytes, meta_bytes);
    Ok(Packed { bytes, meta_bytes, self_test_at })
}

/// Operators and graphs as they are in the file.
///
/// Graph 0 is all operators in order. A shallow call runs what is before and what is behind its `deep` ones; and what the
/// null class calls otherwise, the operator that writes the cached tensor and those that read it, lies behind all others.
struct Parts {
    /// With their live ends.
    ops: Vec<(Op, usize)>,
    graphs: Vec<Graph>,
    /// Of full rows, then of shallow ones: their graph and the null class's.
    entries: [[u16; 2]; 2],
}

impl Parts {
    fn new(graph: &QuantGraph, plan: &Plan) -> Self {
        let places = plan.order.iter().zip(&plan.live_ends);
        let mut ops: Vec<(Op, usize)> = places.map(|(&index, &live_end)| (graph.ops[index].op, live_end)).collect();
        let count = ops.len();
        let piece = |ops: Range<usize>, next: u16| Graph {
            first_op: ops.start as u16,
            ops: ops.len() as u16,
            input: graph.input,
            output: graph.output,
            class_embedding: graph.class_embedding,
            next,
        };
        let whole = piece(0..count, NONE);
        let Some(reuse) = &graph.reuse else { return Self { ops, graphs: vec![whole], entries: [[0, 0], [0, 0]] } };
        let Range { start, end } = reuse.deep;
        let mut graphs = vec![whole, piece(0..start, 2), piece(end..count, NONE)];
        if reuse.null_cached == NONE {
            return Self { ops, graphs, entries: [[0, 0], [1, 1]] };
        }
        let readers = ops.iter().rposition(|(op, _)| op.inputs().contains(&reuse.cached)).map_or(end, |last| last + 1);
        let null = |&(op, live_end): &(Op, usize)| (renamed(op, reuse.cached, reuse.null_cached), live_end);
        let own: Vec<(Op, usize)> = ops[end - 1..readers].iter().map(null).collect();
        ops.extend(own);
        let own = count..ops.len();
        graphs.extend([
            piece(0..end - 1, 4),
            piece(own.clone(), 5),
            piece(readers..count, NONE),
            piece(0..start, 7),
            piece(own.start + 1..own.end, 5),
        ]);
        Self { ops, graphs, entries: [[0, 3], [1, 6]] }
    }
}

/// Writes the checksum of header and records.
fn seal(bytes: &mut [u8], meta_bytes: usize) {
    let crc = meta_crc(&bytes[..meta_bytes]);
    bytes[Header::META_CRC_AT..Header::META_CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
}

/// What the scalar kernels draw with this file: the definition that devices are held to.
fn draw_self_test(bytes: &[u8], classes: Classes) -> std::result::Result<SelfTest, mote_runtime::Error> {
    let class = if classes.count == 0 { NONE } else { 0 };
    let file = AlignedBuffer::copy_of(bytes);
    let model = Model::from_bytes(file.as_slice())?;
    let mut arena = AlignedBuffer::zeroed(model.arena_len());
    let mut sampler = Sampler::with_kernels(&model, arena.as_mut_slice(), &scalar::TABLE)?;
    let embedding = vec![0.0; model.class_embedding_len()];
    sampler.start(Request {
        seed: SELF_TEST_SEED,
        class: (class != NONE).then_some(class),
        class_embedding: (!embedding.is_empty()).then_some(&embedding[..]),
        ..Default::default()
    })?;
    sampler.step();
    let step_crc = sampler.sample_crc();
    while let Poll::Pending(_) = sampler.step() {}
    Ok(SelfTest { seed: SELF_TEST_SEED, class, step_crc, sample_crc: sampler.sample_crc() })
}

/// One line of text.
fn line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// An operator with tensor `to` where it has `from`.
fn renamed(mut op: Op, from: u16, to: u16) -> Op {
    let rename = |id: &mut u16| *id = if *id == from { to } else { *id };
    match &mut op {
        Op::Conv(op) => op.sources.iter_mut().chain([&mut op.residual, &mut op.out]).for_each(rename),
        Op::NormStats(op) => op.sources.iter_mut().for_each(rename),
        Op::NormApply(op) => op.sources.iter_mut().chain([&mut op.out]).for_each(rename),
        Op::Attention(op) => op.qkv.iter_mut().chain([&mut op.out]).for_each(rename),
        Op::AvgPool { input, out } | Op::Upsample { input, out } => [input, out].into_iter().for_each(rename),
        Op::Quantize { .. } | Op::EmbedLookup(_) | Op::EmbedAdd(_) => {}
    }
    op
}

/// An operator with its payload offsets counted from the file's start.
fn moved(op: Op, base: u32) -> Op {
    let table = |modulation| match modulation {
        Modulation::Table(offset) => Modulation::Table(offset + base),
        other => other,
    };
    match op {
        Op::Conv(mut op) => {
            op.bias += base;
            op.modulation = table(op.modulation);
            Op::Conv(op)
        }
        Op::NormApply(mut op) => {
            op.affine += base;
            op.modulation = table(op.modulation);
            if let Some(table) = &mut op.table {
                table.offset += base;
            }
            Op::NormApply(op)
        }
        Op::Attention(mut op) => {
            op.exp_table += base;
            Op::Attention(op)
        }
        Op::EmbedLookup(mut op) => {
            op.table += base;
            Op::EmbedLookup(op)
        }
        Op::EmbedAdd(mut op) => {
            op.steps += base;
            op.table.offset += base;
            Op::EmbedAdd(op)
        }
        Op::Quantize { .. } | Op::NormStats(_) | Op::AvgPool { .. } | Op::Upsample { .. } => op,
    }
}
