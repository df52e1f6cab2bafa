//! AVX2, group norm: eight channels of two pixels a vector.

use super::rows::{Element, eight, load, store};
use crate::format::op::Table;
use crate::kernels::{NormConstants, scalar};
use crate::quant::NORM_FRACTION_BITS;
use core::arch::x86_64::*;
use core::ops::Range;

/// Factors m of sixteen words w: `(w·m + 2¹⁴) >> 15` for |w| < 2⁸ where `EXTRA` is 0, else `w·m >> 16`. The product with the lower
/// bits of m is a word, of `vpmulhrsw` or `vpmulhw`, and `vpmaddwd` takes it beside w, against the higher bits and a 1.
struct Factors<const EXTRA: i32> {
    low: __m256i,
    /// For the words that `vpunpcklwd` takes, and for those that `vpunpckhwd` takes.
    high: [__m256i; 2],
}

impl<const EXTRA: i32> Factors<EXTRA> {
    /// From those of words 0 to 3 and 8 to 11, and of the others.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn new(m: [__m256i; 2]) -> Self {
        let [low, high] = if EXTRA == 0 {
            let low = |m| _mm256_and_si256(m, _mm256_set1_epi32(0x7fff));
            [m.map(low), m.map(|m| _mm256_srai_epi32::<15>(m))]
        } else {
            // The lower half counts with its sign, so the higher one is rounded.
            let low = |m| _mm256_srai_epi32::<16>(_mm256_slli_epi32::<16>(m));
            [m.map(low), m.map(|m| _mm256_srai_epi32::<16>(_mm256_add_epi32(m, _mm256_set1_epi32(1 << 15))))]
        };
        let one = _mm256_set1_epi32(1 << 16);
        Factors {
            low: _mm256_packs_epi32(low[0], low[1]),
            high: high.map(|high| _mm256_blend_epi16::<0b1010_1010>(high, one)),
        }
    }

    /// Lanes that pack to the order of the words.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn of(&self, words: __m256i) -> [__m256i; 2] {
        let low = match EXTRA {
            0 => _mm256_mulhrs_epi16(words, self.low),
            _ => _mm256_mulhi_epi16(words, self.low),
        };
        let pairs = [_mm256_unpacklo_epi16(words, low), _mm256_unpackhi_epi16(words, low)];
        [_mm256_madd_epi16(pairs[0], self.high[0]), _mm256_madd_epi16(pairs[1], self.high[1])]
    }
}

/// Table entries as the bytes that they become.
#[target_feature(enable = "avx2")]
pub(super) fn norm_table(to: &mut [i8], table: &[i16], m: i32, zero_point: i32) {
    let factors = Factors::<8>::new([_mm256_set1_epi32(m); 2]);
    // Rounded at bit 31, which is bit 15 here.
    let half = _mm256_set1_epi32((1 << 14) + (zero_point << 15));
    for (to, entries) in to.as_chunks_mut::<16>().0.iter_mut().zip(table.as_chunks::<16>().0) {
        // SAFETY: 32 bytes.
        let entries = unsafe { _mm256_loadu_si256(entries.as_ptr().cast()) };
        let [a, b] = factors.of(entries).map(|x| _mm256_srai_epi32::<15>(_mm256_add_epi32(x, half)));
        let words = _mm256_packs_epi32(a, b);
        let packed = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
        // SAFETY: sixteen bytes.
        unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), packed) };
    }
}

#[target_feature(enable = "avx2")]
pub(super) fn norm_i8(out: &mut [i8], out_c: usize, src: &[i8], src_c: usize, k: NormConstants<'_>) {
    norm::<i8, 0>(out, out_c, src, src_c, k, scalar::KERNELS.norm_i8);
}

#[target_feature(enable = "avx2")]
pub(super) fn norm_i16(out: &mut [i8], out_c: usize, src: &[i16], src_c: usize, k: NormConstants<'_>) {
    norm::<i16, 8>(out, out_c, src, src_c, k, scalar::KERNELS.norm_i16);
}

/// Pixels at a time, all channels of them, so that they stay in the first cache.
const NORM_PIXELS: usize = 32;

/// Eight channels keep their constants in registers while some pixels pass, two at a time; the last of an odd number is done
/// twice, and the last channels of an uneven number once more. `EXTRA` is what the element's shift is short of 16.
#[target_feature(enable = "avx2")]
fn norm<T: Element, const EXTRA: i32>(
    out: &mut [i8],
    out_c: usize,
    src: &[T],
    src_c: usize,
    k: NormConstants<'_>,
    scalar: fn(&mut [i8], usize, &[T], usize, NormConstants<'_>),
) {
    let width = src_c.min(out_c).min(k.multiplier.len()).min(k.offset.len());
    if width < 8 {
        return scalar(out, out_c, src, src_c, k);
    }
    let [results] = k.results;
    let table = results.first_chunk().filter(|_| !k.table.is_empty());
    let zero = _mm256_set1_epi16(k.zero_point as i16);
    // A table's index has no sign.
    let more = if table.is_some() { Table::LEN as i32 / 2 } else { k.out_zero_point };
    let more = _mm256_set1_epi32(more << NORM_FRACTION_BITS);
    // Those whose channels are all there; the output's last pixel may end behind them.
    let pixels = (src.len() / src_c).min((out.len() + out_c - width) / out_c);
    let mut indices = [[[0u16; 8]; 2]; NORM_PIXELS / 2];
    for some in (0..pixels).step_by(NORM_PIXELS) {
        let end = pixels.min(some + NORM_PIXELS);
        for first in (0..width).step_by(8) {
            let first = first.min(width - 8);
            // Four channels twice, of either pixel.
            let fours = |constants: &[i32]| {
                let eight = load(&eight(constants, first));
                [_mm256_permute2x128_si256::<0>(eight, eight), _mm256_permute2x128_si256::<0x11>(eight, eight)]
            };
            let factors = Factors::<EXTRA>::new(fours(k.multiplier));
            let offset = fours(k.offset).map(|offset| _mm256_add_epi32(offset, more));
            for (pixel, indices) in (some..end).step_by(2).zip(&mut indices) {
                let pair = [pixel, (pixel + 1).min(end - 1)];
                // SAFETY: a pixel below `pixels` has `width` channels in both, of which these are eight.
                let [a, b] = pair.map(|pixel| unsafe { &*src.as_ptr().add(pixel * src_c + first).cast::<[T; 8]>() });
                let to = pair.map(|pixel| unsafe { out.as_mut_ptr().add(pixel * out_c + first).cast::<[i8; 8]>() });
                let sums = factors.of(_mm256_sub_epi16(T::words(a, b), zero));
                // Both summands are below 2³⁰: nothing saturates.
                let index = |i: usize| {
                    let mut sum = sums[i];
                    if EXTRA > 0 {
                        sum = _mm256_srai_epi32::<7>(_mm256_add_epi32(sum, _mm256_set1_epi32(1 << 6)));
                    }
                    _mm256_srai_epi32::<{ NORM_FRACTION_BITS as i32 }>(_mm256_add_epi32(sum, offset[i]))
                };
                let [first_four, last_four] = [index(0), index(1)];
                match table {
                    None => {
                        let words = _mm256_packs_epi32(first_four, last_four);
                        let bytes = _mm256_packs_epi16(words, words);
                        // SAFETY: as above.
                        unsafe {
                            _mm_storel_epi64(to[0].cast(), _mm256_castsi256_si128(bytes));
                            _mm_storel_epi64(to[1].cast(), _mm256_extracti128_si256::<1>(bytes));
                        }
                    }
                    Some(_) => {
                        let last = _mm256_set1_epi16(Table::LEN as i16 - 1);
                        let index = _mm256_min_epu16(_mm256_packus_epi32(first_four, last_four), last);
                        // SAFETY: 32 bytes.
                        unsafe { _mm256_storeu_si256(indices.as_mut_ptr().cast(), index) };
                    }
                }
            }
            if let Some(table) = table {
                for (pixel, at) in (some..end).zip(indices.as_flattened()) {
                    // SAFETY: as above; no index is above `last`.
                    unsafe {
                        let to = out.as_mut_ptr().add(pixel * out_c + first);
                        _mm_storel_epi64(to.cast(), look_up(table, at));
                    }
                }
            }
        }
    }
}

/// Eight entries. A block of pixels later, indices come from the cache, and the norms of a net of 6.2 G take 4.4 ms in four steps of
/// a Zen 5; read back at once, from the store that was just made, 5.9, and with a gather 6.2. Hence also a promise and no mask: a
/// compiler would mask all eight at once and take them out of the register. `vpinsrb` takes an entry where it lies; with shifts in
/// general registers, which are too few for eight entries and their indices, the kernel takes 1.2 times as long.
///
/// # Safety
/// Indices lie within the table.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn look_up(table: &[i8; Table::LEN], at: &[u16; 8]) -> __m128i {
    // SAFETY: the caller's promise.
    let entry = |i: usize| unsafe { *table.get_unchecked(at[i] as usize) as i32 };
    let four = |i: usize| {
        let two = _mm_insert_epi8::<1>(_mm_cvtsi32_si128(entry(i)), entry(i + 1));
        _mm_insert_epi8::<3>(_mm_insert_epi8::<2>(two, entry(i + 2)), entry(i + 3))
    };
    _mm_unpacklo_epi32(four(0), four(4))
}

/// Bytes at a time, which stay in the first cache while one block of channels after the other is summed; 2¹⁵ is the most that a vector
/// of them adds to a lane.
const SUM_BYTES: usize = 1 << 14;

/// As many pixels as sixteen words hold, or sixteen channels of one. A lane sums two words, or one for each of two parts of those, so
/// that no part has channels of two groups; one pass is all groups'.
#[target_feature(enable = "avx2")]
pub(super) fn sums_i8(totals: &mut [[u64; 2]], row: &[i8], channels: usize, first: usize, group_c: usize) {
    match unit(channels, group_c) {
        1 => sums::<2>(totals, row, channels, first, group_c),
        _ => sums::<1>(totals, row, channels, first, group_c),
    }
}

#[target_feature(enable = "avx2")]
fn sums<const PARTS: usize>(totals: &mut [[u64; 2]], row: &[i8], channels: usize, first: usize, group_c: usize) {
    let c = channels.max(1);
    let width = totals.len().min(c.saturating_sub(first).checked_div(group_c).unwrap_or(0)) * group_c;
    let pixels = (16 / c).max(1);
    let row = row.get(..row.len() / c * c).unwrap_or_default();
    let mut parts = [_mm256_set1_epi16(-1); PARTS];
    if let [even, odd] = parts.as_mut_slice() {
        (*even, *odd) = (_mm256_set1_epi32(0xffff), _mm256_set1_epi32(-0x1_0000));
    }
    for row in row.chunks(c * pixels * (SUM_BYTES / (c * pixels)).max(1)) {
        for block in (0..width).step_by(16) {
            let block_c = (width - block).min(16);
            let mut mask = [-1i16; 16];
            if block_c < 16 {
                mask = core::array::from_fn(|word| if word < c * pixels && word % c < block_c { -1 } else { 0 });
            }
            // SAFETY: 32 bytes.
            let mask = unsafe { _mm256_loadu_si256(mask.as_ptr().cast()) };
            let chosen = parts.map(|part| _mm256_and_si256(part, mask));
            let (mut sums, mut squares) = ([_mm256_setzero_si256(); PARTS], [_mm256_setzero_si256(); PARTS]);
            for at in (first + block..row.len()).step_by(c * pixels) {
                let words = _mm256_cvtepi8_epi16(sixteen(row, at));
                for part in 0..PARTS {
                    let words = _mm256_and_si256(words, chosen[part]);
                    sums[part] = _mm256_add_epi32(sums[part], _mm256_madd_epi16(words, _mm256_set1_epi16(1)));
                    squares[part] = _mm256_add_epi32(squares[part], _mm256_madd_epi16(words, words));
                }
            }
            let mut lanes = [[[0; 8]; 2]; PARTS];
            for (part, [to_sums, to_squares]) in lanes.iter_mut().enumerate() {
                store(to_sums, sums[part]);
                store(to_squares, squares[part]);
            }
            for pixel in 0..pixels {
                add_up(totals, group_c, block..block + block_c, &lanes, 2, pixel * c);
            }
        }
    }
}

/// Sixteen bytes from `at` on, zeros behind the end.
#[target_feature(enable = "avx2")]
#[inline]
fn sixteen(elems: &[i8], at: usize) -> __m128i {
    let mut bytes = [0; 16];
    let from = if at + 16 <= elems.len() {
        // SAFETY: as the condition says.
        unsafe { elems.as_ptr().add(at) }
    } else {
        bytes.iter_mut().zip(elems.get(at..).unwrap_or_default()).for_each(|(to, &elem)| *to = elem);
        bytes.as_ptr()
    };
    // SAFETY: sixteen bytes in either case.
    unsafe { _mm_loadu_si128(from.cast()) }
}

/// Channels beside each other, 1, 2 or a multiple of 4, that are of one group in every pixel, wherever groups begin.
#[inline(always)]
pub(super) fn unit(channels: usize, group_c: usize) -> usize {
    1 << (channels | group_c).trailing_zeros().min(2)
}

/// Adds the sums of a pixel's channels `block`, which begin with word `at` of a vector, to their groups' totals: `lanes` hold Σq and
/// Σq² of `words` words a lane, or of as many as a part has.
#[inline(always)]
pub(super) fn add_up<const LANES: usize, const PARTS: usize>(
    totals: &mut [[u64; 2]],
    group_c: usize,
    block: Range<usize>,
    lanes: &[[[i32; LANES]; 2]; PARTS],
    words: usize,
    at: usize,
) {
    let (mut group, mut channel) = (block.start / group_c, block.start);
    while channel < block.end {
        let Some([sum, squares]) = totals.get_mut(group) else { return };
        group += 1;
        let end = block.end.min(group * group_c);
        for word in (at + channel - block.start..at + end - block.start).step_by(words / PARTS) {
            let [sums_of, squares_of] = &lanes[word % words * PARTS / words];
            let lane = word / words % LANES;
            *sum = sum.wrapping_add(sums_of[lane] as i64 as u64);
            *squares = squares.wrapping_add(squares_of[lane] as u32 as u64);
        }
        channel = end;
    }
}

/// Pairs of pixels whose sums surely fit 32-bit lanes: 2¹⁶ is the most that a pair adds.
const SUM_PAIRS: usize = 1 << 14;

/// A group at a time, eight channels of two pixels a vector.
#[target_feature(enable = "avx2")]
pub(super) fn sums_i16(totals: &mut [[u64; 2]], row: &[i16], channels: usize, first: usize, group_c: usize) {
    for (group, [total, total_of_squares]) in totals.iter_mut().enumerate() {
        let (sum, squares) = group_sums(row, channels.max(1), first + group * group_c, group_c);
        *total = total.wrapping_add(sum as u64);
        *total_of_squares = total_of_squares.wrapping_add(squares);
    }
}

#[target_feature(enable = "avx2")]
fn group_sums(row: &[i16], c: usize, first: usize, group_c: usize) -> (i64, u64) {
    let mut total = (0i64, 0u64);
    let group = first.min(c)..first.saturating_add(group_c).min(c);
    for part in row.chunks(2 * SUM_PAIRS * c) {
        for channel in group.clone().step_by(8) {
            let mask = words_below(group.end - channel);
            let (mut sums, mut squares) = (_mm256_setzero_si256(), _mm256_setzero_si256());
            for pair in part.chunks(2 * c) {
                // A last pixel without a partner, or without eight elements behind it, reads zeros there.
                let first = eight(pair, channel);
                let second = if pair.len() > c { eight(pair, c + channel) } else { [0; 8] };
                let words = _mm256_and_si256(i16::words(&first, &second), mask);
                sums = _mm256_add_epi32(sums, _mm256_madd_epi16(words, _mm256_set1_epi16(1)));
                // Two squares take 32 bits, so lanes of 64.
                let two = _mm256_madd_epi16(words, words);
                let even = _mm256_blend_epi32::<0b1010_1010>(two, _mm256_setzero_si256());
                squares = _mm256_add_epi64(squares, _mm256_add_epi64(even, _mm256_srli_epi64::<32>(two)));
            }
            let (mut lanes, mut wide) = ([0i32; 8], [0i32; 8]);
            store(&mut lanes, sums);
            store(&mut wide, squares);
            total.0 += lanes.iter().map(|&sum| sum as i64).sum::<i64>();
            let wide =
                wide.as_chunks::<2>().0.iter().map(|&[low, high]| low as u32 as u64 | (high as u32 as u64) << 32);
            total.1 += wide.sum::<u64>();
        }
    }
    total
}

/// All bits of the first `n` of eight words, in both halves.
#[target_feature(enable = "avx2")]
#[inline]
fn words_below(n: usize) -> __m256i {
    let lane = _mm256_broadcastsi128_si256(_mm_set_epi16(7, 6, 5, 4, 3, 2, 1, 0));
    _mm256_cmpgt_epi16(_mm256_set1_epi16(n.min(8) as i16), lane)
}
