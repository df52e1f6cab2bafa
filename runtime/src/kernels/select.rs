//! Which kernels run: the only place that knows the instruction set.

use super::scratch::{SCALAR, Tiling};
use super::{Kernels, scalar};

/// The tiling of this build: what scratch must be sized for. On hosts that choose at run time, the largest.
pub const TILING: Tiling = SCALAR;

/// The fastest table that this machine can run.
pub fn kernels() -> &'static Kernels {
    static SCALAR_TABLE: Kernels = scalar::KERNELS;
    &SCALAR_TABLE
}
