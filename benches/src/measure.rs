//! Timing: pictures by the clock alone, and others with the sampler's hook behind every operator, because 70 readings of the clock are 2 %
//! of the smallest network's step.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use miette::{Result, miette};
use mote_converter::draw::{AlignedBuffer, not_runnable};
use mote_converter::report::mote::{dtype_name, op_detail, op_name};
use mote_runtime::format::NONE;
use mote_runtime::format::checksum::crc32;
use mote_runtime::format::op::Op;
use mote_runtime::kernels::{Kernels, select};
use mote_runtime::opset;
use mote_runtime::shape::op_macs;
use mote_runtime::threads::{Threads, draw_batch_with_kernels};
use mote_runtime::{Depth, Model, Poll, Request, Sampler, Verdict};
use serde::Serialize;

use crate::Args;
use crate::peak::{self, Peak};

/// A file on a machine.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    /// What was measured.
    pub file: String,
    /// Length of the file.
    pub file_bytes: usize,
    /// Arena on this machine.
    pub arena_bytes: usize,
    /// `[h, w, c]` of the picture.
    pub image: [usize; 3],
    /// Architecture and system.
    pub machine: String,
    /// The kernel table's name.
    pub kernels: &'static str,
    /// Whether they convolved without Winograd's algorithm.
    pub direct: bool,
    /// Threads inside a step.
    pub threads: usize,
    /// Scratch of the threads, beyond the arena.
    pub thread_scratch_bytes: usize,
    /// Seed of the noise.
    pub seed: u64,
    /// The class that was asked for.
    pub class: Option<u16>,
    /// Guidance scale.
    pub guidance: f32,
    /// Steps of the schedule.
    pub steps: u16,
    /// Pictures that were timed.
    pub repeats: u32,
    /// CRC-32 of the picture's f32 elements, little-endian, HWC.
    pub output_crc32: String,
    /// What the file's own test said of these kernels, absent where the file has none.
    pub self_test: Option<String>,
    /// Multiply-adds of convolutions and attention, of a whole picture.
    pub macs: u64,
    /// A whole picture.
    pub picture_ms: Times,
    /// With several threads, how that scales.
    pub scaling: Option<Scaling>,
    /// Each network row: the calls and the update behind them, median.
    pub rows_ms: Vec<f64>,
    /// The updates of the sample, of a whole picture, median.
    pub update_ms: f64,
    /// What this machine can do at best on one thread.
    pub peak: Peak,
    /// Each operator of the file, over all rows of a picture.
    pub ops: Vec<OpTime>,
}

/// A picture with other numbers of threads, measured in turn with those inside a step. They are `alone_ms / picture_ms` times as fast as one, and
/// pictures side by side `one_by_one_ms / side_by_side_ms` times as many as one behind the other.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Scaling {
    /// On one thread.
    pub alone_ms: Times,
    /// One of many, one behind the other on one thread, with their noise.
    pub one_by_one_ms: Times,
    /// As many side by side as there are threads, each on one: the time of all by their number.
    pub side_by_side_ms: Times,
}

/// Of a number of repeats, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Times {
    /// Half took longer.
    pub median: f64,
    /// The fastest.
    pub min: f64,
    /// The slowest.
    pub max: f64,
}

impl Times {
    fn of(repeats: impl Iterator<Item = Duration>) -> Times {
        let mut ms: Vec<f64> = repeats.map(|time| time.as_secs_f64() * 1e3).collect();
        ms.sort_unstable_by(f64::total_cmp);
        Times { median: median(&ms), min: ms.first().copied().unwrap_or(0.0), max: ms.last().copied().unwrap_or(0.0) }
    }
}

/// An operator's part in a picture.
#[derive(Clone, Debug, Serialize)]
pub struct OpTime {
    /// Kind.
    pub op: &'static str,
    /// Kernel, stride, groups, heads.
    pub detail: String,
    /// `[h, w, c]` of its output.
    pub out: [u16; 3],
    /// Output type.
    pub dtype: &'static str,
    /// Multiply-adds of a picture; 0 for pointwise operators.
    pub macs: u64,
    /// Time of a picture, median.
    pub ms: f64,
    /// Its part of all operators' time.
    pub share: f64,
    /// Millions of multiply-adds a second; absent for pointwise operators.
    pub mmacs_per_s: Option<f64>,
    /// Bytes of its tensors that a picture reads and writes, each once.
    pub bytes: u64,
    /// Part of the machine's peak: in direct multiply-adds, or in cache bandwidth for pointwise operators.
    pub of_peak: Option<f64>,
}

/// The clock readings of a picture, and of another one with its operators.
struct Timed {
    whole: Duration,
    rows: Vec<Duration>,
    ops: Vec<Duration>,
    /// How often each operator ran.
    runs: Vec<u64>,
    update: Duration,
}

/// What was drawn, how, and how long it took.
struct Drawn {
    class: Option<u16>,
    kernels: &'static str,
    threads: usize,
    thread_scratch_bytes: usize,
    peak: Peak,
    timed: Vec<Timed>,
    scaling: Vec<[Duration; 3]>,
    output_crc: u32,
    self_test: Option<String>,
}

/// Draws once unseen, then `args.repeat` times by the clock.
pub fn measure(path: &Path, model: &Model, args: &Args) -> Result<Measurement> {
    let mut kernels = args.kernels.unwrap_or_else(select::kernels::<{ opset::ALL }>);
    if args.direct {
        // One for the life of the program, as a sampler wants it.
        kernels = Box::leak(Box::new(Kernels { winograd_from: usize::MAX, ..*kernels }));
    }
    // No class vector is typical; zero adds nothing to the time embedding.
    let vector = vec![0.0; model.class_embedding_len()];
    let class = args.class.or(model.null_class()).or((model.classes() > 0).then_some(0));
    let request = Request {
        seed: args.seed,
        class,
        guidance: args.guidance,
        steps: args.steps,
        class_embedding: (!vector.is_empty()).then_some(&vector[..]),
        ..Request::default()
    };
    let mut arena = AlignedBuffer::zeroed(model.arena_len());
    let threads = Threads::new(args.threads as usize);
    let sampler = Sampler::with_kernels(model, arena.as_mut_slice(), kernels).map_err(not_runnable)?;
    let mut sampler = sampler.with_threads(&threads);
    // One thread is timed beside several.
    let several = threads.count() > 1;
    let mut arena = AlignedBuffer::zeroed(if several { model.arena_len() } else { 0 });
    let mut single = match several {
        true => Some(Sampler::with_kernels(model, arena.as_mut_slice(), kernels).map_err(not_runnable)?),
        false => None,
    };
    let reading = reading();
    let first = draw(&mut sampler, request, reading)?;
    let output = sampler.image().elems().to_vec();
    let (mut timed, mut scaling) = (Vec::new(), Vec::new());
    for _ in 0..args.repeat {
        if let Some(single) = &mut single {
            let pictures = (A_THREAD.as_secs_f64() / first.whole.as_secs_f64()).clamp(2.0, 1e3) as usize;
            let [one, most] =
                [1, threads.count()].map(|count| side_by_side(model, kernels, request, &output, [count, pictures]));
            // Each once unseen: caches hold others' arenas, threads have fallen asleep.
            draw(single, request, reading)?;
            scaling.push([draw(single, request, reading)?.whole, one?, most?]);
            draw(&mut sampler, request, reading)?;
        }
        timed.push(draw(&mut sampler, request, reading)?);
        if sampler.image().elems() != output {
            return Err(different());
        }
    }
    let bytes: Vec<u8> = output.iter().flat_map(|x| x.to_le_bytes()).collect();
    let self_test = match model.self_test() {
        None => None,
        Some(_) => Some(match sampler.self_test(Depth::Sample).map_err(not_runnable)? {
            Verdict::Passed => "passed".to_owned(),
            Verdict::Operator(op) => format!("FAILED, first in operator {op}"),
            Verdict::Arithmetic => "FAILED, not in a kernel of the first step".to_owned(),
        }),
    };
    let (threads, thread_scratch_bytes) = (threads.count(), threads.scratch_bytes());
    let drawn = Drawn {
        threads,
        thread_scratch_bytes,
        class,
        kernels: kernels.name,
        peak: peak::measure(kernels.name),
        timed,
        scaling,
        output_crc: crc32(&bytes),
        self_test,
    };
    Ok(summary(path, model, args, drawn))
}

fn different() -> miette::Report {
    miette!(help = "report this", "the same request gave two different pictures")
}

/// Time of the pictures that a thread draws in a row, so that its start and its arena are little of it.
const A_THREAD: Duration = Duration::from_millis(40);

/// Time of a picture where each of several threads draws some.
fn side_by_side(
    model: &Model,
    kernels: &'static Kernels,
    request: Request,
    output: &[f32],
    [threads, pictures]: [usize; 2],
) -> Result<Duration> {
    let requests = vec![request; threads * pictures];
    let same = AtomicBool::new(true);
    let count = NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN);
    let started = Instant::now();
    draw_batch_with_kernels(model, kernels, &requests, count, |_, elems| {
        same.fetch_and(elems == output, Ordering::Relaxed);
    })
    .map_err(not_runnable)?;
    let whole = started.elapsed();
    if same.into_inner() { Ok(whole / requests.len() as u32) } else { Err(different()) }
}

/// What it takes to read the clock: 25 ns, 4 % of a small network's norm, which are taken off every operator.
fn reading() -> Duration {
    (0..1_000).map(|_| Instant::now().elapsed()).min().unwrap_or_default()
}

/// Draws twice. The budget is unlimited, so a poll is a row: its network calls, then the update.
fn draw(sampler: &mut Sampler, request: Request, reading: Duration) -> Result<Timed> {
    let ops = sampler.model().op_count();
    let zero = Duration::ZERO;
    let mut timed = Timed {
        whole: zero,
        rows: Vec::with_capacity(1 << 10),
        ops: vec![zero; ops],
        runs: vec![0; ops],
        update: zero,
    };
    sampler.start(request).map_err(not_runnable)?;
    let started = Instant::now();
    let mut row_started = started;
    loop {
        let poll = sampler.poll();
        let now = Instant::now();
        timed.rows.push(now - row_started);
        row_started = now;
        if !matches!(poll, Poll::Pending(_)) {
            timed.whole = now - started;
            break;
        }
    }
    sampler.start(request).map_err(not_runnable)?;
    loop {
        let mut last = Instant::now();
        let poll = sampler.poll_observed(&mut |op, _| {
            let now = Instant::now();
            timed.ops[op] += (now - last).saturating_sub(reading);
            timed.runs[op] += 1;
            last = now;
        });
        timed.update += last.elapsed();
        if !matches!(poll, Poll::Pending(_)) {
            return Ok(timed);
        }
    }
}

fn summary(path: &Path, model: &Model, args: &Args, drawn: Drawn) -> Measurement {
    let timed = &drawn.timed;
    let times = |of: &dyn Fn(&Timed) -> Duration| Times::of(timed.iter().map(of));
    let scaling = (!drawn.scaling.is_empty()).then(|| {
        let [alone_ms, one_by_one_ms, side_by_side_ms] =
            [0, 1, 2].map(|way| Times::of(drawn.scaling.iter().map(|ways| ways[way])));
        Scaling { alone_ms, one_by_one_ms, side_by_side_ms }
    });
    let picture_ms = times(&|timed| timed.whole);
    let rows = timed.first().map_or(0, |timed| timed.rows.len());
    let all_ms: f64 = (0..model.op_count()).map(|index| times(&|timed| timed.ops[index]).median).sum();
    let ops: Vec<OpTime> = (0..model.op_count())
        .filter_map(|index| {
            let op = model.op(index)?.op;
            let out = model.tensor(op.out());
            let multiplies = matches!(op, Op::Conv(_) | Op::Attention(_));
            // Shallow rows do not run every operator.
            let runs = timed.first().map_or(0, |timed| timed.runs[index]);
            let macs = if multiplies { op_macs(&op, model) * runs } else { 0 };
            let ms = times(&|timed| timed.ops[index]).median;
            let read =
                op.inputs().into_iter().filter(|&id| id != NONE).map(|id| model.tensor(id).len_bytes()).sum::<usize>();
            let bytes = (read + out.len_bytes()) as u64 * runs;
            let per_s = |work: u64| work as f64 / ms * 1e3;
            let of_peak = match (multiplies, drawn.peak.macs_per_s) {
                _ if ms <= 0.0 => None,
                (true, peak) => peak.map(|peak| per_s(macs) / peak),
                (false, _) => Some(per_s(bytes) / drawn.peak.bytes_per_s),
            };
            Some(OpTime {
                op: op_name(&op),
                detail: op_detail(&op),
                out: [out.h, out.w, out.c],
                dtype: dtype_name(out.dtype),
                macs,
                ms,
                share: ms / all_ms,
                bytes,
                of_peak,
                mmacs_per_s: (multiplies && ms > 0.0).then(|| macs as f64 / ms / 1e3),
            })
        })
        .collect();
    let steps = args.steps.or(model.schedules().next().map(|schedule| schedule.steps)).unwrap_or(0);
    Measurement {
        file: path.display().to_string(),
        file_bytes: model.bytes().len(),
        arena_bytes: model.arena_len(),
        image: model.image_shape(),
        machine: format!("{} {}", std::env::consts::ARCH, std::env::consts::OS),
        kernels: drawn.kernels,
        direct: args.direct,
        threads: drawn.threads,
        thread_scratch_bytes: drawn.thread_scratch_bytes,
        seed: args.seed,
        class: drawn.class,
        guidance: args.guidance,
        steps,
        repeats: args.repeat,
        output_crc32: format!("{:08x}", drawn.output_crc),
        self_test: drawn.self_test,
        macs: ops.iter().map(|op| op.macs).sum(),
        picture_ms,
        scaling,
        rows_ms: (0..rows).map(|row| times(&|timed| timed.rows[row]).median).collect(),
        peak: drawn.peak,
        update_ms: times(&|timed| timed.update).median,
        ops,
    }
}

/// Of sorted numbers.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        _ if sorted.is_empty() => 0.0,
        0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
        _ => sorted[middle],
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn medians() {
        assert_eq!([super::median(&[]), super::median(&[3.0]), super::median(&[1.0, 2.0])], [0.0, 3.0, 1.5]);
    }
}
