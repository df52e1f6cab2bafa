//! `converter run`: samples from a `.mote` file by the runtime, or from a checkpoint in float.

use std::path::{Path, PathBuf};
use std::time::Instant;

use miette::{Result, miette};
use mote_converter::draw::{Device, Draw, Drawn, MoteFile};
use mote_converter::emit::{self, emit};
use mote_converter::report::canvas::{Canvas, Grid};
use mote_converter::report::table::count as digits;
use mote_converter::report::{encode, npy, terminal};

use super::output::{Counter, Progress, note};
use super::parse::{self, ClassChoice};
use super::print;
use super::prompts::{Prompts, Wanted, prompts};
use super::source::{CheckpointArgs, FloatSource};

/// Steps in float where `--steps` does not say.
const FLOAT_STEPS: usize = 20;
/// Frames of an animation at most; longer schedules are thinned out.
const FRAMES_MAX: usize = 60;
/// Pictures that a terminal is filled with.
const TERMINAL_MAX: usize = 12;

/// Arguments of `converter run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A .mote file, or a checkpoint (file or folder), which is run in float
    model: PathBuf,
    /// Seed of the noise; sample i has seed + i
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Number of samples, for each class (default: 1, or as many as --noise holds)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    count: Option<u32>,
    /// The class, or `all` for each in turn (default: the null class where there is one)
    #[arg(long, value_name = "N|all", value_parser = parse::class)]
    class: Option<ClassChoice>,
    /// Guidance scale; 1 is no guidance
    #[arg(long, value_name = "G", default_value = "1", value_parser = parse::guidance, allow_negative_numbers = true)]
    guidance: f32,
    /// Number of steps: of a .mote file one that it offers (default: its first), of a checkpoint any (default: 20)
    #[arg(long, value_name = "N", value_parser = parse::steps)]
    steps: Option<usize>,
    /// Noise of DDIM's steps, for a checkpoint: 0 for none, 1 for as much as DDPM
    #[arg(long, value_name = "E")]
    eta: Option<f64>,
    /// Start samples x_T, .npy of f32, N×C×H×W or C×H×W
    #[arg(long, value_name = "FILE")]
    noise: Option<PathBuf>,
    /// Class vector, .npy of f32, for networks that take one
    #[arg(long, value_name = "FILE")]
    class_embedding: Option<PathBuf>,
    /// Picture to write: .png (a grid), or .gif (x0 as each step foresees it)
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Samples to write, .npy of f32, N×C×H×W
    #[arg(long, value_name = "FILE")]
    raw: Option<PathBuf>,
    /// Enlarge pictures by a whole number (default: so that a person can see them)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    scale: Option<u16>,
    #[command(flatten)]
    of_checkpoint: CheckpointArgs,
}

/// What `--out` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Picture {
    Png,
    Gif,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let picture = args.out.as_deref().map(picture_kind).transpose()?;
    if MoteFile::is_at(&args.model) {
        if args.eta.is_some() || args.of_checkpoint.given() {
            return Err(miette!(
                help = "they belong to `converter quantize`, which compiles them into the file",
                "a .mote file takes no --eta, --null-class, --classes or --size"
            ));
        }
        let file = MoteFile::read(&args.model)?;
        let model = file.model()?;
        return draw(args, picture, &Device::new(&model, args.steps)?);
    }
    let steps = args.steps.unwrap_or(FLOAT_STEPS);
    let mut of_checkpoint = args.of_checkpoint.clone();
    if let (None, Some(ClassChoice::One(class))) = (of_checkpoint.classes, args.class) {
        // `class_embed_type` timestep takes any number, and in float nothing needs to know how many there are. Where
        // the configuration tells, this is not read.
        of_checkpoint.classes = Some(class.max(of_checkpoint.null_class.unwrap_or(0)).saturating_add(1));
    }
    let source = FloatSource::open(&args.model, &of_checkpoint, steps, args.eta.unwrap_or(0.0))?;
    draw(args, picture, &source.float())
}

fn draw(args: &Args, picture: Option<Picture>, source: &dyn Draw) -> Result<()> {
    for path in args.out.iter().chain(&args.raw) {
        emit::check(path)?;
    }
    let signature = source.signature();
    let wanted = Wanted {
        seed: args.seed,
        count: args.count.map(|count| count as usize),
        class: args.class,
        guidance: args.guidance,
        noise: args.noise.as_deref(),
        class_embedding: args.class_embedding.as_deref(),
    };
    let Prompts { list, columns } = prompts(&wanted, &signature)?;
    let started = Instant::now();
    let progress = Progress::new();
    let counter = Counter::new(&progress, "drawing", list.len());
    let drawn = source.draw(&list, picture == Some(Picture::Gif), &|| counter.tick())?;
    progress.finish();
    let seconds = started.elapsed().as_secs_f64();
    note(&format!("drew {} in {seconds:.1} s", plural(drawn.len(), "sample")));
    warn_of_wild_values(&drawn);

    let grid = Grid::new(drawn.len(), columns, args.scale.map(usize::from), signature.shape);
    if let (Some(path), Some(kind)) = (&args.out, picture) {
        let bytes = match kind {
            Picture::Png => encode::png(&grid.draw(&samples(&drawn), signature.shape)?)?,
            Picture::Gif => encode::gif(&animation(&drawn, &grid, signature.shape)?)?,
        };
        emit(path, &bytes)?;
        note(&format!("wrote {}", path.display()));
    }
    if let Some(path) = &args.raw {
        let raw: Vec<Vec<f32>> = drawn.iter().map(|drawn| drawn.x0.clone()).collect();
        npy::write_samples(path, &raw, signature.shape)?;
        note(&format!("wrote {}", path.display()));
    }
    if args.out.is_some() || args.raw.is_some() {
        return Ok(());
    }
    let colours = terminal::Colours::detect();
    print(&terminal::draw(&samples(&drawn), signature.shape, terminal::columns(), TERMINAL_MAX, colours)?)?;
    note("save it with --out x.png, --out x.gif or --raw x.npy");
    Ok(())
}

fn samples(drawn: &[Drawn]) -> Vec<&[f32]> {
    drawn.iter().map(|drawn| &drawn.x0[..]).collect()
}

/// The grid at each frame, thinned out to [`FRAMES_MAX`]; the last is always there.
fn animation(drawn: &[Drawn], grid: &Grid, shape: [usize; 3]) -> Result<Vec<Canvas>> {
    let frames = drawn.iter().map(|drawn| drawn.frames.len()).min().unwrap_or(0);
    let stride = frames.div_ceil(FRAMES_MAX).max(1);
    let kept = (0..frames).filter(|frame| (frames - 1 - frame).is_multiple_of(stride));
    let canvas = |frame: usize| {
        // The last preview is x₀ of the last row; the sample itself may have a last touch of noise.
        let pick = |drawn: &Drawn| if frame + 1 == frames { drawn.x0.clone() } else { drawn.frames[frame].clone() };
        let picked: Vec<Vec<f32>> = drawn.iter().map(pick).collect();
        grid.draw(&picked.iter().map(|sample| &sample[..]).collect::<Vec<_>>(), shape)
    };
    kept.map(canvas).collect()
}

/// A network that was trained on another range, or diverged, makes pictures that are clipped to nonsense.
fn warn_of_wild_values(drawn: &[Drawn]) {
    let wild = drawn.iter().filter(|drawn| drawn.x0.iter().any(|x| x.abs() > 4.0 || !x.is_finite())).count();
    if wild > 0 {
        note(&format!("{} with values far outside of -1..1, which pictures clip", plural(wild, "sample")));
    }
}

fn plural(n: usize, what: &str) -> String {
    format!("{} {what}{}", digits(n as u64), if n == 1 { "" } else { "s" })
}

fn picture_kind(path: &Path) -> Result<Picture> {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or("").to_ascii_lowercase();
    match extension.as_str() {
        "png" => Ok(Picture::Png),
        "gif" => Ok(Picture::Gif),
        "npy" => Err(miette!(help = "write samples with --raw", "{}: --out writes pictures", path.display())),
        _ => Err(miette!(
            help = "name a .png for a grid of pictures, or a .gif for an animation",
            "{}: --out writes .png and .gif",
            path.display()
        )),
    }
}
