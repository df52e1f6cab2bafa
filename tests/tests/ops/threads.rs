//! Convolutions whose parts are rows, those whose parts are output channels, and three in one job: the same bytes as on one thread.

use super::*;

#[test]
fn convolutions_in_parts_are_whole_ones() {
    let (alone, threads) = (Threads::new(1), [2, 5].map(Threads::new));
    let mut seed = 1_200;
    // Few channels for the picture, and many; more than a pass unpacks or transforms.
    for ([h, w], in_c, out_c, group_len) in [
        ([1, 1], 68, 128, None),
        ([4, 4], 36, 192, Some(4)),
        ([5, 7], 20, 36, None),
        ([8, 16], 20, 128, None),
        ([8, 8], 36, 32, None),
        ([2, 3], 236, 320, Some(4)),
        ([4, 4], 452, 128, None),
    ] {
        for (kernel, upsample, two) in [(1, false, false), (3, false, false), (3, true, false), (3, false, true)] {
            // No residual, one elsewhere, one in place, one of 16 bits, an output of 16 bits.
            for case in 0..5 {
                seed += 1;
                let mut net = Net::new(seed, [h, w, 2]);
                net.written = group_len.map_or(Written::I8, Written::I4);
                let source = net.made(in_c, DType::I8);
                let second = if two { net.made(8, DType::I8) } else { NONE };
                let up = if upsample { 2 } else { 1 };
                let shape = [up * h, up * w, out_c];
                let mut residual = NONE;
                if case > 0 {
                    residual = net.int(shape, if case == 3 { DType::I16 } else { DType::I8 });
                    net.conv(residual, Conv { upsample, ..plain(source) });
                }
                let out = net.int(shape, if case == 4 { DType::I16 } else { DType::I8 });
                if case == 2 {
                    net.b.tensors[out as usize].offset = net.b.tensors[residual as usize].offset;
                }
                let sources = [source, second];
                let [kernel, pad] = [[kernel; 2], [kernel / 2; 2]];
                net.conv(out, Conv { sources, residual, residual_scale: 0.5, kernel, pad, upsample, ..plain(source) });
                let file = net.file();
                for table in select::tables().iter().filter(|table| table.name != "scalar") {
                    for winograd_from in [0, usize::MAX] {
                        let kernels = Kernels { winograd_from, winograd_pixels: 0, ..**table };
                        let draw = |threads: &Threads| bytes_of(&file, out, kernels, u32::MAX, threads);
                        let want = draw(&alone);
                        for threads in &threads {
                            let what = format!("{h}×{w} {in_c}→{out_c} {kernel:?} {upsample} {two} {case}");
                            assert!(draw(threads) == want, "{} on {}: {what}", table.name, threads.count());
                        }
                    }
                }
            }
        }
    }
    assert!(threads.iter().all(|threads| threads.scratch_bytes() > 0));
}

/// As queries, keys and values are, and nearly as they are: one of another input, of the first's output, with a residual, of 16 bits, of int4.
#[test]
fn three_convolutions_of_one_input_are_three() {
    let (alone, threads) = (Threads::new(1), [2, 3].map(Threads::new));
    for (seed, ([h, w], in_c, out_c)) in (2_400..).step_by(8).zip([
        ([8, 8], 64, 64),
        ([7, 9], 36, 52),
        ([16, 16], 68, 32),
        ([5, 8], 260, 64),
        ([1, 64], 64, 16),
    ]) {
        for case in 0..6 {
            let mut net = Net::new(seed + case, [h, w, 2]);
            let source = net.made(in_c, DType::I8);
            let other = net.made(if case == 2 { in_c } else { out_c }, DType::I8);
            let shape = [h, w, out_c];
            let outs = [0, 1, 2].map(|i| net.int(shape, if (case, i) == (4, 1) { DType::I16 } else { DType::I8 }));
            net.written = if case == 5 { Written::I4(4) } else { Written::I8 };
            for (i, out) in outs.into_iter().enumerate() {
                let from = match (case, i) {
                    (1, 1) if in_c == out_c => outs[0],
                    (2, 2) => other,
                    _ => source,
                };
                let residual = if (case, i) == (3, 0) { other } else { NONE };
                net.conv(out, Conv { residual, residual_scale: 0.5, ..plain(from) });
            }
            let file = net.file();
            for table in select::tables().iter().filter(|table| table.name != "scalar") {
                for out in outs {
                    let draw = |threads: &Threads| bytes_of(&file, out, **table, u32::MAX, threads);
                    let want = draw(&alone);
                    for threads in &threads {
                        let what = format!("{h}×{w} {in_c}→{out_c} {case}");
                        assert!(draw(threads) == want, "{} on {}: {what}", table.name, threads.count());
                    }
                }
            }
        }
    }
}
