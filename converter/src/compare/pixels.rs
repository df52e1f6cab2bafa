//! The values of all pixels of a set: does the quantized network draw as dark, as bright, as contrasty as float does?

use serde::Serialize;

/// Levels of a display.
const LEVELS: usize = 256;

/// Pixel values of a set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pixels {
    /// Mean, before clipping.
    pub mean: f64,
    /// Standard deviation, before clipping.
    pub standard_deviation: f64,
    /// How many pixels a display would show at each of its 256 levels, −1 being level 0.
    pub levels: Vec<u64>,
}

impl Pixels {
    /// Of a set of pictures.
    pub fn of(pictures: &[Vec<f32>]) -> Self {
        let (mut levels, mut sum, mut squares, mut count) = (vec![0; LEVELS], 0.0, 0.0, 0u64);
        for &x in pictures.iter().flatten() {
            sum += f64::from(x);
            squares += f64::from(x) * f64::from(x);
            count += 1;
            // What is no number counts as −1; the cast rounds towards zero.
            levels[((x.clamp(-1.0, 1.0) + 1.0) * 127.5 + 0.5) as usize % LEVELS] += 1;
        }
        let mean = sum / count.max(1) as f64;
        let variance = (squares / count.max(1) as f64 - mean * mean).max(0.0);
        Self { mean, standard_deviation: variance.sqrt(), levels }
    }

    /// The Wasserstein-1 distance of two sets, in levels of 256: how far pixels would have to be moved, on average, to
    /// make one distribution the other.
    pub fn distance(&self, other: &Self) -> f64 {
        let total = |pixels: &Self| pixels.levels.iter().sum::<u64>().max(1) as f64;
        let (mine, theirs) = (total(self), total(other));
        let (mut ahead, mut distance) = (0.0f64, 0.0);
        for (a, b) in self.levels.iter().zip(&other.levels) {
            ahead += *a as f64 / mine - *b as f64 / theirs;
            distance += ahead.abs();
        }
        distance
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shift_by_a_tenth_is_that_many_levels() {
        let picture: Vec<f32> = (0..1000).map(|i| i as f32 / 1000.0 - 0.5).collect();
        let shifted = picture.iter().map(|x| x + 0.1).collect();
        let (a, b) = (Pixels::of(&[picture]), Pixels::of(&[shifted]));
        assert!((a.distance(&b) - 12.75).abs() < 0.2, "{}", a.distance(&b));
        assert_eq!((a.distance(&a), a.distance(&b)), (0.0, b.distance(&a)));
        assert!((b.mean - a.mean - 0.1).abs() < 1e-6 && (a.standard_deviation - 1.0 / 12f64.sqrt()).abs() < 1e-3);
    }

    #[test]
    fn a_display_clips() {
        let pixels = Pixels::of(&[vec![-3.0, -1.0, 0.0, 1.0, 2.0, f32::NAN]]);
        assert_eq!([pixels.levels[0], pixels.levels[128], pixels.levels[255]], [3, 1, 2]);
    }
}
