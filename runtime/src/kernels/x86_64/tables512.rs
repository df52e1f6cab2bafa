//! AVX-512, pointwise tables. A table of 1,024 entries becomes 1,024 bytes of results in sixteen registers, or six registers of steps.

use super::TILING;
use crate::format::op::Table;
use crate::quant::NORM_FRACTION_BITS;
use core::arch::x86_64::*;

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
fn results(table: &[i16; Table::LEN], m: i32, zero_point: i32) -> [__m512i; 16] {
    let m = halves_of(m);
    // Rounded at bit 31, which is bit 15 here.
    let half = _mm512_set1_epi32((1 << 14) + (zero_point << 15));
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

/// Indices of 64 sums, those of a norm's factors, in words of ten bits, behind which are six of the fraction.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
pub(super) fn indices(sums: [[__m512i; 2]; 2]) -> [__m512i; 2] {
    // What is beyond the table's ends saturates.
    sums.map(|sums| {
        let [a, b] = sums.map(|sum| _mm512_srai_epi32::<{ NORM_FRACTION_BITS - 6 }>(sum));
        _mm512_packus_epi32(a, b)
    })
}

/// The table's bytes for words of [`indices`], as words.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
pub(super) fn look_up(bytes: &[__m512i; 16], index: __m512i) -> __m512i {
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

/// Of an activation in `norm_table`'s bytes: the results, or steps and a byte that says so.
pub(super) const BYTES: usize = TILING.norm_table();

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn norm_table(to: &mut [i8], table: &[i16], m: i32, zero_point: i32) {
    if let (Some(to), Some(table)) = (to.first_chunk_mut(), table.first_chunk()) {
        store::<16>(to, results(table, m, zero_point), 0);
    }
}

/// As [`norm_table`], where there is VBMI with BITALG and GFNI.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi,avx512bitalg,gfni")]
pub(super) fn norm_table_vbmi(to: &mut [i8], table: &[i16], m: i32, zero_point: i32) {
    let (Some(to), Some(entries)) = (to.first_chunk_mut(), table.first_chunk()) else { return };
    match Steps::new(entries, m, zero_point) {
        Some(Steps { base: [a, b], steps: [c, d], down: [e, f] }) => store(to, [a, b, c, d, e, f], 1),
        None => norm_table(to, table, m, zero_point),
    }
}

/// Vectors, and the byte behind all.
#[target_feature(enable = "avx512f")]
#[inline]
fn store<const N: usize>(to: &mut [i8; BYTES], vectors: [__m512i; N], last: i8) {
    const { assert!(64 * N < BYTES) };
    for (i, vector) in vectors.into_iter().enumerate() {
        // SAFETY: as the assertion says.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().add(64 * i).cast(), vector) };
    }
    to[BYTES - 1] = last;
}

/// What [`store`] has stored.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn load<const N: usize>(from: &[i8; BYTES]) -> [__m512i; N] {
    const { assert!(64 * N < BYTES) };
    // SAFETY: as the assertion says.
    core::array::from_fn(|i| unsafe { _mm512_loadu_si512(from.as_ptr().add(64 * i).cast()) })
}

/// A table whose bytes go up or down by one at most, and within eight of them only one way: the first of each eight, or the last where
/// they go down, and a bit for each step. An entry is the first and the steps before it, or the last and the steps behind it: six
/// instructions for 64 entries instead of 18 ([`look_up_64`]).
pub(super) struct Steps {
    base: [__m512i; 2],
    /// A bit for each entry that is not the next one, where [`Steps::BEFORE`] has it.
    steps: [__m512i; 2],
    /// All bits where they go down.
    down: [__m512i; 2],
}

impl Steps {
    /// Those of [`norm_table_vbmi`], where there are any.
    #[target_feature(enable = "avx512f")]
    #[inline]
    pub(super) fn of_bytes(bytes: &[i8; BYTES]) -> Option<Steps> {
        let [a, b, c, d, e, f] = load(bytes);
        (bytes[BYTES - 1] != 0).then_some(Steps { base: [a, b], steps: [c, d], down: [e, f] })
    }

    /// Bits of the steps before each of eight entries. They lie as 0, 4, 1, 5, 2, 6, 3, 7, the first in the highest bit.
    const BEFORE: [u8; 8] = [0, 0x80, 0xa0, 0xa8, 0xaa, 0xea, 0xfa, 0xfe];

    /// `None` where the table is not so.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi,avx512bitalg,gfni")]
    #[inline]
    fn new(table: &[i16; Table::LEN], m: i32, zero_point: i32) -> Option<Steps> {
        // Twice as much, so that results are the upper words of products.
        if !(-(1 << 29)..1 << 29).contains(&m) {
            return None;
        }
        let m = halves_of(2 * m);
        let half = _mm512_set1_epi32((1 << 15) + (zero_point << 16));
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
    pub(super) fn of(&self, index: [__m512i; 2]) -> __m512i {
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
    let from = _mm512_set1_epi64((0x36_26_16_06 << 32) | (0x30_20_10_00 + 0x01_01_01_01 * FROM));
    let [a, b] = index.map(|index| _mm512_castsi512_ps(_mm512_multishift_epi64_epi8(from, index)));
    let [high, low] = [_mm512_shuffle_ps::<0b10_00_10_00>(a, b), _mm512_shuffle_ps::<0b11_01_11_01>(a, b)];
    [_mm512_castps_si512(high), _mm512_castps_si512(low)]
}

/// As [`look_up`] for all 64, as bytes; `vpermi2b` looks 64 bytes up in 128.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi")]
#[inline]
pub(super) fn look_up_64(bytes: &[__m512i; 16], index: [__m512i; 2]) -> __m512i {
    let [high, low] = split::<14>(index);
    let of = |pair: usize| _mm512_permutex2var_epi8(bytes[2 * pair], low, bytes[2 * pair + 1]);
    let bit = |bit: u32| _mm512_test_epi8_mask(high, _mm512_set1_epi8(1 << bit));
    let (first, second, third) = (_mm512_movepi8_mask(low), bit(0), bit(1));
    let two = |pair: usize| _mm512_mask_blend_epi8(first, of(pair), of(pair + 1));
    let four = |pair: usize| _mm512_mask_blend_epi8(second, two(pair), two(pair + 2));
    _mm512_mask_blend_epi8(third, four(0), four(4))
}
