//! Winograd's convolution F(2×2, 3×3), portable: the two transforms' formulas, and kernels that follow them tile by tile.
//!
//! `ops/winograd.rs` has the mathematics. All of it is exact integers, so what a table's `winograd` gives is compared with a
//! direct convolution, not with these kernels. Sums may wrap on the way: they are taken modulo 2³², and four times the result fits.

use super::scratch::COEFFICIENTS;
use super::{WinogradTile, select};

/// `2·G·g` for a column of g.
#[inline(always)]
fn weights_1d([g0, g1, g2]: [i16; 3]) -> [i16; 4] {
    let outer = g0.wrapping_add(g2);
    [g0.wrapping_add(g0), outer.wrapping_add(g1), outer.wrapping_sub(g1), g2.wrapping_add(g2)]
}

/// `Bᵀ·d` for a column of d.
#[inline(always)]
fn input_1d([d0, d1, d2, d3]: [i16; 4]) -> [i16; 4] {
    [d0.wrapping_sub(d2), d1.wrapping_add(d2), d2.wrapping_sub(d1), d1.wrapping_sub(d3)]
}

/// `Aᵀ·m` for a column of m.
#[inline(always)]
fn output_1d([m0, m1, m2, m3]: [i32; 4]) -> [i32; 2] {
    [m0.wrapping_add(m1).wrapping_add(m2), m1.wrapping_sub(m2).wrapping_sub(m3)]
}

/// Rows for columns.
#[inline(always)]
fn transpose<T: Copy + Default, const ROWS: usize, const COLUMNS: usize>(
    rows: [[T; COLUMNS]; ROWS],
) -> [[T; ROWS]; COLUMNS] {
    let mut columns = [[T::default(); ROWS]; COLUMNS];
    for (r, row) in rows.into_iter().enumerate() {
        for (column, x) in columns.iter_mut().zip(row) {
            if let Some(to) = column.get_mut(r) {
                *to = x;
            }
        }
    }
    columns
}

/// Sums of 2×2 pixels, `[row][column]`, from the 16 coefficients' products.
#[inline(always)]
pub(super) fn output(products: [[i32; 4]; 4]) -> [[i32; 2]; 2] {
    let columns = transpose(transpose(products).map(output_1d));
    columns.map(|row| output_1d(row).map(|sum| sum >> 2))
}

/// Blocks of `out`, `[16][in_c][4 rows]`.
pub(super) fn weights(out: &mut [i16], block: usize, codes: &[i8], in_c: usize, _upsampled: bool) {
    let block_len = 4 * COEFFICIENTS * in_c;
    let out = out.get_mut(block * block_len..).unwrap_or_default().chunks_exact_mut(block_len.max(1));
    let codes = codes.chunks_exact((36 * in_c).max(1));
    for (out, codes) in out.zip(codes).take(select::TILING.winograd_blocks()) {
        four_channels(out, codes, in_c);
    }
}

fn four_channels(out: &mut [i16], codes: &[i8], in_c: usize) {
    for k in 0..in_c {
        for row in 0..4 {
            let tap = |tap: usize| {
                let at = (tap * in_c + k) / 4 * 16 + row * 4 + k % 4;
                codes.get(at).copied().unwrap_or(0) as i16
            };
            let g = [[tap(0), tap(1), tap(2)], [tap(3), tap(4), tap(5)], [tap(6), tap(7), tap(8)]];
            let half = transpose(transpose(g).map(weights_1d));
            for (i, &weight) in half.map(weights_1d).as_flattened().iter().enumerate() {
                if let Some(to) = out.get_mut((i * in_c + k) * 4 + row) {
                    *to = weight;
                }
            }
        }
    }
}

/// The kernel: tile by tile, four output channels at a time.
pub(super) fn convolve(out: &mut [i32], channels: usize, tile: WinogradTile<'_>) {
    let tiles = tile.tiles(channels, 2, COEFFICIENTS);
    let WinogradTile { window, upsampled, in_c, weights, values, .. } = tile;
    // Rows and columns of the window that a tile's four are, and columns from a tile to the next.
    let (of_four, step) = if upsampled { ([0, 1, 1, 2], 1) } else { ([0, 1, 2, 3], 2) };
    let row_len = window.len() / (of_four[3] + 1);
    let (first, second) = out.split_at_mut_checked(out.len() / 2).unwrap_or_default();
    let pairs = (2 * channels).max(1);
    let pairs = first.chunks_exact_mut(pairs).zip(second.chunks_exact_mut(pairs));
    for (t, (first, second)) in pairs.take(tiles).enumerate() {
        for k in 0..in_c {
            let d = of_four.map(|row| {
                of_four.map(|column| {
                    let at = row * row_len + (step * t + column) * in_c + k;
                    window.get(at).copied().unwrap_or(0)
                })
            });
            let half = transpose(transpose(d).map(input_1d));
            for (i, &value) in half.map(input_1d).as_flattened().iter().enumerate() {
                if let Some(to) = values.get_mut(i * in_c + k) {
                    *to = value;
                }
            }
        }
        let mut blocks = weights.chunks_exact((4 * COEFFICIENTS * in_c).max(1));
        for channel in (0..channels).step_by(4) {
            let block = blocks.next().unwrap_or_default();
            let mut products = [[0i32; 4]; COEFFICIENTS];
            let per_coefficient = block.chunks_exact((4 * in_c).max(1)).zip(values.chunks_exact(in_c.max(1)));
            for (products, (weights, values)) in products.iter_mut().zip(per_coefficient) {
                for (weights, &value) in weights.as_chunks::<4>().0.iter().zip(values) {
                    for (product, &weight) in products.iter_mut().zip(weights) {
                        *product = product.wrapping_add(i32::from(weight) * i32::from(value));
                    }
                }
            }
            for row in 0..4 {
                let of_row = products.map(|products| products.get(row).copied().unwrap_or(0));
                let [a, b, c, d] = [0, 4, 8, 12]
                    .map(|i| of_row.get(i..).and_then(<[i32]>::first_chunk::<4>).copied().unwrap_or_default());
                for (to, sums) in [&mut *first, &mut *second].into_iter().zip(output([a, b, c, d])) {
                    for (column, sum) in sums.into_iter().enumerate() {
                        if let Some(to) = to.get_mut(column * channels + channel + row) {
                            *to = sum;
                        }
                    }
                }
            }
        }
    }
}
