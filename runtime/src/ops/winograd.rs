//! A 3×3 convolution by Winograd's algorithm F(2×2, 3×3), in exact integers: 16 multiply-adds for 36.
//!
//! Lavin and Gray, arXiv:1509.09308, section 4.1: `Y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A` makes 2×2 outputs from 4×4 inputs. G has
//! halves, so the weights are transformed by 2·G, and what comes out is four times the sum: divided exactly, so that the result is
//! the direct convolution's, bit for bit. Codes of 8 bits become 10 (inputs) and 12 bits (weights): two multiply-adds of 16 bits an
//! instruction, as `SMLAD` and `vpmaddwd` do for direct convolutions too. Padding is the zero point, as there.
//!
//! The transformed weights are not in the file, where they would take 3.6 times the flash, but made in scratch, some output
//! channels at a time, and all pixels run over them. On a Cortex-M4 that is a tenth of a layer of 7×7 pixels, and less of larger ones.
//!
//! A host's table may have F(4×4, 3×3) instead, 36 for 144 ([`Kernels::winograd_size`](crate::kernels::Kernels::winograd_size)), several
//! rows of tiles in a call: of a small picture all, so that its input is transformed once for all output channels.
//!
//! Behind a nearest upsampling a tile's 4×4 inputs are 3×3 pixels, the middle ones twice. Then 7 of the 16 coefficients are 0, and the
//! products are as few as those with taps ([`upsampled`](super::upsampled)), but each serves one tile and four outputs take 10 additions
//! instead of 32.

use super::Context;
use super::conv::{Finish, Place, unpack};
use super::window::Tile;
use crate::arena::{cast, cast_mut, take_front};
use crate::format::Tensor;
use crate::format::op::Conv;
use crate::kernels::scratch::WinogradScratch;
use crate::kernels::{ByteLimits, Picture, WinogradTile, select};
use crate::opset::{CONV_UPSAMPLED, OpSet, WEIGHTS_I4, links};
use core::ops::Range;

/// Whether tiles may have four pixels each way, several rows of them at a time, and upsample by themselves.
const HOST: bool = select::TILING.winograd_always();

/// Whether the kernels upsample by themselves.
fn upsamples<const OPS: OpSet>(op: &Conv) -> bool {
    links(OPS, CONV_UPSAMPLED) && HOST && op.upsample
}

/// Output pixels of a tile, each way.
pub(super) fn tile_size<const OPS: OpSet>(ctx: &Context<'_, OPS>, op: &Conv) -> usize {
    if upsamples::<OPS>(op) || !HOST { 2 } else { ctx.kernels.winograd_size }
}

/// Output rows `rows`, in rows of tiles from the first.
#[allow(clippy::too_many_arguments)] // an operator's parts
pub(super) fn run<const OPS: OpSet>(
    ctx: &Context<'_, OPS>,
    op: &Conv,
    input: &Tensor,
    elems: &[i8],
    parts: &WinogradScratch,
    finish: &Finish<'_, OPS>,
    rows: Range<usize>,
    out_bytes: &mut [u8],
    mut scratch: &mut [u8],
) {
    let kernels = ctx.kernels;
    if HOST {
        // `len_bytes` has room for it.
        let before = scratch.as_ptr().align_offset(select::TILING.winograd_align());
        take_front(&mut scratch, before);
    }
    let weights: &mut [i16] = cast_mut(take_front(&mut scratch, parts.weights));
    let codes_bytes = take_front(&mut scratch, parts.codes);
    let window: &mut [i16] = cast_mut(take_front(&mut scratch, parts.window));
    let values: &mut [i16] = cast_mut(take_front(&mut scratch, parts.values));
    let products: &mut [i32] = cast_mut(take_front(&mut scratch, parts.products));
    let sums: &mut [i32] = cast_mut(take_front(&mut scratch, parts.sums));
    let zero = ctx.model.quant(input, ctx.row).zero_point;
    let [out_w, out_c, in_c] = [finish.out.w, finish.out.c, input.c].map(usize::from);
    // A host's kernels upsample by themselves, tiles of equal pixels: then pairs begin at even rows, and the window is that of half the place.
    let upsampled = upsamples::<OPS>(op);
    let plain = Conv { upsample: op.upsample && !upsampled, ..*op };
    let size = tile_size(ctx, op);
    let up = upsampled as usize;
    let (step, start) = (size >> up, rows.start & !up);
    // Portable kernels take a row of tiles at a time.
    let most = if !HOST || kernels.winograd_size == 2 { 1 } else { select::TILING.winograd_rows(finish.out, size) };
    // One call for all pixels: the input is transformed once.
    let whole = HOST
        && rows.end - start <= size * most
        && out_w <= select::TILING.winograd_width()
        && kernels.winograd_size > 2;
    // Then there is a kernel for all of it, perhaps, in every pass or in none, since it leaves the next one no values.
    let whole_tiles = HOST
        && size == 4
        && !op.upsample
        && out_w.is_multiple_of(size)
        && rows.len().is_multiple_of(size)
        && out_c.is_multiple_of(select::TILING.winograd_group());
    let mut channel = 0;
    while channel < out_c {
        let some_c = parts.channels.min(out_c - channel);
        for block in (0..some_c / 4).step_by(select::TILING.winograd_blocks()) {
            let first = finish.first_channel() + channel + 4 * block;
            let mut codes: &[i8] = &[];
            if links(OPS, WEIGHTS_I4) && !(HOST && parts.codes == 0) {
                codes = unpack(ctx, op.weights[0], first, usize::MAX, &mut *codes_bytes);
            }
            if codes.is_empty() {
                codes = cast(ctx.model.weight_rows(op.weights[0], first));
            }
            (kernels.winograd_weights)(weights, block, codes, in_c, upsampled);
        }
        let mut y = start;
        while y < rows.end {
            let tile_rows = (rows.end - y).div_ceil(size).min(most);
            let mut x = 0;
            while x < out_w {
                let left = out_w - x;
                let mut pixels = select::TILING.winograd_width().min(left);
                // A tile is never left alone: kernels take two and more.
                if left > pixels && left <= pixels + 2 {
                    pixels -= 2;
                }
                let tile_columns = pixels.div_ceil(size);
                let [h, w] = [step * tile_rows + 2, step * tile_columns + 2];
                let known = whole && channel > 0;
                let mut tile = WinogradTile {
                    window: &mut [],
                    upsampled,
                    known,
                    in_c,
                    rows: tile_rows,
                    columns: tile_columns,
                    weights,
                    values: &mut *values,
                    products: &mut *products,
                };
                let place = Place { y, x, channel, some_c };
                if let Some(bytes) = kernels.byte_kernels
                    && whole_tiles
                    && ByteLimits::has_winograd(in_c, some_c)
                    && let Some((to, constants)) = finish.bytes(&mut *out_bytes, rows.start, place)
                {
                    let picture = Picture {
                        elems,
                        size: [input.h, input.w, input.c].map(usize::from),
                        zero_point: zero as i8,
                        kernel: [3; 2],
                        stride: 1,
                        from: [y as isize - 1, x as isize - 1],
                        out: [size * tile_rows, out_w],
                    };
                    (bytes.winograd_bytes)(to, usize::from(finish.out.c), picture, tile, constants);
                    x += pixels;
                    continue;
                }
                let window = window.get_mut(..h * w * in_c).unwrap_or_default();
                if !known {
                    let tile = Tile { op: &plain, input, y: y >> up, x: x >> up, rows: tile_rows, pixels };
                    if HOST && !plain.upsample {
                        let (elems, frame) = tile.frame(elems, [h, w], zero);
                        (kernels.frame_i16)(window, elems, frame);
                    } else {
                        for (ky, row) in window.chunks_exact_mut((w * in_c).max(1)).enumerate() {
                            tile.load_row::<OPS, _, _>(elems, row, [ky, w], zero, kernels.widen);
                        }
                    }
                }
                let row_len = size * tile_columns * some_c;
                let sums = sums.get_mut(..size * tile_rows * row_len).unwrap_or_default();
                tile.window = window;
                (kernels.winograd)(sums, some_c, tile);
                // Where tiles end with the row, all rows are one piece.
                let one_piece = HOST && row_len == out_w * some_c && y >= rows.start;
                let together = if one_piece { size * tile_rows } else { 1 };
                for (i, sums) in sums.chunks_exact_mut((together * row_len).max(1)).enumerate() {
                    let y = y + i * together;
                    if rows.contains(&y) {
                        let some_rows = together.min(rows.end - y);
                        let sums = sums.get_mut(..some_rows * pixels * some_c).unwrap_or_default();
                        finish.store(out_bytes, rows.start, Place { y, x, channel, some_c }, [sums, &mut []]);
                    }
                }
                x += pixels;
            }
            y += size * tile_rows;
        }
        channel += some_c;
    }
}
