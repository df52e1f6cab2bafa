//! From the target to one `cfg(isa)`: which file of `src/kernels` is compiled. Nothing else.

use std::env;

/// Every `isa`; each has a file of that name in `src/kernels`, and `portable` has `scalar.rs`.
const ISAS: [&str; 1] = ["portable"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let list = ISAS.map(|isa| format!("\"{isa}\"")).join(", ");
    println!("cargo::rustc-check-cfg=cfg(isa, values({list}))");
    println!("cargo::rustc-cfg=isa=\"{}\"", isa());
}

fn isa() -> &'static str {
    match env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default().as_str() {
        _ => "portable",
    }
}
