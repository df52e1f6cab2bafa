//! Verification: the float sampler and the device's sampler draw the same pictures, and the difference is measured.
//!
//! Both start from the same noise and use the same step noise. The device side is the runtime itself, linked in, so
//! what is measured here is what the board draws, bit for bit.
//!
//! Voids the promise: nothing.

use std::ops::RangeInclusive;

use miette::{Result, miette};
use mote_runtime::format::{DType, Tensor};
use mote_runtime::sampler::noise;
use mote_runtime::{Model, Poll, Request, Sampler};
use rayon::prelude::*;
use serde::Serialize;

use crate::arch::Cond;
use crate::calibrate::{condition, guidance_of};
use crate::interpret::Interpreter;
use crate::pipeline::{Calibrated, Quantized};
use crate::sample::{Conditioning, Event, sample};

/// What is drawn.
#[derive(Clone, Debug)]
pub struct Options {
    /// Pictures.
    pub samples: usize,
    /// Which schedule, counted from the default one.
    pub schedule: usize,
    /// Seed of the first picture.
    pub seed: u64,
    /// Guidance values are spread over this interval.
    pub guidance: RangeInclusive<f32>,
}

/// How near the device comes to float.
#[derive(Clone, Debug, Serialize)]
pub struct Quality {
    /// Peak signal to noise ratio of the pictures, values from −1 to 1, over all pixels of all pictures, in dB.
    pub psnr_db: f64,
    /// Signal to noise ratio of the pictures in dB, for networks whose pictures are not within −1 to 1.
    pub snr_db: f64,
    /// Of the picture in the middle: few pictures that go another way weigh nothing here.
    pub median_psnr_db: f64,
    /// Of the worst picture.
    pub worst_psnr_db: f64,
    /// Signal to noise ratio of each step's model output, in dB, along the two samplers' own ways.
    pub steps_snr_db: Vec<f64>,
    /// Signal to noise ratio of each operator's output in the first network call, where both read the same sample.
    pub layers: Vec<LayerQuality>,
}

/// One operator's error in the first network call.
#[derive(Clone, Debug, Serialize)]
pub struct LayerQuality {
    /// The operator.
    pub name: String,
    /// Signal to noise ratio of its output, in dB.
    pub snr_db: f64,
}

/// Sums of squares of a signal and of its error.
#[derive(Clone, Copy, Debug, Default)]
struct Power {
    signal: f64,
    error: f64,
    count: usize,
}

impl Power {
    fn of(float: &[f32], device: impl Iterator<Item = f32>) -> Self {
        let mut power = Self { count: float.len(), ..Self::default() };
        for (x, y) in float.iter().zip(device) {
            power.signal += f64::from(*x).powi(2);
            power.error += (f64::from(*x) - f64::from(y)).powi(2);
        }
        power
    }

    fn add(&mut self, other: Self) {
        self.signal += other.signal;
        self.error += other.error;
        self.count += other.count;
    }

    fn snr_db(&self) -> f64 {
        10.0 * (self.signal / self.error.max(1e-30)).log10()
    }

    fn psnr_db(&self) -> f64 {
        10.0 * (4.0 * self.count as f64 / self.error.max(1e-30)).log10()
    }
}

/// What one picture's two runs differ by.
struct Drawn {
    picture: Power,
    steps: Vec<Power>,
    layers: Vec<Power>,
}

/// Draws with both and compares.
pub fn quality(calibrated: &Calibrated, quantized: &Quantized, options: &Options) -> Result<Quality> {
    let file = AlignedBytes::new(&quantized.packed.bytes);
    let model = Model::from_bytes(file.bytes())
        .map_err(|error| miette!(help = "report this network", "the runtime refuses the file: {error}"))?;
    let draws: Vec<Drawn> = (0..options.samples.max(1))
        .into_par_iter()
        .map(|index| draw(calibrated, quantized, &model, options, index))
        .collect::<Result<_>>()?;
    let sum = |of: &dyn Fn(&Drawn) -> &Vec<Power>| {
        let mut sums: Vec<Power> = Vec::new();
        for draw in &draws {
            sums.resize(of(draw).len(), Power::default());
            sums.iter_mut().zip(of(draw)).for_each(|(sum, power)| sum.add(*power));
        }
        sums
    };
    let mut picture = Power::default();
    draws.iter().for_each(|draw| picture.add(draw.picture));
    let named = |(at, power): (usize, Power)| LayerQuality {
        name: quantized.graph.ops[quantized.plan.order[at]].name.clone(),
        snr_db: power.snr_db(),
    };
    let mut pictures: Vec<f64> = draws.iter().map(|draw| draw.picture.psnr_db()).collect();
    pictures.sort_unstable_by(f64::total_cmp);
    Ok(Quality {
        psnr_db: picture.psnr_db(),
        snr_db: picture.snr_db(),
        median_psnr_db: pictures[pictures.len() / 2],
        worst_psnr_db: pictures[0],
        steps_snr_db: sum(&|draw| &draw.steps).iter().map(Power::snr_db).collect(),
        layers: sum(&|draw| &draw.layers)
            .into_iter()
            .enumerate()
            .filter(|(_, power)| power.count > 0)
            .map(named)
            .collect(),
    })
}

fn draw(
    calibrated: &Calibrated,
    quantized: &Quantized,
    model: &Model,
    options: &Options,
    index: usize,
) -> Result<Drawn> {
    let Calibrated { network, schedules, classes, .. } = calibrated;
    let Some(schedule) = schedules.schedules.get(options.schedule) else {
        return Err(miette!(help = "schedules count from 0", "there is no schedule {}", options.schedule));
    };
    let first_row = usize::from(schedule.first_row);
    let rows = &schedules.rows[first_row..][..usize::from(schedule.rows)];
    let seed = options.seed.wrapping_add(index as u64);
    let cond = condition(network, *classes, index, options.samples, seed);
    let null = classes.null.map(Cond::Class);
    let guidance = if null.is_some() { guidance_of(&options.guidance, index) } else { 1.0 };

    let interpreter = Interpreter::new(&network.graph);
    let conditioning = Conditioning::new(&interpreter, &network.time, rows, &cond, null.as_ref(), guidance)?;
    let mut x_t = vec![0.0; network.graph.tensors[network.graph.input].elems()];
    noise::fill(seed, 0, &mut x_t);
    let mut outputs: Vec<Vec<f32>> = Vec::new();
    let mut first_call: Vec<Vec<f32>> = vec![Vec::new(); network.graph.tensors.len()];
    let mut step_noise = |row: usize, to: &mut [f32]| noise::fill(seed, 1 + (first_row + row) as u32, to);
    // The device runs the null branch first, so with guidance that is its first call.
    let guided = guidance != 1.0;
    let float = sample(&interpreter, rows, &conditioning, &x_t, &mut step_noise, &mut |event| match event {
        Event::Tensor { row: 0, null, id, values } if null == guided => first_call[id] = values.to_vec(),
        Event::Row { model, .. } => outputs.push(model.to_vec()),
        Event::Tensor { .. } | Event::PreActivation { .. } => {}
    });

    let refused = |error| miette!(help = "report this network", "the runtime refuses to draw: {error}");
    let mut arena = AlignedBytes::new(&vec![0; model.arena_len()]);
    let mut sampler = Sampler::new(model, arena.bytes_mut()).map_err(refused)?;
    let vector = match &cond {
        Cond::Vector(vector) => Some(&vector[..]),
        Cond::None | Cond::Class(_) => None,
    };
    let class = match cond {
        Cond::Class(class) => u16::try_from(class).ok(),
        Cond::None | Cond::Vector(_) => None,
    };
    let request =
        Request { seed, class, guidance, steps: Some(schedule.steps), class_embedding: vector, ..Request::default() };
    sampler.start(request).map_err(refused)?;
    let mut layers = vec![Power::default(); quantized.plan.order.len()];
    let mut steps = vec![Power::default(); rows.len()];
    let (mut calls, mut row) = (0, 0);
    loop {
        let poll = sampler.poll_observed(&mut |at, arena| {
            let Some(op) = model.op(at) else { return };
            let out = model.tensor(op.op.out());
            if calls == 0
                && let Some(float) = quantized.graph.origins[usize::from(op.op.out())].map(|id| &first_call[id])
            {
                layers[at] = Power::of(float, real_values(model, &out, first_row, arena));
            }
            if at + 1 == model.op_count() {
                calls += 1;
                // With guidance the second call's own output is compared only where guidance leaves it as it is.
                let output = model.tensor(model.graph(0).output);
                if !guided && let Some(float) = outputs.get(row) {
                    steps[row] = Power::of(float, real_values(model, &output, first_row + row, arena));
                }
            }
        });
        match poll {
            Poll::Pending(progress) => row += usize::from(progress.step_done),
            Poll::Ready | Poll::Idle => break,
        }
    }
    let picture = Power::of(&float, sampler.image().elems().iter().copied());
    Ok(Drawn { picture, steps, layers })
}

/// A tensor's elements as real numbers.
fn real_values<'a>(model: &Model, tensor: &Tensor, row: usize, arena: &'a [u8]) -> impl Iterator<Item = f32> + use<'a> {
    let quant = model.quant(tensor, row);
    let dtype = tensor.dtype;
    let bytes = arena.get(tensor.range()).unwrap_or_default();
    bytes.chunks_exact(dtype.bytes()).map(move |bytes| match (dtype, bytes) {
        (DType::I8, &[a]) => quant.scale * (f32::from(a as i8) - f32::from(quant.zero_point)),
        (DType::I16, &[a, b]) => quant.scale * f32::from(i16::from_le_bytes([a, b])),
        (DType::F32, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
        _ => f32::NAN,
    })
}

/// Bytes that begin at a multiple of 16, as files and arenas must.
#[derive(Clone, Debug)]
pub struct AlignedBytes {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl AlignedBytes {
    /// A copy of `bytes`.
    pub fn new(bytes: &[u8]) -> Self {
        let mut copy = vec![0; bytes.len() + Tensor::ALIGN];
        let start = copy.as_ptr().align_offset(Tensor::ALIGN).min(Tensor::ALIGN);
        copy[start..start + bytes.len()].copy_from_slice(bytes);
        Self { bytes: copy, start, len: bytes.len() }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }

    /// The bytes, to write.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}
