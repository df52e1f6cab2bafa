//! The kernels of convolutions.

use super::super::scalar::TABLE as SCALAR;
use super::super::scratch::{COEFFICIENTS, TAPS};
use super::super::{Channels, Kernels, Picture, Pixels, Requantization, Residual, Window, WinogradTile, select};
use super::{LEN, OUT_LEN, Pair, Random, both};
use crate::Aligned;

/// What `widen` and `load` are to do.
pub(super) fn exchanged<T: Copy + Into<i16>>(out: &mut [i16], elems: &[T], exchange: bool) {
    for (out, elems) in out.chunks_exact_mut(4).zip(elems.chunks_exact(4)) {
        out.iter_mut().zip(elems).for_each(|(to, &elem)| *to = elem.into());
        if exchange {
            out.swap(1, 2);
        }
    }
}

/// A window's shape, and how many pixels and channels there are; everything fits the buffers.
fn window_of<'a, T>(random: &mut Random, elems: &'a [T]) -> (Window<'a, T>, usize, usize) {
    let (runs, group) = (1 + random.below(3), 4 * (1 + random.below(8)));
    let run_len = (group * (1 + random.below(3))).min(LEN / 8 / runs / 4 * 4).max(4);
    // Weights of 4, 8 or 12 rows fit, and often more.
    let channels = 1 + random.below((LEN / (runs * run_len) / 4 * 4).clamp(4, 40));
    let pixels = 1 + random.below((OUT_LEN / channels).clamp(1, 20));
    let pixel_stride = 4 * (1 + random.below(group / 4 * 2));
    let most = LEN.saturating_sub(4 + (runs * run_len)) / pixel_stride.max(1);
    let pixels = pixels.min(most.max(1));
    let columns = (pixels - 1) * pixel_stride + run_len;
    let run_stride = (columns.next_multiple_of(4)).min(LEN.saturating_sub(columns + 4) / runs.max(1) / 4 * 4);
    (Window { elems, runs, run_len, run_stride, pixel_stride, row_gap: 0 }, pixels, channels)
}

pub(super) fn conv_i8(table: &Kernels, random: &mut Random) -> bool {
    let (elems, weights) = (random.i8s(), random.i8s());
    // A tensor that is read in place is aligned to 16 bytes, its pixels to four.
    let (window, pixels, channels) = window_of(random, &elems);
    let weights = Aligned(weights.map(|w| w.max(-127)));
    // The offset is scalar's sum over a window of nothing but offsets.
    let offsets = [table.offset as i16; LEN];
    let Window { runs, run_len, run_stride, pixel_stride, row_gap, .. } = window;
    let offsets = Window { elems: &offsets, runs, run_len, run_stride, pixel_stride, row_gap };
    conv(
        pixels * channels,
        [&|out| (table.conv_i8)(out, channels, window, &weights.0), &|out| {
            let mut sums = [0; OUT_LEN];
            let sums = sums.get_mut(..out.len()).unwrap_or_default();
            (SCALAR.conv_i16)(sums, channels, offsets, &weights.0);
            (SCALAR.conv_i8)(out, channels, window, &weights.0);
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out += *sum);
        }],
    )
}

/// Pictures that reach out of the tensor on any side, and channels of any number.
pub(super) fn conv_bytes(table: &Kernels, random: &mut Random) -> bool {
    picture_bytes(table, random, false)
}

/// Some rows of pictures that are upsampled.
pub(super) fn conv_up_bytes(table: &Kernels, random: &mut Random) -> bool {
    picture_bytes(table, random, true)
}

fn picture_bytes(table: &Kernels, random: &mut Random, up: bool) -> bool {
    const C: usize = 40;
    let Some(kernels) = table.byte_kernels else { return true };
    let limits = &kernels.limits;
    let c = if random.below(3) == 0 && !up { 1 + random.below(20) } else { 4 * (1 + random.below(5)) };
    let kernel = if up { [3, 3] } else { [0; 2].map(|_| 1 + random.below(3)) };
    let patch = kernel[0] * kernel[1] * c;
    if patch > if c.is_multiple_of(4) { limits.patch } else { limits.odd_patch } {
        return true;
    }
    let row = patch.next_multiple_of(4);
    let channels = channels(random, (LEN / row / 4 * 4).min(C));
    let out_c = channels + random.below(3) * random.below(5);
    let mut out_w = 1 + random.below((OUT_LEN / out_c).clamp(1, 50));
    // Rows that are whole tiles of the widest kind.
    if out_w > 12 && !up && random.below(2) == 0 {
        out_w = out_w.next_multiple_of(16).min(OUT_LEN / out_c / 16 * 16).max(1);
    }
    if up {
        out_w = (out_w / 2 * 2).max(2);
    }
    let mut out = [1 + random.below((OUT_LEN / out_c / out_w).clamp(1, 4)), out_w];
    let (elems, weights) = (random.i8s(), Aligned(random.i8s()));
    let h = 1 + random.below(6);
    let mut size = [h, 1 + random.below((LEN - 64) / h / c), c];
    if up {
        size[1] = out_w / 2;
        size[0] = size[0].min(LEN / c / size[1] - 1).max(1);
        out[0] = out[0].min(2 * size[0]);
    }
    let at = random.offset();
    let elems = elems.get(at..at + size.iter().product::<usize>()).unwrap_or_default();
    let (zero_point, stride) = (random.value(-128, 127) as i8, if up { 1 } else { 1 + random.below(2) });
    let mut from = [0; 2].map(|_| random.below(4) as isize - 2);
    if up {
        from = [random.below(2 * size[0] - out[0] + 1) as isize - 1, -1];
    }
    let window = [0, 1].map(|i| (out[i] - 1) * stride + kernel[i]);
    if !up && window[0] * window[1] * c > limits.window {
        return true;
    }
    let picture = Picture { elems, size, zero_point, kernel, stride, from, out };
    let (bias, multiplier): ([i32; C], [i32; C]) = constants(random);
    let [bias, multiplier] = [&bias, &multiplier].map(|of| of.get(..channels).unwrap_or_default());
    let shift = if random.below(3) > 0 { 0 } else { random.below(16) as u32 };
    let (held, given) = (random.i8s(), random.i8s());
    let len = (out[0] * out_w * out_c).saturating_sub(random.below(2) * (out_c - channels));
    let residual = (random.below(3) > 0).then(|| Residual {
        elems: if random.below(2) == 0 { None } else { given.get(..len) },
        zero_point: random.value(-128, 127),
        multiplier: random.value(-(1 << 30) + 1, (1 << 30) - 1) >> random.below(16),
    });
    let k = Requantization {
        channels: [Channels { bias, multiplier, shift }; 2],
        residual,
        zero_point: random.value(-128, 127),
    };
    let hold = |out: &mut [i8]| out.iter_mut().zip(held).for_each(|(out, held)| *out = held);
    both::<i8, OUT_LEN>(
        0,
        len,
        [
            &|out| {
                hold(out);
                let kernel = if up { kernels.conv_up_bytes } else { kernels.conv_bytes };
                kernel(out, out_c, picture, &weights.0, k);
            },
            &|out| {
                hold(out);
                let mut sums = [0; OUT_LEN];
                let sums = sums.get_mut(..picture.out[0] * out_w * channels).unwrap_or_default();
                for (i, sum) in sums.iter_mut().enumerate() {
                    *sum = picture_sum(&picture, up, table.offset, [i / channels / out_w, i / channels % out_w], |k| {
                        let channel = i % channels;
                        let at = channel / 4 * 4 * row + k / 4 * 16 + channel % 4 * 4 + k % 4;
                        weights.0.get(at).copied().unwrap_or(0)
                    });
                }
                (SCALAR.requantize)(out, out_c, [sums, &mut []], k);
            },
        ],
    )
}

/// Output channels, whole vectors of them or any number.
fn channels(random: &mut Random, most: usize) -> usize {
    if most >= 16 && random.below(2) == 0 { most / 16 * 16 } else { 1 + random.below(most) }
}

/// Biases, at times any, with which sums wrap; and multipliers, at times all below half of the most.
fn constants<const N: usize>(random: &mut Random) -> ([i32; N], [i32; N]) {
    let (most, least) = (if random.below(4) > 0 { 1 << 20 } else { i32::MAX }, random.below(2));
    let bias = core::array::from_fn(|_| random.value(-most, most));
    let multiplier =
        core::array::from_fn(|_| random.value(-(1 << 30) + 1, (1 << 30) - 1) >> (least + random.below(23)));
    (bias, multiplier)
}

/// Two pictures as they lie.
pub(super) fn conv_pixels(table: &Kernels, random: &mut Random) -> bool {
    let Some(kernels) = table.byte_kernels else { return true };
    let cs = [0; 2].map(|_| 4 * (1 + random.below(10)));
    let channels = channels(random, (LEN / 2 / cs[0].max(cs[1]) / 4 * 4).min(40));
    let out_c = channels + random.below(2) * random.below(17);
    let pixels = 1 + random.below((OUT_LEN / out_c).min(20));
    let (elems, weights) = (random.i8s(), Aligned(random.i8s()));
    let (bias, multiplier): ([i32; 44], [i32; 44]) = constants(random);
    let shift = if random.below(3) > 0 { 0 } else { random.below(16) as u32 };
    let constants = |first: usize| Channels {
        bias: bias.get(first..first + channels).unwrap_or_default(),
        multiplier: multiplier.get(first..first + channels).unwrap_or_default(),
        shift,
    };
    let k =
        Requantization { channels: [constants(0), constants(4)], residual: None, zero_point: random.value(-128, 127) };
    let at = random.offset();
    let side = |i: usize, c: usize| {
        let elems = elems.get(at + i..at + i + pixels * c).unwrap_or_default();
        Pixels { elems, c, weights: weights.0.get(LEN / 2 * i..).unwrap_or_default() }
    };
    let [first, second] = [side(0, cs[0]), side(1, cs[1])];
    let sums_of = |side: Pixels<'_>| -> [i32; OUT_LEN] {
        core::array::from_fn(|i| {
            let (pixel, channel) = (i / channels, i % channels);
            (0..side.c).fold(0, |sum, k| {
                let weight = side.weights.get(channel / 4 * 4 * side.c + k / 4 * 16 + channel % 4 * 4 + k % 4);
                let elem = side.elems.get(pixel * side.c + k).copied().unwrap_or(0) as i32 + table.offset;
                sum + elem * weight.copied().unwrap_or(0) as i32
            })
        })
    };
    both::<i8, OUT_LEN>(
        0,
        (pixels - 1) * out_c + channels,
        [&|out| (kernels.conv_pixels)(out, out_c, [first, second], k), &|out| {
            let [mut first, mut second] = [first, second].map(sums_of);
            let [first, second] =
                [&mut first, &mut second].map(|sums| sums.get_mut(..pixels * channels).unwrap_or_default());
            (SCALAR.requantize)(out, out_c, [first, second], k);
        }],
    )
}

pub(super) fn conv_f32(table: &Kernels, random: &mut Random) -> bool {
    let Some(kernels) = table.byte_kernels else { return true };
    let c = [16, 32, 64, 128].get(random.below(4)).copied().unwrap_or(16);
    let most = LEN / 4 / c;
    let kh = 1 + random.below(most.min(3));
    let kernel = [kh, 1 + random.below((most / kh).min(3))];
    let (elems, weights) = (random.i8s(), Aligned(random.i8s()));
    let (channels, out) = (1 + random.below(4), [1 + random.below(3), 1 + random.below(20)]);
    let h = 1 + random.below(3.min(LEN / c));
    let size = [h, 1 + random.below(LEN / c / h), c];
    let from = [0; 2].map(|_| random.below(4) as isize - 2);
    let zero_point = random.value(-128, 127) as i8;
    let picture = Picture { elems: &elems, size, zero_point, kernel, stride: 1, from, out };
    let (bias, _) = constants::<4>(random);
    let scale: [i32; 4] = core::array::from_fn(|_| (random.value(-9999, 9999) as f32 * 1e-6).to_bits() as i32);
    let [bias, multiplier] = [&bias, &scale].map(|of| of.get(..channels).unwrap_or_default());
    both::<f32, OUT_LEN>(
        -1.0,
        out[0] * out[1] * channels,
        [&|out| (kernels.conv_f32)(out, picture, &weights.0, Channels { bias, multiplier, shift: 0 }), &|out| {
            for (i, to) in out.iter_mut().enumerate() {
                let (channel, pixel) = (i % channels, i / channels);
                let of = |from: &[i32]| from.get(channel).copied().unwrap_or(0);
                let sum =
                    picture_sum(&picture, false, table.offset, [pixel / picture.out[1], pixel % picture.out[1]], |k| {
                        weights.0.get(k / 4 * 16 + channel * 4 + k % 4).copied().unwrap_or(0)
                    });
                *to = sum.wrapping_add(of(bias)) as f32 * f32::from_bits(of(multiplier) as u32);
            }
        }],
    )
}

/// A pixel's products with the weights of a channel, element by element.
fn picture_sum(picture: &Picture<'_>, up: bool, offset: i32, [y, x]: [usize; 2], weight: impl Fn(usize) -> i8) -> i32 {
    let Picture { elems, size: [h, w, c], zero_point, kernel: [kh, kw], stride, from, .. } = *picture;
    let mut sum = 0;
    for k in 0..kh * kw * c {
        let [row, column] = [y * stride + k / c / kw, x * stride + k / c % kw].map(|at| at as isize);
        let [row, column] = [from[0] + row, from[1] + column].map(|at| at >> up as u32);
        let inside = (0..h as isize).contains(&row) && (0..w as isize).contains(&column);
        let at = |row: usize, column: usize| (row * w + column) * c + k % c;
        let inside = inside.then(|| elems.get(at(row as usize, column as usize)).copied().unwrap_or(0));
        let elem = inside.unwrap_or(zero_point);
        sum += (elem as i32 + offset) * weight(k) as i32;
    }
    sum
}

pub(super) fn conv_i16(table: &Kernels, random: &mut Random) -> bool {
    let (mut elems, weights) = (random.i16s(), Aligned(random.i8s().map(|w| w.max(-127))));
    // The converter proves that no sum leaves i32; kernels that pair products rely on it.
    elems.iter_mut().for_each(|x| *x /= 4);
    let mut ordered = [0i16; LEN];
    exchanged(&mut ordered, &elems, table.exchanged);
    let (window, pixels, channels) = window_of(random, &elems);
    let moved = Window { elems: &ordered, ..window };
    conv(
        pixels * channels,
        [&|out| (table.conv_i16)(out, channels, moved, &weights.0), &|out| {
            (SCALAR.conv_i16)(out, channels, window, &weights.0)
        }],
    )
}

fn conv(len: usize, run: Pair<'_, i32>) -> bool {
    both::<i32, OUT_LEN>(-1, len, run)
}

pub(super) fn unpack_i4(table: &Kernels, random: &mut Random) -> bool {
    let bytes = random.i8s().map(|x| x as u8);
    let (blocks, group_len) = (random.below(OUT_LEN / 16 + 1), 4 * random.below(20));
    let groups = if group_len == 0 { 0 } else { (4 * blocks).div_ceil(group_len) };
    let scales: [u16; OUT_LEN / 16] = core::array::from_fn(|_| random.bits() as u16);
    let scales = scales.get(..groups).unwrap_or_default();
    let at = random.offset();
    let nibbles = bytes.get(at..at + 8 * blocks).unwrap_or_default();
    both::<i8, OUT_LEN>(
        0,
        16 * blocks,
        [&|out| (table.unpack_i4)(out, nibbles, scales, group_len), &|out| {
            (SCALAR.unpack_i4)(out, nibbles, scales, group_len)
        }],
    )
}

/// Against a direct convolution, which is what it must give.
pub(super) fn winograd(table: &Kernels, random: &mut Random) -> bool {
    const TILES: usize = if select::TILING.winograd_tiles() < 7 { 4 } else { 7 };
    const GROUP: usize = select::TILING.winograd_group();
    // Those of LEN / 9 pairs of channels, filled up to whole groups.
    const ROW: usize = select::TILING.winograd_coefficients() * select::TILING.winograd_row(16);
    const TRANSFORMED: usize = if GROUP == 4 { COEFFICIENTS * LEN / 9 } else { ROW * 32 };
    // Pixels of a tile times at most 20 channels.
    const SUMS: usize = TILES * if GROUP == 4 { 4 } else { 16 } * 20;
    let (elems, weights) = (random.i8s(), random.i8s().map(|w| w.max(-127)));
    let in_c = 4 * (1 + random.below(4));
    // As many as there are weights for, and room for those transformed.
    let channels = 4 * (1 + random.below((LEN / 9 / in_c / 4).min(5)));
    let upsampled = select::TILING.winograd_always() && random.below(2) == 1;
    let size = if upsampled { 2 } else { table.winograd_size };
    let (step, rows, least) = match table.winograd_size {
        2 => (if upsampled { 1 } else { 2 }, 1, 2),
        _ => (if upsampled { 1 } else { size }, 1 + random.below(2), 1),
    };
    // As many as there are elements for.
    let most = ((LEN / in_c / (size * rows + 2)).saturating_sub(2) / size).min(TILES / rows);
    let columns = least + random.below(most + 1 - least);
    let [row_len, up_len] = [size, step].map(|step| (step * columns + 2) * in_c);
    let (mut pixels, mut larger) = ([0i16; LEN], [0i16; LEN]);
    pixels.iter_mut().zip(elems).for_each(|(to, elem)| *to = elem.into());
    // What a direct convolution reads: each pixel but those at the edges twice, each way.
    for (y, row) in larger.chunks_exact_mut(row_len).take(size * rows + 2).enumerate() {
        for (x, pixel) in row.chunks_exact_mut(in_c).enumerate() {
            let [y, x] = if upsampled { [y.div_ceil(2), x.div_ceil(2)] } else { [y, x] };
            let from = pixels.get(y * up_len + x * in_c..).unwrap_or_default();
            pixel.iter_mut().zip(from).for_each(|(to, &elem)| *to = elem);
        }
    }
    let window = pixels.get(..(step * rows + 2) * up_len).unwrap_or_default();
    let mut ordered = Aligned([0; LEN]);
    exchanged(&mut ordered.0, window, table.exchanged);

    let mut transformed = Aligned([0i16; TRANSFORMED]);
    let mut values = Aligned([0i16; ROW * TILES]);
    let mut products = [0i32; select::TILING.winograd_coefficients() * GROUP * TILES];
    let block_len = 36 * in_c;
    for block in (0..channels / 4).step_by(select::TILING.winograd_blocks()) {
        let codes = weights.get(block * block_len..channels / 4 * block_len).unwrap_or_default();
        (table.winograd_weights)(&mut transformed.0, block, codes, in_c, upsampled);
    }
    let [mut got, mut want] = [[-1i32; SUMS]; 2];
    let out_row_len = size * columns * channels;
    let tile = WinogradTile {
        window: ordered.0.get_mut(..window.len()).unwrap_or_default(),
        upsampled,
        known: false,
        in_c,
        rows,
        columns,
        weights: &transformed.0,
        values: &mut values.0,
        products: &mut products,
    };
    (table.winograd)(got.get_mut(..size * rows * out_row_len).unwrap_or_default(), channels, tile);
    for (row, sums) in want.chunks_exact_mut(out_row_len).take(size * rows).enumerate() {
        let elems = larger.get(row * row_len..).unwrap_or_default();
        let window = Window { elems, runs: 3, run_len: 3 * in_c, run_stride: row_len, pixel_stride: in_c, row_gap: 0 };
        (SCALAR.conv_i16)(sums, channels, window, &weights);
    }
    got == want
}

pub(super) fn sum_taps(table: &Kernels, random: &mut Random) -> bool {
    let channels = 4 * random.below(6);
    let w = random.below(LEN / (TAPS * channels).max(9) / 2);
    let len = (w + 2) * TAPS * channels;
    let elems: [i32; LEN] = core::array::from_fn(|_| random.value(i32::MIN, i32::MAX));
    let rows = [0, 1, 2].map(|_| elems.get(random.below(LEN - len.min(LEN - 1))..).unwrap_or_default());
    let rows = rows.map(|row| row.get(..len).unwrap_or_default());
    both::<i32, OUT_LEN>(
        77,
        (2 * w * channels).min(OUT_LEN / channels.max(1) * channels),
        [&|out| (table.sum_taps)(out, channels, rows), &|out| (SCALAR.sum_taps)(out, channels, rows)],
    )
}
