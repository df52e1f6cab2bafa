//! A row of coefficients of [`winograd512`](super::winograd512) at a time: its weights' last step, its products and the first step of its sums.
//!
//! Weights in memory are transformed down their columns alone, 18 numbers of nine instead of 36, and along a row here, in registers: what the
//! transformation takes is stores that miss the first cache, and reading them again. A layer of 64 channels takes 0.96 of the time with 16
//! tiles, 0.89 with eight, as many as one of two threads has of a picture of 16×16.

use super::winograd512::{GROUP, add_products};
use core::arch::asm;
use core::arch::x86_64::*;

/// Coefficients of a row, and tiles that are taken at a time.
const N: usize = 6;
const TILES: usize = 2;

/// Elements from a pair of input channels to the next, of weights.
pub(super) const STEP: usize = 3 * 2 * GROUP;

/// For each tile and coefficient sums of two groups of sixteen channels: 24 registers.
pub(super) type Sums = [[[__m512i; 2]; N]; TILES];

/// A broadcast of a coefficient's two values of each tile, times its weights of both groups.
macro_rules! products {
    ($at:literal, $first:literal $second:literal, $a:literal $b:literal $c:literal $d:literal) => {
        concat!(
            "vpbroadcastd zmm26, [{v0}",
            $at,
            "]\n",
            "vpdpwssd zmm",
            $a,
            ", zmm",
            $first,
            ", zmm26\n",
            "vpdpwssd zmm",
            $b,
            ", zmm",
            $second,
            ", zmm26\n",
            "vpbroadcastd zmm26, [{v1}",
            $at,
            "]\n",
            "vpdpwssd zmm",
            $c,
            ", zmm",
            $first,
            ", zmm26\n",
            "vpdpwssd zmm",
            $d,
            ", zmm",
            $second,
            ", zmm26",
        )
    };
}

/// Two groups. In assembly, because a compiler moves the weights' steps ahead and then spills sums, and the loop takes 1.3 times as long.
///
/// # Safety
/// From each of `w` on there are three vectors of `pairs` pairs, `STEP` elements apart, from each of `v` on six rows of twice
/// `pairs` elements, `row` elements apart; `pairs` is not 0.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
pub(super) unsafe fn two(
    sums: &mut Sums,
    [w0, w1]: [*const i16; 2],
    [v0, v1]: [*const i16; TILES],
    [row, pairs]: [usize; 2],
) {
    // SAFETY: reads what the caller promises, and writes nothing but these registers.
    unsafe {
        asm!(
            "2:",
            "vmovdqu64 zmm24, [{w0}]",
            "vmovdqu64 zmm25, [{w1}]",
            "vmovdqu64 zmm27, [{w0} + 128]",
            "vmovdqu64 zmm28, [{w1} + 128]",
            "vmovdqu64 zmm31, [{w0} + 64]",
            products!("", 24 25, 0 1 2 3),
            // The outer ones' sum, and four times the last.
            "vpaddw zmm29, zmm24, zmm27",
            "vpaddw zmm30, zmm25, zmm28",
            products!(" + {row5}", 27 28, 20 21 22 23),
            "vpsllw zmm27, zmm27, 2",
            "vpsllw zmm28, zmm28, 2",
            "vpaddw zmm24, zmm24, zmm27",
            "vpaddw zmm25, zmm25, zmm28",
            "vpaddw zmm27, zmm29, zmm31",
            "vpaddw zmm28, zmm30, [{w1} + 64]",
            products!(" + {row}", 27 28, 4 5 6 7),
            "vpsubw zmm27, zmm29, zmm31",
            "vpsubw zmm28, zmm30, [{w1} + 64]",
            products!(" + 2*{row}", 27 28, 8 9 10 11),
            "vmovdqu64 zmm30, [{w1} + 64]",
            "vpaddw zmm29, zmm31, zmm31",
            "vpaddw zmm30, zmm30, zmm30",
            "vpaddw zmm27, zmm24, zmm29",
            "vpaddw zmm28, zmm25, zmm30",
            products!(" + {row3}", 27 28, 12 13 14 15),
            "vpsubw zmm27, zmm24, zmm29",
            "vpsubw zmm28, zmm25, zmm30",
            products!(" + 4*{row}", 27 28, 16 17 18 19),
            "add {w0}, {step}",
            "add {w1}, {step}",
            "add {v0}, 4",
            "add {v1}, 4",
            "dec {pairs}",
            "jne 2b",
            w0 = inout(reg) w0 => _, w1 = inout(reg) w1 => _, v0 = inout(reg) v0 => _, v1 = inout(reg) v1 => _,
            step = const 2 * STEP, row = in(reg) 2 * row, row3 = in(reg) 6 * row, row5 = in(reg) 10 * row,
            pairs = inout(reg) pairs => _,
            inout("zmm0") sums[0][0][0], inout("zmm1") sums[0][0][1], inout("zmm2") sums[1][0][0],
            inout("zmm3") sums[1][0][1], inout("zmm4") sums[0][1][0], inout("zmm5") sums[0][1][1],
            inout("zmm6") sums[1][1][0], inout("zmm7") sums[1][1][1], inout("zmm8") sums[0][2][0],
            inout("zmm9") sums[0][2][1], inout("zmm10") sums[1][2][0], inout("zmm11") sums[1][2][1],
            inout("zmm12") sums[0][3][0], inout("zmm13") sums[0][3][1], inout("zmm14") sums[1][3][0],
            inout("zmm15") sums[1][3][1], inout("zmm16") sums[0][4][0], inout("zmm17") sums[0][4][1],
            inout("zmm18") sums[1][4][0], inout("zmm19") sums[1][4][1], inout("zmm20") sums[0][5][0],
            inout("zmm21") sums[0][5][1], inout("zmm22") sums[1][5][0], inout("zmm23") sums[1][5][1],
            out("zmm24") _, out("zmm25") _, out("zmm26") _, out("zmm27") _, out("zmm28") _, out("zmm29") _,
            out("zmm30") _, out("zmm31") _,
            options(readonly, nostack),
        );
    }
}

/// One group, where there is no other: its sums are the first of each pair.
///
/// # Safety
/// As for [`two`].
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn one(sums: &mut Sums, w: *const i16, v: [*const i16; TILES], [row, pairs]: [usize; 2]) {
    for pair in 0..pairs {
        // SAFETY: a vector of each column: the caller's promise.
        let load = |x: usize| unsafe { _mm512_loadu_si512(w.add(pair * STEP + x * 2 * GROUP).cast()) };
        let [g0, g1, g2] = [load(0), load(1), load(2)];
        let (outer, twice) = (_mm512_add_epi16(g0, g2), _mm512_add_epi16(g1, g1));
        let steep = _mm512_add_epi16(g0, _mm512_slli_epi16::<2>(g2));
        let (same, unlike) = (_mm512_add_epi16(outer, g1), _mm512_sub_epi16(outer, g1));
        let weights = [g0, same, unlike, _mm512_add_epi16(steep, twice), _mm512_sub_epi16(steep, twice), g2];
        for (sums, v) in sums.iter_mut().zip(v) {
            for (x, (sums, &weights)) in sums.iter_mut().zip(&weights).enumerate() {
                // SAFETY: two elements of row x.
                let values = unsafe { v.add(x * row + 2 * pair).cast::<i32>().read_unaligned() };
                sums[0] = add_products(sums[0], weights, _mm512_set1_epi32(values));
            }
        }
    }
}

/// The row's first step of the way to pixels, from its products: 24, 12, 6 and 6 times these four.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl")]
#[inline]
pub(super) fn finish([m0, m1, m2, m3, m4, m5]: [__m512i; N]) -> [__m512i; 4] {
    let add = |a, b| _mm512_add_epi32(a, b);
    let twice = |a| _mm512_add_epi32(a, a);
    let (even, odd) = (add(m1, m2), _mm512_sub_epi32(m1, m2));
    let (wide, steep) = (add(m3, m4), _mm512_sub_epi32(m3, m4));
    let last = add(steep, add(m5, twice(m5)));
    [add(twice(add(m0, twice(add(m0, even)))), wide), add(twice(odd), steep), add(even, wide), add(odd, twice(last))]
}
