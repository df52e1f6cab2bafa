//! What this machine can do at best, measured: the roof that operators are held against.
//!
//! Multiply-adds: a loop of nothing but the instructions that a table's convolution multiplies with, on registers, as many
//! independent sums as hide their latency. Bytes: a copy within the second cache, both directions counted, which is
//! where the tensors of a network lie between two operators. Both are the best of many short runs, since whoever else is
//! on the machine only ever slows them.

use std::hint::black_box;
use std::time::{Duration, Instant};

use serde::Serialize;

/// Runs that a peak is the best of.
const RUNS: usize = 300;

/// Both roofs.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Peak {
    /// Multiply-adds of 8-bit values a second; `None` where no loop is written for this table.
    pub macs_per_s: Option<f64>,
    /// Bytes read and written a second, within the second cache.
    pub bytes_per_s: f64,
}

/// The roofs of a kernel table on this machine.
pub fn measure(table: &str) -> Peak {
    Peak { macs_per_s: loop_of(table).map(|(run, macs)| rate(run, macs)), bytes_per_s: copy_rate() }
}

/// The best rate of a function that does `work`, a second.
fn rate(run: fn(), work: f64) -> f64 {
    let mut best = Duration::MAX;
    for _ in 0..RUNS {
        let begin = Instant::now();
        run();
        best = best.min(begin.elapsed());
    }
    work / best.as_secs_f64()
}

fn copy_rate() -> f64 {
    /// With its copy it fills half of a second cache of 512 KB, and no first cache.
    const LEN: usize = 128 << 10;
    let (from, mut to) = (vec![1u8; LEN], vec![0u8; LEN]);
    let mut best = Duration::MAX;
    for _ in 0..RUNS {
        let begin = Instant::now();
        for _ in 0..8 {
            black_box(&mut to[..]).copy_from_slice(black_box(&from));
        }
        best = best.min(begin.elapsed());
    }
    (8 * 2 * LEN) as f64 / best.as_secs_f64()
}

/// Turns of a loop: some tens of microseconds.
#[cfg(target_arch = "x86_64")]
const TURNS: usize = 10_000;

/// The loop of a table's multiply-add, and how many of them it does.
#[cfg(target_arch = "x86_64")]
fn loop_of(table: &str) -> Option<(fn(), f64)> {
    // SAFETY: the table is one of this machine's, so its instructions are there.
    match table {
        "avx512vnni" => Some((|| unsafe { x86::dpbusd() }, (TURNS * x86::SUMS * 64) as f64)),
        "avxvnni" => Some((|| unsafe { x86::dpbusd_ymm() }, (TURNS * x86::SUMS * 32) as f64)),
        "avx2" => Some((|| unsafe { x86::maddwd() }, (TURNS * x86::SUMS * 16) as f64)),
        _ => None,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn loop_of(_: &str) -> Option<(fn(), f64)> {
    None
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::TURNS;
    use std::arch::asm;

    /// Independent sums: latency times instructions a cycle is at most 10 for these.
    pub const SUMS: usize = 12;

    // In assembly, because a compiler sees what such loops come to.
    #[target_feature(enable = "avx512f,avx512vnni")]
    pub fn dpbusd() {
        // SAFETY: touches the named registers only.
        unsafe {
            asm!(
                "2:",
                "vpdpbusd zmm0, zmm31, zmm31",
                "vpdpbusd zmm1, zmm31, zmm31",
                "vpdpbusd zmm2, zmm31, zmm31",
                "vpdpbusd zmm3, zmm31, zmm31",
                "vpdpbusd zmm4, zmm31, zmm31",
                "vpdpbusd zmm5, zmm31, zmm31",
                "vpdpbusd zmm6, zmm31, zmm31",
                "vpdpbusd zmm7, zmm31, zmm31",
                "vpdpbusd zmm8, zmm31, zmm31",
                "vpdpbusd zmm9, zmm31, zmm31",
                "vpdpbusd zmm10, zmm31, zmm31",
                "vpdpbusd zmm11, zmm31, zmm31",
                "dec {turns}",
                "jnz 2b",
                turns = inout(reg) TURNS => _,
                out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _, out("zmm4") _, out("zmm5") _,
                out("zmm6") _, out("zmm7") _, out("zmm8") _, out("zmm9") _, out("zmm10") _, out("zmm11") _,
                options(nomem, nostack),
            );
        }
    }

    #[target_feature(enable = "avx2,avxvnni")]
    pub fn dpbusd_ymm() {
        // SAFETY: touches the named registers only.
        unsafe {
            asm!(
                "2:",
                "{{vex}} vpdpbusd ymm0, ymm15, ymm15",
                "{{vex}} vpdpbusd ymm1, ymm15, ymm15",
                "{{vex}} vpdpbusd ymm2, ymm15, ymm15",
                "{{vex}} vpdpbusd ymm3, ymm15, ymm15",
                "{{vex}} vpdpbusd ymm4, ymm15, ymm15",
                "{{vex}} vpdpbusd ymm5, ymm15, ymm15",
                "{{vex}} vpdpbusd ymm6, ymm15, ymm15",
                "{{vex}} vpdpbusd ymm7, ymm15, ymm15",
                "{{vex}} vpdpbusd ymm8, ymm15, ymm15",
                "{{vex}} vpdpbusd ymm9, ymm15, ymm15",
                "{{vex}} vpdpbusd ymm10, ymm15, ymm15",
                "{{vex}} vpdpbusd ymm11, ymm15, ymm15",
                "dec {turns}",
                "jnz 2b",
                turns = inout(reg) TURNS => _,
                out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _, out("ymm4") _, out("ymm5") _,
                out("ymm6") _, out("ymm7") _, out("ymm8") _, out("ymm9") _, out("ymm10") _, out("ymm11") _,
                options(nomem, nostack),
            );
        }
    }

    #[target_feature(enable = "avx2")]
    pub fn maddwd() {
        // SAFETY: touches the named registers only.
        unsafe {
            asm!(
                "2:",
                "vpmaddwd ymm12, ymm15, ymm15", "vpaddd ymm0, ymm0, ymm12",
                "vpmaddwd ymm13, ymm15, ymm15", "vpaddd ymm1, ymm1, ymm13",
                "vpmaddwd ymm14, ymm15, ymm15", "vpaddd ymm2, ymm2, ymm14",
                "vpmaddwd ymm12, ymm15, ymm15", "vpaddd ymm3, ymm3, ymm12",
                "vpmaddwd ymm13, ymm15, ymm15", "vpaddd ymm4, ymm4, ymm13",
                "vpmaddwd ymm14, ymm15, ymm15", "vpaddd ymm5, ymm5, ymm14",
                "vpmaddwd ymm12, ymm15, ymm15", "vpaddd ymm6, ymm6, ymm12",
                "vpmaddwd ymm13, ymm15, ymm15", "vpaddd ymm7, ymm7, ymm13",
                "vpmaddwd ymm14, ymm15, ymm15", "vpaddd ymm8, ymm8, ymm14",
                "vpmaddwd ymm12, ymm15, ymm15", "vpaddd ymm9, ymm9, ymm12",
                "vpmaddwd ymm13, ymm15, ymm15", "vpaddd ymm10, ymm10, ymm13",
                "vpmaddwd ymm14, ymm15, ymm15", "vpaddd ymm11, ymm11, ymm14",
                "dec {turns}",
                "jnz 2b",
                turns = inout(reg) TURNS => _,
                out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _, out("ymm4") _, out("ymm5") _,
                out("ymm6") _, out("ymm7") _, out("ymm8") _, out("ymm9") _, out("ymm10") _, out("ymm11") _,
                out("ymm12") _, out("ymm13") _, out("ymm14") _,
                options(nomem, nostack),
            );
        }
    }
}
