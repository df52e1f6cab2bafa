//! Tensor, quantization and weight records.

use super::cursor::{Encoded, record, tail, u8_at, u16_at, u32_at};
use half::bf16;

/// Index "none" in a `u16` field.
pub const NONE: u16 = u16::MAX;

/// Element types in the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DType {
    /// 8-bit integer, asymmetric: value = scale·(q − zero_point).
    I8,
    /// 16-bit integer, symmetric: value = scale·q.
    I16,
    /// 32-bit float.
    F32,
}

impl DType {
    /// Bytes of an element.
    pub const fn bytes(self) -> usize {
        match self {
            DType::I8 => 1,
            DType::I16 => 2,
            DType::F32 => 4,
        }
    }

    const fn decode(tag: u8) -> Option<DType> {
        match tag {
            0 => Some(DType::I8),
            1 => Some(DType::I16),
            2 => Some(DType::F32),
            _ => None,
        }
    }
}

/// A tensor in the arena, `[h, w, c]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Height, at least 1.
    pub h: u16,
    /// Width, at least 1.
    pub w: u16,
    /// Channels, at least 1.
    pub c: u16,
    /// Element type.
    pub dtype: DType,
    /// Its bytes are part of a snapshot (x_t, history): they outlive a step.
    pub carried: bool,
    /// One (scale, zero_point) for each row of the schedules; else one for all.
    pub per_step: bool,
    /// Byte offset in the arena, a multiple of [`Tensor::ALIGN`].
    pub offset: u32,
    /// Index of its first quantization record; 0 for `F32`.
    pub quant: u32,
}

impl Tensor {
    /// Bytes of a record.
    pub const BYTES: usize = 16;
    /// Alignment of a tensor in the arena, in bytes.
    pub const ALIGN: usize = 16;

    /// Number of elements.
    pub const fn elems(&self) -> usize {
        self.h as usize * self.w as usize * self.c as usize
    }

    /// Elements of one image row, w·c.
    pub const fn row_elems(&self) -> usize {
        self.w as usize * self.c as usize
    }

    /// Bytes in the arena.
    pub const fn len_bytes(&self) -> usize {
        self.elems() * self.dtype.bytes()
    }

    /// The arena bytes that it occupies.
    pub const fn range(&self) -> core::ops::Range<usize> {
        self.offset as usize..self.offset as usize + self.len_bytes()
    }

    /// The record's bytes.
    pub fn encode(&self) -> Encoded<{ Tensor::BYTES }> {
        let dtype = match self.dtype {
            DType::I8 => 0,
            DType::I16 => 1,
            DType::F32 => 2,
        };
        Encoded::new()
            .u16(0, self.h)
            .u16(2, self.w)
            .u16(4, self.c)
            .u8(6, dtype)
            .u8(7, self.carried as u8 | (self.per_step as u8) << 1)
            .u32(8, self.offset)
            .u32(12, self.quant)
    }

    /// Reads a record; `None` where a tag is unknown.
    #[cfg_attr(not(target_os = "none"), inline(always))]
    pub const fn decode(bytes: &[u8]) -> Option<Tensor> {
        let bytes: &[u8; Tensor::BYTES] = record(bytes);
        let Some(dtype) = DType::decode(u8_at(bytes, 6)) else { return None };
        let flags = u8_at(bytes, 7);
        if flags > 3 {
            return None;
        }
        Some(Tensor {
            h: u16_at(bytes, 0),
            w: u16_at(bytes, 2),
            c: u16_at(bytes, 4),
            dtype,
            carried: flags & 1 != 0,
            per_step: flags & 2 != 0,
            offset: u32_at(bytes, 8),
            quant: u32_at(bytes, 12),
        })
    }
}

/// The quantization of a tensor, at one row of the schedules or at all: value = scale·(q − zero_point).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quant {
    /// Positive and finite. Stored as bfloat16: 8 significant bits are enough for a scale, as both sides use the
    /// rounded value, and its exponent range is f32's.
    pub scale: f32,
    /// −128..=127 for `I8`, 0 for `I16`.
    pub zero_point: i16,
}

impl Quant {
    /// Bytes of a record.
    pub const BYTES: usize = 4;

    /// The record's bytes; the scale must be a bfloat16 already.
    pub fn encode(&self) -> Encoded<{ Quant::BYTES }> {
        Encoded::new().u16(0, bf16::from_f32(self.scale).to_bits()).u16(2, self.zero_point as u16)
    }

    /// Reads a record.
    pub const fn decode(bytes: &[u8]) -> Quant {
        let bytes: &[u8; Quant::BYTES] = record(bytes);
        Quant { scale: f32::from_bits((u16_at(bytes, 0) as u32) << 16), zero_point: u16_at(bytes, 2) as i16 }
    }

    /// Whether a tensor of `dtype` may have it.
    pub const fn is_valid(&self, dtype: DType) -> bool {
        let zero_point = match dtype {
            DType::I8 => self.zero_point >= -128 && self.zero_point <= 127,
            DType::I16 | DType::F32 => self.zero_point == 0,
        };
        zero_point && self.scale.is_normal() && self.scale > 0.0
    }
}

/// How the weights of a layer are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// int8, symmetric per output channel, in blocks of four rows: `[⌈rows/4⌉, ⌈row_elems/4⌉, 4 rows, 4 elements]`, a row in
    /// the order (ky, kx, in_c), missing rows and elements zero. Four elements of four rows are 16 bytes: one vector
    /// where there are vectors, one `LDM` or two `LDRD` where there are none.
    I8,
    /// int4, a compressed int8: the int8 code of an element is its nibble (−7..=7) times its group's scale (1..=16), so
    /// that whatever is computed from the codes is the same, bit for bit, in either encoding.
    ///
    /// Four rows lie together: nibbles in blocks of 8 bytes, `[⌈row_elems/4⌉, 8]`, then a `u16` of four scales for each
    /// group, padded to a multiple of 4 bytes. In a block, the low half of byte i holds code i of the I8 block and the high
    /// half code i + 8, each plus 8 (so there is no sign to extend); bits 4r to 4r + 3 of the scales hold row r's, less 1.
    I4 {
        /// Consecutive elements of a row that share a scale, a multiple of 4 up to 1,020; where it divides in_c, a group
        /// stays within a tap. The last group may be shorter. 0: no scales, the nibbles are the codes.
        group_len: u16,
    },
}

impl Encoding {
    /// Largest nibble, and largest scale of a group: 7·16 is within ±127.
    pub const NIBBLE_MAX: i8 = 7;
    /// See [`Encoding::NIBBLE_MAX`].
    pub const GROUP_SCALE_MAX: u8 = 16;

    /// Whether the codes have to be unpacked before a kernel multiplies by them.
    pub const fn is_packed(self) -> bool {
        !matches!(self, Encoding::I8)
    }
}

/// A weight matrix in the payload with its per-channel constants.
///
/// The constants, `rows` × 8 bytes at `params`: scale (f32), then Σw of the row (i32).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights {
    /// File offset of the first row, a multiple of 4.
    pub offset: u32,
    /// File offset of the constants, a multiple of 4.
    pub params: u32,
    /// Output channels.
    pub rows: u16,
    /// How the rows are written.
    pub encoding: Encoding,
    /// kh·kw·in_c.
    pub row_elems: u32,
}

impl Weights {
    /// Bytes of a record.
    pub const BYTES: usize = 16;
    /// Bytes of one channel's constants.
    pub const PARAM_BYTES: usize = 8;

    /// Rows of a block.
    pub const BLOCK_ROWS: usize = 4;
    /// Consecutive elements of a row.
    pub const BLOCK_ELEMS: usize = 4;

    /// Codes of a row, the zeros at its end included.
    pub const fn row_codes(&self) -> usize {
        (self.row_elems as usize).next_multiple_of(Self::BLOCK_ELEMS)
    }

    /// Groups of a row that have a scale.
    pub const fn groups(&self) -> usize {
        match self.encoding {
            Encoding::I8 | Encoding::I4 { group_len: 0 } => 0,
            Encoding::I4 { group_len } => self.row_codes().div_ceil(group_len as usize),
        }
    }

    /// Bytes of four rows, which lie together.
    #[cfg_attr(not(target_os = "none"), inline(always))]
    pub const fn four_rows_bytes(&self) -> usize {
        match self.encoding {
            Encoding::I8 => Self::BLOCK_ROWS * self.row_codes(),
            Encoding::I4 { .. } => {
                Self::BLOCK_ROWS / 2 * self.row_codes() + (2 * self.groups()).next_multiple_of(Self::BLOCK_ELEMS)
            }
        }
    }

    /// Bytes of all rows.
    pub const fn len_bytes(&self) -> usize {
        (self.rows as usize).div_ceil(Self::BLOCK_ROWS) * self.four_rows_bytes()
    }

    /// The int8 code of an element, read from the bytes at `offset`; 0 where there is none.
    pub const fn code(&self, bytes: &[u8], row: usize, elem: usize) -> i8 {
        let four_rows = tail(bytes, row / Self::BLOCK_ROWS * self.four_rows_bytes());
        let (row, quad) = (row % Self::BLOCK_ROWS, elem / Self::BLOCK_ELEMS);
        let at = row * Self::BLOCK_ELEMS + elem % Self::BLOCK_ELEMS;
        match self.encoding {
            Encoding::I8 => u8_at(four_rows, 16 * quad + at) as i8,
            Encoding::I4 { group_len } => {
                let nibble = (u8_at(four_rows, 8 * quad + at % 8) >> (at / 8 * 4) & 15) as i8 - 8;
                let Some(group) = elem.checked_div(group_len as usize) else { return nibble };
                let scales = u16_at(four_rows, Self::BLOCK_ROWS / 2 * self.row_codes() + 2 * group);
                nibble * ((scales >> (4 * row) & 15) + 1) as i8
            }
        }
    }

    /// The bytes of codes `[rows, row_elems]`. For [`Encoding::I4`] they are nibbles, and `scales` are those of the groups,
    /// `[rows, groups]`; else it is empty.
    pub fn pack<'c>(&self, codes: &'c [i8], scales: &'c [u8]) -> impl Iterator<Item = u8> + use<'c> {
        let (weights, row_elems) = (*self, self.row_elems as usize);
        let (four_rows, groups) = (weights.four_rows_bytes().max(1), weights.groups());
        // Code `at` of a block, in the order of [`Encoding::I8`].
        let code = move |first_row: usize, quad: usize, at: usize| {
            let (row, elem) = (first_row + at / Self::BLOCK_ELEMS, quad * Self::BLOCK_ELEMS + at % Self::BLOCK_ELEMS);
            let code = if elem < row_elems { codes.get(row * row_elems + elem) } else { None };
            code.copied().unwrap_or(0) as u8
        };
        let scale = move |row: usize, group: usize| {
            let scale = if group < groups { scales.get(row * groups + group) } else { None };
            scale.map_or(0, |scale| scale.wrapping_sub(1)) & 15
        };
        (0..weights.len_bytes()).map(move |at| {
            let (row, at) = (at / four_rows * Self::BLOCK_ROWS, at % four_rows);
            if !weights.encoding.is_packed() {
                return code(row, at / 16, at % 16);
            }
            let nibble = |half: usize| code(row, at / 8, at % 8 + 8 * half).wrapping_add(8) & 15;
            match at.checked_sub(Self::BLOCK_ROWS / 2 * weights.row_codes()) {
                None => nibble(0) | nibble(1) << 4,
                Some(at) => {
                    let row = row + at % 2 * 2;
                    scale(row, at / 2) | scale(row + 1, at / 2) << 4
                }
            }
        })
    }

    /// The record's bytes.
    pub fn encode(&self) -> Encoded<{ Weights::BYTES }> {
        let (encoding, quads) = match self.encoding {
            Encoding::I8 => (0, 0),
            Encoding::I4 { group_len } => (1, (group_len / 4) as u8),
        };
        let record = Encoded::new().u32(0, self.offset).u32(4, self.params).u16(8, self.rows);
        record.u8(10, encoding).u8(11, quads).u32(12, self.row_elems)
    }

    /// Reads a record; `None` where a tag is unknown.
    #[cfg_attr(not(target_os = "none"), inline(always))]
    pub const fn decode(bytes: &[u8]) -> Option<Weights> {
        let bytes: &[u8; Weights::BYTES] = record(bytes);
        let encoding = match (u8_at(bytes, 10), u8_at(bytes, 11)) {
            (0, 0) => Encoding::I8,
            (1, quads) => Encoding::I4 { group_len: quads as u16 * 4 },
            _ => return None,
        };
        Some(Weights {
            offset: u32_at(bytes, 0),
            params: u32_at(bytes, 4),
            rows: u16_at(bytes, 8),
            encoding,
            row_elems: u32_at(bytes, 12),
        })
    }
}
