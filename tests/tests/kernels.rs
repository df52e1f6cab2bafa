//! Every kernel table that this machine can run, against scalar.

use mote_runtime::kernels::compare::{Difference, compare};
use mote_runtime::kernels::{
    Channels, Kernels, NormConstants, Picture, Requantization, Residual, Window, WinogradTile, scalar, select,
};

/// Seeds a run; `MOTE_SWEEP` times as many in the slow sweeps.
fn seeds() -> u64 {
    let sweep: u64 = std::env::var("MOTE_SWEEP").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    2_000 * sweep
}

#[test]
fn every_table_equals_scalar() {
    for table in select::tables() {
        for seed in 0..seeds() {
            assert_eq!(compare(table, seed), Ok(()), "{}", table.name);
        }
    }
}

/// Where elements and weights are as large as they can be, and there are as many input channels as sums of so many bits allow, or more.
#[test]
fn winograd_of_the_largest_sums() {
    let tiling = select::TILING;
    let extremes: [fn(usize) -> i8; 4] = [|_| -128, |_| 127, |i| [-128, 127][i % 2], |i| [127, -128][i / 7 % 2]];
    for table in select::tables() {
        for (in_c, upsampled) in [(224, false), (228, false), (452, false), (1_024, true)] {
            let (size, columns, channels) = (if upsampled { 2 } else { table.winograd_size }, 2, 8);
            let (h, w) = (size + 2, size * columns + 2);
            let row = tiling.winograd_coefficients() * tiling.winograd_row(in_c);
            for (element, weight) in extremes.iter().flat_map(|x| extremes.map(|y| (x, y))) {
                let codes: Vec<i8> = (0..9 * in_c * channels).map(weight).collect();
                let mut weights = vec![0; channels.next_multiple_of(tiling.winograd_group()) * row];
                for block in (0..channels / 4).step_by(tiling.winograd_blocks()) {
                    let codes = &codes[36 * in_c * block..];
                    (table.winograd_weights)(&mut weights, block, codes, in_c, upsampled);
                }
                // The picture that is convolved, and the window: of equal pixels, one.
                let pixel = |y: usize, x: usize| (0..in_c).map(move |k| element((y * 5 + x) * in_c + k) as i16);
                let of = |i: usize| if upsampled { i.div_ceil(2) } else { i };
                let at = |i: usize| (i / w, i % w);
                let picture: Vec<i16> = (0..h * w).map(at).flat_map(|(y, x)| pixel(of(y), of(x))).collect();
                let [window_h, window_w] = if upsampled { [3, columns + 2] } else { [h, w] };
                let window = (0..window_h * window_w).map(|i| (i / window_w, i % window_w));
                let mut window: Vec<i16> = window.flat_map(|(y, x)| pixel(y, x)).collect();
                let tile = WinogradTile {
                    window: &mut window,
                    upsampled,
                    known: false,
                    in_c,
                    rows: 1,
                    columns,
                    weights: &weights,
                    values: &mut vec![0; columns * row],
                    products: &mut vec![0; columns * tiling.winograd_coefficients() * tiling.winograd_group()],
                };
                let row_len = size * columns * channels;
                let [mut got, mut want] = [(); 2].map(|()| vec![0; size * row_len]);
                (table.winograd)(&mut got, channels, tile);
                for (y, want) in want.chunks_exact_mut(row_len).enumerate() {
                    let elems = &picture[y * w * in_c..];
                    let window = Window {
                        elems,
                        runs: 3,
                        run_len: 3 * in_c,
                        run_stride: w * in_c,
                        pixel_stride: in_c,
                        row_gap: 0,
                    };
                    (scalar::KERNELS.conv_i16)(want, channels, window, &codes);
                }
                assert!(got == want, "{}: {in_c} {upsampled}", table.name);
            }
        }
    }
}

/// Some tiles of pictures, anywhere in them and beside them, against the formula.
#[test]
fn winograd_from_pixels_to_bytes() {
    let tiling = select::TILING;
    let mut state = 1u64;
    let mut below = |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) as usize) % n
    };
    for (table, bytes) in select::tables().iter().filter_map(|table| Some((table, table.byte_kernels?))) {
        for _ in 0..seeds() / 20 {
            let (in_c, channels) = ([16, 20, 32, 36, 64, 224][below(6)], 16 * (1 + below(3)));
            let [rows, columns] = [1 + below(3), 1 + below(8)];
            let (out_w, out_c) = (4 * columns + below(5), channels + below(3));
            let size = [1 + below(14), 1 + below(34), in_c];
            let from = [below(size[0] + 2) as isize - 1, below(size[1] + 2) as isize - 1];
            let largest = below(4) == 0;
            let mut code = || if largest { [-128, 127][below(2)] } else { below(256) as i8 };
            let elems: Vec<i8> = (0..size.iter().product()).map(|_| code()).collect();
            let weights: Vec<i8> = (0..9 * in_c * channels).map(|_| code()).collect();
            let zero_point = below(256) as i8;
            let picture =
                Picture { elems: &elems, size, zero_point, kernel: [3; 2], stride: 1, from, out: [4 * rows, out_w] };
            let row = tiling.winograd_coefficients() * tiling.winograd_row(in_c);
            let mut transformed = vec![0; channels * row];
            for block in (0..channels / 4).step_by(tiling.winograd_blocks()) {
                (table.winograd_weights)(&mut transformed, block, &weights[36 * in_c * block..], in_c, false);
            }
            let bias: Vec<i32> = (0..channels).map(|_| below(1 << 20) as i32 - (1 << 19)).collect();
            let at_most = 4 + below(26);
            let multiplier: Vec<i32> =
                (0..channels).map(|_| (below(1 << at_most) as i32) - (1 << at_most >> 1)).collect();
            let source = Channels { bias: &bias, multiplier: &multiplier, shift: (below(4) / 3 * below(8)) as u32 };
            let len = (4 * rows - 1) * out_w * out_c + (4 * columns - 1) * out_c + channels;
            let [held, given] = [(); 2].map(|()| (0..len).map(|_| below(256) as i8).collect::<Vec<i8>>());
            let residual = (below(3) > 0).then(|| Residual {
                elems: (below(2) == 0).then_some(&*given),
                zero_point: below(256) as i32 - 128,
                multiplier: (below(1 << 29) as i32 - (1 << 28)) >> below(16),
            });
            let k = Requantization { channels: [source; 2], residual, zero_point: below(256) as i32 - 128 };
            let mut got = held.clone();
            let tiles = rows * columns;
            let tile = WinogradTile {
                window: &mut [],
                upsampled: false,
                known: false,
                in_c,
                rows,
                columns,
                weights: &transformed,
                values: &mut vec![0; tiles * row],
                products: &mut vec![
                    0;
                    tiling.winograd_tiles() * tiling.winograd_coefficients() * tiling.winograd_group()
                ],
            };
            (bytes.winograd_bytes)(&mut got, out_c, picture, tile, k);
            let mut want = held;
            for (y, x) in (0..4 * rows).flat_map(|y| (0..4 * columns).map(move |x| (y, x))) {
                let mut sums: Vec<i32> = (0..channels)
                    .map(|c| {
                        let tap = |k: usize| {
                            let [iy, ix] =
                                [from[0] + (y + k / in_c / 3) as isize, from[1] + (x + k / in_c % 3) as isize];
                            let inside = (0..size[0] as isize).contains(&iy) && (0..size[1] as isize).contains(&ix);
                            let at = (iy * size[1] as isize + ix) * in_c as isize + (k % in_c) as isize;
                            let elem = if inside { elems[at as usize] } else { zero_point };
                            elem as i32 * weights[c / 4 * 36 * in_c + k / 4 * 16 + c % 4 * 4 + k % 4] as i32
                        };
                        (0..9 * in_c).map(tap).sum()
                    })
                    .collect();
                let at = (y * out_w + x) * out_c;
                let elems = k.residual.and_then(|residual| residual.elems).map(|elems| &elems[at..]);
                let residual = k.residual.map(|residual| Residual { elems, ..residual });
                let k = Requantization { residual, ..k };
                (scalar::KERNELS.requantize)(&mut want[at..at + channels], channels, [&mut sums, &mut []], k);
            }
            assert!(got == want, "{}: {in_c} {channels} {size:?} {from:?} {rows} {columns}", table.name);
        }
    }
}

/// Sizes whose products are small again modulo 2⁶⁴: nothing is read and nothing written.
#[test]
#[cfg(target_pointer_width = "64")]
fn winograd_of_sizes_that_are_not_there() {
    let table_len = |tiles: usize, row: usize| tiles * select::TILING.winograd_coefficients() * row;
    for table in select::tables() {
        for upsampled in [false, true] {
            for (rows, columns, in_c, channels) in [
                (1 << 62, 1, 4, 4),
                (1, 1 << 63, 4, 4),
                (1, 2, 4, 1 << 62),
                (1, 2, 1 << 62, 4),
                (1 << 32, 1 << 32, 4, 4),
            ] {
                let weights = [0; 4_096];
                let (mut values, mut products) = (vec![1; table_len(2, 64)], vec![1; table_len(2, 64)]);
                // As long as it would have to be.
                let step: usize = if upsampled { 1 } else { table.winograd_size };
                let [h, w] = [rows, columns].map(|tiles: usize| step.wrapping_mul(tiles).wrapping_add(2));
                let mut window = vec![1; h.wrapping_mul(w).wrapping_mul(in_c).min(1_000)];
                let tile = WinogradTile {
                    window: &mut window,
                    upsampled,
                    known: false,
                    in_c,
                    rows,
                    columns,
                    weights: &weights,
                    values: &mut values,
                    products: &mut products,
                };
                let mut out = [7; 1_024];
                (table.winograd)(&mut out, channels, tile);
                assert_eq!(out, [7; 1_024], "{} {rows} {columns} {in_c} {channels}", table.name);
            }
            // Portable ones would try them all.
            if table.winograd_size > 2 {
                let mut out = [7; 4_096];
                (table.winograd_weights)(&mut out, 0, &[1; 1_000], 4 * (usize::MAX / 9 + 1), upsampled);
                assert_eq!(out, [7; 4_096], "{}", table.name);
            }
        }
    }
}

/// The same, from pixels to bytes.
#[test]
#[cfg(target_pointer_width = "64")]
fn winograd_bytes_of_sizes_that_are_not_there() {
    let tiling = select::TILING;
    let table_len = tiling.winograd_coefficients() * tiling.winograd_row(16);
    let (weights, elems) = (vec![0; 16 * table_len], [1; 4_096]);
    let constants = [0; 16];
    let source = Channels { bias: &constants, multiplier: &constants, shift: 0 };
    let k = Requantization { channels: [source; 2], residual: None, zero_point: 0 };
    for bytes in select::tables().iter().filter_map(|table| table.byte_kernels) {
        for (rows, columns, size, from, out_w, out_c) in [
            (1 << 62, 1, [16, 16, 16], [0, 0], 4, 16),
            (1, 1 << 63, [16, 16, 16], [0, 0], 4, 16),
            (1 << 32, 1 << 32, [16, 16, 16], [0, 0], 4, 16),
            (1, 1, [1 << 62, 1, 16], [0, 0], 4, 16),
            (1, 1, [1 << 32, 1 << 32, 16], [0, 0], 4, 16),
            (1, 1, [0, 16, 16], [0, 0], 4, 16),
            (1, 1, [16, 16, 16 << 60], [0, 0], 4, 16),
            (1, 1, [16, 16, usize::MAX - 3], [0, 0], 4, 16),
            (1, 1, [16, 16, 16], [isize::MAX, 0], 4, 16),
            (1, 1, [16, 16, 16], [0, isize::MIN], 4, 16),
            (1, 1, [16, 16, 16], [0, 0], 1 << 62, 16),
            (1, 1, [16, 16, 16], [0, 0], 4, usize::MAX),
            (1, 1, [16, 16, 16], [0, 0], 4, 15),
            (3, 1, [16, 16, 16], [0, 0], 4, 16),
        ] {
            let picture =
                Picture { elems: &elems, size, zero_point: 0, kernel: [3; 2], stride: 1, from, out: [4, out_w] };
            let tile = WinogradTile {
                window: &mut [],
                upsampled: false,
                known: false,
                in_c: size[2],
                rows,
                columns,
                weights: &weights,
                values: &mut vec![0; 2 * table_len],
                products: &mut vec![0; 2 * table_len],
            };
            let mut out = [7; 1_024];
            (bytes.winograd_bytes)(&mut out, out_c, picture, tile, k);
            assert_eq!(out, [7; 1_024], "{rows} {columns} {size:?} {from:?} {out_w} {out_c}");
        }
    }
}

/// Windows of several rows, and patches longer than what is widened at a time, against one row at a time of scalar's.
#[test]
fn rows_and_long_patches() {
    // Runs, their length, channels, rows and their pixels.
    let cases = [
        [1usize, 4, 3, 1, 1],
        [1, 3000, 9, 1, 7],
        [2, 1400, 12, 2, 5],
        [3, 512, 13, 4, 4],
        [3, 48, 16, 4, 16],
        [3, 1152, 8, 3, 3],
        [5, 520, 7, 5, 13],
    ];
    for [runs, run_len, channels, rows, row_pixels] in cases {
        let (pixel_stride, run_stride) = (8, (row_pixels - 1) * 8 + run_len);
        let row_gap = 12;
        let row_stride = row_pixels * pixel_stride + row_gap;
        let len = (rows - 1) * row_stride + (runs - 1) * run_stride + run_stride;
        let elems: Vec<i16> = (0..len).map(|i| (i * 7919 % 511) as i16 - 255).collect();
        let codes = channels.next_multiple_of(4) * runs * run_len;
        let weights: Vec<i8> = (0..codes).map(|i| (i * 104_729 % 255) as u8 as i8).collect();
        let window = Window { elems: &elems, runs, run_len, run_stride, pixel_stride, row_gap };
        let mut want = vec![0; rows * row_pixels * channels];
        let by_row = |kernel: fn(&mut [i32], usize, Window<'_, i16>, &[i8]), out: &mut [i32]| {
            for (y, out) in out.chunks_exact_mut(row_pixels * channels).enumerate() {
                kernel(out, channels, Window { elems: &elems[y * row_stride..], row_gap: 0, ..window }, &weights);
            }
        };
        by_row(scalar::KERNELS.conv_i16, &mut want);
        for table in select::tables().iter().filter(|table| !table.exchanged) {
            let mut got = vec![-1; want.len()];
            if table.takes_rows {
                (table.conv_i16)(&mut got, channels, window, &weights);
            } else {
                by_row(table.conv_i16, &mut got);
            }
            assert!(got == want, "{}: {runs} {run_len} {channels} {rows} {row_pixels}", table.name);
        }
    }
}

/// Windows as long as they may be, whose first columns are padding, from the input's rows alone: nothing may be written behind them.
#[test]
fn windows_among_wide_padding() {
    for table in select::tables() {
        let Some(kernels) = table.byte_kernels else { continue };
        for (size, kernel, left, out) in [
            ([1, 2, 512], [1, 1], 15, [1, 32]),
            ([1, 6, 752], [1, 1], 15, [1, 21]),
            ([24, 3, 48], [1, 15], 7, [20, 3]),
            ([9, 30, 64], [3, 3], 1, [6, 30]),
            ([130, 3, 1], [3, 3], 125, [126, 126]),
        ] {
            let ([_, w, c], [kh, kw], [rows, row_pixels], channels) = (size, kernel, out, 21);
            let elems: Vec<i8> = (0..size.iter().product()).map(|i: usize| (i * 7919 + i / 13 * 31) as i8).collect();
            let patch = (kh * kw * c).next_multiple_of(4);
            let weights: Vec<i8> = (0..24 * patch).map(|i| (i * 104_729 % 255) as u8 as i8).collect();
            let picture = Picture { elems: &elems, size, zero_point: -5, kernel, stride: 1, from: [0, -left], out };
            let (bias, multiplier) = ([77; 21], [1 << 22; 21]);
            let one = Channels { bias: &bias, multiplier: &multiplier, shift: 0 };
            let k = Requantization { channels: [one; 2], residual: None, zero_point: 3 };
            let [mut got, mut want] = [(); 2].map(|()| vec![0; rows * row_pixels * channels]);
            (kernels.conv_bytes)(&mut got, channels, picture, &weights, k);
            let mut sums = vec![0; want.len()];
            for (i, sums) in sums.chunks_exact_mut(channels).enumerate() {
                let mut elems: Vec<i16> = (0..kh * kw * c)
                    .map(|k| {
                        let (y, x) = (i / row_pixels + k / c / kw, (i % row_pixels + k / c % kw) as isize - left);
                        let elem =
                            if (0..w as isize).contains(&x) { elems[(y * w + x as usize) * c + k % c] } else { -5 };
                        elem as i16 + table.offset as i16
                    })
                    .collect();
                elems.resize(patch, 0);
                let (elems, runs, run_len) = (&elems[..], 1, patch);
                let window = Window { elems, runs, run_len, run_stride: patch, pixel_stride: patch, row_gap: 0 };
                (scalar::KERNELS.conv_i16)(sums, channels, window, &weights);
            }
            (scalar::KERNELS.requantize)(&mut want, channels, [&mut sums, &mut []], k);
            assert!(got == want, "{}: {size:?} {kernel:?}", table.name);
        }
    }
}

/// Every length, group length, nibble and scale, against the formula; scalar is held to it too.
#[test]
fn int4_is_nibble_times_scale() {
    for table in select::tables() {
        for blocks in 0..=20usize {
            for group_len in (0..=88).step_by(4) {
                let groups = if group_len == 0 { 0 } else { (4 * blocks).div_ceil(group_len) };
                for turn in 0..16 {
                    let nibble = |block: usize, at: usize| (3 * block + at + turn) % 16;
                    let scale = |group: usize, row: usize| (5 * group + row + turn) % 16;
                    let nibbles: Vec<u8> =
                        (0..8 * blocks).map(|i| (nibble(i / 8, i % 8) | nibble(i / 8, i % 8 + 8) << 4) as u8).collect();
                    let scales: Vec<u16> = (0..groups)
                        .map(|group| (0..4).map(|row| (scale(group, row) as u16) << (4 * row)).sum())
                        .collect();
                    let mut codes = vec![99; 16 * blocks + 1];
                    (table.unpack_i4)(&mut codes[..16 * blocks], &nibbles, &scales, group_len);
                    for (i, &code) in codes.iter().enumerate().take(16 * blocks) {
                        let (block, row) = (i / 16, i % 16 / 4);
                        let scale = (4 * block).checked_div(group_len).map_or(1, |group| scale(group, row) as i32 + 1);
                        let want = (nibble(block, i % 16) as i32 - 8) * scale;
                        assert_eq!(code as i32, want, "{} {blocks} {group_len} {turn} {i}", table.name);
                    }
                    assert_eq!(codes[16 * blocks], 99, "behind the end");
                }
            }
        }
    }
}

/// Rows may be joined to as many pixels as a picture has, and no partial sum overflows.
#[test]
fn sums_of_whole_pictures_are_exact() {
    let elems = vec![-128i8; 9 << 18];
    let shorts = vec![-32_767i16; 9 << 18];
    for table in select::tables() {
        for (group_c, groups) in [(1, 9), (2, 4), (4, 2), (9, 1)] {
            let pixels = group_c as u64 * (1 << 18);
            let want = |value: i64| vec![[(value * pixels as i64) as u64, (value * value) as u64 * pixels]; groups];
            let mut totals = vec![[0; 2]; groups];
            (table.sums_i8)(&mut totals, &elems, 9, 0, group_c);
            assert_eq!(totals, want(-128), "{}", table.name);
            totals.fill([0; 2]);
            (table.sums_i16)(&mut totals, &shorts, 9, 0, group_c);
            assert_eq!(totals, want(-32_767), "{}", table.name);
        }
    }
}

/// More elements than a kernel takes at a time, of one source or some channels of a wider output, with tables whose results have steps of
/// one, both ways, steps of two, and any.
#[test]
fn norms_of_whole_pictures() {
    let silu =
        |step: f64| move |i: usize| (step * (i as f64 - 512.0) / (1.0 + (-(i as f64 - 512.0) / 64.0).exp())) as i16;
    let tables: [Vec<i16>; 4] = [
        vec![],
        (0..1024).map(silu(16.0)).collect(),
        (0..1024).map(silu(60.0)).collect(),
        (0..1024).map(|i| (i * 7919 % 65_536 - 32_768) as i16).collect(),
    ];
    for (c, out_c, pixels) in
        [(8, 8, 700), (16, 16, 259), (32, 48, 300), (48, 48, 193), (72, 72, 131), (24, 120, 90), (20, 20, 300)]
    {
        let src: Vec<i8> = (0..c * pixels).map(|i| (i * 7919 + i / 13 * 31) as i8).collect();
        let multiplier: Vec<i32> = (0..c as i32).map(|i| (1 << 23) + (i << 19)).collect();
        let offset: Vec<i32> = (0..c as i32).map(|i| 997 * i - 9_000).collect();
        for (table, zero_point) in tables.iter().zip([-128, -7, 40, 127]) {
            let constants = NormConstants {
                multiplier: &multiplier,
                offset: &offset,
                zero_point,
                table,
                results: [&[]; _],
                out_multiplier: (0.03 * 2_147_483_648.0) as i32,
                out_zero_point: -100,
            };
            let run = |kernels: &Kernels| {
                let mut out = vec![1; out_c * pixels];
                let mut results = vec![0; select::TILING.norm_table()];
                for make in kernels.norm_table {
                    make(&mut results, table, constants.out_multiplier, constants.out_zero_point);
                }
                let constants = NormConstants { results: [&results; _], ..constants };
                (kernels.norm_i8)(&mut out, out_c, &src, c, constants);
                out
            };
            for kernels in select::tables() {
                assert!(run(kernels) == run(&scalar::KERNELS), "{}: {c} of {out_c}", kernels.name);
            }
        }
    }
}

/// The comparison sees an error of one unit in every kernel.
#[test]
fn a_wrong_kernel_is_found() {
    let bump = |table: Kernels, kernel: &str| {
        let found = (0..200).find_map(|seed| compare(&table, seed).err());
        assert_eq!(found.map(|Difference { kernel, .. }| kernel), Some(kernel));
    };
    let scalar = scalar::KERNELS;
    fn last(out: &mut [i32]) {
        out.last_mut().into_iter().for_each(|x| *x = x.wrapping_add(1));
    }
    fn last_i8(out: &mut [i8]) {
        out.last_mut().into_iter().for_each(|x| *x = x.wrapping_add(1));
    }
    bump(Kernels { widen: |out, _| out.fill(1), ..scalar }, "widen");
    bump(Kernels { load: |out, _| out.fill(1), ..scalar }, "load");
    bump(
        Kernels { conv_i8: |out, c, x, w| ((scalar::KERNELS.conv_i8)(out, c, x, w), last(out)).1, ..scalar },
        "conv_i8",
    );
    bump(
        Kernels { conv_i16: |out, c, x, w| ((scalar::KERNELS.conv_i16)(out, c, x, w), last(out)).1, ..scalar },
        "conv_i16",
    );
    bump(Kernels { dot_i8: |out, x, w| ((scalar::KERNELS.dot_i8)(out, x, w), last(out)).1, ..scalar }, "dot_i8");
    bump(Kernels { scale: |out, c| ((scalar::KERNELS.scale)(out, c), last(out)).1, ..scalar }, "scale");
    bump(
        Kernels { store_i8: |out, x, z| ((scalar::KERNELS.store_i8)(out, x, z), last_i8(out)).1, ..scalar },
        "store_i8",
    );
    bump(
        Kernels {
            group_stats: |out, sums, source| {
                (scalar::KERNELS.group_stats)(out, sums, source);
                out.last_mut().into_iter().for_each(|[_, rstd]| *rstd = f32::from_bits(rstd.to_bits() + 1));
            },
            ..scalar
        },
        "group_stats",
    );
    bump(
        Kernels {
            sums_i8: |to, row, c, f, g| {
                if g < 9 {
                    (scalar::KERNELS.sums_i8)(to, row, c, f, g)
                }
            },
            ..scalar
        },
        "sums_i8",
    );
    bump(
        Kernels {
            sums_i16: |to, row, c, f, g| {
                if g < 9 {
                    (scalar::KERNELS.sums_i16)(to, row, c, f, g)
                }
            },
            ..scalar
        },
        "sums_i16",
    );
    bump(
        Kernels { norm_i8: |out, oc, x, c, k| ((scalar::KERNELS.norm_i8)(out, oc, x, c, k), last_i8(out)).1, ..scalar },
        "norm_i8",
    );
    bump(
        Kernels {
            norm_i16: |out, oc, x, c, k| ((scalar::KERNELS.norm_i16)(out, oc, x, c, k), last_i8(out)).1,
            ..scalar
        },
        "norm_i16",
    );
    bump(Kernels { offset: 1, ..scalar }, "conv_i8");
    bump(Kernels { add_i8: |out, x, z, m| ((scalar::KERNELS.add_i8)(out, x, z, m), last(out)).1, ..scalar }, "add_i8");
    bump(
        Kernels { add_i16: |out, x, z, m| ((scalar::KERNELS.add_i16)(out, x, z, m), last(out)).1, ..scalar },
        "add_i16",
    );
    bump(Kernels { softmax: |out, k| (scalar::KERNELS.softmax)(out, k) + (k.right == 16) as i32, ..scalar }, "softmax");
    if select::TILING.attends() {
        bump(Kernels { attend: |out, s, a| ((scalar::KERNELS.attend)(out, s, a), last_i8(out)).1, ..scalar }, "attend");
    }
    bump(
        Kernels { unpack_i4: |out, n, s, g| ((scalar::KERNELS.unpack_i4)(out, n, s, g), last_i8(out)).1, ..scalar },
        "unpack_i4",
    );
    bump(Kernels { mix_i8: |out, w, x| ((scalar::KERNELS.mix_i8)(out, w, x), last(out)).1, ..scalar }, "mix_i8");
    bump(
        Kernels { sum_taps: |out, c, rows| ((scalar::KERNELS.sum_taps)(out, c, rows), last(out)).1, ..scalar },
        "sum_taps",
    );
}
