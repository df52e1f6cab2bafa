# How to build for targets without an operating system. Sourced by tests/run, tests/on_target/run and benches/size.
#
#   metal TARGET     finds a way, and sets `metal_env`: words to put before `cargo build --target TARGET`. Fails if there
#                    is none. First rustup's own target; else the distribution's compiler and its library source, built
#                    once into target/sysroot. MOTE_NO_RUSTUP=1 goes the second way at once.
#   needs COMMAND PACKAGE...   finds a command, or installs the packages that have it.

# install PACKAGE...: from the distribution, if that is possible here.
install() {
    command -v apt-get >/dev/null || return 1
    local as_root=()
    if [ "$(id -u)" != 0 ]; then command -v sudo >/dev/null && as_root=(sudo -n) || return 1; fi
    "${as_root[@]}" apt-get update -qq >/dev/null 2>&1
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends --allow-downgrades "$@" >/dev/null 2>&1
}

needs() {
    command -v "$1" >/dev/null || { install "${@:2}" && command -v "$1" >/dev/null; }
}

# An emulator. `qemu-utils/bookworm` keeps a newer qemu-utils from standing in the way; elsewhere there is no such thing.
needs_qemu() {
    needs "$1" "$2" qemu-utils/bookworm || needs "$1" "$2"
}

metal_env=()
metal() {
    local target=$1 flags=${RUSTFLAGS:-}
    metal_env=(env "RUSTFLAGS=$flags")
    if [ -z "${MOTE_NO_RUSTUP:-}" ] &&
        { rustup target list --installed 2>/dev/null | grep -qx "$target" || timeout 120 rustup target add "$target" >/dev/null 2>&1; }; then
        return 0
    fi
    local web=/usr/bin/rustc host lld sysroot
    if ! { [ -x "$web" ] && [ -d "$("$web" --print sysroot)/lib/rustlib/src/rust/library/core" ]; }; then
        install rustc-web rust-web-src || return 1
    fi
    sysroot=$(tests/on_target/sysroot "$target") || return 1
    host=$(rustc -vV | sed -n 's/host: //p')
    lld="$(rustc --print sysroot)/lib/rustlib/$host/bin"
    metal_env=(env "RUSTC=$web" "RUSTFLAGS=--sysroot $sysroot $flags" "PATH=$lld:$PATH")
}
