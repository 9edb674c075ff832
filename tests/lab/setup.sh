#!/usr/bin/env bash
# tests/lab/setup.sh DIR  makes DIR ready for tests/lab/guest.sh. Nothing is installed on this machine and no root is
# needed: Debian packages are downloaded and unpacked below DIR. Again is safe: what is there stays.
#
# What comes: a Linux kernel that runs as an ordinary process (user-mode-linux), with the real sg, st and ch drivers as
# modules, and tgt, a tape library that is not ours, which the guest logs in to with open-iscsi.
#
# Exit status 3, with the reason on standard error: it can't be had here (no apt, another processor, no network).
set -euo pipefail
lab=${1:?usage: setup.sh DIR}
impossible() { printf 'no guest kernel here: %s\n' "$1" >&2; exit 3; }

mkdir -p "$lab"
lab=$(cd "$lab" && pwd)
[[ ! -e $lab/ready ]] || exit 0
[[ $(uname -m) == x86_64 ]] || impossible "user-mode-linux exists for x86_64 only, this is $(uname -m)"
command -v apt-get dpkg-deb >/dev/null || impossible "this system has no apt to download Debian packages with"

# Lists and packages of our own, so that neither root nor the system's are needed.
mkdir -p "$lab/apt/lists/partial" "$lab/apt/cache/archives/partial" "$lab/debs"
apt=(-qq -o "Dir::State::lists=$lab/apt/lists" -o "Dir::Cache=$lab/apt/cache" -o "APT::Sandbox::User=$(id -un)")
log=$lab/apt.log
update() {
    [[ -z ${updated:-} ]] || return 0
    updated=yes
    apt-get "${apt[@]}" update >"$log" 2>&1 || impossible "apt-get update failed: $(tail -n1 "$log")"
}

# get PACKAGE...  downloads and unpacks the first of these that exists.
get() {
    local package
    [[ ! -e $lab/debs/$1.done ]] || return 0
    update
    for package in "$@"; do
        if (cd "$lab/debs" && apt-get "${apt[@]}" download "$package" >>"$log" 2>&1); then
            dpkg-deb -x "$lab/debs/${package}"_*.deb "$lab/root"
            rm "$lab/debs/${package}"_*.deb
            touch "$lab/debs/$1.done"
            return
        fi
    done
    impossible "apt-get download $1 failed: $(tail -n1 "$log")"
}
get user-mode-linux
get busybox-static
get open-iscsi
get libopeniscsiusr
get libisns0 libisns0t64
get tgt
get libaio1 libaio1t64
get libibverbs1
get librdmacm1 librdmacm1t64
get libnl-3-200
get libnl-route-3-200
get libkmod2
get libssl3 libssl3t64
compgen -G "$lab/root/usr/lib/uml/modules/*/kernel/drivers/scsi/sg.ko" >/dev/null ||
    impossible "the package user-mode-linux has no module sg"
rm -rf "$lab/apt"
touch "$lab/ready"
