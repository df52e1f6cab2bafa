//! Hands the board's memory map to the linker. The board is a folder under `boards/`, named by the variable `BOARD`.
//!
//! The linker scripts differ by architecture: cortex-m-rt's `link.x` includes `memory.x` itself, riscv-rt's wants it
//! named first. Hosted targets (aarch64 in user-mode emulation, wasm) need neither.

use std::{env, fs, path::PathBuf};

fn main() {
    println!("cargo::rerun-if-env-changed=BOARD");
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets CARGO_CFG_TARGET_ARCH");
    let default = match arch.as_str() {
        "arm" => "mps2-an386",
        "riscv32" => "virt",
        _ => return,
    };
    let board = env::var("BOARD").unwrap_or_else(|_| default.into());
    let map = PathBuf::from("boards").join(&board).join("memory.x");
    println!("cargo::rerun-if-changed={}", map.display());
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    if let Err(error) = fs::copy(&map, out.join("memory.x")) {
        println!("cargo::error=board {board:?} has no {}: {error}", map.display());
    }
    println!("cargo::rustc-link-search={}", out.display());
    if arch == "riscv32" {
        println!("cargo::rustc-link-arg-bins=-Tmemory.x");
    }
    println!("cargo::rustc-link-arg-bins=-Tlink.x");
    if env::var_os("CARGO_FEATURE_DEFMT").is_some() {
        println!("cargo::rustc-link-arg-bins=-Tdefmt.x");
    }
}
