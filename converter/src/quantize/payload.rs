//! The payload while it grows: blobs at multiples of 16, identical tables stored once.
//!
//! Offsets count from the payload's start; `pack` adds where the payload begins.

use std::collections::BTreeMap;

/// What a blob is, for the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BlobKind {
    /// Integer weights.
    Weights,
    /// Scales, sums, biases, γ and β.
    Constants,
    /// The time path's tables.
    Time,
    /// Activation and exponential tables.
    Tables,
}

/// Weight blobs and tables, in the order in which they were added.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    bytes: Vec<u8>,
    sizes: BTreeMap<BlobKind, usize>,
    tables: BTreeMap<Vec<u8>, u32>,
}

impl Payload {
    /// A blob begins at a multiple of this many bytes.
    pub const ALIGN_BYTES: usize = 16;

    /// Adds a blob and gives its offset.
    pub fn push(&mut self, kind: BlobKind, blob: &[u8]) -> u32 {
        let offset = self.bytes.len();
        self.bytes.extend(blob);
        self.bytes.resize(self.bytes.len().next_multiple_of(Self::ALIGN_BYTES), 0);
        *self.sizes.entry(kind).or_default() += self.bytes.len() - offset;
        // `pack` refuses files of 4 GiB, so an offset that is cut here is never written.
        offset as u32
    }

    /// Adds a blob unless the same bytes are there already.
    pub fn intern(&mut self, kind: BlobKind, blob: &[u8]) -> u32 {
        if let Some(&offset) = self.tables.get(blob) {
            return offset;
        }
        let offset = self.push(kind, blob);
        self.tables.insert(blob.to_vec(), offset);
        offset
    }

    /// Adds f32 values.
    pub fn push_f32(&mut self, kind: BlobKind, values: &[f32]) -> u32 {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.push(kind, &bytes)
    }

    /// Everything so far, a multiple of 16 bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes of each kind, padding included.
    pub fn sizes(&self) -> &BTreeMap<BlobKind, usize> {
        &self.sizes
    }
}
