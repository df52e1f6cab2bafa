//! The judge: a small trained classifier that reads drawn pictures, and what its readings come to.
//!
//! `models/train/classifier.py` trains one and writes `classifier.safetensors`: some times (3×3 convolution with padding
//! 1, ReLU, 2×2 max pooling), then one linear layer over the features in C,H,W order; input in −1..1. Two questions are
//! put to it. [`share`]: how many pictures does it read as the class that was asked for? [`frechet`]: how far is the
//! distribution of its features (the last maps, averaged over their pixels) from that of real pictures that nobody
//! trained on, whose mean and covariance lie in the file as well?
//!
//! A display clips, so the judge does too. Arithmetic is the f32 interpreter's: the same on any number of threads.
//! Voids the promise: distances of sets of unlike sizes. The estimate falls with the number of pictures, so only equal
//! numbers compare.

mod classifier;
pub mod frechet;
pub mod share;

use std::path::{Path, PathBuf};

use miette::{Report, Result, miette};
use rayon::prelude::*;

use crate::weights::Checkpoint;
use classifier::Classifier;
use frechet::Held;

/// The file's name beside a checkpoint.
pub const FILE_NAME: &str = "classifier.safetensors";

/// A classifier with the statistics of the pictures that were held out.
#[derive(Debug)]
pub struct Judge {
    path: PathBuf,
    classifier: Classifier,
    held: Held,
    held_out_accuracy: Option<f64>,
}

/// What the judge says of one picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The class with the largest logit.
    pub class: usize,
    /// The last maps, averaged over their pixels.
    pub features: Vec<f32>,
}

impl Judge {
    /// Where the judge of a checkpoint lies, if it is there.
    pub fn beside(checkpoint: &Path) -> Option<PathBuf> {
        let folder = if checkpoint.is_dir() { checkpoint } else { checkpoint.parent()? };
        Some(folder.join(FILE_NAME)).filter(|path| path.is_file())
    }

    /// Reads a judge's file.
    pub fn read(path: &Path) -> Result<Self> {
        let unlike = |what: String| -> Report {
            miette!(
                help = "`python models/train/classifier.py NAME` trains a judge and writes its file",
                "{}: no judge's file: {what}",
                path.display()
            )
        };
        let file = Checkpoint::open(path)?;
        let classifier = Classifier::read(&file, &unlike)?;
        let features = classifier.feature_len();
        let mean = file.tensor("held_out_mean", &[features])?;
        let cov = file.tensor("held_out_cov", &[features, features])?;
        let held_out_accuracy = file.metadata().get("held_out_accuracy").and_then(|text| text.parse().ok());
        Ok(Self { path: path.to_owned(), classifier, held: Held::new(&mean, &cov), held_out_accuracy })
    }

    /// Where it was read.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of classes that it tells apart.
    pub fn classes(&self) -> usize {
        self.classifier.classes()
    }

    /// Number of features.
    pub fn feature_len(&self) -> usize {
        self.classifier.feature_len()
    }

    /// The share of the held-out pictures that it read rightly, where the file says.
    pub fn held_out_accuracy(&self) -> Option<f64> {
        self.held_out_accuracy
    }

    /// Statistics of the held-out pictures' features.
    pub fn held(&self) -> &Held {
        &self.held
    }

    /// Whether it reads pictures of this height, width and number of channels.
    pub fn check(&self, shape: [usize; 3]) -> Result<()> {
        let want = self.classifier.input();
        match shape == want {
            true => Ok(()),
            false => Err(miette!(
                help = "name the judge that was trained on this model's pictures with --judge FILE",
                "{}: reads pictures of {want:?}, the model draws {shape:?} (height, width, channels)",
                self.path.display()
            )),
        }
    }

    /// Reads pictures (HWC), in order; `done` is called behind each, from any thread.
    ///
    /// # Panics
    /// If a picture has not the length of the shape that [`Judge::check`] takes.
    pub fn read_all(&self, pictures: &[Vec<f32>], done: &(dyn Fn() + Sync)) -> Vec<Reading> {
        let one = |picture: &Vec<f32>| {
            let reading = self.classifier.run(picture);
            done();
            reading
        };
        pictures.par_iter().map(one).collect()
    }
}
