//! Scratch sizes, from the one definition that the operators use to lay their scratch out.
//!
//! Scratch begins at an operator's live end; no size is stored in a file, because it depends on the instruction set.

use super::tiling::{Tiling, Widening};
use crate::format::cursor::tail;
use crate::format::op::{Attention, Conv, NormApply, NormStats, Op};
use crate::format::tensor::{DType, NONE, Tensor, Weights};
use crate::shape::winograd_fits;

/// Rounds up to the alignment of arena tensors.
pub const fn align(bytes: usize) -> usize {
    bytes.next_multiple_of(Tensor::ALIGN)
}

/// Byte lengths of the parts of a convolution's scratch, each a multiple of 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvScratch {
    /// Per source: i32 bias `[out_c]`, i32 multiplier (or the bits of an f32 scale) `[out_c]`, the shift.
    pub constants: usize,
    /// The window of the larger source; 0 where the input's rows serve as they are.
    pub window: usize,
    /// Unpacked weights of `channels` output channels, for each source; 0 where they are int8 in the file.
    pub weights: [usize; 2],
    /// i32 accumulators, `pixels` × `channels` for each source.
    pub accumulators: usize,
    /// i32 products of two rows and a pixel of padding with each tap, of `tap_channels` output channels, and an input row,
    /// widened; 0 where the operator is not one that upsamples, or this core has no room for them.
    pub taps: usize,
    /// Output channels of a pass over the pixels where it is done by taps.
    pub tap_channels: usize,
    /// Output channels of any other pass: all, or those whose weights are unpacked.
    pub channels: usize,
    /// The parts that take the others' place where it is done by Winograd's algorithm.
    pub winograd: WinogradScratch,
}

/// Byte lengths of the parts of the scratch of Winograd's convolution, each a multiple of 16; all 0 where it is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WinogradScratch {
    /// Output channels of a pass over the pixels.
    pub channels: usize,
    /// What may lie before them, so that they are aligned.
    pub before: usize,
    /// Their weights, transformed: i16.
    pub weights: usize,
    /// Unpacked weights of the output channels that are transformed at a time; 0 where they are int8 in the file.
    pub codes: usize,
    /// The input below some tiles: i16.
    pub window: usize,
    /// Tiles of the input, transformed: i16.
    pub values: usize,
    /// Their products with the weights of a group of channels: i32.
    pub products: usize,
    /// i32 sums of their pixels, `channels` of each.
    pub sums: usize,
}

/// Pixels from which a host uses Winograd's algorithm unasked: with 4×4, of 256 channels, it takes 1.26 times as long as
/// direct convolution, because of the weights' transformation; with 8×8 direct convolution takes 1.4 times as long. Behind an
/// upsampling to 8×8, of 256 channels, 0.74 times as long as by taps.
const WINOGRAD_PIXELS: usize = 64;

/// Coefficients of a tile of 2×2 pixels, and of a channel's weights, that Winograd's convolution multiplies: 4×4.
pub const COEFFICIENTS: usize = 16;

impl WinogradScratch {
    const NONE: WinogradScratch =
        WinogradScratch { channels: 0, before: 0, weights: 0, codes: 0, window: 0, values: 0, products: 0, sums: 0 };

    const fn new(op: &Conv, input: &Tensor, out: &Tensor, packed: bool, tiling: Tiling) -> WinogradScratch {
        let large = out.h as usize * out.w as usize >= WINOGRAD_PIXELS;
        let always = tiling.winograd_always() && large && winograd_fits(op, input, out);
        if tiling.winograd == 0 || !(op.winograd || always) {
            return WinogradScratch::NONE;
        }
        let c = input.c as usize;
        let upsampled = tiling.winograd_always() && op.upsample;
        let (size, coefficients) = match upsampled {
            true => (2, COEFFICIENTS),
            false => (tiling.winograd_size(), tiling.winograd_coefficients()),
        };
        let row = coefficients * tiling.winograd_row(c) * 2;
        let (group, tiles) = (tiling.winograd_group(), tiling.winograd_tiles());
        let channels = match tiling.winograd.checked_div(row) {
            Some(fit) => fewer(out.c as usize, if fit > group { fit } else { group }),
            None => 0,
        };
        let step = if upsampled { 1 } else { size };
        let rows = tiling.winograd_rows(out, size);
        let mut pixels = tiling.winograd_width();
        if tiling.winograd_always() && (out.w as usize) < pixels {
            pixels = out.w as usize;
        }
        let columns = pixels.div_ceil(size);
        let to = tiling.winograd_align();
        WinogradScratch {
            channels,
            before: to - Tensor::ALIGN,
            weights: (channels.next_multiple_of(group) * row).next_multiple_of(to),
            codes: if packed { (4 * tiling.winograd_blocks() * patch_len(op, input)).next_multiple_of(to) } else { 0 },
            window: ((step * rows + 2) * (step * columns + 2) * c * 2).next_multiple_of(to),
            values: (tiles * row).next_multiple_of(to),
            products: (tiles * coefficients * group * 4).next_multiple_of(to),
            sums: (size * rows * size * columns * channels * 4).next_multiple_of(to),
        }
    }

    const fn len_bytes(&self) -> usize {
        self.before + self.weights + self.codes + self.window + self.values + self.products + self.sums
    }
}

/// Taps of a 3×3 convolution.
pub const TAPS: usize = 9;

/// Whether an upsampling convolution is the sum of its taps' products: 3×3, padded by one, in groups of four.
const fn by_taps(op: &Conv, input: &Tensor, out: &Tensor, tiling: Tiling) -> bool {
    // A row of the output is one tile.
    let fits = out.w as usize <= tiling.pixels;
    tiling.tap_bytes() > 0 && op.upsample && winograd_fits(op, input, out) && fits
}

impl ConvScratch {
    /// The parts for these tensors; `second` is ignored unless the operator has two sources. `packed` says of each
    /// source's weights whether they are unpacked ([`Encoding::is_packed`](crate::format::Encoding::is_packed)).
    pub const fn new(
        op: &Conv,
        first: &Tensor,
        second: &Tensor,
        out: &Tensor,
        packed: [bool; 2],
        tiling: Tiling,
    ) -> ConvScratch {
        let two = op.sources[1] != NONE;
        let out_c = out.c as usize;
        let mut window = window_bytes(op, first, out, tiling);
        if two && window_bytes(op, second, out, tiling) > window {
            window = window_bytes(op, second, out, tiling);
        }
        let rows = [
            if packed[0] { patch_len(op, first) } else { 0 },
            if two && packed[1] { patch_len(op, second) } else { 0 },
        ];
        let channels = match tiling.unpacked.checked_div(rows[0] + rows[1]) {
            Some(fit) => fewer(out_c, fit),
            None => out_c,
        };
        let (mut taps, mut tap_channels) = (0, 0);
        if by_taps(op, first, out, tiling) {
            tap_channels = fewer(channels, tiling.tap_bytes() / tap_bytes(first, 1));
            // The input's rows serve as they are, or widened.
            taps = align(tap_bytes(first, tap_channels)) + align(first.row_elems() * 2);
        }
        let tile = align(tiling.pixels * channels * 4);
        let blocks = channels.next_multiple_of(Weights::BLOCK_ROWS);
        ConvScratch {
            constants: ConvScratch::constants(op, out).constants,
            window,
            weights: [align(blocks * rows[0]), align(blocks * rows[1])],
            accumulators: if two { 2 * tile } else { tile },
            taps,
            tap_channels,
            channels,
            winograd: WinogradScratch::new(op, first, out, packed[0], tiling),
        }
    }

    /// The constants alone, where nothing else is needed.
    pub(crate) const fn constants(op: &Conv, out: &Tensor) -> ConvScratch {
        let channels = out.c as usize;
        ConvScratch {
            constants: align(channels * 8 + 4) * if op.sources[1] != NONE { 2 } else { 1 },
            window: 0,
            weights: [0; 2],
            accumulators: 0,
            taps: 0,
            tap_channels: 0,
            channels,
            winograd: WinogradScratch::NONE,
        }
    }

    /// All parts together: the constants, and behind them either way's.
    pub const fn len_bytes(&self) -> usize {
        let direct = self.window + self.weights[0] + self.weights[1] + self.accumulators + self.taps;
        let winograd = self.winograd.len_bytes();
        self.constants + if winograd > direct { winograd } else { direct }
    }
}

/// `channels`, or as many as fit where those are fewer: whole register tiles, or whole blocks, one at least.
const fn fewer(channels: usize, fit: usize) -> usize {
    match fit {
        fit if fit >= channels => channels,
        16.. => fit / 16 * 16,
        4.. => fit / 4 * 4,
        _ => 4,
    }
}

/// Bytes of the taps' products: two rows with a pixel of padding at either end, and another one.
const fn tap_bytes(input: &Tensor, channels: usize) -> usize {
    (2 * (input.w as usize + 2) + 1) * TAPS * channels * 4
}

/// Elements of a pixel's patch, and of a row of weights, whole groups of four.
const fn patch_len(op: &Conv, input: &Tensor) -> usize {
    (op.kernel[0] as usize * op.kernel[1] as usize * input.c as usize).next_multiple_of(4)
}

const fn window_bytes(op: &Conv, input: &Tensor, out: &Tensor, tiling: Tiling) -> usize {
    let narrow = matches!(input.dtype, DType::I8) && matches!(tiling.widening, Widening::Never);
    if narrow && is_direct(op, input, out) {
        return 0;
    }
    let shape = WindowShape::new(op, input, [1, tiling.pixels]);
    align((shape.staged + shape.runs * shape.run_stride) * if narrow { 1 } else { 2 })
}

/// Whether input pixels are patches already: 1×1, stride 1, nothing padded or upsampled, whole groups of four.
pub const fn is_direct(op: &Conv, input: &Tensor, out: &Tensor) -> bool {
    let one = op.kernel[0] == 1 && op.kernel[1] == 1 && op.stride == 1 && op.pad[0] == 0 && op.pad[1] == 0;
    // Nothing behind the input's pixels either.
    let same = out.h == input.h && out.w == input.w;
    one && same && !op.upsample && input.c.is_multiple_of(4)
}

/// The geometry of a convolution's [`Window`](super::Window), in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowShape {
    /// Runs of a patch.
    pub runs: usize,
    /// Elements of a run.
    pub run_len: usize,
    /// Elements from a run to the next.
    pub run_stride: usize,
    /// Elements from a pixel's patch to the next.
    pub pixel_stride: usize,
    /// Elements before the first, where patches are made from: the input rows as they lie, padded.
    pub staged: usize,
}

impl WindowShape {
    /// The window of a tile of `rows` × `pixels` output pixels. Where channels come in groups of four, a run is a kernel row and
    /// neighbouring patches share elements. Else each pixel has a patch of its own, a single run, padded.
    pub const fn new(op: &Conv, input: &Tensor, [rows, pixels]: [usize; 2]) -> WindowShape {
        let [kh, kw] = [op.kernel[0] as usize, op.kernel[1] as usize];
        let [c, stride] = [input.c as usize, op.stride as usize];
        let row = ((pixels - 1) * stride + kw) * c;
        if c.is_multiple_of(4) {
            WindowShape { runs: kh, run_len: kw * c, run_stride: row, pixel_stride: stride * c, staged: 0 }
        } else {
            let patch = patch_len(op, input);
            let staged = (((rows - 1) * stride + kh) * row).next_multiple_of(4);
            WindowShape { runs: 1, run_len: patch, run_stride: pixels * patch, pixel_stride: patch, staged }
        }
    }
}

/// Byte lengths of the parts of a norm application's scratch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NormScratch {
    /// i32 multiplier `[c]`, then i32 offset `[c]`.
    pub constants: usize,
    /// What becomes of a pointwise table.
    pub table: usize,
    /// A copy of some rows, where the operator works in place.
    pub copy: usize,
    /// How many those are.
    pub rows: usize,
}

impl NormScratch {
    /// The parts for these tensors.
    pub const fn new(op: &NormApply, first: &Tensor, out: &Tensor, tiling: Tiling) -> NormScratch {
        let in_place = op.sources[1] == NONE && first.offset == out.offset;
        let rows = match (tiling.norm_copy()).checked_div(out.row_elems()) {
            Some(rows) if rows > 1 => rows,
            _ => 1,
        };
        let copy = if in_place { align(rows * out.row_elems()) } else { 0 };
        let table = if op.table.is_some() { tiling.norm_table() } else { 0 };
        NormScratch { constants: align(out.c as usize * 8), table, copy, rows }
    }

    /// All together.
    pub const fn len_bytes(&self) -> usize {
        self.constants + self.table + self.copy
    }
}

/// Bytes of the exact sums of a group's channels in one source: Σq (i64) and Σq² (u64).
pub const GROUP_SUM_BYTES: usize = 16;

/// Byte lengths of the parts of the attention's scratch, one query at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionScratch {
    /// i32 scores, then weights, one a position.
    pub scores: usize,
    /// i32 accumulators `[head_dim]`.
    pub accumulators: usize,
}

impl AttentionScratch {
    /// The parts for this output.
    pub const fn new(op: &Attention, out: &Tensor) -> AttentionScratch {
        let heads = if op.heads == 0 { 1 } else { op.heads as usize };
        AttentionScratch {
            scores: align(out.h as usize * out.w as usize * 4),
            accumulators: align(out.c as usize / heads * 4),
        }
    }
}

/// Byte lengths of the parts of the attention's scratch, in blocks of queries; each a multiple of 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockScratch {
    /// Queries of a block.
    pub queries: usize,
    /// All heads' keys as weights of a convolution, and their values.
    pub packed: usize,
    /// i32, one a head and position: what the kernel adds to the scores of a key.
    pub added: usize,
    /// The block's queries as a window, all heads.
    pub window: usize,
    /// i32 scores of one head, one a query and position.
    pub scores: usize,
    /// i16 weights of one head, one a query and position.
    pub weights: usize,
    /// i32 sums, one a query and channel of one head; and twice as many constants.
    pub sums: usize,
    /// i32 total of each query's weights.
    pub totals: usize,
}

impl BlockScratch {
    /// Queries of a block: eight register tiles of six pixels, or one where there are so many positions that the scores
    /// would leave the second cache.
    const QUERIES: [usize; 2] = [6, 48];

    /// The parts for this output.
    pub const fn new(op: &Attention, out: &Tensor, tiling: Tiling) -> BlockScratch {
        let heads = if op.heads == 0 { 1 } else { op.heads as usize };
        let (positions, head_dim) = (out.h as usize * out.w as usize, out.c as usize / heads);
        let [few, many] = BlockScratch::QUERIES;
        let queries = if many * positions * 4 <= tiling.score_bytes() { many } else { few };
        // Padded to whole blocks.
        let (len, dim) = (positions.next_multiple_of(4), head_dim.next_multiple_of(4));
        let element = if matches!(tiling.widening, Widening::Never) { 1 } else { 2 };
        BlockScratch {
            queries,
            packed: align(heads * dim * len),
            added: align(heads * positions * 4),
            window: align(queries * heads * dim * element),
            scores: align(queries * positions * 4),
            weights: align(queries * len * 2),
            sums: align(queries * head_dim * 4),
            totals: align(queries * 4),
        }
    }

    /// All parts together.
    pub const fn len_bytes(&self) -> usize {
        2 * self.packed + self.added + self.window + self.scores + self.weights + 3 * self.sums + self.totals
    }
}

/// Byte lengths of the parts of the scratch of [`Kernels::attend`](super::Kernels::attend); each a multiple of 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttendScratch {
    /// All heads' keys and values, packed.
    pub packed: usize,
    /// A block's queries and scores, or what the portable kernel takes, which is less.
    pub block: usize,
}

impl AttendScratch {
    /// Queries of the widest block; of AVX2's, of words, there are half as many.
    pub const QUERIES: usize = 32;

    /// The parts for this output.
    pub const fn new(op: &Attention, out: &Tensor) -> AttendScratch {
        let heads = if op.heads == 0 { 1 } else { op.heads as usize };
        let (positions, head_dim) = (out.h as usize * out.w as usize, out.c as usize / heads);
        // Padded to whole blocks; each part begins at a line of the cache.
        let (len, c) = (positions.next_multiple_of(4), heads * head_dim.next_multiple_of(4));
        AttendScratch { packed: 64 + align(2 * len * c * 2), block: 64 + AttendScratch::QUERIES * (c + len * 4) }
    }
}

/// Scratch bytes of an operator, given the record of each tensor it names (first source, second source, output), and
/// which source's weights are packed.
pub const fn scratch_bytes(op: &Op, [first, second, out]: [&Tensor; 3], packed: [bool; 2], tiling: Tiling) -> usize {
    match op {
        Op::Conv(op) => ConvScratch::new(op, first, second, out, packed, tiling).len_bytes(),
        Op::NormStats(NormStats { groups, .. }) => tiling.norm_parts() * align(2 * *groups as usize * GROUP_SUM_BYTES),
        Op::NormApply(op) => NormScratch::new(op, first, out, tiling).len_bytes(),
        Op::Attention(op) if tiling.attends() => {
            let parts = AttendScratch::new(op, out);
            parts.packed + parts.block
        }
        Op::Attention(op) if tiling.score_bytes() > 0 => BlockScratch::new(op, out, tiling).len_bytes(),
        Op::Attention(op) => {
            let parts = AttentionScratch::new(op, out);
            parts.scores + parts.accumulators
        }
        Op::Quantize { .. } | Op::AvgPool { .. } | Op::Upsample { .. } | Op::EmbedLookup(_) | Op::EmbedAdd(_) => 0,
    }
}

/// The arena bytes that a `.mote` file needs with this tiling: over all operators the largest live end plus scratch.
///
/// Reads header and records only, never the weights, so it costs a compiler little. On bytes that are no model the
/// number means nothing; `Model::from_bytes` is what refuses them.
pub const fn arena_len_for(bytes: &[u8], tiling: Tiling) -> usize {
    use crate::format::header::{Section, tag};
    use crate::format::op::OpRecord;
    let tensors = section(bytes, Section::find(bytes, tag::TENSORS));
    let weights = section(bytes, Section::find(bytes, tag::WEIGHTS));
    let ops = section(bytes, Section::find(bytes, tag::OPS));
    let mut longest = 0;
    let mut i = 0;
    while i < tensors.len() / Tensor::BYTES {
        let tensor = tensor_at(tensors, i as u16);
        let end = align(tensor.offset as usize + tensor.len_bytes());
        longest = if end > longest { end } else { longest };
        i += 1;
    }
    let mut i = 0;
    while i < ops.len() / OpRecord::BYTES {
        if let Some(OpRecord { op, live_end }) = OpRecord::decode(tail(ops, i * OpRecord::BYTES)) {
            let [first, second, ..] = op.inputs();
            let named = [&tensor_at(tensors, first), &tensor_at(tensors, second), &tensor_at(tensors, op.out())];
            let packed = match &op {
                Op::Conv(op) => [is_packed(weights, op.weights[0]), is_packed(weights, op.weights[1])],
                _ => [false; 2],
            };
            let scratch = scratch_bytes(&op, named, packed, tiling);
            let end = align(live_end as usize) + scratch;
            longest = if end > longest { end } else { longest };
        }
        i += 1;
    }
    longest
}

/// The section's bytes, or nothing.
pub(crate) const fn section(bytes: &[u8], section: crate::format::Section) -> &[u8] {
    match tail(bytes, section.offset as usize).split_at_checked(section.bytes as usize) {
        Some((body, _)) => body,
        None => &[],
    }
}

/// The tensor record `id` of a section, or [`EMPTY`]. On hosts no call: what is written field by field and read whole waits for the
/// stores, seven times in an operator, 1 % of a small network's step.
#[cfg_attr(not(target_os = "none"), inline(always))]
pub(crate) const fn tensor_at(tensors: &[u8], id: u16) -> Tensor {
    let record = tail(tensors, id as usize * Tensor::BYTES);
    if record.len() < Tensor::BYTES {
        return EMPTY;
    }
    match Tensor::decode(record) {
        Some(tensor) => tensor,
        None => EMPTY,
    }
}

/// Whether the weight record `id` of a section says that they are packed.
#[cfg_attr(not(target_os = "none"), inline(always))]
pub(crate) const fn is_packed(weights: &[u8], id: u16) -> bool {
    match Weights::decode(tail(weights, id as usize * Weights::BYTES)) {
        Some(weights) => weights.encoding.is_packed(),
        None => false,
    }
}

/// What an absent tensor reads as: no elements at all.
pub(crate) const EMPTY: Tensor =
    Tensor { h: 0, w: 0, c: 0, dtype: DType::I8, carried: false, per_step: false, offset: 0, quant: 0 };
