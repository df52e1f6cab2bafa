//! Everything that is checked, once, before a file is believed.
//!
//! After these checks nothing derived from the file can leave bounds or overflow: offsets lie in the payload, tensors
//! in an arena of less than 2³¹ bytes, shapes fit their operators, scales are positive numbers, and every input was
//! written by an earlier operator of its graph. Contents of the payload are not judged: any bytes there are safe.

use super::Model;
use crate::error::{Error, Fault, Record};
use crate::format::checksum::{crc32, meta_crc};
use crate::format::op::{Attention, Conv, EmbedAdd, EmbedLookup, Modulation, NormApply, NormStats, Op, Table};
use crate::format::{
    Clip, DType, Graph, Header, MAGIC, NONE, OpRecord, Quant, Row, Schedule, Section, SelfTest, Tensor, VERSION,
    Weights, tag,
};
use crate::opset::{self, OpSet, links};
use crate::shape::conv_len;

/// Most tensors in a file: the order check keeps one bit for each on the stack.
const TENSORS_MAX: usize = 2048;
/// Most elements of a tensor, most arena bytes and most payload bytes: all sums and products of them stay in 32 bits.
const LEN_MAX: u64 = 1 << 30;

type Check = Result<(), Fault>;

fn ensure(holds: bool, fault: Fault) -> Check {
    if holds { Ok(()) } else { Err(fault) }
}

/// Refuses what needs code that is not linked; nothing at all where it is.
fn linked<const OPS: OpSet>(bits: OpSet, needed: bool) -> Check {
    ensure(links(OPS, bits) || !needed, Fault::NotLinked)
}

/// Header, section directory, checksum of both and of the records.
pub(super) fn container<const OPS: OpSet>(bytes: &[u8]) -> Result<Model<'_, OPS>, Error> {
    if bytes.get(..4).is_none_or(|magic| magic != MAGIC) {
        return Err(if bytes.len() < 4 {
            Error::Truncated { have: bytes.len() as u32, need: Header::BYTES as u32 }
        } else {
            Error::NotMote
        });
    }
    let truncated = |need: usize| Error::Truncated { have: bytes.len() as u32, need: need as u32 };
    if bytes.len() < Header::BYTES {
        return Err(truncated(Header::BYTES));
    }
    if !(bytes.as_ptr() as usize).is_multiple_of(4) {
        return Err(Error::Unaligned);
    }
    let version = crate::format::cursor::u16_at(bytes, 4);
    if version != VERSION {
        return Err(Error::Version { found: version });
    }
    let header = Header::decode(bytes);
    let Some(file) = bytes.get(..header.file_bytes as usize) else { return Err(truncated(header.file_bytes as usize)) };
    let malformed = |what| Error::Record { kind: Record::Header, index: 0, what };
    let directory = Header::BYTES + header.sections as usize * Section::BYTES;
    let Some(meta) = file.get(..header.meta_bytes as usize).filter(|meta| meta.len() >= directory) else {
        return Err(malformed(Fault::Range));
    };
    if meta_crc(meta) != header.meta_crc {
        return Err(Error::MetaChecksum);
    }
    if !header.meta_bytes.is_multiple_of(16) || header.file_bytes as u64 > LEN_MAX {
        return Err(malformed(Fault::Range));
    }

    let mut model = Model {
        bytes: file,
        header,
        tensors: &[],
        quants: &[],
        weights: &[],
        ops: &[],
        graphs: &[],
        rows: &[],
        schedules: &[],
        blocks: &[],
        info: &[],
        self_test: &[],
    };
    let mut seen = 0u32;
    for (index, entry) in meta.get(Header::BYTES..directory).unwrap_or(&[]).chunks_exact(Section::BYTES).enumerate() {
        let section = Section::decode(entry);
        let malformed = |what| Error::Record { kind: Record::Section, index: index as u32, what };
        let range = section.offset as usize..section.offset as usize + section.bytes as usize;
        let body = meta.get(range).filter(|_| section.offset as usize >= directory).ok_or(malformed(Fault::Range))?;
        if !section.offset.is_multiple_of(4) {
            return Err(malformed(Fault::Alignment));
        }
        let (slot, record_bytes, bit) = match section.tag {
            tag::TENSORS => (&mut model.tensors, Tensor::BYTES, 0),
            tag::QUANTS => (&mut model.quants, Quant::BYTES, 1),
            tag::WEIGHTS => (&mut model.weights, Weights::BYTES, 2),
            tag::OPS => (&mut model.ops, OpRecord::BYTES, 3),
            tag::GRAPHS => (&mut model.graphs, Graph::BYTES, 4),
            tag::ROWS => (&mut model.rows, Row::BYTES, 5),
            tag::SCHEDULES => (&mut model.schedules, Schedule::BYTES, 6),
            tag::BLOCKS => (&mut model.blocks, 4, 7),
            tag::INFO => (&mut model.info, 1, 8),
            tag::SELF_TEST => (&mut model.self_test, SelfTest::BYTES, 9),
            [first, ..] if first.is_ascii_lowercase() => continue,
            tag => return Err(Error::Section { tag }),
        };
        if seen & (1 << bit) != 0 {
            return Err(Error::Section { tag: section.tag });
        }
        seen |= 1 << bit;
        if !body.len().is_multiple_of(record_bytes) {
            return Err(malformed(Fault::Range));
        }
        *slot = body;
    }
    let required =
        [tag::TENSORS, tag::QUANTS, tag::WEIGHTS, tag::OPS, tag::GRAPHS, tag::ROWS, tag::SCHEDULES, tag::BLOCKS];
    for (bit, tag) in required.into_iter().enumerate() {
        if seen & (1 << bit) == 0 {
            return Err(Error::Section { tag });
        }
    }
    let payload_bytes = header.file_bytes - header.meta_bytes;
    let blocks = model.blocks.len() / 4;
    if header.block_bytes == 0 || blocks != (payload_bytes as usize).div_ceil(header.block_bytes as usize) {
        return Err(Error::Section { tag: tag::BLOCKS });
    }
    Ok(model)
}

/// The checksum of every payload block.
pub(super) fn payload<const OPS: OpSet>(model: &Model<'_, OPS>) -> Result<(), Error> {
    let payload = model.bytes.get(model.header.meta_bytes as usize..).unwrap_or(&[]);
    for (index, block) in payload.chunks(model.header.block_bytes.max(1) as usize).enumerate() {
        if crc32(block) != crate::format::cursor::u32_at(model.blocks, 4 * index) {
            return Err(Error::PayloadChecksum { block: index as u32 });
        }
    }
    Ok(())
}

/// Every record.
pub(super) fn records<const OPS: OpSet>(model: &Model<'_, OPS>) -> Result<(), Error> {
    let at = |kind, index: usize| move |what| Error::Record { kind, index: index as u32, what };
    if model.tensor_count() > TENSORS_MAX || model.row_count() > u16::MAX as usize {
        return Err(at(Record::Header, 0)(Fault::Range));
    }
    for (i, record) in model.tensors.chunks_exact(Tensor::BYTES).enumerate() {
        tensor(model, record).map_err(at(Record::Tensor, i))?;
    }
    for (i, record) in model.weights.chunks_exact(Weights::BYTES).enumerate() {
        weights(model, record).map_err(at(Record::Weights, i))?;
    }
    for i in 0..model.op_count() {
        op(model, i).map_err(at(Record::Op, i))?;
    }
    if model.graph_count() == 0 {
        return Err(at(Record::Graph, 0)(Fault::Range));
    }
    for i in 0..model.graph_count() {
        graph(model, &model.graph(i)).map_err(at(Record::Graph, i))?;
    }
    header(model).map_err(at(Record::Header, 0))?;
    for i in 0..model.row_count() {
        let dynamic = model.row(i).is_some_and(|row| matches!(row.clip, Clip::Dynamic { .. }));
        linked::<OPS>(opset::CLIP_DYNAMIC, dynamic).map_err(at(Record::Row, i))?;
        let valid = model
            .row(i)
            .is_some_and(|row| (row.graph as usize) < model.graph_count() && row.is_valid() && history(model, &row));
        ensure(valid, Fault::Number).map_err(at(Record::Row, i))?;
    }
    if model.schedules().next().is_none() {
        return Err(at(Record::Schedule, 0)(Fault::Range));
    }
    for (i, schedule) in model.schedules().enumerate() {
        let end = schedule.first_row as usize + schedule.rows as usize;
        let steps =
            (schedule.first_row as usize..end).filter(|&row| model.row(row).is_some_and(|row| row.advance)).count();
        let last_advances = end.checked_sub(1).and_then(|last| model.row(last)).is_some_and(|row| row.advance);
        let valid = schedule.rows > 0 && end <= model.row_count() && steps == schedule.steps as usize && last_advances;
        ensure(valid, Fault::Range).map_err(at(Record::Schedule, i))?;
    }
    Ok(())
}

fn tensor<const OPS: OpSet>(model: &Model<'_, OPS>, record: &[u8]) -> Check {
    let tensor = Tensor::decode(record).ok_or(Fault::Unknown)?;
    ensure(tensor.h > 0 && tensor.w > 0 && tensor.c > 0, Fault::Shape)?;
    let elems = tensor.h as u64 * tensor.w as u64 * tensor.c as u64;
    ensure(
        elems <= LEN_MAX / 4 && tensor.offset as u64 + elems * tensor.dtype.bytes() as u64 <= LEN_MAX,
        Fault::Range,
    )?;
    ensure((tensor.offset as usize).is_multiple_of(Tensor::ALIGN), Fault::Alignment)?;
    if tensor.dtype == DType::F32 {
        return Ok(());
    }
    let count = if tensor.per_step { model.row_count() } else { 1 };
    let end = tensor.quant as u64 + count as u64;
    ensure(end <= (model.quants.len() / Quant::BYTES) as u64, Fault::Range)?;
    ensure((0..count).all(|row| model.quant(&tensor, row).is_valid(tensor.dtype)), Fault::Number)
}

/// A blob of `len` elements of `size` bytes inside the payload.
fn blob<const OPS: OpSet>(model: &Model<'_, OPS>, offset: u32, len: u64, size: u64) -> Check {
    ensure(offset.is_multiple_of(4), Fault::Alignment)?;
    let inside = offset >= model.header.meta_bytes
        && len <= LEN_MAX
        && offset as u64 + len * size <= model.header.file_bytes as u64;
    ensure(inside, Fault::Range)
}

fn weights<const OPS: OpSet>(model: &Model<'_, OPS>, record: &[u8]) -> Check {
    let weights = Weights::decode(record).ok_or(Fault::Unknown)?;
    ensure(weights.rows > 0 && weights.row_elems > 0, Fault::Shape)?;
    ensure((weights.row_elems as u64) < LEN_MAX / 2, Fault::Range)?;
    blob(model, weights.offset, weights.rows.next_multiple_of(4) as u64 * weights.row_bytes() as u64, 1)?;
    blob(model, weights.params, weights.rows as u64, Weights::PARAM_BYTES as u64)
}

fn table<const OPS: OpSet>(model: &Model<'_, OPS>, table: &Table) -> Check {
    let step = |x: f32| x.is_normal() && x > 0.0;
    ensure(step(table.in_step) && step(table.out_step), Fault::Number)?;
    blob(model, table.offset, Table::LEN as u64, 2)
}

/// The tensor `id`, which must exist and have one of `types`.
fn operand<const OPS: OpSet>(model: &Model<'_, OPS>, id: u16, types: &[DType]) -> Result<Tensor, Fault> {
    ensure((id as usize) < model.tensor_count(), Fault::Range)?;
    let tensor = model.tensor(id);
    ensure(types.contains(&tensor.dtype), Fault::Type)?;
    Ok(tensor)
}

const INT: &[DType] = &[DType::I8, DType::I16];
const I8: &[DType] = &[DType::I8];
const I16: &[DType] = &[DType::I16];
const F32: &[DType] = &[DType::F32];

fn same_shape(a: &Tensor, b: &Tensor) -> Check {
    ensure(a.h == b.h && a.w == b.w && a.c == b.c, Fault::Shape)
}

fn vector(tensor: &Tensor, len: usize) -> Check {
    ensure(tensor.h == 1 && tensor.w == 1 && tensor.c as usize == len, Fault::Shape)
}

fn modulation<const OPS: OpSet>(model: &Model<'_, OPS>, modulation: Modulation, len: usize) -> Check {
    match modulation {
        Modulation::None => Ok(()),
        Modulation::Table(_) if !links(OPS, opset::MODULATION_TABLE) => Err(Fault::NotLinked),
        Modulation::Tensor(_) if !links(OPS, opset::MODULATION_TENSOR) => Err(Fault::NotLinked),
        Modulation::Table(offset) => {
            let vectors = model.row_count() as u64 * model.header.classes.max(1) as u64;
            blob(model, offset, vectors * len as u64, 2)
        }
        Modulation::Tensor(id) => vector(&operand(model, id, F32)?, len),
    }
}

fn op<const OPS: OpSet>(model: &Model<'_, OPS>, index: usize) -> Check {
    let OpRecord { op, live_end } = model.op(index).ok_or(Fault::Unknown)?;
    match op {
        Op::Quantize { input, out, mul, add } => {
            ensure(mul.is_finite() && add.is_finite(), Fault::Number)?;
            let out = operand(model, out, INT)?;
            linked::<OPS>(opset::OUT_I16, out.dtype == DType::I16)?;
            same_shape(&operand(model, input, F32)?, &out)?;
        }
        Op::Conv(op) => conv(model, &op)?,
        Op::NormStats(NormStats { sources, out, groups, eps }) if links(OPS, opset::NORM) => {
            ensure(eps.is_finite() && eps >= 0.0, Fault::Number)?;
            norm_sources(model, sources, groups)?;
            vector(&operand(model, out, F32)?, 2 * groups as usize)?;
        }
        Op::NormApply(op) if links(OPS, opset::NORM) => {
            let channels = norm_sources(model, op.sources, op.groups)?;
            vector(&operand(model, op.stats, F32)?, 2 * op.groups as usize)?;
            let (first, out) = (operand(model, op.sources[0], INT)?, operand(model, op.out, I8)?);
            linked::<OPS>(opset::NORM_MODULATED, op.modulation != Modulation::None)?;
            linked::<OPS>(opset::NORM_IN_PLACE, first.offset == out.offset)?;
            ensure(first.h == out.h && first.w == out.w && out.c as usize == channels, Fault::Shape)?;
            blob(model, op.affine, 2 * channels as u64, 4)?;
            modulation(model, op.modulation, 2 * channels)?;
            op.table.map_or(Ok(()), |t| table(model, &t))?;
        }
        Op::Attention(Attention { qkv, out, heads, scale, exp_table }) if links(OPS, opset::ATTENTION) => {
            let out = operand(model, out, I8)?;
            for id in qkv {
                same_shape(&operand(model, id, I8)?, &out)?;
            }
            ensure(heads > 0 && out.c.is_multiple_of(heads), Fault::Shape)?;
            ensure(scale.is_finite() && scale > 0.0, Fault::Number)?;
            let q = model.tensor(qkv[0]);
            let rows = if q.per_step { model.row_count() } else { 1 };
            ensure((0..rows).all(|row| model.quant(&q, row).zero_point == 0), Fault::Number)?;
            blob(model, exp_table, 128, 2)?;
        }
        Op::AvgPool { input, out } | Op::Upsample { input, out }
            if links(OPS, if let Op::AvgPool { .. } = op { opset::AVG_POOL } else { opset::UPSAMPLE }) =>
        {
            let (a, b) = (operand(model, input, INT)?, operand(model, out, INT)?);
            linked::<OPS>(opset::OUT_I16, b.dtype == DType::I16)?;
            let halves = |long: u16, short: u16| long / 2 == short;
            let shape = match op {
                Op::AvgPool { .. } => halves(a.h, b.h) && halves(a.w, b.w),
                _ => b.h.is_multiple_of(2) && b.w.is_multiple_of(2) && halves(b.h, a.h) && halves(b.w, a.w),
            };
            ensure(shape && a.c == b.c, Fault::Shape)?;
            ensure(a.dtype == b.dtype && a.quant == b.quant && a.per_step == b.per_step, Fault::Type)?;
        }
        Op::EmbedLookup(EmbedLookup { out, table }) if links(OPS, opset::EMBED_LOOKUP) => {
            let out = operand(model, out, I16)?;
            vector(&out, out.c as usize)?;
            let vectors = model.row_count() as u64 * model.header.classes.max(1) as u64;
            blob(model, table, vectors * out.c as u64, 2)?;
        }
        Op::EmbedAdd(EmbedAdd { vector: given, out, steps, table: activation }) if links(OPS, opset::EMBED_ADD) => {
            let out = operand(model, out, I16)?;
            vector(&out, out.c as usize)?;
            same_shape(&operand(model, given, F32)?, &out)?;
            blob(model, steps, model.row_count() as u64 * out.c as u64, 4)?;
            table(model, &activation)?;
        }
        Op::NormStats(_) | Op::NormApply(_) | Op::Attention(_) | Op::AvgPool { .. } | Op::Upsample { .. } => {
            return Err(Fault::NotLinked);
        }
        Op::EmbedLookup(_) | Op::EmbedAdd(_) => return Err(Fault::NotLinked),
    }
    placement(model, &op, live_end)
}

/// Returns the channels of all sources together.
fn norm_sources<const OPS: OpSet>(model: &Model<'_, OPS>, sources: [u16; 2], groups: u16) -> Result<usize, Fault> {
    let first = operand(model, sources[0], INT)?;
    let mut channels = first.c as usize;
    linked::<OPS>(opset::NORM_TWO, sources[1] != NONE)?;
    if sources[1] != NONE {
        let second = operand(model, sources[1], INT)?;
        ensure(first.h == second.h && first.w == second.w, Fault::Shape)?;
        channels += second.c as usize;
    }
    ensure(groups > 0 && channels.is_multiple_of(groups as usize) && channels <= u16::MAX as usize, Fault::Shape)?;
    // N·Σq² of a group stays below 2⁶⁴: N²·2³⁰ for I16, N²·2¹⁴ for I8.
    let group_elems = first.h as u64 * first.w as u64 * (channels as u64 / groups as u64);
    for &id in sources.iter().filter(|&&id| id != NONE) {
        let wide = model.tensor(id).dtype == DType::I16;
        linked::<OPS>(opset::NORM_I16, wide)?;
        let limit = if wide { 1 << 16 } else { 1 << 24 };
        ensure(group_elems <= limit, Fault::Shape)?;
    }
    Ok(channels)
}

fn conv<const OPS: OpSet>(model: &Model<'_, OPS>, op: &Conv) -> Check {
    let out = operand(model, op.out, &[DType::I8, DType::I16, DType::F32])?;
    let [kh, kw] = op.kernel.map(usize::from);
    let [pad_top, pad_left] = op.pad.map(usize::from);
    ensure((1..=15).contains(&kh) && (1..=15).contains(&kw) && (1..=15).contains(&op.stride), Fault::Shape)?;
    ensure(pad_top <= 15 && pad_left <= 15, Fault::Shape)?;
    linked::<OPS>(opset::CONV_TWO, op.sources[1] != NONE)?;
    linked::<OPS>(opset::CONV_UPSAMPLED, op.upsample)?;
    linked::<OPS>(opset::OUT_I16, out.dtype == DType::I16)?;
    linked::<OPS>(opset::RESIDUAL, op.residual != NONE)?;
    for (&id, &weights_id) in op.sources.iter().zip(&op.weights) {
        if id == NONE && id == op.sources[1] {
            continue;
        }
        let source = operand(model, id, INT)?;
        linked::<OPS>(opset::CONV_I8, source.dtype == DType::I8)?;
        linked::<OPS>(opset::CONV_I16, source.dtype == DType::I16)?;
        linked::<OPS>(opset::CONV_ODD, !source.c.is_multiple_of(4))?;
        let weights = model.weights(weights_id).ok_or(Fault::Range)?;
        ensure(weights.rows == out.c, Fault::Shape)?;
        ensure(weights.row_elems as usize == kh * kw * source.c as usize, Fault::Shape)?;
        let up = if op.upsample { 2 } else { 1 };
        let fits = |input: u16, kernel: usize, pad: usize, out: u16| {
            // The padding after the input follows from the output's length; it is at most 15 too.
            let input = input as usize * up;
            let least = conv_len(input, kernel, op.stride as usize, pad, 0);
            let most = conv_len(input, kernel, op.stride as usize, pad, 15);
            (least.max(1)..=most).contains(&(out as usize))
        };
        ensure(fits(source.h, kh, pad_top, out.h) && fits(source.w, kw, pad_left, out.w), Fault::Shape)?;
    }
    if op.residual != NONE {
        ensure(out.dtype != DType::F32, Fault::Type)?;
        ensure(op.residual_scale.is_finite(), Fault::Number)?;
        let residual = operand(model, op.residual, INT)?;
        linked::<OPS>(opset::RESIDUAL_I16, residual.dtype == DType::I16)?;
        same_shape(&residual, &out)?;
    }
    blob(model, op.bias, out.c as u64, 4)?;
    modulation(model, op.modulation, out.c as usize)
}

/// An operator's tensors lie apart from each other and below its scratch; the output may be an input in place.
fn placement<const OPS: OpSet>(model: &Model<'_, OPS>, op: &Op, live_end: u32) -> Check {
    ensure((live_end as usize).is_multiple_of(Tensor::ALIGN) && live_end as u64 <= LEN_MAX, Fault::Alignment)?;
    let out_id = op.out();
    let out = model.tensor(out_id).range();
    ensure(out.end <= live_end as usize, Fault::Range)?;
    let in_place = match *op {
        Op::Conv(Conv { residual, .. }) => residual,
        Op::NormApply(NormApply { sources: [first, NONE], .. }) if model.tensor(first).dtype == DType::I8 => first,
        _ => NONE,
    };
    // One tensor in two places is read through two slices, so only the norms, which know of it, take it.
    let twice_is_fine = matches!(op, Op::NormStats(_) | Op::NormApply(_));
    for id in op.inputs().into_iter().filter(|&id| id != NONE) {
        let places = op.inputs().into_iter().filter(|&other| other == id).count();
        ensure(places == 1 || twice_is_fine, Fault::Overlap)?;
        let range = model.tensor(id).range();
        ensure(range.end <= live_end as usize, Fault::Range)?;
        let same = id == in_place && range == out && model.tensor(id).dtype == model.tensor(out_id).dtype;
        ensure(same || range.end <= out.start || out.end <= range.start, Fault::Overlap)?;
        let others = op.inputs().into_iter().filter(|&other| other != NONE && other != id);
        for other in others.map(|other| model.tensor(other).range()) {
            ensure(range.end <= other.start || other.end <= range.start, Fault::Overlap)?;
        }
    }
    Ok(())
}

fn graph<const OPS: OpSet>(model: &Model<'_, OPS>, graph: &Graph) -> Check {
    let ops = graph.first_op as usize..graph.first_op as usize + graph.ops as usize;
    ensure(!ops.is_empty() && ops.end <= model.op_count(), Fault::Range)?;
    let input = operand(model, graph.input, F32)?;
    same_shape(&input, &operand(model, graph.output, F32)?)?;
    ensure(input.carried, Fault::Type)?;
    let mut written = [0u32; TENSORS_MAX / 32];
    mark(&mut written, graph.input);
    linked::<OPS>(opset::EMBED_ADD, graph.class_embedding != NONE)?;
    if graph.class_embedding != NONE {
        let given = operand(model, graph.class_embedding, F32)?;
        ensure(given.carried, Fault::Type)?;
        vector(&given, given.c as usize)?;
        mark(&mut written, graph.class_embedding);
    }
    for OpRecord { op, live_end } in ops.filter_map(|index| model.op(index)) {
        let known = op.inputs().into_iter().filter(|&id| id != NONE).all(|id| is_marked(&written, id));
        ensure(known, Fault::Order)?;
        // Neither the operator nor its scratch may lie over what the sampler keeps.
        let out = op.out();
        ensure(out != graph.input && out != graph.class_embedding, Fault::Order)?;
        for kept in
            [graph.input, graph.class_embedding].into_iter().chain(sampler_tensors(model)).filter(|&id| id != NONE)
        {
            let (kept, out) = (model.tensor(kept).range(), model.tensor(out).range());
            ensure(kept.end <= out.start || out.end <= kept.start, Fault::Overlap)?;
            ensure(kept.end <= live_end as usize, Fault::Overlap)?;
        }
        mark(&mut written, out);
    }
    ensure(is_marked(&written, graph.output), Fault::Order)
}

fn mark(set: &mut [u32], id: u16) {
    if let Some(word) = set.get_mut(id as usize / 32) {
        *word |= 1 << (id % 32);
    }
}

fn is_marked(set: &[u32], id: u16) -> bool {
    set.get(id as usize / 32).is_some_and(|word| word & (1 << (id % 32)) != 0)
}

/// Tensors that the sampler keeps beside the graphs'.
fn sampler_tensors<const OPS: OpSet>(model: &Model<'_, OPS>) -> impl Iterator<Item = u16> {
    core::iter::once(model.header.uncond).chain(model.header.history)
}

fn header<const OPS: OpSet>(model: &Model<'_, OPS>) -> Check {
    let header = &model.header;
    let input = model.tensor(model.graph(0).input);
    linked::<OPS>(opset::GUIDANCE, header.null_class != NONE)?;
    linked::<OPS>(opset::HISTORY, header.history.iter().any(|&id| id != NONE))?;
    if header.null_class != NONE {
        ensure(header.null_class < header.classes, Fault::Range)?;
        ensure(header.uncond != NONE, Fault::Range)?;
    }
    for id in sampler_tensors(model).filter(|&id| id != NONE) {
        same_shape(&operand(model, id, F32)?, &input)?;
    }
    ensure(header.history.iter().all(|&id| id == NONE || model.tensor(id).carried), Fault::Type)?;
    // All of the sampler's own tensors are used together.
    for i in 0..model.graph_count() {
        let graph = model.graph(i);
        let kept = || [graph.input, graph.output].into_iter().chain(sampler_tensors(model)).filter(|&id| id != NONE);
        same_shape(&model.tensor(graph.input), &input)?;
        for id in kept() {
            for other in kept().filter(|&other| other != id) {
                let (a, b) = (model.tensor(id).range(), model.tensor(other).range());
                ensure(a.end <= b.start || b.end <= a.start, Fault::Overlap)?;
            }
        }
    }
    Ok(())
}

/// A row reads and writes only history slots that exist.
fn history<const OPS: OpSet>(model: &Model<'_, OPS>, row: &Row) -> bool {
    let exists = |slot: usize| model.header.history.get(slot).is_some_and(|&id| id != NONE);
    let reads = row.e.iter().enumerate().all(|(slot, &e)| e == 0.0 || exists(slot));
    reads && (row.store == crate::format::Store::None || exists(row.store_slot as usize))
}
