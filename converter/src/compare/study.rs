//! Several files of one checkpoint against float, as pairs and as sets.
//!
//! A pair says whether the file draws *the same* picture, a set whether it draws *as good* ones. Float is drawn with the
//! files' noise and again with other seeds; how far such sets of the same model lie apart is the measure for how far a
//! file's set may lie from float's.

use std::sync::atomic::{AtomicUsize, Ordering};

use miette::{Result, miette};
use mote_runtime::Model;
use mote_runtime::kernels::scratch::arena_len_for;
use mote_runtime::kernels::tiling::TARGETS;
use serde::Serialize;

use super::{Comparison, Options, Pixels, Side, compare_files};
use crate::arch::{Cond, Network};
use crate::draw::{Draw, Prompt};
use crate::judge::frechet::{Blocks, Estimate};
use crate::judge::share::{Share, ShareDifference, Shares};
use crate::judge::{Judge, Reading};

/// What to study.
pub struct StudyOptions<'a> {
    /// The pairs.
    pub pairs: Options,
    /// Who judges the sets.
    pub judge: Option<&'a Judge>,
    /// Sets that float draws, that of the files' noise included. The others serve the judge only.
    pub float_sets: usize,
}

/// A file to study.
pub struct StudyFile<'a> {
    /// What to call it.
    pub name: String,
    /// The file, read.
    pub model: &'a Model<'a>,
}

/// The outcome.
#[derive(Clone, Debug, Serialize)]
pub struct Study {
    /// Pictures of a set.
    pub samples: usize,
    /// Steps of the schedule.
    pub steps: usize,
    /// `guidance_scale` of all samples.
    pub guidance: f32,
    /// Seed of the first picture.
    pub seed: u64,
    /// Who judged.
    pub judge: Option<JudgeInfo>,
    /// The float network.
    pub float: FloatStudy,
    /// One a file.
    pub files: Vec<FileStudy>,
    /// Height, width and channels of the pictures.
    pub shape: [usize; 3],
    /// What was drawn, pair by pair.
    #[serde(skip)]
    pub prompts: Vec<Prompt>,
}

/// The judge, for the record.
#[derive(Clone, Debug, Serialize)]
pub struct JudgeInfo {
    /// Its file.
    pub file: String,
    /// Share of the held-out pictures that it reads rightly.
    pub held_out_accuracy: Option<f64>,
    /// Dimensions of the space of the Fréchet distance.
    pub features: usize,
}

/// Float's side.
#[derive(Clone, Debug, Serialize)]
pub struct FloatStudy {
    /// Pixel values.
    pub pixels: Pixels,
    /// What the judge says of the paired set.
    pub judged: Option<Judged>,
    /// What it says of the sets of other seeds.
    pub other_seeds: Vec<Judged>,
    /// The standard deviation of the difference between two float sets' Fréchet distances: √2 times the standard error of
    /// one, taken over all float sets.
    pub frechet_seed_spread: Option<f64>,
    /// The pictures.
    #[serde(skip)]
    pub pictures: Vec<Vec<f32>>,
}

/// A set as the judge sees it.
#[derive(Clone, Debug, Serialize)]
pub struct Judged {
    /// How many are read as the class that was asked for, 0..1; none where no class was.
    pub class_share: Option<f64>,
    /// By class.
    pub by_class: Vec<Share>,
    /// Fréchet distance to the held-out real pictures; none of fewer pictures than features.
    pub frechet: Option<Estimate>,
}

/// A file's side.
#[derive(Clone, Debug, Serialize)]
pub struct FileStudy {
    /// Its name.
    pub file: String,
    /// Its length.
    pub file_bytes: usize,
    /// The arena that the portable kernels need.
    pub arena_bytes: usize,
    /// The pairs.
    #[serde(flatten)]
    pub comparison: Comparison,
    /// Pixel values.
    pub pixels: Pixels,
    /// Wasserstein-1 distance of the pixel values from float's, in levels of 256.
    pub pixel_distance_levels: f64,
    /// What the judge says.
    pub judged: Option<Judged>,
    /// Class share against float's.
    pub class_share_difference: Option<ShareDifference>,
    /// Fréchet distance against float's.
    pub frechet_difference: Option<FrechetDifference>,
    /// The pictures.
    #[serde(skip)]
    pub pictures: Vec<Vec<f32>>,
}

/// How a file's Fréchet distance differs from that of float on the same noise.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct FrechetDifference {
    /// The file's minus float's, with the standard error of pairs.
    pub difference: Estimate,
    /// The same, in per cent of float's.
    pub percent: f64,
    /// Whether it is no larger than the spread between two float sets.
    pub inside_seed_spread: bool,
}

/// Studies files; `at` is told the stage, what is done of it, and of how many, from any thread.
pub fn study(
    network: &Network,
    files: &[StudyFile],
    options: &StudyOptions,
    at: &(dyn Fn(&'static str, usize, usize) + Sync),
) -> Result<Study> {
    let Some(first) = files.first() else { return Err(miette!(help = "name one", "no file to compare")) };
    let prompts = &options.pairs.prompts;
    let asked = options.judge.map(|judge| asked(judge, prompts)).transpose()?.flatten();
    if let Some(judge) = options.judge {
        judge.check(first.model.image_shape())?;
    }

    let models: Vec<&Model> = files.iter().map(|file| file.model).collect();
    let compared =
        staged("comparing", prompts.len(), at, |done| compare_files(network, &models, &options.pairs, done))?;
    let mut sets = Sets { judge: options.judge, asked, at, float: Vec::new() };
    let float_judged = sets.float(&compared.float);
    let mut others = Vec::new();
    // Without a distance of the paired set there would be none of the others.
    if sets.float.first().is_some_and(|set| set.blocks.distance().is_some()) {
        let side = Side::new(network, first.model, options.pairs.steps)?;
        for set in 1..options.float_sets {
            let other: Vec<Prompt> = prompts.iter().map(|prompt| reseeded(prompt, set * prompts.len())).collect();
            let drawn =
                staged("other seeds, in float", other.len(), at, |done| side.float(network).draw(&other, false, done))?;
            let pictures: Vec<Vec<f32>> = drawn.into_iter().map(|drawn| drawn.x0).collect();
            others.extend(sets.float(&pictures));
        }
    }
    let spread = sets.spread();
    let pixels = Pixels::of(&compared.float);
    let of_files = files.iter().zip(compared.files).map(|(file, (comparison, pictures))| {
        let (judged, class_share_difference, difference) = sets.file(&pictures);
        let percent = |difference: Estimate| {
            100.0 * difference.value / float_judged.as_ref().and_then(|judged| judged.frechet).map_or(1.0, |d| d.value)
        };
        let of_file = Pixels::of(&pictures);
        FileStudy {
            file: file.name.clone(),
            file_bytes: file.model.bytes().len(),
            arena_bytes: arena_len_for(file.model.bytes(), TARGETS[0].tiling),
            comparison,
            pixel_distance_levels: of_file.distance(&pixels),
            pixels: of_file,
            judged,
            class_share_difference,
            frechet_difference: difference.zip(spread).map(|(difference, spread)| FrechetDifference {
                difference,
                percent: percent(difference),
                inside_seed_spread: difference.value.abs() <= spread,
            }),
            pictures,
        }
    });
    let of_files: Vec<FileStudy> = of_files.collect();
    Ok(Study {
        samples: prompts.len(),
        steps: of_files.first().map_or(0, |file| file.comparison.steps),
        guidance: prompts.first().map_or(1.0, |prompt| prompt.guidance),
        seed: prompts.first().map_or(0, |prompt| prompt.seed),
        judge: options.judge.map(|judge| JudgeInfo {
            file: judge.path().display().to_string(),
            held_out_accuracy: judge.held_out_accuracy(),
            features: judge.feature_len(),
        }),
        float: FloatStudy {
            pixels,
            judged: float_judged,
            other_seeds: others,
            frechet_seed_spread: spread,
            pictures: compared.float,
        },
        files: of_files,
        shape: first.model.image_shape(),
        prompts: prompts.clone(),
    })
}

/// The class of each prompt; `None` unless each has one.
fn asked(judge: &Judge, prompts: &[Prompt]) -> Result<Option<Vec<usize>>> {
    let class = |prompt: &Prompt| match prompt.cond {
        Cond::Class(class) => Some(class),
        _ => None,
    };
    let asked: Option<Vec<usize>> = prompts.iter().map(class).collect();
    match asked.iter().flatten().find(|class| **class >= judge.classes()) {
        None => Ok(asked),
        Some(class) => Err(miette!(
            help = "name the judge that was trained on this model's classes with --judge FILE",
            "{}: tells {} classes apart, and class {class} is drawn",
            judge.path().display(),
            judge.classes()
        )),
    }
}

fn reseeded(prompt: &Prompt, by: usize) -> Prompt {
    Prompt { seed: prompt.seed.wrapping_add(by as u64), noise: None, ..prompt.clone() }
}

/// Runs a stage that calls `done` behind each of its pieces.
fn staged<T>(
    name: &'static str,
    total: usize,
    at: &(dyn Fn(&'static str, usize, usize) + Sync),
    run: impl FnOnce(&(dyn Fn() + Sync)) -> T,
) -> T {
    let count = AtomicUsize::new(0);
    at(name, 0, total);
    run(&|| at(name, 1 + count.fetch_add(1, Ordering::Relaxed), total))
}

/// What a judge needs to remember of float while it goes through the files.
struct Sets<'a> {
    judge: Option<&'a Judge>,
    asked: Option<Vec<usize>>,
    at: &'a (dyn Fn(&'static str, usize, usize) + Sync),
    /// The paired set first.
    float: Vec<Set>,
}

struct Set {
    readings: Vec<Reading>,
    blocks: Blocks,
}

impl Sets<'_> {
    fn judged(&self, pictures: &[Vec<f32>]) -> Option<(Judged, Set)> {
        let judge = self.judge?;
        let readings = staged("judging", pictures.len(), self.at, |done| judge.read_all(pictures, done));
        let blocks = Blocks::new(judge.held(), &readings);
        let shares = self.asked.as_ref().map(|asked| Shares::new(&readings, asked, judge.classes()));
        let judged = Judged {
            class_share: shares.as_ref().map(|shares| shares.all.fraction()),
            by_class: shares.map_or(Vec::new(), |shares| shares.by_class),
            frechet: blocks.distance(),
        };
        Some((judged, Set { readings, blocks }))
    }

    fn float(&mut self, pictures: &[Vec<f32>]) -> Option<Judged> {
        let (judged, set) = self.judged(pictures)?;
        self.float.push(set);
        Some(judged)
    }

    fn file(&self, pictures: &[Vec<f32>]) -> (Option<Judged>, Option<ShareDifference>, Option<Estimate>) {
        let (Some((judged, set)), Some(float)) = (self.judged(pictures), self.float.first()) else {
            return (None, None, None);
        };
        let share = self.asked.as_ref().map(|asked| ShareDifference::new(&float.readings, &set.readings, asked));
        (Some(judged), share, set.blocks.minus(&float.blocks))
    }

    /// See [`FloatStudy::frechet_seed_spread`].
    fn spread(&self) -> Option<f64> {
        let errors: Option<Vec<f64>> =
            self.float.iter().map(|set| Some(set.blocks.distance()?.standard_error)).collect();
        let errors = errors.filter(|errors| !errors.is_empty())?;
        let mean_square = errors.iter().map(|error| error * error).sum::<f64>() / errors.len() as f64;
        Some((2.0 * mean_square).sqrt())
    }
}
