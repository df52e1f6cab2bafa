//! The golden sums that diffusers' own DDIM tests pin, and what is refused.

use super::update::State;
use super::*;

const BASE: &str = r#""num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear""#;

fn scheduler(more: &str) -> Result<Scheduler> {
    let comma = if more.is_empty() { "" } else { ", " };
    // A later key replaces an earlier one.
    Scheduler::read(&ConfigText::parse("scheduler_config.json", &format!("{{{BASE}{comma}{more}}}")).unwrap())
}

fn timesteps(more: &str, steps: usize) -> Vec<f32> {
    scheduler(more).unwrap().rows(steps, 0.0, false).unwrap().iter().map(|row| row.timestep).collect()
}

/// Σ|x| and mean |x| after ten steps with the model x·t/(t + 1) from diffusers' deterministic sample.
fn full_loop(more: &str) -> (f64, f64) {
    let deterministic = (0..768).map(|i| i as f32 / 768.0);
    let mut state = State::new(deterministic.collect());
    for row in scheduler(more).unwrap().rows(10, 0.0, false).unwrap() {
        let model: Vec<f32> = state.x.iter().map(|x| x * row.timestep / (row.timestep + 1.0)).collect();
        state.update(&row, &model, &[]);
    }
    let sum: f64 = state.x.iter().map(|x| f64::from(x.abs())).sum();
    (sum, sum / state.x.len() as f64)
}

#[test]
fn sums_of_diffusers_tests() {
    for (more, sum, mean) in [
        ("", 172.0067, 0.223967),
        (r#""prediction_type": "v_prediction""#, 52.5302, 0.0684),
        (r#""beta_start": 0.01, "set_alpha_to_one": true"#, 149.8295, 0.1951),
        (r#""beta_start": 0.01, "set_alpha_to_one": false"#, 149.0784, 0.1941),
    ] {
        let have = full_loop(more);
        assert!(
            (have.0 - sum).abs() < 1e-3 && (have.1 - mean).abs() < 1e-4,
            "{more}: have {have:?}, need {sum}, {mean}"
        );
    }
}

#[test]
fn timesteps_of_diffusers_tests() {
    assert_eq!(timesteps(r#""steps_offset": 1"#, 5), [801.0, 601.0, 401.0, 201.0, 1.0]);
    assert_eq!(timesteps(r#""timestep_spacing": "trailing""#, 5), [999.0, 799.0, 599.0, 399.0, 199.0]);
    assert_eq!(timesteps(r#""timestep_spacing": "linspace""#, 5), [999.0, 749.0, 500.0, 250.0, 0.0]);
    for steps in 1..=1000 {
        let trailing = timesteps(r#""timestep_spacing": "trailing""#, steps);
        assert!(trailing.len() == steps && trailing[steps - 1] >= 0.0, "{steps}");
    }
}

#[test]
fn variances_of_diffusers_tests() {
    let alphas = scheduler("").unwrap();
    for (t, previous, need) in [(420, 400, 0.14771), (980, 960, 0.32460), (487, 486, 0.00979), (999, 998, 0.02)] {
        let [alpha, alpha_prev] = [t, previous].map(|t| f64::from(alphas.alphas_cumprod()[t]));
        let variance = (1.0 - alpha_prev) / (1.0 - alpha) * (1.0 - alpha / alpha_prev);
        assert!((variance - need).abs() < 1e-5, "{t}: {variance}");
    }
}

#[test]
fn the_division_by_the_timestep_is_in_the_rows() {
    let scheduler = scheduler(r#""steps_offset": 1, "prediction_type": "v_prediction""#).unwrap();
    let plain = scheduler.rows(5, 0.0, false).unwrap();
    for (plain, divided) in plain.iter().zip(scheduler.rows(5, 0.0, true).unwrap()) {
        assert!((plain.q / plain.timestep - divided.q).abs() <= divided.q.abs() * 1e-6);
        assert!((plain.s / plain.timestep - divided.s).abs() <= divided.s.abs() * 1e-6);
        assert_eq!((plain.p, plain.r, plain.b, plain.c), (divided.p, divided.r, divided.b, divided.c));
    }
}

#[test]
fn what_has_no_step_is_refused() {
    let message = |more: &str, steps, eta, over| {
        let result = scheduler(more).and_then(|scheduler| scheduler.rows(steps, eta, over));
        result.unwrap_err().to_string()
    };
    let zero_snr = r#""rescale_betas_zero_snr": true, "timestep_spacing": "trailing""#;
    assert!(message(zero_snr, 10, 0.0, false).contains("timestep 999 with alphas_cumprod = 0"));
    assert!(message("", 5, 0.0, true).contains("timestep 0"));
    assert!(message("", 0, 0.0, false).contains("0 steps"));
    assert!(message("", 1001, 0.0, false).contains("1000 training timesteps"));
    assert!(message("", 10, 1.5, false).contains("eta = 1.5"));
    assert!(message(r#""steps_offset": 1"#, 1000, 0.0, false).contains("timestep 1000"));
    let unknown = r#""use_karras_sigmas": true, "beta_schedule": "exp", "variance_type": "learned_range", "sample_max_value": 0.5"#;
    let message = message(unknown, 10, 0.0, false);
    for part in ["use_karras_sigmas", "`beta_schedule` = \"exp\"", "scaled_linear", "learned_range", "sample_max_value"]
    {
        assert!(message.contains(part), "{part} in {message}");
    }
}
