//! What attention asks of a vector of queries: AVX2's eight and AVX-512's sixteen.
//!
//! The functions of the trait have no target feature of their own, because a trait's cannot: they are inlined into functions that have it,
//! and only there.

use super::super::Exponential;
use super::{rows, rows512};
use crate::quant::MULTIPLIER_MAX;
use core::arch::x86_64::*;

/// A vector of 32-bit lanes.
///
/// # Safety
/// Of every function: the processor has the vector's instructions, and memory that is named is there.
pub(super) trait Lanes: Copy {
    const COUNT: usize;
    /// Elements of a key in a lane.
    const ELEMS: usize;
    /// An element of a key.
    type Key: bytemuck::Pod;
    /// 64 words that are looked up.
    type Words: Copy;
    type Multiplier: Copy;

    fn key(elem: i8) -> Self::Key;
    /// As many elements of two rows, a pair in each lane.
    unsafe fn pairs(a: *const i8, b: *const i8) -> Self;
    unsafe fn spread(x: i32) -> Self;
    unsafe fn load(from: *const i32) -> Self;
    unsafe fn store(self, to: *mut i32);
    /// Lanes of four elements as as many vectors as these make, one behind the other.
    unsafe fn queries(self) -> [Self; 2];
    /// Adds the products of a lane's elements and a key's.
    unsafe fn add_scores(self, query: Self, key: Self) -> Self;
    /// Adds the products of words.
    unsafe fn add_pairs(self, a: Self, b: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn and(self, other: Self) -> Self;
    unsafe fn max(self, other: Self) -> Self;
    unsafe fn words(entries: &[u16; 64], shift: u32) -> Self::Words;
    /// Indices of two scores, words of a lane.
    unsafe fn index<const PLAIN: bool>(k: &Softmax<Self>, most: Self, scores: [Self; 2]) -> Self;
    /// Weights of four.
    unsafe fn weights<const PLAIN: bool>(k: &Softmax<Self>, index: [Self; 2]) -> [Self; 2];
    unsafe fn product(self, other: Self) -> Self;
    /// `multiplier(values / (out·self))`, where that needs no shift.
    unsafe fn multipliers(self, values: f32, out: f32) -> Option<Self>;
    /// The least and the largest of what may be shifted left.
    unsafe fn limits(self) -> [Self; 2];
    unsafe fn multiplier(self, zero_point: i32) -> Self::Multiplier;
    /// Shifted left, within limits, multiplied, and the zero point added.
    unsafe fn scale(self, limits: [Self; 2], shift: Self, m: Self::Multiplier) -> Self;
    /// Four lanes of 32 bits as four bytes of one.
    unsafe fn bytes(of: [Self; 4]) -> Self;
}

/// A softmax's constants. With twice the coarse entry, the upper half of a product of words is already shifted right by 15.
pub(super) struct Softmax<V: Lanes> {
    coarse: V::Words,
    fine: V::Words,
    /// A distance from which on the index is the largest, or whose shift would not fit.
    most: V,
    shift: __m128i,
    /// Four times: the product's upper half is twice the index, less what is rounded.
    multiplier: V,
    right: __m128i,
    /// Whether nothing is shifted, and the coarse table's last entries are as an exponential's are.
    pub(super) plain: bool,
}

impl<V: Lanes> Softmax<V> {
    /// None where a table is too short.
    ///
    /// # Safety
    /// As of [`Lanes`].
    #[inline(always)]
    pub(super) unsafe fn new(k: Exponential<'_>) -> Option<Softmax<V>> {
        let (coarse, fine) = (k.coarse.first_chunk::<64>()?, k.fine.first_chunk::<64>()?);
        let enough = ((Exponential::INDEX_MAX as u64 + 1) << 31).div_ceil(((k.multiplier as u64) << k.shift).max(1));
        let most = enough.min(i32::MAX as u64 >> k.shift) as i32;
        // SAFETY: the caller's promise.
        unsafe {
            Some(Softmax {
                coarse: V::words(coarse, 1),
                fine: V::words(fine, 0),
                most: V::spread(most),
                shift: _mm_cvtsi32_si128(k.shift as i32),
                multiplier: V::spread(k.multiplier << 2),
                right: _mm_cvtsi32_si128(k.right as i32 - 15),
                plain: k.shift == 0 && k.right == 15 && coarse.iter().skip(31).all(|&e| e < 128) && coarse.iter().skip(47).all(|&e| e == 0),
            })
        }
    }
}

// SAFETY (of every block below): the caller has the instructions, and says what is there.
impl Lanes for __m256i {
    const COUNT: usize = 8;
    const ELEMS: usize = 2;
    type Key = i16;
    type Words = [[__m256i; 4]; 2];
    type Multiplier = rows::Multiplier;

    #[inline(always)]
    fn key(elem: i8) -> i16 {
        elem.into()
    }

    #[inline(always)]
    unsafe fn pairs(a: *const i8, b: *const i8) -> Self {
        unsafe {
            let [a, b] = [_mm256_cvtepi8_epi32(_mm_loadl_epi64(a.cast())), _mm256_cvtepi8_epi32(_mm_loadl_epi64(b.cast()))];
            _mm256_blend_epi16::<0b1010_1010>(a, _mm256_slli_epi32::<16>(b))
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
    unsafe fn queries(self) -> [Self; 2] {
        unsafe {
            let first = _mm256_setr_epi8(
                -1, 0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13, -1, 0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13,
            );
            let second = _mm256_setr_epi8(
                -1, 2, -1, 3, -1, 6, -1, 7, -1, 10, -1, 11, -1, 14, -1, 15, -1, 2, -1, 3, -1, 6, -1, 7, -1, 10, -1, 11, -1, 14, -1, 15,
            );
            [_mm256_srai_epi16::<8>(_mm256_shuffle_epi8(self, first)), _mm256_srai_epi16::<8>(_mm256_shuffle_epi8(self, second))]
        }
    }

    #[inline(always)]
    unsafe fn add_scores(self, query: Self, key: Self) -> Self {
        unsafe { self.add_pairs(query, key) }
    }

    #[inline(always)]
    unsafe fn add_pairs(self, a: Self, b: Self) -> Self {
        unsafe { _mm256_add_epi32(self, _mm256_madd_epi16(a, b)) }
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        unsafe { _mm256_sub_epi32(self, other) }
    }

    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        unsafe { _mm256_and_si256(self, other) }
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        unsafe { _mm256_max_epi32(self, other) }
    }

    /// The low bytes, then the high ones, sixteen a register; each but the first with the one before it taken off, so that the sum over all registers up to
    /// the one that is meant is the entry.
    #[inline(always)]
    unsafe fn words(entries: &[u16; 64], shift: u32) -> Self::Words {
        let mut planes = [[0u8; 64]; 2];
        for (i, entry) in entries.iter().enumerate() {
            let entry = entry << shift;
            (planes[0][i], planes[1][i]) = (entry as u8, (entry >> 8) as u8);
        }
        let mut registers = [[unsafe { _mm256_setzero_si256() }; 4]; 2];
        for (registers, bytes) in registers.iter_mut().zip(&planes) {
            let mut before = unsafe { _mm256_setzero_si256() };
            for (register, bytes) in registers.iter_mut().zip(bytes.as_chunks::<16>().0) {
                unsafe {
                    let entries = _mm256_broadcastsi128_si256(_mm_loadu_si128(bytes.as_ptr().cast()));
                    *register = _mm256_xor_si256(entries, before);
                    before = entries;
                }
            }
        }
        registers
    }

    #[inline(always)]
    unsafe fn index<const PLAIN: bool>(k: &Softmax<Self>, most: Self, [a, b]: [Self; 2]) -> Self {
        unsafe {
            let ([a_even, a_odd], [b_even, b_odd]) = (twice256::<PLAIN>(k, most, a), twice256::<PLAIN>(k, most, b));
            let even = _mm256_blend_epi16::<0b1010_1010>(_mm256_srli_epi64::<32>(a_even), _mm256_srli_epi64::<16>(b_even));
            let odd = _mm256_blend_epi16::<0b1010_1010>(a_odd, _mm256_slli_epi64::<16>(b_odd));
            let twice = _mm256_blend_epi32::<0b1010_1010>(even, odd);
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
    unsafe fn product(self, other: Self) -> Self {
        unsafe { _mm256_mullo_epi32(self, other) }
    }

    #[inline(always)]
    unsafe fn multipliers(self, values: f32, out: f32) -> Option<Self> {
        unsafe {
            let real = _mm256_div_ps(_mm256_set1_ps(values), _mm256_mul_ps(_mm256_set1_ps(out), _mm256_cvtepi32_ps(self)));
            let small = _mm256_cmp_ps::<_CMP_LT_OQ>(real, _mm256_set1_ps(0.5));
            let m = _mm256_cvtps_epi32(_mm256_mul_ps(real, _mm256_set1_ps(2_147_483_648.0)));
            if _mm256_movemask_ps(small) != 0xff {
                return None;
            }
            Some(_mm256_min_epi32(m, _mm256_set1_epi32(MULTIPLIER_MAX)))
        }
    }

    #[inline(always)]
    unsafe fn limits(self) -> [Self; 2] {
        unsafe {
            let high = _mm256_srav_epi32(_mm256_set1_epi32(i32::MAX), self);
            [_mm256_xor_si256(high, _mm256_set1_epi32(-1)), high]
        }
    }

    #[inline(always)]
    unsafe fn multiplier(self, zero_point: i32) -> Self::Multiplier {
        unsafe { rows::Multiplier::adding(self, zero_point) }
    }

    #[inline(always)]
    unsafe fn scale(self, [low, high]: [Self; 2], shift: Self, m: Self::Multiplier) -> Self {
        unsafe { m.mul_round(_mm256_sllv_epi32(_mm256_min_epi32(_mm256_max_epi32(self, low), high), shift)) }
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

#[inline(always)]
unsafe fn twice256<const PLAIN: bool>(k: &Softmax<__m256i>, most: __m256i, score: __m256i) -> [__m256i; 2] {
    unsafe {
        let below = _mm256_sub_epi32(most, score);
        let shifted = _mm256_min_epu32(below, k.most);
        let shifted = if PLAIN { shifted } else { _mm256_sll_epi32(shifted, k.shift) };
        let odd = _mm256_shuffle_epi32::<0b11_11_01_01>(shifted);
        [_mm256_mul_epu32(shifted, k.multiplier), _mm256_mul_epu32(odd, k.multiplier)]
    }
}

/// Bytes look entries up. `SHORT` has zeros in the high plane from 31 on, and in the low one from 47 on.
#[inline(always)]
unsafe fn look_up<const SHORT: bool>([low, high]: &[[__m256i; 4]; 2], index: __m256i) -> [__m256i; 2] {
    unsafe {
        // Below zero a byte looks up a zero.
        let first = if SHORT { _mm256_min_epu8(index, _mm256_set1_epi8(47)) } else { index };
        let b = _mm256_sub_epi8(first, _mm256_set1_epi8(16));
        let c = _mm256_sub_epi8(first, _mm256_set1_epi8(32));
        let mut lows = _mm256_xor_si256(_mm256_shuffle_epi8(low[0], first), _mm256_shuffle_epi8(low[1], b));
        lows = _mm256_xor_si256(lows, _mm256_shuffle_epi8(low[2], c));
        let highs = if SHORT {
            let index = _mm256_min_epu8(index, _mm256_set1_epi8(31));
            let b = _mm256_sub_epi8(index, _mm256_set1_epi8(16));
            _mm256_xor_si256(_mm256_shuffle_epi8(high[0], index), _mm256_shuffle_epi8(high[1], b))
        } else {
            let d = _mm256_sub_epi8(first, _mm256_set1_epi8(48));
            lows = _mm256_xor_si256(lows, _mm256_shuffle_epi8(low[3], d));
            let highs = _mm256_xor_si256(_mm256_shuffle_epi8(high[0], first), _mm256_shuffle_epi8(high[1], b));
            let more = _mm256_xor_si256(_mm256_shuffle_epi8(high[2], c), _mm256_shuffle_epi8(high[3], d));
            _mm256_xor_si256(highs, more)
        };
        [_mm256_unpacklo_epi8(lows, highs), _mm256_unpackhi_epi8(lows, highs)]
    }
}

#[inline(always)]
unsafe fn twice512<const PLAIN: bool>(k: &Softmax<__m512i>, most: __m512i, score: __m512i) -> __m512i {
    unsafe {
        let below = _mm512_sub_epi32(most, score);
        let shifted = _mm512_min_epu32(below, k.most);
        let shifted = if PLAIN { shifted } else { _mm512_sll_epi32(shifted, k.shift) };
        let even = _mm512_mul_epu32(shifted, k.multiplier);
        let odd = _mm512_mul_epu32(_mm512_shuffle_epi32::<0b11_11_01_01>(shifted), k.multiplier);
        _mm512_mask_shuffle_epi32::<0b11_11_01_01>(odd, 0b0101_0101_0101_0101, even)
    }
}

#[inline(always)]
unsafe fn weight512<const PLAIN: bool>(k: &Softmax<__m512i>, index: __m512i) -> __m512i {
    unsafe {
        let coarse = _mm512_permutex2var_epi16(k.coarse[0], _mm512_srli_epi16::<6>(index), k.coarse[1]);
        let fine = _mm512_permutex2var_epi16(k.fine[0], index, k.fine[1]);
        let weight = _mm512_mulhi_epu16(coarse, fine);
        if PLAIN { weight } else { _mm512_srl_epi16(weight, k.right) }
    }
}

impl Lanes for __m512i {
    const COUNT: usize = 16;
    const ELEMS: usize = 4;
    type Key = u8;
    type Words = [__m512i; 2];
    type Multiplier = rows512::Multiplier;

    /// With 128 more, which adds the same to all scores of a query.
    #[inline(always)]
    fn key(elem: i8) -> u8 {
        elem as u8 ^ 0x80
    }

    #[inline(always)]
    unsafe fn pairs(a: *const i8, b: *const i8) -> Self {
        unsafe {
            let [a, b] = [_mm512_cvtepi8_epi32(_mm_loadu_si128(a.cast())), _mm512_cvtepi8_epi32(_mm_loadu_si128(b.cast()))];
            _mm512_mask_mov_epi16(a, 0xaaaa_aaaa, _mm512_slli_epi32::<16>(b))
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
    unsafe fn queries(self) -> [Self; 2] {
        [self; 2]
    }

    #[inline(always)]
    unsafe fn add_scores(self, query: Self, key: Self) -> Self {
        unsafe { _mm512_dpbusd_epi32(self, key, query) }
    }

    #[inline(always)]
    unsafe fn add_pairs(self, a: Self, b: Self) -> Self {
        unsafe { _mm512_dpwssd_epi32(self, a, b) }
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        unsafe { _mm512_sub_epi32(self, other) }
    }

    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        unsafe { _mm512_and_si512(self, other) }
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        unsafe { _mm512_max_epi32(self, other) }
    }

    #[inline(always)]
    unsafe fn words(entries: &[u16; 64], shift: u32) -> Self::Words {
        unsafe {
            let words = entries.as_ptr();
            let shift = _mm_cvtsi32_si128(shift as i32);
            let low = _mm512_sll_epi16(_mm512_loadu_si512(words.cast()), shift);
            [low, _mm512_sll_epi16(_mm512_loadu_si512(words.add(32).cast()), shift)]
        }
    }

    #[inline(always)]
    unsafe fn index<const PLAIN: bool>(k: &Softmax<Self>, most: Self, [a, b]: [Self; 2]) -> Self {
        unsafe {
            let (a, b) = (twice512::<PLAIN>(k, most, a), twice512::<PLAIN>(k, most, b));
            let to_upper = _mm512_broadcast_i32x4(_mm_setr_epi8(-1, -1, 0, 1, -1, -1, 4, 5, -1, -1, 8, 9, -1, -1, 12, 13));
            let twice = _mm512_mask_shuffle_epi8(a, 0xcccc_cccc_cccc_cccc, b, to_upper);
            let index = _mm512_avg_epu16(twice, _mm512_setzero_si512());
            _mm512_min_epu16(index, _mm512_set1_epi16(Exponential::INDEX_MAX as i16))
        }
    }

    #[inline(always)]
    unsafe fn weights<const PLAIN: bool>(k: &Softmax<Self>, [a, b]: [Self; 2]) -> [Self; 2] {
        unsafe { [weight512::<PLAIN>(k, a), weight512::<PLAIN>(k, b)] }
    }

    #[inline(always)]
    unsafe fn product(self, other: Self) -> Self {
        unsafe { _mm512_mullo_epi32(self, other) }
    }

    #[inline(always)]
    unsafe fn multipliers(self, values: f32, out: f32) -> Option<Self> {
        unsafe {
            let real = _mm512_div_ps(_mm512_set1_ps(values), _mm512_mul_ps(_mm512_set1_ps(out), _mm512_cvtepi32_ps(self)));
            let small = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(real, _mm512_set1_ps(0.5));
            let m = _mm512_cvtps_epi32(_mm512_mul_ps(real, _mm512_set1_ps(2_147_483_648.0)));
            if small != 0xffff {
                return None;
            }
            Some(_mm512_min_epi32(m, _mm512_set1_epi32(MULTIPLIER_MAX)))
        }
    }

    #[inline(always)]
    unsafe fn limits(self) -> [Self; 2] {
        unsafe {
            let high = _mm512_srav_epi32(_mm512_set1_epi32(i32::MAX), self);
            [_mm512_xor_si512(high, _mm512_set1_epi32(-1)), high]
        }
    }

    #[inline(always)]
    unsafe fn multiplier(self, zero_point: i32) -> Self::Multiplier {
        unsafe { rows512::Multiplier::adding(self, zero_point) }
    }

    #[inline(always)]
    unsafe fn scale(self, [low, high]: [Self; 2], shift: Self, m: Self::Multiplier) -> Self {
        unsafe { m.mul_round(_mm512_sllv_epi32(_mm512_min_epi32(_mm512_max_epi32(self, low), high), shift)) }
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
