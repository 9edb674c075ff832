#!/usr/bin/env bash
# Sourced by quickstart.sh and test.sh: says what they do, and installs what the machine lacks.

if [[ -t 2 ]]; then bold=$'\e[1m' red=$'\e[31m' plain=$'\e[0m'; else bold='' red='' plain=''; fi

say() { printf '%s==> %s%s\n' "$bold" "$*" "$plain" >&2; }
die() { printf '%serror:%s %s\n' "$red" "$plain" "$1" >&2; [[ -z ${2:-} ]] || printf 'next: %s\n' "$2" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# Runs a command as root if that needs no password.
as_root() {
    if [[ $EUID -eq 0 ]]; then "$@"
    elif have sudo && sudo -n true 2>/dev/null; then sudo -n "$@"
    else return 1
    fi
}

# Whether PostgreSQL's server programs are here. Distributions keep them out of PATH.
have_postgres() {
    have initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || compgen -G '/usr/pgsql-*/bin/initdb' >/dev/null
}

# install_missing NAME:DEBIAN-PACKAGE:FEDORA-PACKAGE...  installs the packages of commands that are not here. '+' joins
# several Debian packages.
install_missing() {
    local item name deb rpm packages debs=() rpms=()
    for item in "$@"; do
        IFS=: read -r name deb rpm <<<"$item"
        if [[ $name == postgres ]]; then have_postgres && continue; else have "$name" && continue; fi
        IFS=+ read -ra packages <<<"$deb"
        debs+=("${packages[@]}") rpms+=("$rpm")
    done
    [[ ${#debs[@]} -gt 0 ]] || return 0
    if ! have apt-get; then
        die "this machine lacks: ${rpms[*]}" "install them, on Fedora-like systems: sudo dnf install ${rpms[*]}"
    fi
    say "installing ${debs[*]}"
    # Only the programs are wanted: no cluster, no service.
    if [[ " ${debs[*]} " == *" postgresql "* ]] && ! [[ -e /etc/postgresql-common/createcluster.conf ]]; then
        as_root mkdir -p /etc/postgresql-common &&
            printf 'create_main_cluster = false\n' | as_root tee /etc/postgresql-common/createcluster.conf >/dev/null || true
    fi
    { as_root apt-get update -qq && as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${debs[@]}"; } >&2 ||
        die "could not install ${debs[*]}" "run: sudo apt-get install ${debs[*]}"
}

# Rust is the one thing that is not installed: which toolchain to use is the user's choice.
need_rust() {
    local wanted=1.93 version
    [[ -x $HOME/.cargo/bin/cargo ]] && PATH=$PATH:$HOME/.cargo/bin
    have cargo || die "there is no Rust toolchain" "install one from https://rustup.rs, or a package of Rust $wanted or newer"
    version=$(cargo --version | cut -d' ' -f2)
    [[ $(printf '%s\n' "$wanted" "$version" | sort -V | head -n1) == "$wanted" ]] ||
        die "Rust $version is too old" "TAF needs Rust $wanted: rustup update"
}
