//! What is in a `.mote` file: sections, operators with their costs, schedules, and checksums.

use mote_runtime::format::header::{Section, tag};
use mote_runtime::format::op::{Modulation, Op};
use mote_runtime::format::{Clip, DType, Encoding, Header, NONE, OpRecord, Row, SelfTest, Tensor};
use mote_runtime::kernels::scratch::{arena_len_for, scratch_bytes};
use mote_runtime::kernels::select;
use mote_runtime::kernels::tiling::{Target, Tiling};
use mote_runtime::shape::op_macs;
use mote_runtime::{Error, Model, opset};
use serde::Serialize;

use super::arena_map::{ArenaMap, Life};
use crate::schedule::{FULL_GRAPH, is_shallow};

/// The contents of a file.
#[derive(Clone, Debug, Serialize)]
pub struct MoteReport {
    /// Length of the file.
    pub file_bytes: usize,
    /// Format version.
    pub version: u16,
    /// Header, directory and records.
    pub meta_bytes: usize,
    /// CRC-32 over header and records, which also identifies the file.
    pub meta_crc: String,
    /// Payload blocks that have a checksum.
    pub payload_blocks: usize,
    /// Bytes of a block.
    pub block_bytes: usize,
    /// The first damaged block, if there is one.
    pub damaged_block: Option<u32>,
    /// The sections, in the directory's order.
    pub sections: Vec<SectionLine>,
    /// `[h, w, c]` of the pictures.
    pub image: [usize; 3],
    /// Number of classes, the null class included.
    pub classes: u16,
    /// The null class.
    pub null_class: Option<u16>,
    /// Elements of the class vector that the caller gives.
    pub class_embedding_len: usize,
    /// Arena on the core that was asked about.
    pub arena_bytes: usize,
    /// That core.
    pub target: &'static str,
    /// Arena on the machine that runs this program.
    pub arena_host_bytes: usize,
    /// The kernel table that this machine would draw with.
    pub host_kernels: &'static str,
    /// The operator that needs most of it.
    pub peak_op: usize,
    /// What a correct runtime draws with this file.
    pub self_test: Option<SelfTestLine>,
    /// Bytes of a snapshot's tensors, which outlive a step.
    pub carried_bytes: usize,
    /// Integer weights.
    pub weights_bytes: usize,
    /// Multiply-adds of one network call, a full one: convolutions and attention.
    pub macs: u64,
    /// Multiply-adds of a call that reuses deep features, where there are such.
    pub shallow_macs: Option<u64>,
    /// Bytes of the tensors that those reuse.
    pub cached_bytes: usize,
    /// Operators in execution order; behind those of a full call the ones that the null class has of its own.
    pub ops: Vec<OpLine>,
    /// Schedules, the default one first.
    pub schedules: Vec<ScheduleLine>,
    /// Lines for people.
    pub info: Vec<(String, String)>,
    /// When which bytes are used.
    #[serde(skip)]
    pub map: ArenaMap,
}

/// The self-test's request and checksums.
#[derive(Clone, Debug, Serialize)]
pub struct SelfTestLine {
    /// Seed.
    pub seed: u64,
    /// Class, where the model takes one.
    pub class: Option<u16>,
    /// CRC-32 after the first step.
    pub step_crc32: String,
    /// CRC-32 of the sample.
    pub sample_crc32: String,
}

/// An entry of the directory.
#[derive(Clone, Debug, Serialize)]
pub struct SectionLine {
    /// Four letters.
    pub tag: String,
    /// File offset.
    pub offset: u32,
    /// Length.
    pub bytes: u32,
    /// Records in it, where it has records of one size.
    pub records: Option<usize>,
}

/// An operator.
#[derive(Clone, Debug, Serialize)]
pub struct OpLine {
    /// Kind.
    pub op: &'static str,
    /// Kernel, stride, groups, heads: what tells it from others of its kind.
    pub detail: String,
    /// Shapes of the tensors that it reads, `[h, w, c]`.
    pub inputs: Vec<[u16; 3]>,
    /// Shape of its output.
    pub out: [u16; 3],
    /// Output type.
    pub dtype: &'static str,
    /// Arena offset of its output.
    pub offset: u32,
    /// Multiply-adds; an element of a pointwise operator counts as one.
    pub macs: u64,
    /// Weight rows in the file.
    pub weights_bytes: usize,
    /// How each source's weights are written.
    pub weights: Vec<String>,
    /// End of what lives during it; scratch begins here.
    pub live_end: u32,
    /// Scratch of the portable kernels.
    pub scratch_bytes: usize,
}

/// A schedule.
#[derive(Clone, Debug, Serialize)]
pub struct ScheduleLine {
    /// Steps as users count them.
    pub steps: u16,
    /// Its network calls.
    pub rows: Vec<RowLine>,
}

/// A row of a schedule: the coefficients of the two formulas in the format's description.
#[derive(Clone, Debug, Serialize)]
pub struct RowLine {
    /// Training timestep.
    pub timestep: f32,
    /// Whether the state advances.
    pub advance: bool,
    /// Whether it reuses the deep features of an earlier row.
    pub shallow: bool,
    /// What happens to x₀.
    pub clip: String,
    /// As [`Row::p`].
    pub p: f32,
    /// As [`Row::q`].
    pub q: f32,
    /// As [`Row::r`].
    pub r: f32,
    /// As [`Row::s`].
    pub s: f32,
    /// As [`Row::a`].
    pub a: f32,
    /// As [`Row::b`].
    pub b: f32,
    /// As [`Row::c`].
    pub c: f32,
    /// As [`Row::d`].
    pub d: f32,
    /// As [`Row::e`].
    pub e: [f32; 4],
}

impl MoteReport {
    /// Reads a file: an error where header or records are wrong; a damaged payload is reported in
    /// [`MoteReport::damaged_block`].
    pub fn new(bytes: &[u8], target: &Target) -> Result<Self, Error> {
        let model = Model::from_bytes_trusting_payload(bytes)?;
        let damaged_block = match Model::from_bytes(bytes) {
            Ok(_) => None,
            Err(Error::PayloadChecksum { block }) => Some(block),
            Err(error) => return Err(error),
        };
        let header = *model.header();
        let records: Vec<OpRecord> = (0..model.op_count()).filter_map(|index| model.op(index)).collect();
        let ops: Vec<OpLine> = records.iter().map(|record| op_line(&model, record, target.tiling)).collect();
        // Of the file's operators, those of a full call and of a shallow one.
        let ops_of = |graph: u16| -> Vec<usize> {
            (0..).map_while(|nth| model.op_index(&model.graph(usize::from(graph)), nth)).collect()
        };
        let full = ops_of(FULL_GRAPH);
        let shallow = (0..model.row_count()).filter_map(|row| model.row(row)).find(is_shallow);
        let shallow = shallow.map(|row| ops_of(row.graph));
        let macs = |of: &[usize]| {
            let multiplies = of.iter().map(|&op| &ops[op]).filter(|op| op.op == "conv" || op.op == "attention");
            multiplies.map(|op| op.macs).sum()
        };
        let end = |op: &OpLine| op.live_end as usize + op.scratch_bytes;
        let peak_op =
            ops.iter().enumerate().max_by_key(|(index, op)| (end(op), usize::MAX - index)).map_or(0, |(i, _)| i);
        let carried = (0..model.tensor_count()).map(|id| model.tensor(id as u16)).filter(|tensor| tensor.carried);
        Ok(Self {
            file_bytes: model.bytes().len(),
            version: mote_runtime::format::VERSION,
            meta_bytes: header.meta_bytes as usize,
            meta_crc: format!("{:08x}", header.meta_crc),
            payload_blocks: (model.bytes().len() - header.meta_bytes as usize)
                .div_ceil(header.block_bytes.max(1) as usize),
            block_bytes: header.block_bytes as usize,
            damaged_block,
            sections: sections(model.bytes(), &header),
            image: model.image_shape(),
            classes: model.classes(),
            null_class: model.null_class(),
            class_embedding_len: model.class_embedding_len(),
            target: target.name,
            arena_bytes: arena_len_for(bytes, target.tiling),
            arena_host_bytes: model.arena_len(),
            host_kernels: select::kernels::<{ opset::ALL }>().name,
            peak_op,
            self_test: model.self_test().map(|test| SelfTestLine {
                seed: test.seed,
                class: (test.class != NONE).then_some(test.class),
                step_crc32: format!("{:08x}", test.step_crc),
                sample_crc32: format!("{:08x}", test.sample_crc),
            }),
            carried_bytes: carried.map(|tensor| tensor.len_bytes()).sum(),
            weights_bytes: (0..model.weights_count())
                .filter_map(|id| model.weights(id as u16))
                .map(|weights| weights.len_bytes())
                .sum(),
            macs: macs(&full),
            shallow_macs: shallow.as_ref().map(|shallow| macs(shallow)),
            cached_bytes: header.cached.iter().map(|&id| model.tensor(id).len_bytes()).sum(),
            map: ArenaMap::new(
                &lives(&model, &records, &full, shallow.as_deref()),
                &full.iter().map(|&op| (ops[op].live_end as usize, ops[op].scratch_bytes)).collect::<Vec<_>>(),
            ),
            ops,
            schedules: model
                .schedules()
                .map(|schedule| {
                    let rows = (0..schedule.rows)
                        .filter_map(|row| model.row(usize::from(schedule.first_row) + usize::from(row)));
                    ScheduleLine { steps: schedule.steps, rows: rows.map(|row| row_line(&row)).collect() }
                })
                .collect(),
            info: model.info().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        })
    }
}

/// Lower-case name of an element type, as in reports.
pub fn dtype_name(dtype: DType) -> &'static str {
    match dtype {
        DType::I8 => "i8",
        DType::I16 => "i16",
        DType::F32 => "f32",
    }
}

/// Name of an encoding of weights, as in reports: `i4/16` has a scale for each group of 16.
pub fn encoding_name(encoding: Encoding) -> String {
    match encoding {
        Encoding::I8 => "i8".into(),
        Encoding::I4 { group_len: 0 } => "i4".into(),
        Encoding::I4 { group_len } => format!("i4/{group_len}"),
    }
}

/// Name of an operator, as in reports.
pub fn op_name(op: &Op) -> &'static str {
    match op {
        Op::Quantize { .. } => "quantize",
        Op::Conv(_) => "conv",
        Op::NormStats(_) => "norm_stats",
        Op::NormApply(_) => "norm_apply",
        Op::Attention(_) => "attention",
        Op::AvgPool { .. } => "avg_pool",
        Op::Upsample { .. } => "upsample",
        Op::EmbedLookup(_) => "embed_lookup",
        Op::EmbedAdd(_) => "embed_add",
    }
}

/// What tells an operator from others of its kind, in a few words.
pub fn op_detail(op: &Op) -> String {
    let modulated = |modulation: &Modulation| if *modulation == Modulation::None { "" } else { " +time" };
    match op {
        Op::Conv(conv) => {
            let [kh, kw] = conv.kernel;
            let stride = if conv.stride == 1 { String::new() } else { format!(" /{}", conv.stride) };
            let up = if conv.upsample { " up2" } else { "" };
            let residual = if conv.residual == NONE { "" } else { " +residual" };
            let winograd = if conv.winograd { " winograd" } else { "" };
            format!("{kh}x{kw}{stride}{up}{winograd}{}{residual}", modulated(&conv.modulation))
        }
        Op::NormStats(norm) => format!("{} groups", norm.groups),
        Op::NormApply(norm) => {
            let activation = if norm.table.is_some() { " +activation" } else { "" };
            format!("{} groups{}{activation}", norm.groups, modulated(&norm.modulation))
        }
        Op::Attention(attention) => format!("{} heads", attention.heads),
        Op::Quantize { .. } | Op::AvgPool { .. } | Op::Upsample { .. } | Op::EmbedLookup(_) | Op::EmbedAdd(_) => {
            String::new()
        }
    }
}

fn op_line(model: &Model, record: &OpRecord, tiling: Tiling) -> OpLine {
    let shape = |tensor: Tensor| [tensor.h, tensor.w, tensor.c];
    let inputs = record.op.inputs();
    let out = model.tensor(record.op.out());
    let weights = match &record.op {
        Op::Conv(conv) => conv.weights.map(|id| model.weights(id)),
        _ => [None; 2],
    };
    let named = [model.tensor(inputs[0]), model.tensor(inputs[1]), out];
    let packed = weights.map(|weights| weights.is_some_and(|weights| weights.encoding.is_packed()));
    OpLine {
        op: op_name(&record.op),
        detail: op_detail(&record.op),
        inputs: inputs.iter().filter(|&&id| id != NONE).map(|&id| shape(model.tensor(id))).collect(),
        out: shape(out),
        dtype: dtype_name(out.dtype),
        offset: out.offset,
        macs: op_macs(&record.op, model),
        weights_bytes: weights.iter().flatten().map(|weights| weights.len_bytes()).sum(),
        weights: weights.iter().flatten().map(|weights| encoding_name(weights.encoding)).collect(),
        live_end: record.live_end,
        scratch_bytes: scratch_bytes(&record.op, named.each_ref(), packed, tiling),
    }
}

fn row_line(row: &Row) -> RowLine {
    RowLine {
        timestep: row.timestep,
        advance: row.advance,
        shallow: is_shallow(row),
        clip: match row.clip {
            Clip::None => "none".into(),
            Clip::Range(range) => format!("±{range}"),
            Clip::Dynamic { ratio, max } => format!("quantile {ratio}, at most {max}"),
        },
        p: row.p,
        q: row.q,
        r: row.r,
        s: row.s,
        a: row.a,
        b: row.b,
        c: row.c,
        d: row.d,
        e: row.e,
    }
}

fn sections(bytes: &[u8], header: &Header) -> Vec<SectionLine> {
    let record_bytes = |name| match name {
        tag::TENSORS => Some(Tensor::BYTES),
        tag::QUANTS => Some(mote_runtime::format::Quant::BYTES),
        tag::WEIGHTS => Some(mote_runtime::format::Weights::BYTES),
        tag::OPS => Some(OpRecord::BYTES),
        tag::GRAPHS => Some(mote_runtime::format::Graph::BYTES),
        tag::ROWS => Some(Row::BYTES),
        tag::SCHEDULES => Some(mote_runtime::format::Schedule::BYTES),
        tag::BLOCKS => Some(4),
        tag::SELF_TEST => Some(SelfTest::BYTES),
        _ => None,
    };
    let directory = bytes.get(Header::BYTES..).unwrap_or_default();
    let entries = directory.chunks_exact(Section::BYTES).take(usize::from(header.sections)).map(Section::decode);
    entries
        .map(|Section { tag, offset, bytes }| SectionLine {
            tag: tag.escape_ascii().to_string(),
            offset,
            bytes,
            records: record_bytes(tag).map(|record| bytes as usize / record),
        })
        .collect()
}

/// From when to when in a full call each tensor's bytes are in use. Carried tensors live always, but for what the call
/// caches while nothing that shallow calls run is running; the model's output until the call's end.
fn lives(model: &Model, records: &[OpRecord], full: &[usize], shallow: Option<&[usize]>) -> Vec<Life> {
    let records: Vec<&OpRecord> = full.iter().map(|&op| &records[op]).collect();
    let last = records.len().saturating_sub(1);
    let deep = |at: &usize| shallow.is_some_and(|shallow| !shallow.contains(&full[*at]));
    let cached = model.header().cached[0];
    let kept = [model.header().uncond].into_iter().chain(model.header().history);
    let kept: Vec<u16> = kept.chain((0..model.graph_count()).map(|graph| model.graph(graph).input)).collect();
    let outputs: Vec<u16> = (0..model.graph_count()).map(|graph| model.graph(graph).output).collect();
    let life = |id: u16| {
        let tensor = model.tensor(id);
        let written = records.iter().position(|record| record.op.out() == id);
        let read = records.iter().rposition(|record| record.op.inputs().contains(&id));
        let always = tensor.carried || kept.contains(&id);
        let (first, end) = match (always, written) {
            (true, _) => (0, last),
            (false, Some(first)) => {
                (first, if outputs.contains(&id) { last } else { read.unwrap_or(first).max(first) })
            }
            (false, None) => return Vec::new(),
        };
        let whole = Life { bytes: tensor.range(), ops: first..=end, always };
        match (written, (0..=last).find(deep)) {
            (Some(written), Some(idle)) if id == cached && idle > 0 => {
                vec![Life { ops: 0..=idle - 1, ..whole.clone() }, Life { ops: written..=last, ..whole }]
            }
            _ => vec![whole],
        }
    };
    (0..model.tensor_count()).flat_map(|id| life(id as u16)).collect()
}
