//! Convolutions: every shape, what is added to them, and int4 weights.

use super::*;

/// Rounding twice must not shift a tensor: means go through a network, errors of single elements do not.
#[test]
fn convolutions_are_right_on_average() {
    for residual in [false, true] {
        let mut net = Net::new(5, [32, 32, 8]);
        let with = if residual { net.made(32, DType::I8) } else { NONE };
        let out = net.int([32, 32, 32], DType::I8);
        net.conv(out, Conv { residual: with, residual_scale: 0.7, kernel: [3, 3], pad: [1, 1], ..plain(net.x) });
        net.run(|model, arena, op| {
            let Op::Conv(conv) = op else { return };
            if conv.out != out {
                return;
            }
            let quant = model.quant(&model.tensor(out), 0);
            let (mut sum, mut count) = (0.0, 0.0);
            for (got, want) in reals(model, arena, out).iter().zip(conv_formula(model, arena, conv)) {
                let unit = f64::from(quant.scale);
                // Not what was clamped.
                if (want / unit + f64::from(quant.zero_point)).abs() < 127.0 {
                    sum += (got - want) / unit;
                    count += 1.0;
                }
            }
            // The mean of this many rounding errors is ±0.0017; halves that all go up would give 0.031.
            assert!(count > 25_000.0 && (sum / count).abs() < 0.008, "{} of {count}", sum / count);
        });
    }
}

#[test]
fn convolutions_of_every_shape() {
    let mut seed = 0;
    for in_dtype in [DType::I8, DType::I16] {
        for out_dtype in [DType::I8, DType::I16] {
            for (kernel, stride, pad, upsample) in [
                ([1, 1], 1, [0, 0], false),
                ([1, 1], 1, [0, 0], true),
                ([3, 3], 1, [1, 1], false),
                ([3, 3], 2, [1, 1], false),
                ([3, 3], 2, [0, 0], false),
                ([3, 3], 1, [1, 1], true),
                ([2, 5], 3, [1, 2], false),
                // Rows of short patches that do not lie behind each other; windows that are padding as a whole.
                ([1, 1], 2, [0, 0], false),
                ([1, 3], 1, [0, 1], false),
                ([1, 1], 1, [1, 1], false),
                ([3, 3], 1, [3, 3], false),
            ] {
                for (in_c, out_c) in [(1, 3), (4, 8), (7, 5)] {
                    seed += 1;
                    let mut net = Net::new(seed, [6, 7, 2]);
                    let source = net.made(in_c, in_dtype);
                    let up = if upsample { 2 } else { 1 };
                    let len = |input: usize, k: u8, pad: u8| {
                        (up * input + 2 * pad as usize - k as usize) / stride as usize + 1
                    };
                    let shape = [len(6, kernel[0], pad[0]), len(7, kernel[1], pad[1]), out_c];
                    let out = net.int(shape, out_dtype);
                    net.conv(out, Conv { kernel, stride, pad, upsample, ..plain(source) });
                    net.run(check_conv(&format!(
                        "{in_dtype:?} {out_dtype:?} {kernel:?}/{stride} {pad:?} {upsample} {in_c}→{out_c}"
                    )));
                }
            }
        }
    }
}

#[test]
fn residuals_two_sources_and_modulations() {
    for (seed, (residual, out_dtype)) in
        [(DType::I8, DType::I8), (DType::I16, DType::I16), (DType::I8, DType::I16), (DType::I16, DType::I8)]
            .into_iter()
            .enumerate()
    {
        for kernel in [1, 3] {
            let mut net = Net::new(100 + seed as u64, [5, 4, 3]);
            let (a, b) = (net.made(6, DType::I8), net.made(3, residual));
            let residual = net.made(4, residual);
            let table: Vec<f32> = net.rng.normals(4, 0.5);
            let table =
                net.b.blob(table.iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()).collect::<Vec<_>>());
            let out = net.int([5, 4, 4], out_dtype);
            let pad = [kernel / 2; 2];
            net.conv(
                out,
                Conv {
                    sources: [a, b],
                    residual,
                    residual_scale: 0.75,
                    kernel: [kernel; 2],
                    pad,
                    modulation: Modulation::Table(table),
                    ..plain(a)
                },
            );
            net.run(check_conv(&format!("two sources, residual, {kernel}×{kernel}, {out_dtype:?}")));
        }
    }
}

/// Winograd's algorithm gives the direct convolution's integers: with every table, whatever the picture's size, from int4 weights
/// too, and where a poll takes a pair of rows, or one row, at a time.
#[test]
fn winograd_is_direct() {
    let mut seed = 900;
    for [h, w] in [[4, 3], [5, 6], [3, 17], [2, 32], [7, 34], [1, 41]] {
        for (in_c, out_c, group_len) in [
            (4, 4, None),
            (12, 20, None),
            (24, 8, Some(8)),
            (68, 36, None),
            (16, 52, Some(4)),
            (256, 20, None),
            (456, 36, None),
        ] {
            for (upsample, out_dtype) in
                [(false, DType::I8), (true, DType::I8), (false, DType::F32), (false, DType::I16)]
            {
                seed += 1;
                let draw = |winograd: bool, kernels: Kernels, budget: u32| {
                    let mut net = Net::new(seed, [h, w, 2]);
                    net.written = group_len.map_or(Written::I8, Written::I4);
                    let source = net.made(in_c, DType::I8);
                    let up = if upsample { 2 } else { 1 };
                    let shape = [up * h, up * w, out_c];
                    let (out, residual) = match out_dtype {
                        DType::F32 => (net.b.float(shape, false), NONE),
                        dtype => (net.int(shape, dtype), net.int(shape, DType::I8)),
                    };
                    let conv = Conv { kernel: [3, 3], pad: [1, 1], upsample, winograd, ..plain(source) };
                    if residual != NONE {
                        net.conv(residual, conv);
                    }
                    net.conv(out, Conv { residual, residual_scale: 0.5, ..conv });
                    net.bytes_of(out, kernels, budget)
                };
                let direct = Kernels { winograd_from: usize::MAX, taps_from: usize::MAX, ..*select::tables()[0] };
                let want = draw(false, direct, u32::MAX);
                assert!(want.iter().any(|&x| x != 0));
                for table in select::tables() {
                    let table = Kernels {
                        winograd_from: 0,
                        winograd_pixels: 0,
                        winograd_up_to: usize::MAX,
                        taps_from: usize::MAX,
                        ..**table
                    };
                    // From pixels to bytes where that goes, and never.
                    let tables = [table, Kernels { byte_kernels: None, ..table }];
                    for (i, (winograd, budget)) in
                        [(true, u32::MAX), (false, u32::MAX), (true, 1), (false, 1)].repeat(2).into_iter().enumerate()
                    {
                        let got = draw(winograd, tables[i / 4], budget);
                        let name = table.name;
                        assert!(
                            got == want,
                            "{name}: {h}×{w} {in_c}→{out_c} {group_len:?} {upsample} {out_dtype:?} {winograd}"
                        );
                    }
                }
            }
        }
    }
}

/// Passes of which not all go from pixels to bytes: the last one's channels are no whole group, and tiles are more than are multiplied at a time.
#[test]
fn winograd_of_several_passes() {
    for ([h, w], in_c, out_c) in [([12, 12], 224, 84), ([16, 16], 128, 148), ([16, 16], 64, 260), ([16, 16], 64, 272)] {
        let mut net = Net::new(3, [h, w, 2]);
        let source = net.made(in_c, DType::I8);
        let out = net.int([h, w, out_c], DType::I8);
        net.conv(out, Conv { kernel: [3, 3], pad: [1, 1], ..plain(source) });
        let (file, alone) = (net.file(), Threads::new(1));
        let draw = |kernels: Kernels| bytes_of(&file, out, kernels, u32::MAX, &alone);
        let want = draw(Kernels { winograd_from: usize::MAX, ..**select::tables().last().expect("scalar") });
        for table in select::tables() {
            let got = draw(Kernels { winograd_from: 0, winograd_pixels: 0, ..**table });
            assert!(got == want, "{}: {h}×{w} {in_c}→{out_c}", table.name);
        }
    }
}

/// A record that asks for it where it cannot be is refused: kernels rely on the shape.
#[test]
fn winograd_is_refused_where_it_does_not_fit() {
    let fits = Conv { kernel: [3, 3], pad: [1, 1], winograd: true, ..plain(NONE) };
    for (what, in_dtype, [w, in_c, out_c], conv) in [
        ("", DType::I8, [6, 8, 4], fits),
        ("16 bits", DType::I16, [6, 8, 4], fits),
        ("input channels", DType::I8, [6, 6, 4], fits),
        ("output channels", DType::I8, [6, 8, 6], fits),
        ("two pixels wide", DType::I8, [2, 8, 4], fits),
        ("1×1", DType::I8, [6, 8, 4], Conv { kernel: [1, 1], pad: [0, 0], ..fits }),
        ("padding", DType::I8, [6, 8, 4], Conv { pad: [0, 1], ..fits }),
        ("stride", DType::I8, [6, 8, 4], Conv { stride: 2, ..fits }),
    ] {
        let mut net = Net::new(1, [6, w, 2]);
        let source = net.made(in_c, in_dtype);
        let conv = Conv { sources: [source, NONE], ..conv };
        let rows = if conv.stride == 2 { 3 } else { 6 + conv.pad[0] as usize * 2 + 1 - conv.kernel[0] as usize };
        let out = net.int([rows, if conv.stride == 2 { w / 2 } else { w }, out_c], DType::I8);
        net.conv(out, conv);
        let [_, end] = net.b.ends;
        net.conv(end, plain(net.x));
        let file = Flash::new(&net.b.build());
        let loaded = Model::from_bytes(file.bytes()).map(|_| ()).map_err(|error| error.to_string());
        assert_eq!(loaded.is_ok(), what.is_empty(), "{what}: {loaded:?}");
        // Without the mark all of them are valid.
        if let Some(Op::Conv(conv)) = net.b.ops.iter_mut().find(|op| op.out() == out) {
            conv.winograd = false;
        }
        let file = Flash::new(&net.b.build());
        assert!(Model::from_bytes(file.bytes()).is_ok(), "{what}");
    }
}

/// An int4 layer is the int8 layer of its codes, bit for bit, whatever its shape; and that is the formula's.
#[test]
fn int4_is_int8_in_fewer_bytes() {
    let mut seed = 300;
    for in_dtype in [DType::I8, DType::I16] {
        for out_dtype in [DType::I8, DType::I16] {
            for (kernel, stride, pad, upsample) in [
                ([1, 1], 1, [0, 0], false),
                ([3, 3], 1, [1, 1], false),
                ([3, 3], 2, [1, 1], false),
                ([3, 3], 1, [1, 1], true),
                ([2, 5], 3, [1, 2], false),
            ] {
                // The last with more weights than are unpacked at a time on any machine.
                for (in_c, out_c) in [(1, 3), (4, 8), (7, 5), (20, 17), (68, 134)] {
                    for group_len in [0, 4, 16, 24] {
                        seed += 1;
                        let conv = Conv { kernel, stride, pad, upsample, ..plain(NONE) };
                        let what = format!("{in_dtype:?} {out_dtype:?} {conv:?} {in_c}→{out_c} /{group_len}");
                        same_in_int4(group_len, &what, |net| {
                            *net = Net { written: net.written, ..Net::new(seed, [5, 6, 2]) };
                            let source = net.made(in_c, in_dtype);
                            let up = if upsample { 2 } else { 1 };
                            let len = |input: usize, k: u8, pad: u8| {
                                (up * input + 2 * pad as usize - k as usize) / stride as usize + 1
                            };
                            let shape = [len(5, kernel[0], pad[0]), len(6, kernel[1], pad[1]), out_c];
                            let out = net.int(shape, out_dtype);
                            net.conv(out, Conv { sources: [source, NONE], ..conv })
                        });
                    }
                }
            }
        }
    }
}

/// With two sources, residual, modulation; in place; and to f32.
#[test]
fn int4_of_two_sources_with_a_residual() {
    for (seed, residual_dtype) in [DType::I8, DType::I16].into_iter().enumerate() {
        for (a_c, b_c, out_c) in [(6, 3, 4), (36, 28, 150)] {
            for group_len in [0, 12] {
                for in_place in [false, true] {
                    same_in_int4(group_len, &format!("{residual_dtype:?} {a_c}+{b_c}→{out_c}"), |net| {
                        *net = Net { written: net.written, ..Net::new(700 + seed as u64, [5, 4, 3]) };
                        let (a, b) = (net.made(a_c, DType::I8), net.made(b_c, residual_dtype));
                        let residual = net.made(out_c, residual_dtype);
                        let modulation = net.b.float([1, 1, out_c], false);
                        let embedding = net.int([1, 1, 480], DType::I16);
                        let out = net.int([5, 4, out_c], residual_dtype);
                        if in_place {
                            net.b.tensors[out as usize].offset = net.b.tensors[residual as usize].offset;
                        }
                        let vectors: Vec<i16> = (0..480).map(|_| net.rng.range(-8000, 8000) as i16).collect();
                        let table = net.b.shorts(&vectors);
                        net.b.ops.push(Op::EmbedLookup(EmbedLookup { out: embedding, table }));
                        net.conv(modulation, plain(embedding));
                        net.conv(
                            out,
                            Conv {
                                sources: [a, b],
                                residual,
                                residual_scale: 0.75,
                                kernel: [3, 3],
                                pad: [1, 1],
                                modulation: Modulation::Tensor(modulation),
                                ..plain(a)
                            },
                        )
                    });
                }
            }
        }
    }
}

/// Builds a net with int4 weights and one with their codes as int8; compares the tensor that `build` names with the other's
/// and with the formula.
fn same_in_int4(group_len: u16, what: &str, build: impl Fn(&mut Net) -> u16) {
    let [got, want] = [Written::I4(group_len), Written::Expanded(group_len)].map(|written| {
        let mut net = Net { written, ..Net::new(0, [1, 1, 1]) };
        let id = build(&mut net);
        let seen = std::cell::RefCell::new(Vec::new());
        let formula = check_conv(what);
        net.run(|model, arena, op| {
            // An earlier output may be overwritten in place.
            if op.out() == id {
                formula(model, arena, op);
            }
            *seen.borrow_mut() = arena[model.tensor(id).range()].to_vec();
        });
        seen.into_inner()
    });
    assert!(got.iter().any(|&x| x != 0) && got == want, "{what}");
}

/// In place: the same convolution with the residual in the output's bytes gives the same integers.
#[test]
fn a_residual_in_place_changes_nothing() {
    for dtype in [DType::I8, DType::I16] {
        let results = [false, true].map(|in_place| {
            let mut net = Net::new(7, [4, 6, 2]);
            let source = net.made(5, DType::I8);
            let residual = net.made(3, dtype);
            let out = net.int([4, 6, 3], dtype);
            if in_place {
                net.b.tensors[out as usize].offset = net.b.tensors[residual as usize].offset;
            }
            net.conv(out, Conv { residual, residual_scale: 1.0, kernel: [3, 3], pad: [1, 1], ..plain(source) });
            let seen = std::cell::RefCell::new(Vec::new());
            net.run(|model, arena, op| {
                if matches!(op, Op::Conv(conv) if conv.residual != NONE) {
                    *seen.borrow_mut() = reals(model, arena, out);
                }
            });
            seen.into_inner()
        });
        assert_eq!(results[0], results[1]);
        assert!(results[0].iter().any(|&x| x != 0.0));
    }
}
