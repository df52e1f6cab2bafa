//! AVX-512, a group norm's application, 64 elements at a time.

use super::super::NormConstants;
use super::norm;
use super::rows512::first64;
use super::tables512::{BYTES, Steps, indices, load, look_up, look_up_64};
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

/// A group norm's application.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn norm_i8(out: &mut [i8], out_c: usize, src: &[i8], src_c: usize, k: NormConstants<'_>) {
    let words = |sums: [[__m512i; 2]; 2]| {
        sums.map(|sums| {
            let [a, b] = sums.map(|sum| _mm512_srai_epi32::<NORM_FRACTION_BITS>(sum));
            _mm512_packs_epi32(a, b)
        })
    };
    let [results] = k.results;
    match results.first_chunk() {
        Some(results) if !k.table.is_empty() => {
            let results = load(results);
            let bytes_of = |index: [__m512i; 2]| {
                let [a, b] = index.map(|index| look_up(&results, index));
                _mm512_packs_epi16(a, b)
            };
            blocks(out, out_c, src, src_c, k, |sums| indices(sums), bytes_of);
        }
        _ => blocks(out, out_c, src, src_c, k, words, |[a, b]| _mm512_packs_epi16(a, b)),
    }
}

/// As [`norm_i8`], where there is VBMI with BITALG and GFNI.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi,avx512bitalg,gfni")]
pub(super) fn norm_i8_vbmi(out: &mut [i8], out_c: usize, src: &[i8], src_c: usize, k: NormConstants<'_>) {
    let [results] = k.results;
    let Some(results) = results.first_chunk().filter(|_| !k.table.is_empty()) else {
        return norm_i8(out, out_c, src, src_c, k);
    };
    match Steps::of_bytes(results) {
        Some(steps) => blocks(out, out_c, src, src_c, k, |sums| indices(sums), |index| steps.of(index)),
        None => {
            let results = load(results);
            blocks(out, out_c, src, src_c, k, |sums| indices(sums), |index| look_up_64(&results, index));
        }
    }
}

#[target_feature(enable = "avx2")]
pub(super) fn norm_i16(out: &mut [i8], out_c: usize, src: &[i16], src_c: usize, k: NormConstants<'_>) {
    plain(k, |k| norm::norm_i16(out, out_c, src, src_c, k));
}

/// With the results as AVX2's functions take them.
#[target_feature(enable = "avx2")]
fn plain(k: NormConstants<'_>, run: impl FnOnce(NormConstants<'_>)) {
    let mut results = [0; BYTES];
    norm::norm_table(&mut results, k.table, k.out_multiplier, k.out_zero_point);
    run(NormConstants { results: [&results], ..k });
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
        return plain(k, |k| norm::norm_i8(out, out_c, src, src_c, k));
    }
    // The output's last pixel may end behind its channels.
    let gap = out_c - src_c;
    let pixels = match gap {
        0 => src.len().min(out.len()) / src_c,
        _ => (src.len() / src_c).min((out.len() + gap) / out_c),
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
        // Of the elements of a period the next eight's channel, and where they come in the output.
        let (mut channel, mut place) = (0, first * out_c);
        for phase in (0..period.min(len)).step_by(64) {
            let eights = [(); 8].map(|()| {
                // SAFETY: a channel that is a multiple of 8 below their number, which is one, too.
                let [m, offset] =
                    [k.multiplier, k.offset].map(|x| unsafe { _mm256_loadu_si256(x.as_ptr().add(channel).cast()) });
                let here = place;
                (channel, place) = (channel + 8, place + 8);
                if channel == src_c {
                    (channel, place) = (0, place + gap);
                }
                (m, _mm256_add_epi32(offset, more), here)
            });
            let factors = Factors::new(eights.map(|eight| eight.0), eights.map(|eight| eight.1));
            let places = eights.map(|eight| eight.2);
            let words_of = |elems: __m512i| {
                let elems = _mm512_xor_si512(elems, _mm512_set1_epi8(-128));
                let none = _mm512_setzero_si512();
                let halves = [_mm512_unpacklo_epi8(elems, none), _mm512_unpackhi_epi8(elems, none)];
                words_of([0, 1].map(|half| factors.of(half, _mm512_sub_epi16(halves[half], zero))))
            };
            let at = first * src_c + phase;
            let to = if gap == 0 { at } else { 0 };
            let (from, to) = (src.as_ptr().wrapping_add(at), out.as_mut_ptr().wrapping_add(to));
            let mut blocks = Blocks { from, to, left: len - phase, periods: [period, out_period] };
            // SAFETY: from `at` on there are `len - phase` elements of `pixels` pixels; each of their eights, two of which are in one pixel
            // where there is a whole number of sixteens, has its place in one of as many pixels of the output.
            unsafe {
                match gap {
                    0 => blocks.whole(words_of, &bytes_of, |to, bytes| _mm512_storeu_si512(to.cast(), bytes)),
                    _ if src_c.is_multiple_of(16) => blocks.whole(words_of, &bytes_of, |to, bytes| {
                        let to = |sixteen: usize| to.wrapping_add(places[2 * sixteen]).cast();
                        _mm_storeu_si128(to(0), _mm512_castsi512_si128(bytes));
                        _mm_storeu_si128(to(1), _mm512_extracti32x4_epi32::<1>(bytes));
                        _mm_storeu_si128(to(2), _mm512_extracti32x4_epi32::<2>(bytes));
                        _mm_storeu_si128(to(3), _mm512_extracti32x4_epi32::<3>(bytes));
                    }),
                    _ => {}
                }
                let places = if gap == 0 { [0, 8, 16, 24, 32, 40, 48, 56] } else { places };
                blocks.eights(&places, |elems| bytes_of(words_of(elems)));
            }
        }
        first += some;
    }
}

/// Where blocks of 64 elements are, and where they come: each a period behind the last one.
struct Blocks {
    from: *const i8,
    to: *mut i8,
    /// Elements from the first block's begin on.
    left: usize,
    /// In elements, and in the output.
    periods: [usize; 2],
}

impl Blocks {
    /// Those that are whole, two at a time, whose words are made a turn ahead.
    ///
    /// # Safety
    /// The elements are there, and `store` may be called with as many `to`.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn whole(
        &mut self,
        words_of: impl Fn(__m512i) -> [__m512i; 2],
        bytes_of: impl Fn([__m512i; 2]) -> __m512i,
        store: impl Fn(*mut i8, __m512i),
    ) {
        let Blocks { mut from, mut to, mut left, periods: [period, out_period] } = *self;
        // SAFETY: 64 elements, where it is called.
        let load = |from: *const i8| words_of(unsafe { _mm512_loadu_si512(from.cast()) });
        if left >= 64 + period {
            let two = |from: *const i8| [load(from), load(from.wrapping_add(period))];
            let mut words = two(from);
            loop {
                (from, left) = (from.wrapping_add(2 * period), left.saturating_sub(2 * period));
                let [a, b] = words;
                let enough = left >= 64 + period;
                if enough {
                    words = two(from);
                }
                store(to, bytes_of(a));
                store(to.wrapping_add(out_period), bytes_of(b));
                to = to.wrapping_add(2 * out_period);
                if !enough {
                    break;
                }
            }
        }
        if left >= 64 {
            store(to, bytes_of(load(from)));
            (from, to, left) = (from.wrapping_add(period), to.wrapping_add(out_period), left.saturating_sub(period));
        }
        (self.from, self.to, self.left) = (from, to, left);
    }

    /// All that are left, eight by eight.
    ///
    /// # Safety
    /// The elements are there, and places for them, whole eights.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn eights(&mut self, places: &[usize; 8], bytes_of: impl Fn(__m512i) -> __m512i) {
        while self.left > 0 {
            let mut eights = [0i64; 8];
            // SAFETY: what lies behind the elements is masked off; 64 bytes.
            unsafe {
                let elems = _mm512_maskz_loadu_epi8(first64(self.left), self.from);
                _mm512_storeu_si512(eights.as_mut_ptr().cast(), bytes_of(elems));
            }
            for (eight, &place) in eights.iter().zip(places).take(self.left / 8) {
                // SAFETY: the caller's promise.
                unsafe { self.to.add(place).cast::<i64>().write_unaligned(*eight) };
            }
            let [period, out_period] = self.periods;
            (self.from, self.to) = (self.from.wrapping_add(period), self.to.wrapping_add(out_period));
            self.left = self.left.saturating_sub(period);
        }
    }
}
