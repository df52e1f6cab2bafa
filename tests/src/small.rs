//! A small file with every operator, per-step scales, classes and guidance: about 6 KB.

use crate::{Builder, CONV, Flash, Random, arena_for};
use mote_runtime::format::op::{Attention, Conv, EmbedAdd, EmbedLookup, Modulation, NormApply, NormStats, Table};
use mote_runtime::format::{Clip, DType, Encoding, NONE, Op, Quant, Row, SelfTest, Store};
use mote_runtime::{Model, Poll, Request, Sampler};

const H: usize = 4;
const W: usize = 6;
const C: usize = 4;
const CLASSES: usize = 3;
const ROWS: usize = 3;

/// The class embedding that the pictures of the tests are drawn with: any will do.
pub const SMALL_EMBEDDING: [f32; 4] = [0.5, -1.25, 2.0, 0.125];

/// The file, with its self-test. Its numbers are random; what it draws is noise, but every operator has a part in it.
pub fn small() -> Vec<u8> {
    let mut b = unsealed();
    let mut self_test = SelfTest { seed: 3, class: 1, step_crc: 0, sample_crc: 0 };
    let file = Flash::new(&b.build());
    let model = Model::from_bytes(file.bytes()).expect("the small file is valid");
    let mut arena = arena_for(&model);
    let mut sampler = Sampler::new(&model, arena.bytes_mut()).expect("its arena fits");
    sampler
        .start(Request {
            seed: self_test.seed,
            class: Some(self_test.class),
            class_embedding: Some(&[0.0; 4]),
            ..Default::default()
        })
        .expect("a request");
    sampler.step();
    self_test.step_crc = sampler.sample_crc();
    while let Poll::Pending(_) = sampler.step() {}
    self_test.sample_crc = sampler.sample_crc();
    b.self_test = Some(self_test);
    b.build()
}

fn unsealed() -> Builder {
    let mut rng = Random::new(42);
    let mut b = Builder { classes: CLASSES as u16, null_class: Some(2), rows: rows(), ..Default::default() };
    let (x, output, uncond) = (b.float([H, W, 1], true), b.float([H, W, 1], false), b.float([H, W, 1], false));
    (b.ends, b.uncond) = ([x, output], Some(uncond));

    let table: Vec<i16> = (-512..512)
        .map(|i| i as f32 / 64.0)
        .map(|x| (x / (1.0 + (-x).exp()) * 4096.0).round().min(32_767.0) as i16)
        .collect();
    let table = Table { offset: b.shorts(&table), in_step: 1.0 / 64.0, out_step: 1.0 / 4096.0 };
    let exp: Vec<i16> = (0..128)
        .map(|i| (-if i < 64 { i as f32 / 4.0 } else { (i - 64) as f32 / 256.0 }).exp() * 32_768.0)
        .map(|x| x.round().min(32_767.0) as i16)
        .collect();
    let exp_table = b.shorts(&exp);

    let embedding = b.int([1, 1, 4], DType::I16, 1.0 / 8192.0, 0);
    let vectors: Vec<i16> = (0..ROWS * CLASSES * 4).map(|_| rng.range(-16_000, 16_000) as i16).collect();
    let vectors = b.shorts(&vectors);
    b.ops.push(Op::EmbedLookup(EmbedLookup { out: embedding, table: vectors }));
    let projected = b.float([1, 1, C], false);
    conv(&mut b, &mut rng, Conv { sources: [embedding, NONE], out: projected, ..CONV });

    let vector = b.float([1, 1, 4], true);
    b.class_embedding = Some(vector);
    let steps = b.floats(&rng.normals(ROWS * 4, 1.0));
    let embedded = b.int([1, 1, 4], DType::I16, 1.0 / 4096.0, 0);
    b.ops.push(Op::EmbedAdd(EmbedAdd { vector, out: embedded, steps, table }));
    let given = b.float([1, 1, C], false);
    conv(&mut b, &mut rng, Conv { sources: [embedded, NONE], out: given, ..CONV });

    let input = b.int([H, W, 1], DType::I16, 8.0 / 32_767.0, 0);
    b.ops.push(Op::Quantize { input: x, out: input, mul: 1.0, add: 0.0 });
    let stem = per_step(&mut b, [H, W, C], 0);
    conv(&mut b, &mut rng, Conv { sources: [input, NONE], out: stem, kernel: [3, 3], pad: [1, 1], ..CONV });
    let normed = norm(&mut b, &mut rng, [stem, NONE], [H, W, C], Some(table), Modulation::None);
    let hidden = per_step(&mut b, [H, W, C], 10);
    let modulation = Modulation::Tensor(projected);
    let modulated =
        Conv { sources: [normed, NONE], out: hidden, kernel: [3, 3], pad: [1, 1], modulation, winograd: true, ..CONV };
    encoded(&mut b, &mut rng, modulated, [Encoding::I4 { group_len: 8 }; 2]);

    let [q, k, v] = [0, -7, 9].map(|zero_point| {
        let out = b.int([H, W, C], DType::I8, 0.04, zero_point);
        conv(&mut b, &mut rng, Conv { sources: [hidden, NONE], out, ..CONV });
        out
    });
    let attended = b.int([H, W, C], DType::I8, 0.04, 0);
    b.ops.push(Op::Attention(Attention { qkv: [q, k, v], out: attended, heads: 2, scale: 0.7, exp_table }));
    let summed = b.int([H, W, C], DType::I16, 0.0005, 0);
    let residual = Conv { sources: [attended, NONE], out: summed, residual: hidden, residual_scale: 1.0, ..CONV };
    conv(&mut b, &mut rng, residual);

    let half = b.int([H / 2, W / 2, C], DType::I16, 0.0005, 0);
    b.tensors[half as usize].quant = b.tensors[summed as usize].quant;
    b.ops.push(Op::AvgPool { input: summed, out: half });
    let deep = b.int([H / 2, W / 2, C], DType::I8, 0.04, 3);
    conv(&mut b, &mut rng, Conv { sources: [half, NONE], out: deep, ..CONV });
    let wide = b.int([H, W, C], DType::I8, 0.04, 3);
    b.tensors[wide as usize].quant = b.tensors[deep as usize].quant;
    b.ops.push(Op::Upsample { input: deep, out: wide });

    let scale_shift: Vec<u8> =
        (0..ROWS * CLASSES * 4 * C).flat_map(|_| half::f16::from_f32(0.2 * rng.normal()).to_le_bytes()).collect();
    let scale_shift = Modulation::Table(b.blob(scale_shift));
    let merged = norm(&mut b, &mut rng, [wide, summed], [H, W, 2 * C], Some(table), scale_shift);
    let skip = b.int([H, W, C], DType::I8, 0.04, 0);
    let modulation = Modulation::Tensor(given);
    let shortcut = Conv { sources: [wide, summed], out: skip, modulation, ..CONV };
    encoded(&mut b, &mut rng, shortcut, [Encoding::I8, Encoding::I4 { group_len: 0 }]);
    let last = b.int([H, W, C], DType::I8, 0.04, 0);
    let sum = Conv {
        sources: [merged, NONE],
        out: last,
        residual: skip,
        residual_scale: 1.0,
        kernel: [3, 3],
        pad: [1, 1],
        winograd: true,
        ..CONV
    };
    conv(&mut b, &mut rng, sum);
    let plain = norm(&mut b, &mut rng, [last, NONE], [H, W, C], None, Modulation::None);
    conv(&mut b, &mut rng, Conv { sources: [plain, NONE], out: output, kernel: [3, 3], pad: [1, 1], ..CONV });
    b
}

fn rows() -> Vec<Row> {
    (0..ROWS)
        .map(|i| Row {
            timestep: 900.0 - 300.0 * i as f32,
            graph: 0,
            null_graph: 0,
            advance: true,
            p: 1.25,
            q: -0.75,
            clip: if i == 1 { Clip::Dynamic { ratio: 0.9, max: 2.0 } } else { Clip::Range(1.0) },
            r: 0.25,
            s: 0.9,
            a: 0.0,
            b: 0.8,
            c: 0.5,
            d: if i < 2 { 0.1 } else { 0.0 },
            e: [0.0; 4],
            store: Store::None,
            store_slot: 0,
        })
        .collect()
}

/// An int8 tensor with its own scale at every row.
fn per_step(b: &mut Builder, shape: [usize; 3], zero_point: i16) -> u16 {
    let id = b.int(shape, DType::I8, 0.03, zero_point);
    b.tensors[id as usize].per_step = true;
    b.quants.extend(
        (1..ROWS).map(|row| Quant { scale: [0.03125, 0.0234375][row % 2], zero_point: zero_point - row as i16 }),
    );
    id
}

pub(crate) fn conv(b: &mut Builder, rng: &mut Random, conv: Conv) {
    encoded(b, rng, conv, [Encoding::I8; 2]);
}

/// A convolution with random weights, of each source in its encoding.
fn encoded(b: &mut Builder, rng: &mut Random, mut conv: Conv, encodings: [Encoding; 2]) {
    let out_c = b.tensors[conv.out as usize].c as usize;
    let sources = conv.sources.into_iter().zip(&mut conv.weights).zip(encodings);
    for ((source, weights), encoding) in sources.filter(|((source, _), _)| *source != NONE) {
        let len = conv.kernel[0] as usize * conv.kernel[1] as usize * b.tensors[source as usize].c as usize;
        let mut rows = |len: usize, low: i64, high: i64| -> Vec<Vec<i8>> {
            (0..out_c).map(|_| (0..len).map(|_| rng.range(low, high) as i8).collect()).collect()
        };
        let scales = |rms: f32| vec![1.0 / rms / (len as f32).sqrt(); out_c];
        *weights = match encoding {
            Encoding::I8 => b.weights(&rows(len, -127, 127), &scales(73.0)),
            Encoding::I4 { group_len } => {
                let (nibbles, groups) = (rows(len, -7, 7), len.div_ceil(usize::from(group_len).max(1)));
                let group_scales = if group_len == 0 { Vec::new() } else { rows(groups, 1, 16) };
                let group_scales: Vec<Vec<u8>> =
                    group_scales.iter().map(|row| row.iter().map(|&scale| scale as u8).collect()).collect();
                b.weights_i4(&nibbles, group_len, &group_scales, &scales(if group_len == 0 { 4.3 } else { 42.0 }))
            }
        };
    }
    conv.bias = b.floats(&rng.normals(out_c, 0.2));
    b.ops.push(Op::Conv(conv));
}

fn norm(
    b: &mut Builder,
    rng: &mut Random,
    sources: [u16; 2],
    shape: [usize; 3],
    table: Option<Table>,
    modulation: Modulation,
) -> u16 {
    let (groups, c) = (2, shape[2]);
    let stats = b.float([1, 1, 2 * groups as usize], false);
    let affine: Vec<f32> = (0..2 * c).map(|i| if i < c { 1.0 } else { 0.0 } + 0.1 * rng.normal()).collect();
    let affine = b.floats(&affine);
    let out = b.int(shape, DType::I8, 0.025, if table.is_some() { -115 } else { 0 });
    b.ops.push(Op::NormStats(NormStats { sources, out: stats, groups, eps: 1e-5 }));
    b.ops.push(Op::NormApply(NormApply { sources, stats, out, groups, affine, modulation, table }));
    out
}
