//! Everything that is checked, once, before a file is believed.
//!
//! After these checks nothing derived from the file can leave bounds or overflow: offsets lie in the payload, tensors
//! in an arena of less than 2³¹ bytes, shapes fit their operators, scales are positive numbers, and every input was
//! written by an earlier operator of its graph. Contents of the payload are not judged: any bytes there are safe.
//!
//! All of it is `const fn`, so that a model in flash is checked by the compiler ([`model!`](crate::model!)): a malformed
//! file does not compile, and the 8 KB of this file are not linked. That is why it has loops and macros where other
//! files have iterators and `?`.

use super::{Model, SECTIONS, section};
use crate::error::{Error, Fault, Record};
use crate::format::cursor::tail;
use crate::format::op::{Attention, Conv, EmbedAdd, EmbedLookup, Modulation, NormApply, NormStats, Op, Table};
use crate::format::{
    Clip, DType, Graph, Header, MAGIC, NONE, OpRecord, Quant, Section, Store, Tensor, VERSION, Weights,
};
use crate::opset::{self, OpSet, links};
use crate::shape::{conv_len, winograd_fits};

/// Most tensors in a file: the order check keeps one bit for each on the stack.
const TENSORS_MAX: usize = 2048;
/// Most elements of a tensor, most arena bytes and most payload bytes: all sums and products of them stay in 32 bits.
const LEN_MAX: u64 = 1 << 30;

type Check = Result<(), Fault>;

/// Ends the function with a fault unless something holds.
macro_rules! ensure {
    ($holds:expr, $fault:ident) => {
        if !$holds {
            return Err(Fault::$fault);
        }
    };
}

/// What `?` does, in a `const fn`.
macro_rules! attempt {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(error) => return Err(error),
        }
    };
}

/// Refuses what needs code that is not linked; nothing at all where it is.
macro_rules! linked {
    ($ops:expr, $bits:ident, $needed:expr) => {
        if !links($ops, opset::$bits) && $needed {
            return Err(Fault::NotLinked);
        }
    };
}

mod order;

use order::{GRAPHS_MAX, cached, graphs_in_use, reuse, touched};

/// The file and its first part: magic, version, lengths.
pub(super) const fn extent(bytes: &[u8]) -> Result<(&[u8], &[u8]), Error> {
    let have = bytes.len() as u32;
    if bytes.len() < 4 {
        return Err(Error::Truncated { have, need: Header::BYTES as u32 });
    }
    if crate::format::cursor::u32_at(bytes, 0) != u32::from_le_bytes(MAGIC) {
        return Err(Error::NotMote);
    }
    if bytes.len() < Header::BYTES {
        return Err(Error::Truncated { have, need: Header::BYTES as u32 });
    }
    let version = crate::format::cursor::u16_at(bytes, 4);
    if version != VERSION {
        return Err(Error::Version { found: version });
    }
    let header = Header::decode(bytes);
    let Some((file, _)) = bytes.split_at_checked(header.file_bytes as usize) else {
        return Err(Error::Truncated { have, need: header.file_bytes });
    };
    let directory = Header::BYTES + header.sections as usize * Section::BYTES;
    match file.split_at_checked(header.meta_bytes as usize) {
        Some((meta, _)) if meta.len() >= directory => Ok((file, meta)),
        _ => Err(Error::Record { kind: Record::Header, index: 0, what: Fault::Range }),
    }
}

/// The section directory of a file whose first part has passed its checksum.
pub(super) const fn container<'a, const OPS: OpSet>(file: &'a [u8], meta: &'a [u8]) -> Result<Model<'a, OPS>, Error> {
    let header = Header::decode(file);
    let directory = Header::BYTES + header.sections as usize * Section::BYTES;
    if !header.meta_bytes.is_multiple_of(16) || file.len() as u64 > LEN_MAX {
        return Err(Error::Record { kind: Record::Header, index: 0, what: Fault::Range });
    }
    let mut model = Model { bytes: file, header, sections: [&[]; SECTIONS.len()], arena_len: 0 };
    let (mut seen, mut index) = (0u32, 0);
    while index < header.sections as u32 {
        let section = Section::decode(tail(meta, Header::BYTES + index as usize * Section::BYTES));
        let (kind, bytes) = (Record::Section, section.bytes as usize);
        let body = match tail(meta, section.offset as usize).split_at_checked(bytes) {
            Some((body, _)) if section.offset as usize >= directory => body,
            _ => return Err(Error::Record { kind, index, what: Fault::Range }),
        };
        if !section.offset.is_multiple_of(4) {
            return Err(Error::Record { kind, index, what: Fault::Alignment });
        }
        let mut slot = 0;
        while slot < SECTIONS.len() && u32::from_le_bytes(SECTIONS[slot].0) != u32::from_le_bytes(section.tag) {
            slot += 1;
        }
        if slot < SECTIONS.len() {
            if seen & (1 << slot) != 0 {
                return Err(Error::Section { tag: section.tag });
            }
            if !bytes.is_multiple_of(SECTIONS[slot].1) {
                return Err(Error::Record { kind, index, what: Fault::Range });
            }
            seen |= 1 << slot;
            model.sections[slot] = body;
        } else if !section.tag[0].is_ascii_lowercase() {
            return Err(Error::Section { tag: section.tag });
        }
        index += 1;
    }
    let mut slot = 0;
    while slot < SECTIONS.len() {
        // The rule of the format: lower-case sections are optional.
        if seen & (1 << slot) == 0 && !SECTIONS[slot].0[0].is_ascii_lowercase() {
            return Err(Error::Section { tag: SECTIONS[slot].0 });
        }
        slot += 1;
    }
    let payload_bytes = header.file_bytes - header.meta_bytes;
    let blocks = model.sections[section::BLOCKS].len() / 4;
    if header.block_bytes == 0 || blocks != payload_bytes.div_ceil(header.block_bytes) as usize {
        return Err(Error::Section { tag: SECTIONS[section::BLOCKS].0 });
    }
    Ok(model)
}

/// Every record.
pub(super) const fn records<const OPS: OpSet>(model: &Model<'_, OPS>) -> Result<(), Error> {
    let counts = [
        (Record::Tensor, model.tensor_count()),
        (Record::Weights, model.weights_count()),
        (Record::Op, model.op_count()),
        (Record::Graph, model.graph_count()),
        (Record::Header, 1),
        (Record::Row, model.row_count()),
        (Record::Schedule, model.schedule_count()),
    ];
    let few = model.tensor_count() <= TENSORS_MAX && model.graph_count() <= GRAPHS_MAX;
    if !few || model.row_count() > u16::MAX as usize {
        return Err(Error::Record { kind: Record::Header, index: 0, what: Fault::Range });
    }
    let mut graphs = [0; GRAPHS_MAX];
    let mut i = 0;
    while i < counts.len() {
        let (kind, count) = counts[i];
        if matches!(kind, Record::Schedule) {
            // Rows and graphs are in range by now.
            attempt!(graphs_in_use(model, &mut graphs));
        }
        // Every kind but the weights is there at least once: this finds the missing one.
        let mut index = 0;
        while index < count || index == 0 && !matches!(kind, Record::Weights) {
            let checked = match kind {
                _ if index >= count => Err(Fault::Range),
                Record::Tensor => tensor(model, index),
                Record::Weights => weights(model, index),
                Record::Op => op(model, index),
                Record::Graph => graph(model, &model.graph(index)),
                Record::Header | Record::Section | Record::Quant => header(model),
                Record::Row => row(model, index),
                Record::Schedule => schedule(model, index, &graphs),
            };
            if let Err(what) = checked {
                return Err(Error::Record { kind, index: index as u32, what });
            }
            index += 1;
        }
        i += 1;
    }
    Ok(())
}

const fn tensor<const OPS: OpSet>(model: &Model<'_, OPS>, index: usize) -> Check {
    let record = tail(model.sections[section::TENSORS], index * Tensor::BYTES);
    let Some(tensor) = Tensor::decode(record) else { return Err(Fault::Unknown) };
    ensure!(tensor.h > 0 && tensor.w > 0 && tensor.c > 0, Shape);
    let elems = tensor.h as u64 * tensor.w as u64 * tensor.c as u64;
    let end = tensor.offset as u64 + elems * tensor.dtype.bytes() as u64;
    ensure!(elems <= LEN_MAX / 4 && end <= LEN_MAX, Range);
    ensure!((tensor.offset as usize).is_multiple_of(Tensor::ALIGN), Alignment);
    if matches!(tensor.dtype, DType::F32) {
        return Ok(());
    }
    let count = if tensor.per_step { model.row_count() } else { 1 };
    let end = tensor.quant as u64 + count as u64;
    ensure!(end <= (model.sections[section::QUANTS].len() / Quant::BYTES) as u64, Range);
    let mut row = 0;
    while row < count {
        ensure!(model.quant(&tensor, row).is_valid(tensor.dtype), Number);
        row += 1;
    }
    Ok(())
}

/// A blob of `len` elements of `size` bytes inside the payload.
const fn blob<const OPS: OpSet>(model: &Model<'_, OPS>, offset: u32, len: u64, size: u64) -> Check {
    ensure!(offset.is_multiple_of(4), Alignment);
    let fits = len <= LEN_MAX && offset as u64 + len * size <= model.header.file_bytes as u64;
    ensure!(offset >= model.header.meta_bytes && fits, Range);
    Ok(())
}

const fn weights<const OPS: OpSet>(model: &Model<'_, OPS>, index: usize) -> Check {
    let Some(weights) = model.weights(index as u16) else { return Err(Fault::Unknown) };
    ensure!(weights.rows > 0 && weights.row_elems > 0, Shape);
    ensure!((weights.row_elems as u64) < LEN_MAX / 2, Range);
    let blocks = (weights.rows as u64).div_ceil(Weights::BLOCK_ROWS as u64);
    attempt!(blob(model, weights.offset, blocks * weights.four_rows_bytes() as u64, 1));
    blob(model, weights.params, weights.rows as u64, Weights::PARAM_BYTES as u64)
}

const fn is_step(x: f32) -> bool {
    x.is_normal() && x > 0.0
}

const fn table<const OPS: OpSet>(model: &Model<'_, OPS>, table: &Table) -> Check {
    ensure!(is_step(table.in_step) && is_step(table.out_step), Number);
    blob(model, table.offset, Table::LEN as u64, 2)
}

/// Sets of element types, one bit each.
const I8: u32 = 1 << DType::I8 as u32;
const I16: u32 = 1 << DType::I16 as u32;
const F32: u32 = 1 << DType::F32 as u32;
const INT: u32 = I8 | I16;

/// The tensor `id`, which must exist and have one of `types`.
const fn operand<const OPS: OpSet>(model: &Model<'_, OPS>, id: u16, types: u32) -> Result<Tensor, Fault> {
    ensure!((id as usize) < model.tensor_count(), Range);
    let tensor = model.tensor(id);
    ensure!(types & 1 << tensor.dtype as u32 != 0, Type);
    Ok(tensor)
}

const fn is_i16(tensor: &Tensor) -> bool {
    matches!(tensor.dtype, DType::I16)
}

const fn same_shape(a: &Tensor, b: &Tensor) -> Check {
    ensure!(a.h == b.h && a.w == b.w && a.c == b.c, Shape);
    Ok(())
}

const fn vector(tensor: &Tensor, len: usize) -> Check {
    ensure!(tensor.h == 1 && tensor.w == 1 && tensor.c as usize == len, Shape);
    Ok(())
}

/// Vectors of a table that has one for each row and class.
const fn vectors<const OPS: OpSet>(model: &Model<'_, OPS>) -> u64 {
    let classes = if model.header.classes == 0 { 1 } else { model.header.classes };
    model.row_count() as u64 * classes as u64
}

const fn modulation<const OPS: OpSet>(model: &Model<'_, OPS>, modulation: Modulation, len: usize) -> Check {
    match modulation {
        Modulation::None => Ok(()),
        Modulation::Table(offset) => {
            linked!(OPS, MODULATION_TABLE, true);
            blob(model, offset, vectors(model) * len as u64, 2)
        }
        Modulation::Tensor(id) => {
            linked!(OPS, MODULATION_TENSOR, true);
            vector(&attempt!(operand(model, id, F32)), len)
        }
    }
}

const fn op<const OPS: OpSet>(model: &Model<'_, OPS>, index: usize) -> Check {
    let Some(OpRecord { op, live_end }) = model.op(index) else { return Err(Fault::Unknown) };
    match op {
        Op::Quantize { input, out, mul, add } => {
            ensure!(mul.is_finite() && add.is_finite(), Number);
            let out = attempt!(operand(model, out, INT));
            linked!(OPS, OUT_I16, is_i16(&out));
            attempt!(same_shape(&attempt!(operand(model, input, F32)), &out));
        }
        Op::Conv(op) => attempt!(conv(model, &op)),
        Op::NormStats(NormStats { sources, out, groups, eps }) if links(OPS, opset::NORM) => {
            ensure!(eps.is_finite() && eps >= 0.0, Number);
            attempt!(norm_sources(model, sources, groups));
            attempt!(vector(&attempt!(operand(model, out, F32)), 2 * groups as usize));
        }
        Op::NormApply(op) if links(OPS, opset::NORM) => {
            let channels = attempt!(norm_sources(model, op.sources, op.groups));
            attempt!(vector(&attempt!(operand(model, op.stats, F32)), 2 * op.groups as usize));
            let first = attempt!(operand(model, op.sources[0], INT));
            let out = attempt!(operand(model, op.out, I8));
            linked!(OPS, NORM_MODULATED, !matches!(op.modulation, Modulation::None));
            linked!(OPS, NORM_IN_PLACE, first.offset == out.offset);
            ensure!(first.h == out.h && first.w == out.w && out.c as usize == channels, Shape);
            attempt!(blob(model, op.affine, 2 * channels as u64, 4));
            attempt!(modulation(model, op.modulation, 2 * channels));
            if let Some(activation) = &op.table {
                attempt!(table(model, activation));
            }
        }
        Op::Attention(Attention { qkv: [q, k, v], out, heads, scale, exp_table }) if links(OPS, opset::ATTENTION) => {
            let out = attempt!(operand(model, out, I8));
            let q = attempt!(operand(model, q, I8));
            attempt!(same_shape(&q, &out));
            attempt!(same_shape(&attempt!(operand(model, k, I8)), &out));
            attempt!(same_shape(&attempt!(operand(model, v, I8)), &out));
            ensure!(heads > 0 && out.c.is_multiple_of(heads), Shape);
            ensure!(scale.is_finite() && scale > 0.0, Number);
            let mut row = if q.per_step { model.row_count() } else { 1 };
            while row > 0 {
                row -= 1;
                ensure!(model.quant(&q, row).zero_point == 0, Number);
            }
            attempt!(blob(model, exp_table, 128, 2));
        }
        Op::AvgPool { input, out } if links(OPS, opset::AVG_POOL) => {
            attempt!(resampling(model, input, out));
            let (long, short) = (model.tensor(input), model.tensor(out));
            ensure!(long.h / 2 == short.h && long.w / 2 == short.w, Shape);
        }
        Op::Upsample { input, out } if links(OPS, opset::UPSAMPLE) => {
            attempt!(resampling(model, input, out));
            let (short, long) = (model.tensor(input), model.tensor(out));
            ensure!(long.h / 2 == short.h && long.w / 2 == short.w, Shape);
            ensure!(long.h.is_multiple_of(2) && long.w.is_multiple_of(2), Shape);
        }
        Op::EmbedLookup(EmbedLookup { out, table }) if links(OPS, opset::EMBED_LOOKUP) => {
            let out = attempt!(operand(model, out, I16));
            attempt!(vector(&out, out.c as usize));
            attempt!(blob(model, table, vectors(model) * out.c as u64, 2));
        }
        Op::EmbedAdd(EmbedAdd { vector: given, out, steps, table: activation }) if links(OPS, opset::EMBED_ADD) => {
            let out = attempt!(operand(model, out, I16));
            attempt!(vector(&out, out.c as usize));
            attempt!(same_shape(&attempt!(operand(model, given, F32)), &out));
            attempt!(blob(model, steps, model.row_count() as u64 * out.c as u64, 4));
            attempt!(table(model, &activation));
        }
        Op::NormStats(_) | Op::NormApply(_) | Op::Attention(_) | Op::AvgPool { .. } | Op::Upsample { .. } => {
            return Err(Fault::NotLinked);
        }
        Op::EmbedLookup(_) | Op::EmbedAdd(_) => return Err(Fault::NotLinked),
    }
    placement(model, &op, live_end)
}

/// What halving and doubling have in common: type, channels and quantization stay.
const fn resampling<const OPS: OpSet>(model: &Model<'_, OPS>, input: u16, out: u16) -> Check {
    let (a, b) = (attempt!(operand(model, input, INT)), attempt!(operand(model, out, INT)));
    linked!(OPS, OUT_I16, is_i16(&b));
    ensure!(a.c == b.c, Shape);
    ensure!(a.dtype as u8 == b.dtype as u8 && a.quant == b.quant && a.per_step == b.per_step, Type);
    Ok(())
}

/// Returns the channels of all sources together.
const fn norm_sources<const OPS: OpSet>(
    model: &Model<'_, OPS>,
    sources: [u16; 2],
    groups: u16,
) -> Result<usize, Fault> {
    let first = attempt!(operand(model, sources[0], INT));
    let mut channels = first.c as usize;
    let mut wide = is_i16(&first);
    if sources[1] != NONE {
        linked!(OPS, NORM_TWO, true);
        let second = attempt!(operand(model, sources[1], INT));
        ensure!(first.h == second.h && first.w == second.w, Shape);
        channels += second.c as usize;
        wide |= is_i16(&second);
    }
    linked!(OPS, NORM_I16, wide);
    ensure!(groups > 0 && channels.is_multiple_of(groups as usize) && channels <= u16::MAX as usize, Shape);
    // N·Σq² of a group stays below 2⁶⁴: N²·2³⁰ for I16, N²·2¹⁴ for I8.
    let group_elems = first.h as u64 * first.w as u64 * (channels / groups as usize) as u64;
    ensure!(group_elems <= if wide { 1 << 16 } else { 1 << 24 }, Shape);
    Ok(channels)
}

const fn conv<const OPS: OpSet>(model: &Model<'_, OPS>, op: &Conv) -> Check {
    let out = attempt!(operand(model, op.out, INT | F32));
    let [kh, kw] = op.kernel;
    ensure!(kh >= 1 && kh <= 15 && kw >= 1 && kw <= 15 && op.stride >= 1 && op.stride <= 15, Shape);
    ensure!(op.pad[0] <= 15 && op.pad[1] <= 15, Shape);
    linked!(OPS, CONV_TWO, op.sources[1] != NONE);
    linked!(OPS, CONV_UPSAMPLED, op.upsample);
    linked!(OPS, OUT_I16, is_i16(&out));
    linked!(OPS, RESIDUAL, op.residual != NONE);
    let mut k = 0;
    while k < 2 && (k == 0 || op.sources[1] != NONE) {
        let source = attempt!(operand(model, op.sources[k], INT));
        linked!(OPS, CONV_I8, !is_i16(&source));
        linked!(OPS, CONV_I16, is_i16(&source));
        linked!(OPS, CONV_ODD, !source.c.is_multiple_of(4));
        let Some(weights) = model.weights(op.weights[k]) else { return Err(Fault::Range) };
        linked!(OPS, WEIGHTS_I4, weights.encoding.is_packed());
        ensure!(weights.rows == out.c, Shape);
        ensure!(weights.row_elems == kh as u32 * kw as u32 * source.c as u32, Shape);
        let up = op.upsample as usize;
        ensure!(fits((source.h as usize) << up, kh, op.stride, op.pad[0], out.h), Shape);
        ensure!(fits((source.w as usize) << up, kw, op.stride, op.pad[1], out.w), Shape);
        k += 1;
    }
    if op.winograd {
        linked!(OPS, WINOGRAD, true);
        ensure!(winograd_fits(op, &model.tensor(op.sources[0]), &out), Shape);
    }
    if op.residual != NONE {
        ensure!(!matches!(out.dtype, DType::F32), Type);
        ensure!(op.residual_scale.is_finite(), Number);
        let residual = attempt!(operand(model, op.residual, INT));
        linked!(OPS, RESIDUAL_I16, is_i16(&residual));
        attempt!(same_shape(&residual, &out));
    }
    attempt!(blob(model, op.bias, out.c as u64, 4));
    modulation(model, op.modulation, out.c as usize)
}

/// Whether an output of this length is possible. The padding after the input follows from it; it is at most 15 too.
const fn fits(input: usize, kernel: u8, stride: u8, pad: u8, out: u16) -> bool {
    let least = conv_len(input, kernel as usize, stride as usize, pad as usize, 0);
    let most = conv_len(input, kernel as usize, stride as usize, pad as usize, 15);
    out as usize >= least && out >= 1 && out as usize <= most
}

const fn apart(a: &Tensor, b: &Tensor) -> bool {
    let (a, b) = (a.range(), b.range());
    a.end <= b.start || b.end <= a.start
}

/// An operator's tensors lie apart from each other and below its scratch; the output may be an input in place.
const fn placement<const OPS: OpSet>(model: &Model<'_, OPS>, op: &Op, live_end: u32) -> Check {
    ensure!((live_end as usize).is_multiple_of(Tensor::ALIGN) && live_end as u64 <= LEN_MAX, Alignment);
    let out = model.tensor(op.out());
    ensure!(out.range().end <= live_end as usize, Range);
    let in_place = match *op {
        Op::Conv(Conv { residual, .. }) => residual,
        Op::NormApply(NormApply { sources: [first, NONE], .. }) if matches!(model.tensor(first).dtype, DType::I8) => {
            first
        }
        _ => NONE,
    };
    // One tensor in two places is read through two slices, so only the norms, which know of it, take it.
    let twice_is_fine = matches!(op, Op::NormStats(_) | Op::NormApply(_));
    let inputs = op.inputs();
    let mut i = 0;
    while i < inputs.len() {
        let (id, input) = (inputs[i], model.tensor(inputs[i]));
        i += 1;
        if id == NONE {
            continue;
        }
        ensure!(input.range().end <= live_end as usize, Range);
        let same = id == in_place && input.offset == out.offset && input.len_bytes() == out.len_bytes();
        ensure!(same && input.dtype as u8 == out.dtype as u8 || apart(&input, &out), Overlap);
        let mut j = i;
        while j < inputs.len() {
            if inputs[j] == id {
                ensure!(twice_is_fine, Overlap);
            } else if inputs[j] != NONE {
                ensure!(apart(&input, &model.tensor(inputs[j])), Overlap);
            }
            j += 1;
        }
    }
    Ok(())
}

/// A graph's record by itself; its operators' order is [`order`]'s.
const fn graph<const OPS: OpSet>(model: &Model<'_, OPS>, graph: &Graph) -> Check {
    ensure!(graph.ops > 0 && graph.first_op as usize + graph.ops as usize <= model.op_count(), Range);
    // One state serves all graphs: it begins in the first one's tensors, and is shown from there.
    let first = model.graph(0);
    let one_state = graph.input == first.input && graph.output == first.output;
    ensure!(one_state && graph.class_embedding == first.class_embedding, Type);
    let input = attempt!(operand(model, graph.input, F32));
    attempt!(same_shape(&input, &attempt!(operand(model, graph.output, F32))));
    ensure!(input.carried, Type);
    if graph.class_embedding != NONE {
        linked!(OPS, EMBED_ADD, true);
        let given = attempt!(operand(model, graph.class_embedding, F32));
        ensure!(given.carried, Type);
        attempt!(vector(&given, given.c as usize));
    }
    // It ends: no more pieces than there are graphs.
    let (mut next, mut pieces) = (graph.next, 1);
    while next != NONE {
        linked!(OPS, REUSE, true);
        ensure!((next as usize) < model.graph_count() && pieces < model.graph_count(), Range);
        next = model.graph(next as usize).next;
        pieces += 1;
    }
    Ok(())
}

/// What the sampler keeps besides the cached tensors: input and output of a graph, the unconditional output, the history.
const fn sampler_tensors<const OPS: OpSet>(model: &Model<'_, OPS>, graph: &Graph) -> [u16; 7] {
    let [a, b, c, d] = model.header.history;
    [graph.input, graph.output, model.header.uncond, a, b, c, d]
}

const fn header<const OPS: OpSet>(model: &Model<'_, OPS>) -> Check {
    let header = &model.header;
    let input = model.tensor(model.graph(0).input);
    if header.null_class != NONE {
        linked!(OPS, GUIDANCE, true);
        ensure!(header.null_class < header.classes, Range);
        ensure!(header.uncond != NONE, Range);
    }
    attempt!(cached(model));
    let mut index = 0;
    while index < model.graph_count() {
        let kept = sampler_tensors(model, &model.graph(index));
        attempt!(same_shape(&model.tensor(kept[0]), &input));
        let mut i = 0;
        while i < kept.len() {
            // Behind input and output come the sampler's own, the history from place 3 on.
            if i >= 2 && kept[i] != NONE {
                attempt!(same_shape(&attempt!(operand(model, kept[i], F32)), &input));
                if i >= 3 {
                    linked!(OPS, HISTORY, true);
                    ensure!(model.tensor(kept[i]).carried, Type);
                }
            }
            // All of them are used together.
            let mut j = 0;
            while j < i {
                if kept[i] != NONE && kept[j] != NONE && kept[i] != kept[j] {
                    ensure!(apart(&model.tensor(kept[i]), &model.tensor(kept[j])), Overlap);
                }
                j += 1;
            }
            i += 1;
        }
        index += 1;
    }
    Ok(())
}

const fn row<const OPS: OpSet>(model: &Model<'_, OPS>, index: usize) -> Check {
    let Some(row) = model.row(index) else { return Err(Fault::Number) };
    linked!(OPS, CLIP_DYNAMIC, matches!(row.clip, Clip::Dynamic { .. }));
    ensure!((row.graph as usize) < model.graph_count() && row.is_valid(), Number);
    ensure!((row.null_graph as usize) < model.graph_count(), Number);
    linked!(OPS, REUSE, row.null_graph != row.graph);
    ensure!(row.null_graph == row.graph || model.header.null_class != NONE, Number);
    // It reads and writes only history slots that exist.
    let history = &model.header.history;
    let mut slot = 0;
    while slot < history.len() {
        let stores = !matches!(row.store, Store::None) && row.store_slot as usize == slot;
        ensure!(history[slot] != NONE || row.e[slot] == 0.0 && !stores, Number);
        slot += 1;
    }
    Ok(())
}

const fn schedule<const OPS: OpSet>(model: &Model<'_, OPS>, index: usize, graphs: &[u8; GRAPHS_MAX]) -> Check {
    let schedule = model.schedule(index);
    let end = schedule.first_row as usize + schedule.rows as usize;
    ensure!(schedule.rows > 0 && end <= model.row_count(), Range);
    let (mut at, mut steps, mut advances) = (schedule.first_row as usize, 0, false);
    let Some(first) = model.row(at) else { return Err(Fault::Number) };
    let first = touched(model, graphs, &first);
    while at < end {
        let Some(row) = model.row(at) else { return Err(Fault::Number) };
        attempt!(reuse(first, touched(model, graphs, &row)));
        advances = row.advance;
        steps += advances as usize;
        at += 1;
    }
    ensure!(steps == schedule.steps as usize && advances, Range);
    Ok(())
}
