//! The sampler's state in float; the update itself is the runtime's, so that both halves compute the same.

use mote_runtime::format::schedule::{HISTORY, Row};
use mote_runtime::kernels::scalar::TABLE;
use mote_runtime::sampler::coefficients;

/// The sampler's state.
#[derive(Clone, Debug)]
pub struct State {
    /// x_t, HWC.
    pub x: Vec<f32>,
    /// The last prediction of the picture, after clipping.
    pub x0: Vec<f32>,
    /// What rows stored; zero until then.
    pub history: [Vec<f32>; HISTORY],
}

impl State {
    /// The start: pure noise.
    pub fn new(x: Vec<f32>) -> Self {
        Self { x0: vec![0.0; x.len()], history: std::array::from_fn(|_| vec![0.0; x.len()]), x }
    }

    /// Applies `row` to the network's output (guidance applied). `noise` is read where `row.d` is not zero.
    pub fn update(&mut self, row: &Row, model: &[f32], noise: &[f32]) {
        self.x0.copy_from_slice(model);
        let history = self.history.each_mut().map(Vec::as_mut_slice);
        coefficients::update::<{ mote_runtime::opset::ALL }>(&TABLE, row, &mut self.x, &mut self.x0, history, |i| {
            noise.get(i).copied().unwrap_or(0.0)
        });
    }
}
