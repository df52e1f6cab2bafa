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
            sums_i8: |row, c, f, g| if g > 8 { (0, 0) } else { (scalar::KERNELS.sums_i8)(row, c, f, g) },
            ..scalar
        },
        "sums_i8",
    );
    bump(
        Kernels {
            sums_i16: |row, c, f, g| if g > 8 { (0, 0) } else { (scalar::KERNELS.sums_i16)(row, c, f, g) },
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
    bump(Kernels { axpy_i8: |out, w, x| ((scalar::KERNELS.axpy_i8)(out, w, x), last(out)).1, ..scalar }, "axpy_i8");
}
