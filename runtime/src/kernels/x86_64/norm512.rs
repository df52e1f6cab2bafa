//! AVX-512, group norm. A pointwise table of 1,024 entries becomes 1,024 bytes of results in sixteen registers, and sums of bytes
//! are `vpdpbusd`.

use super::super::NormConstants;
use super::norm::{add_up, unit};
use super::rows512::{first64, load};
use crate::format::op::Table;
use crate::quant::NORM_FRACTION_BITS;
use core::arch::x86_64::*;

/// Factors of 32 words, and what is added to the products: `(w·m + add·2¹⁵) >> 15`, for even words and for odd ones, each in
/// a lane of 32 bits. m has two halves of 15 bits, so that it is w·high + add + (w·low >> 15), and `vpdpwssd` multiplies and
/// adds at once; the other word of a lane meets a zero.
#[derive(Clone, Copy)]
struct Pairs {
    high: [__m512i; 2],
    low: [__m512i; 2],
    add: [__m512i; 2],
    /// Of the lower product.
    half: __m512i,
}

impl Pairs {
    /// From factors and addends in order, sixteen a vector.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    fn new(m: [__m512i; 2], add: [__m512i; 2], half: i32) -> Pairs {
        let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
        let split = |x: [__m512i; 2]| [even, odd].map(|index| _mm512_permutex2var_epi32(x[0], index, x[1]));
        let (m, add) = (split(m), split(add));
        let word = _mm512_set1_epi32(0xffff);
        let high = [
            _mm512_and_si512(_mm512_srai_epi32::<15>(m[0]), word),
            _mm512_andnot_si512(word, _mm512_slli_epi32::<1>(m[1])),
        ];
        let low = m.map(|m| _mm512_and_si512(m, _mm512_set1_epi32(0x7fff)));
        Pairs { high, low: [low[0], _mm512_slli_epi32::<16>(low[1])], add, half: _mm512_set1_epi32(half) }
    }

    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    fn of(&self, words: __m512i) -> [__m512i; 2] {
        let one = |i: usize| {
            let low = _mm512_srai_epi32::<15>(_mm512_dpwssd_epi32(self.half, words, self.low[i]));
            _mm512_add_epi32(_mm512_dpwssd_epi32(self.add[i], words, self.high[i]), low)
        };
        [one(0), one(1)]
    }
}

/// Words of eight, the even ones first, as bytes in order.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
fn in_order(bytes: __m256i) -> __m256i {
    let order = _mm256_setr_epi8(
        0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15, 0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15,
    );
    _mm256_shuffle_epi8(bytes, order)
}

/// Table entries as the bytes that they become, two a word: entry i is byte i.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
fn results(table: &[i16; Table::LEN], k: &NormConstants<'_>) -> [__m512i; 16] {
    // Rounded at bit 31, which is bit 16 of what `Pairs` gives.
    let (m, half) = (_mm512_set1_epi32(k.out_multiplier), _mm512_set1_epi32(1 << 15));
    let pairs = Pairs::new([m; 2], [half; 2], 0);
    let zero = _mm512_set1_epi16(k.out_zero_point as i16);
    let bytes_of = |entries: &[i16]| {
        // SAFETY: what lies behind the slice is masked off.
        let entries = unsafe { _mm512_maskz_loadu_epi16(first64(entries.len()) as __mmask32, entries.as_ptr()) };
        let [even, odd] = pairs.of(entries).map(|x| _mm512_srai_epi32::<16>(x));
        in_order(_mm512_cvtsepi16_epi8(_mm512_adds_epi16(_mm512_packs_epi32(even, odd), zero)))
    };
    let mut words = [_mm512_setzero_si512(); 16];
    for (words, entries) in words.iter_mut().zip(table.as_chunks::<64>().0) {
        let (low, high) = (bytes_of(&entries[..32]), bytes_of(&entries[32..]));
        *words = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high);
    }
    words
}

/// Byte `index` of 1,024 for each of 32 words; the upper byte of a word is whatever.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
fn look_up(words: &[__m512i; 16], index: __m512i) -> __m512i {
    let at = _mm512_srli_epi16::<1>(index);
    let of = |pair: usize| _mm512_permutex2var_epi16(words[2 * pair], at, words[2 * pair + 1]);
    let bit = |bit: i16| _mm512_test_epi16_mask(at, _mm512_set1_epi16(1 << bit));
    let (first, second, third) = (bit(6), bit(7), bit(8));
    let two = |pair: usize| _mm512_mask_blend_epi16(first, of(pair), of(pair + 1));
    let four = |pair: usize| _mm512_mask_blend_epi16(second, two(pair), two(pair + 2));
    let word = _mm512_mask_blend_epi16(third, four(0), four(4));
    let odd = _mm512_slli_epi16::<3>(_mm512_and_si512(index, _mm512_set1_epi16(1)));
    _mm512_srlv_epi16(word, odd)
}

/// Pixels at a time, all channels of them, so that they stay in the first cache.
const NORM_PIXELS: usize = 32;

/// 32 channels at a time, or the last sixteen of two pixels, keep their constants in registers while some pixels pass.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn norm_i8(out: &mut [i8], out_c: usize, src: &[i8], src_c: usize, k: NormConstants<'_>) {
    let table: Option<[__m512i; 16]> = k.table.first_chunk().map(|table| results(table, &k));
    let [out_c, src_c] = [out_c.max(1), src_c.max(1)];
    let width = src_c.min(out_c).min(k.multiplier.len()).min(k.offset.len());
    let zero = _mm512_set1_epi16(k.zero_point as i16);
    let out_zero = _mm512_set1_epi16(k.out_zero_point as i16);
    let last = _mm512_set1_epi16(Table::LEN as i16 - 1);
    // A table's index has no sign.
    let middle = if table.is_some() { (Table::LEN as i32 / 2) << NORM_FRACTION_BITS } else { 0 };
    for (out, src) in out.chunks_mut(out_c * NORM_PIXELS).zip(src.chunks(src_c * NORM_PIXELS)) {
        let mut first = 0;
        while first < width {
            let some = (width - first).min(32);
            let two = some <= 16;
            let lanes =
                |constants: &[i32], at: usize| load(constants.get(first + at..first + some).unwrap_or_default());
            let second = if two { 0 } else { 16 };
            let m = [lanes(k.multiplier, 0), lanes(k.multiplier, second)];
            let offset = [lanes(k.offset, 0), lanes(k.offset, second)];
            let offset = offset.map(|offset| _mm512_add_epi32(offset, _mm512_set1_epi32(middle)));
            let pairs = Pairs::new(m, offset, 1 << 14);
            let bytes_of = |elems: __m256i| {
                let centred = _mm512_sub_epi16(_mm512_cvtepi8_epi16(elems), zero);
                // Both summands are below 2³⁰: nothing saturates.
                let [even, odd] = pairs.of(centred).map(|x| _mm512_srai_epi32::<NORM_FRACTION_BITS>(x));
                in_order(match &table {
                    None => _mm512_cvtsepi16_epi8(_mm512_adds_epi16(_mm512_packs_epi32(even, odd), out_zero)),
                    Some(table) => {
                        let index = _mm512_min_epu16(_mm512_packus_epi32(even, odd), last);
                        _mm512_cvtepi16_epi8(look_up(table, index))
                    }
                })
            };
            let mask = first64(some) as __mmask32;
            if two {
                let mask = mask as __mmask16;
                let pixels = out.chunks_mut(2 * out_c).zip(src.chunks(2 * src_c));
                for (out, src) in pixels {
                    let at = |pixel: usize, c: usize| pixel * c + first;
                    // SAFETY (of both): `some` bytes, or none; the others are masked off.
                    let of = |pixel: usize| match src.get(at(pixel, src_c)..at(pixel, src_c) + some) {
                        Some(src) => unsafe { _mm_maskz_loadu_epi8(mask, src.as_ptr()) },
                        None => _mm_setzero_si128(),
                    };
                    let bytes = bytes_of(_mm256_set_m128i(of(1), of(0)));
                    let mut to = |pixel: usize, bytes: __m128i| {
                        let inside = src.len() >= (pixel + 1) * src_c;
                        if let Some(out) = out.get_mut(at(pixel, out_c)..).filter(|_| inside) {
                            let mask = mask & first64(out.len()) as __mmask16;
                            unsafe { _mm_mask_storeu_epi8(out.as_mut_ptr(), mask, bytes) };
                        }
                    };
                    to(0, _mm256_castsi256_si128(bytes));
                    to(1, _mm256_extracti128_si256::<1>(bytes));
                }
            } else {
                for (out, src) in out.chunks_mut(out_c).zip(src.chunks_exact(src_c)) {
                    let (Some(out), Some(src)) = (out.get_mut(first..), src.get(first..first + some)) else { break };
                    let mask = mask & first64(out.len()) as __mmask32;
                    // SAFETY (of both): `some` bytes, of which `out` may have fewer; the others are masked off.
                    let bytes = bytes_of(unsafe { _mm256_maskz_loadu_epi8(mask, src.as_ptr()) });
                    unsafe { _mm256_mask_storeu_epi8(out.as_mut_ptr(), mask, bytes) };
                }
            }
            first += some;
        }
    }
}

/// Vectors whose sums surely fit 32 bits: a lane takes at most 4·255·128 of each.
const SUM_VECTORS: usize = 1 << 13;

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
    for block in (0..width).step_by(64) {
        let block_c = (width - block).min(64);
        let mask = (0..pixels).fold(0, |mask, pixel| mask | first64(block_c) << (pixel * c));
        for row in row.chunks(c * pixels * SUM_VECTORS) {
            let (mut sums, mut products) = ([_mm512_setzero_si512(); PARTS], [_mm512_setzero_si512(); PARTS]);
            for some in row.chunks(c * pixels) {
                let Some(some) = some.get(first + block..) else { continue };
                // SAFETY: what lies behind the slice is masked off.
                let elems = unsafe { _mm512_maskz_loadu_epi8(mask & first64(some.len()), some.as_ptr()) };
                let flipped = _mm512_xor_si512(elems, sign);
                for part in 0..PARTS {
                    sums[part] = _mm512_dpbusd_epi32(sums[part], ones[part], elems);
                    let factor = _mm512_and_si512(flipped, chosen[part]);
                    products[part] = _mm512_dpbusd_epi32(products[part], factor, elems);
                }
            }
            let mut lanes = [[[0; 16]; 2]; PARTS];
            for (part, [to_sums, to_squares]) in lanes.iter_mut().enumerate() {
                let squares = _mm512_sub_epi32(products[part], _mm512_slli_epi32::<7>(sums[part]));
                // SAFETY: 64 bytes each.
                unsafe {
                    _mm512_storeu_si512(to_sums.as_mut_ptr().cast(), sums[part]);
                    _mm512_storeu_si512(to_squares.as_mut_ptr().cast(), squares);
                }
            }
            for pixel in 0..pixels {
                add_up(totals, group_c, block..block + block_c, &lanes, 4, pixel * c);
            }
        }
    }
}
