//! Weights to symmetric int8, a scale for each output channel.
//!
//! The scale is the one of least squared error among clipping ratios from 1 down to ½ (per channel, so one stray weight
//! costs only its own channel), each refined once to the least-squares scale of its codes.
//!
//! Voids the promise: nothing. An all-zero channel has all-zero codes and whatever scale the bias needs.

use super::payload::{BlobKind, Payload};
use mote_runtime::format::{Encoding, Weights};

/// Codes are within ±this.
const CODE_MAX: f32 = 127.0;

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
    /// Quantizes `weight·factor`; `weight` is `[rows, row_elems]`. No scale is below `least_scales` of its row, and no
    /// row has Σ|w| above `row_sum_max`.
    pub fn new(weight: &[f32], row_elems: usize, factor: f32, least_scales: &[f32], row_sum_max: i64) -> Self {
        let rows = least_scales.len();
        let mut codes = Vec::with_capacity(rows * row_elems);
        let mut scales = Vec::with_capacity(rows);
        for (row, &least) in weight.chunks_exact(row_elems.max(1)).zip(least_scales) {
            let row: Vec<f32> = row.iter().map(|w| w * factor).collect();
            let mut scale = best_scale(&row).max(least);
            let sum = |scale: f32| row.iter().map(|&w| code(w, scale).abs() as i64).sum::<i64>();
            // Coarser by a percent at a time: rarely entered, and then for a few percent.
            while sum(scale) > row_sum_max {
                scale *= 1.01;
            }
            codes.extend(row.iter().map(|&w| code(w, scale) as i8));
            scales.push(scale);
        }
        Self { codes, scales, row_elems }
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

fn code(w: f32, scale: f32) -> f32 {
    (w / scale).round_ties_even().clamp(-CODE_MAX, CODE_MAX)
}

fn best_scale(row: &[f32]) -> f32 {
    let largest = row.iter().fold(0f32, |m, w| m.max(w.abs()));
    if largest < 1e-30 {
        return 1e-12;
    }
    let error = |scale: f32| -> f64 {
        row.iter().map(|&w| f64::from(w) - f64::from(code(w, scale)) * f64::from(scale)).map(|e| e * e).sum()
    };
    let mut best = (f64::INFINITY, largest / CODE_MAX);
    for i in 0..=20 {
        let scale = largest / CODE_MAX * (1.0 - 0.025 * i as f32);
        let (mut dot, mut norm) = (0f64, 0f64);
        for &w in row {
            let q = f64::from(code(w, scale));
            dot += q * f64::from(w);
            norm += q * q;
        }
        let refined = if norm > 0.0 { (dot / norm) as f32 } else { scale };
        for scale in [scale, refined] {
            let error = error(scale);
            if error < best.0 {
                best = (error, scale);
            }
        }
    }
    best.1
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
