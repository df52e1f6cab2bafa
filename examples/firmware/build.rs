//! Hands the board's memory map to the linker. The board is a folder under `boards/`, named by the variable `BOARD`.

use std::{env, fs, path::PathBuf};

fn main() {
    println!("cargo::rerun-if-env-changed=BOARD");
    let board = env::var("BOARD").unwrap_or_else(|_| "mps2-an386".into());
    let map = PathBuf::from("boards").join(&board).join("memory.x");
    println!("cargo::rerun-if-changed={}", map.display());
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    if let Err(error) = fs::copy(&map, out.join("memory.x")) {
        println!("cargo::error=board {board:?} has no {}: {error}", map.display());
    }
    println!("cargo::rustc-link-search={}", out.display());
    println!("cargo::rustc-link-arg-bins=-Tlink.x");
}
