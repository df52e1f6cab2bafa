//! Weights to symmetric int8, a scale for each output channel; and how they are written.
//!
//! Int4 weights are int8 codes too, of a kind that takes half the bytes: nibble times a small integer that the elements of
//! a group share ([`Encoding::I4`]). So whoever reads `codes` need not know how they are written.
//!
//! The scale is the one of least squared error among clipping ratios from 1 down to ½ (per channel, so one stray weight
//! costs only its own channel), each refined once to the least-squares scale of its codes.
//!
//! Voids the promise: nothing. An all-zero channel has all-zero codes and whatever scale the bias needs.

use miette::{Result, miette};
use mote_runtime::format::{Encoding, Weights};

use super::payload::{BlobKind, Payload};

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
    /// How the codes are written.
    pub encoding: Encoding,
    /// For [`Encoding::I4`], of each group, `[rows, ⌈row_elems / group_len⌉]`: its codes are multiples of it.
    pub group_scales: Vec<u8>,
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
        Self { codes, scales, row_elems, encoding: Encoding::I8, group_scales: Vec::new() }
    }

    /// Int4 weights: element i of a row is `nibble·group_scale·scale`, with the group scale of `i / group_len`. Nibbles are
    /// `[rows, row_elems]`, within ±7; group scales `[rows, ⌈row_elems / group_len⌉]`, 1 to 16; scales one a row. With a
    /// `group_len` of 0 there are no group scales. A group stays within a tap where its length divides in_c.
    pub fn grouped(
        nibbles: &[i8],
        group_scales: Vec<u8>,
        scales: Vec<f32>,
        row_elems: usize,
        group_len: u16,
    ) -> Result<Self> {
        let encoding = Encoding::I4 { group_len };
        let mut weights = Self { codes: Vec::new(), scales, row_elems, encoding, group_scales };
        // In range, no product leaves i8.
        let in_range = nibbles.iter().copied().all(is_nibble);
        if !in_range || nibbles.len() != weights.scales.len() * row_elems || !weights.groups_are_whole() {
            return Err(weights.unwritable());
        }
        let of_element = (0..nibbles.len()).map(|at| weights.group_scale(at));
        weights.codes = nibbles.iter().zip(of_element).map(|(&nibble, scale)| nibble * scale).collect();
        Ok(weights)
    }

    /// Whether there is a group scale for every element, from 1 to 16.
    fn groups_are_whole(&self) -> bool {
        let in_range = self.group_scales.iter().all(|scale| (1..=Encoding::GROUP_SCALE_MAX).contains(scale));
        in_range && self.group_scales.len() == self.scales.len() * self.record().groups()
    }

    /// The group scale of `codes[at]`.
    fn group_scale(&self, at: usize) -> i8 {
        match self.encoding {
            Encoding::I4 { group_len } if group_len > 0 => {
                let (row, elem) = (at / self.row_elems, at % self.row_elems);
                self.group_scales[row * self.record().groups() + elem / usize::from(group_len)] as i8
            }
            Encoding::I8 | Encoding::I4 { .. } => 1,
        }
    }

    /// The record, without its places in the payload.
    fn record(&self) -> Weights {
        let (rows, row_elems) = (self.scales.len() as u16, self.row_elems as u32);
        Weights { offset: 0, params: 0, rows, encoding: self.encoding, row_elems }
    }

    fn unwritable(&self) -> miette::Report {
        miette!(help = "report this network", "weights that are no {:?}", self.encoding)
    }

    /// The largest scale.
    pub fn largest_scale(&self) -> f32 {
        self.scales.iter().fold(0.0, |m, s| m.max(*s))
    }

    /// Writes rows and constants; the record's offsets count from the payload's start.
    pub fn store(&self, payload: &mut Payload) -> Result<Weights> {
        let written = match self.encoding {
            Encoding::I8 => self.codes.clone(),
            Encoding::I4 { .. } if !self.groups_are_whole() => return Err(self.unwritable()),
            Encoding::I4 { .. } => {
                let nibble = |(at, &code): (usize, &i8)| {
                    let nibble = code / self.group_scale(at);
                    (code % self.group_scale(at) == 0 && is_nibble(nibble)).then_some(nibble)
                };
                let nibbles: Option<Vec<i8>> = self.codes.iter().enumerate().map(nibble).collect();
                nibbles.ok_or_else(|| self.unwritable())?
            }
        };
        let mut params = Vec::new();
        for (row, scale) in self.codes.chunks_exact(self.row_elems.max(1)).zip(&self.scales) {
            params.extend(scale.to_le_bytes());
            params.extend(row.iter().map(|&w| i32::from(w)).sum::<i32>().to_le_bytes());
        }
        let mut weights = Weights { params: payload.push(BlobKind::Constants, &params), ..self.record() };
        let bytes: Vec<u8> = weights.pack(&written, &self.group_scales).collect();
        weights.offset = payload.push(BlobKind::Weights, &bytes);
        Ok(weights)
    }
}

fn is_nibble(x: i8) -> bool {
    (-Encoding::NIBBLE_MAX..=Encoding::NIBBLE_MAX).contains(&x)
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
        let record = q.store(&mut payload).expect("int8 codes");
        assert_eq!((record.rows, record.row_elems, record.row_codes()), (7, 10, 12));
        let sum: i32 = q.codes[..10].iter().map(|&w| i32::from(w)).sum();
        let at = record.params as usize + 4;
        assert_eq!(payload.bytes()[at..at + 4], sum.to_le_bytes());
        for row in 0..7 {
            for elem in 0..10 {
                let code = record.code(&payload.bytes()[record.offset as usize..], row, elem);
                assert_eq!(code, q.codes[row * 10 + elem], "{row} {elem}");
            }
        }
        assert_eq!(q.codes[60..], [0; 10]);
        assert!(QuantizedWeights::new(&weight, 10, 0.5, &[1.0; 7], i64::MAX).scales.iter().all(|&s| s >= 1.0));
        let limited = QuantizedWeights::new(&weight, 10, 0.5, &[0.0; 7], 300);
        assert!(limited.codes.chunks(10).all(|row| row.iter().map(|&w| i64::from(w).abs()).sum::<i64>() <= 300));
    }

    #[test]
    fn int4_is_read_as_it_was_written_or_refused() {
        let (rows, row_elems) = (6, 21usize);
        let nibbles: Vec<i8> = (0..rows * row_elems).map(|i| (i * 37 % 15) as i8 - 7).collect();
        for group_len in [0, 4, 8, 16, 20, 24, 1020] {
            let groups = if group_len == 0 { 0 } else { row_elems.div_ceil(usize::from(group_len)) };
            let group_scales: Vec<u8> = (0..rows * groups).map(|i| (i * 5 % 16) as u8 + 1).collect();
            let with = |nibbles: &[i8], group_scales: &[u8]| {
                QuantizedWeights::grouped(nibbles, group_scales.to_vec(), vec![0.5; rows], row_elems, group_len)
            };
            let mut q = with(&nibbles, &group_scales).expect("in range");
            let mut payload = Payload::default();
            let record = q.store(&mut payload).expect("they factor");
            assert_eq!(Weights::decode(&record.encode().0), Some(record));
            assert_eq!(payload.bytes().len(), record.len_bytes().next_multiple_of(16) + 48);
            for (at, &nibble) in nibbles.iter().enumerate() {
                let (row, elem) = (at / row_elems, at % row_elems);
                let scale = elem.checked_div(group_len.into()).map_or(1, |group| group_scales[row * groups + group]);
                assert_eq!(q.codes[at], nibble * scale as i8);
                assert_eq!(record.code(&payload.bytes()[record.offset as usize..], row, elem), q.codes[at]);
            }
            let mut wrong = nibbles.clone();
            wrong[5] = -8;
            assert!(with(&wrong, &group_scales).is_err() && with(&nibbles[1..], &group_scales).is_err());
            let mut more = group_scales.clone();
            more.push(1);
            assert!(with(&nibbles, &more).is_err());
            if let [first, ..] = &mut more[..groups] {
                *first = 17;
                assert!(with(&nibbles, &more[..rows * groups]).is_err());
            }
            q.codes[5] = 127;
            assert!(q.store(&mut payload).is_err());
        }
    }
}
