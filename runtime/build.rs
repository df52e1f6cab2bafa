//! From the target to one `cfg(isa)`: which file of `src/kernels` is compiled. Nothing else.

use std::env;

/// Every `isa`; each has a file or folder of that name in `src/kernels`, and `portable` has `scalar.rs`.
const ISAS: [&str; 4] = ["portable", "x86_64", "aarch64", "wasm_simd128"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let list = ISAS.map(|isa| format!("\"{isa}\"")).join(", ");
    println!("cargo::rustc-check-cfg=cfg(isa, values({list}))");
    println!("cargo::rustc-cfg=isa=\"{}\"", isa());
}

fn isa() -> &'static str {
    let features = env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    let has = |wanted: &str| features.split(',').any(|feature| feature == wanted);
    match env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default().as_str() {
        // Not where kernels or enclaves do without vector registers.
        "x86_64" if has("sse2") => "x86_64",
        "aarch64" if has("neon") => "aarch64",
        "wasm32" if has("simd128") => "wasm_simd128",
        _ => "portable",
    }
}
