//! Convolutions from pixels to bytes, or floats, in one call: what a host's table may have besides the kernels of the others.
//!
//! A table of its own, because firmware has none of it: as fields of [`Kernels`](super::Kernels) they were four words more there.

use super::{Channels, Requantization, WinogradTile};

/// Outputs, channels a pixel of them, input, weights, constants: [`ByteKernels::conv_bytes`].
pub type ConvBytes = fn(&mut [i8], usize, Picture<'_>, &[i8], Requantization<'_>);

/// Outputs, input, weights, constants: [`ByteKernels::conv_f32`].
pub type ConvF32 = fn(&mut [f32], Picture<'_>, &[i8], Channels<'_>);

/// What a convolution of some rows reads, of any number of channels.
#[derive(Clone, Copy, Debug)]
pub struct Picture<'a> {
    /// All of the tensor.
    pub elems: &'a [i8],
    /// Its rows, pixels of each, and channels.
    pub size: [usize; 3],
    /// What stands around it.
    pub zero_point: i8,
    /// Rows and pixels of a patch.
    pub kernel: [usize; 2],
    /// Rows and pixels from one patch to the next.
    pub stride: usize,
    /// The row and the pixel at which the first patch begins, which may be padding.
    pub from: [isize; 2],
    /// Output rows and pixels of each.
    pub out: [usize; 2],
}

/// A source of a 1×1 convolution: pixels as they lie, and weights.
#[derive(Clone, Copy, Debug)]
pub struct Pixels<'a> {
    /// Pixels, one behind the other.
    pub elems: &'a [i8],
    /// Elements of each.
    pub c: usize,
    /// Weights, as a convolution's.
    pub weights: &'a [i8],
}

/// Outputs, channels a pixel of them, sources, constants: [`ByteKernels::conv_pixels`].
pub type ConvPixels = fn(&mut [i8], usize, [Pixels<'_>; 2], Requantization<'_>);

/// Outputs, channels a pixel of them, input, tiles, constants: [`ByteKernels::winograd_bytes`].
pub type WinogradBytes = fn(&mut [i8], usize, Picture<'_>, WinogradTile<'_>, Requantization<'_>);

/// Convolutions from pixels to bytes, or floats, in one pass.
#[derive(Clone, Copy, Debug)]
pub struct ByteKernels {
    /// What they are for.
    pub limits: ByteLimits,
    /// The output of one source's convolution, as `conv_i8` and `requantize` make it.
    pub conv_bytes: ConvBytes,
    /// As `conv_bytes`, of a 3×3 convolution padded by one of the picture upsampled to twice its size, whose rows and pixels `from` counts.
    pub conv_up_bytes: ConvBytes,
    /// The output of up to four channels as floats, `(sum + bias)·scale`, whose scales are the multipliers' bits: for [`ByteLimits::has_f32`].
    pub conv_f32: ConvF32,
    /// The output of two sources' 1×1 convolution without a residual, as `conv_i8` and `requantize` make it: for [`ByteLimits::has_pixels`].
    pub conv_pixels: ConvPixels,
    /// The output of whole tiles of 4×4 pixels, from the picture's `from` on, as `winograd` and `requantize` make it; the output's rows have as many
    /// pixels as the picture's `out` says. For [`ByteLimits::has_winograd`]. The tiles' window is not read, and their values are made anew.
    pub winograd_bytes: WinogradBytes,
}

/// What [`ByteKernels`] are for.
#[derive(Clone, Copy, Debug)]
pub struct ByteLimits {
    /// Elements of the longest patch.
    pub patch: usize,
    /// Of the longest one where channels are no whole groups of four.
    pub odd_patch: usize,
    /// Of the longest one where the output is floats.
    pub f32_patch: usize,
    /// Elements of the rows of a call, padded.
    pub window: usize,
    /// Pixels from which it pays.
    pub pixels: usize,
    /// Output channels up to which it is faster than Winograd's algorithm.
    pub channels: usize,
    /// Pixels of the longest row that is upsampled.
    pub up_width: usize,
    /// The most channels that it has.
    pub up_channels: usize,
}

impl ByteLimits {
    /// The most input channels of which floats are made.
    pub const F32_CHANNELS: usize = 256;

    /// Whether floats of so many channels are made of so many, so far apart.
    pub const fn has_f32(out_c: usize, c: usize, stride: usize) -> bool {
        out_c <= 4 && stride == 1 && c <= Self::F32_CHANNELS && (c == 16 || c == 32 || c > 0 && c.is_multiple_of(64))
    }

    /// Whether Winograd's algorithm goes from so many channels to so many: those whose sums have 26 bits, and whole vectors.
    pub const fn has_winograd(c: usize, out_c: usize) -> bool {
        16 <= c && c <= 224 && c.is_multiple_of(4) && out_c > 0 && out_c.is_multiple_of(16)
    }

    /// The most input channels of both sources together that `conv_pixels` takes.
    pub const PIXELS_C: usize = 512;

    /// Whether it takes pixels of so many elements.
    pub const fn has_pixels(c: [usize; 2]) -> bool {
        c[0] > 0
            && c[1] > 0
            && c[0].is_multiple_of(4)
            && c[1].is_multiple_of(4)
            && c[0].saturating_add(c[1]) <= Self::PIXELS_C
    }
}
