//! Every kernel table that this machine can run, against scalar.

use mote_runtime::kernels::compare::{Difference, compare};
use mote_runtime::kernels::{Kernels, scalar, select};

/// Seeds a run; `MOTE_SWEEP` times as many in the slow sweeps.
fn seeds() -> u64 {
    let sweep: u64 = std::env::var("MOTE_SWEEP").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    2_000 * sweep
}

#[test]
fn every_table_equals_scalar() {
    for table in select::tables() {
        for seed in 0..seeds() {
            assert_eq!(compare(table, seed), Ok(()), "{}", table.name);
        }
    }
}

/// Every length, group length, nibble and scale, against the formula; scalar is held to it too.
#[test]
fn int4_is_nibble_times_scale() {
    for table in select::tables() {
        for blocks in 0..=20usize {
            for group_len in (0..=88).step_by(4) {
                let groups = if group_len == 0 { 0 } else { (4 * blocks).div_ceil(group_len) };
                for turn in 0..16 {
                    let nibble = |block: usize, at: usize| (3 * block + at + turn) % 16;
                    let scale = |group: usize, row: usize| (5 * group + row + turn) % 16;
                    let nibbles: Vec<u8> =
                        (0..8 * blocks).map(|i| (nibble(i / 8, i % 8) | nibble(i / 8, i % 8 + 8) << 4) as u8).collect();
                    let scales: Vec<u16> = (0..groups)
                        .map(|group| (0..4).map(|row| (scale(group, row) as u16) << (4 * row)).sum())
                        .collect();
                    let mut codes = vec![99; 16 * blocks + 1];
                    (table.unpack_i4)(&mut codes[..16 * blocks], &nibbles, &scales, group_len);
                    for (i, &code) in codes.iter().enumerate().take(16 * blocks) {
                        let (block, row) = (i / 16, i % 16 / 4);
                        let scale = (4 * block).checked_div(group_len).map_or(1, |group| scale(group, row) as i32 + 1);
                        let want = (nibble(block, i % 16) as i32 - 8) * scale;
                        assert_eq!(code as i32, want, "{} {blocks} {group_len} {turn} {i}", table.name);
                    }
                    assert_eq!(codes[16 * blocks], 99, "behind the end");
                }
            }
        }
    }
}

/// Rows may be joined to as many pixels as a picture has, and no partial sum overflows.
#[test]
fn sums_of_whole_pictures_are_exact() {
    let elems = vec![-128i8; 9 << 18];
    let shorts = vec![-32_767i16; 9 << 18];
    for table in select::tables() {
        for (group_c, groups) in [(1, 9), (2, 4), (4, 2), (9, 1)] {
            let pixels = group_c as u64 * (1 << 18);
            let want = |value: i64| vec![[(value * pixels as i64) as u64, (value * value) as u64 * pixels]; groups];
            let mut totals = vec![[0; 2]; groups];
            (table.sums_i8)(&mut totals, &elems, 9, 0, group_c);
            assert_eq!(totals, want(-128), "{}", table.name);
            totals.fill([0; 2]);
            (table.sums_i16)(&mut totals, &shorts, 9, 0, group_c);
            assert_eq!(totals, want(-32_767), "{}", table.name);
        }
    }
}

/// The comparison sees an error of one unit in every kernel.
#[test]
fn a_wrong_kernel_is_found() {
    let bump = |table: Kernels, kernel: &str| {
        let found = (0..200).find_map(|seed| compare(&table, seed).err());
        assert_eq!(found.map(|Difference { kernel, .. }| kernel), Some(kernel));
    };
    let scalar = scalar::KERNELS;
    fn last(out: &mut [i32]) {
        out.last_mut().into_iter().for_each(|x| *x = x.wrapping_add(1));
    }
    fn last_i8(out: &mut [i8]) {
        out.last_mut().into_iter().for_each(|x| *x = x.wrapping_add(1));
    }
    bump(Kernels { widen: |out, _| out.fill(1), ..scalar }, "widen");
    bump(Kernels { load: |out, _| out.fill(1), ..scalar }, "load");
    bump(
        Kernels { conv_i8: |out, c, x, w| ((scalar::KERNELS.conv_i8)(out, c, x, w), last(out)).1, ..scalar },
        "conv_i8",
    );
    bump(
        Kernels { conv_i16: |out, c, x, w| ((scalar::KERNELS.conv_i16)(out, c, x, w), last(out)).1, ..scalar },
        "conv_i16",
    );
    bump(Kernels { dot_i8: |out, x, w| ((scalar::KERNELS.dot_i8)(out, x, w), last(out)).1, ..scalar }, "dot_i8");
    bump(Kernels { scale: |out, c| ((scalar::KERNELS.scale)(out, c), last(out)).1, ..scalar }, "scale");
    bump(
        Kernels { store_i8: |out, x, z| ((scalar::KERNELS.store_i8)(out, x, z), last_i8(out)).1, ..scalar },
        "store_i8",
    );
    bump(
        Kernels {
            sums_i8: |to, row, c, f, g| {
                if g < 9 {
                    (scalar::KERNELS.sums_i8)(to, row, c, f, g)
                }
            },
            ..scalar
        },
        "sums_i8",
    );
    bump(
        Kernels {
            sums_i16: |to, row, c, f, g| {
                if g < 9 {
                    (scalar::KERNELS.sums_i16)(to, row, c, f, g)
                }
            },
            ..scalar
        },
        "sums_i16",
    );
    bump(
        Kernels { norm_i8: |out, oc, x, c, k| ((scalar::KERNELS.norm_i8)(out, oc, x, c, k), last_i8(out)).1, ..scalar },
        "norm_i8",
    );
    bump(
        Kernels {
            norm_i16: |out, oc, x, c, k| ((scalar::KERNELS.norm_i16)(out, oc, x, c, k), last_i8(out)).1,
            ..scalar
        },
        "norm_i16",
    );
    bump(Kernels { offset: 1, ..scalar }, "conv_i8");
    bump(Kernels { add_i8: |out, x, z, m| ((scalar::KERNELS.add_i8)(out, x, z, m), last(out)).1, ..scalar }, "add_i8");
    bump(
        Kernels { add_i16: |out, x, z, m| ((scalar::KERNELS.add_i16)(out, x, z, m), last(out)).1, ..scalar },
        "add_i16",
    );
    bump(Kernels { softmax: |out, k| (scalar::KERNELS.softmax)(out, k) + (k.right == 16) as i32, ..scalar }, "softmax");
    bump(
        Kernels { unpack_i4: |out, n, s, g| ((scalar::KERNELS.unpack_i4)(out, n, s, g), last_i8(out)).1, ..scalar },
        "unpack_i4",
    );
    bump(Kernels { mix_i8: |out, w, x| ((scalar::KERNELS.mix_i8)(out, w, x), last(out)).1, ..scalar }, "mix_i8");
    bump(
        Kernels { sum_taps: |out, c, rows| ((scalar::KERNELS.sum_taps)(out, c, rows), last(out)).1, ..scalar },
        "sum_taps",
    );
}
