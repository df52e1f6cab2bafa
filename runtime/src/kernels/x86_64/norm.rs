//! AVX2, group norm: eight channels of two pixels a vector.

use super::rows::{Element, eight, load};
use crate::format::op::Table;
use crate::kernels::NormConstants;
use crate::quant::NORM_FRACTION_BITS;
use core::arch::x86_64::*;

/// Factors m of eight channels, for words w of two pixels: `(w·m >> 15) + (half >> 15)`, rounded down once. m has two halves
/// of 15 bits, so that it is w·high + ((w·low + half) >> 15), all of it 32 bits; `vpmaddwd` multiplies every other word, and
/// the word beside it meets a zero.
struct Factors {
    high: [__m256i; 2],
    low: [__m256i; 2],
    half: __m256i,
}

/// Lanes of eight channels, the even ones and the odd ones, for two pixels.
#[target_feature(enable = "avx2")]
#[inline]
fn even_and_odd(x: __m256i) -> [__m256i; 2] {
    let even = _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6);
    [even, _mm256_add_epi32(even, _mm256_set1_epi32(1))].map(|lanes| _mm256_permutevar8x32_epi32(x, lanes))
}

impl Factors {
    #[target_feature(enable = "avx2")]
    #[inline]
    fn new(m: __m256i, half: i32) -> Factors {
        let [even, odd] = even_and_odd(m);
        let word = _mm256_set1_epi32(0xffff);
        let high = [
            _mm256_and_si256(_mm256_srai_epi32::<15>(even), word),
            _mm256_andnot_si256(word, _mm256_slli_epi32::<1>(odd)),
        ];
        let low = _mm256_set1_epi32(0x7fff);
        let low = [_mm256_and_si256(even, low), _mm256_slli_epi32::<16>(_mm256_and_si256(odd, low))];
        Factors { high, low, half: _mm256_set1_epi32(half) }
    }

    /// Lanes of the even words and of the odd ones.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn of(&self, words: __m256i) -> [__m256i; 2] {
        let one = |i: usize| {
            let low = _mm256_add_epi32(_mm256_madd_epi16(words, self.low[i]), self.half);
            _mm256_add_epi32(_mm256_madd_epi16(words, self.high[i]), _mm256_srai_epi32::<15>(low))
        };
        [one(0), one(1)]
    }
}

/// Table entries as the bytes that they become.
#[target_feature(enable = "avx2")]
#[inline]
fn results(table: &[i16; Table::LEN], k: &NormConstants<'_>) -> [i8; Table::LEN] {
    let factors = Factors::new(_mm256_set1_epi32(k.out_multiplier), 0);
    let zero = _mm256_set1_epi16(k.out_zero_point as i16);
    let mut bytes = [0; Table::LEN];
    for (bytes, entries) in bytes.as_chunks_mut::<16>().0.iter_mut().zip(table.as_chunks::<16>().0) {
        // SAFETY: 32 bytes.
        let entries = unsafe { _mm256_loadu_si256(entries.as_ptr().cast()) };
        // Rounded at bit 31, which is bit 16 here; a result has 15 bits.
        let [even, odd] = factors.of(entries).map(|x| _mm256_add_epi32(x, _mm256_set1_epi32(1 << 15)));
        let words = _mm256_blend_epi16::<0b1010_1010>(_mm256_srli_epi32::<16>(even), odd);
        let words = _mm256_add_epi16(words, zero);
        let packed = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
        // SAFETY: sixteen bytes.
        unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), packed) };
    }
    bytes
}

/// Pixels at a time, all channels of them, so that they stay in the first cache.
const NORM_PIXELS: usize = 32;

/// Eight channels keep their constants in registers while some pixels pass, two at a time; the last of an odd number is done
/// twice, and the last channels of an uneven number once more. `EXTRA` is what the element's shift is short of 16.
#[target_feature(enable = "avx2")]
pub(super) fn norm<T: Element, const EXTRA: i32>(
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
    let table: Option<[i8; Table::LEN]> = k.table.first_chunk().map(|table| results(table, &k));
    let zero = _mm256_set1_epi16(k.zero_point as i16);
    let out_zero = _mm256_set1_epi16(k.out_zero_point as i16);
    // A table's index has no sign.
    let middle = if table.is_some() { (Table::LEN as i32 / 2) << NORM_FRACTION_BITS } else { 0 };
    let in_order = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15));
    // Those whose channels are all there; the output's last pixel may end behind them.
    let pixels = (src.len() / src_c).min((out.len() + out_c - width) / out_c);
    for some in (0..pixels).step_by(NORM_PIXELS) {
        let end = pixels.min(some + NORM_PIXELS);
        for first in (0..width).step_by(8) {
            let first = first.min(width - 8);
            let factors = Factors::new(load(&eight(k.multiplier, first)), 1 << (14 + EXTRA));
            let offset = _mm256_add_epi32(load(&eight(k.offset, first)), _mm256_set1_epi32(middle));
            let offset = even_and_odd(offset);
            let mut indices = [[[0u16; 8]; 2]; NORM_PIXELS / 2];
            for (pixel, indices) in (some..end).step_by(2).zip(&mut indices) {
                let pair = [pixel, (pixel + 1).min(end - 1)];
                // SAFETY: a pixel below `pixels` has `width` channels in both, of which these are eight.
                let [a, b] = pair.map(|pixel| unsafe { &*src.as_ptr().add(pixel * src_c + first).cast::<[T; 8]>() });
                let to = pair.map(|pixel| unsafe { out.as_mut_ptr().add(pixel * out_c + first).cast::<[i8; 8]>() });
                let sums = factors.of(_mm256_sub_epi16(T::words(a, b), zero));
                // Both summands are below 2³⁰: nothing saturates.
                let index = |x: __m256i, offset: __m256i| {
                    let sum = _mm256_add_epi32(_mm256_srai_epi32::<EXTRA>(x), offset);
                    _mm256_srai_epi32::<{ NORM_FRACTION_BITS as i32 }>(sum)
                };
                let (even, odd) = (index(sums[0], offset[0]), index(sums[1], offset[1]));
                match &table {
                    None => {
                        let words = _mm256_adds_epi16(_mm256_packs_epi32(even, odd), out_zero);
                        let words = _mm256_shuffle_epi8(words, in_order);
                        let bytes = _mm256_packs_epi16(words, words);
                        // SAFETY: as above.
                        unsafe {
                            _mm_storel_epi64(to[0].cast(), _mm256_castsi256_si128(bytes));
                            _mm_storel_epi64(to[1].cast(), _mm256_extracti128_si256::<1>(bytes));
                        }
                    }
                    Some(_) => {
                        let last = _mm256_set1_epi16(Table::LEN as i16 - 1);
                        let index = _mm256_min_epu16(_mm256_packus_epi32(even, odd), last);
                        // SAFETY: 32 bytes.
                        unsafe { _mm256_storeu_si256(indices.as_mut_ptr().cast(), index) };
                    }
                }
            }
            if let Some(table) = &table {
                for (pixel, at) in (some..end).zip(indices.as_flattened()) {
                    // SAFETY: as above.
                    let to = unsafe { &mut *out.as_mut_ptr().add(pixel * out_c + first).cast::<[i8; 8]>() };
                    *to = unsafe { look_up(table, at) };
                }
            }
        }
    }
}

/// Eight entries. With a mask instead of the promise, a compiler masks all of them at once and then takes them out of the register one by
/// one.
///
/// # Safety
/// Indices lie within the table.
#[inline(always)]
unsafe fn look_up(table: &[i8; Table::LEN], at: &[u16; 8]) -> [i8; 8] {
    // SAFETY: the caller's promise.
    [0, 4, 1, 5, 2, 6, 3, 7].map(|i| unsafe { *table.get_unchecked(at[i] as usize) })
}
