//! Builds `.mote` bytes from records.

use std::ops::Range;

use half::bf16;
use mote_runtime::format::checksum::{crc32, meta_crc};
use mote_runtime::format::header::Tag;
use mote_runtime::format::op::{Conv, Modulation};
use mote_runtime::format::{
    Clip, DType, Encoding, Graph, Header, NONE, Op, OpRecord, Quant, Row, Schedule, Section, SelfTest, Store, Tensor,
    Weights, tag,
};

const BLOCK_BYTES: usize = 256;

/// A 1×1 convolution of nothing to nothing, to be filled in.
pub const CONV: Conv = Conv {
    sources: [NONE; 2],
    weights: [NONE; 2],
    out: NONE,
    residual: NONE,
    residual_scale: 0.0,
    bias: 0,
    modulation: Modulation::None,
    kernel: [1, 1],
    stride: 1,
    pad: [0, 0],
    upsample: false,
    winograd: false,
};

/// A schedule's row whose picture is the model's output.
pub const ROW: Row = Row {
    timestep: 0.0,
    graph: 0,
    null_graph: 0,
    advance: true,
    p: 1.0,
    q: 0.0,
    clip: Clip::None,
    r: 0.0,
    s: 1.0,
    a: 1.0,
    b: 0.0,
    c: 0.0,
    d: 0.0,
    e: [0.0; 4],
    store: Store::None,
    store_slot: 0,
};

/// A file under construction. Tensors are laid one behind the other in the arena; nothing is shared.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    /// Records.
    pub tensors: Vec<Tensor>,
    /// Records.
    pub quants: Vec<Quant>,
    /// Records; offsets are counted from the payload's begin until `build`.
    pub weights: Vec<Weights>,
    /// Operators; payload offsets are counted from the payload's begin until `build`.
    pub ops: Vec<Op>,
    /// Records.
    pub rows: Vec<Row>,
    /// Number of classes.
    pub classes: u16,
    /// Null class, or `NONE`.
    pub null_class: Option<u16>,
    /// Tensor for the unconditional output.
    pub uncond: Option<u16>,
    /// The payload.
    pub payload: Vec<u8>,
    /// x_t and output.
    pub ends: [u16; 2],
    /// The self-test section.
    pub self_test: Option<SelfTest>,
    /// Class embedding.
    pub class_embedding: Option<u16>,
    /// The operators of each graph and the graph that follows; none for one graph of all operators.
    pub graphs: Vec<(Range<u16>, u16)>,
    /// Records; none for one schedule of all rows.
    pub schedules: Vec<Schedule>,
    /// The cached tensors, or none.
    pub cached: Option<[u16; 2]>,
    /// Where the next tensor would lie; the live end of every operator.
    pub arena_end: u32,
}

impl Builder {
    /// Adds an f32 tensor.
    pub fn float(&mut self, shape: [usize; 3], carried: bool) -> u16 {
        self.tensor(shape, DType::F32, carried, 0)
    }

    /// Adds an integer tensor with one quantization; the scale is rounded to bfloat16.
    pub fn int(&mut self, shape: [usize; 3], dtype: DType, scale: f32, zero_point: i16) -> u16 {
        let quant = self.quants.len() as u32;
        self.quants.push(Quant { scale: bf16::from_f32(scale).to_f32(), zero_point });
        self.tensor(shape, dtype, false, quant)
    }

    fn tensor(&mut self, [h, w, c]: [usize; 3], dtype: DType, carried: bool, quant: u32) -> u16 {
        let offset = self.arena_end;
        let (h, w, c) = (h as u16, w as u16, c as u16);
        let tensor = Tensor { h, w, c, dtype, carried, per_step: false, offset, quant };
        self.arena_end = (offset + tensor.len_bytes() as u32).next_multiple_of(16);
        self.tensors.push(tensor);
        self.tensors.len() as u16 - 1
    }

    /// The quantization of an integer tensor.
    pub fn quant(&self, id: u16) -> Quant {
        self.quants[self.tensors[id as usize].quant as usize]
    }

    /// Adds bytes to the payload and returns where; offsets in records stay relative until `build`.
    pub fn blob(&mut self, bytes: impl IntoIterator<Item = u8>) -> u32 {
        let at = self.payload.len() as u32;
        self.payload.extend(bytes);
        self.payload.resize(self.payload.len().next_multiple_of(16), 0);
        at
    }

    /// Adds f32 to the payload.
    pub fn floats(&mut self, values: &[f32]) -> u32 {
        self.blob(values.iter().flat_map(|x| x.to_le_bytes()))
    }

    /// Adds i16 to the payload.
    pub fn shorts(&mut self, values: &[i16]) -> u32 {
        self.blob(values.iter().flat_map(|x| x.to_le_bytes()))
    }

    /// Adds a weight matrix: int8 rows and a scale for each.
    pub fn weights(&mut self, rows: &[Vec<i8>], scales: &[f32]) -> u16 {
        self.encoded(Encoding::I8, rows, rows, &[], scales)
    }

    /// Adds a weight matrix in int4: rows of nibbles, their groups' scales, a scale for each row.
    pub fn weights_i4(&mut self, nibbles: &[Vec<i8>], group_len: u16, group_scales: &[Vec<u8>], scales: &[f32]) -> u16 {
        let codes = expanded(nibbles, group_len, group_scales);
        self.encoded(Encoding::I4 { group_len }, &codes, nibbles, group_scales, scales)
    }

    fn encoded(
        &mut self,
        encoding: Encoding,
        codes: &[Vec<i8>],
        written: &[Vec<i8>],
        group_scales: &[Vec<u8>],
        scales: &[f32],
    ) -> u16 {
        let params = codes.iter().zip(scales).flat_map(|(row, scale)| {
            let sum: i32 = row.iter().map(|&w| w as i32).sum();
            scale.to_le_bytes().into_iter().chain(sum.to_le_bytes())
        });
        let params = self.blob(params.collect::<Vec<_>>());
        let (rows, row_elems) = (codes.len() as u16, codes[0].len() as u32);
        let mut weights = Weights { offset: 0, params, rows, encoding, row_elems };
        weights.offset = self.blob(weights.pack(&written.concat(), &group_scales.concat()).collect::<Vec<_>>());
        self.weights.push(weights);
        self.weights.len() as u16 - 1
    }

    /// The file.
    pub fn build(&self) -> Vec<u8> {
        // Lay meta out once to know where the payload begins, then again with absolute offsets.
        let meta_bytes = self.meta(0).len();
        let mut file = self.meta(meta_bytes as u32);
        assert_eq!(file.len(), meta_bytes);
        file.extend(&self.payload);
        seal(&mut file);
        file
    }

    fn meta(&self, payload_at: u32) -> Vec<u8> {
        let whole = [(0..self.ops.len() as u16, NONE)];
        let graphs = if self.graphs.is_empty() { &whole[..] } else { &self.graphs };
        let all = [Schedule { first_row: 0, rows: self.rows.len() as u16, steps: self.rows.len() as u16 }];
        let schedules = if self.schedules.is_empty() { &all[..] } else { &self.schedules };
        let mut ops = self.ops.clone();
        for op in &mut ops {
            shift_offsets(op, payload_at);
        }
        let mut records: Vec<(Tag, Vec<u8>)> = vec![
            (tag::TENSORS, self.tensors.iter().flat_map(|x| x.encode().0).collect()),
            (tag::QUANTS, self.quants.iter().flat_map(|x| x.encode().0).collect()),
            (
                tag::WEIGHTS,
                self.weights
                    .iter()
                    .flat_map(|x| {
                        Weights { offset: x.offset + payload_at, params: x.params + payload_at, ..*x }.encode().0
                    })
                    .collect(),
            ),
            (tag::OPS, ops.iter().flat_map(|&op| OpRecord { op, live_end: self.arena_end }.encode().0).collect()),
            (tag::GRAPHS, graphs.iter().flat_map(|(ops, next)| self.graph(ops, *next).encode().0).collect()),
            (tag::ROWS, self.rows.iter().flat_map(|x| x.encode().0).collect()),
            (tag::SCHEDULES, schedules.iter().flat_map(|x| x.encode().0).collect()),
            (tag::BLOCKS, vec![0; self.payload.len().div_ceil(BLOCK_BYTES) * 4]),
            (tag::INFO, b"name=test\nlicense=MIT\n".to_vec()),
        ];
        if let Some(self_test) = &self.self_test {
            records.push((tag::SELF_TEST, self_test.encode().0.to_vec()));
        }
        let mut offset = Header::BYTES + records.len() * Section::BYTES;
        let mut directory = Vec::new();
        let mut bodies = Vec::new();
        for (tag, body) in &records {
            directory.extend(Section { tag: *tag, offset: offset as u32, bytes: body.len() as u32 }.encode().0);
            bodies.extend(body);
            bodies.resize(bodies.len().next_multiple_of(4), 0);
            offset = Header::BYTES + records.len() * Section::BYTES + bodies.len();
        }
        let header = Header {
            sections: records.len() as u16,
            file_bytes: payload_at + self.payload.len() as u32,
            meta_bytes: payload_at,
            meta_crc: 0,
            block_bytes: BLOCK_BYTES as u32,
            classes: self.classes,
            null_class: self.null_class.unwrap_or(NONE),
            uncond: self.uncond.unwrap_or(NONE),
            history: [NONE; 4],
            cached: self.cached.unwrap_or([NONE; 2]),
        };
        let mut meta = header.encode().0.to_vec();
        meta.extend(directory);
        meta.extend(bodies);
        meta.resize(meta.len().next_multiple_of(16), 0);
        meta
    }

    fn graph(&self, ops: &Range<u16>, next: u16) -> Graph {
        Graph {
            first_op: ops.start,
            ops: ops.end - ops.start,
            input: self.ends[0],
            output: self.ends[1],
            class_embedding: self.class_embedding.unwrap_or(NONE),
            next,
        }
    }
}

fn shift_offsets(op: &mut Op, by: u32) {
    use mote_runtime::format::op::Modulation;
    let modulation = |m: &mut Modulation| {
        if let Modulation::Table(offset) = m {
            *offset += by;
        }
    };
    match op {
        Op::Conv(op) => {
            op.bias += by;
            modulation(&mut op.modulation);
        }
        Op::NormApply(op) => {
            op.affine += by;
            modulation(&mut op.modulation);
            if let Some(table) = &mut op.table {
                table.offset += by;
            }
        }
        Op::Attention(op) => op.exp_table += by,
        Op::EmbedLookup(op) => op.table += by,
        Op::EmbedAdd(op) => {
            op.steps += by;
            op.table.offset += by;
        }
        Op::Quantize { .. } | Op::NormStats(_) | Op::AvgPool { .. } | Op::Upsample { .. } => {}
    }
}

/// The int8 codes of int4 weights: each nibble times its group's scale.
pub fn expanded(nibbles: &[Vec<i8>], group_len: u16, group_scales: &[Vec<u8>]) -> Vec<Vec<i8>> {
    let code = |row: usize, (elem, &nibble): (usize, &i8)| {
        nibble * elem.checked_div(group_len.into()).map_or(1, |group| group_scales[row][group] as i8)
    };
    let row = |(at, row): (usize, &Vec<i8>)| row.iter().enumerate().map(|elem| code(at, elem)).collect();
    nibbles.iter().enumerate().map(row).collect()
}

/// Writes both kinds of checksum anew, after bytes were changed on purpose. Leaves a file alone whose directory does not
/// lead anywhere.
pub fn seal(file: &mut [u8]) {
    let header = Header::decode(file);
    let meta_bytes = header.meta_bytes as usize;
    let blocks = Section::find(file, tag::BLOCKS);
    if file.len() < Header::BYTES || meta_bytes > file.len() || meta_bytes < Header::BYTES {
        return;
    }
    let sums: Vec<u32> = file[meta_bytes..].chunks((header.block_bytes as usize).max(1)).map(crc32).collect();
    for (i, sum) in sums.into_iter().enumerate().take(blocks.bytes as usize / 4) {
        let at = (blocks.offset as usize).saturating_add(4 * i);
        if at + 4 <= meta_bytes {
            file[at..at + 4].copy_from_slice(&sum.to_le_bytes());
        }
    }
    let crc = meta_crc(&file[..meta_bytes]);
    file[Header::META_CRC_AT..Header::META_CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
}
