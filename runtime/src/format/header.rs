//! The header, the section directory, and the graph record.

use super::cursor::{Encoded, record, tail, u8_at, u16_at, u32_at};
use super::tensor::NONE;

/// What a `.mote` file begins with.
pub const MAGIC: [u8; 4] = *b"MOTE";
/// The format version that this crate reads and writes.
pub const VERSION: u16 = 1;

/// Four letters that name a section. A section whose first letter is lower-case is optional: a runtime that does not
/// know it passes over it. (The same rule as PNG's chunks.)
pub type Tag = [u8; 4];

/// The sections of version 1, in the order in which the converter writes them.
pub mod tag {
    use super::Tag;
    /// [`Tensor`](crate::format::tensor::Tensor) records.
    pub const TENSORS: Tag = *b"TENS";
    /// [`Quant`](crate::format::tensor::Quant) records.
    pub const QUANTS: Tag = *b"QUAN";
    /// [`Weights`](crate::format::tensor::Weights) records.
    pub const WEIGHTS: Tag = *b"WGTS";
    /// [`OpRecord`](crate::format::op::OpRecord)s.
    pub const OPS: Tag = *b"OPER";
    /// [`Graph`](super::Graph) records.
    pub const GRAPHS: Tag = *b"GRPH";
    /// [`Row`](crate::format::schedule::Row) records.
    pub const ROWS: Tag = *b"ROWS";
    /// [`Schedule`](crate::format::schedule::Schedule) records.
    pub const SCHEDULES: Tag = *b"SCHD";
    /// One CRC-32 (u32) for each payload block.
    pub const BLOCKS: Tag = *b"BCRC";
    /// Optional: UTF-8 lines `key=value` for people (name, licence, classes).
    pub const INFO: Tag = *b"info";
    /// Optional: one [`SelfTest`](super::SelfTest) record.
    pub const SELF_TEST: Tag = *b"self";
}

/// The first [`Header::BYTES`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Number of entries of the section directory, which follows the header.
    pub sections: u16,
    /// Length of the whole file.
    pub file_bytes: u32,
    /// Header, directory and sections; the payload begins here. A multiple of 16.
    pub meta_bytes: u32,
    /// CRC-32 of the first `meta_bytes` bytes with this field as zero.
    pub meta_crc: u32,
    /// Payload bytes that one checksum of [`tag::BLOCKS`] covers; the last block may be shorter.
    pub block_bytes: u32,
    /// Classes that may be asked for, the null class included; 0 for an unconditional model.
    pub classes: u16,
    /// The class that stands for "none" in classifier-free guidance, or [`NONE`].
    pub null_class: u16,
    /// Tensor that keeps the unconditional output for guidance, or [`NONE`].
    pub uncond: u16,
    /// Tensors that keep earlier rows' values, or [`NONE`].
    pub history: [u16; super::schedule::HISTORY],
    /// Tensors whose values later rows reuse, or [`NONE`]: that of calls with a class (or without classes), that of calls
    /// with the null class. Tensor 0 cannot be one.
    pub cached: [u16; 2],
}

impl Header {
    /// Bytes of the header.
    pub const BYTES: usize = 48;
    /// Where [`Header::meta_crc`] lies.
    pub const META_CRC_AT: usize = 16;

    /// The header's bytes.
    pub fn encode(&self) -> Encoded<{ Header::BYTES }> {
        let mut to = Encoded::new()
            .put(0, MAGIC)
            .u16(4, VERSION)
            .u16(6, self.sections)
            .u32(8, self.file_bytes)
            .u32(12, self.meta_bytes)
            .u32(Header::META_CRC_AT, self.meta_crc)
            .u32(20, self.block_bytes)
            .u16(24, self.classes)
            .u16(26, self.null_class)
            .u16(28, self.uncond);
        for (i, &id) in self.history.iter().enumerate() {
            to = to.u16(30 + 2 * i, id);
        }
        let id = |id: u16| if id == NONE { 0 } else { id };
        to.u16(38, id(self.cached[0])).u16(40, id(self.cached[1]))
    }

    /// Reads a header, magic and version unseen.
    pub const fn decode(bytes: &[u8]) -> Header {
        const fn id(id: u16) -> u16 {
            if id == 0 { NONE } else { id }
        }
        let bytes: &[u8; Header::BYTES] = record(bytes);
        Header {
            sections: u16_at(bytes, 6),
            file_bytes: u32_at(bytes, 8),
            meta_bytes: u32_at(bytes, 12),
            meta_crc: u32_at(bytes, Header::META_CRC_AT),
            block_bytes: u32_at(bytes, 20),
            classes: u16_at(bytes, 24),
            null_class: u16_at(bytes, 26),
            uncond: u16_at(bytes, 28),
            history: [u16_at(bytes, 30), u16_at(bytes, 32), u16_at(bytes, 34), u16_at(bytes, 36)],
            cached: [id(u16_at(bytes, 38)), id(u16_at(bytes, 40))],
        }
    }
}

/// An entry of the section directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// Which section.
    pub tag: Tag,
    /// File offset, a multiple of 4.
    pub offset: u32,
    /// Length.
    pub bytes: u32,
}

impl Section {
    /// Bytes of an entry.
    pub const BYTES: usize = 12;

    /// The entry's bytes.
    pub fn encode(&self) -> Encoded<{ Section::BYTES }> {
        Encoded::new().put(0, self.tag).u32(4, self.offset).u32(8, self.bytes)
    }

    /// Reads an entry.
    pub const fn decode(bytes: &[u8]) -> Section {
        let bytes: &[u8; Section::BYTES] = record(bytes);
        Section {
            tag: [u8_at(bytes, 0), u8_at(bytes, 1), u8_at(bytes, 2), u8_at(bytes, 3)],
            offset: u32_at(bytes, 4),
            bytes: u32_at(bytes, 8),
        }
    }

    /// The entry with this tag, or an empty one.
    pub const fn find(bytes: &[u8], tag: Tag) -> Section {
        let count = Header::decode(bytes).sections as usize;
        let mut i = 0;
        while i < count {
            let at = Header::BYTES + i * Section::BYTES;
            if u32_at(bytes, at) == u32::from_le_bytes(tag) {
                return Section::decode(tail(bytes, at));
            }
            i += 1;
        }
        Section { tag, offset: 0, bytes: 0 }
    }
}

/// A network: operators, and where its state lies. Its operators are some that follow each other in the file, and then those
/// of the graph `next`, whose other fields say the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Graph {
    /// Index of its first operator.
    pub first_op: u16,
    /// Number of operators.
    pub ops: u16,
    /// x_t: `F32`, carried.
    pub input: u16,
    /// The model's output: `F32`, of the input's shape.
    pub output: u16,
    /// The caller's class embedding: `F32`, carried, or [`NONE`].
    pub class_embedding: u16,
    /// The graph whose operators follow, or [`NONE`].
    pub next: u16,
}

impl Graph {
    /// Bytes of a record.
    pub const BYTES: usize = 12;

    /// The record's bytes.
    pub fn encode(&self) -> Encoded<{ Graph::BYTES }> {
        Encoded::new()
            .u16(0, self.first_op)
            .u16(2, self.ops)
            .u16(4, self.input)
            .u16(6, self.output)
            .u16(8, self.class_embedding)
            .u16(10, self.next)
    }

    /// Reads a record.
    pub const fn decode(bytes: &[u8]) -> Graph {
        let bytes: &[u8; Graph::BYTES] = record(bytes);
        Graph {
            first_op: u16_at(bytes, 0),
            ops: u16_at(bytes, 2),
            input: u16_at(bytes, 4),
            output: u16_at(bytes, 6),
            class_embedding: u16_at(bytes, 8),
            next: u16_at(bytes, 10),
        }
    }
}

/// What a correct runtime draws with this file: checksums that the converter got from the scalar kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelfTest {
    /// Seed of the request.
    pub seed: u64,
    /// Class of the request, or [`NONE`].
    pub class: u16,
    /// CRC-32 of x (f32, little-endian, HWC) after the first step of the first schedule, guidance 1.
    pub step_crc: u32,
    /// The same after the last step.
    pub sample_crc: u32,
}

impl SelfTest {
    /// Bytes of a record.
    pub const BYTES: usize = 20;

    /// The record's bytes.
    pub fn encode(&self) -> Encoded<{ SelfTest::BYTES }> {
        Encoded::new()
            .put(0, self.seed.to_le_bytes())
            .u16(8, self.class)
            .u32(12, self.step_crc)
            .u32(16, self.sample_crc)
    }

    /// Reads a record.
    pub const fn decode(bytes: &[u8]) -> SelfTest {
        let bytes: &[u8; SelfTest::BYTES] = record(bytes);
        SelfTest {
            seed: u32_at(bytes, 0) as u64 | (u32_at(bytes, 4) as u64) << 32,
            class: u16_at(bytes, 8),
            step_crc: u32_at(bytes, 12),
            sample_crc: u32_at(bytes, 16),
        }
    }
}
