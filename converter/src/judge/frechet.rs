//! The Fréchet distance between two sets of features, as between two Gaussians: Dowson and Landau, *The Fréchet distance
//! between multivariate normal distributions*, J. Multivariate Anal. 12 (1982); in a classifier's features, Heusel et al.,
//! arXiv:1706.08500, equation 6:
//!
//! d = |m₁ − m₂|² + tr(C₁ + C₂ − 2·(C₂^½ C₁ C₂^½)^½)
//!
//! In f64, by the eigenvalues of symmetric matrices. The trace is the same whichever covariance gives the root, so it is the
//! held-out pictures', which is taken once.
//!
//! How sure is a distance? [`Blocks`] keeps the sums of [`BLOCKS`] blocks of a set. Leaving out one block after the
//! other (the delete-a-group jackknife; Kott, *J. Official Statistics* 17, 2001) gives the standard error over seeds
//! without drawing anything again, and for two sets of the same noise that of their difference.

use nalgebra::{DMatrix, DVector};
use rayon::prelude::*;
use serde::Serialize;

use super::Reading;

/// Blocks of a set for the standard error: 19 degrees of freedom, so the error is itself known to about 16 %.
pub const BLOCKS: usize = 20;

/// Mean and covariance of the held-out pictures' features.
#[derive(Clone, Debug)]
pub struct Held {
    mean: DVector<f64>,
    trace: f64,
    /// C^½.
    root: DMatrix<f64>,
}

impl Held {
    /// Of a mean and a covariance (row-major, symmetric).
    pub fn new(mean: &[f32], cov: &[f32]) -> Self {
        let len = mean.len();
        let cov = DMatrix::from_iterator(len, len, cov.iter().map(|&x| f64::from(x)));
        let trace = cov.trace();
        let eigen = cov.symmetric_eigen();
        let scaled =
            DMatrix::from_fn(len, len, |i, j| eigen.eigenvectors[(i, j)] * eigen.eigenvalues[j].max(0.0).sqrt());
        let root = scaled * eigen.eigenvectors.transpose();
        Self { mean: DVector::from_iterator(len, mean.iter().map(|&x| f64::from(x))), trace, root }
    }

    /// The distance of a set; `None` of fewer pictures than features, whose covariance has no full rank.
    fn distance(&self, sums: &Sums) -> Option<f64> {
        if sums.count <= self.mean.len() {
            return None;
        }
        let count = sums.count as f64;
        // Sums are of features minus the held-out mean.
        let offset = &sums.sum / count;
        let cov = (&sums.outer - &offset * offset.transpose() * count) / (count - 1.0);
        let product = &self.root * &cov * &self.root;
        let cross: f64 = product.symmetric_eigenvalues().iter().map(|value| value.max(0.0).sqrt()).sum();
        Some(offset.norm_squared() + cov.trace() + self.trace - 2.0 * cross)
    }
}

/// Sums of features minus the held-out mean, and of their products.
#[derive(Clone, Debug)]
struct Sums {
    count: usize,
    sum: DVector<f64>,
    outer: DMatrix<f64>,
}

impl Sums {
    fn of(held: &Held, readings: &[Reading]) -> Self {
        let len = held.mean.len();
        let feature = |i: usize, j: usize| f64::from(readings[j].features[i]) - held.mean[i];
        let x = DMatrix::from_fn(len, readings.len(), feature);
        Self { count: readings.len(), sum: x.column_sum(), outer: &x * x.transpose() }
    }

    fn minus(&self, other: &Self) -> Self {
        Self { count: self.count - other.count, sum: &self.sum - &other.sum, outer: &self.outer - &other.outer }
    }
}

/// The distance of a set, whole and without each of its blocks.
#[derive(Clone, Debug, Default)]
pub struct Blocks {
    whole: Option<f64>,
    without: Vec<f64>,
}

/// A number with its standard error over seeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The number.
    pub value: f64,
    /// The standard deviation that it would have over other seeds.
    pub standard_error: f64,
}

impl Blocks {
    /// Of readings; blocks are neighbours, so classes that take turns are in each of them alike.
    pub fn new(held: &Held, readings: &[Reading]) -> Self {
        let cut = |block: usize| block * readings.len() / BLOCKS;
        let parts: Vec<Sums> =
            (0..BLOCKS).into_par_iter().map(|block| Sums::of(held, &readings[cut(block)..cut(block + 1)])).collect();
        let mut whole = Sums::of(held, &[]);
        for part in &parts {
            whole.count += part.count;
            whole.sum += &part.sum;
            whole.outer += &part.outer;
        }
        let without: Option<Vec<f64>> = parts.par_iter().map(|part| held.distance(&whole.minus(part))).collect();
        Self { whole: held.distance(&whole), without: without.unwrap_or_default() }
    }

    /// The set's distance; `None` where there are too few pictures for it or for its error.
    pub fn distance(&self) -> Option<Estimate> {
        self.difference(None)
    }

    /// This distance minus that of a set of the same noise, block for block.
    pub fn minus(&self, paired: &Self) -> Option<Estimate> {
        self.difference(Some(paired))
    }

    fn difference(&self, other: Option<&Self>) -> Option<Estimate> {
        let value = self.whole? - other.map_or(Some(0.0), |other| other.whole)?;
        let other = |block: usize| other.map_or(Some(0.0), |other| other.without.get(block).copied());
        let each: Vec<f64> =
            self.without.iter().enumerate().map(|(i, x)| Some(x - other(i)?)).collect::<Option<_>>()?;
        let mean = each.iter().sum::<f64>() / each.len() as f64;
        let squares: f64 = each.iter().map(|x| (x - mean).powi(2)).sum();
        let blocks = each.len() as f64;
        (!each.is_empty()).then(|| Estimate { value, standard_error: ((blocks - 1.0) / blocks * squares).sqrt() })
    }
}
