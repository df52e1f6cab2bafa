//! AVX-512's sixteen queries.

use super::super::{Attention, Exponential};
use super::attend;
use super::lanes::{ByteKeys, Keys, Lanes, Softmax};
use super::lanes256::instructions;
use super::rows512::Multiplier;
use crate::quant::MULTIPLIER_MAX;
use core::arch::x86_64::*;

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn attend_pack(packed: &mut [i32], keys_and_values: [&[i8]; 2], sizes: [usize; 2]) {
    // SAFETY: the instructions are there.
    unsafe { attend::pack::<__m512i, ByteKeys>(packed, keys_and_values, sizes) }
}

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn attend(out: &mut [i8], scratch: &mut [i32], attention: Attention<'_>) {
    // SAFETY: the instructions are there.
    unsafe { attend::attend::<__m512i, ByteKeys>(out, scratch, attention) }
}

// SAFETY of every block below: the trait's, or, of functions without a pointer, the part of it that says what the processor has.
impl Lanes for __m512i {
    const COUNT: usize = 16;
    /// One instruction looks 32 entries up in two registers.
    type Words = [__m512i; 2];
    type Multiplier = Multiplier;

    instructions! {
        sub: _mm512_sub_epi32,
        and: _mm512_and_si512,
        max: _mm512_max_epi32,
        product: _mm512_mullo_epi32,
    }

    #[inline(always)]
    unsafe fn transposed(rows: *const i8, stride: usize, to: *mut i32, step: usize) -> bool {
        unsafe {
            // Every fourth row of four neighbouring ones to a quarter.
            let mut four = [_mm512_setzero_si512(); 4];
            for (i, four) in four.iter_mut().enumerate() {
                let row = |quarter: usize| _mm_loadu_si128(rows.add((4 * quarter + i) * stride).cast());
                let [low, high] = [_mm256_set_m128i(row(1), row(0)), _mm256_set_m128i(row(3), row(2))];
                *four = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high);
            }
            let [a, b, c, d] = four;
            let [ab, cd] = [_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d)];
            let [more_ab, more_cd] = [_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d)];
            _mm512_unpacklo_epi64(ab, cd).store(to);
            _mm512_unpackhi_epi64(ab, cd).store(to.add(step));
            _mm512_unpacklo_epi64(more_ab, more_cd).store(to.add(2 * step));
            _mm512_unpackhi_epi64(more_ab, more_cd).store(to.add(3 * step));
            true
        }
    }

    #[inline(always)]
    unsafe fn pairs(a: *const i8, b: *const i8) -> Self {
        unsafe {
            let a = _mm512_cvtepi8_epi32(_mm_loadu_si128(a.cast()));
            let b = _mm512_slli_epi32::<16>(_mm512_cvtepi8_epi32(_mm_loadu_si128(b.cast())));
            _mm512_mask_mov_epi16(a, 0xaaaa_aaaa, b)
        }
    }

    #[inline(always)]
    unsafe fn spread(x: i32) -> Self {
        unsafe { _mm512_set1_epi32(x) }
    }

    #[inline(always)]
    unsafe fn load(from: *const i32) -> Self {
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut i32) {
        unsafe { _mm512_storeu_si512(to.cast(), self) }
    }

    #[inline(always)]
    unsafe fn add_pairs(self, a: Self, b: Self) -> Self {
        unsafe { _mm512_dpwssd_epi32(self, a, b) }
    }

    #[inline(always)]
    unsafe fn words(entries: &[u16; 64], twice: bool) -> Self::Words {
        unsafe {
            // 128 bytes.
            let words = entries.as_ptr();
            let twice = _mm_cvtsi32_si128(twice as i32);
            let low = _mm512_sll_epi16(_mm512_loadu_si512(words.cast()), twice);
            [low, _mm512_sll_epi16(_mm512_loadu_si512(words.add(32).cast()), twice)]
        }
    }

    #[inline(always)]
    unsafe fn index<const PLAIN: bool>(k: &Softmax<Self>, most: Self, [a, b]: [Self; 2]) -> Self {
        unsafe {
            let (a, b) = (twice_index::<PLAIN>(k, most, a), twice_index::<PLAIN>(k, most, b));
            let to_upper = _mm_setr_epi8(-1, -1, 0, 1, -1, -1, 4, 5, -1, -1, 8, 9, -1, -1, 12, 13);
            let twice = _mm512_mask_shuffle_epi8(a, 0xcccc_cccc_cccc_cccc, b, _mm512_broadcast_i32x4(to_upper));
            // Half of it and a half.
            let index = _mm512_avg_epu16(twice, _mm512_setzero_si512());
            _mm512_min_epu16(index, _mm512_set1_epi16(Exponential::INDEX_MAX as i16))
        }
    }

    #[inline(always)]
    unsafe fn weights<const PLAIN: bool>(k: &Softmax<Self>, [a, b]: [Self; 2]) -> [Self; 2] {
        unsafe { [weights::<PLAIN>(k, a), weights::<PLAIN>(k, b)] }
    }

    #[inline(always)]
    unsafe fn multipliers(self, values: f32, out: f32) -> Option<Self> {
        unsafe {
            let each = _mm512_mul_ps(_mm512_set1_ps(out), _mm512_cvtepi32_ps(self));
            let real = _mm512_div_ps(_mm512_set1_ps(values), each);
            let m = _mm512_cvtps_epi32(_mm512_mul_ps(real, _mm512_set1_ps(2_147_483_648.0)));
            match _mm512_cmp_ps_mask::<_CMP_LT_OQ>(real, _mm512_set1_ps(0.5)) {
                0xffff => Some(_mm512_min_epi32(m, _mm512_set1_epi32(MULTIPLIER_MAX))),
                _ => None,
            }
        }
    }

    #[inline(always)]
    unsafe fn multiplier(self, added: i32) -> Multiplier {
        unsafe { Multiplier::adding(self, added) }
    }

    #[inline(always)]
    unsafe fn scale(self, shift: Self, multiplier: Multiplier) -> Self {
        unsafe {
            let low = _mm512_srav_epi32(_mm512_set1_epi32(i32::MIN), shift);
            let high = _mm512_srav_epi32(_mm512_set1_epi32(i32::MAX), shift);
            let held = _mm512_min_epi32(_mm512_max_epi32(self, low), high);
            multiplier.mul_round(_mm512_sllv_epi32(held, shift))
        }
    }

    #[inline(always)]
    unsafe fn bytes([a, b, c, d]: [Self; 4]) -> Self {
        unsafe {
            let bytes = _mm512_packs_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
            let lanes = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
            _mm512_shuffle_epi8(bytes, _mm512_broadcast_i32x4(lanes))
        }
    }
}

impl Keys<__m512i> for ByteKeys {
    type Key = u8;

    #[inline(always)]
    fn key(elem: i8) -> u8 {
        elem as u8 ^ 0x80
    }

    #[inline(always)]
    unsafe fn queries(bytes: __m512i) -> [__m512i; 2] {
        [bytes; 2]
    }

    #[inline(always)]
    unsafe fn add_scores(scores: __m512i, query: __m512i, key: __m512i) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(scores, key, query) }
    }
}

/// Twice the index, not rounded.
///
/// # Safety
/// As of [`Lanes`].
#[inline(always)]
unsafe fn twice_index<const PLAIN: bool>(k: &Softmax<__m512i>, most: __m512i, score: __m512i) -> __m512i {
    unsafe {
        // The distance is exact without a sign.
        let below = _mm512_min_epu32(_mm512_sub_epi32(most, score), k.farthest);
        let shifted = if PLAIN { below } else { _mm512_sll_epi32(below, k.shift) };
        let even = _mm512_mul_epu32(shifted, k.multiplier);
        let odd = _mm512_mul_epu32(_mm512_shuffle_epi32::<0b11_11_01_01>(shifted), k.multiplier);
        _mm512_mask_shuffle_epi32::<0b11_11_01_01>(odd, 0b0101_0101_0101_0101, even)
    }
}

/// The weights of pairs.
///
/// # Safety
/// As of [`Lanes`].
#[inline(always)]
unsafe fn weights<const PLAIN: bool>(k: &Softmax<__m512i>, index: __m512i) -> __m512i {
    unsafe {
        let coarse = _mm512_permutex2var_epi16(k.coarse[0], _mm512_srli_epi16::<6>(index), k.coarse[1]);
        let fine = _mm512_permutex2var_epi16(k.fine[0], index, k.fine[1]);
        let weights = _mm512_mulhi_epu16(coarse, fine);
        if PLAIN { weights } else { _mm512_srl_epi16(weights, k.right) }
    }
}
