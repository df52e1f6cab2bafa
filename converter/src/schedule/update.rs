//! One row's update in f32: the reference of what the device computes after each network call.

use mote_runtime::format::schedule::{Clip, HISTORY, Row, Store};

/// The sampler's state.
#[derive(Clone, Debug)]
pub struct State {
    /// x_t, HWC.
    pub x: Vec<f32>,
    /// The last prediction of the picture, after clipping.
    pub x0: Vec<f32>,
    /// What rows stored; empty until then.
    pub history: [Vec<f32>; HISTORY],
}

impl State {
    /// The start: pure noise.
    pub fn new(x: Vec<f32>) -> Self {
        Self { x0: vec![0.0; x.len()], x, history: Default::default() }
    }

    /// Applies `row` to the network's output (guidance applied). `noise` is read where `row.d` is not zero.
    pub fn update(&mut self, row: &Row, model: &[f32], noise: &[f32]) {
        for ((x0, x), model) in self.x0.iter_mut().zip(&self.x).zip(model) {
            *x0 = row.p * x + row.q * model;
        }
        clip(row.clip, &mut self.x0);
        let eps: Vec<f32> = self.x.iter().zip(model).map(|(x, model)| row.r * x + row.s * model).collect();
        let next = |i: usize| {
            let mut next = row.a * self.x[i] + row.b * self.x0[i] + row.c * eps[i];
            if row.d != 0.0 {
                next += row.d * noise[i];
            }
            for (e, history) in row.e.iter().zip(&self.history).filter(|(e, _)| **e != 0.0) {
                next += e * history[i];
            }
            next
        };
        let next: Vec<f32> = (0..self.x.len()).map(next).collect();
        let stored = match row.store {
            Store::None => None,
            Store::Eps => Some(eps),
            Store::X0 => Some(self.x0.clone()),
            Store::Model => Some(model.to_vec()),
        };
        if let Some(stored) = stored {
            self.history[usize::from(row.store_slot)] = stored;
        }
        if row.advance {
            self.x = next;
        }
    }
}

/// The clipping of x₀.
pub fn clip(clip: Clip, x0: &mut [f32]) {
    let (limit, divisor) = match clip {
        Clip::None => return,
        Clip::Range(range) => (range, 1.0),
        Clip::Dynamic { ratio, max } => {
            let limit = quantile_abs(x0, ratio).clamp(1.0, max);
            (limit, limit)
        }
    };
    // Not `f32::clamp`, which panics where a diverged network made the limit NaN.
    x0.iter_mut().for_each(|x0| *x0 = x0.max(-limit).min(limit) / divisor);
}

/// `torch.quantile(|x|, ratio)`: linear between the two nearest ranks.
fn quantile_abs(x: &[f32], ratio: f32) -> f32 {
    let mut sorted: Vec<f32> = x.iter().map(|x| x.abs()).collect();
    sorted.sort_unstable_by(f32::total_cmp);
    let rank = ratio * (sorted.len() - 1) as f32;
    let (below, weight) = (rank.floor(), rank.fract());
    let (low, high) = (sorted[below as usize], sorted[(rank.ceil() as usize).min(sorted.len() - 1)]);
    low + weight * (high - low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_linear_between_ranks() {
        let x = [3.0, -1.0, 0.0, -2.0];
        assert_eq!(quantile_abs(&x, 0.0), 0.0);
        assert_eq!(quantile_abs(&x, 1.0), 3.0);
        assert_eq!(quantile_abs(&x, 0.5), 1.5);
        let mut clipped = [4.0, -0.5, 3.0];
        clip(Clip::Dynamic { ratio: 0.5, max: 2.0 }, &mut clipped);
        assert_eq!(clipped, [1.0, -0.25, 1.0]);
    }
}
