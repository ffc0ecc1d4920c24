# Shared by the scripts: where builds go, and what must be installed. Sourced, not run.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Outside the checkout, so that a fresh clone does not compile RocksDB again.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$HOME/.cache/zooid/target}"
export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-never}"

# Cargo knows a source by its place in the checkout and by its age: what another checkout has built there would pass for
# what this one has.
if [ -d "$CARGO_TARGET_DIR" ] && [ "$(cat "$CARGO_TARGET_DIR/checkout" 2>/dev/null)" != "$PWD" ]; then
    find . -name target -prune -o -name '*.rs' -exec touch -c {} +
fi
mkdir -p "$CARGO_TARGET_DIR"
echo "$PWD" >"$CARGO_TARGET_DIR/checkout"

say() {
    printf '[%s] %s\n' "$(date +%H:%M:%S)" "$*" >&2
}

fail() {
    say "FAILED: $*"
    exit 1
}

# need PROGRAM PACKAGE...: installs the packages if the program is missing.
need() {
    local program=$1
    shift
    command -v "$program" >/dev/null 2>&1 && return
    install_packages "$@"
    command -v "$program" >/dev/null 2>&1 || fail "$program is missing, and installing $* did not bring it"
}

install_packages() {
    command -v apt-get >/dev/null 2>&1 || fail "install these by hand, there is no apt-get: $*"
    local as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    say "installing $*"
    "${as_root[@]}" apt-get update -qq >/dev/null || say "apt-get update failed; trying with the lists there are"
    DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "$@" >/dev/null \
        || fail "apt-get install $*"
}

# What compiling the server needs: Rust, a C++ compiler, and libclang for the RocksDB bindings.
need_to_build() {
    command -v cargo >/dev/null 2>&1 || fail "cargo is missing: install Rust (https://rustup.rs) and try again"
    need c++ g++
    # libclang-cpp is another library, which has no C interface.
    if [ -z "${LIBCLANG_PATH:-}" ] && [ -z "$(compgen -G '/usr/lib/llvm*/lib/libclang[.-][s0-9]*' \
        || compgen -G '/usr/lib/*/libclang[.-][s0-9]*')" ]; then
        install_packages libclang-dev
    fi
}

# Builds the server. The first time RocksDB is compiled, which takes 10 to 20 minutes on two cores.
build_server() {
    if ! compgen -G "$CARGO_TARGET_DIR/release/build/librocksdb-sys-*/out/librocksdb.a" >/dev/null; then
        say "building; the first time this compiles RocksDB, 10 to 20 minutes on two cores"
    fi
    cargo build --release --locked
}
