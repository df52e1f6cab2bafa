//! Pointwise functions and the exponential as tables.
//!
//! An activation's table depends on its input step alone: `out_step = in_step/64`, which holds every value, because
//! |f(x)| ≤ |x| for each of them and |x| ≤ 512 steps. With input steps that are powers of two, most norms of a network
//! share two or three tables.
//!
//! Voids the promise: a pre-activation beyond anything that calibration saw reads the table's last entry.

use mote_runtime::format::op::Table;

use super::payload::{BlobKind, Payload};
use crate::calibrate::Observation;
use crate::graph::Activation;

/// Entries on either side of zero.
const HALF: i32 = Table::LEN as i32 / 2;
/// `in_step / out_step`.
const OUT_STEPS: f32 = 64.0;

/// The table of `activation` for inputs as observed; `None` for the identity.
///
/// The step is the power of two of least expected squared error among those that hold the largest input; a negative tail
/// may be cut, where the function is flat.
pub fn activation(activation: Activation, seen: &Observation, payload: &mut Payload) -> Option<Table> {
    if activation == Activation::Identity {
        return None;
    }
    let largest = seen.extremes().map_or(1.0, |range| range.max);
    let points: Vec<(f32, f64)> = points(seen);
    let mut best = (f64::INFINITY, 4.0);
    for exponent in -4..=12 {
        let in_step = 2f32.powi(-exponent);
        if (HALF - 1) as f32 * in_step < largest {
            break;
        }
        let error = points.iter().map(|&(x, n)| {
            let index = (x / in_step).round_ties_even().clamp(-HALF as f32, (HALF - 1) as f32);
            let error = f64::from(activation.apply(x) - activation.apply(index * in_step));
            error * error * n
        });
        let error = error.sum::<f64>();
        if error <= best.0 {
            best = (error, in_step);
        }
    }
    Some(with_step(activation, best.1, payload))
}

/// The table of `activation` for inputs of magnitude up to `largest`.
pub fn covering(activation: Activation, largest: f32, payload: &mut Payload) -> Table {
    let mut in_step = 2f32.powi(-12);
    while (HALF - 1) as f32 * in_step < largest && in_step < 1e6 {
        in_step *= 2.0;
    }
    with_step(activation, in_step, payload)
}

fn with_step(activation: Activation, in_step: f32, payload: &mut Payload) -> Table {
    let out_step = in_step / OUT_STEPS;
    let entry =
        |i: i32| (activation.apply(i as f32 * in_step) / out_step).round_ties_even().clamp(-32_767.0, 32_767.0) as i16;
    let bytes: Vec<u8> = (-HALF..HALF).flat_map(|i| entry(i).to_le_bytes()).collect();
    Table { offset: payload.intern(BlobKind::Tables, &bytes), in_step, out_step }
}

/// Eight evenly spaced values for each bin of the histogram: a bin is wider than a table's step.
fn points(seen: &Observation) -> Vec<(f32, f64)> {
    const POINTS: i32 = 8;
    let spread = |(x, n): (f64, u64)| {
        (0..POINTS).map(move |i| {
            let within = f64::from(2 * i + 1 - POINTS) / f64::from(POINTS);
            ((x * (1.0 + within / 40.0)) as f32, n as f64 / f64::from(POINTS))
        })
    };
    seen.histogram().flat_map(spread).collect()
}

/// Attention's exponential: exp(−i/4), then exp(−j/256), 64 entries each, in 1/32768 and at most 32767.
pub fn exponential(payload: &mut Payload) -> u32 {
    let entry = |unit: f64, x: f64| ((unit * (-x).exp()).round() as u16).min(32_767);
    let coarse = (0..64).map(|i| entry(32_767.0, f64::from(i) / 4.0));
    let fine = (0..64).map(|j| entry(32_768.0, f64::from(j) / 256.0));
    let bytes: Vec<u8> = coarse.chain(fine).flat_map(u16::to_le_bytes).collect();
    payload.intern(BlobKind::Tables, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(payload: &Payload, table: &Table, index: i32) -> f32 {
        let at = table.offset as usize + 2 * (index + HALF) as usize;
        f32::from(i16::from_le_bytes([payload.bytes()[at], payload.bytes()[at + 1]])) * table.out_step
    }

    #[test]
    fn entries_are_the_function() {
        let mut payload = Payload::default();
        for f in [Activation::Silu, Activation::Mish, Activation::Gelu, Activation::Relu] {
            let table = covering(f, 7.3, &mut payload);
            assert_eq!(table.in_step, 1.0 / 64.0);
            for i in -HALF..HALF {
                let x = i as f32 * table.in_step;
                assert!((entry(&payload, &table, i) - f.apply(x)).abs() <= table.out_step * 0.51, "{f:?} {x}");
            }
        }
    }

    #[test]
    fn a_flat_negative_tail_does_not_cost_precision() {
        let values: Vec<f32> =
            (0..4000).map(|i| if i % 100 == 0 { -30.0 } else { (i % 97) as f32 / 25.0 - 1.0 }).collect();
        let seen = Observation::of(&values).unwrap_or_default();
        let mut payload = Payload::default();
        let table = activation(Activation::Silu, &seen, &mut payload).map_or(0.0, |t| t.in_step);
        assert_eq!(table, 1.0 / 64.0);
        assert_eq!(activation(Activation::Identity, &seen, &mut payload), None);
        let size = payload.bytes().len();
        activation(Activation::Silu, &seen, &mut payload);
        assert_eq!(payload.bytes().len(), size, "the same table is stored once");
    }
}
