//! AVX-512, group norm, 64 elements at a time. A pointwise table of 1,024 entries becomes 1,024 bytes of results in sixteen
//! registers, and sums of bytes are `vpdpbusd`.

use super::super::{NormConstants, scalar};
use super::norm::{add_up, norm, unit};
use super::rows512::first64;
use crate::format::op::Table;
use crate::quant::NORM_FRACTION_BITS;
use core::arch::x86_64::*;
use core::mem::MaybeUninit;

/// Factors of 64 words, 32 a half, for `(w·m + 2¹⁴ >> 15) + add`, where |w| < 2⁸. m has two halves of 15 bits: `vpmulhrsw` makes
/// the rounded product with the lower one, a word, and `vpdpwssd` takes it beside w, against the higher one and a 1.
struct Factors {
    low: [__m512i; 2],
    /// For the words that `vpunpcklwd` takes, and for those that `vpunpckhwd` takes.
    high: [[__m512i; 2]; 2],
    add: [[__m512i; 2]; 2],
}

impl Factors {
    /// From factors and addends in order.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    fn new(m: [__m256i; 8], add: [__m256i; 8]) -> Factors {
        let unpacked = |x: [__m256i; 8], half: usize| {
            let [a, b] = [0, 2]
                .map(|at| _mm512_inserti64x4::<1>(_mm512_castsi256_si512(x[4 * half + at]), x[4 * half + at + 1]));
            [_mm512_shuffle_i32x4::<0b10_00_10_00>(a, b), _mm512_shuffle_i32x4::<0b11_01_11_01>(a, b)]
        };
        let m = [unpacked(m, 0), unpacked(m, 1)];
        Factors {
            low: m.map(|m| {
                let [a, b] = m.map(|m| _mm512_and_si512(m, _mm512_set1_epi32(0x7fff)));
                _mm512_packus_epi32(a, b)
            }),
            // Bits 15 to 30 of m and of a number that has bit 16 there.
            high: m.map(|m| {
                m.map(|m| _mm512_mask_blend_epi16(0xaaaa_aaaa, _mm512_srai_epi32::<15>(m), _mm512_set1_epi32(1 << 16)))
            }),
            add: [unpacked(add, 0), unpacked(add, 1)],
        }
    }

    /// Of the words of a half; the results pack to the order that these have.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    fn of(&self, half: usize, words: __m512i) -> [__m512i; 2] {
        let low = _mm512_mulhrs_epi16(words, self.low[half]);
        let pairs = [_mm512_unpacklo_epi16(words, low), _mm512_unpackhi_epi16(words, low)];
        [0, 1].map(|i| _mm512_dpwssd_epi32(self.add[half][i], pairs[i], self.high[half][i]))
    }
}

/// Words as bytes, saturated, in order.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
fn packed([a, b]: [__m512i; 2]) -> __m512i {
    _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), _mm512_packs_epi16(a, b))
}

/// Table entries as the bytes that they become, in order.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
fn results(table: &[i16; Table::LEN], k: &NormConstants<'_>) -> [__m512i; 16] {
    // Halves of 16 bits: `vpmulhw` takes the lower one with its sign, so the higher one is rounded.
    let m = k.out_multiplier;
    let (low, high) =
        (_mm512_set1_epi16(m as i16), _mm512_set1_epi32(m.wrapping_add(1 << 15) >> 16 & 0xffff | 1 << 16));
    // The result is rounded at bit 31, which is bit 15 here.
    let half = _mm512_set1_epi32((1 << 14) + (k.out_zero_point << 15));
    let words_of = |entries: &[i16; 32]| {
        // SAFETY: 64 bytes.
        let entries = unsafe { _mm512_loadu_si512(entries.as_ptr().cast()) };
        let product = _mm512_mulhi_epi16(entries, low);
        let pairs = [_mm512_unpacklo_epi16(entries, product), _mm512_unpackhi_epi16(entries, product)];
        let [a, b] = pairs.map(|pairs| _mm512_srai_epi32::<15>(_mm512_dpwssd_epi32(half, pairs, high)));
        _mm512_packs_epi32(a, b)
    };
    let mut bytes = [_mm512_setzero_si512(); 16];
    for (bytes, entries) in bytes.iter_mut().zip(table.as_chunks::<32>().0.as_chunks::<2>().0) {
        *bytes = packed([words_of(&entries[0]), words_of(&entries[1])]);
    }
    bytes
}

/// Indices of 64 sums, those of [`Factors::of`], in words of ten bits, behind which are six of the fraction.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
fn indices(sums: [[__m512i; 2]; 2]) -> [__m512i; 2] {
    // What is beyond the table's ends saturates.
    sums.map(|sums| {
        let [a, b] = sums.map(|sum| _mm512_srai_epi32::<{ NORM_FRACTION_BITS - 6 }>(sum));
        _mm512_packus_epi32(a, b)
    })
}

/// The table's bytes for words of [`indices`], as words.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
fn look_up(bytes: &[__m512i; 16], index: __m512i) -> __m512i {
    let at = _mm512_srli_epi16::<7>(index);
    let of = |pair: usize| _mm512_permutex2var_epi16(bytes[2 * pair], at, bytes[2 * pair + 1]);
    let bit = |bit: u32| _mm512_test_epi16_mask(index, _mm512_set1_epi16(1 << bit));
    let (first, second, third) = (bit(13), bit(14), _mm512_movepi16_mask(index));
    let two = |pair: usize| _mm512_mask_blend_epi16(first, of(pair), of(pair + 1));
    let four = |pair: usize| _mm512_mask_blend_epi16(second, two(pair), two(pair + 2));
    let word = _mm512_mask_blend_epi16(third, four(0), four(4));
    let even = _mm512_testn_epi16_mask(index, _mm512_set1_epi16(1 << 6));
    _mm512_srai_epi16::<8>(_mm512_mask_slli_epi16::<8>(word, even, word))
}

/// As [`look_up`] for all 64, in order; `vpermi2b` looks 64 bytes up in 128.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi")]
#[inline]
fn look_up_64(bytes: &[__m512i; 16], index: [__m512i; 2]) -> __m512i {
    let index = index.map(|index| _mm512_srli_epi16::<6>(index));
    let every_other = |first: u8| {
        let order: [u8; 64] = core::array::from_fn(|i| first + 2 * i as u8);
        // SAFETY: 64 bytes.
        _mm512_permutex2var_epi8(index[0], unsafe { _mm512_loadu_si512(order.as_ptr().cast()) }, index[1])
    };
    let (low, high) = (every_other(0), every_other(1));
    let of = |pair: usize| _mm512_permutex2var_epi8(bytes[2 * pair], low, bytes[2 * pair + 1]);
    let bit = |bit: u32| _mm512_test_epi8_mask(high, _mm512_set1_epi8(1 << bit));
    let (first, second, third) = (_mm512_movepi8_mask(low), bit(0), bit(1));
    let two = |pair: usize| _mm512_mask_blend_epi8(first, of(pair), of(pair + 1));
    let four = |pair: usize| _mm512_mask_blend_epi8(second, two(pair), two(pair + 2));
    _mm512_mask_blend_epi8(third, four(0), four(4))
}

/// A group norm's application.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn norm_i8(out: &mut [i8], out_c: usize, src: &[i8], src_c: usize, k: NormConstants<'_>) {
    match k.table.first_chunk() {
        Some(table) => {
            let bytes = results(table, &k);
            blocks(
                out,
                out_c,
                src,
                src_c,
                k,
                |sums| indices(sums),
                |index| packed(index.map(|index| look_up(&bytes, index))),
            );
        }
        None => {
            let words = |sums: [[__m512i; 2]; 2]| {
                sums.map(|sums| {
                    let [a, b] = sums.map(|sum| _mm512_srai_epi32::<NORM_FRACTION_BITS>(sum));
                    _mm512_packs_epi32(a, b)
                })
            };
            blocks(out, out_c, src, src_c, k, words, |words| packed(words));
        }
    }
}

/// As [`norm_i8`], where there is VBMI.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi")]
pub(super) fn norm_i8_vbmi(out: &mut [i8], out_c: usize, src: &[i8], src_c: usize, k: NormConstants<'_>) {
    match k.table.first_chunk() {
        Some(table) => {
            let bytes = results(table, &k);
            blocks(out, out_c, src, src_c, k, |sums| indices(sums), |index| look_up_64(&bytes, index));
        }
        None => norm_i8(out, out_c, src, src_c, k),
    }
}

/// Elements at a time, so that they and their words stay in the first cache while one set of constants after the other passes over them.
const NORM_ELEMS: usize = 1 << 12;

/// Pixels as one row of elements, 64 at a time, whose constants come back after `period` of them, a whole number of pixels. What has
/// pixels of no whole number of eights is AVX2's. `words_of` and `bytes_of` are two passes: a processor does not see far enough to
/// begin a block while it waits for the one before, and both in one take 1.2 times as long on a Zen 5.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
fn blocks(
    out: &mut [i8],
    out_c: usize,
    src: &[i8],
    src_c: usize,
    k: NormConstants<'_>,
    words_of: impl Fn([[__m512i; 2]; 2]) -> [__m512i; 2],
    bytes_of: impl Fn([__m512i; 2]) -> __m512i,
) {
    let width = out_c.min(k.multiplier.len()).min(k.offset.len());
    if src_c == 0 || !src_c.is_multiple_of(8) || src_c > width {
        return norm::<i8, 0>(out, out_c, src, src_c, k, scalar::KERNELS.norm_i8);
    }
    // The output's last pixel may end behind its channels.
    let pixels = (src.len() / src_c).min((out.len() + out_c - src_c) / out_c);
    let period = src_c << (6 - src_c.trailing_zeros().min(6));
    // A table's index has no sign.
    let more = if k.table.is_empty() { k.out_zero_point } else { Table::LEN as i32 / 2 };
    let more = _mm256_set1_epi32(more << NORM_FRACTION_BITS);
    let zero = _mm512_set1_epi16(k.zero_point as i16);
    let mut buffer = [const { MaybeUninit::<[__m512i; 2]>::uninit() }; NORM_ELEMS / 64];
    let some = (NORM_ELEMS / period).max(1) * period / src_c;
    for first in (0..pixels).step_by(some) {
        let len = some.min(pixels - first) * src_c;
        for phase in (0..period.min(len)).step_by(64) {
            // What lies together in the output, too: which bytes of a block, and where its first byte would be, from those of the
            // first pixel on.
            let (mut pieces, mut last) = ([(0, 0); 8], 0);
            let (mut channel, mut place) = (phase % src_c, (first + phase / src_c) * out_c + phase % src_c);
            pieces[0].1 = place;
            let mut eight = 0;
            let eights = [(); 8].map(|()| {
                // SAFETY: a channel that is a multiple of 8 below their number, which is one, too.
                let [m, offset] =
                    [k.multiplier, k.offset].map(|x| unsafe { _mm256_loadu_si256(x.as_ptr().add(channel).cast()) });
                pieces[last].0 |= 0xff << (8 * eight);
                eight += 1;
                (channel, place) = (channel + 8, place + 8);
                if channel == src_c {
                    (channel, place) = (0, place + out_c - src_c);
                    if out_c > src_c && eight < 8 {
                        last += 1;
                        pieces[last].1 = place - 8 * eight;
                    }
                }
                (m, _mm256_add_epi32(offset, more))
            });
            let factors = Factors::new(eights.map(|eight| eight.0), eights.map(|eight| eight.1));
            for (at, words) in (phase..len).step_by(period).zip(&mut buffer) {
                let left = len - at;
                // SAFETY: of the elements of `pixels` pixels those from here on, which are `left`.
                let elems = unsafe {
                    let from = src.as_ptr().add(first * src_c + at);
                    if left >= 64 {
                        [_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(32).cast())]
                    } else {
                        let elems = _mm512_maskz_loadu_epi8(first64(left), from);
                        [_mm512_castsi512_si256(elems), _mm512_extracti64x4_epi64::<1>(elems)]
                    }
                };
                words.write(words_of(
                    [0, 1].map(|half| factors.of(half, _mm512_sub_epi16(_mm512_cvtepi8_epi16(elems[half]), zero))),
                ));
            }
            for ((i, at), words) in (phase..len).step_by(period).enumerate().zip(&buffer) {
                let left = len - at;
                // SAFETY: the loop above has written as many.
                let bytes = bytes_of(unsafe { words.assume_init() });
                let inside = first64(left);
                let mut store = |(mask, place): (__mmask64, usize)| {
                    // SAFETY: the bytes that the masks leave belong to as many pixels, which `out` has; others are not touched.
                    unsafe {
                        let to = out.as_mut_ptr().wrapping_add(i * (period / src_c) * out_c + place);
                        _mm512_mask_storeu_epi8(to, mask & inside, bytes);
                    }
                };
                store(pieces[0]);
                pieces.iter().take(last + 1).skip(1).for_each(|&piece| store(piece));
            }
        }
    }
}

/// Vectors whose sums surely fit 32 bits: a lane takes at most 4·255·128 of each, and sixteen lanes may be added.
const SUM_VECTORS: usize = 1 << 9;

/// As many pixels as 64 bytes hold, or 64 channels of one. A lane sums four bytes, or one for each of `PARTS` parts of those, so that
/// no part has channels of two groups; one pass is all groups'.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn sums_i8(totals: &mut [[u64; 2]], row: &[i8], channels: usize, first: usize, group_c: usize) {
    match unit(channels, group_c) {
        1 => sums::<4>(totals, row, channels, first, group_c),
        2 => sums::<2>(totals, row, channels, first, group_c),
        _ => sums::<1>(totals, row, channels, first, group_c),
    }
}

/// Σq² is Σ(q + 128)·q − 128·Σq, because one factor of `vpdpbusd` has no sign.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
fn sums<const PARTS: usize>(totals: &mut [[u64; 2]], row: &[i8], channels: usize, first: usize, group_c: usize) {
    let c = channels.max(1);
    let width = totals.len().min(c.saturating_sub(first).checked_div(group_c).unwrap_or(0)) * group_c;
    let pixels = (64 / c).max(1);
    let sign = _mm512_set1_epi8(-128);
    // Of the four bytes of a lane all, or two, or one.
    let mut chosen = [_mm512_set1_epi32(-1); PARTS];
    for (part, chosen) in chosen.iter_mut().enumerate().skip(PARTS & 1) {
        let bits = 32 / PARTS;
        *chosen = _mm512_set1_epi32(((1 << bits) - 1) << (bits * part));
    }
    let ones = chosen.map(|chosen| _mm512_and_si512(chosen, _mm512_set1_epi8(1)));
    let row = row.get(..row.len() / c * c).unwrap_or_default();
    let fold = c.is_power_of_two() && c >= 4;
    for block in (0..width).step_by(64) {
        let block_c = (width - block).min(64);
        let mask = (0..pixels).fold(0, |mask, pixel| mask | first64(block_c) << (pixel * c));
        for row in row.chunks(c * pixels * SUM_VECTORS) {
            // Two vectors take turns, so that neither waits for its own sum.
            let mut sums = [[_mm512_setzero_si512(); PARTS]; 2];
            let mut products = sums;
            for two in row.chunks(2 * c * pixels) {
                for turn in 0..2 {
                    let Some(some) = two.get(turn * c * pixels + first + block..) else { continue };
                    // SAFETY: what lies behind the slice is masked off.
                    let elems = unsafe { _mm512_maskz_loadu_epi8(mask & first64(some.len()), some.as_ptr()) };
                    let flipped = _mm512_xor_si512(elems, sign);
                    for part in 0..PARTS {
                        sums[turn][part] = _mm512_dpbusd_epi32(sums[turn][part], ones[part], elems);
                        let factor = _mm512_and_si512(flipped, chosen[part]);
                        products[turn][part] = _mm512_dpbusd_epi32(products[turn][part], factor, elems);
                    }
                }
            }
            let mut lanes = [[[0; 16]; 2]; PARTS];
            for (part, [to_sums, to_squares]) in lanes.iter_mut().enumerate() {
                let folded = |x: [[__m512i; PARTS]; 2]| {
                    // Lanes of several pixels' same channels.
                    let mut x = _mm512_add_epi32(x[0][part], x[1][part]);
                    if fold {
                        if c < 64 {
                            x = _mm512_add_epi32(x, _mm512_alignr_epi32::<8>(x, x));
                        }
                        if c < 32 {
                            x = _mm512_add_epi32(x, _mm512_alignr_epi32::<4>(x, x));
                        }
                        if c < 16 {
                            x = _mm512_add_epi32(x, _mm512_alignr_epi32::<2>(x, x));
                        }
                        if c < 8 {
                            x = _mm512_add_epi32(x, _mm512_alignr_epi32::<1>(x, x));
                        }
                    }
                    x
                };
                let (sums, products) = (folded(sums), folded(products));
                let squares = _mm512_sub_epi32(products, _mm512_slli_epi32::<7>(sums));
                // SAFETY: 64 bytes each.
                unsafe {
                    _mm512_storeu_si512(to_sums.as_mut_ptr().cast(), sums);
                    _mm512_storeu_si512(to_squares.as_mut_ptr().cast(), squares);
                }
            }
            for pixel in 0..if fold { 1 } else { pixels } {
                add_up(totals, group_c, block..block + block_c, &lanes, 4, pixel * c);
            }
        }
    }
}
