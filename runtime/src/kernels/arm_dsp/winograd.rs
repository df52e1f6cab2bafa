//! Winograd's convolution with `SMLAD`: both factors have 16 bits already, so that four weights of two channels take no
//! unpacking. Four output channels by two tiles of 2×2 pixels: six loads and eight `SMLAD`, 14 instructions and, by Arm's
//! timings, 16 cycles, for what directly are 36 multiply-adds.
//!
//! A word is two input channels, in the window's order (0, 2, then 1, 3 of each four). Weights lie
//! `[channels / 4][16][in_c / 2][4 channels]` words, values of two tiles `[16][in_c / 2][2 tiles]`, products `[16][2 tiles][4 channels]`.

use super::super::WinogradTile;
use super::super::scratch::COEFFICIENTS;
use super::{sadd16, ssub16, sxtb16, sxtb16_odd};
use core::arch::naked_asm;

/// Pairs of channels that pass between two looks at the end, and bytes of code of each.
const UNROLLED: usize = 4;
const PAIR_CODE_BYTES: usize = 56;

/// The weights' transform of a column, two channels at a time.
#[inline(always)]
fn weights_1d(g0: i32, g1: i32, g2: i32) -> [i32; 4] {
    let outer = sadd16(g0, g2);
    [sadd16(g0, g0), sadd16(outer, g1), ssub16(outer, g1), sadd16(g2, g2)]
}

pub(super) fn weights(out: &mut [i16], block: usize, codes: &[i8], in_c: usize, _upsampled: bool) {
    let quads = in_c / 4;
    let Some(out) = out.get_mut(block * 4 * COEFFICIENTS * in_c..) else { return };
    let (codes, _) = codes.as_chunks::<16>();
    if codes.len() < 9 * quads || out.len() < 4 * COEFFICIENTS * in_c {
        return;
    }
    let (from, to) = (codes.as_ptr().cast::<i32>(), out.as_mut_ptr().cast::<i32>());
    for i in 0..4 * quads {
        // SAFETY: word i of the 4·quads of each tap. Of each coefficient's 8·quads words two, 4·⌊i/4⌋·2 + i%4 and the fourth behind it.
        unsafe {
            let (from, to) = (from.add(i), to.add(i / 4 * 8 + i % 4));
            transform(to, from, quads, sxtb16);
            transform(to.add(4), from, quads, sxtb16_odd);
        }
    }
}

/// The sixteen coefficients of a pair of channels. All of it in a line: in a loop the columns would lie in memory.
///
/// # Safety
/// Nine words can be read, `4·quads` from one to the next, and sixteen written, twice as far from each other.
#[inline(always)]
unsafe fn transform(to: *mut i32, from: *const i32, quads: usize, extend: impl Fn(i32) -> i32) {
    // SAFETY: the caller's promise.
    let tap = |tap: usize| extend(unsafe { from.add(tap * 4 * quads).read_unaligned() });
    let [a0, a1, a2, a3] = weights_1d(tap(0), tap(3), tap(6));
    let [b0, b1, b2, b3] = weights_1d(tap(1), tap(4), tap(7));
    let [c0, c1, c2, c3] = weights_1d(tap(2), tap(5), tap(8));
    let step = 8 * quads;
    let row = |y: usize, [w0, w1, w2, w3]: [i32; 4]| {
        // SAFETY: the caller's promise.
        unsafe {
            let to = to.add(4 * y * step);
            to.write_unaligned(w0);
            to.add(step).write_unaligned(w1);
            to.add(2 * step).write_unaligned(w2);
            to.add(3 * step).write_unaligned(w3);
        }
    };
    row(0, weights_1d(a0, b0, c0));
    row(1, weights_1d(a1, b1, c1));
    row(2, weights_1d(a2, b2, c2));
    row(3, weights_1d(a3, b3, c3));
}

pub(super) fn convolve(out: &mut [i32], channels: usize, tile: WinogradTile<'_>) {
    let tiles = tile.tiles(channels, 2, COEFFICIENTS);
    let WinogradTile { window, in_c, weights, values, products, .. } = tile;
    let holds = values.len() >= 2 * COEFFICIENTS * in_c
        && products.len() >= 8 * COEFFICIENTS
        && out.len() >= 4 * tiles * channels;
    if tiles < 2 || in_c == 0 || !holds {
        return;
    }
    // SAFETY: `tiles` says that there are four rows of (2·tiles + 2)·in_c elements, in_c a multiple of 4.
    unsafe { columns(window.as_mut_ptr(), window.len() / 4 * 2) };
    let block_len = 4 * COEFFICIENTS * in_c;
    for t in (0..tiles).step_by(2) {
        // Of an odd number of tiles the last but one is computed twice.
        let t = t.min(tiles - 2);
        // SAFETY: `tiles` says that the window has four rows of (2·tiles + 2)·in_c elements, so that in each from column 2·t on
        // there are six; `values` has 2·16·in_c elements, 4·in_c bytes for each of the sixteen coefficients.
        unsafe {
            let from = window.as_ptr().add(2 * t * in_c);
            let row_bytes = 2 * (2 * tiles + 2) * in_c;
            rows(values.as_mut_ptr(), from, 2 * in_c, row_bytes);
        }
        let skipped = (UNROLLED - in_c / 2 % UNROLLED) % UNROLLED;
        for channel in (0..channels).step_by(4) {
            // SAFETY: as many values as above, the weights of these four channels (`tiles`), and 16·8 products.
            unsafe {
                let weights = weights.as_ptr().add(channel / 4 * block_len);
                multiply(values.as_ptr(), weights, products.as_mut_ptr(), 4 * in_c, skipped * PAIR_CODE_BYTES);
            }
            for lane in 0..8 {
                let (tile, row) = (t + lane / 4, channel + lane % 4);
                // SAFETY: `lane` is below 8 in each of the sixteen; in each output row there are 2·tiles pixels of `channels` sums.
                unsafe {
                    let m = products.as_ptr().add(lane);
                    let to = out.as_mut_ptr().add(2 * tile * channels + row);
                    output(to, [channels, 2 * tiles * channels], m);
                }
            }
        }
    }
}

/// Sums of 2×2 pixels from their coefficients' products, eight elements apart.
///
/// # Safety
/// Sixteen products can be read from `m` on; sums can be written to `out`, and with it either or both of the offsets.
#[inline(always)]
unsafe fn output(out: *mut i32, [right, below]: [usize; 2], m: *const i32) {
    let sums =
        |[m0, m1, m2, m3]: [i32; 4]| [m0.wrapping_add(m1).wrapping_add(m2), m1.wrapping_sub(m2).wrapping_sub(m3)];
    // SAFETY: the caller's promise.
    let product = |i: usize| unsafe { m.add(8 * i).read() };
    let column = |x: usize| sums([product(x), product(4 + x), product(8 + x), product(12 + x)]);
    let [[a, e], [b, f], [c, g], [d, h]] = [column(0), column(1), column(2), column(3)];
    let ([top_left, top_right], [bottom_left, bottom_right]) = (sums([a, b, c, d]), sums([e, f, g, h]));
    // SAFETY: the caller's promise.
    unsafe {
        out.write(top_left >> 2);
        out.add(right).write(top_right >> 2);
        out.add(below).write(bottom_left >> 2);
        out.add(below + right).write(bottom_right >> 2);
    }
}

/// The input's transform of columns, all of the window's at once, in place.
///
/// # Safety
/// There are four rows of `row` bytes, a multiple of 8 and not 0, from `window` on, which lies at a multiple of 4.
#[unsafe(naked)]
unsafe extern "C" fn columns(window: *mut i16, row: usize) {
    // r0 to r3 a word of each row, r4 the first row's end.
    naked_asm!(
        env!("MOTE_ARM_CPU"),
        "push {{r4-r9, lr}}",
        "add r4, r0, r1",
        "add r2, r4, r1",
        "add r3, r2, r1",
        "mov r1, r4",
        "2:",
        ".rept 2",
        "ldr r5, [r0]",
        "ldr r6, [r1]",
        "ldr r7, [r2]",
        "ldr r8, [r3]",
        "ssub16 r5, r5, r7",
        "sadd16 r9, r6, r7",
        "ssub16 r7, r7, r6",
        "ssub16 r6, r6, r8",
        "str r5, [r0], #4",
        "str r9, [r1], #4",
        "str r7, [r2], #4",
        "str r6, [r3], #4",
        ".endr",
        "cmp r0, r4",
        "bne 2b",
        "pop {{r4-r9, pc}}",
    )
}

/// The input's transform of rows, of the two tiles whose first column is that of `window`: six columns of four rows.
///
/// # Safety
/// From `window` on there are six columns of `column` bytes, which are not 0, in each of four rows, `row` bytes from one to the next;
/// from `values` on sixteen times `2·column` bytes can be written. Both lie at a multiple of 4.
#[unsafe(naked)]
unsafe extern "C" fn rows(values: *mut i16, window: *const i16, column: usize, row: usize) {
    // r0 to r3 where a pair of values goes, of each coefficient of a row; r4 and r5 columns 0 and 3, r6 column.
    // r7 to r12 what is read, lr what is written. The stack: 0 to 8 values, window, column, 12 row, 16 the end of this row's values,
    // 20 rows left, then saved registers.
    naked_asm!(
        env!("MOTE_ARM_CPU"),
        "push {{r4-r11, lr}}",
        "mov r12, #4",
        "push {{r0-r3, r4, r12}}",
        "2:",
        "ldm sp, {{r0, r4, r6}}",
        "add r1, r0, r6, lsl #1",
        "add r2, r1, r6, lsl #1",
        "add r3, r2, r6, lsl #1",
        "add r5, r4, r6, lsl #1",
        "add r5, r6",
        "str r1, [sp, #16]",
        "3:",
        "ldr r8, [r4, r6]",
        "ldr r9, [r4, r6, lsl #1]",
        "ldr r11, [r5, r6]",
        "ldr r12, [r5, r6, lsl #1]",
        "ldr r10, [r5], #4",
        "ldr r7, [r4], #4",
        "ssub16 lr, r9, r11",
        "ssub16 r7, r7, r9",
        "strd r7, lr, [r0], #8",
        "sadd16 r7, r8, r9",
        "sadd16 lr, r10, r11",
        "strd r7, lr, [r1], #8",
        "ssub16 r7, r9, r8",
        "ssub16 lr, r11, r10",
        "strd r7, lr, [r2], #8",
        "ssub16 r7, r8, r10",
        "ssub16 lr, r10, r12",
        "strd r7, lr, [r3], #8",
        "ldr r7, [sp, #16]",
        "cmp r0, r7",
        "bne 3b",
        "str r3, [sp]",
        "ldrd r7, r8, [sp, #4]",
        "ldrd r9, r10, [sp, #12]",
        "add r7, r9",
        "str r7, [sp, #4]",
        "ldr r10, [sp, #20]",
        "subs r10, #1",
        "str r10, [sp, #20]",
        "bne 2b",
        "add sp, #24",
        "pop {{r4-r11, pc}}",
    )
}

/// The products of two tiles with four channels, of all sixteen coefficients.
///
/// # Safety
/// From `values` and `weights` on sixteen times `step` bytes and twice as much can be read, from `products` on 128 sums be written. `step`
/// is a multiple of 16 and not 0, and `skipped_code` is what the first pass of a coefficient leaves out.
#[unsafe(naked)]
unsafe extern "C" fn multiply(
    values: *const i16,
    weights: *const i16,
    products: *mut i32,
    step: usize,
    skipped_code: usize,
) {
    // r0 values, r1 weights, r2 and r3 a word of each tile, r12 and lr words of two channels; r4 to r7 sums of the first tile's
    // channels, r8 to r11 of the second's. The stack: 0 end of this coefficient's values, 4 where its first pass begins in the code,
    // 8 products, 12 step, 16 the last product's end, then saved registers, then at 56 skipped_code.
    naked_asm!(
        env!("MOTE_ARM_CPU"),
        "push {{r4-r11, lr}}",
        "sub sp, #20",
        "ldr r12, [sp, #56]",
        "adr r4, 3f",
        "add r4, r12",
        "add r4, #1",
        "add r5, r2, #512",
        "str r4, [sp, #4]",
        "strd r2, r3, [sp, #8]",
        "str r5, [sp, #16]",
        "2:",
        "ldrd r12, r2, [sp, #4]",
        "ldr r3, [sp, #12]",
        "add r3, r0",
        "str r3, [sp]",
        "mov r4, #0",
        "mov r5, #0",
        "mov r6, #0",
        "mov r7, #0",
        "mov r8, #0",
        "mov r9, #0",
        "mov r10, #0",
        "mov r11, #0",
        "bx r12",
        ".balign 4",
        "3:",
        ".rept {unrolled}",
        "ldr r2, [r0], #4",
        "ldr r3, [r0], #4",
        "ldr r12, [r1], #4",
        "ldr lr, [r1], #4",
        "smlad r4, r2, r12, r4",
        "smlad r8, r3, r12, r8",
        "smlad r5, r2, lr, r5",
        "smlad r9, r3, lr, r9",
        "ldr r12, [r1], #4",
        "ldr lr, [r1], #4",
        "smlad r6, r2, r12, r6",
        "smlad r10, r3, r12, r10",
        "smlad r7, r2, lr, r7",
        "smlad r11, r3, lr, r11",
        ".endr",
        "ldr r12, [sp]",
        "cmp r0, r12",
        "bne 3b",
        "ldr r2, [sp, #8]",
        "ldr r3, [sp, #16]",
        "stm r2!, {{r4-r11}}",
        "str r2, [sp, #8]",
        "cmp r2, r3",
        "bne 2b",
        "add sp, #20",
        "pop {{r4-r11, pc}}",
        unrolled = const UNROLLED,
    )
}
