//! The kernels: a table of row- and tile-sized functions, one implementation an instruction set.
//!
//! [`scalar`] is the definition of correct; every other table must give the same integers, compared with `==`. The
//! seam is whole rows and tiles, not lanes, because DSP, Helium and RVV bodies are `asm!` loops. Operators (`ops/`) are
//! safe code over the table and know no instruction set; [`select`] holds the only `cfg` that does.
//!
//! A convolution's input reaches its kernel as a [`Window`]: the input rows of a tile of output pixels, padded, in
//! scratch or, where nothing needs to be padded or converted, in the tensor itself. Nothing is copied once a tap
//! (im2col); a pixel's patch is a few runs of consecutive elements. Weights come in the format's blocks of four rows
//! ([`Encoding::I8`](crate::format::Encoding::I8)); `unpack_i4` makes them of int4 ones.
//!
//! Kernels assume nothing about alignment beyond the element's own, but of a convolution's weights, which lie at a multiple
//! of four. They accept every length including zero, and touch nothing outside the slices they are given. Sums of products wrap; the converter has proved that they do not need to.

#[cfg(isa = "aarch64")]
mod aarch64;
#[cfg(isa = "aarch64")]
mod aarch64_dot;
#[cfg(any(isa = "arm_dsp", isa = "arm_mve"))]
mod arm_dsp;
#[cfg(isa = "arm_mve")]
mod arm_mve;
#[cfg(isa = "arm_v6m")]
mod arm_v6m;
pub mod bytes;
pub mod compare;
pub mod constants;
#[cfg(any(isa = "riscv32", isa = "riscv_v"))]
mod riscv32;
#[cfg(isa = "riscv_v")]
mod riscv_v;
pub mod scalar;
pub mod scratch;
pub mod select;
pub mod tiling;
#[cfg(isa = "wasm_simd128")]
mod wasm_simd128;
pub mod winograd;
#[cfg(any(isa = "arm_v6m", isa = "riscv32", isa = "riscv_v"))]
mod words;
#[cfg(isa = "x86_64")]
mod x86_64;

use crate::format::{Quant, Row};
use crate::opset::{self, OpSet, links};
use crate::quant::{exp2_neg, multiplier, shift_for};
use crate::sampler::coefficients::Bounds;
pub use bytes::{ByteKernels, ByteLimits, Picture, Pixels};
use constants::{ConvOutput, ConvSource, GroupSource, NormSource};
use tiling::Widening;

/// Rows of a matrix: row i begins at `elems[i·stride]`.
#[derive(Clone, Copy, Debug)]
pub struct Strided<'a, T> {
    /// The first row, and what follows.
    pub elems: &'a [T],
    /// Elements from one row to the next.
    pub stride: usize,
}

/// The input of a tile of output pixels: pixel p's patch is `runs` runs of `run_len` elements, run r from
/// `elems[p·pixel_stride + r·run_stride]` on.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a, T> {
    /// The rows.
    pub elems: &'a [T],
    /// Runs of a patch.
    pub runs: usize,
    /// Elements of a run, a multiple of 4.
    pub run_len: usize,
    /// Elements from a run to the next.
    pub run_stride: usize,
    /// Elements from a pixel's patch to the next.
    pub pixel_stride: usize,
    /// How many elements more it is from a row's last patch to the next row's first: 0 but for kernels that take several rows
    /// ([`Kernels::takes_rows`]).
    pub row_gap: usize,
}

impl<T> Window<'_, T> {
    /// Pixels of an output row.
    pub(crate) fn row_pixels(&self) -> usize {
        self.run_stride.saturating_sub(self.run_len).checked_div(self.pixel_stride).unwrap_or(0).saturating_add(1)
    }

    /// Whether all elements of `pixels` patches, and the weights of `channels` output channels, are there: what a
    /// kernel that reads without bounds checks asks first.
    pub fn holds(&self, pixels: usize, channels: usize, weights: &[i8]) -> bool {
        let before = pixels.saturating_sub(1);
        let mut last = before.saturating_mul(self.pixel_stride);
        if select::TILING.is_host() && self.row_gap > 0 {
            last = last.saturating_add(before.checked_div(self.row_pixels()).unwrap_or(0).saturating_mul(self.row_gap));
        }
        let run = self.runs.saturating_sub(1).saturating_mul(self.run_stride);
        let patch = self.runs.saturating_mul(self.run_len);
        self.run_len.is_multiple_of(4)
            && last.saturating_add(run).saturating_add(self.run_len) <= self.elems.len()
            && channels.next_multiple_of(4).saturating_mul(patch) <= weights.len()
    }
}

/// Rows of an input among padding: a window's, for hosts.
#[derive(Clone, Copy, Debug)]
pub struct Frame<T> {
    /// Rows that are not padding as a whole.
    pub rows: usize,
    /// Elements of each that are the input's.
    pub len: usize,
    /// Elements from a row to the next in the input.
    pub stride: usize,
    /// Elements of padding before the first.
    pub before: usize,
    /// Elements of padding between two; all that is left follows the last.
    pub gap: usize,
    /// The padding.
    pub pad: T,
}

impl<T: Copy> Frame<T> {
    /// Whether so many elements take it, and so many give it.
    pub fn fits(&self, out_len: usize, elems_len: usize) -> bool {
        let before = self.rows.saturating_sub(1);
        let whole = self.len.saturating_add(self.gap).saturating_mul(before).saturating_add(self.len);
        let whole = if self.rows == 0 { 0 } else { whole };
        whole.saturating_add(self.before) <= out_len
            && (self.rows == 0 || self.stride.saturating_mul(before).saturating_add(self.len) <= elems_len)
    }

    /// Fills `out`; `load` is given each row, and the elements from its first on.
    #[inline(always)]
    pub(crate) fn fill<S>(&self, out: &mut [T], elems: &[S], load: impl Fn(&mut [T], &[S])) {
        let mut rest = out;
        let mut take = |len: usize| rest.split_off_mut(..len.min(rest.len())).unwrap_or_default();
        take(self.before).fill(self.pad);
        for row in 0..self.rows {
            load(take(self.len), elems.get(row * self.stride..).unwrap_or_default());
            take(self.gap).fill(self.pad);
        }
        rest.fill(self.pad);
    }
}

/// What Winograd's convolution of some tiles reads, [`Kernels::winograd_size`] output pixels each way each (2 behind an upsampling), and
/// where it may write meanwhile. All of it lies at multiples of 4 bytes.
#[derive(Debug)]
pub struct WinogradTile<'a> {
    /// Input rows, padded, `[size·rows + 2][size·columns + 2][in_c]`, `exchanged` or not; may be overwritten.
    pub window: &'a mut [i16],
    /// On hosts, whether the input has yet to be upsampled: the window is `[rows + 2][columns + 2][in_c]`, and of the four rows and
    /// columns of a tile those in the middle are equal, so that what belongs to their difference, 7 of 16 coefficients, is 0.
    pub upsampled: bool,
    /// Whether `values` are those of this window already, and the window perhaps not there: where the table's tiles have four pixels.
    pub known: bool,
    /// Input channels, a multiple of 4.
    pub in_c: usize,
    /// Rows of tiles: 1 where the table's tiles have two pixels.
    pub rows: usize,
    /// Tiles in a row, two at least where they have two pixels.
    pub columns: usize,
    /// What `winograd_weights` has made of the weights of all its channels.
    pub weights: &'a [i16],
    /// For [`Tiling::winograd_tiles`](tiling::Tiling::winograd_tiles) tiles, for each of
    /// [`Tiling::winograd_coefficients`](tiling::Tiling::winograd_coefficients) [`Tiling::winograd_row`](tiling::Tiling::winograd_row).
    pub values: &'a mut [i16],
    /// For as many, an element for each channel of [`Tiling::winograd_group`](tiling::Tiling::winograd_group).
    pub products: &'a mut [i32],
}

impl WinogradTile<'_> {
    /// Tiles, where all that is read for them is there and the weights of `channels` output channels, else 0: what a kernel that
    /// reads without bounds checks asks first. `size` pixels each way and `coefficients` are the kernel's.
    pub(crate) fn tiles(&self, channels: usize, size: usize, coefficients: usize) -> usize {
        let step = if self.upsampled { 1 } else { size };
        // On hosts what is beyond all numbers is not there; in firmware the checks would take 112 bytes.
        let times = |a: usize, b: usize| if select::TILING.is_host() { a.saturating_mul(b) } else { a * b };
        let [height, width] = [self.rows, self.columns].map(|tiles| times(step, tiles).saturating_add(2));
        let window = times(times(height, width), self.in_c);
        let groups = channels.div_ceil(select::TILING.winograd_group());
        let group_len = times(select::TILING.winograd_group() * coefficients, select::TILING.winograd_row(self.in_c));
        let weights = times(groups, group_len);
        let whole = self.in_c > 0 && self.in_c.is_multiple_of(4) && channels.is_multiple_of(4);
        if whole && window == self.window.len() && weights <= self.weights.len() { self.rows * self.columns } else { 0 }
    }
}

/// Constants of the channels of one convolution source.
#[derive(Clone, Copy, Debug)]
pub struct Channels<'a> {
    /// Added to the accumulator, `[out_c]`.
    pub bias: &'a [i32],
    /// Multipliers, `[out_c]`.
    pub multiplier: &'a [i32],
    /// Saturating left shift before the multiplication.
    pub shift: u32,
}

/// A residual that is added to an output as wide as itself: `mul_round((q − zero_point) << 16, multiplier)`.
#[derive(Clone, Copy, Debug)]
pub struct Residual<'a> {
    /// Its elements, placed as the output's are; `None` where they are what the output holds.
    pub elems: Option<&'a [i8]>,
    /// Its zero point.
    pub zero_point: i32,
    /// Its multiplier.
    pub multiplier: i32,
}

/// What becomes of the sums of a convolution's sources: [`Kernels::requantize`].
#[derive(Clone, Copy, Debug)]
pub struct Requantization<'a> {
    /// Constants of each source's channels, as many for the second where there is one.
    pub channels: [Channels<'a>; 2],
    /// What is added.
    pub residual: Option<Residual<'a>>,
    /// The output's zero point.
    pub zero_point: i32,
}

/// Constants of a group norm's application.
#[derive(Clone, Copy, Debug)]
pub struct NormConstants<'a> {
    /// Multipliers of the shifted element, `[c]`.
    pub multiplier: &'a [i32],
    /// Offsets with [`NORM_FRACTION_BITS`](crate::quant::NORM_FRACTION_BITS), rounding included, `[c]`.
    pub offset: &'a [i32],
    /// The source's zero point.
    pub zero_point: i32,
    /// The activation; empty for the identity.
    pub table: &'a [i16],
    /// On hosts, what this table's `norm_table` has made of it.
    pub results: [&'a [i8]; HOST],
    /// From table entries to the output's scale.
    pub out_multiplier: i32,
    /// The output's zero point.
    pub out_zero_point: i32,
}

/// Constants of a softmax: the distance below the maximum, in 1/256 nat, indexes `exp(−(64·i + j)/256) = coarse[i]·fine[j]`.
#[derive(Clone, Copy, Debug)]
pub struct Exponential<'a> {
    /// Saturating left shift of the distance, before the multiplication.
    pub shift: u32,
    /// From distances to indices.
    pub multiplier: i32,
    /// Of the index's bits 6 to 11, unsigned; 64 entries.
    pub coarse: &'a [u16],
    /// Of its bits 0 to 5, unsigned; 64 entries.
    pub fine: &'a [u16],
    /// Right shift of the product of both, 15 to 31.
    pub right: u32,
}

impl Exponential<'_> {
    /// Scores further below the maximum than this, in 1/256 nat, count as this far: exp(−16) = 1e-7.
    pub const INDEX_MAX: i32 = 4095;
}

/// Attention: [`Kernels::attend`].
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    /// Channels of all heads.
    pub c: usize,
    /// How many there are.
    pub heads: usize,
    /// Of keys and values.
    pub positions: usize,
    /// Queries, or some of them, keys and values, a position after the other.
    pub elems: [&'a [i8]; 3],
    /// What this table's `attend_pack` has made of keys and values.
    pub packed: &'a [i32],
    /// From scores to weights.
    pub exponential: Exponential<'a>,
    /// Of values and output.
    pub quants: [Quant; 2],
}

/// From a query's sum of weighted values to its output: `mul_round(shl_saturating(sum − zero, shift), multiplier)`.
#[derive(Clone, Copy, Debug)]
pub struct Factor {
    /// What the values' zero point adds to the sum.
    pub zero: i32,
    /// Saturating left shift.
    pub shift: u32,
    /// Multiplier behind it.
    pub multiplier: i32,
}

impl Attention<'_> {
    /// For a query with these weights together.
    #[inline(always)]
    pub fn factor(&self, total: i32) -> Factor {
        let [values, out] = self.quants;
        let real = values.scale / (out.scale * total as f32);
        let shift = shift_for(real);
        let zero = total.wrapping_mul(values.zero_point as i32);
        Factor { zero, shift, multiplier: multiplier(real * exp2_neg(shift)) }
    }

    /// An output element.
    #[inline(always)]
    pub fn output(&self, value: i32) -> i8 {
        value.saturating_add(self.quants[1].zero_point as i32).clamp(-128, 127) as i8
    }
}

/// Weights, totals, scores, what is taken off those, constants: [`Kernels::softmax_rows`].
pub type SoftmaxRows = fn(&mut [i16], &mut [i32], &[i32], &[i32], Exponential<'_>);

/// Outputs, channels a pixel of them, sums of each source, constants: [`Kernels::requantize`].
pub type Requantize = fn(&mut [i8], usize, [&mut [i32]; 2], Requantization<'_>);

/// The source; multipliers and offsets; weights and biases: [`Kernels::norm_constants`].
pub type NormConstantsOf = fn(NormSource, [&mut [i32]; 2], [&[f32]; 2]);

/// Where 1/σ and means go, \[mean, 1/σ\] of groups, channels of each: [`Kernels::spread`].
pub type Spread = fn([&mut [i32]; 2], &[[f32; 2]], usize);

/// Means and 1/σ, sums, what groups have in common: [`Kernels::group_stats`].
pub type GroupStatsOf = fn(&mut [[f32; 2]], &[[u64; 2]], GroupSource);

/// Totals, rows, channels a pixel, the first group's first, a group's channels: [`Kernels::sums_i8`].
pub type Sums<T> = fn(&mut [[u64; 2]], &[T], usize, usize, usize);

/// x, the model's output, a row, bounds of x₀: [`Kernels::update`].
pub type Update = fn(&mut [f32], &mut [f32], &Row, Bounds);

/// Results, entries, multiplier, zero point: [`Kernels::norm_table`].
pub type NormTable = fn(&mut [i8], &[i16], i32, i32);

/// Entries of a table that hosts alone have.
const HOST: usize = select::TILING.is_host() as usize;

/// One implementation of every kernel.
#[derive(Clone, Copy, Debug)]
pub struct Kernels {
    /// For people, such as `scalar` or `avx2`.
    pub name: &'static str,
    /// Whether windows of 8-bit inputs are widened when they are loaded, so that `conv_i16` serves both. Counts where
    /// the build leaves it to the table ([`Widening::ByTable`](tiling::Widening)).
    pub wide: bool,
    /// Whether the two in the middle of each group of four of a 16-bit window are exchanged: in the order 0, 2, 1, 3 a word
    /// of inputs meets a word of weights that `SXTB16` has widened.
    pub exchanged: bool,
    /// Loads 8-bit elements into an 8-bit window.
    pub copy: fn(out: &mut [i8], elems: &[i8]),
    /// Loads 8-bit elements into a 16-bit window, `exchanged` or not; whole groups of four.
    pub widen: fn(out: &mut [i16], elems: &[i8]),
    /// Loads rows of 8-bit elements and the padding around them into an 8-bit window, for hosts.
    pub frame_i8: fn(out: &mut [i8], elems: &[i8], frame: Frame<i8>),
    /// As `frame_i8`, into a 16-bit window.
    pub frame_i16: fn(out: &mut [i16], elems: &[i8], frame: Frame<i16>),
    /// Loads 16-bit elements into a window, `exchanged` or not; whole groups of four.
    pub load: fn(out: &mut [i16], elems: &[i16]),
    /// What `conv_i8` adds to every input element: 128 where the instruction takes unsigned bytes, else 0. The operator
    /// takes it back with the zero point, so it costs nothing.
    pub offset: i32,
    /// `out[p·channels + c] = Σₖ (patch_p[k] + offset)·weights_c[k]`; `out` is a whole number of pixels.
    pub conv_i8: fn(out: &mut [i32], channels: usize, window: Window<'_, i8>, weights: &[i8]),
    /// As `conv_i8` for a 16-bit window, `exchanged` or not, without an offset.
    pub conv_i16: fn(out: &mut [i32], channels: usize, window: Window<'_, i16>, weights: &[i8]),
    /// Whether `conv_i8` and `conv_i16` take windows of several rows ([`Window::row_gap`]): hosts only.
    pub takes_rows: bool,
    /// Input channels from which an upsampling convolution is faster as the sum of its taps' products, where scratch has room for
    /// them ([`Tiling::tap_bytes`](tiling::Tiling::tap_bytes)).
    pub taps_from: usize,
    /// A row of an upsampling convolution from products with its taps: `rows` holds the products that kernel rows 0 to 2
    /// read, `[w + 2][channels / 4][9][4]` each, and `out[x·channels + c]` is the sum over ky and kx of tap 3·ky + kx of
    /// pixel (x + kx + 1) / 2 of row ky.
    pub sum_taps: fn(out: &mut [i32], channels: usize, rows: [&[i32]; 3]),
    /// Input channels from which a 3×3 convolution is faster by Winograd's algorithm.
    pub winograd_from: usize,
    /// Output pixels from which it is, on hosts: with fewer the weights' transformation takes longer than is saved.
    pub winograd_pixels: usize,
    /// Input channels from which an upsampling convolution is faster by taps than by Winograd's algorithm.
    pub winograd_up_to: usize,
    /// Output pixels of a tile, each way: 2, or 4 on hosts, and then several rows of tiles may come at once.
    pub winograd_size: usize,
    /// Weights of [`Tiling::winograd_blocks`](tiling::Tiling::winograd_blocks) times four output channels, or those that are left, as they
    /// lie in the file (`[9][in_c / 4][4][4]` each), transformed for a picture that has yet to be `upsampled` or not: from block `block`
    /// of `out` on, in an order that only this table's `winograd` knows. More may follow in `codes`.
    pub winograd_weights: fn(out: &mut [i16], block: usize, codes: &[i8], in_c: usize, upsampled: bool),
    /// Sums of rows of pixels, `[size·rows][size·columns][channels]`, those of a direct convolution, exactly.
    pub winograd: fn(out: &mut [i32], channels: usize, tile: WinogradTile<'_>),
    /// Four rows of int4 weights to int8 ([`Encoding::I4`](crate::format::Encoding::I4)): `out` takes twice the bytes of
    /// `nibbles`, whole blocks; `scales` holds four a group, or nothing.
    pub unpack_i4: fn(out: &mut [i8], nibbles: &[u8], scales: &[u16], group_len: usize),
    /// `out[j] = Σₖ row[k]·rows[j][k]`, k below the row's length: one row against many.
    pub dot_i8: fn(out: &mut [i32], row: &[i8], rows: Strided<'_, i8>),
    /// `acc = mul_round(shl_saturating(acc + bias, shift), multiplier)`, pixel by pixel.
    pub scale: fn(acc: &mut [i32], channels: Channels<'_>),
    /// A residual: `acc += mul_round((q − zero_point) << 16, multiplier)`.
    pub add_i8: fn(acc: &mut [i32], elems: &[i8], zero_point: i32, multiplier: i32),
    /// As `add_i8` for 16-bit elements, shifted by 8.
    pub add_i16: fn(acc: &mut [i32], elems: &[i16], zero_point: i32, multiplier: i32),
    /// `q = clamp(q_zero + (acc + 8 >> 4))` to int8.
    pub store_i8: fn(out: &mut [i8], acc: &[i32], zero_point: i32),
    /// `out = quantize(x·mul + add)`, for hosts.
    pub quantize: fn(out: &mut [i8], x: &[f32], affine: [f32; 2], quant: Quant),
    /// On hosts, a row's update of the sample without noise and history: x and the model's output become x' and x₀.
    pub update: [Update; HOST],
    /// [`constants::conv`], for hosts.
    pub conv_constants: fn(sources: &mut [ConvSource<'_>], output: ConvOutput) -> u32,
    /// A group's 1/σ and mean, of `stats` of \[mean, 1/σ\], their bits, to each of its `group_c` channels. For hosts.
    pub spread: Spread,
    /// A pointwise table's entries times `out_multiplier`, plus `out_zero_point`, in an order that only this table's `norm_i8` and `norm_i16`
    /// know: [`Tiling::norm_table`](tiling::Tiling::norm_table) bytes. For hosts.
    pub norm_table: [NormTable; HOST],
    /// [`constants::norm`], for hosts.
    pub norm_constants: NormConstantsOf,
    /// `scale` of each source's sums, `add_i8` and `store_i8` in one pass, for hosts
    /// ([`Tiling::is_host`](tiling::Tiling::is_host)): channel c of pixel p goes to `out[p·out_c + c]`. The sums,
    /// `[pixels][channels]`, none of a second source that is not there, are left as whatever.
    pub requantize: Requantize,
    /// Convolutions from pixels to bytes, where there are such kernels. For hosts.
    pub byte_kernels: Option<&'static ByteKernels>,
    /// Adds Σq (with a sign) and Σq² to every group's total, exactly: of `group_c` channels of each pixel from `first` on, then of
    /// as many behind them. `row` is a row or several.
    pub sums_i8: Sums<i8>,
    /// As `sums_i8` for 16-bit elements.
    pub sums_i16: Sums<i16>,
    /// [`constants::group_stats`]: hosts only.
    pub group_stats: GroupStatsOf,
    /// A group norm's application to one pixel after the other: `src` holds `src_c` channels a pixel, `out` holds
    /// `out_c`, of which the first `src_c` of each pixel are written.
    pub norm_i8: fn(out: &mut [i8], out_c: usize, src: &[i8], src_c: usize, constants: NormConstants<'_>),
    /// As `norm_i8` for 16-bit elements.
    pub norm_i16: fn(out: &mut [i8], out_c: usize, src: &[i16], src_c: usize, constants: NormConstants<'_>),
    /// Scores to softmax weights, `coarse[i >> 6]·fine[i & 63] >> right` where
    /// `i = clamp(mul_round(shl_saturating(max − score, shift), multiplier), 0, 4095)`; returns their sum.
    pub softmax: fn(scores: &mut [i32], constants: Exponential<'_>) -> i32,
    /// As `softmax` for several queries, a row of `scores` each, as long as `added`, which is taken off every one before;
    /// entries below 2¹⁵. A row of `weights` is as long, rounded up to a multiple of four, with zeros behind; `totals` gets
    /// their sums. Where scratch has room for it ([`Tiling::score_bytes`](tiling::Tiling::score_bytes)), this stands
    /// for `softmax`, and convolutions for `dot_i8` and `mix_i8`.
    pub softmax_rows: SoftmaxRows,
    /// Keys and values of `[channels, heads]` in an order that only this table's `attend` knows, where it wants one
    /// ([`AttendScratch`](scratch::AttendScratch) says how long it is).
    pub attend_pack: fn(packed: &mut [i32], keys_and_values: [&[i8]; 2], sizes: [usize; 2]),
    /// All of attention, for some queries: where it is a kernel ([`Tiling::attends`](tiling::Tiling::attends)), this stands for `softmax_rows`
    /// and what goes with it.
    pub attend: fn(out: &mut [i8], scratch: &mut [i32], attention: Attention<'_>),
    /// `out[c] = Σⱼ weights[j]·rows[j][c]`, weights from 0 to 2¹⁵ − 1.
    pub mix_i8: fn(out: &mut [i32], weights: &[i32], rows: Strided<'_, i8>),
}

impl Kernels {
    /// The table with only what the operators of a set call; the other entries do nothing. For builds whose instruction
    /// set is known, where a table in flash would link every kernel.
    pub const fn linked(self, ops: OpSet) -> Kernels {
        let narrow = links(ops, opset::CONV_I8);
        let widened = narrow && !matches!(select::TILING.widening, Widening::Never);
        let mut table = self;
        if !narrow || matches!(select::TILING.widening, Widening::Always) {
            table.conv_i8 = |_, _, _, _| {};
            table.copy = |_, _| {};
        }
        if !widened {
            table.widen = |_, _| {};
        }
        if !links(ops, opset::CONV_I16) {
            table.load = |_, _| {};
            if !widened {
                table.conv_i16 = |_, _, _, _| {};
            }
        }
        if !links(ops, opset::CONV_UPSAMPLED) || select::TILING.tap_bytes() == 0 {
            table.sum_taps = |_, _, _| {};
        }
        if !links(ops, opset::WINOGRAD) || select::TILING.winograd == 0 {
            table.winograd_weights = |_, _, _, _, _| {};
            table.winograd = |_, _, _| {};
        }
        if !links(ops, opset::WEIGHTS_I4) {
            table.unpack_i4 = |_, _, _, _| {};
        }
        let attention = links(ops, opset::ATTENTION);
        if !attention || select::TILING.score_bytes() > 0 || select::TILING.attends() {
            table.dot_i8 = |_, _, _| {};
            table.softmax = |_, _| 0;
            table.mix_i8 = |_, _, _| {};
        }
        if !attention || select::TILING.score_bytes() == 0 {
            table.softmax_rows = |_, _, _, _, _| {};
        }
        if !attention || !select::TILING.attends() {
            table.attend_pack = |_, _, _| {};
            table.attend = |_, _, _| {};
        }
        if !select::TILING.is_host() {
            table.frame_i8 = |_, _, _| {};
            table.frame_i16 = |_, _, _| {};
            table.requantize = |_, _, _, _| {};
            table.quantize = |_, _, _, _| {};
            table.conv_constants = |_, _| 0;
            table.spread = |_, _, _| {};
            table.norm_constants = |_, _, _| {};
            table.group_stats = |_, _, _| {};
        }
        if !links(ops, opset::RESIDUAL) {
            table.add_i8 = |_, _, _, _| {};
        }
        if !links(ops, opset::RESIDUAL_I16) {
            table.add_i16 = |_, _, _, _| {};
        }
        if !links(ops, opset::NORM) {
            table.sums_i8 = |_, _, _, _, _| {};
            table.norm_i8 = |_, _, _, _, _| {};
        }
        if !links(ops, opset::NORM_I16) {
            table.sums_i16 = |_, _, _, _, _| {};
            table.norm_i16 = |_, _, _, _, _| {};
        }
        table
    }
}
