//! `runtime/c/include/mote.h` is what cbindgen makes of the sources today.

use std::{fs, path::Path};

#[test]
fn header_is_current() -> Result<(), Box<dyn std::error::Error>> {
    let c = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/c");
    // In the order in which a reader wants them.
    let made = ["status.rs", "handle.rs", "api.rs"]
        .iter()
        .fold(cbindgen::Builder::new(), |builder, file| builder.with_src(c.join("src").join(file)))
        .with_config(cbindgen::Config::from_file(c.join("cbindgen.toml"))?)
        .generate()?;
    let mut text = Vec::new();
    made.write(&mut text);
    if fs::read(c.join("include/mote.h")).ok().as_ref() != Some(&text) {
        let new = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mote.h");
        fs::write(&new, text)?;
        return Err(format!("runtime/c/include/mote.h is not current; the new one: {}", new.display()).into());
    }
    Ok(())
}
