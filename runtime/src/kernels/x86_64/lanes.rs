//! What attention asks of a vector of queries; AVX2's eight are in `lanes256`, AVX-512's sixteen in `lanes512`.

use super::super::Exponential;
use core::arch::x86_64::*;

/// A vector of lanes of 32 bits.
///
/// A trait's functions cannot have a target feature, so these are inlined into functions that have it, and only there. A closure would not
/// be: its body stays without the feature, and each intrinsic in it a call.
///
/// # Safety
/// Of every function: the processor has the vector's instructions; a vector at a pointer is there.
pub(super) trait Lanes: Copy {
    const COUNT: usize;
    /// 64 words that are looked up.
    type Words: Copy;
    /// For [`mul_round`](crate::quant::mul_round).
    type Multiplier: Copy;

    /// Four words of as many rows as there are lanes, `stride` bytes apart, to as many vectors, `step` words apart; whether it did.
    ///
    /// # Safety
    /// Rows and room for the vectors are there.
    #[inline(always)]
    unsafe fn transposed(_rows: *const i8, _stride: usize, _to: *mut i32, _step: usize) -> bool {
        false
    }

    /// Words of as many elements of each, a pair in a lane.
    unsafe fn pairs(a: *const i8, b: *const i8) -> Self;
    unsafe fn spread(x: i32) -> Self;
    unsafe fn load(from: *const i32) -> Self;
    unsafe fn store(self, to: *mut i32);
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn and(self, other: Self) -> Self;
    unsafe fn max(self, other: Self) -> Self;
    /// The lower half of the product.
    unsafe fn product(self, other: Self) -> Self;
    /// Adds the products of pairs of words.
    unsafe fn add_pairs(self, a: Self, b: Self) -> Self;
    /// Twice each word, or as it is.
    unsafe fn words(entries: &[u16; 64], twice: bool) -> Self::Words;
    /// What two scores look up, as a pair of words.
    unsafe fn index<const PLAIN: bool>(k: &Softmax<Self>, most: Self, scores: [Self; 2]) -> Self;
    /// The weights of two such pairs.
    unsafe fn weights<const PLAIN: bool>(k: &Softmax<Self>, index: [Self; 2]) -> [Self; 2];
    /// [`multiplier`](crate::quant::multiplier) of `values / (out·self)`, unless a lane needs a shift.
    unsafe fn multipliers(self, values: f32, out: f32) -> Option<Self>;
    /// For these multipliers, and a number that is added behind.
    unsafe fn multiplier(self, added: i32) -> Self::Multiplier;
    /// Saturating left shift, lane by lane, and multiplication.
    unsafe fn scale(self, shift: Self, multiplier: Self::Multiplier) -> Self;
    /// Four vectors as four saturated bytes a lane.
    unsafe fn bytes(of: [Self; 4]) -> Self;
}

/// What keys are to a vector's queries.
///
/// # Safety
/// As of [`Lanes`].
pub(super) trait Keys<V> {
    /// An element.
    type Key: bytemuck::Pod;

    fn key(elem: i8) -> Self::Key;
    /// Four bytes a lane as elements: one vector, which is the first, or two.
    unsafe fn queries(bytes: V) -> [V; 2];
    /// Adds the products of a lane's elements and a key's.
    unsafe fn add_scores(scores: V, query: V, key: V) -> V;
}

/// Keys of words.
pub(super) struct WordKeys;

/// Keys of bytes with 128 more each, which is as much more in all scores of a query, so that softmax does not see it.
pub(super) struct ByteKeys;

/// A softmax's constants. With twice the coarse entry, the upper half of a product of words is already shifted right by 15.
pub(super) struct Softmax<V: Lanes> {
    pub coarse: V::Words,
    pub fine: V::Words,
    /// The first distance whose index is above the largest, or the last one that can be shifted: either way twice the index has 16 bits.
    pub farthest: V,
    pub shift: __m128i,
    /// Four times, so that the upper half of an unsigned product is twice the index, of which the last bit rounds.
    pub multiplier: V,
    pub right: __m128i,
    /// Whether nothing is shifted, and the coarse table's entries go down to 0 as an exponential's do: what nets have, unless their scales
    /// are strange or they have more than 256 positions.
    pub plain: bool,
}

impl<V: Lanes> Softmax<V> {
    /// From this coarse entry on an exponential's has no upper byte, twice taken; from the other on it is 0.
    pub const LOW_FROM: usize = 31;
    pub const ZERO_FROM: usize = 47;

    /// None where a table is too short or a constant out of its range.
    ///
    /// # Safety
    /// As of [`Lanes`].
    #[inline(always)]
    pub unsafe fn new(k: Exponential<'_>) -> Option<Softmax<V>> {
        let (coarse, fine) = (k.coarse.first_chunk::<64>()?, k.fine.first_chunk::<64>()?);
        if k.shift > 15 || !(0..1 << 30).contains(&k.multiplier) || k.right < 15 {
            return None;
        }
        // Twice the index of that distance is below 2·4096 + 2¹⁵ + 2, since one more is worth 2¹⁴ at most.
        let above = ((Exponential::INDEX_MAX as u64 + 1) << 31).div_ceil(((k.multiplier as u64) << k.shift).max(1));
        let farthest = above.min(i32::MAX as u64 >> k.shift) as i32;
        let falls = coarse.iter().skip(Self::LOW_FROM).all(|&entry| entry < 128)
            && coarse.iter().skip(Self::ZERO_FROM).all(|&entry| entry == 0);
        // SAFETY: the caller's promise.
        unsafe {
            Some(Softmax {
                coarse: V::words(coarse, true),
                fine: V::words(fine, false),
                farthest: V::spread(farthest),
                shift: _mm_cvtsi32_si128(k.shift as i32),
                multiplier: V::spread(k.multiplier << 2),
                right: _mm_cvtsi32_si128(k.right as i32 - 15),
                plain: k.shift == 0 && k.right == 15 && falls,
            })
        }
    }
}
