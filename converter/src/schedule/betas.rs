//! Noise levels: betas to ᾱ, with torch's precision at each place.

use std::f64::consts::FRAC_PI_2;

use super::config::{BetaSchedule, SchedulerConfig};

/// ᾱ by timestep.
pub fn alphas_cumprod(config: &SchedulerConfig) -> Vec<f32> {
    let betas = config.trained_betas.clone().unwrap_or_else(|| betas(config));
    let betas = if config.rescale_betas_zero_snr { rescale_zero_terminal_snr(&betas) } else { betas };
    cumprod(&betas)
}

fn betas(config: &SchedulerConfig) -> Vec<f32> {
    let (start, end, n) = (config.beta_start, config.beta_end, config.num_train_timesteps);
    match config.beta_schedule {
        BetaSchedule::Linear => linspace(start as f32, end as f32, n).collect(),
        BetaSchedule::ScaledLinear => {
            linspace(start.sqrt() as f32, end.sqrt() as f32, n).map(|root| root * root).collect()
        }
        BetaSchedule::Sigmoid => {
            let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
            linspace(-6.0, 6.0, n).map(|x| sigmoid(x) * (end - start) as f32 + start as f32).collect()
        }
        BetaSchedule::SquaredCosine => for_alpha_bar(n, |t| ((t + 0.008) / 1.008 * FRAC_PI_2).cos().powi(2)),
        BetaSchedule::Laplace => for_alpha_bar(n, |t| {
            let sign = 1f64.copysign(0.5 - t);
            let snr = (-0.5 * sign * (1.0 - 2.0 * (0.5 - t).abs() + 1e-6).ln()).exp();
            (snr / (1.0 + snr)).sqrt()
        }),
    }
}

/// `torch.linspace`: counted from the nearer end.
fn linspace(start: f32, end: f32, n: usize) -> impl Iterator<Item = f32> {
    let step = if n > 1 { (end - start) / (n - 1) as f32 } else { 0.0 };
    (0..n).map(move |i| if i < n.div_ceil(2) { start + step * i as f32 } else { end - step * (n - 1 - i) as f32 })
}

/// Betas that make ᾱ follow `alpha_bar` over [0, 1], at most 0.999 each.
fn for_alpha_bar(n: usize, alpha_bar: impl Fn(f64) -> f64) -> Vec<f32> {
    let at = |i: usize| alpha_bar(i as f64 / n as f64);
    (0..n).map(|i| (1.0 - at(i + 1) / at(i)).min(0.999) as f32).collect()
}

/// Lin et al., arXiv:2305.08891, algorithm 1, in f32 like the original.
fn rescale_zero_terminal_snr(betas: &[f32]) -> Vec<f32> {
    let mut roots: Vec<f32> = cumprod(betas).iter().map(|alpha| alpha.sqrt()).collect();
    let (Some(first), Some(last)) = (roots.first().copied(), roots.last().copied()) else { return Vec::new() };
    for root in &mut roots {
        *root = (*root - last) * (first / (first - last));
    }
    let bars: Vec<f32> = roots.iter().map(|root| root * root).collect();
    let alphas = bars[..1].iter().copied().chain(bars.windows(2).map(|pair| pair[1] / pair[0]));
    alphas.map(|alpha| 1.0 - alpha).collect()
}

/// `torch.cumprod` of 1 − β: f32 elements, an f64 running product.
fn cumprod(betas: &[f32]) -> Vec<f32> {
    let product = |product: &mut f64, beta: &f32| {
        *product *= f64::from(1.0 - beta);
        Some(*product as f32)
    };
    betas.iter().scan(1.0, product).collect()
}
