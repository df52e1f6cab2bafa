//! From the variable `MOTE_LIKE` to the set of operators that the library links: those of the file that it names
//! (by an absolute path, since cargo runs this elsewhere), or all.

use std::{env, fs, path::PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=MOTE_LIKE");
    let like = match env::var("MOTE_LIKE") {
        Ok(file) => match fs::canonicalize(&file) {
            Ok(path) => {
                println!("cargo::rerun-if-changed={}", path.display());
                format!("mote_runtime::ops_used(include_bytes!({path:?}))")
            }
            Err(error) => return println!("cargo::error=MOTE_LIKE={file:?} (an absolute path): {error}"),
        },
        Err(_) => "mote_runtime::opset::ALL".into(),
    };
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("ops.rs");
    if let Err(error) = fs::write(&out, like) {
        println!("cargo::error={}: {error}", out.display());
    }
}
