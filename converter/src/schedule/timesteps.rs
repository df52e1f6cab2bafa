//! Which training timesteps are visited, as numpy rounds them in diffusers.

use miette::{Result, miette};

use super::config::{SchedulerConfig, Spacing};

/// The timesteps of `steps` steps, from noise to picture.
pub fn timesteps(config: &SchedulerConfig, steps: usize) -> Result<Vec<i64>> {
    let trained = config.num_train_timesteps;
    if !(1..=trained).contains(&steps) {
        return Err(miette!(
            help = format!("take from 1 to {trained} steps; 10 to 50 are usual"),
            "{steps} steps cannot be taken: the scheduler has {trained} training timesteps"
        ));
    }
    Ok(match config.timestep_spacing {
        Spacing::Leading => {
            let stride = trained / steps;
            (0..steps).rev().map(|i| (i * stride) as i64 + config.steps_offset).collect()
        }
        Spacing::Linspace => {
            let last = (trained - 1) as f64;
            let stride = if steps > 1 { last / (steps - 1) as f64 } else { 0.0 };
            let at = |i: usize| if steps > 1 && i == steps - 1 { last } else { i as f64 * stride };
            (0..steps).rev().map(|i| at(i).round_ties_even() as i64).collect()
        }
        Spacing::Trailing => {
            // `numpy.arange` steps by the difference of its first two elements. It can yield one element too many, by
            // rounding, which would be timestep −1; there are `steps` steps here.
            let start = trained as f64;
            let delta = (start - start / steps as f64) - start;
            (0..steps).map(|i| (start + i as f64 * delta).round_ties_even() as i64 - 1).collect()
        }
    })
}
