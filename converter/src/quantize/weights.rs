//! A weight matrix in integers, and how it is written.
//!
//! Int4 weights are int8 codes too, of a kind that takes half the bytes: a nibble times a small integer that the elements
//! of a group share ([`Encoding::I4`]). Only how they are written differs.
//!
//! Voids the promise: nothing. An all-zero channel has all-zero codes and whatever scale the bias needs.

use mote_runtime::format::{Encoding, Weights};

use super::payload::{BlobKind, Payload};
use super::solve::{Row, groups};

/// A weight matrix in integers.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedWeights {
    /// One an output channel.
    pub rows: Vec<Row>,
    /// Length of a row.
    pub row_elems: usize,
    /// How the rows are written.
    pub encoding: Encoding,
}

impl QuantizedWeights {
    /// The scale of each row.
    pub fn scales(&self) -> impl Iterator<Item = f32> + '_ {
        self.rows.iter().map(|row| row.scale)
    }

    /// The largest scale.
    pub fn largest_scale(&self) -> f32 {
        self.scales().fold(0.0, f32::max)
    }

    /// The int8 codes of each row.
    pub fn codes(&self) -> impl Iterator<Item = Vec<i8>> + '_ {
        let groups = groups(self.encoding, self.row_elems);
        self.rows.iter().map(move |row| row.codes(&groups))
    }

    /// Writes rows and constants; the record's offsets count from the payload's start.
    pub fn store(&self, payload: &mut Payload) -> Weights {
        let mut params = Vec::new();
        for (row, codes) in self.rows.iter().zip(self.codes()) {
            params.extend(row.scale.to_le_bytes());
            params.extend(codes.iter().map(|&code| i32::from(code)).sum::<i32>().to_le_bytes());
        }
        let mut weights = Weights {
            params: payload.push(BlobKind::Constants, &params),
            offset: 0,
            rows: self.rows.len() as u16,
            encoding: self.encoding,
            row_elems: self.row_elems as u32,
        };
        let levels: Vec<i8> = self.rows.iter().flat_map(|row| row.levels.iter().copied()).collect();
        let group_scales: Vec<u8> = match weights.groups() {
            0 => Vec::new(),
            _ => self.rows.iter().flat_map(|row| row.group_scales.iter().copied()).collect(),
        };
        let bytes: Vec<u8> = weights.pack(&levels, &group_scales).collect();
        weights.offset = payload.push(BlobKind::Weights, &bytes);
        weights
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        let (rows, row_elems) = (6, 21);
        let encodings = [0, 4, 8, 16, 20, 24, 1020].map(|group_len| Encoding::I4 { group_len });
        for encoding in encodings.into_iter().chain([Encoding::I8]) {
            let most = if encoding == Encoding::I8 { 127 } else { i32::from(Encoding::NIBBLE_MAX) };
            let groups = groups(encoding, row_elems);
            let row = |r: usize| Row {
                levels: (0..row_elems).map(|i| ((i * 37 + r * 11) as i32 % (2 * most + 1) - most) as i8).collect(),
                group_scales: (0..groups.len())
                    .map(|g| if groups.len() == 1 { 1 } else { ((g * 5 + r) % 16) as u8 + 1 })
                    .collect(),
                scale: 0.5 + r as f32,
            };
            let weights = QuantizedWeights { rows: (0..rows).map(row).collect(), row_elems, encoding };
            let mut payload = Payload::default();
            let record = weights.store(&mut payload);
            assert_eq!(Weights::decode(&record.encode().0), Some(record));
            assert_eq!(payload.bytes().len(), record.len_bytes().next_multiple_of(16) + 48);
            for (r, codes) in weights.codes().enumerate() {
                for (elem, &code) in codes.iter().enumerate() {
                    let bytes = &payload.bytes()[record.offset as usize..];
                    assert_eq!(record.code(bytes, r, elem), code, "{encoding:?} {r} {elem}");
                }
                let at = record.params as usize + r * Weights::PARAM_BYTES;
                assert_eq!(payload.bytes()[at..at + 4], (0.5 + r as f32).to_le_bytes());
                let sum: i32 = codes.iter().map(|&code| i32::from(code)).sum();
                assert_eq!(payload.bytes()[at + 4..at + 8], sum.to_le_bytes());
            }
        }
    }
}
