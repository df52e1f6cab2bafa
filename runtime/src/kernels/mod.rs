//! The kernels: a table of row- and tile-sized functions, one implementation an instruction set.
//!
//! [`scalar`] is the definition of correct; every other table must give the same integers, compared with `==`. The
//! seam is whole rows and tiles, not lanes, because DSP, Helium and RVV bodies are `asm!` loops. Operators (`ops/`) are
//! safe code over the table and know no instruction set; [`select`] holds the only `cfg` that does.
//!
//! Kernels assume nothing about alignment beyond the element's own, accept every length including zero, and touch
//! nothing outside the slices they are given. Sums of products wrap; the converter has proved that they do not need to.

pub mod scalar;
pub mod scratch;
pub mod select;

/// Rows of a matrix: row i begins at `elems[i·stride]`.
#[derive(Clone, Copy, Debug)]
pub struct Strided<'a, T> {
    /// The first row, and what follows.
    pub elems: &'a [T],
    /// Elements from one row to the next.
    pub stride: usize,
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
    /// From table entries to the output's scale.
    pub out_multiplier: i32,
    /// The output's zero point.
    pub out_zero_point: i32,
}

/// One implementation of every kernel.
#[derive(Clone, Copy, Debug)]
pub struct Kernels {
    /// For people, such as `scalar` or `avx2`.
    pub name: &'static str,
    /// `out[p·channels + c] = Σₖ patches[p][k]·weights[c][k]`, k below `len`; `out` is a whole number of pixels.
    pub dot_i8: fn(out: &mut [i32], channels: usize, patches: Strided<'_, i8>, weights: Strided<'_, i8>, len: usize),
    /// As `dot_i8` for 16-bit activations.
    pub dot_i16: fn(out: &mut [i32], channels: usize, patches: Strided<'_, i16>, weights: Strided<'_, i8>, len: usize),
    /// `acc = mul_round(shl_saturating(acc + bias, shift), multiplier)`, pixel by pixel.
    pub scale: fn(acc: &mut [i32], channels: Channels<'_>),
    /// `q = clamp(q_zero + (acc + 8 >> 4))` to int8.
    pub store_i8: fn(out: &mut [i8], acc: &[i32], zero_point: i32),
    /// Σq and Σq² of `group_c` consecutive channels of each pixel, exact.
    pub sums_i8: fn(row: &[i8], channels: usize, first: usize, group_c: usize) -> (i64, u64),
    /// As `sums_i8` for 16-bit elements.
    pub sums_i16: fn(row: &[i16], channels: usize, first: usize, group_c: usize) -> (i64, u64),
    /// A group norm's application to one pixel after the other: `src` holds `src_c` channels a pixel, `out` holds
    /// `out_c`, of which the first `src_c` of each pixel are written.
    pub norm_i8: fn(out: &mut [i8], out_c: usize, src: &[i8], src_c: usize, constants: NormConstants<'_>),
    /// As `norm_i8` for 16-bit elements.
    pub norm_i16: fn(out: &mut [i8], out_c: usize, src: &[i16], src_c: usize, constants: NormConstants<'_>),
    /// `acc[c] += weight·values[c]`.
    pub axpy_i8: fn(acc: &mut [i32], weight: i32, values: &[i8]),
}
