//! Every operator against its formula, evaluated in f64 on the very integers that the operator read.
//!
//! A result may differ from the formula by half a unit of its own rounding plus what FORMAT.md says is lost on the way (a
//! sum's four fraction bits, a table's index), and by nothing else.

mod conv;
mod threads;

use mote_runtime::format::op::{Attention, Conv, EmbedAdd, EmbedLookup, Modulation, NormApply, NormStats, Table};
use mote_runtime::format::{DType, NONE, Op};
use mote_runtime::kernels::{Kernels, select};
use mote_runtime::threads::Threads;
use mote_runtime::{Model, Poll, Request, Sampler, opset};
use mote_tests::{Builder, CONV, Flash, ROW, Random, arena_for, expanded};

/// A graph under construction, from x_t on.
struct Net {
    b: Builder,
    rng: Random,
    /// x_t quantized.
    x: u16,
    written: Written,
}

/// What weights are made, and how they are written.
#[derive(Clone, Copy)]
enum Written {
    /// int8.
    I8,
    /// int4 in groups of this length.
    I4(u16),
    /// The same codes as int8.
    Expanded(u16),
}

impl Net {
    fn new(seed: u64, shape: [usize; 3]) -> Net {
        let mut b = Builder { rows: vec![ROW], ..Default::default() };
        let (input, out) = (b.float(shape, true), b.float(shape, false));
        b.ends = [input, out];
        let x = b.int(shape, DType::I8, 6.0 / 255.0, 5);
        b.ops.push(Op::Quantize { input, out: x, mul: 1.0, add: 0.0 });
        Net { b, rng: Random::new(seed), x, written: Written::I8 }
    }

    fn shape(&self, id: u16) -> [usize; 3] {
        let t = self.b.tensors[id as usize];
        [t.h as usize, t.w as usize, t.c as usize]
    }

    fn int(&mut self, shape: [usize; 3], dtype: DType) -> u16 {
        match dtype {
            DType::I8 => {
                let zero_point = self.rng.range(-40, 40) as i16;
                self.b.int(shape, dtype, 6.0 / 255.0, zero_point)
            }
            _ => self.b.int(shape, dtype, 6.0 / 8000.0, 0),
        }
    }

    /// A convolution with random weights, scaled so that its output fills about ±2.
    fn conv(&mut self, out: u16, conv: Conv) -> u16 {
        let out_c = self.shape(out)[2];
        let [kh, kw] = conv.kernel.map(usize::from);
        let mut conv = Conv { out, ..conv };
        for (source, weights) in conv.sources.into_iter().zip(&mut conv.weights).filter(|(source, _)| *source != NONE) {
            let len = kh * kw * self.shape(source)[2];
            let code_max = if matches!(self.written, Written::I8) { 127 } else { 7 };
            let rng = &mut self.rng;
            let rows: Vec<Vec<i8>> =
                (0..out_c).map(|_| (0..len).map(|_| rng.range(-code_max, code_max) as i8).collect()).collect();
            let mut groups = |group_len: u16| -> Vec<Vec<u8>> {
                let count = if group_len == 0 { 0 } else { len.div_ceil(group_len.into()) };
                (0..out_c).map(|_| (0..count).map(|_| rng.range(1, 16) as u8).collect()).collect()
            };
            let (group_scales, code_rms) = match self.written {
                Written::I8 => (Vec::new(), 73.0),
                Written::I4(0) | Written::Expanded(0) => (groups(0), 4.3),
                Written::I4(group_len) | Written::Expanded(group_len) => (groups(group_len), 42.0),
            };
            let scale = 1.0 / code_rms / (len as f32).sqrt();
            let scales: Vec<f32> =
                (0..out_c).map(|_| scale * (1.0 + 0.5 * self.rng.normal().clamp(-1.0, 1.0))).collect();
            *weights = match self.written {
                Written::I8 => self.b.weights(&rows, &scales),
                Written::I4(group_len) => self.b.weights_i4(&rows, group_len, &group_scales, &scales),
                Written::Expanded(group_len) => self.b.weights(&expanded(&rows, group_len, &group_scales), &scales),
            };
        }
        let bias = self.rng.normals(out_c, 0.3);
        conv.bias = self.b.floats(&bias);
        self.b.ops.push(Op::Conv(conv));
        out
    }

    /// An integer tensor of `c` channels, made from x by a 1×1 convolution.
    fn made(&mut self, c: usize, dtype: DType) -> u16 {
        let [h, w, _] = self.shape(self.x);
        let out = self.int([h, w, c], dtype);
        self.conv(out, plain(self.x))
    }

    /// Runs one step and hands every operator to `check` once the last has run.
    fn run(mut self, check: impl Fn(&Model<'_>, &[u8], &Op)) {
        let [_, end] = self.b.ends;
        self.conv(end, plain(self.x));
        let file = Flash::new(&self.b.build());
        let model = Model::from_bytes(file.bytes()).expect("a valid file");
        // The fastest table, with each way to convolve: as it stands, by the taps of an upsampled picture, by Winograd's algorithm.
        let fastest = *select::kernels::<{ opset::ALL }>();
        for (taps_from, winograd_from) in [(usize::MAX, usize::MAX), (0, usize::MAX), (usize::MAX, 0)] {
            let kernels =
                Kernels { taps_from, winograd_from, winograd_pixels: 0, winograd_up_to: usize::MAX, ..fastest };
            draw_and_check(&model, Box::leak(Box::new(kernels)), &check);
        }
    }
}

impl Net {
    /// Runs one step with these kernels, `budget` multiply-adds a poll, and returns a tensor's bytes.
    fn bytes_of(self, id: u16, kernels: Kernels, poll_budget: u32) -> Vec<u8> {
        bytes_of(&self.file(), id, kernels, poll_budget, &Threads::new(1))
    }

    fn file(mut self) -> Flash {
        let [_, end] = self.b.ends;
        self.conv(end, plain(self.x));
        Flash::new(&self.b.build())
    }
}

/// As [`Net::bytes_of`], on these threads.
fn bytes_of(file: &Flash, id: u16, kernels: Kernels, poll_budget: u32, threads: &Threads) -> Vec<u8> {
    let model = Model::from_bytes(file.bytes()).expect("a valid file");
    let mut arena = arena_for(&model);
    let kernels = Box::leak(Box::new(kernels));
    let sampler = Sampler::with_kernels(&model, arena.bytes_mut(), kernels).expect("an arena that is long enough");
    let mut sampler = sampler.with_threads(threads);
    sampler.start(Request { seed: 3, poll_budget, ..Default::default() }).expect("a request");
    while let Poll::Pending(_) = sampler.poll() {}
    arena.bytes_mut()[model.tensor(id).range()].to_vec()
}

/// One network call with these kernels, and a check of every operator.
fn draw_and_check(model: &Model<'_>, kernels: &'static Kernels, check: impl Fn(&Model<'_>, &[u8], &Op)) {
    let mut arena = arena_for(model);
    let mut sampler = Sampler::with_kernels(model, arena.bytes_mut(), kernels).expect("an arena that is long enough");
    let embedding = vec![0.25f32; model.class_embedding_len()];
    let class = (model.classes() > 0).then_some(1);
    let embedding = (!embedding.is_empty()).then_some(&embedding[..]);
    sampler.start(Request { seed: 3, class, class_embedding: embedding, ..Default::default() }).expect("a request");
    let last = model.op_count() - 1;
    let polled = sampler.poll_observed(&mut |index, arena| {
        if index == last {
            (0..=last).for_each(|i| check(model, arena, &model.op(i).expect("an operator").op));
        }
    });
    assert_eq!(polled, Poll::Ready);
}

fn plain(source: u16) -> Conv {
    Conv { sources: [source, NONE], ..CONV }
}

/// A tensor's real values.
fn reals(model: &Model<'_>, arena: &[u8], id: u16) -> Vec<f64> {
    if id == NONE {
        return Vec::new();
    }
    let tensor = model.tensor(id);
    let bytes = &arena[tensor.range()];
    let quant = model.quant(&tensor, 0);
    let real = |q: i32| (q - quant.zero_point as i32) as f64 * quant.scale as f64;
    match tensor.dtype {
        DType::I8 => bytes.iter().map(|&b| real(b as i8 as i32)).collect(),
        DType::I16 => bytes.chunks_exact(2).map(|b| real(i16::from_le_bytes([b[0], b[1]]) as i32)).collect(),
        DType::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]) as f64).collect(),
    }
}

fn f32_at(model: &Model<'_>, offset: u32, index: usize) -> f64 {
    let at = offset as usize + 4 * index;
    f32::from_le_bytes(model.bytes()[at..at + 4].try_into().expect("four bytes")) as f64
}

fn modulation_at(
    model: &Model<'_>,
    arena: &[u8],
    modulation: Modulation,
    len: usize,
    class: usize,
    index: usize,
) -> f64 {
    match modulation {
        Modulation::None => 0.0,
        Modulation::Table(offset) => {
            let at = offset as usize + 2 * (class * len + index);
            half::f16::from_le_bytes(model.bytes()[at..at + 2].try_into().expect("two bytes")).to_f64()
        }
        Modulation::Tensor(id) => reals(model, arena, id)[index],
    }
}

/// Asserts that `out` holds `want`, within `slack` units beside the half unit of rounding; values that do not fit are
/// clamped in both.
fn assert_close(model: &Model<'_>, arena: &[u8], out: u16, want: &[f64], slack: f64, what: &str) {
    let tensor = model.tensor(out);
    let got = reals(model, arena, out);
    assert_eq!(got.len(), want.len(), "{what}");
    let quant = model.quant(&tensor, 0);
    let (unit, low, high) = match tensor.dtype {
        DType::I8 => (quant.scale as f64, -128.0, 127.0),
        DType::I16 => (quant.scale as f64, -32_767.0, 32_767.0),
        DType::F32 => (1e-5, -1e12, 1e12),
    };
    let z = if tensor.dtype == DType::F32 { 0.0 } else { quant.zero_point as f64 };
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let clamped = want.clamp((low - z) * unit, (high - z) * unit);
        assert!(
            ((got - clamped) / unit).abs() <= 0.5 + slack,
            "{what}: element {i} is {got}, not {want} (unit {unit})"
        );
    }
    assert!(got.iter().any(|&x| x != 0.0), "{what}: nothing but zeros shows nothing");
}

fn conv_formula(model: &Model<'_>, arena: &[u8], op: &Conv) -> Vec<f64> {
    let out = model.tensor(op.out);
    let [out_w, out_c] = [out.w, out.c].map(usize::from);
    let residual = reals(model, arena, op.residual);
    let mut want = vec![0.0; out.elems()];
    for (i, want) in want.iter_mut().enumerate() {
        let c = i % out_c;
        *want = f32_at(model, op.bias, c) + modulation_at(model, arena, op.modulation, out_c, 0, c);
        *want += residual.get(i).copied().unwrap_or(0.0) * op.residual_scale as f64;
    }
    for (&source, &weights) in op.sources.iter().zip(&op.weights).filter(|(source, _)| **source != NONE) {
        let input = model.tensor(source);
        let values = reals(model, arena, source);
        let weights = model.weights(weights).expect("weights");
        let up = if op.upsample { 2 } else { 1 };
        let (h, w, in_c) = (input.h as isize * up, input.w as isize * up, input.c as usize);
        let [kh, kw] = op.kernel.map(usize::from);
        let bytes = &model.bytes()[weights.offset as usize..];
        for (i, want) in want.iter_mut().enumerate() {
            let (y, x, c) = (i / (out_w * out_c), i / out_c % out_w, i % out_c);
            let scale = f32_at(model, weights.params, 2 * c);
            for ky in 0..kh {
                for kx in 0..kw {
                    let iy = (y * op.stride as usize + ky) as isize - op.pad[0] as isize;
                    let ix = (x * op.stride as usize + kx) as isize - op.pad[1] as isize;
                    if !(0..h).contains(&iy) || !(0..w).contains(&ix) {
                        continue;
                    }
                    for k in 0..in_c {
                        let value = values[((iy / up) as usize * input.w as usize + (ix / up) as usize) * in_c + k];
                        let code = weights.code(bytes, c, (ky * kw + kx) * in_c + k);
                        *want += code as f64 * scale * value;
                    }
                }
            }
        }
    }
    want
}

fn check_conv(what: &str) -> impl Fn(&Model<'_>, &[u8], &Op) {
    move |model, arena, op| {
        let Op::Conv(conv) = op else { return };
        // Up to three rounded products with four fraction bits, and the bias rounded to the accumulator's unit.
        let out = model.tensor(conv.out);
        let weights = model.weights(conv.weights[0]).expect("weights");
        let scales = (0..out.c as usize).map(|c| f32_at(model, weights.params, 2 * c));
        let unit = scales.fold(0.0, f64::max) * model.quant(&model.tensor(conv.sources[0]), 0).scale as f64;
        let slack =
            if out.dtype == DType::F32 { unit / 2e-5 } else { 0.15 + 0.5 * unit / model.quant(&out, 0).scale as f64 };
        if conv.residual == NONE || model.tensor(conv.residual).offset != model.tensor(conv.out).offset {
            assert_close(model, arena, conv.out, &conv_formula(model, arena, conv), slack, what);
        }
    }
}

fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

/// SiLU over ±8 in steps of 1/64, values in 1/4096.
fn silu_table(b: &mut Builder) -> Table {
    let entries: Vec<i16> =
        (-512..512).map(|i| (silu(i as f64 / 64.0) * 4096.0).round().min(32_767.0) as i16).collect();
    Table { offset: b.shorts(&entries), in_step: 1.0 / 64.0, out_step: 1.0 / 4096.0 }
}

#[test]
fn group_norm_over_two_sources() {
    for (seed, (first, second)) in
        [(DType::I8, None), (DType::I16, None), (DType::I8, Some(DType::I8)), (DType::I16, Some(DType::I8))]
            .into_iter()
            .enumerate()
    {
        for (activation, modulated) in [(false, false), (true, false), (true, true)] {
            let mut net = Net::new(200 + seed as u64, [6, 5, 3]);
            // 4 + 8 channels in 3 groups of 4, or 8 + 4 in 2 of 6: the second group straddles.
            let a = net.made(if second.is_some() { 8 } else { 12 }, first);
            let b = second.map_or(NONE, |dtype| net.made(4, dtype));
            let (groups, c) = (2u16, 12);
            let stats = net.b.float([1, 1, 2 * groups as usize], false);
            let affine: Vec<f32> = (0..2 * c).map(|i| if i < c { 1.0 } else { 0.0 } + 0.3 * net.rng.normal()).collect();
            let affine = net.b.floats(&affine);
            let table = activation.then(|| silu_table(&mut net.b));
            let modulation = if modulated {
                let values = net.rng.normals(2 * c, 0.3);
                let bytes: Vec<u8> = values.iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()).collect();
                Modulation::Table(net.b.blob(bytes))
            } else {
                Modulation::None
            };
            let out = net.b.int([6, 5, c], DType::I8, 5.0 / 255.0, if activation { -110 } else { 3 });
            let sources = [a, b];
            net.b.ops.push(Op::NormStats(NormStats { sources, out: stats, groups, eps: 1e-5 }));
            net.b.ops.push(Op::NormApply(NormApply { sources, stats, out, groups, affine, modulation, table }));
            net.run(|model, arena, op| match op {
                Op::NormStats(op) => {
                    assert_close(model, arena, op.out, &norm_stats_formula(model, arena, op), 200.0, "statistics")
                }
                Op::NormApply(op) => {
                    let stats = reals(model, arena, op.stats);
                    let values = joined(model, arena, op.sources);
                    let want: Vec<f64> = values
                        .iter()
                        .enumerate()
                        .map(|(i, x)| {
                            let channel = i % c;
                            let group = channel / (c / op.groups as usize);
                            let normed =
                                (x - stats[2 * group]) * stats[2 * group + 1] * f32_at(model, op.affine, channel)
                                    + f32_at(model, op.affine, c + channel);
                            let m = |i| modulation_at(model, arena, op.modulation, 2 * c, 0, i);
                            let y = normed * (1.0 + m(channel)) + m(c + channel);
                            if op.table.is_some() { silu(y) } else { y }
                        })
                        .collect();
                    // With a table half a step of the index (1/128, slope 1.1) in units of 5/255.
                    let slack = if op.table.is_some() { 0.5 } else { 0.02 };
                    assert_close(model, arena, op.out, &want, slack, &format!("norm {first:?} {second:?} {modulated}"));
                }
                _ => {}
            });
        }
    }
}

/// The channel concatenation of one or two tensors.
fn joined(model: &Model<'_>, arena: &[u8], sources: [u16; 2]) -> Vec<f64> {
    let [a, b] = sources.map(|id| reals(model, arena, id));
    let [ca, cb] = sources.map(|id| model.tensor(id).c as usize);
    if b.is_empty() {
        return a;
    }
    a.chunks(ca).zip(b.chunks(cb)).flat_map(|(a, b)| a.iter().chain(b).copied().collect::<Vec<_>>()).collect()
}

fn norm_stats_formula(model: &Model<'_>, arena: &[u8], op: &NormStats) -> Vec<f64> {
    let values = joined(model, arena, op.sources);
    let c: usize = op.sources.iter().filter(|&&id| id != NONE).map(|&id| model.tensor(id).c as usize).sum();
    let group_c = c / op.groups as usize;
    (0..op.groups as usize)
        .flat_map(|group| {
            let values: Vec<f64> =
                values.iter().enumerate().filter(|(i, _)| i % c / group_c == group).map(|(_, &x)| x).collect();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / values.len() as f64;
            [mean, 1.0 / (variance + op.eps as f64).sqrt()]
        })
        .collect()
}

#[test]
fn a_norm_in_place_changes_nothing_and_a_constant_group_gives_beta() {
    let results = [false, true].map(|in_place| {
        let mut net = Net::new(9, [4, 4, 2]);
        let source = net.made(4, DType::I8);
        // Weights of zero: a constant group, far from zero.
        let stats = net.b.float([1, 1, 4], false);
        let affine = net.b.floats(&[1.0, 2.0, 0.5, -1.0, 0.1, 0.2, -0.3, 0.4]);
        let table = Some(silu_table(&mut net.b));
        let out = net.b.int([4, 4, 4], DType::I8, 5.0 / 255.0, -110);
        if in_place {
            net.b.tensors[out as usize].offset = net.b.tensors[source as usize].offset;
        }
        let sources = [source, NONE];
        net.b.ops.push(Op::NormStats(NormStats { sources, out: stats, groups: 2, eps: 1e-5 }));
        let modulation = Modulation::None;
        net.b.ops.push(Op::NormApply(NormApply { sources, stats, out, groups: 2, affine, modulation, table }));
        let seen = std::cell::RefCell::new(Vec::new());
        net.run(|model, arena, op| {
            if let Op::NormApply(_) = op {
                *seen.borrow_mut() = reals(model, arena, out);
            }
        });
        seen.into_inner()
    });
    assert_eq!(results[0], results[1]);

    let mut net = Net::new(10, [4, 4, 2]);
    let zeros = net.b.weights(&[vec![0; 2], vec![0; 2]], &[0.01; 2]);
    let constant = net.b.int([4, 4, 2], DType::I8, 0.05, -100);
    let bias = net.b.floats(&[5.0, 5.0]);
    net.b.ops.push(Op::Conv(Conv { out: constant, weights: [zeros, NONE], bias, ..plain(net.x) }));
    let stats = net.b.float([1, 1, 2], false);
    let affine = net.b.floats(&[3.0, -2.0, 0.5, -0.25]);
    let out = net.b.int([4, 4, 2], DType::I8, 2.0 / 255.0, 0);
    let sources = [constant, NONE];
    net.b.ops.push(Op::NormStats(NormStats { sources, out: stats, groups: 1, eps: 1e-6 }));
    let modulation = Modulation::None;
    net.b.ops.push(Op::NormApply(NormApply { sources, stats, out, groups: 1, affine, modulation, table: None }));
    net.run(|model, arena, op| {
        if let Op::NormApply(op) = op {
            let want: Vec<f64> = (0..32).map(|i| [0.5, -0.25][i % 2]).collect();
            assert_close(model, arena, op.out, &want, 0.01, "constant group");
        }
    });
}

#[test]
fn attention_of_one_and_more_heads() {
    for (seed, (shape, c, heads)) in
        [([3, 4, 2], 8, 1), ([5, 3, 2], 12, 3), ([18, 17, 1], 4, 2)].into_iter().enumerate()
    {
        let mut net = Net::new(300 + seed as u64, shape);
        let q = net.b.int([shape[0], shape[1], c], DType::I8, 6.0 / 255.0, 0);
        net.conv(q, plain(net.x));
        let (k, v) = (net.made(c, DType::I8), net.made(c, DType::I8));
        let tables: Vec<i16> = (0..128)
            .map(|i| (-if i < 64 { i as f64 / 4.0 } else { (i - 64) as f64 / 256.0 }).exp() * 32_768.0)
            .map(|x| x.round().min(32_767.0) as i16)
            .collect();
        let exp_table = net.b.shorts(&tables);
        let out = net.int([shape[0], shape[1], c], DType::I8);
        let scale = 1.0 / ((c / heads) as f32).sqrt();
        net.b.ops.push(Op::Attention(Attention { qkv: [q, k, v], out, heads: heads as u16, scale, exp_table }));
        net.run(|model, arena, op| {
            let Op::Attention(op) = op else { return };
            let [q, k, v] = op.qkv.map(|id| reals(model, arena, id));
            let (n, d) = (q.len() / c, c / heads);
            let mut want = vec![0.0; q.len()];
            for i in 0..n {
                for head in 0..heads {
                    let scores: Vec<f64> = (0..n)
                        .map(|j| {
                            (0..d).map(|x| q[i * c + head * d + x] * k[j * c + head * d + x]).sum::<f64>()
                                * op.scale as f64
                        })
                        .collect();
                    let max = scores.iter().copied().fold(f64::MIN, f64::max);
                    let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
                    let total: f64 = weights.iter().sum();
                    for x in 0..d {
                        want[i * c + head * d + x] =
                            (0..n).map(|j| weights[j] * v[j * c + head * d + x]).sum::<f64>() / total;
                    }
                }
            }
            // Index steps of 1/256 nat: weights within 0.2 %, values up to ±2 in units of 6/255.
            assert_close(model, arena, op.out, &want, 0.2, "attention");
        });
    }
}

#[test]
fn pooling_and_upsampling() {
    for dtype in [DType::I8, DType::I16] {
        let mut net = Net::new(400, [6, 4, 3]);
        let source = net.made(5, dtype);
        let quant = net.b.tensors[source as usize].quant;
        let (half, double) = (net.int([3, 2, 5], dtype), net.int([12, 8, 5], dtype));
        for id in [half, double] {
            net.b.tensors[id as usize].quant = quant;
        }
        net.b.ops.push(Op::AvgPool { input: source, out: half });
        net.b.ops.push(Op::Upsample { input: source, out: double });
        net.run(|model, arena, op| match *op {
            Op::AvgPool { input, out } => {
                let values = reals(model, arena, input);
                let at = |y: usize, x: usize, c: usize| values[(y * 4 + x) * 5 + c];
                let want: Vec<f64> = (0..30)
                    .map(|i| (i / 10, i / 5 % 2, i % 5))
                    .map(|(y, x, c)| {
                        (at(2 * y, 2 * x, c)
                            + at(2 * y, 2 * x + 1, c)
                            + at(2 * y + 1, 2 * x, c)
                            + at(2 * y + 1, 2 * x + 1, c))
                            / 4.0
                    })
                    .collect();
                assert_close(model, arena, out, &want, 1e-6, "mean");
            }
            Op::Upsample { input, out } => {
                let values = reals(model, arena, input);
                let want: Vec<f64> = (0..480).map(|i| values[((i / 40 / 2) * 4 + i / 5 % 8 / 2) * 5 + i % 5]).collect();
                assert_close(model, arena, out, &want, -0.499, "nearest");
            }
            _ => {}
        });
    }
}

#[test]
fn embeddings_reach_biases_and_norms() {
    for caller_given in [false, true] {
        let mut net = Net::new(500, [4, 4, 2]);
        let dim = 6;
        let embedding = net.b.int([1, 1, dim], DType::I16, 1.0 / 4096.0, 0);
        if caller_given {
            let vector = net.b.float([1, 1, dim], true);
            net.b.class_embedding = Some(vector);
            let values = net.rng.normals(dim, 1.0);
            let steps = net.b.floats(&values);
            let table = silu_table(&mut net.b);
            net.b.ops.push(Op::EmbedAdd(EmbedAdd { vector, out: embedding, steps, table }));
        } else {
            net.b.classes = 3;
            let values: Vec<i16> = (0..3 * dim).map(|_| net.rng.range(-8000, 8000) as i16).collect();
            let table = net.b.shorts(&values);
            net.b.ops.push(Op::EmbedLookup(EmbedLookup { out: embedding, table }));
        }
        let projected = net.b.float([1, 1, 5], false);
        net.conv(projected, plain(embedding));
        let out = net.int([4, 4, 5], DType::I8);
        net.conv(out, Conv { kernel: [3, 3], pad: [1, 1], modulation: Modulation::Tensor(projected), ..plain(net.x) });
        net.run(|model, arena, op| {
            check_conv("with an embedding")(model, arena, op);
            match op {
                Op::EmbedAdd(op) => {
                    let want: Vec<f64> = (0..dim).map(|i| silu(f32_at(model, op.steps, i) + 0.25)).collect();
                    // Half a step of the table, 1/128 at slope 1.1, in units of 1/4096.
                    assert_close(model, arena, op.out, &want, 36.0, "embedding of a vector");
                }
                Op::EmbedLookup(op) => {
                    let at = op.table as usize + 2 * dim;
                    let want: Vec<f64> = model.bytes()[at..at + 2 * dim]
                        .chunks(2)
                        .map(|b| i16::from_le_bytes([b[0], b[1]]) as f64 / 4096.0)
                        .collect();
                    assert_close(model, arena, op.out, &want, -0.499, "embedding of class 1");
                }
                _ => {}
            }
        });
    }
}
