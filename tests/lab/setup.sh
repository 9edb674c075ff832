#!/usr/bin/env bash
# tests/lab/setup.sh DIR  makes DIR ready for tests/lab/guest.sh. Nothing is installed on this machine and no root is
# needed: Debian packages are downloaded and unpacked below DIR. Again is safe: what is there stays.
#
# What comes: a Linux kernel that runs as an ordinary process (user-mode-linux), with the real sg, st and ch drivers as
# modules; tgt, a tape library that is not ours; open-iscsi, by which the guest logs in to it or to our emulator; and the
# usual tools for tape, libraries and iSCSI (mt, mtx, sg_*, iscsi-ls, iscsi-inq).
#
# Exit status 3, with the reason on standard error: it can't be had here (no apt, another processor, no network).
set -euo pipefail
lab=${1:?usage: setup.sh DIR}
impossible() { printf 'no guest kernel here: %s\n' "$1" >&2; exit 3; }

mkdir -p "$lab"
lab=$(cd "$lab" && pwd)
# The number counts what was added to the packages below.
[[ ! -e $lab/ready-2 ]] || exit 0
[[ $(uname -m) == x86_64 ]] || impossible "user-mode-linux exists for x86_64 only, this is $(uname -m)"
command -v apt-get dpkg-deb >/dev/null || impossible "this system has no apt to download Debian packages with"

mkdir -p "$lab/debs"
log=$lab/apt.log
: >"$log"
apt=(-qq -o "APT::Sandbox::User=$(id -un)")

# The system's lists of packages may be missing or old; then lists of our own, for which no root is needed.
own_lists() {
    [[ -z ${own:-} ]] || return 1
    own=yes
    mkdir -p "$lab/apt/lists/partial" "$lab/apt/cache/archives/partial"
    apt+=(-o "Dir::State::lists=$lab/apt/lists" -o "Dir::Cache=$lab/apt/cache")
    apt-get "${apt[@]}" update >>"$log" 2>&1 || impossible "apt-get update failed: $(tail -n1 "$log")"
}

packages=(user-mode-linux busybox-static tgt open-iscsi libopeniscsiusr libibverbs1 libnl-3-200 libnl-route-3-200 libkmod2
    mtx mt-st sg3-utils libiscsi-bin)
# Newer systems have these with 64-bit times, under names of their own.
timed=(libisns0 libaio1 librdmacm1 libssl3 libiscsi7)
download() {
    rm -f "$lab/debs/"*
    # Its name has its version.
    local sgutils
    sgutils=$(apt-cache "${apt[@]}" depends sg3-utils 2>>"$log" | sed -n 's/.*Depends: \(libsgutils2[^ ]*\)$/\1/p' | head -n1)
    [[ -n $sgutils ]] || return 1
    (cd "$lab/debs" && apt-get "${apt[@]}" download "${packages[@]}" "$sgutils" "${timed[@]}" >>"$log" 2>&1) ||
        (cd "$lab/debs" && apt-get "${apt[@]}" download "${packages[@]}" "$sgutils" "${timed[@]/%/t64}" >>"$log" 2>&1)
}
download || { own_lists && download; } || impossible "apt-get download failed: $(tail -n1 "$log")"
for deb in "$lab/debs/"*.deb; do dpkg-deb -x "$deb" "$lab/root"; done
rm -rf "$lab/debs"
compgen -G "$lab/root/usr/lib/uml/modules/*/kernel/drivers/scsi/sg.ko" >/dev/null ||
    impossible "the package user-mode-linux has no module sg"
# The packages make such links when they are installed.
for mt in "$lab"/root/{bin,usr/bin}/mt-st; do [[ ! -e $mt ]] || ln -sf mt-st "${mt%-st}"; done
rm -rf "$lab/apt"
touch "$lab/ready-2"
