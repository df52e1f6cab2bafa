//! AVX-512, a group norm's statistics: sums of bytes are `vpdpbusd`.

use super::norm::{add_up, unit};
use super::rows512::{first16, first64};
use core::arch::x86_64::*;

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
            // Of each part Σq and Σ(q + 128)·q, then Σq².
            let parts: [_; PARTS] = core::array::from_fn(|part| {
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
                [sums, _mm512_sub_epi32(products, _mm512_slli_epi32::<7>(sums))]
            });
            if fold && PARTS < 4 && width <= 64 && totals.len() <= 8 && group_c.is_power_of_two() {
                add_eight(totals, group_c, &parts);
                continue;
            }
            let mut lanes = [[[0; 16]; 2]; PARTS];
            for (lanes, part) in lanes.as_flattened_mut().iter_mut().zip(parts.as_flattened()) {
                // SAFETY: 64 bytes.
                unsafe { _mm512_storeu_si512(lanes.as_mut_ptr().cast(), *part) };
            }
            for pixel in 0..if fold { 1 } else { pixels } {
                add_up(totals, group_c, block..block + block_c, &lanes, 4, pixel * c);
            }
        }
    }
}

/// As [`add_up`] for up to eight groups of two channels, a part's lane each, or of 4 to 64, a power of two, whose lanes are added.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
fn add_eight<const PARTS: usize>(totals: &mut [[u64; 2]], group_c: usize, parts: &[[__m512i; 2]; PARTS]) {
    let lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    let [sums, squares] = [0, 1].map(|which| {
        let mut x = parts[0][which];
        let eight = if PARTS > 1 {
            let odd = _mm512_slli_epi32::<4>(lane);
            _mm512_permutex2var_epi32(x, _mm512_or_si512(_mm512_srli_epi32::<1>(lane), odd), parts[PARTS - 1][which])
        } else {
            if group_c > 4 {
                x = _mm512_add_epi32(x, _mm512_alignr_epi32::<1>(x, x));
            }
            if group_c > 8 {
                x = _mm512_add_epi32(x, _mm512_alignr_epi32::<2>(x, x));
            }
            if group_c > 16 {
                x = _mm512_add_epi32(x, _mm512_alignr_epi32::<4>(x, x));
            }
            if group_c > 32 {
                x = _mm512_add_epi32(x, _mm512_alignr_epi32::<8>(x, x));
            }
            let first = _mm512_sll_epi32(lane, _mm_cvtsi32_si128(group_c.trailing_zeros() as i32 - 2));
            _mm512_permutexvar_epi32(first, x)
        };
        _mm512_cvtepi32_epi64(_mm512_castsi512_si256(eight))
    });
    let low = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
    for (half, totals) in totals.chunks_mut(4).enumerate() {
        let index = _mm512_add_epi64(low, _mm512_set1_epi64(4 * half as i64));
        let more = _mm512_permutex2var_epi64(sums, index, squares);
        let some = first16(2 * totals.len()) as __mmask8;
        // SAFETY: what lies behind the groups is masked off; what is stored without a mask is read at once afterwards.
        unsafe {
            let to: *mut i64 = totals.as_mut_ptr().cast();
            match some {
                0xff => _mm512_storeu_si512(to.cast(), _mm512_add_epi64(_mm512_loadu_si512(to.cast()), more)),
                _ => {
                    let sum = _mm512_add_epi64(_mm512_maskz_loadu_epi64(some, to), more);
                    _mm512_mask_storeu_epi64(to, some, sum);
                }
            }
        }
    }
}
