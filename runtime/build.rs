//! From the target to one `cfg(isa)`: which file of `src/kernels` is compiled. Nothing else.
//!
//! `MOTE_ISA=portable` (or another that the target can run) overrules the choice.

use std::env;

/// Every `isa`; each has a file or folder of that name in `src/kernels`, and `portable` has `scalar.rs`.
const ISAS: [&str; 9] =
    ["portable", "x86_64", "aarch64", "wasm_simd128", "arm_v6m", "arm_dsp", "arm_mve", "riscv32", "riscv_v"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=MOTE_ISA");
    let list = ISAS.map(|isa| format!("\"{isa}\"")).join(", ");
    println!("cargo::rustc-check-cfg=cfg(isa, values({list}))");
    let isa = env::var("MOTE_ISA").unwrap_or_else(|_| isa().into());
    if !ISAS.contains(&isa.as_str()) {
        println!("cargo::error=MOTE_ISA is {isa:?}, which is none of {list}");
    }
    println!("cargo::rustc-cfg=isa=\"{isa}\"");
    // The assembler takes DSP instructions for Armv8-M only where a core has them.
    let cpu = if target().starts_with("thumbv8m.main") { ".cpu cortex-m33" } else { "" };
    println!("cargo::rustc-env=MOTE_ARM_CPU={cpu}");
}

fn isa() -> &'static str {
    let features = env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    let has = |wanted: &str| features.split(',').any(|feature| feature == wanted);
    match env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default().as_str() {
        // Not where kernels or enclaves do without vector registers.
        "x86_64" if has("sse2") => "x86_64",
        "aarch64" if has("neon") => "aarch64",
        "wasm32" if has("simd128") => "wasm_simd128",
        "arm" if target().starts_with("thumbv6m") => "arm_v6m",
        // Helium where the compiler is told so: `-Ctarget-cpu=cortex-m55`.
        "arm" if is_helium() => "arm_mve",
        // A stable compiler does not say of a Cortex-M what it has. Every Armv7E-M has the DSP extension; of Armv8-M cores
        // nearly all (the network core of an nRF5340 has not: `MOTE_ISA=portable`).
        "arm" if target().starts_with("thumbv7em") || target().starts_with("thumbv8m.main") => "arm_dsp",
        // Vectors where the compiler is told so: `-Ctarget-feature=+zve32x`, or more.
        "riscv32" if has("m") && (has("zve32x") || is_rvv()) => "riscv_v",
        // Its assembly multiplies.
        "riscv32" if has("m") => "riscv32",
        _ => "portable",
    }
}

fn is_helium() -> bool {
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    ["cortex-m55", "cortex-m85"].iter().any(|cpu| flags.contains(&format!("target-cpu={cpu}")))
}

/// A stable compiler takes the feature, with a warning, but does not say that it has it.
fn is_rvv() -> bool {
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    flags.split(['\x1f', '=', ',']).any(|flag| flag == "+v" || flag.starts_with("+zve"))
}

fn target() -> String {
    env::var("TARGET").unwrap_or_default()
}
