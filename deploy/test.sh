#!/usr/bin/env bash
# deploy/test.sh            every check there is, as CI runs it
# deploy/test.sh quick      formatting, lints and the tests inside the crates
#
# Runs as root or as any user, and needs no terminal. Installs what the machine lacks where that needs no password, else
# says what to install. cargo-nextest and cargo-deny are used if they are here, else built once below the build folder.
# With CI=true, Cargo.lock must be up to date. Some tests about owners and permissions differ between root and others: to
# see both, run it as both.
set -euo pipefail
repo=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=deploy/install.sh
source "$repo/deploy/install.sh"

mode=${1:-all}
case $mode in
    all | quick) ;;
    *) die "there is no mode '$mode'" "run deploy/test.sh or deploy/test.sh quick" ;;
esac
if [[ -z ${HOME:-} ]]; then
    HOME=$(getent passwd "$(id -u)" | cut -d: -f6)
    export HOME
fi
cd "$repo"
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto}
target=${CARGO_TARGET_DIR:-$repo/target}
PATH=$target/tools/bin:$PATH
locked=()
[[ ${CI:-} != true ]] || locked=(--locked)

current='' done_steps=() skipped=() finished=no

# step NAME COMMAND...  runs one check; the first that fails ends it all.
step() {
    local began=$SECONDS
    current=$1
    shift
    say "$current"
    "$@"
    done_steps+=("$(printf '%5ds  %s' "$((SECONDS - began))" "$current")")
    current=''
}

summary() {
    say "summary"
    [[ ${#done_steps[@]} -eq 0 ]] || printf '  ok %s\n' "${done_steps[@]}" >&2
    [[ ${#skipped[@]} -eq 0 ]] || printf '  SKIPPED: %s\n' "${skipped[@]}" >&2
    if [[ $finished == yes ]]; then
        say "all good after ${SECONDS}s"
    else
        printf '%s  failed or interrupted: %s%s\n' "$red" "${current:-before the first check}" "$plain" >&2
    fi
}
trap summary EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# tool NAME VERSION  makes `cargo NAME` available.
tool() {
    have "cargo-$1" && return
    say "building cargo-$1 once, into $target/tools"
    cargo install --quiet --locked --debug --root "$target/tools" "cargo-$1@$2" ||
        die "could not build cargo-$1" "install it yourself: cargo install --locked cargo-$1"
}

prepare() {
    install_missing cc:gcc+libc6-dev:gcc postgres:postgresql:postgresql-server zstd:zstd:zstd tar:tar:tar 7z:p7zip-full:p7zip-plugins
    # For a client of the API in Python. Without it that test says so and does nothing.
    if ! { python3 -c 'import grpc, google.protobuf' && have protoc && [[ -e /usr/include/google/protobuf/descriptor.proto ]]; } >/dev/null 2>&1; then
        (install_missing grpc-of-python:protobuf-compiler+libprotobuf-dev+python3-grpcio+python3-protobuf:protobuf-compiler+protobuf-devel+python3-grpcio) ||
            say 'going on without a client in Python'
    fi
    need_rust
    if ! { cargo fmt --version && cargo clippy --version; } >/dev/null 2>&1; then
        die "the Rust toolchain lacks rustfmt or clippy" "rustup component add rustfmt clippy"
    fi
    if [[ $mode == all ]]; then
        tool nextest 0.9.143
        tool deny 0.20.2
        guest_kernel
    fi
}

# A guest with Linux's own SCSI drivers and somebody else's tape library, for some tests. Nothing is installed: it lies in the
# build folder. Without apt, or on another processor, those tests say so and do nothing.
guest_kernel() {
    local status=0 reason
    reason=$(tests/lab/setup.sh "$target/lab" 2>&1) || status=$?
    case $status in
        0) ;;
        3) skipped+=("the drivers of Linux on a foreign tape library: $reason") ;;
        *) die "tests/lab/setup.sh failed: $reason" ;;
    esac
}

scripts() {
    local script
    for script in deploy/*.sh tests/lab/*.sh .ci/run; do bash -n "$script"; done
    if have shellcheck; then shellcheck --external-sources --severity=warning deploy/*.sh tests/lab/*.sh .ci/run
    else say "shellcheck is not here: only the syntax was checked"
    fi
}

inside_crates() {
    if have cargo-nextest; then cargo nextest run --workspace --lib --bins "${locked[@]}"
    else cargo test --workspace --lib --bins "${locked[@]}"
    fi
}

documentation() { RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps "${locked[@]}"; }

tests() {
    local profile=default
    [[ ${CI:-} != true ]] || profile=ci
    cargo nextest run --workspace --profile "$profile" "${locked[@]}"
}

step 'tools' prepare
step 'formatting' cargo fmt --all --check
step 'scripts' scripts
step 'lints' cargo clippy --workspace --all-targets "${locked[@]}" -- -D warnings
if [[ $mode == quick ]]; then
    step 'tests inside the crates' inside_crates
    finished=yes
    exit
fi
step 'documentation' documentation
step 'licences, bans and sources' cargo deny check licenses bans sources
step 'build' cargo build --workspace --all-targets "${locked[@]}"
step 'tests' tests
step 'examples in the documentation' cargo test --workspace --doc "${locked[@]}"
finished=yes
