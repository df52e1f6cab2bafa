//! `converter compare`: float against quantized files, from the same noise.

use std::path::{Path, PathBuf};

use miette::{Result, miette};
use mote_converter::arch::{Cond, Network};
use mote_converter::compare::{self, Study, StudyFile, StudyOptions, study};
use mote_converter::draw::{Device, Draw, MoteFile, Prompt, Signature};
use mote_converter::emit::emit;
use mote_converter::judge::Judge;
use mote_converter::report::{comparison, html};
use mote_converter::weights::Checkpoint;
use mote_runtime::Model;

use super::output::{Progress, note};
use super::parse::{self, ClassChoice};
use super::prompts::{Wanted, every_class, prompts};
use super::source::{CheckpointArgs, open_weights};
use super::{json_text, print};

/// Pairs in all where `--count` does not say, about.
const PAIRS: usize = 200;

/// Arguments of `converter compare`.
#[derive(Debug, clap::Args)]
#[command(after_help = "5,000 pairs of a model with ten classes, two files on one page:\n  \
                        converter compare models/digits int8.mote int4.mote --count 500 --html digits.html --json digits.json")]
pub struct Args {
    /// The checkpoint (file or folder)
    checkpoint: PathBuf,
    /// The .mote files that were made of it
    #[arg(required = true, value_name = "FILE.mote")]
    files: Vec<PathBuf>,
    /// Pairs of pictures, for each class (default: about 200 in all; distances need thousands)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    count: Option<u32>,
    /// How many of the pairs are looked at layer by layer
    #[arg(long, value_name = "N", default_value_t = 8)]
    layers: u32,
    /// Seed of the noise; pair i has seed + i
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// The class, or `all` for classes in turn (default: all, where there are classes)
    #[arg(long, value_name = "N|all", value_parser = parse::class)]
    class: Option<ClassChoice>,
    /// Guidance scale; 1 is no guidance
    #[arg(long, value_name = "G", default_value = "1", value_parser = parse::guidance, allow_negative_numbers = true)]
    guidance: f32,
    /// Number of steps, one that the files offer (default: the first file's first)
    #[arg(long, value_name = "N", value_parser = parse::steps)]
    steps: Option<usize>,
    /// Class vector, .npy of f32, for networks that take one
    #[arg(long, value_name = "FILE")]
    class_embedding: Option<PathBuf>,
    /// The classifier that judges the pictures (default: classifier.safetensors beside the checkpoint, if it is there)
    #[arg(long, value_name = "FILE")]
    judge: Option<PathBuf>,
    /// Sets of pictures that float draws for the judge: that of the files' noise, and others, which show how much seeds
    /// alone change
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    float_sets: u32,
    /// Every step and every layer
    #[arg(long)]
    verbose: bool,
    /// Write the report as JSON: to a file, or to standard output
    #[arg(long, value_name = "FILE.json", num_args = 0..=1, default_missing_value = "-", value_parser = json_file)]
    json: Option<PathBuf>,
    /// Write the report as one HTML page, pictures included
    #[arg(long, value_name = "FILE.html")]
    html: Option<PathBuf>,
}

/// Guards against `--json model.mote`, which would overwrite what was to be compared.
fn json_file(text: &str) -> Result<PathBuf, String> {
    match text == "-" || text.ends_with(".json") {
        true => Ok(PathBuf::from(text)),
        false => Err("need a name that ends in .json; to print it, put --json last".to_owned()),
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    if MoteFile::is_at(&args.checkpoint) && args.files.iter().any(|file| !MoteFile::is_at(file)) {
        return Err(miette!(
            help = "the checkpoint comes first: `converter compare model.safetensors out.mote`",
            "the files are in the other order"
        ));
    }
    let checkpoint = open_weights(&args.checkpoint)?;
    let files: Vec<MoteFile> = args.files.iter().map(|path| MoteFile::read(path)).collect::<Result<_>>()?;
    let models: Vec<Model> = files.iter().map(MoteFile::model).collect::<Result<_>>()?;
    let device = Device::new(&models[0], args.steps)?;
    let network = network(&checkpoint, &device.signature())?;
    let judge = judge(args, device.signature().shape)?;
    let options = StudyOptions {
        pairs: compare::Options {
            prompts: prompt_list(args, &device.signature())?,
            steps: args.steps,
            layered: args.layers as usize,
        },
        judge: judge.as_ref(),
        float_sets: args.float_sets as usize,
    };
    let progress = Progress::new();
    let named = |(model, name)| StudyFile { name, model };
    let study_files: Vec<StudyFile> = models.iter().zip(names(&args.files)).map(named).collect();
    let study = study(&network, &study_files, &options, &|name, done, total| progress.at(name, done, total))?;
    progress.finish();
    write(args, &checkpoint, &study)
}

fn write(args: &Args, checkpoint: &Checkpoint, study: &Study) -> Result<()> {
    let wrote = |path: &Path, text: &str| -> Result<()> {
        emit(path, text.as_bytes())?;
        note(&format!("wrote {}", path.display()));
        Ok(())
    };
    if let Some(path) = &args.html {
        wrote(path, &html::page(study, checkpoint.metadata())?)?;
    }
    match args.json.as_deref() {
        Some(path) if path == Path::new("-") => print(&json_text(study)?),
        Some(path) => {
            wrote(path, &json_text(study)?)?;
            print(&comparison::text(study, args.verbose))
        }
        None => print(&comparison::text(study, args.verbose)),
    }
}

/// The network at the file's size, if the file may have been made of it.
fn network(checkpoint: &Checkpoint, signature: &Signature) -> Result<Network> {
    let [h, w, _] = signature.shape;
    let of_checkpoint = CheckpointArgs {
        size: Some([h, w]),
        null_class: signature.classes.null,
        classes: (signature.classes.count > 0).then_some(signature.classes.count),
    };
    let network = Network::import(checkpoint, of_checkpoint.size)?;
    let classes = of_checkpoint.classes(&network, checkpoint)?;
    if classes.count != signature.classes.count || network.time.takes_vector() != (signature.class_vector_len > 0) {
        return Err(miette!(
            help = "compare a file with the checkpoint that it was made of",
            "the checkpoint has {} classes, the file {}",
            classes.count,
            signature.classes.count
        ));
    }
    Ok(network)
}

/// `--count` pairs of each class, the classes in turn, so that every part of the list holds all of them.
fn prompt_list(args: &Args, signature: &Signature) -> Result<Vec<Prompt>> {
    let choice = args.class.or((signature.classes.count > 0).then_some(ClassChoice::All));
    let turns: Vec<Cond> = if choice == Some(ClassChoice::All) { every_class(signature) } else { Vec::new() };
    let per_class = args.count.map_or(PAIRS.div_ceil(turns.len().max(1)), |count| count as usize);
    let one = match choice {
        Some(ClassChoice::All) if signature.classes.count > 0 => Some(ClassChoice::One(0)),
        choice => choice,
    };
    let wanted = Wanted {
        seed: args.seed,
        count: Some(per_class * turns.len().max(1)),
        class: one,
        guidance: args.guidance,
        noise: None,
        class_embedding: args.class_embedding.as_deref(),
    };
    let mut list = prompts(&wanted, signature)?.list;
    list.iter_mut().zip(turns.iter().cycle()).for_each(|(prompt, cond)| prompt.cond = cond.clone());
    Ok(list)
}

/// The judge that was named, or the one beside the checkpoint.
fn judge(args: &Args, shape: [usize; 3]) -> Result<Option<Judge>> {
    let Some(path) = args.judge.clone().or_else(|| Judge::beside(&args.checkpoint)) else {
        note("no judge (--judge FILE): class share and Fréchet distance are left out");
        return Ok(None);
    };
    let judge = Judge::read(&path)?;
    match judge.check(shape) {
        Err(error) if args.judge.is_none() => {
            note(&format!("the judge is passed over: {error}"));
            Ok(None)
        }
        checked => checked.map(|()| Some(judge)),
    }
}

/// File names, with their folders where two are the same.
fn names(paths: &[PathBuf]) -> Vec<String> {
    let name = |path: &PathBuf| path.file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned());
    let is_unique = |path: &PathBuf| paths.iter().filter(|other| name(other) == name(path)).count() == 1;
    paths.iter().map(|path| if is_unique(path) { name(path) } else { path.display().to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_one_name_keep_their_folders() {
        let paths = ["a/x.mote", "b/x.mote", "b/y.mote"].map(PathBuf::from);
        assert_eq!(names(&paths), ["a/x.mote", "b/x.mote", "y.mote"]);
    }

    #[test]
    fn json_goes_to_json_files_only() {
        assert!(json_file("-").is_ok() && json_file("a/b.json").is_ok() && json_file("model.mote").is_err());
    }
}
