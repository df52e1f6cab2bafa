//! AVX-512, group norm, 64 elements at a time. A pointwise table of 1,024 entries becomes 1,024 bytes of results in sixteen
//! registers, and sums of bytes are `vpdpbusd`.

use super::super::{NormConstants, scalar};
use super::norm::{add_up, norm, unit};
use super::rows512::first64;
use crate::format::op::Table;
use crate::quant::NORM_FRACTION_BITS;
use core::arch::x86_64::*;

/// Factors of 64 words, 32 a half, those that `vpunpcklbw` and `vpunpckhbw` make of bytes, for `(w·m + 2¹⁴ >> 15) + add`, where |w| < 2⁸. m has two halves of 15 bits: `vpmulhrsw` makes
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
                .map(|at| _mm512_inserti64x4::<1>(_mm512_castsi256_si512(x[2 * at + half]), x[2 * at + 2 + half]));
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

/// Halves of a factor of entries, of 16 bits: `vpmulhw` takes the lower one with its sign, so the higher one is rounded.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
fn halves_of(m: i32) -> [__m512i; 2] {
    [_mm512_set1_epi16(m as i16), _mm512_set1_epi32(m.wrapping_add(1 << 15) >> 16 & 0xffff | 1 << 16)]
}

/// Products of entries, the first four of each eight and the others, and a sum, as 2¹⁶ times what they are.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
fn products(entries: &[i16; 32], [low, high]: [__m512i; 2], sum: __m512i) -> [__m512i; 2] {
    // SAFETY: 64 bytes.
    let entries = unsafe { _mm512_loadu_si512(entries.as_ptr().cast()) };
    let product = _mm512_mulhi_epi16(entries, low);
    let pairs = [_mm512_unpacklo_epi16(entries, product), _mm512_unpackhi_epi16(entries, product)];
    pairs.map(|pairs| _mm512_dpwssd_epi32(sum, pairs, high))
}

/// Table entries as the bytes that they become, in order.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
fn results(table: &[i16; Table::LEN], k: &NormConstants<'_>) -> [__m512i; 16] {
    let m = halves_of(k.out_multiplier);
    // Rounded at bit 31, which is bit 15 here.
    let half = _mm512_set1_epi32((1 << 14) + (k.out_zero_point << 15));
    let words_of = |entries: &[i16; 32]| {
        let [a, b] = products(entries, m, half).map(|product| _mm512_srai_epi32::<15>(product));
        _mm512_packs_epi32(a, b)
    };
    let mut bytes = [_mm512_setzero_si512(); 16];
    for (bytes, entries) in bytes.iter_mut().zip(table.as_chunks::<32>().0.as_chunks::<2>().0) {
        let packed = _mm512_packs_epi16(words_of(&entries[0]), words_of(&entries[1]));
        *bytes = _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), packed);
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

/// A table whose bytes go up or down by one at most, and within eight of them only one way: the first of each eight, or the last where
/// they go down, and a bit for each step. An entry is the first and the steps before it, or the last and the steps behind it: six
/// instructions for 64 entries instead of 18 ([`look_up_64`]).
struct Steps {
    base: [__m512i; 2],
    /// A bit for each entry that is not the next one, where [`Steps::BEFORE`] has it.
    steps: [__m512i; 2],
    /// All bits where they go down.
    down: [__m512i; 2],
}

impl Steps {
    /// Bits of the steps before each of eight entries. They lie as 0, 4, 1, 5, 2, 6, 3, 7, the first in the highest bit.
    const BEFORE: [u8; 8] = [0, 0x80, 0xa0, 0xa8, 0xaa, 0xea, 0xfa, 0xfe];

    /// `None` where the table is not so.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi,avx512bitalg,gfni")]
    #[inline]
    fn new(table: &[i16; Table::LEN], k: &NormConstants<'_>) -> Option<Steps> {
        // Twice as much, so that results are the upper words of products.
        if !(-(1 << 29)..1 << 29).contains(&k.out_multiplier) {
            return None;
        }
        let m = halves_of(2 * k.out_multiplier);
        let half = _mm512_set1_epi32((1 << 15) + (k.out_zero_point << 16));
        let next = _mm512_broadcast_i32x4(_mm_setr_epi8(2, 3, 4, 5, 6, 7, 1, 7, 10, 11, 12, 13, 14, 15, 9, 15));
        let mut beyond = _mm512_setzero_si512();
        let mut fours = [_mm512_setzero_si512(); 8];
        for (fours, entries) in fours.iter_mut().zip(table.as_chunks::<32>().0.as_chunks::<4>().0) {
            let eights = |entries: &[i16; 32], others: &[i16; 32]| {
                let [a, b] = [entries, others].map(|entries| {
                    let [a, b] = products(entries, m, half);
                    _mm512_mask_blend_epi16(0xaaaa_aaaa, _mm512_srli_epi32::<16>(a), b)
                });
                let bytes = _mm512_packs_epi16(a, b);
                let step = _mm512_subs_epi8(_mm512_shuffle_epi8(bytes, next), bytes);
                // The lowest bits of eight bytes as a byte, and the highest: behind the first entry its steps, and those down.
                let bits = _mm512_set1_epi64(0x80_01_00);
                let eights = _mm512_mask_gf2p8affine_epi64_epi8::<0>(bytes, 0x0606_0606_0606_0606, bits, step);
                (_mm512_castsi512_ps(eights), _mm512_add_epi8(step, _mm512_set1_epi8(1)))
            };
            let [(a, first), (b, second)] = [eights(&entries[0], &entries[1]), eights(&entries[2], &entries[3])];
            beyond = _mm512_max_epu8(beyond, _mm512_max_epu8(first, second));
            *fours = _mm512_castps_si512(_mm512_shuffle_ps::<0b10_00_10_00>(a, b));
        }
        // Where an eight's first byte lies in two of these.
        let order: [u8; 64] = core::array::from_fn(|n| (n << 2 & 64 | n << 4 & 48 | n & 8 | n & 4) as u8);
        // SAFETY: 64 bytes.
        let order = unsafe { _mm512_loadu_si512(order.as_ptr().cast()) };
        let all = |byte: i8| {
            let order = _mm512_add_epi8(order, _mm512_set1_epi8(byte));
            let two = |at: usize| _mm512_permutex2var_epi8(fours[at], order, fours[at + 1]);
            [0, 4].map(|at| _mm512_inserti64x4::<1>(two(at), _mm512_castsi512_si256(two(at + 2))))
        };
        let (first, steps, falls) = (all(0), all(1), all(2));
        let falling = falls.map(|falls| _mm512_test_epi8_mask(falls, falls));
        let both_ways = |i: usize| _mm512_mask_cmpneq_epi8_mask(falling[i], falls[i], steps[i]);
        if _mm512_cmpgt_epu8_mask(beyond, _mm512_set1_epi8(2)) | both_ways(0) | both_ways(1) != 0 {
            return None;
        }
        let base = [0, 1].map(|i| _mm512_sub_epi8(first[i], _mm512_popcnt_epi8(falls[i])));
        Some(Steps { base, steps, down: falling.map(|falling| _mm512_movm_epi8(falling)) })
    }

    /// The table's bytes for words of [`indices`].
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi,avx512bitalg,gfni")]
    #[inline]
    fn of(&self, index: [__m512i; 2]) -> __m512i {
        let [eight, place] = split::<9>(index);
        let look_up = |table: &[__m512i; 2]| _mm512_permutex2var_epi8(table[0], eight, table[1]);
        let before = _mm512_permutexvar_epi8(place, _mm512_set1_epi64(i64::from_le_bytes(Steps::BEFORE)));
        // steps & (before ^ down)
        let steps = _mm512_ternarylogic_epi64::<0x60>(look_up(&self.steps), before, look_up(&self.down));
        _mm512_add_epi8(look_up(&self.base), _mm512_popcnt_epi8(steps))
    }
}

/// Of words of [`indices`] eight bits from bit `FROM` on, and the lowest eight of the index.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi")]
#[inline]
fn split<const FROM: i64>(index: [__m512i; 2]) -> [__m512i; 2] {
    let from = _mm512_set1_epi64(0x36_26_16_06 << 32 | 0x30_20_10_00 + 0x01_01_01_01 * FROM);
    let [a, b] = index.map(|index| _mm512_castsi512_ps(_mm512_multishift_epi64_epi8(from, index)));
    let [high, low] = [_mm512_shuffle_ps::<0b10_00_10_00>(a, b), _mm512_shuffle_ps::<0b11_01_11_01>(a, b)];
    [_mm512_castps_si512(high), _mm512_castps_si512(low)]
}

/// As [`look_up`] for all 64, as bytes; `vpermi2b` looks 64 bytes up in 128.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi")]
#[inline]
fn look_up_64(bytes: &[__m512i; 16], index: [__m512i; 2]) -> __m512i {
    let [high, low] = split::<14>(index);
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
                |index| {
                    let [a, b] = index.map(|index| look_up(&bytes, index));
                    _mm512_packs_epi16(a, b)
                },
            );
        }
        None => {
            let words = |sums: [[__m512i; 2]; 2]| {
                sums.map(|sums| {
                    let [a, b] = sums.map(|sum| _mm512_srai_epi32::<NORM_FRACTION_BITS>(sum));
                    _mm512_packs_epi32(a, b)
                })
            };
            blocks(out, out_c, src, src_c, k, words, |[a, b]| _mm512_packs_epi16(a, b));
        }
    }
}

/// As [`norm_i8`], where there is VBMI with BITALG and GFNI.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi,avx512bitalg,gfni")]
pub(super) fn norm_i8_vbmi(out: &mut [i8], out_c: usize, src: &[i8], src_c: usize, k: NormConstants<'_>) {
    let Some(table) = k.table.first_chunk() else { return norm_i8(out, out_c, src, src_c, k) };
    match Steps::new(table, &k) {
        Some(steps) => blocks(out, out_c, src, src_c, k, |sums| indices(sums), |index| steps.of(index)),
        None => {
            let bytes = results(table, &k);
            blocks(out, out_c, src, src_c, k, |sums| indices(sums), |index| look_up_64(&bytes, index));
        }
    }
}

/// Elements at a time, so that they stay in the first cache while one set of constants after the other passes over them.
const NORM_ELEMS: usize = 1 << 12;

/// Pixels as one row of elements, 64 at a time, whose constants come back after `period` of them, a whole number of pixels. What has
/// pixels of no whole number of eights is AVX2's.
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
    let pixels = match out_c == src_c {
        true => src.len().min(out.len()) / src_c,
        false => (src.len() / src_c).min((out.len() + out_c - src_c) / out_c),
    };
    let period_pixels = 1 << (6 - src_c.trailing_zeros().min(6));
    let (period, out_period) = (period_pixels * src_c, period_pixels * out_c);
    // Divisions take their time: in a small net, half of that of 16 vectors.
    let some = if pixels * src_c <= NORM_ELEMS { pixels } else { (NORM_ELEMS / period).max(1) * period_pixels };
    // A table's index has no sign.
    let more = if k.table.is_empty() { k.out_zero_point } else { Table::LEN as i32 / 2 };
    let more = _mm256_set1_epi32(more << NORM_FRACTION_BITS);
    // Of an element whose sign bit is flipped.
    let zero = _mm512_set1_epi16(k.zero_point as i16 + 128);
    let mut first = 0;
    while first < pixels {
        let len = some.min(pixels - first) * src_c;
        // Of each 64 elements of a period the first one's channel, and where its pixel begins in the output.
        let (mut channel, mut pixel) = (0, first * out_c);
        for phase in (0..period.min(len)).step_by(64) {
            // What lies together in the output, too: which bytes of a block, and where its first byte would be, from those of the
            // first pixel on.
            let (mut pieces, mut last) = ([(0, 0); 8], 0);
            pieces[0].1 = pixel + channel;
            let mut eight = 0;
            let eights = [(); 8].map(|()| {
                // SAFETY: a channel that is a multiple of 8 below their number, which is one, too.
                let [m, offset] =
                    [k.multiplier, k.offset].map(|x| unsafe { _mm256_loadu_si256(x.as_ptr().add(channel).cast()) });
                pieces[last].0 |= 0xff << (8 * eight);
                eight += 1;
                channel += 8;
                if channel == src_c {
                    (channel, pixel) = (0, pixel + out_c);
                    if out_c > src_c && eight < 8 {
                        last += 1;
                        pieces[last].1 = pixel - 8 * eight;
                    }
                }
                (m, _mm256_add_epi32(offset, more))
            });
            let factors = Factors::new(eights.map(|eight| eight.0), eights.map(|eight| eight.1));
            let words_of = |elems: __m512i| {
                let elems = _mm512_xor_si512(elems, _mm512_set1_epi8(-128));
                let none = _mm512_setzero_si512();
                let halves = [_mm512_unpacklo_epi8(elems, none), _mm512_unpackhi_epi8(elems, none)];
                words_of([0, 1].map(|half| factors.of(half, _mm512_sub_epi16(halves[half], zero))))
            };
            let (mut at, mut left, mut ahead) = (first * src_c + phase, len - phase, 0);
            let mut store = |bytes: __m512i, inside: __mmask64, ahead: usize| {
                // SAFETY: the bytes that the masks leave belong to as many pixels, which `out` has; others are not touched.
                let mut put = |(mask, place): (__mmask64, usize)| unsafe {
                    let to = out.as_mut_ptr().wrapping_add(place + ahead);
                    match mask & inside {
                        // A mask takes two cycles.
                        0xffff_ffff_ffff_ffff => _mm512_storeu_si512(to.cast(), bytes),
                        some => _mm512_mask_storeu_epi8(to, some, bytes),
                    }
                };
                put(pieces[0]);
                if last > 0 {
                    pieces.iter().take(last + 1).skip(1).for_each(|&piece| put(piece));
                }
            };
            // Whole blocks, two at a time, whose words are made a turn ahead.
            if left >= 64 + period {
                // SAFETY: of the elements of `pixels` pixels those from here on, and a period later.
                let two = |at: usize| unsafe {
                    [at, at + period].map(|at| words_of(_mm512_loadu_si512(src.as_ptr().add(at).cast())))
                };
                let mut words = two(at);
                while left > 0 {
                    (at, left) = (at + 2 * period, left.saturating_sub(2 * period));
                    let these = words;
                    let enough = left >= 64 + period;
                    if enough {
                        words = two(at);
                    }
                    for bytes in these.map(|words| bytes_of(words)) {
                        store(bytes, !0, ahead);
                        ahead += out_period;
                    }
                    if !enough {
                        break;
                    }
                }
            }
            while left > 0 {
                let inside = first64(left);
                // SAFETY: as above; what lies behind the elements is masked off.
                let elems = unsafe { _mm512_maskz_loadu_epi8(inside, src.as_ptr().add(at)) };
                store(bytes_of(words_of(elems)), inside, ahead);
                (at, left, ahead) = (at + period, left.saturating_sub(period), ahead + out_period);
            }
        }
        first += some;
    }
}

/// Vectors whose sums surely fit 32 bits: a lane takes at most 4·255·128 of each, and sixteen lanes may be added.
const SUM_VECTORS: usize = 1 << 9;

/// As many pixels as 64 bytes hold, or 64 channels of one. A lane sums four bytes, or one for each of `PARTS` parts of those, so that
/// no part has channels of two groups; one pass is all groups'.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn sums_i8(totals: &mut [[u64; 2]], row: &[i8], channels: usize, first: usize, group_c: usize) {
    match unit(channels, group_c) {
        1 => sums::<4, 2>(totals, row, channels, first, group_c),
        2 => sums::<2, 2>(totals, row, channels, first, group_c),
        _ => sums::<1, 4>(totals, row, channels, first, group_c),
    }
}

/// Σq² is Σ(q + 128)·q − 128·Σq, because one factor of `vpdpbusd` has no sign.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
fn sums<const PARTS: usize, const TURNS: usize>(
    totals: &mut [[u64; 2]],
    row: &[i8],
    channels: usize,
    first: usize,
    group_c: usize,
) {
    let c = channels.max(1);
    let width = totals.len().min(c.saturating_sub(first).checked_div(group_c).unwrap_or(0)) * group_c;
    // Divisions take their time.
    let (pixels, whole) = match c.is_power_of_two() {
        true => ((64 >> c.trailing_zeros().min(6)), row.len() & !(c - 1)),
        false => ((64 / c).max(1), row.len() / c * c),
    };
    let sign = _mm512_set1_epi8(-128);
    // Of the four bytes of a lane all, or two, or one.
    let mut chosen = [_mm512_set1_epi32(-1); PARTS];
    for (part, chosen) in chosen.iter_mut().enumerate().skip(PARTS & 1) {
        let bits = 32 / PARTS;
        *chosen = _mm512_set1_epi32(((1 << bits) - 1) << (bits * part));
    }
    let ones = chosen.map(|chosen| _mm512_and_si512(chosen, _mm512_set1_epi8(1)));
    let row = row.get(..whole).unwrap_or_default();
    let fold = c.is_power_of_two() && c >= 4;
    for block in (0..width).step_by(64) {
        let block_c = (width - block).min(64);
        let mask = (0..pixels).fold(0, |mask, pixel| mask | first64(block_c) << (pixel * c));
        for row in row.chunks(c * pixels * SUM_VECTORS) {
            // Vectors take turns, so that none waits for its own sum.
            let mut sums = [[_mm512_setzero_si512(); PARTS]; TURNS];
            let mut products = sums;
            let mut add = |turn: usize, elems: __m512i| {
                let flipped = _mm512_xor_si512(elems, sign);
                for part in 0..PARTS {
                    sums[turn][part] = _mm512_dpbusd_epi32(sums[turn][part], ones[part], elems);
                    // A mask of all bits costs nothing only where it is left out.
                    let factor = if PARTS > 1 { _mm512_and_si512(flipped, chosen[part]) } else { flipped };
                    products[turn][part] = _mm512_dpbusd_epi32(products[turn][part], factor, elems);
                }
            };
            let (step, mut at) = (c * pixels, first + block);
            while at + (TURNS - 1) * step + 64 <= row.len() {
                for turn in 0..TURNS {
                    // SAFETY: as the condition says.
                    add(turn, unsafe { _mm512_maskz_loadu_epi8(mask, row.as_ptr().add(at)) });
                    at += step;
                }
            }
            for several in row.get(at..).unwrap_or_default().chunks(TURNS * step) {
                for turn in 0..TURNS {
                    let Some(some) = several.get(turn * step..) else { continue };
                    // SAFETY: what lies behind the slice is masked off.
                    add(turn, unsafe { _mm512_maskz_loadu_epi8(mask & first64(some.len()), some.as_ptr()) });
                }
            }
            let mut lanes = [[[0; 16]; 2]; PARTS];
            for (part, [to_sums, to_squares]) in lanes.iter_mut().enumerate() {
                let folded = |x: [[__m512i; PARTS]; TURNS]| {
                    let mut x = x.map(|x| x[part]).into_iter().reduce(|a, b| _mm512_add_epi32(a, b)).unwrap_or(sign);
                    // Lanes of several pixels' same channels.
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
