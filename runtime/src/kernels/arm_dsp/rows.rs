//! Everything that runs over rows of elements: requantization, residuals, norm, attention.
//!
//! The rounding rule is one instruction here, `SMMULR` with the doubled multiplier, and clamps are `SSAT` and `USAT`.
//! Loops are unrolled by hand where the counter would cost as much as the work: a compiler that optimises for size does not.

use super::super::{Channels, Exponential, NormConstants, Strided};
use super::{smlabb, smlabt, smlad, smmlar, smmulr, sxtb16, sxtb16_odd};
use crate::format::op::Table;
use crate::quant::{NORM_FRACTION_BITS, SUM_FRACTION_BITS, shl_saturating};
use core::arch::asm;

/// `mul_round`, given twice the multiplier.
#[inline(always)]
fn mul_round(a: i32, doubled: i32) -> i32 {
    smmulr(a, doubled)
}

pub(super) fn scale(acc: &mut [i32], channels: Channels<'_>) {
    let Channels { bias, multiplier, shift } = channels;
    let count = bias.len();
    if shift != 0 {
        for pixel in acc.chunks_exact_mut(count.max(1)) {
            for (acc, &bias) in pixel.iter_mut().zip(bias) {
                // Less the bias, which is added once more below.
                *acc = shl_saturating(acc.wrapping_add(bias), shift).wrapping_sub(bias);
            }
        }
    }
    // Two channels of all pixels after the other, whose constants stay in registers; the pairs are counted in r7, which
    // the compiler keeps to itself.
    let (pixels, pairs) = (acc.len() / count.max(1), count.min(multiplier.len()) / 2);
    if pixels > 0 && pairs > 0 {
        // SAFETY: it reads and writes channels below 2·pairs of `pixels` pixels, and reads as many constants of each kind.
        unsafe {
            asm!(
                env!("MOTE_ARM_CPU"),
                "push {{{pixels}}}",
                "push {{r7}}",
                "mov r7, {left}",
                "2:",
                "ldrd {b}, {c}, [{bias}], #8",
                "ldrd {m}, {n}, [{multiplier}], #8",
                "mov {at}, {first}",
                "add {first}, {first}, #8",
                "lsl {m}, {m}, #1",
                "lsl {n}, {n}, #1",
                "ldr {left}, [sp, #4]",
                "3:",
                "ldrd {x}, {y}, [{at}]",
                "subs {left}, {left}, #1",
                "add {x}, {x}, {b}",
                "add {y}, {y}, {c}",
                "smmulr {x}, {x}, {m}",
                "smmulr {y}, {y}, {n}",
                "str {y}, [{at}, #4]",
                "str {x}, [{at}]",
                "add {at}, {at}, {stride}",
                "bne 3b",
                "subs r7, r7, #1",
                "bne 2b",
                "pop {{r7}}",
                "add sp, #4",
                b = out(reg) _,
                c = out(reg) _,
                m = out(reg) _,
                n = out(reg) _,
                x = out(reg) _,
                y = out(reg) _,
                at = out(reg) _,
                left = inout(reg) pairs => _,
                first = inout(reg) acc.as_mut_ptr() => _,
                bias = inout(reg) bias.as_ptr() => _,
                multiplier = inout(reg) multiplier.as_ptr() => _,
                stride = in(reg) 4 * count,
                pixels = in(reg) pixels,
            )
        };
    }
    if let ([.., bias], [.., m], 1) = (bias, multiplier, count % 2) {
        for acc in acc.chunks_exact_mut(count.max(1)).filter_map(|pixel| pixel.last_mut()) {
            *acc = mul_round(acc.wrapping_add(*bias), m << 1);
        }
    }
}

/// A residual, of 8 or 16 bits.
pub(super) fn add<T: Copy + Into<i32>, const SHIFT: u32>(acc: &mut [i32], elems: &[T], zero_point: i32, m: i32) {
    let (zero, m) = (zero_point << SHIFT, m << 1);
    let one = |acc: &mut i32, q: T| *acc = smmlar((q.into() << SHIFT).wrapping_sub(zero), m, *acc);
    let (fours, rest) = acc.as_chunks_mut::<4>();
    let (elems, rest_elems) = elems.as_chunks::<4>();
    for ([a, b, c, d], &[e, f, g, h]) in fours.iter_mut().zip(elems) {
        one(a, e);
        one(b, f);
        one(c, g);
        one(d, h);
    }
    rest.iter_mut().zip(rest_elems).for_each(|(acc, &q)| one(acc, q));
}

pub(super) fn store_i8(out: &mut [i8], acc: &[i32], zero_point: i32) {
    // Without its fraction a sum is far from the ends of i32.
    let one = |sum: i32| {
        let rounded = sum.wrapping_add(1 << (SUM_FRACTION_BITS - 1)) >> SUM_FRACTION_BITS;
        rounded.wrapping_add(zero_point).clamp(-128, 127) as i8
    };
    let len = out.len().min(acc.len());
    let (to, from) = (out.as_mut_ptr(), acc.as_ptr());
    if len >= 4 {
        // SAFETY: it reads and writes whole groups of four, at least one, no more than `len` elements.
        unsafe {
            asm!(
                env!("MOTE_ARM_CPU"),
                "2:",
                "ldm {from}!, {{r0, r1, r2, r3}}",
                "add r0, r0, #{half}",
                "add r1, r1, #{half}",
                "add r2, r2, #{half}",
                "add r3, r3, #{half}",
                "add r0, {zero}, r0, asr #{bits}",
                "add r1, {zero}, r1, asr #{bits}",
                "add r2, {zero}, r2, asr #{bits}",
                "add r3, {zero}, r3, asr #{bits}",
                "ssat r0, #8, r0",
                "ssat r1, #8, r1",
                "ssat r2, #8, r2",
                "ssat r3, #8, r3",
                "strb r1, [{to}, #1]",
                "strb r2, [{to}, #2]",
                "strb r3, [{to}, #3]",
                "strb r0, [{to}], #4",
                "subs {fours}, {fours}, #1",
                "bne 2b",
                to = inout(reg) to => _,
                from = inout(reg) from => _,
                fours = inout(reg) len / 4 => _,
                zero = in(reg) zero_point,
                half = const 1 << (SUM_FRACTION_BITS - 1),
                bits = const SUM_FRACTION_BITS,
                out("r0") _, out("r1") _, out("r2") _, out("r3") _,
                options(nostack),
            )
        };
    }
    let rest = out.iter_mut().zip(acc).skip(len / 4 * 4);
    rest.for_each(|(q, &sum)| *q = one(sum));
}

/// Σq and Σq² of some groups of channels, four bytes at a time.
pub(super) fn sums_i8(totals: &mut [[u64; 2]], row: &[i8], channels: usize, mut first: usize, group_c: usize) {
    const ONES: i32 = 0x0001_0001;
    let channels = channels.max(1);
    // Sums of this many elements fit 32 bits: 128²·2¹⁵ = 2²⁹.
    let pixels = ((1 << 15) / group_c.max(1)).max(1);
    for [total, total_of_squares] in totals {
        for some in row.chunks(pixels.saturating_mul(channels).max(1)) {
            let (mut sum, mut squares) = (0i32, 0i32);
            for pixel in some.chunks_exact(channels) {
                let group = pixel.get(first..).and_then(|rest| rest.get(..group_c)).unwrap_or_default();
                let (fours, rest) = group.as_chunks::<4>();
                for &four in fours {
                    let word = i32::from_le_bytes(four.map(|q| q as u8));
                    let (even, odd) = (sxtb16(word), sxtb16_odd(word));
                    sum = smlad(odd, ONES, smlad(even, ONES, sum));
                    squares = smlad(odd, odd, smlad(even, even, squares));
                }
                for &q in rest {
                    sum = sum.wrapping_add(q.into());
                    squares = squares.wrapping_add(q as i32 * q as i32);
                }
            }
            *total = total.wrapping_add(sum as i64 as u64);
            *total_of_squares = total_of_squares.wrapping_add(squares as u64);
        }
        first += group_c;
    }
}

/// A norm's application to elements of 8 or 16 bits.
pub(super) fn norm<T: Element>(out: &mut [i8], out_c: usize, src: &[T], src_c: usize, k: NormConstants<'_>) {
    const HALF: i32 = Table::LEN as i32 / 2;
    // `prepare` holds offsets within ±2²⁹, and products are below 2²³: nothing here leaves i32.
    let shifted_zero = k.zero_point << T::SHIFT;
    let len = src_c.min(k.multiplier.len()).min(k.offset.len());
    for (out, src) in out.chunks_mut(out_c.max(1)).zip(src.chunks_exact(src_c.max(1))) {
        let len = len.min(out.len());
        if len == 0 {
            return;
        }
        if k.table.len() == Table::LEN {
            // SAFETY: `len` elements of each are there, and a table, whose middle is addressed from −512 to 511.
            unsafe {
                T::through_table(
                    out.as_mut_ptr(),
                    src.as_ptr(),
                    len,
                    &k,
                    k.table.as_ptr().add(HALF as usize),
                    shifted_zero,
                )
            };
            continue;
        }
        for (((out, &q), &m), &offset) in out.iter_mut().zip(src).zip(k.multiplier).zip(k.offset) {
            let centred = (q.into() << T::SHIFT).wrapping_sub(shifted_zero);
            let index = smmlar(centred, m << 1, offset) >> NORM_FRACTION_BITS;
            *out = index.wrapping_add(k.out_zero_point).clamp(-128, 127) as i8;
        }
    }
}

/// Elements of a norm's source.
pub(super) trait Element: Copy + Into<i32> {
    /// How far they are shifted left.
    const SHIFT: u32;

    /// A pixel's elements through the table.
    ///
    /// # Safety
    /// From `out`, `src` and in `k` on there are `len` elements, at least one; `middle` is the middle of a table.
    unsafe fn through_table(
        out: *mut i8,
        src: *const Self,
        len: usize,
        k: &NormConstants<'_>,
        middle: *const i16,
        shifted_zero: i32,
    );
}

/// In assembly, because a compiler runs out of registers and takes 27 instructions where these are 13. `SMMLAR` adds what
/// comes next.
macro_rules! element {
    ($type:ty, $shift:literal, $load:literal) => {
        impl Element for $type {
            const SHIFT: u32 = $shift;

            #[inline(always)]
            unsafe fn through_table(
                out: *mut i8,
                src: *const Self,
                len: usize,
                k: &NormConstants<'_>,
                middle: *const i16,
                shifted_zero: i32,
            ) {
                // SAFETY: it reads `len` elements from each pointer on and a table's entry for each, and writes as many: the
                // caller's promise.
                unsafe {
                    asm!(
                        env!("MOTE_ARM_CPU"),
                        "2:",
                        $load,
                        "ldr {m}, [{multiplier}], #4",
                        "ldr {o}, [{offset}], #4",
                        concat!("rsb {x}, {zero}, {x}, lsl #", $shift),
                        "lsl {m}, {m}, #1",
                        "smmlar {x}, {x}, {m}, {o}",
                        "ssat {x}, #10, {x}, asr #8",
                        "ldrsh {x}, [{middle}, {x}, lsl #1]",
                        "smmlar {x}, {x}, {out_multiplier}, {out_zero}",
                        "ssat {x}, #8, {x}",
                        "strb {x}, [{out}], #1",
                        "subs {len}, {len}, #1",
                        "bne 2b",
                        x = out(reg) _,
                        m = out(reg) _,
                        o = out(reg) _,
                        src = inout(reg) src => _,
                        out = inout(reg) out => _,
                        len = inout(reg) len => _,
                        multiplier = inout(reg) k.multiplier.as_ptr() => _,
                        offset = inout(reg) k.offset.as_ptr() => _,
                        middle = in(reg) middle,
                        zero = in(reg) shifted_zero,
                        out_multiplier = in(reg) k.out_multiplier << 1,
                        out_zero = in(reg) k.out_zero_point,
                        options(nostack),
                    )
                };
            }
        }
    };
}

element!(i8, 16, "ldrsb {x}, [{src}], #1");
element!(i16, 8, "ldrsh {x}, [{src}], #2");

/// One row against many, two of those at a time.
pub(super) fn dot_i8(out: &mut [i32], row: &[i8], rows: Strided<'_, i8>) {
    let (len, stride) = (row.len(), rows.stride);
    let last = out.len().saturating_sub(1).saturating_mul(stride);
    if last.saturating_add(len) > rows.elems.len() {
        return;
    }
    let mut first = rows.elems.as_ptr();
    for out in out.chunks_mut(2) {
        // A last row alone is taken twice.
        let mut second = first.wrapping_add(if out.len() == 2 { stride } else { 0 });
        let mut at = first;
        let mut sums = [0i32; 2];
        let (fours, rest) = row.as_chunks::<4>();
        for &four in fours {
            let word = i32::from_le_bytes(four.map(|q| q as u8));
            let (even, odd) = (sxtb16(word), sxtb16_odd(word));
            // SAFETY: a group of either row: found above.
            let (x, y) = unsafe { (at.cast::<i32>().read_unaligned(), second.cast::<i32>().read_unaligned()) };
            sums[0] = smlad(sxtb16_odd(x), odd, smlad(sxtb16(x), even, sums[0]));
            sums[1] = smlad(sxtb16_odd(y), odd, smlad(sxtb16(y), even, sums[1]));
            (at, second) = (at.wrapping_add(4), second.wrapping_add(4));
        }
        for &q in rest {
            // SAFETY: an element of either row.
            let (x, y) = unsafe { (*at, *second) };
            sums[0] = sums[0].wrapping_add(q as i32 * x as i32);
            sums[1] = sums[1].wrapping_add(q as i32 * y as i32);
            (at, second) = (at.wrapping_add(1), second.wrapping_add(1));
        }
        // Not as a loop: it would become a call of memcpy.
        if let [one, rest @ ..] = out {
            *one = sums[0];
            if let [other] = rest {
                *other = sums[1];
            }
        }
        first = first.wrapping_add(2 * stride);
    }
}

pub(super) fn softmax(scores: &mut [i32], k: Exponential<'_>) -> i32 {
    let (Ok(coarse), Ok(fine)) = (<&[u16; 64]>::try_from(k.coarse), <&[u16; 64]>::try_from(k.fine)) else { return 0 };
    let max = scores.iter().copied().fold(i32::MIN, i32::max);
    let (m, right) = (k.multiplier << 1, k.right & 31);
    let mut total = 0i32;
    for score in scores {
        let mut below = max.saturating_sub(*score);
        if k.shift != 0 {
            below = shl_saturating(below, k.shift);
        }
        let index = mul_round(below, m).clamp(0, Exponential::INDEX_MAX) as usize;
        let high: u32 = coarse.get(index >> 6).copied().unwrap_or(0).into();
        let low: u32 = fine.get(index & 63).copied().unwrap_or(0).into();
        *score = ((high * low) >> right) as i32;
        total = total.wrapping_add(*score);
    }
    total
}

/// `Σⱼ weights[j]·rows[j][c]`, four channels at a time, whose sums stay in registers.
pub(super) fn mix_i8(out: &mut [i32], weights: &[i32], rows: Strided<'_, i8>) {
    let stride = rows.stride;
    let last = weights.len().saturating_sub(1).saturating_mul(stride);
    if last.saturating_add(out.len()) > rows.elems.len() {
        return;
    }
    let (fours, rest) = out.as_chunks_mut::<4>();
    let mut column = rows.elems.as_ptr();
    for out in fours {
        let ([mut a, mut b, mut c, mut d], mut at) = ([0i32; 4], column);
        for &weight in weights {
            // SAFETY: four elements of a row: found above.
            let word = unsafe { at.cast::<i32>().read_unaligned() };
            let (even, odd) = (sxtb16(word), sxtb16_odd(word));
            (a, b) = (smlabb(weight, even, a), smlabb(weight, odd, b));
            (c, d) = (smlabt(weight, even, c), smlabt(weight, odd, d));
            at = at.wrapping_add(stride);
        }
        *out = [a, b, c, d];
        column = column.wrapping_add(4);
    }
    for out in rest {
        let (mut sum, mut at) = (0i32, column);
        for &weight in weights {
            // SAFETY: an element of a row: found above.
            sum = smlabb(weight, unsafe { *at }.into(), sum);
            at = at.wrapping_add(stride);
        }
        *out = sum;
        column = column.wrapping_add(1);
    }
}
