//! AVX2, eight lanes of 32 bits.
//!
//! Windows of 8-bit inputs are widened to 16 bits, so that `vpmaddwd` (16 exact products, summed in pairs) serves both
//! input types; `vpmaddubsw`, its 8-bit sibling, saturates. A convolution keeps a tile of 8 channels × up to 6 pixels in
//! registers: 16 weight bytes, a block's four rows of four, become 16 lanes of 16 bits, four input elements are
//! broadcast beside each row, and an accumulator holds two partial sums a channel, added in the end. The first tile of a
//! call leaves the weights widened for the others, which then do little but multiply and add (97 % of the peak in the
//! first cache, 90 without) and fetch the next channels' weights; so a call serves several rows ([`Kernels::takes_rows`]).

use super::super::constants::{GroupSource, NormSource};
use super::super::scalar::KERNELS as SCALAR;
use super::super::{Attention, Channels, Frame, Kernels, NormConstants, Requantization, Window, WinogradTile};
use super::{lanes256, norm, requantize, rows, winograd};
use core::arch::x86_64::*;
use core::mem::MaybeUninit;

/// The table, where it lies. Only [`super::tables`] hands it out.
pub(super) static TABLE: Kernels = KERNELS;

/// The table of these functions.
// SAFETY of every call below: `super::tables` has found AVX2, which is all that the called functions ask for.
pub(super) const KERNELS: Kernels = Kernels {
    name: "avx2",
    wide: true,
    exchanged: false,
    copy: SCALAR.copy,
    widen: |out, elems| unsafe { rows::widen(out, elems) },
    // Never called: windows are of 16 bits.
    frame_i8: SCALAR.frame_i8,
    frame_i16: entries::frame_i16,
    load: SCALAR.load,
    offset: 0,
    // Never called: 8-bit inputs are widened.
    conv_i8: SCALAR.conv_i8,
    conv_i16: entries::conv_i16,
    takes_rows: true,
    taps_from: 0,
    sum_taps: |out, channels, rows| unsafe { rows::sum_taps(out, channels, rows) },
    winograd_from: 16,
    winograd_pixels: 0,
    winograd_up_to: usize::MAX,
    winograd_size: winograd::SIZE,
    winograd_weights: |out, block, codes, in_c, up| unsafe { winograd::weights(out, block, codes, in_c, up) },
    winograd: entries::winograd,
    unpack_i4: |out, nibbles, scales, group_len| unsafe { rows::unpack_i4(out, nibbles, scales, group_len) },
    // Never called: `attend` stands for them.
    dot_i8: SCALAR.dot_i8,
    softmax: SCALAR.softmax,
    softmax_rows: SCALAR.softmax_rows,
    mix_i8: SCALAR.mix_i8,
    scale: entries::scale,
    add_i8: |acc, elems, zero, m| unsafe { rows::add::<i8, 16>(acc, elems, zero, m) },
    add_i16: |acc, elems, zero, m| unsafe { rows::add::<i16, 8>(acc, elems, zero, m) },
    // Never called: `requantize` stands for it.
    store_i8: SCALAR.store_i8,
    quantize: |out, x, affine, quant| unsafe { rows::quantize(out, x, affine, quant) },
    update: [|x, model, row, bounds| unsafe { rows::update(x, model, row, bounds) }],
    conv_constants: |sources, output| unsafe { rows::conv_constants(sources, output) },
    spread: SCALAR.spread,
    norm_table: [|results, table, m, zero_point| unsafe { norm::norm_table(results, table, m, zero_point) }],
    norm_constants: entries::norm_constants,
    group_stats: entries::group_stats,
    requantize: entries::requantize,
    byte_kernels: None,
    sums_i8: |totals, row, c, first, group_c| unsafe { norm::sums_i8(totals, row, c, first, group_c) },
    sums_i16: |totals, row, c, first, group_c| unsafe { norm::sums_i16(totals, row, c, first, group_c) },
    norm_i8: entries::norm_i8,
    norm_i16: entries::norm_i16,
    attend_pack: entries::attend_pack,
    attend: entries::attend,
};

/// The table's functions.
mod entries {
    use super::*;

    entries! {
        frame_i16 = rows::frame_i16: (out: &mut [i16], elems: &[i8], frame: Frame<i16>);
        conv_i16 = super::conv_i16: (out: &mut [i32], channels: usize, window: Window<'_, i16>, weights: &[i8]);
        winograd = winograd::convolve: (out: &mut [i32], channels: usize, tile: WinogradTile<'_>);
        scale = rows::scale: (acc: &mut [i32], channels: Channels<'_>);
        norm_constants = rows::norm_constants: (source: NormSource, to: [&mut [i32]; 2], affine: [&[f32]; 2]);
        group_stats = rows::group_stats: (out: &mut [[f32; 2]], sums: &[[u64; 2]], source: GroupSource);
        requantize = requantize::requantize:
            (out: &mut [i8], out_c: usize, sums: [&mut [i32]; 2], k: Requantization<'_>);
        norm_i8 = norm::norm_i8: (out: &mut [i8], out_c: usize, src: &[i8], src_c: usize, k: NormConstants<'_>);
        norm_i16 = norm::norm_i16: (out: &mut [i8], out_c: usize, src: &[i16], src_c: usize, k: NormConstants<'_>);
        attend_pack = lanes256::attend_pack: (packed: &mut [i32], elems: [&[i8]; 2], sizes: [usize; 2]);
        attend = lanes256::attend: (out: &mut [i8], scratch: &mut [i32], attention: Attention<'_>);
    }
}

/// Pixels of the largest register tile: 2 × 6 accumulators, two weight vectors, an input and a product fill the 16
/// registers.
const TILE_PIXELS: usize = 6;

/// Groups of four elements of a patch whose weights are widened at a time, eight channels of them: 18 KB, so that a window's rows fit
/// the first cache beside them. With 192 groups a net of 6.2 G multiply-adds takes 1.01 times as long.
const GROUPS: usize = 288;

#[target_feature(enable = "avx2")]
fn conv_i16(out: &mut [i32], channels: usize, window: Window<'_, i16>, weights: &[i8]) {
    let pixels = out.len() / channels.max(1);
    if pixels == 0 || !window.holds(pixels, channels, weights) {
        return;
    }
    let Window { runs, run_len, run_stride, pixel_stride, row_gap, .. } = window;
    let row_pixels = window.row_pixels();
    let (groups, patch) = (run_len / 4, runs * run_len);
    if patch == 0 {
        return out.fill(0);
    }
    // Tiles of nearly equal size: 7 pixels are 4 + 3, not 6 + 1.
    let size = pixels.div_ceil(pixels.div_ceil(TILE_PIXELS));
    // Whole runs at a time, or nearly equal parts of one.
    let [some_runs, some_groups] = match GROUPS / groups {
        0 => [1, groups.div_ceil(groups.div_ceil(GROUPS))],
        fit => [fit, groups],
    };
    let mut wide = [const { MaybeUninit::<__m256i>::uninit() }; 2 * GROUPS];
    let mut spare = [0i32; 8 * TILE_PIXELS];
    for first in (0..channels).step_by(8) {
        let lanes = (channels - first).min(8);
        let whole = lanes.is_multiple_of(4);
        for run in (0..runs).step_by(some_runs) {
            for group in (0..groups).step_by(some_groups) {
                let add = run + group > 0;
                let mut tile = Tile {
                    // SAFETY: the first pixel's patch and rows from `first` on exist: `holds`.
                    x: unsafe { window.elems.as_ptr().add(run * run_stride + 4 * group) },
                    w: unsafe { weights.as_ptr().add(first * patch + 16 * (run * groups + group)) },
                    out: spare.as_mut_ptr(),
                    at: [0; TILE_PIXELS],
                    wide: wide.as_mut_ptr().cast(),
                    runs: some_runs.min(runs - run),
                    run_stride,
                    groups: some_groups.min(groups - group),
                    block_len: 4 * patch,
                    channels: if whole { channels } else { 8 },
                    add: add && whole,
                };
                let (mut at, mut column) = (0usize, 0);
                for p in (0..pixels).step_by(size) {
                    let some = (pixels - p).min(size);
                    if p == 0 || row_gap > 0 {
                        for to in tile.at.iter_mut().take(some) {
                            *to = at;
                            (at, column) = (at.wrapping_add(pixel_stride), column + 1);
                            if column == row_pixels {
                                (at, column) = (at.wrapping_add(row_gap), 0);
                            }
                        }
                    } else {
                        tile.x = tile.x.wrapping_add(size * pixel_stride);
                    }
                    if whole {
                        // SAFETY: below out.len().
                        tile.out = unsafe { out.as_mut_ptr().add(p * channels + first) };
                    }
                    // SAFETY: `holds` says that all patches and all rows (rounded up to blocks of four) are there; the tile has `lanes`
                    // channels from `first` on in each of its pixels, all within `out`, or whole blocks of `spare`. A piece has no more
                    // than GROUPS groups, and its first tile has left their weights in `wide` for the others.
                    unsafe {
                        if p == 0 {
                            tile.run_sized::<true>(lanes > 4, some);
                        } else {
                            tile.run_sized::<false>(lanes > 4, some);
                        }
                    }
                    if !whole {
                        let sums = out.chunks_exact_mut(channels).skip(p).take(some);
                        for (sums, spare) in sums.zip(spare.as_chunks::<8>().0) {
                            for (sum, spare) in sums.iter_mut().skip(first).zip(spare) {
                                *sum = if add { sum.wrapping_add(*spare) } else { *spare };
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A register tile, of a piece of the patches: where its first pixel, its first weights and its first sum lie.
struct Tile {
    x: *const i16,
    w: *const i8,
    out: *mut i32,
    /// Where its pixels lie behind `x`.
    at: [usize; TILE_PIXELS],
    /// The weights of the piece, widened, the blocks' groups in turn.
    wide: *mut __m256i,
    /// Runs of the piece, elements from one to the next, and groups of four in each.
    runs: usize,
    run_stride: usize,
    groups: usize,
    /// Weights from one block to the next.
    block_len: usize,
    /// Sums from one pixel to the next.
    channels: usize,
    /// Whether sums are added to what is there.
    add: bool,
}

impl Tile {
    /// The first so many pixels, of two blocks or of one. `WIDEN`: from the weights as they lie in the file, which it leaves widened,
    /// else from those.
    ///
    /// # Safety
    /// From `x` on there are that many pieces of the window's patches, from `w` on a piece of each block, from `out` on the blocks' sums in
    /// each of as many rows of `channels`, `wide` has room for the blocks' groups, and holds them unless `WIDEN`.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn run_sized<const WIDEN: bool>(&self, two: bool, pixels: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            match (two, pixels) {
                (true, 1) => self.run::<WIDEN, 2, 1>(),
                (true, 2) => self.run::<WIDEN, 2, 2>(),
                (true, 3) => self.run::<WIDEN, 2, 3>(),
                (true, 4) => self.run::<WIDEN, 2, 4>(),
                (true, 5) => self.run::<WIDEN, 2, 5>(),
                (true, _) => self.run::<WIDEN, 2, 6>(),
                (false, 1) => self.run::<WIDEN, 1, 1>(),
                (false, 2) => self.run::<WIDEN, 1, 2>(),
                (false, 3) => self.run::<WIDEN, 1, 3>(),
                (false, 4) => self.run::<WIDEN, 1, 4>(),
                (false, 5) => self.run::<WIDEN, 1, 5>(),
                (false, _) => self.run::<WIDEN, 1, 6>(),
            }
        }
    }

    /// `PIXELS` pixels by `BLOCKS` blocks of four channels.
    ///
    /// # Safety
    /// As for [`Tile::run_sized`].
    #[target_feature(enable = "avx2")]
    #[inline(never)]
    unsafe fn run<const WIDEN: bool, const BLOCKS: usize, const PIXELS: usize>(&self) {
        let mut acc = [[_mm256_setzero_si256(); BLOCKS]; PIXELS];
        for run in 0..self.runs {
            // SAFETY: run `run` of pixel p, and its weights.
            let (w, wide) = unsafe { (self.w.add(16 * run * self.groups), self.wide.add(BLOCKS * run * self.groups)) };
            let x: [_; PIXELS] = core::array::from_fn(|p| unsafe { self.x.add(self.at[p] + run * self.run_stride) });
            for k in 0..self.groups {
                let mut rows = [_mm256_setzero_si256(); BLOCKS];
                for (b, row) in rows.iter_mut().enumerate() {
                    // SAFETY: group k of the run, in each block: the caller's promise. What is fetched ahead, where the next eight channels'
                    // weights lie, need not be there.
                    unsafe {
                        if WIDEN {
                            *row = _mm256_cvtepi8_epi16(_mm_loadu_si128(w.add(b * self.block_len + 16 * k).cast()));
                            _mm256_store_si256(wide.add(BLOCKS * k + b), *row);
                        } else {
                            *row = _mm256_load_si256(wide.add(BLOCKS * k + b));
                            _mm_prefetch::<_MM_HINT_T0>(w.wrapping_add((2 + b) * self.block_len + 16 * k));
                        }
                    }
                }
                for (x, acc) in x.iter().zip(&mut acc) {
                    // SAFETY: elements 4·k to 4·k + 3 of the run.
                    let group = unsafe { x.add(4 * k).cast::<i64>().read_unaligned() };
                    let group = _mm256_set1_epi64x(group);
                    for (acc, &row) in acc.iter_mut().zip(&rows) {
                        *acc = _mm256_add_epi32(*acc, _mm256_madd_epi16(group, row));
                    }
                }
            }
        }
        for (p, acc) in acc.iter().enumerate() {
            let pairs = _mm256_hadd_epi32(acc[0], acc[BLOCKS - 1]);
            let sums = _mm256_permute4x64_epi64::<0b11_01_10_00>(pairs);
            // SAFETY: the blocks' sums of pixel p.
            unsafe {
                let to = self.out.add(p * self.channels);
                if BLOCKS == 2 {
                    let before = if self.add { _mm256_loadu_si256(to.cast()) } else { _mm256_setzero_si256() };
                    _mm256_storeu_si256(to.cast(), _mm256_add_epi32(sums, before));
                } else {
                    let before = if self.add { _mm_loadu_si128(to.cast()) } else { _mm_setzero_si128() };
                    _mm_storeu_si128(to.cast(), _mm_add_epi32(_mm256_castsi256_si128(sums), before));
                }
            }
        }
    }
}
