//! A weight matrix in integers, and how it is written.
//!
//! Voids the promise: nothing. An all-zero channel has all-zero codes and whatever scale the bias needs.

use super::payload::{BlobKind, Payload};
use super::solve::{Grid, Row};
use mote_runtime::format::{Encoding, Weights};

/// A weight matrix in integers.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedWeights {
    /// `[rows, row_elems]`.
    pub codes: Vec<i8>,
    /// One a row.
    pub scales: Vec<f32>,
    /// Length of a row.
    pub row_elems: usize,
}

impl QuantizedWeights {
    /// Of solved rows.
    pub fn new(rows: Vec<Row>, row_elems: usize, grid: Grid) -> Self {
        let groups = grid.groups(row_elems);
        let codes = rows.iter().flat_map(|row| row.codes(&groups)).collect();
        Self { codes, scales: rows.iter().map(|row| row.scale).collect(), row_elems }
    }

    /// Σ|code| of each row.
    pub fn row_sums(&self) -> impl Iterator<Item = i64> + '_ {
        self.codes.chunks_exact(self.row_elems.max(1)).map(|row| row.iter().map(|&code| i64::from(code).abs()).sum())
    }

    /// The largest scale.
    pub fn largest_scale(&self) -> f32 {
        self.scales.iter().fold(0.0, |m, s| m.max(*s))
    }

    /// Writes rows and constants; the record's offsets count from the payload's start.
    pub fn store(&self, payload: &mut Payload) -> Weights {
        let mut params = Vec::new();
        for (row, scale) in self.codes.chunks_exact(self.row_elems.max(1)).zip(&self.scales) {
            params.extend(scale.to_le_bytes());
            params.extend(row.iter().map(|&w| i32::from(w)).sum::<i32>().to_le_bytes());
        }
        let mut weights = Weights {
            params: payload.push(BlobKind::Constants, &params),
            offset: 0,
            rows: self.scales.len() as u16,
            encoding: Encoding::I8,
            row_elems: self.row_elems as u32,
        };
        weights.offset = payload.push(BlobKind::Weights, &weights.pack(&self.codes).collect::<Vec<_>>());
        weights
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_near_and_sums_agree() {
        let weight: Vec<f32> = (0..60).map(|i| ((i * 37) % 61) as f32 / 30.0 - 1.0).chain([0.0; 10]).collect();
        let q = QuantizedWeights::new(&weight, 10, 0.5, &[0.0; 7], i64::MAX);
        for (i, &w) in weight.iter().enumerate() {
            let s = q.scales[i / 10];
            assert!((f32::from(q.codes[i]) * s - w * 0.5).abs() <= s * 0.51 + 1e-3, "{i}");
        }
        let mut payload = Payload::default();
        let record = q.store(&mut payload);
        assert_eq!((record.rows, record.row_elems, record.row_bytes()), (7, 10, 12));
        let sum: i32 = q.codes[..10].iter().map(|&w| i32::from(w)).sum();
        let at = record.params as usize + 4;
        assert_eq!(payload.bytes()[at..at + 4], sum.to_le_bytes());
        for row in 0..7 {
            for elem in 0..10 {
                let at = record.offset as usize + record.position(row, elem);
                assert_eq!(payload.bytes()[at] as i8, q.codes[row * 10 + elem], "{row} {elem}");
            }
        }
        assert_eq!(q.codes[60..], [0; 10]);
        assert!(QuantizedWeights::new(&weight, 10, 0.5, &[1.0; 7], i64::MAX).scales.iter().all(|&s| s >= 1.0));
        let limited = QuantizedWeights::new(&weight, 10, 0.5, &[0.0; 7], 300);
        assert!(limited.codes.chunks(10).all(|row| row.iter().map(|&w| i64::from(w).abs()).sum::<i64>() <= 300));
    }
}
