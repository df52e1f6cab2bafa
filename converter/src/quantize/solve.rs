//! Which integers stand for a layer's weights: those that change the layer's output least on the inputs it really has.
//!
//! Rounding each weight to its nearest code is best only for inputs that are white. With G the inputs' second moments, a row
//! w loses (w − s·q)ᵀ G (w − s·q). (Moments around zero. Around the mean, with the difference left to the bias, digits' int4
//! lost 2 dB: means move from step to step, a bias does not.) Coordinate descent from the
//! unrounded row makes that small: in turn every weight takes the code that is best given all others, so that weights not
//! yet rounded make up for those that are. That is GPTQ's idea (Frantar et al., arXiv:2210.17323) as QuantEase does it
//! (Behdin et al., arXiv:2309.01885, algorithm 1), which needs no inverse; passes after the first go on improving, where
//! GPTQ stops. Then the scale takes its least-squares value, and groups of int4 may change theirs.
//!
//! Voids the promise: nothing. Without calibration (no samples) G is the identity, and all of this is plain rounding.

use std::ops::Range;

use mote_runtime::format::Encoding;
use rayon::prelude::*;

use crate::interpret::{Matrix, matmul};

/// Added to the diagonal, as a part of its mean: samples are few, and activations are rounded too.
const DAMPING: f32 = 0.01;
/// Passes over a row: the first one rounds, the others improve. Each takes row_elems² multiply-adds a row.
const PASSES: usize = 4;

/// First and second moments of a layer's input.
#[derive(Clone, Debug)]
pub struct Moments {
    /// Mean, `[row_elems]`.
    pub mean: Vec<f32>,
    /// Second moments with damping, `[row_elems, row_elems]`.
    gram: Vec<f32>,
}

impl Moments {
    /// Of samples `[n, row_elems]`; `None` where there are none.
    pub fn of(samples: &[f32], row_elems: usize) -> Option<Self> {
        let n = samples.len() / row_elems.max(1);
        if n == 0 {
            return None;
        }
        let mut sum = vec![0f64; row_elems];
        for sample in samples.chunks_exact(row_elems) {
            sum.iter_mut().zip(sample).for_each(|(sum, &x)| *sum += f64::from(x));
        }
        let mean = sum.iter().map(|sum| (sum / n as f64) as f32).collect();
        let mut gram = vec![0f32; row_elems * row_elems];
        // Blocks of rows, of a size that depends on the shape only: the same sums on any number of threads.
        const ROWS: usize = 64;
        gram.par_chunks_mut(ROWS * row_elems).enumerate().for_each(|(block, to)| {
            let rows = to.len() / row_elems;
            let a = Matrix { data: &samples[block * ROWS..], row_stride: 1, col_stride: row_elems };
            let b = Matrix { data: samples, row_stride: row_elems, col_stride: 1 };
            matmul([rows, row_elems, n], a, b, to, row_elems, false, 1.0 / n as f32);
        });
        let trace: f32 = (0..row_elems).map(|i| gram[i * row_elems + i]).sum();
        let damping = (DAMPING * trace / row_elems as f32).max(1e-20);
        (0..row_elems).for_each(|i| gram[i * row_elems + i] += damping);
        Some(Self { mean, gram })
    }

    fn column(&self, k: usize) -> &[f32] {
        // Symmetric: a row is a column.
        let len = self.mean.len();
        &self.gram[k * len..][..len]
    }
}

/// The largest level of an encoding.
fn level_max(encoding: Encoding) -> i8 {
    match encoding {
        Encoding::I8 => 127,
        Encoding::I4 { .. } => Encoding::NIBBLE_MAX,
    }
}

/// The largest scale of a group.
fn group_scale_max(encoding: Encoding) -> u8 {
    match encoding {
        Encoding::I4 { group_len: 1.. } => Encoding::GROUP_SCALE_MAX,
        Encoding::I4 { .. } | Encoding::I8 => 1,
    }
}

/// Begin and end of each group of a row; without group scales the row is one.
pub fn groups(encoding: Encoding, row_elems: usize) -> Vec<Range<usize>> {
    let step = match encoding {
        Encoding::I4 { group_len: group_len @ 1.. } => usize::from(group_len),
        Encoding::I4 { .. } | Encoding::I8 => row_elems.max(1),
    };
    (0..row_elems).step_by(step).map(|at| at..(at + step).min(row_elems)).collect()
}

/// A row's integers.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Without group scales, `[row_elems]`.
    pub levels: Vec<i8>,
    /// One a group.
    pub group_scales: Vec<u8>,
    /// Of all of them.
    pub scale: f32,
}

impl Row {
    /// Levels times group scales.
    pub fn codes(&self, groups: &[Range<usize>]) -> Vec<i8> {
        let mut codes = self.levels.clone();
        for (group, &scale) in groups.iter().zip(&self.group_scales) {
            codes[group.clone()].iter_mut().for_each(|code| *code *= scale as i8);
        }
        codes
    }
}

/// Solves all rows of `weight·factor`, `[rows, row_elems]`; no scale is below `least_scales` of its row, and no row has
/// Σ|code| above `row_sum_max`.
pub fn solve(
    weight: &[f32],
    factor: f32,
    encoding: Encoding,
    moments: Option<&Moments>,
    least_scales: &[f32],
    row_sum_max: i64,
) -> Vec<Row> {
    let row_elems = weight.len() / least_scales.len().max(1);
    let groups = groups(encoding, row_elems);
    let rows = weight.par_chunks_exact(row_elems.max(1)).zip(least_scales);
    rows.map(|(row, &least)| {
        let weight: Vec<f32> = row.iter().map(|w| w * factor).collect();
        let mut solver = RowSolver::new(&weight, encoding, &groups, moments, least);
        // Coarser by a percent at a time where sums might overflow: rarely entered, and then for a few percent.
        loop {
            let solved = solver.run();
            let sum: i64 = solved.codes(&groups).iter().map(|&code| i64::from(code).abs()).sum();
            if sum <= row_sum_max {
                break solved;
            }
            solver.coarser(1.01);
        }
    })
    .collect()
}

struct RowSolver<'a> {
    weight: &'a [f32],
    encoding: Encoding,
    groups: &'a [Range<usize>],
    moments: Option<&'a Moments>,
    least: f32,
    scale: f32,
    group_scales: Vec<u8>,
}

impl<'a> RowSolver<'a> {
    /// Chooses scales by plain rounding's error.
    fn new(
        weight: &'a [f32],
        encoding: Encoding,
        groups: &'a [Range<usize>],
        moments: Option<&'a Moments>,
        least: f32,
    ) -> Self {
        let importance = |k: usize| moments.map_or(1.0, |moments| moments.column(k)[k]);
        let steps: Vec<f32> = groups
            .iter()
            .map(|group| best_step(&weight[group.clone()], level_max(encoding).into(), |k| importance(group.start + k)))
            .collect();
        let most = f32::from(group_scale_max(encoding));
        let scale = steps.iter().fold(0f32, |m, &step| m.max(step / most)).max(least).max(1e-12);
        let group_scales = steps.iter().map(|step| (step / scale).round().clamp(1.0, most) as u8).collect();
        Self { weight, encoding, groups, moments, least, scale, group_scales }
    }

    fn coarser(&mut self, factor: f32) {
        self.scale *= factor;
        self.least = self.scale;
    }

    fn level(&self, value: f32, step: f32) -> f32 {
        let most = f32::from(level_max(self.encoding));
        (value / step).round_ties_even().clamp(-most, most)
    }

    fn row(&self, values: &[f32]) -> Row {
        let mut levels = vec![0i8; values.len()];
        for (group, &group_scale) in self.groups.iter().zip(&self.group_scales) {
            let step = self.scale * f32::from(group_scale);
            for k in group.clone() {
                levels[k] = self.level(values[k], step) as i8;
            }
        }
        Row { levels, group_scales: self.group_scales.clone(), scale: self.scale }
    }

    fn run(&mut self) -> Row {
        let Some(moments) = self.moments else { return self.row(self.weight) };
        let mut values = self.weight.to_vec();
        let mut pull = vec![0f32; values.len()];
        for pass in 0..PASSES {
            for g in 0..self.groups.len() {
                if pass > 0 {
                    self.try_group_scales(moments, g, &mut values, &mut pull);
                }
                let step = self.scale * f32::from(self.group_scales[g]);
                for k in self.groups[g].clone() {
                    let column = moments.column(k);
                    let value = self.level(values[k] + pull[k] / column[k], step) * step;
                    move_to(&mut values, &mut pull, column, k, value);
                }
            }
            if pass + 1 < PASSES {
                self.fit_scale(moments, &mut values, &mut pull);
            }
        }
        self.row(&values)
    }

    /// Takes a neighbouring scale for a group where that helps.
    fn try_group_scales(&mut self, moments: &Moments, g: usize, values: &mut [f32], pull: &mut [f32]) {
        let now = self.group_scales[g];
        let group = self.groups[g].clone();
        let mut best = (0f64, now, Vec::new());
        for next in [now.saturating_sub(1), now + 1] {
            if next == now || next == 0 || next > group_scale_max(self.encoding) {
                continue;
            }
            let step = self.scale * f32::from(next);
            let moves: Vec<f32> = group
                .clone()
                .map(|k| self.level(values[k] + pull[k] / moments.column(k)[k], step) * step - values[k])
                .collect();
            let mut change = 0f64;
            for (k, &by) in group.clone().zip(&moves) {
                let column = &moments.column(k)[group.clone()];
                let bent: f32 = column.iter().zip(&moves).map(|(c, m)| c * m).sum();
                change += f64::from(by) * f64::from(bent - 2.0 * pull[k]);
            }
            if change < best.0 {
                best = (change, next, moves);
            }
        }
        self.group_scales[g] = best.1;
        for (k, by) in group.zip(best.2) {
            move_to(values, pull, moments.column(k), k, values[k] + by);
        }
    }

    /// The least-squares scale of the codes: wᵀGq / qᵀGq.
    fn fit_scale(&mut self, moments: &Moments, values: &mut [f32], pull: &mut [f32]) {
        // pull = G(w − q), so qᵀGw = qᵀ(pull + Gq).
        let bent: Vec<f32> = (0..values.len()).map(|k| dot(moments.column(k), values)).collect();
        let (mut own, mut cross) = (0f64, 0f64);
        for ((&q, &bent), &pull) in values.iter().zip(&bent).zip(&*pull) {
            own += f64::from(q) * f64::from(bent);
            cross += f64::from(q) * f64::from(pull + bent);
        }
        let factor = if own > 0.0 { (cross / own) as f32 } else { 1.0 };
        let scale = self.scale * factor.clamp(0.5, 2.0);
        let factor = scale.max(self.least) / self.scale;
        self.scale *= factor;
        for ((value, pull), bent) in values.iter_mut().zip(pull).zip(bent) {
            *value *= factor;
            *pull -= (factor - 1.0) * bent;
        }
    }
}

/// values[k] = value, and pull = G(weight − values) follows.
fn move_to(values: &mut [f32], pull: &mut [f32], column: &[f32], k: usize, value: f32) {
    let by = value - values[k];
    values[k] = value;
    if by != 0.0 {
        pull.iter_mut().zip(column).for_each(|(pull, c)| *pull -= by * c);
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The step of least weighted squared error among clipping ratios from 1 down to ½, each refined once to the
/// least-squares step of its levels.
fn best_step(weight: &[f32], most: f32, importance: impl Fn(usize) -> f32) -> f32 {
    let largest = weight.iter().fold(0f32, |m, w| m.max(w.abs()));
    if largest < 1e-30 {
        return 0.0;
    }
    let level = |w: f32, step: f32| f64::from((w / step).round_ties_even().clamp(-most, most));
    let error = |step: f32| -> f64 {
        let errors = weight.iter().map(|&w| f64::from(w) - level(w, step) * f64::from(step));
        errors.enumerate().map(|(k, e)| e * e * f64::from(importance(k))).sum()
    };
    let mut best = (f64::INFINITY, largest / most);
    for i in 0..=20 {
        let step = largest / most * (1.0 - 0.025 * i as f32);
        let (mut dot, mut norm) = (0f64, 0f64);
        for (k, &w) in weight.iter().enumerate() {
            let (q, importance) = (level(w, step), f64::from(importance(k)));
            dot += q * f64::from(w) * importance;
            norm += q * q * importance;
        }
        let refined = if norm > 0.0 { (dot / norm) as f32 } else { step };
        for step in [step, refined] {
            let error = error(step);
            if error < best.0 {
                best = (error, step);
            }
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: usize = 3;
    const LEN: usize = 24;

    fn weight() -> Vec<f32> {
        (0..ROWS * LEN).map(|i| ((i * 37) % 61) as f32 / 30.0 - 1.0 + (i / LEN) as f32 * 0.01).collect()
    }

    /// Neighbouring elements alike, and far from zero on average.
    fn samples(n: usize) -> Vec<f32> {
        let noise = |i: usize| ((i * 7919 + i / 7 * 104_729) % 1000) as f32 / 500.0 - 1.0;
        (0..n).flat_map(|s| (0..LEN).map(move |k| 1.5 + noise(s * 31 + k / 4 * 5) + 0.2 * noise(s * LEN + k))).collect()
    }

    /// Mean squared error of the layer's outputs.
    fn loss(rows: &[Row], encoding: Encoding, samples: &[f32]) -> f64 {
        let (weight, groups) = (weight(), groups(encoding, LEN));
        let mut sum = 0.0;
        for (row, weight) in rows.iter().zip(weight.chunks_exact(LEN)) {
            let codes = row.codes(&groups);
            for sample in samples.chunks_exact(LEN) {
                let lost = weight.iter().zip(&codes).zip(sample).map(|((w, &q), x)| (w - f32::from(q) * row.scale) * x);
                sum += f64::from(lost.sum::<f32>()).powi(2);
            }
        }
        sum / (samples.len() / LEN * ROWS) as f64
    }

    #[test]
    fn outputs_err_at_most_half_as_much_as_by_rounding_to_the_nearest() {
        let samples = samples(500);
        let moments = Moments::of(&samples, LEN).unwrap();
        for encoding in [Encoding::I8, Encoding::I4 { group_len: 0 }, Encoding::I4 { group_len: 8 }] {
            let nearest = solve(&weight(), 1.0, encoding, None, &[0.0; ROWS], i64::MAX);
            let solved = solve(&weight(), 1.0, encoding, Some(&moments), &[0.0; ROWS], i64::MAX);
            let [before, after] = [&nearest, &solved].map(|rows| loss(rows, encoding, &samples));
            assert!(after * 2.0 < before, "{encoding:?}: {before:.2e} → {after:.2e}");
        }
    }

    #[test]
    fn codes_stay_on_the_grid_and_limits_hold() {
        let moments = Moments::of(&samples(100), LEN).unwrap();
        for encoding in [Encoding::I8, Encoding::I4 { group_len: 0 }, Encoding::I4 { group_len: 8 }] {
            for moments in [None, Some(&moments)] {
                let least = [0.5, 0.0, 1e-3];
                for row in solve(&weight(), 0.5, encoding, moments, &least, 60).iter().zip(least) {
                    let (row, least) = row;
                    let most = if encoding == Encoding::I8 { 127 } else { 7 };
                    assert!(row.levels.iter().all(|level| level.abs() <= most), "{row:?}");
                    assert_eq!(row.group_scales.len(), groups(encoding, LEN).len());
                    assert!(row.group_scales.iter().all(|&scale| (1..=group_scale_max(encoding)).contains(&scale)));
                    assert!(row.scale >= least, "{row:?}");
                    let sum: i64 = row.codes(&groups(encoding, LEN)).iter().map(|&code| i64::from(code).abs()).sum();
                    assert!(sum <= 60, "{encoding:?} {sum}");
                }
            }
        }
    }

    #[test]
    fn without_samples_codes_are_the_nearest() {
        let rows = solve(&weight(), 1.0, Encoding::I8, None, &[0.0; ROWS], i64::MAX);
        for (row, weight) in rows.iter().zip(weight().chunks_exact(LEN)) {
            for (&level, w) in row.levels.iter().zip(weight) {
                let off = (w / row.scale - f32::from(level)).abs();
                assert!(off <= 0.5001 || level.abs() == 127, "{w} {level}");
            }
        }
        assert!(Moments::of(&[], LEN).is_none());
        let zeros = solve(&[0.0; LEN], 1.0, Encoding::I8, None, &[0.0], i64::MAX);
        assert_eq!(zeros[0].levels, [0; LEN]);
    }

    #[test]
    fn a_group_ends_with_its_row() {
        assert_eq!(groups(Encoding::I4 { group_len: 16 }, 24), [0..16, 16..24]);
        assert_eq!(groups(Encoding::I4 { group_len: 0 }, 24).len(), 1);
        assert_eq!(groups(Encoding::I8, 24)[0], 0..24);
    }
}
