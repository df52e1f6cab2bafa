//! What each instruction set's kernels ask of scratch, and the cores that have them.
//!
//! Apart from `scratch`, which lays it out, because these are numbers that measurements decided.

use super::scratch::COEFFICIENTS;
use crate::format::op::{Conv, Table};
use crate::format::tensor::Tensor;

/// What an instruction set's kernels ask of scratch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiling {
    /// Output pixels of a convolution tile.
    pub pixels: usize,
    /// Element type of windows over 8-bit inputs.
    pub widening: Widening,
    /// Bytes for the weights that are unpacked at a time (four channels in any case). The fewer, the more often a window
    /// is loaded, once for each such group of channels.
    pub unpacked: usize,
    /// Bytes for the weights that Winograd's convolution transforms at a time (four channels in any case); 0 where it is not
    /// used. The fewer, the more often the input is transformed.
    pub winograd: usize,
}

impl Tiling {
    /// Whether this is a host's, where memory and code need no thrift: sums become int8 in one pass
    /// ([`Kernels::requantize`](super::Kernels::requantize)), tiles have several rows ([`Tiling::rows`]).
    pub const fn is_host(self) -> bool {
        self.pixels >= 32
    }

    /// Bytes that a group norm in place copies at a time, a row at least: hosts spare a kernel's set-up for every row.
    pub(super) const fn norm_copy(self) -> usize {
        if self.is_host() { 16 << 10 } else { 0 }
    }

    /// Whether Winograd's convolution is used wherever it can be, whether the file says so or not: hosts have the memory.
    pub const fn winograd_always(self) -> bool {
        self.winograd > 0 && self.is_host()
    }

    /// Output channels that Winograd's convolution takes at a time, within those of a pass.
    pub const fn winograd_group(self) -> usize {
        if self.is_host() { 16 } else { 4 }
    }

    /// Blocks of four output channels whose weights it transforms at a time: a vector's.
    pub const fn winograd_blocks(self) -> usize {
        self.winograd_group() / 4
    }

    /// Output pixels of a row that it takes at a time.
    pub const fn winograd_width(self) -> usize {
        if self.is_host() { 32 } else { self.pixels }
    }

    /// Tiles that it takes at a time.
    pub const fn winograd_tiles(self) -> usize {
        if self.is_host() { 16 } else { 2 }
    }

    /// Output pixels of the largest tile, each way.
    pub(super) const fn winograd_size(self) -> usize {
        if self.is_host() { 4 } else { 2 }
    }

    /// Coefficients of the largest tile.
    pub const fn winograd_coefficients(self) -> usize {
        if self.is_host() { 36 } else { COEFFICIENTS }
    }

    /// Rows of tiles of `size` pixels that it takes at a time of such an output.
    pub const fn winograd_rows(self, out: &Tensor, size: usize) -> usize {
        let w = out.w as usize;
        let columns = if w < self.winograd_width() { w } else { self.winograd_width() }.div_ceil(size);
        let rows = (out.h as usize).div_ceil(size);
        match self.winograd_tiles().checked_div(columns) {
            Some(fit) if fit > 1 && self.winograd_always() => {
                if fit < rows {
                    fit
                } else {
                    rows
                }
            }
            _ => 1,
        }
    }

    /// Elements from one of Winograd's coefficients to the next, for a channel or a tile with `in_c` inputs. On hosts four more than there
    /// are: where `in_c` is a power of two, all 16 coefficients would share a set of the first cache, which has twelve or eight ways, and
    /// the 3×3 convolutions of a net of 6.2 G multiply-adds take 1.25 times as long.
    pub const fn winograd_row(self, in_c: usize) -> usize {
        if self.is_host() { in_c.saturating_add(4) } else { in_c }
    }

    /// Bytes that its parts are aligned to: on hosts a line of the cache, so that no vector of 512 bits lies in two, which takes 3×3
    /// convolutions of 16 to 64 channels 1.07 to 1.2 times as long.
    pub const fn winograd_align(self) -> usize {
        if self.is_host() { 64 } else { Tensor::ALIGN }
    }

    /// Bytes of what [`Kernels::norm_table`](super::Kernels::norm_table) makes of a pointwise table: its entries' results, and a line of the cache
    /// more, on hosts.
    pub const fn norm_table(self) -> usize {
        if self.is_host() { Table::LEN + 64 } else { 0 }
    }

    /// Parts of the rows that a group norm sums apart: on a host several threads may take them.
    pub const fn norm_parts(self) -> usize {
        if self.is_host() { 4 } else { 1 }
    }

    /// Rows of a convolution's tile: on a host as many whole rows of the output as are no more pixels than a tile's, and have a window
    /// no larger. The rows that theirs share are loaded once.
    pub const fn rows(self, op: &Conv, out: &Tensor) -> usize {
        let [kh, kw, stride] = [op.kernel[0] as usize, op.kernel[1] as usize, op.stride as usize];
        let w = out.w as usize;
        if !self.is_host() || w == 0 {
            return 1;
        }
        let most = kh * ((self.pixels - 1) * stride + kw);
        let mut rows = self.pixels / w;
        while rows > 1 && ((rows - 1) * stride + kh) * ((w - 1) * stride + kw) > most {
            rows -= 1;
        }
        if rows > 1 { rows } else { 1 }
    }

    /// Bytes for the products of an upsampling convolution's taps; 0 for none, where it is done as any other.
    pub const fn tap_bytes(self) -> usize {
        if self.is_host() { 32 << 10 } else { 0 }
    }

    /// Whether all of attention is a kernel ([`Kernels::attend`](super::Kernels::attend)): x86-64's, whose build has several tables.
    pub const fn attends(self) -> bool {
        matches!(self.widening, Widening::ByTable)
    }

    /// Bytes of an attention's scores, some queries at a time; 0 for one query at a time, or where all of it is a kernel.
    pub const fn score_bytes(self) -> usize {
        if self.is_host() && !self.attends() { 96 << 10 } else { 0 }
    }
}

/// Whether windows over 8-bit inputs hold 16-bit elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Widening {
    /// They hold 8-bit elements.
    Never,
    /// They hold 16-bit elements, whatever the table.
    Always,
    /// The table says so; scratch is sized for 16 bits.
    ByTable,
}

/// The portable tiling: few pixels, so that the window is small.
pub const SCALAR: Tiling = Tiling { pixels: 4, widening: Widening::Never, unpacked: 8 << 10, winograd: 0 };

/// x86-64: a row of most pictures at once, or several, since a host has the memory: with 32 pixels, nets of 16 M and 250 M multiply-adds
/// take 1.03 times as long (`avx512vnni`), with 128 as long. One build has tables of either kind of window. Winograd's
/// weights are 32 channels of 512 inputs, two vectors of AVX-512: of a net of 6.2 G a step takes 1.05 times as long with 832 KB, whose passes have
/// sixteen of them.
pub const X86_64: Tiling =
    Tiling { pixels: 64, widening: Widening::ByTable, unpacked: 64 << 10, winograd: 1_216 << 10 };

/// aarch64: NEON multiplies 8 bits.
pub const AARCH64: Tiling = Tiling { pixels: 32, widening: Widening::Never, unpacked: 64 << 10, winograd: 0 };

/// WebAssembly's vectors multiply 16 bits.
pub const WASM: Tiling = Tiling { pixels: 32, widening: Widening::Always, unpacked: 64 << 10, winograd: 0 };

/// Cortex-M0+: pairs of pixels are joined from 8 bits.
pub const ARM_V6M: Tiling = Tiling { pixels: 8, widening: Widening::Never, unpacked: 8 << 10, winograd: 0 };

/// Cortex-M4, M7, M33: SMLAD multiplies 16 bits, two pixels at a time.
pub const ARM_DSP: Tiling = Tiling { pixels: 8, widening: Widening::Always, unpacked: 8 << 10, winograd: 16 << 10 };

/// Cortex-M55, M85: Helium multiplies 8 bits.
pub const ARM_MVE: Tiling = Tiling { pixels: 8, widening: Widening::Never, unpacked: 8 << 10, winograd: 0 };

/// RV32IM: pairs of pixels are joined from 8 bits.
pub const RISCV32: Tiling = Tiling { pixels: 8, widening: Widening::Never, unpacked: 8 << 10, winograd: 0 };

/// RISC-V with vectors: they multiply 8 bits, along a run.
pub const RISCV_V: Tiling = Tiling { pixels: 8, widening: Widening::Never, unpacked: 8 << 10, winograd: 0 };

/// A core, by the name that `converter --target` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name, in lower case.
    pub name: &'static str,
    /// What the kernels ask that `select` chooses there.
    pub tiling: Tiling,
}

/// Every core with kernels of its own, and those that run the portable ones; the first stands for any.
pub const TARGETS: [Target; 12] = [
    Target { name: "portable", tiling: SCALAR },
    Target { name: "m0plus", tiling: ARM_V6M },
    Target { name: "m3", tiling: SCALAR },
    Target { name: "m4", tiling: ARM_DSP },
    Target { name: "m7", tiling: ARM_DSP },
    Target { name: "m33", tiling: ARM_DSP },
    Target { name: "m55", tiling: ARM_MVE },
    Target { name: "rv32", tiling: RISCV32 },
    Target { name: "rvv", tiling: RISCV_V },
    Target { name: "aarch64", tiling: AARCH64 },
    Target { name: "wasm", tiling: WASM },
    Target { name: "x86_64", tiling: X86_64 },
];
