//! AVX-512 with VNNI, sixteen lanes of 32 bits; what does not gain from it is AVX2's.
//!
//! `vpdpbusd` adds four products of an unsigned and a signed byte to each lane, exactly: 64 multiply-adds an instruction
//! where AVX2's pair of instructions does 16. Inputs become unsigned by a flipped sign bit, which adds 128 to each;
//! the operator takes that back ([`Kernels::offset`]), so the loop does not pay for it.
//!
//! A vector of weights is 64 bytes of a block as they lie: four channels by four groups of four elements. Sixteen input
//! elements are spread beside them, each group four times, and serve four blocks; in the end the four groups' lanes are
//! added. Behind a run's last whole vector a mask takes the groups that are left.

use super::super::constants::{GroupSource, NormSource};
use super::super::{
    Attention, ByteKernels, Channels, Frame, Kernels, NormConstants, Picture, Pixels, Requantization, Window,
    WinogradTile,
};
use super::rows512::{self, first16, fold};
use super::{
    avx2, constants512, direct512, floats512, lanes512, norm512, pixels512, requantize512, sums512, tables512, up512,
    winograd512,
};
use core::arch::x86_64::*;

/// The table. Only [`super::tables`] hands it out.
// SAFETY of every call below: `super::tables` has found AVX-512 F, BW, DQ, VL and VNNI.
pub(super) static TABLE: Kernels = Kernels {
    name: "avx512vnni",
    wide: false,
    widen: |out, elems| unsafe { rows512::widen(out, elems) },
    frame_i8: entries::frame_i8,
    frame_i16: entries::frame_i16,
    offset: 128,
    conv_i8: entries::conv_i8,
    takes_rows: true,
    conv_i16: entries::conv_i16,
    // Where Winograd's algorithm is not used. With 64 channels it takes 1.1 times as long as direct convolution: what a tile
    // costs apart from its products is paid nine times.
    taps_from: 128,
    winograd_from: 16,
    // With 8×8, of 64 and 256 channels, it takes 1.2 times as long as direct convolution, with 16×16 0.78 times.
    winograd_pixels: 128,
    // With 256 channels it takes 1.1 times as long as by taps, with 64 0.6 times as long as direct convolution, which is
    // faster there than taps are.
    winograd_up_to: 256,
    winograd_weights: |out, block, codes, in_c, up| unsafe { winograd512::weights(out, block, codes, in_c, up) },
    winograd: entries::winograd,
    scale: entries::scale,
    quantize: |out, x, affine, quant| unsafe { rows512::quantize(out, x, affine, quant) },
    update: [|x, model, row, bounds| unsafe { rows512::update(x, model, row, bounds) }],
    conv_constants: |sources, output| unsafe { constants512::conv(sources, output) },
    spread: entries::spread,
    norm_constants: entries::norm_constants,
    group_stats: entries::group_stats,
    requantize: entries::requantize,
    byte_kernels: Some(&BYTES),
    sums_i8: |totals, row, c, first, group_c| unsafe { sums512::sums_i8(totals, row, c, first, group_c) },
    norm_table: [|results, table, m, zero_point| unsafe {
        match super::has() & super::AVX512_VBMI {
            0 => tables512::norm_table(results, table, m, zero_point),
            _ => tables512::norm_table_vbmi(results, table, m, zero_point),
        }
    }],
    norm_i8: entries::norm_i8,
    norm_i16: entries::norm_i16,
    attend_pack: entries::attend_pack,
    attend: entries::attend,
    ..avx2::KERNELS
};

static BYTES: ByteKernels = ByteKernels {
    limits: direct512::LIMITS,
    conv_bytes: entries::conv_bytes,
    conv_up_bytes: entries::conv_up_bytes,
    conv_f32: entries::conv_f32,
    conv_pixels: entries::conv_pixels,
    winograd_bytes: entries::winograd_bytes,
};

/// Pixels of the largest register tile: 4 × 6 accumulators, four weight vectors and an input fit 32 registers.
const TILE_PIXELS: usize = 6;

/// The table's functions.
mod entries {
    use super::*;

    entries! {
        frame_i8 = rows512::frame_i8: (out: &mut [i8], elems: &[i8], frame: Frame<i8>);
        frame_i16 = rows512::frame_i16: (out: &mut [i16], elems: &[i8], frame: Frame<i16>);
        conv_i8 = super::conv_i8: (out: &mut [i32], channels: usize, window: Window<'_, i8>, weights: &[i8]);
        conv_i16 = super::conv_i16: (out: &mut [i32], channels: usize, window: Window<'_, i16>, weights: &[i8]);
        winograd = winograd512::convolve: (out: &mut [i32], channels: usize, tile: WinogradTile<'_>);
        scale = rows512::scale: (acc: &mut [i32], channels: Channels<'_>);
        spread = constants512::spread: (to: [&mut [i32]; 2], stats: &[[f32; 2]], group_c: usize);
        norm_constants = constants512::norm: (source: NormSource, to: [&mut [i32]; 2], affine: [&[f32]; 2]);
        group_stats = constants512::group_stats: (out: &mut [[f32; 2]], sums: &[[u64; 2]], source: GroupSource);
        requantize = requantize512::requantize: (out: &mut [i8], out_c: usize, sums: [&mut [i32]; 2], k: Requantization<'_>);
        conv_bytes = direct512::conv_bytes:
            (out: &mut [i8], out_c: usize, picture: Picture<'_>, weights: &[i8], k: Requantization<'_>);
        conv_up_bytes = up512::conv_up_bytes:
            (out: &mut [i8], out_c: usize, picture: Picture<'_>, weights: &[i8], k: Requantization<'_>);
        conv_pixels = pixels512::conv_pixels: (out: &mut [i8], out_c: usize, sources: [Pixels<'_>; 2], k: Requantization<'_>);
        winograd_bytes = winograd512::convolve_bytes:
            (out: &mut [i8], out_c: usize, picture: Picture<'_>, tile: WinogradTile<'_>, k: Requantization<'_>);
        conv_f32 = floats512::conv_f32: (out: &mut [f32], picture: Picture<'_>, weights: &[i8], k: Channels<'_>);
        attend_pack = lanes512::attend_pack: (packed: &mut [i32], elems: [&[i8]; 2], sizes: [usize; 2]);
        attend = lanes512::attend: (out: &mut [i8], scratch: &mut [i32], attention: Attention<'_>);
        norm_i16 = norm512::norm_i16:
            (out: &mut [i8], out_c: usize, src: &[i16], src_c: usize, k: NormConstants<'_>);
        norm_i8_without_vbmi = norm512::norm_i8:
            (out: &mut [i8], out_c: usize, src: &[i8], src_c: usize, k: NormConstants<'_>);
        norm_i8_vbmi = norm512::norm_i8_vbmi:
            (out: &mut [i8], out_c: usize, src: &[i8], src_c: usize, k: NormConstants<'_>);
    }

    pub(super) fn norm_i8(out: &mut [i8], out_c: usize, src: &[i8], src_c: usize, k: NormConstants<'_>) {
        match super::super::has() & super::super::AVX512_VBMI {
            0 => norm_i8_without_vbmi(out, out_c, src, src_c, k),
            _ => norm_i8_vbmi(out, out_c, src, src_c, k),
        }
    }
}

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
fn conv_i8(out: &mut [i32], channels: usize, window: Window<'_, i8>, weights: &[i8]) {
    if window.runs == 1 && window.row_gap == 0 {
        match window.run_len {
            4 => return short::<1>(out, channels, window, weights),
            8 => return short::<2>(out, channels, window, weights),
            12 => return short::<3>(out, channels, window, weights),
            16 => return short::<4>(out, channels, window, weights),
            20 => return short::<5>(out, channels, window, weights),
            24 => return short::<6>(out, channels, window, weights),
            28 => return short::<7>(out, channels, window, weights),
            32 => return short::<8>(out, channels, window, weights),
            _ => {}
        }
    }
    // SAFETY: `tiles` calls with tiles whose patches and weights `holds` has found to be there.
    tiles(out, channels, window, weights, |tile, pixels, lanes| unsafe {
        match pixels {
            1 => tile.run_blocks::<1>(lanes),
            2 => tile.run_blocks::<2>(lanes),
            3 => tile.run_blocks::<3>(lanes),
            4 => tile.run_blocks::<4>(lanes),
            5 => tile.run_blocks::<5>(lanes),
            _ => tile.run_blocks::<6>(lanes),
        }
    });
}

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
fn conv_i16(out: &mut [i32], channels: usize, window: Window<'_, i16>, weights: &[i8]) {
    // SAFETY: as above.
    tiles(out, channels, window, weights, |tile, pixels, lanes| unsafe {
        match pixels {
            1 => tile.run_blocks::<1>(lanes),
            2 => tile.run_blocks::<2>(lanes),
            3 => tile.run_blocks::<3>(lanes),
            4 => tile.run_blocks::<4>(lanes),
            5 => tile.run_blocks::<5>(lanes),
            _ => tile.run_blocks::<6>(lanes),
        }
    });
}

/// Runs over the tiles of a convolution, or does nothing where the window does not hold what it says.
#[inline(always)]
fn tiles<T>(
    out: &mut [i32],
    channels: usize,
    window: Window<'_, T>,
    weights: &[i8],
    run: impl Fn(Tile<'_, T>, usize, usize),
) {
    let pixels = out.len() / channels.max(1);
    if pixels == 0 || !window.holds(pixels, channels, weights) {
        return;
    }
    let patch = window.runs * window.run_len;
    let row_pixels = if window.row_gap == 0 { pixels } else { window.row_pixels() };
    // Tiles of nearly equal size: 7 pixels are 4 + 3, not 6 + 1.
    let size = row_pixels.div_ceil(row_pixels.div_ceil(TILE_PIXELS));
    for row in 0..pixels / row_pixels {
        for first in (0..channels).step_by(16) {
            let lanes = (channels - first).min(16);
            for p in (row * row_pixels..(row + 1) * row_pixels).step_by(size) {
                let tile = Tile {
                    // SAFETY: pixel p and rows from `first` on exist: `holds`.
                    x: unsafe { window.elems.as_ptr().add(p * window.pixel_stride + row * window.row_gap) },
                    w: unsafe { weights.as_ptr().add(first * patch) },
                    // SAFETY: p·channels + first is below out.len().
                    out: unsafe { out.as_mut_ptr().add(p * channels + first) },
                    window: &window,
                    channels,
                    lanes: ((1u32 << lanes) - 1) as __mmask16,
                };
                run(tile, ((row + 1) * row_pixels - p).min(size), lanes);
            }
        }
    }
}

/// Patches of `GROUPS` groups of four: the weights of 32 channels, or 16, stay in registers, a group of sixteen each, and a pixel's groups
/// are broadcast. A lane is a channel then, and nothing has to be added in the end, which would take longer than the products.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
fn short<const GROUPS: usize>(out: &mut [i32], channels: usize, window: Window<'_, i8>, weights: &[i8]) {
    let pixels = out.len() / channels.max(1);
    if pixels == 0 || window.run_len != 4 * GROUPS || !window.holds(pixels, channels, weights) {
        return;
    }
    for first in (0..channels).step_by(32) {
        // SAFETY: `holds`, and the channels from `first` on.
        unsafe {
            match channels - first {
                ..=16 => short_lanes::<GROUPS, 1>(out, channels, window, weights, first),
                _ => short_lanes::<GROUPS, 2>(out, channels, window, weights, first),
            }
        }
    }
}

/// Channels from `first` on, as many as `VECTORS` hold or as there are.
///
/// # Safety
/// The window holds what it says, of run length 4·`GROUPS`; `out` is pixels of `channels`, which are more than `first`.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn short_lanes<const GROUPS: usize, const VECTORS: usize>(
    out: &mut [i32],
    channels: usize,
    window: Window<'_, i8>,
    weights: &[i8],
    first: usize,
) {
    let sign = _mm512_set1_epi32(i32::from_ne_bytes([0x80; 4]));
    let lanes = channels - first;
    let mut rows = [[_mm512_setzero_si512(); VECTORS]; GROUPS];
    for (group, rows) in rows.iter_mut().enumerate() {
        for (v, rows) in rows.iter_mut().enumerate() {
            let mut blocks = [_mm_setzero_si128(); 4];
            for (block, to) in blocks.iter_mut().enumerate().take(lanes.div_ceil(4).saturating_sub(4 * v)) {
                let row = first + 16 * v + 4 * block;
                // SAFETY: a block's group: `holds`, which counts rows rounded up to blocks.
                *to = unsafe { _mm_loadu_si128(weights.as_ptr().add(row * 4 * GROUPS + 16 * group).cast()) };
            }
            let [a, b] = [_mm256_set_m128i(blocks[1], blocks[0]), _mm256_set_m128i(blocks[3], blocks[2])];
            *rows = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(a), b);
        }
    }
    let masks: [__mmask16; VECTORS] = core::array::from_fn(|v| first16(lanes.saturating_sub(16 * v)));
    for p in 0..out.len() / channels {
        let mut acc = [[_mm512_setzero_si512(); VECTORS]; 2];
        for (group, rows) in rows.iter().enumerate() {
            // SAFETY: four elements of pixel p: `holds`.
            let x = unsafe { window.elems.as_ptr().add(p * window.pixel_stride + 4 * group).cast::<i32>() };
            // SAFETY: as above.
            let x = _mm512_xor_si512(_mm512_set1_epi32(unsafe { x.read_unaligned() }), sign);
            for v in 0..VECTORS {
                acc[group % 2][v] = _mm512_dpbusd_epi32(acc[group % 2][v], x, rows[v]);
            }
        }
        for v in 0..VECTORS {
            let sums = if GROUPS == 1 { acc[0][v] } else { _mm512_add_epi32(acc[0][v], acc[1][v]) };
            // SAFETY: the mask's sums of pixel p.
            unsafe {
                _mm512_mask_storeu_epi32(out.as_mut_ptr().add(p * channels + first + 16 * v), masks[v], sums);
            }
        }
    }
}

/// A register tile: where its first pixel, its first weights and its first sum lie.
struct Tile<'a, T> {
    x: *const T,
    w: *const i8,
    out: *mut i32,
    window: &'a Window<'a, T>,
    /// Sums from one pixel to the next.
    channels: usize,
    /// The tile's channels, a bit each.
    lanes: __mmask16,
}

impl Tile<'_, i8> {
    /// As [`Tile::run`], for as many blocks as `lanes` channels have.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn run_blocks<const PIXELS: usize>(self, lanes: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            match lanes {
                0..=4 => self.run::<1, PIXELS>(),
                5..=8 => self.run::<2, PIXELS>(),
                9..=12 => self.run::<3, PIXELS>(),
                _ => self.run::<4, PIXELS>(),
            }
        }
    }

    /// `PIXELS` pixels by `BLOCKS` blocks of four channels.
    ///
    /// # Safety
    /// From `x` on there are `PIXELS` patches of the window, from `w` on `BLOCKS` blocks, from `out` on the channels of
    /// `lanes` in each of `PIXELS` rows of `channels`.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn run<const BLOCKS: usize, const PIXELS: usize>(self) {
        let Window { runs, run_len, run_stride, pixel_stride, .. } = *self.window;
        let block_len = 4 * runs * run_len;
        let spread = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
        let sign = _mm512_set1_epi8(-128);
        let mut acc = [[_mm512_setzero_si512(); BLOCKS]; PIXELS];
        let mut w = self.w;
        for run in 0..runs {
            // SAFETY: run `run` of the first patch.
            let x = unsafe { self.x.add(run * run_stride) };
            for k in (0..run_len / 16 * 16).step_by(16) {
                // SAFETY: groups k/4 to k/4 + 3 of the run, in each block: the caller's promise.
                let rows: [__m512i; BLOCKS] =
                    core::array::from_fn(|b| unsafe { _mm512_loadu_si512(w.add(b * block_len).cast()) });
                for (p, acc) in acc.iter_mut().enumerate() {
                    // SAFETY: elements k to k + 15 of the run of pixel p.
                    let elems = unsafe { _mm_loadu_si128(x.add(p * pixel_stride + k).cast()) };
                    let lanes = _mm512_permutexvar_epi32(spread, _mm512_broadcast_i32x4(elems));
                    let lanes = _mm512_xor_si512(lanes, sign);
                    for (acc, &row) in acc.iter_mut().zip(&rows) {
                        *acc = _mm512_dpbusd_epi32(*acc, lanes, row);
                    }
                }
                // SAFETY: at most one behind the block.
                w = unsafe { w.add(64) };
            }
            let groups = run_len % 16 / 4;
            if groups > 0 {
                // Masked-off weights are zero, so that their products are.
                let mask = ((1u32 << (4 * groups)) - 1) as __mmask16;
                let some = ((1u32 << groups) - 1) as __mmask8;
                // SAFETY: the run's last groups, in each block; nothing that is masked off is read.
                let rows: [__m512i; BLOCKS] =
                    core::array::from_fn(|b| unsafe { _mm512_maskz_loadu_epi32(mask, w.add(b * block_len).cast()) });
                for (p, acc) in acc.iter_mut().enumerate() {
                    // SAFETY: the last elements of the run of pixel p; nothing that is masked off is read.
                    let elems =
                        unsafe { _mm_maskz_loadu_epi32(some, x.add(p * pixel_stride + run_len / 16 * 16).cast()) };
                    let lanes = _mm512_permutexvar_epi32(spread, _mm512_broadcast_i32x4(elems));
                    let lanes = _mm512_xor_si512(lanes, sign);
                    for (acc, &row) in acc.iter_mut().zip(&rows) {
                        *acc = _mm512_dpbusd_epi32(*acc, lanes, row);
                    }
                }
                // SAFETY: at most one behind the block.
                w = unsafe { w.add(16 * groups) };
            }
        }
        for (p, acc) in acc.iter().enumerate() {
            let of = |b: usize| acc[b.min(BLOCKS - 1)];
            let sums = fold(fold(of(0), of(1)), fold(of(2), of(3)));
            // SAFETY: the channels of `lanes` of pixel p.
            unsafe { _mm512_mask_storeu_epi32(self.out.add(p * self.channels), self.lanes, sums) };
        }
    }
}

impl Tile<'_, i16> {
    /// As [`Tile::run`], for as many blocks as `lanes` channels have.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn run_blocks<const PIXELS: usize>(self, lanes: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            match lanes {
                0..=4 => self.run::<1, PIXELS>(),
                5..=8 => self.run::<2, PIXELS>(),
                9..=12 => self.run::<3, PIXELS>(),
                _ => self.run::<4, PIXELS>(),
            }
        }
    }

    /// `PIXELS` pixels by `BLOCKS` blocks of four channels: a vector of weights is two groups of a block as words, and each
    /// group of the input is four times beside it.
    ///
    /// # Safety
    /// As for 8 bits.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn run<const BLOCKS: usize, const PIXELS: usize>(self) {
        let Window { runs, run_len, run_stride, pixel_stride, .. } = *self.window;
        let block_len = 4 * runs * run_len;
        let spread = _mm512_setr_epi64(0, 0, 0, 0, 1, 1, 1, 1);
        let mut acc = [[_mm512_setzero_si512(); BLOCKS]; PIXELS];
        let mut w = self.w;
        for run in 0..runs {
            // SAFETY: run `run` of the first patch.
            let x = unsafe { self.x.add(run * run_stride) };
            for k in (0..run_len / 8 * 8).step_by(8) {
                // SAFETY: groups k/4 and k/4 + 1 of the run, in each block: the caller's promise.
                let rows: [__m512i; BLOCKS] = core::array::from_fn(|b| unsafe {
                    _mm512_cvtepi8_epi16(_mm256_loadu_si256(w.add(b * block_len).cast()))
                });
                for (p, acc) in acc.iter_mut().enumerate() {
                    // SAFETY: elements k to k + 7 of the run of pixel p.
                    let elems = unsafe { _mm_loadu_si128(x.add(p * pixel_stride + k).cast()) };
                    let lanes = _mm512_permutexvar_epi64(spread, _mm512_broadcast_i32x4(elems));
                    for (acc, &row) in acc.iter_mut().zip(&rows) {
                        *acc = _mm512_dpwssd_epi32(*acc, lanes, row);
                    }
                }
                // SAFETY: at most one behind the block.
                w = unsafe { w.add(32) };
            }
            if !run_len.is_multiple_of(8) {
                // SAFETY: the run's last group, in each block.
                let rows: [__m512i; BLOCKS] = core::array::from_fn(|b| unsafe {
                    _mm512_zextsi256_si512(_mm256_cvtepi8_epi16(_mm_loadu_si128(w.add(b * block_len).cast())))
                });
                for (p, acc) in acc.iter_mut().enumerate() {
                    // SAFETY: the last four elements of the run of pixel p.
                    let group = unsafe { x.add(p * pixel_stride + run_len - 4).cast::<i64>().read_unaligned() };
                    let lanes = _mm512_set1_epi64(group);
                    for (acc, &row) in acc.iter_mut().zip(&rows) {
                        *acc = _mm512_dpwssd_epi32(*acc, lanes, row);
                    }
                }
                // SAFETY: at most one behind the block.
                w = unsafe { w.add(16) };
            }
        }
        let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
        for (p, acc) in acc.iter().enumerate() {
            let of = |b: usize| acc[b.min(BLOCKS - 1)];
            // Both groups' sums of two blocks: two a channel.
            let halves = |a: __m512i, b: __m512i| {
                let first = _mm512_shuffle_i32x4::<0b01_00_01_00>(a, b);
                _mm512_add_epi32(first, _mm512_shuffle_i32x4::<0b11_10_11_10>(a, b))
            };
            let [low, high] = [halves(of(0), of(1)), halves(of(2), of(3))];
            let each = |index| _mm512_permutex2var_epi32(low, index, high);
            let sums = _mm512_add_epi32(each(even), each(odd));
            // SAFETY: the channels of `lanes` of pixel p.
            unsafe { _mm512_mask_storeu_epi32(self.out.add(p * self.channels), self.lanes, sums) };
        }
    }
}
