//! WebAssembly: the host brings three functions, `host.text(pointer, length)`, `host.log(pointer, length)` and
//! `host.exit(code)`, the last of which throws. `tests/on_target/wasm.mjs` is such a host.

#[doc(hidden)]
pub mod rt {}

mod host {
    #[link(wasm_import_module = "host")]
    unsafe extern "C" {
        pub fn text(pointer: *const u8, length: usize);
        pub fn log(pointer: *const u8, length: usize);
        pub fn exit(code: i32) -> !;
    }
}

/// Makes `fn() -> !` the program.
#[macro_export]
macro_rules! start {
    ($program:ident) => {
        // SAFETY: the export that the host calls; nothing else has this name.
        #[unsafe(export_name = "run")]
        extern "C" fn start() -> ! {
            $program()
        }
    };
}

/// Ends the program.
pub fn exit(code: i32) -> ! {
    // SAFETY: the host throws, and does not come back.
    unsafe { host::exit(code) }
}

/// A module cannot restart itself.
pub fn reset() -> ! {
    exit(super::EXIT_FAULT)
}

/// No clock.
pub fn ticks() -> u32 {
    0
}

/// Writes a piece of text.
pub fn write_text(bytes: &[u8]) {
    // SAFETY: the host only reads, and only these bytes.
    unsafe { host::text(bytes.as_ptr(), bytes.len()) }
}

/// Writes a piece of the log.
pub fn write_log(bytes: &[u8]) {
    // SAFETY: the host only reads, and only these bytes.
    unsafe { host::log(bytes.as_ptr(), bytes.len()) }
}
