//! AVX2's eight queries, and AVX-VNNI's.

use super::super::{Attention, Exponential};
use super::attend;
use super::lanes::{ByteKeys, Keys, Lanes, Softmax, WordKeys};
use super::rows::Multiplier;
use crate::quant::MULTIPLIER_MAX;
use core::arch::x86_64::*;

#[target_feature(enable = "avx2")]
pub(super) fn attend_pack(packed: &mut [i32], keys_and_values: [&[i8]; 2], sizes: [usize; 2]) {
    // SAFETY: the instructions are there.
    unsafe { attend::pack::<__m256i, WordKeys>(packed, keys_and_values, sizes) }
}

#[target_feature(enable = "avx2")]
pub(super) fn attend(out: &mut [i8], scratch: &mut [i32], attention: Attention<'_>) {
    // SAFETY: the instructions are there.
    unsafe { attend::attend::<__m256i, WordKeys>(out, scratch, attention) }
}

#[target_feature(enable = "avx2,avxvnni")]
pub(super) fn attend_pack_vnni(packed: &mut [i32], keys_and_values: [&[i8]; 2], sizes: [usize; 2]) {
    // SAFETY: the instructions are there.
    unsafe { attend::pack::<__m256i, ByteKeys>(packed, keys_and_values, sizes) }
}

#[target_feature(enable = "avx2,avxvnni")]
pub(super) fn attend_vnni(out: &mut [i8], scratch: &mut [i32], attention: Attention<'_>) {
    // SAFETY: the instructions are there.
    unsafe { attend::attend::<__m256i, ByteKeys>(out, scratch, attention) }
}

/// Functions of two vectors that are an instruction.
macro_rules! instructions {
    ($($name:ident: $intrinsic:ident,)*) => {$(
        #[inline(always)]
        unsafe fn $name(self, other: Self) -> Self {
            // SAFETY: the trait's.
            unsafe { $intrinsic(self, other) }
        }
    )*};
}
pub(super) use instructions;

// SAFETY of every block below: the trait's, or, of functions without a pointer, the part of it that says what the processor has.
impl Lanes for __m256i {
    const COUNT: usize = 8;
    /// The low bytes, then the high ones, sixteen a register: see `words`.
    type Words = [[__m256i; 4]; 2];
    type Multiplier = Multiplier;

    instructions! {
        sub: _mm256_sub_epi32,
        and: _mm256_and_si256,
        max: _mm256_max_epi32,
        product: _mm256_mullo_epi32,
    }

    #[inline(always)]
    unsafe fn pairs(a: *const i8, b: *const i8) -> Self {
        unsafe {
            let a = _mm256_cvtepi8_epi32(_mm_loadl_epi64(a.cast()));
            let b = _mm256_slli_epi32::<16>(_mm256_cvtepi8_epi32(_mm_loadl_epi64(b.cast())));
            _mm256_blend_epi16::<0b1010_1010>(a, b)
        }
    }

    #[inline(always)]
    unsafe fn spread(x: i32) -> Self {
        unsafe { _mm256_set1_epi32(x) }
    }

    #[inline(always)]
    unsafe fn load(from: *const i32) -> Self {
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut i32) {
        unsafe { _mm256_storeu_si256(to.cast(), self) }
    }

    #[inline(always)]
    unsafe fn add_pairs(self, a: Self, b: Self) -> Self {
        unsafe { _mm256_add_epi32(self, _mm256_madd_epi16(a, b)) }
    }

    /// Each register but the first is the difference (XOR) from the one before, so that an entry is the sum of what is found in its own and
    /// in those before it: `vpshufb` finds 0 for a byte below zero, and whatever for one above 15.
    #[inline(always)]
    unsafe fn words(entries: &[u16; 64], twice: bool) -> Self::Words {
        let mut planes = [[0u8; 64]; 2];
        for (i, entry) in entries.iter().enumerate() {
            [planes[0][i], planes[1][i]] = (entry << twice as u32).to_le_bytes();
        }
        let mut words = [[unsafe { _mm256_setzero_si256() }; 4]; 2];
        for (registers, bytes) in words.iter_mut().zip(&planes) {
            let mut before = unsafe { _mm256_setzero_si256() };
            for (register, bytes) in registers.iter_mut().zip(bytes.as_chunks::<16>().0) {
                unsafe {
                    let these = _mm256_broadcastsi128_si256(_mm_loadu_si128(bytes.as_ptr().cast()));
                    *register = _mm256_xor_si256(these, before);
                    before = these;
                }
            }
        }
        words
    }

    #[inline(always)]
    unsafe fn index<const PLAIN: bool>(k: &Softmax<Self>, most: Self, [a, b]: [Self; 2]) -> Self {
        unsafe {
            let ([a_even, a_odd], [b_even, b_odd]) =
                (twice_index::<PLAIN>(k, most, a), twice_index::<PLAIN>(k, most, b));
            let (a_even, b_even) = (_mm256_srli_epi64::<32>(a_even), _mm256_srli_epi64::<16>(b_even));
            let even = _mm256_blend_epi16::<0b1010_1010>(a_even, b_even);
            let odd = _mm256_blend_epi16::<0b1010_1010>(a_odd, _mm256_slli_epi64::<16>(b_odd));
            let twice = _mm256_blend_epi32::<0b1010_1010>(even, odd);
            // Half of it and a half.
            let index = _mm256_avg_epu16(twice, _mm256_setzero_si256());
            _mm256_min_epu16(index, _mm256_set1_epi16(Exponential::INDEX_MAX as i16))
        }
    }

    #[inline(always)]
    unsafe fn weights<const PLAIN: bool>(k: &Softmax<Self>, [a, b]: [Self; 2]) -> [Self; 2] {
        unsafe {
            let low = _mm256_set1_epi16(63);
            let coarse = _mm256_packus_epi16(_mm256_srli_epi16::<6>(a), _mm256_srli_epi16::<6>(b));
            let fine = _mm256_packus_epi16(_mm256_and_si256(a, low), _mm256_and_si256(b, low));
            let (coarse, fine) = (look_up::<PLAIN>(&k.coarse, coarse), look_up::<false>(&k.fine, fine));
            let weights = [_mm256_mulhi_epu16(coarse[0], fine[0]), _mm256_mulhi_epu16(coarse[1], fine[1])];
            if PLAIN {
                return weights;
            }
            [_mm256_srl_epi16(weights[0], k.right), _mm256_srl_epi16(weights[1], k.right)]
        }
    }

    #[inline(always)]
    unsafe fn multipliers(self, values: f32, out: f32) -> Option<Self> {
        unsafe {
            let each = _mm256_mul_ps(_mm256_set1_ps(out), _mm256_cvtepi32_ps(self));
            let real = _mm256_div_ps(_mm256_set1_ps(values), each);
            let m = _mm256_cvtps_epi32(_mm256_mul_ps(real, _mm256_set1_ps(2_147_483_648.0)));
            match _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(real, _mm256_set1_ps(0.5))) {
                0xff => Some(_mm256_min_epi32(m, _mm256_set1_epi32(MULTIPLIER_MAX))),
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
            let low = _mm256_srav_epi32(_mm256_set1_epi32(i32::MIN), shift);
            let high = _mm256_srav_epi32(_mm256_set1_epi32(i32::MAX), shift);
            let held = _mm256_min_epi32(_mm256_max_epi32(self, low), high);
            multiplier.mul_round(_mm256_sllv_epi32(held, shift))
        }
    }

    #[inline(always)]
    unsafe fn bytes([a, b, c, d]: [Self; 4]) -> Self {
        unsafe {
            let bytes = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
            let lanes = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
            _mm256_shuffle_epi8(bytes, _mm256_broadcastsi128_si256(lanes))
        }
    }
}

/// AVX2's, because `vpmaddwd` is its one exact product that sums.
impl Keys<__m256i> for WordKeys {
    type Key = i16;

    #[inline(always)]
    fn key(elem: i8) -> i16 {
        elem.into()
    }

    #[inline(always)]
    unsafe fn queries(bytes: __m256i) -> [__m256i; 2] {
        unsafe {
            // To the upper bytes of words, which the shift widens.
            let first = _mm_setr_epi8(-1, 0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13);
            let second = _mm_setr_epi8(-1, 2, -1, 3, -1, 6, -1, 7, -1, 10, -1, 11, -1, 14, -1, 15);
            let first = _mm256_shuffle_epi8(bytes, _mm256_broadcastsi128_si256(first));
            let second = _mm256_shuffle_epi8(bytes, _mm256_broadcastsi128_si256(second));
            [_mm256_srai_epi16::<8>(first), _mm256_srai_epi16::<8>(second)]
        }
    }

    #[inline(always)]
    unsafe fn add_scores(scores: __m256i, query: __m256i, key: __m256i) -> __m256i {
        unsafe { scores.add_pairs(query, key) }
    }
}

/// AVX-VNNI's.
impl Keys<__m256i> for ByteKeys {
    type Key = u8;

    #[inline(always)]
    fn key(elem: i8) -> u8 {
        elem as u8 ^ 0x80
    }

    #[inline(always)]
    unsafe fn queries(bytes: __m256i) -> [__m256i; 2] {
        [bytes; 2]
    }

    #[inline(always)]
    unsafe fn add_scores(scores: __m256i, query: __m256i, key: __m256i) -> __m256i {
        unsafe { _mm256_dpbusd_avx_epi32(scores, key, query) }
    }
}

/// Twice the index, not rounded, in the upper halves of the products of even lanes and of odd ones.
///
/// # Safety
/// As of [`Lanes`].
#[inline(always)]
unsafe fn twice_index<const PLAIN: bool>(k: &Softmax<__m256i>, most: __m256i, score: __m256i) -> [__m256i; 2] {
    unsafe {
        // The distance is exact without a sign.
        let below = _mm256_min_epu32(_mm256_sub_epi32(most, score), k.farthest);
        let shifted = if PLAIN { below } else { _mm256_sll_epi32(below, k.shift) };
        // By a shuffle, as in `rows`.
        let odd = _mm256_shuffle_epi32::<0b11_11_01_01>(shifted);
        [_mm256_mul_epu32(shifted, k.multiplier), _mm256_mul_epu32(odd, k.multiplier)]
    }
}

/// Words for 32 bytes below 64, those of each half's first eight bytes in the first vector. `FALLS` is a table of which
/// [`Softmax::plain`] holds: 5 look-ups instead of 8, because what is behind has the same entry.
///
/// # Safety
/// As of [`Lanes`].
#[inline(always)]
unsafe fn look_up<const FALLS: bool>([low, high]: &[[__m256i; 4]; 2], index: __m256i) -> [__m256i; 2] {
    const LAST: [i8; 2] = [Softmax::<__m256i>::ZERO_FROM as i8, Softmax::<__m256i>::LOW_FROM as i8];
    unsafe {
        let sixteen = _mm256_set1_epi8(16);
        let first = if FALLS { _mm256_min_epu8(index, _mm256_set1_epi8(LAST[0])) } else { index };
        let second = _mm256_sub_epi8(first, sixteen);
        let third = _mm256_sub_epi8(second, sixteen);
        let lows = _mm256_xor_si256(_mm256_shuffle_epi8(low[0], first), _mm256_shuffle_epi8(low[1], second));
        let mut lows = _mm256_xor_si256(lows, _mm256_shuffle_epi8(low[2], third));
        let highs = if FALLS {
            let first = _mm256_min_epu8(index, _mm256_set1_epi8(LAST[1]));
            let second = _mm256_sub_epi8(first, sixteen);
            _mm256_xor_si256(_mm256_shuffle_epi8(high[0], first), _mm256_shuffle_epi8(high[1], second))
        } else {
            let fourth = _mm256_sub_epi8(third, sixteen);
            lows = _mm256_xor_si256(lows, _mm256_shuffle_epi8(low[3], fourth));
            let highs = _mm256_xor_si256(_mm256_shuffle_epi8(high[0], first), _mm256_shuffle_epi8(high[1], second));
            let more = _mm256_xor_si256(_mm256_shuffle_epi8(high[2], third), _mm256_shuffle_epi8(high[3], fourth));
            _mm256_xor_si256(highs, more)
        };
        [_mm256_unpacklo_epi8(lows, highs), _mm256_unpackhi_epi8(lows, highs)]
    }
}
