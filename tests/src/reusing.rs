//! A small file whose shallow rows reuse what full rows cached, with classes, guidance and two schedules: as `converter
//! quantize --cache-interval` writes them.

use crate::small::conv;
use crate::{Builder, CONV, ROW, Random};
use mote_runtime::format::op::{Conv, EmbedLookup, Modulation};
use mote_runtime::format::{DType, NONE, Op, Row, Schedule};
use std::ops::Range;

const SHAPE: [usize; 3] = [4, 6, 4];
const CLASSES: usize = 3;
/// Which rows are full: of a schedule of five steps, of one of two.
const FULL: [bool; 7] = [true, false, false, true, false, true, false];

/// Operators of a full call.
pub const OPS: u16 = 8;
/// Those that shallow calls skip; the last of them writes the cached tensor, and the next one reads it.
pub const DEEP: Range<u16> = 4..6;
/// Those that the null class has of its own instead: a writer and a reader.
pub const NULL_OPS: Range<u16> = 8..10;

/// The file before it is built. Graph 0 and 3 are full calls, with a class and without, 1 and 6 shallow ones.
pub fn reusing() -> Builder {
    let mut rng = Random::new(77);
    let mut b = Builder { classes: CLASSES as u16, null_class: Some(2), ..Default::default() };
    let [x, output, uncond] = [true, false, false].map(|carried| b.float([4, 6, 1], carried));
    (b.ends, b.uncond) = ([x, output], Some(uncond));
    let embedding = b.int([1, 1, 4], DType::I16, 1.0 / 8192.0, 0);
    let vectors: Vec<i16> = (0..FULL.len() * CLASSES * 4).map(|_| rng.range(-16_000, 16_000) as i16).collect();
    let table = b.shorts(&vectors);
    b.ops.push(Op::EmbedLookup(EmbedLookup { out: embedding, table }));
    let projected = b.float([1, 1, 4], false);
    conv(&mut b, &mut rng, Conv { sources: [embedding, NONE], out: projected, ..CONV });
    let modulation = Modulation::Tensor(projected);
    let input = b.int([4, 6, 1], DType::I8, 0.04, 0);
    b.ops.push(Op::Quantize { input: x, out: input, mul: 1.0, add: 0.0 });
    let wide = Conv { kernel: [3, 3], pad: [1, 1], ..CONV };
    let stem = b.int(SHAPE, DType::I8, 0.04, 3);
    conv(&mut b, &mut rng, Conv { sources: [input, NONE], out: stem, modulation, ..wide });
    let deep = b.int(SHAPE, DType::I8, 0.04, -3);
    conv(&mut b, &mut rng, Conv { sources: [stem, NONE], out: deep, modulation, ..wide });
    let cached = [0; 2].map(|_| {
        let id = b.int(SHAPE, DType::I8, 0.04, 5);
        b.tensors[id as usize].carried = true;
        id
    });
    b.cached = Some(cached);
    conv(&mut b, &mut rng, Conv { sources: [deep, NONE], out: cached[0], ..wide });
    let joined = b.int(SHAPE, DType::I8, 0.04, 0);
    conv(&mut b, &mut rng, Conv { sources: [cached[0], stem], out: joined, ..CONV });
    conv(&mut b, &mut rng, Conv { sources: [joined, NONE], out: output, ..wide });
    for op in [DEEP.end - 1, DEEP.end] {
        let Op::Conv(mut op) = b.ops[op as usize] else { continue };
        let rename = |id: u16| if id == cached[0] { cached[1] } else { id };
        (op.out, op.sources) = (rename(op.out), op.sources.map(rename));
        b.ops.push(Op::Conv(op));
    }

    let (end, writer) = (DEEP.end, DEEP.end - 1);
    b.graphs = vec![
        (0..OPS, NONE),
        (0..DEEP.start, 2),
        (end..OPS, NONE),
        (0..writer, 4),
        (NULL_OPS, 5),
        (end + 1..OPS, NONE),
        (0..DEEP.start, 7),
        (NULL_OPS.start + 1..NULL_OPS.end, 5),
    ];
    let row =
        |full: bool| Row { graph: u16::from(!full), null_graph: if full { 3 } else { 6 }, q: -0.5, b: 0.3, ..ROW };
    b.rows = FULL.map(row).to_vec();
    b.schedules = [(0, 5), (5, 2)].map(|(first_row, rows)| Schedule { first_row, rows, steps: rows }).to_vec();
    b
}
