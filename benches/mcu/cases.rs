//! The file whose operators are measured: every shape that CMSIS-NN was measured on, in one graph.

use std::f32::consts::E;

use mote_runtime::format::op::{Attention, Conv, Modulation, NormApply, NormStats, Table};
use mote_runtime::format::{DType, NONE, Op, Row};
use mote_runtime::shape::winograd_fits;
use mote_tests::{Builder, CONV, ROW, Random};

/// The convolutions of MLPerf Tiny's ResNet-8 and its last layer, by their labels: 12.50 M multiply-adds.
pub const RESNET_8: [&str; 10] = [
    "3×3 32×32 3→16",
    "3×3 32×32 16→16",
    "3×3 32×32 16→16",
    "3×3/2 32×32 16→32",
    "3×3 16×16 32→32",
    "1×1/2 32×32 16→32",
    "3×3/2 16×16 32→64",
    "3×3 8×8 64→64",
    "1×1/2 16×16 32→64",
    "1×1 1×1 64→10",
];

/// Two labels whose difference is the addition of a tensor: a residual is part of a convolution here.
pub const ADD: [&str; 2] = ["1×1 28×28 16→16 + residual", "1×1 28×28 16→16"];

struct Net {
    b: Builder,
    rng: Random,
    winograd: bool,
}

impl Net {
    fn int(&mut self, shape: [usize; 3]) -> u16 {
        let zero_point = self.rng.range(-40, 40) as i16;
        self.b.int(shape, DType::I8, 6.0 / 255.0, zero_point)
    }

    /// A convolution of `source` that keeps the size divided by the stride, with random weights.
    fn conv(&mut self, source: u16, kernel: u8, stride: u8, out_c: usize) -> u16 {
        let [h, w] = [self.b.tensors[source as usize].h, self.b.tensors[source as usize].w];
        let len = |input: u16| (input as usize).div_ceil(stride as usize);
        let out = self.int([len(h), len(w), out_c]);
        self.conv_to(out, Conv { kernel: [kernel; 2], stride, pad: [kernel / 2; 2], ..plain(source) })
    }

    fn conv_to(&mut self, out: u16, mut conv: Conv) -> u16 {
        let out_c = self.b.tensors[out as usize].c as usize;
        let [kh, kw] = conv.kernel.map(usize::from);
        let len = kh * kw * self.b.tensors[conv.sources[0] as usize].c as usize;
        let rows: Vec<Vec<i8>> =
            (0..out_c).map(|_| (0..len).map(|_| self.rng.range(-127, 127) as i8).collect()).collect();
        conv.weights[0] = self.b.weights(&rows, &vec![1.0 / 73.0 / (len as f32).sqrt(); out_c]);
        let bias = self.rng.normals(out_c, 0.3);
        (conv.bias, conv.out) = (self.b.floats(&bias), out);
        let [input, out_record] = [conv.sources[0], out].map(|id| self.b.tensors[id as usize]);
        conv.winograd = self.winograd && winograd_fits(&conv, &input, &out_record);
        self.b.ops.push(Op::Conv(conv));
        out
    }

    fn halved(&mut self, input: u16) -> u16 {
        let t = self.b.tensors[input as usize];
        let out = self.int([t.h as usize / 2, t.w as usize / 2, t.c as usize]);
        self.b.tensors[out as usize].quant = t.quant;
        self.b.ops.push(Op::AvgPool { input, out });
        out
    }
}

fn plain(source: u16) -> Conv {
    Conv { sources: [source, NONE], ..CONV }
}

/// The file. A few of its operators only make the next one's input.
pub fn file(winograd: bool) -> Vec<u8> {
    let b = Builder { rows: vec![Row { q: -0.5, ..ROW }], ..Default::default() };
    let mut n = Net { b, rng: Random::new(5), winograd };
    let (x, end) = (n.b.float([32, 32, 3], true), n.b.float([32, 32, 3], false));
    n.b.ends = [x, end];
    let picture = n.int([32, 32, 3]);
    n.b.ops.push(Op::Quantize { input: x, out: picture, mul: 1.0, add: 0.0 });

    let stem = n.conv(picture, 3, 1, 16);
    let first = n.conv(stem, 3, 1, 16);
    let first = n.conv(first, 3, 1, 16);
    let wide = n.conv(first, 3, 2, 32);
    let second = n.conv(wide, 3, 1, 32);
    n.conv(first, 1, 2, 32);
    let deep = n.conv(second, 3, 2, 64);
    let third = n.conv(deep, 3, 1, 64);
    n.conv(second, 1, 2, 64);
    let four = n.halved(third);
    let two = n.halved(four);
    let one = n.halved(two);
    n.conv(one, 1, 1, 10);

    // 5×5 without padding: 32 → 28.
    let gray = n.int([28, 28, 1]);
    n.conv_to(gray, Conv { kernel: [5, 5], ..plain(picture) });
    let a = n.conv(gray, 3, 1, 16);
    let b = n.conv(a, 3, 1, 16);
    let half = n.conv(b, 3, 2, 32);
    n.conv(half, 3, 1, 32);
    let half_wide = n.conv(half, 1, 1, 64);
    n.conv(half_wide, 1, 1, 32);
    let large = n.conv(second, 1, 1, 64);
    n.conv(large, 3, 1, 64);
    n.conv(a, 1, 1, 16);
    let sum = n.int([28, 28, 16]);
    n.conv_to(sum, Conv { residual: b, residual_scale: 1.0, ..plain(a) });

    let exp: Vec<i16> = (0..128)
        .map(|i| E.powf(-if i < 64 { i as f32 / 4.0 } else { (i - 64) as f32 / 256.0 }) * 32_768.0)
        .map(|x| x.round().min(32_767.0) as i16)
        .collect();
    let exp_table = n.b.shorts(&exp);
    let quarter = n.halved(half);
    let qkv = [0; 3].map(|zero_point| {
        let out = n.b.int([7, 7, 32], DType::I8, 6.0 / 255.0, zero_point);
        n.conv_to(out, plain(quarter))
    });
    let out = n.int([7, 7, 32]);
    n.b.ops.push(Op::Attention(Attention { qkv, out, heads: 1, scale: 0.18, exp_table }));

    let silu: Vec<i16> = (-512..512)
        .map(|i| i as f32 / 64.0)
        .map(|x| (x / (1.0 + E.powf(-x)) * 4096.0).round().min(32_767.0) as i16)
        .collect();
    let table = Some(Table { offset: n.b.shorts(&silu), in_step: 1.0 / 64.0, out_step: 1.0 / 4096.0 });
    let (stats, out) = (n.b.float([1, 1, 8], false), n.int([28, 28, 16]));
    let affine = n.b.floats(&[1.0; 32]);
    n.b.ops.push(Op::NormStats(NormStats { sources: [a, NONE], out: stats, groups: 4, eps: 1e-5 }));
    let modulation = Modulation::None;
    n.b.ops.push(Op::NormApply(NormApply { sources: [a, NONE], stats, out, groups: 4, affine, modulation, table }));

    n.conv_to(end, plain(picture));
    n.b.build()
}
