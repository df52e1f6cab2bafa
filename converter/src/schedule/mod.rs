//! From `scheduler_config.json` and a number of steps to a table of rows (contract 1).
//!
//! DDIM (Song et al., arXiv:2010.02502, equation 12) as diffusers' `DDIMScheduler` runs it, for networks that were
//! trained with a `DDIMScheduler` or a `DDPMScheduler`; the latter describes the same noise levels, and is run as
//! `DDIMScheduler.from_config(…)` would be. Betas and their products are f32 where torch's are, coefficients f64.
//!
//! Voids the promise: nothing; what diffusers would run and this would not run equally is refused by name.

mod betas;
mod compiled;
mod config;
#[cfg(test)]
mod tests;
mod timesteps;
pub mod update;

use miette::{Result, miette};
use mote_runtime::format::schedule::{HISTORY, Row, Store};

pub use compiled::{FULL_GRAPH, SHALLOW_GRAPH, Schedules, is_shallow};
pub use config::{PredictionType, SchedulerConfig, Spacing};

use crate::fields::ConfigText;

/// A scheduler's noise levels, before a number of steps is chosen.
#[derive(Clone, Debug)]
pub struct Scheduler {
    config: SchedulerConfig,
    /// ᾱ by timestep.
    alphas_cumprod: Vec<f32>,
}

impl Scheduler {
    /// Reads and checks every key of a scheduler's configuration.
    pub fn read(text: &ConfigText) -> Result<Self> {
        let config = SchedulerConfig::read(text)?;
        let alphas_cumprod = betas::alphas_cumprod(&config);
        if let Some(t) = alphas_cumprod.iter().position(|alpha| !(0.0..=1.0).contains(alpha)) {
            return Err(miette!(
                help = "betas lie from 0 to 1: check `beta_start`, `beta_end`, `beta_schedule` and `trained_betas`",
                "{}: alphas_cumprod[{t}] is {}, outside of 0 to 1",
                text.origin,
                alphas_cumprod[t]
            ));
        }
        Ok(Self { config, alphas_cumprod })
    }

    /// The configuration.
    pub fn config(&self) -> &SchedulerConfig {
        &self.config
    }

    /// ᾱₜ, the part of the signal's variance that is left at each training timestep.
    pub fn alphas_cumprod(&self) -> &[f32] {
        &self.alphas_cumprod
    }

    /// One row a step, from noise to picture. `eta` from 0 (deterministic) to 1 (as much noise as DDPM).
    /// With `output_over_timestep` ([`Graph::output_over_timestep`](crate::graph::Graph::output_over_timestep)) the rows
    /// divide the network's output by the timestep: nobody else does.
    pub fn rows(&self, steps: usize, eta: f64, output_over_timestep: bool) -> Result<Vec<Row>> {
        if !(0.0..=1.0).contains(&eta) {
            return Err(miette!(help = "0 is DDIM, 1 adds as much noise as DDPM", "eta = {eta} is outside of 0 to 1"));
        }
        let stride = self.config.num_train_timesteps / steps.max(1);
        timesteps::timesteps(&self.config, steps)?
            .into_iter()
            .map(|timestep| self.row(timestep, stride as i64, eta, output_over_timestep))
            .collect()
    }

    fn row(&self, timestep: i64, stride: i64, eta: f64, output_over_timestep: bool) -> Result<Row> {
        let alpha_at = |t: i64| {
            usize::try_from(t).ok().and_then(|t| self.alphas_cumprod.get(t)).copied().ok_or_else(|| {
                miette!(
                    help = "use fewer steps, a smaller `steps_offset`, or another `timestep_spacing`",
                    "the schedule comes to timestep {t}, outside of the {} trained ones",
                    self.alphas_cumprod.len()
                )
            })
        };
        let alpha = f64::from(alpha_at(timestep)?);
        let previous = timestep - stride;
        let alpha_prev = match previous {
            ..0 if self.config.set_alpha_to_one => 1.0,
            ..0 => f64::from(alpha_at(0)?),
            _ => f64::from(alpha_at(previous)?),
        };
        let (signal, noise) = (alpha.sqrt(), (1.0 - alpha).sqrt());
        let (p, q, r, s) = match self.config.prediction_type {
            PredictionType::Epsilon => (1.0 / signal, -noise / signal, 0.0, 1.0),
            PredictionType::Sample => (0.0, 1.0, 1.0 / noise, -signal / noise),
            PredictionType::VPrediction => (signal, -noise, noise, signal),
        };
        // Equation 16; at ᾱ = 1 nothing is left to denoise and diffusers divides by zero.
        let sigma = eta * ((1.0 - alpha_prev) / (1.0 - alpha) * (1.0 - alpha / alpha_prev)).max(0.0).sqrt();
        let direction = (1.0 - alpha_prev - sigma * sigma).max(0.0).sqrt();
        let divisor = if output_over_timestep { timestep as f64 } else { 1.0 };
        let row = Row {
            timestep: timestep as f32,
            graph: FULL_GRAPH,
            null_graph: FULL_GRAPH,
            advance: true,
            p: p as f32,
            q: (q / divisor) as f32,
            clip: self.config.clip,
            r: r as f32,
            s: (s / divisor) as f32,
            a: 0.0,
            b: alpha_prev.sqrt() as f32,
            c: direction as f32,
            d: sigma as f32,
            e: [0.0; HISTORY],
            store: Store::None,
            store_slot: 0,
        };
        if row.is_valid() {
            return Ok(row);
        }
        Err(miette!(
            help = "a noise-free timestep (alphas_cumprod = 1) has no ε; pure noise (`rescale_betas_zero_snr`) has no x₀ \
                    from ε, so it needs `prediction_type` \"v_prediction\" or \"sample\"; a network with Fourier \
                    time embedding has no timestep 0",
            "timestep {timestep} with alphas_cumprod = {alpha} has no finite DDIM step for {:?}",
            self.config.prediction_type
        ))
    }
}
