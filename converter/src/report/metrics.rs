//! How near two signals are: PSNR of pictures, SQNR of anything else, in decibels.
//!
//! PSNR takes the data range of a sampler's pictures, −1..1, so its peak is 2; values outside of the range are clamped
//! first, as a display would. SQNR is Σf² / Σ(f − q)², added up before the logarithm is taken, so that a layer's number
//! does not depend on how its elements were cut into samples.
//!
//! Equal signals count as [`EQUAL_DB`]: a mean over pictures then stays finite, and JSON can hold it.

use serde::Serialize;

/// What two equal signals count as: the rounding of f32 itself, against a range of 2.
pub const EQUAL_DB: f64 = 150.0;

/// Peak signal-to-noise ratio of two pictures of the same length, in decibels.
pub fn psnr(reference: &[f32], other: &[f32]) -> f64 {
    let pixel = |x: &f32| f64::from(x.clamp(-1.0, 1.0));
    let squares = reference.iter().zip(other).map(|(a, b)| (pixel(a) - pixel(b)).powi(2));
    let mse = squares.sum::<f64>() / reference.len().max(1) as f64;
    decibels(4.0, mse)
}

/// 10·log₁₀(signal / noise) within ±[`EQUAL_DB`]; what is no number is as bad as can be.
fn decibels(signal: f64, noise: f64) -> f64 {
    let db = 10.0 * (signal / noise).log10();
    match db.is_nan() {
        _ if noise == 0.0 => EQUAL_DB,
        true => -EQUAL_DB,
        false => db.clamp(-EQUAL_DB, EQUAL_DB),
    }
}

/// Sums of squares of a signal and of its error, which can be added over steps and samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Power {
    signal: f64,
    noise: f64,
}

impl Power {
    /// Of a reference and what stands for it.
    pub fn of(reference: &[f32], other: &[f32]) -> Self {
        let mut power = Self::default();
        for (&f, &q) in reference.iter().zip(other) {
            power.signal += f64::from(f).powi(2);
            power.noise += (f64::from(f) - f64::from(q)).powi(2);
        }
        power
    }

    /// Adds another's sums.
    pub fn add(&mut self, other: Self) {
        self.signal += other.signal;
        self.noise += other.noise;
    }

    /// The signal to quantization-noise ratio, in decibels.
    pub fn sqnr(&self) -> f64 {
        decibels(self.signal, self.noise)
    }
}

/// What a set of per-picture numbers comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// Arithmetic mean.
    pub mean: f64,
    /// Linear between ranks, as `numpy.percentile(x, 5)`.
    pub percentile_5: f64,
    /// The smallest.
    pub min: f64,
}

impl Spread {
    /// Of values in any order; zeros where there are none.
    pub fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let (Some(&min), last) = (sorted.first(), sorted.len().saturating_sub(1)) else { return Self::default() };
        let rank = 0.05 * last as f64;
        let below = rank as usize;
        let above = sorted[(below + 1).min(last)];
        Self {
            mean: sorted.iter().sum::<f64>() / sorted.len() as f64,
            percentile_5: sorted[below] + (above - sorted[below]) * rank.fract(),
            min,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_a_tenth_of_the_range_is_twenty_decibels() {
        assert!((psnr(&[0.0, 0.5], &[0.2, 0.3]) - 20.0).abs() < 1e-5);
        assert_eq!(psnr(&[1.0], &[1.0]), EQUAL_DB);
        assert_eq!(psnr(&[1.0], &[7.0]), EQUAL_DB, "beyond white is white");
        assert_eq!(psnr(&[-3.0], &[-1.0]), EQUAL_DB, "in float as well");
        assert_eq!(psnr(&[1.0], &[f32::NAN]), -EQUAL_DB, "no number is no likeness");
    }

    #[test]
    fn powers_add_before_the_logarithm() {
        let mut power = Power::of(&[3.0], &[3.1]);
        power.add(Power::of(&[1.0], &[1.0]));
        assert!((power.sqnr() - 30.0).abs() < 1e-4, "{}", power.sqnr());
        assert_eq!(Power::default().sqnr(), EQUAL_DB);
        assert_eq!(Power::of(&[0.0], &[1.0]).sqnr(), -EQUAL_DB);
    }

    #[test]
    fn the_spread_is_numpys() {
        let spread = Spread::of(&[4.0, 1.0, 3.0, 2.0, 5.0]);
        assert_eq!((spread.mean, spread.min), (3.0, 1.0));
        assert!((spread.percentile_5 - 1.2).abs() < 1e-12);
        assert_eq!(Spread::of(&[]), Spread::default());
    }
}
