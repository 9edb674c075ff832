#!/usr/bin/env bash
# tests/lab/guest.sh LAB -- 'COMMAND'
#
# Runs the command as root in a guest that has Linux's own sg, st and ch drivers and, behind them, a tape library: one changer
# ($CHANGER is its serial number), $DRIVES drives ($DRIVE is the first one's serial number), five cartridges of $TAPE_MB MiB in
# its slots. The library is tgt's (LIBRARY=tgt, the default), or that of our emulator's program, EMULATOR=PATH, as an iSCSI
# target (LIBRARY=emulator, further options of `serve` in EMULATOR_OPTIONS; its folder in the guest is $LIBRARY_DIR/it). With
# RECONNECT=yes the kernel connects again when the target has died and comes back. The guest has MEMORY_MB (384) of memory, which
# its own folders are in. LAB is what setup.sh made.
#
# The guest is User Mode Linux: an ordinary process, no root, no KVM, one processor; up and down in 10 s. It sees this
# machine's files, read-only; /tmp, /run and /opt are its own, and /mnt is LAB, which can be written. It has no udev.
# Standard output is its console. Exit status is the command's; 99: the guest could not be set up; 98: it died.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
lab=$(cd "${1:?usage: guest.sh LAB -- COMMAND}" && pwd)
shift
[[ ${1:-} != -- ]] || shift
[[ -e $lab/ready-2 ]] || { echo "run first: tests/lab/setup.sh $lab" >&2; exit 2; }

out=$(mktemp -d "$lab/guest.XXXXXX")
trap 'rm -rf "$out"' EXIT
cp "$here/guest-init.sh" "$out/"
cp "$here/library-${LIBRARY:-tgt}.sh" "$out/library.sh"
modules=
for module in scsi_common scsi_mod sg st ch scsi_transport_iscsi libiscsi libiscsi_tcp iscsi_tcp; do
    modules+=$(cd "$lab" && echo "/mnt/"root/usr/lib/uml/modules/*/kernel/drivers/scsi/$module.ko)' '
done
{
    printf 'COMMAND=%q\nMODULES=%q\n' "$*" "$modules"
    printf 'DRIVES=%q\nTAPE_MB=%q\n' "${DRIVES:-2}" "${TAPE_MB:-64}"
    printf 'RECONNECT=%q\n' "${RECONNECT:-}"
    printf 'EMULATOR=%q\nEMULATOR_OPTIONS=%q\n' "${EMULATOR:-}" "${EMULATOR_OPTIONS:-}"
} >"$out/settings"
# The first thing that runs in the guest: its own /proc, /sys and /dev, and the lab.
cat >"$out/init" <<INIT
#!/bin/bash
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc; mount -t sysfs sys /sys
mountpoint -q /dev || mount -t devtmpfs dev /dev
mount -t hostfs lab /mnt -o "$lab"
exec /bin/bash "/mnt/${out##*/}/guest-init.sh" "/mnt/${out##*/}"
INIT
chmod +x "$out/init"

# The guest's memory is a file; a small /dev/shm can't hold it.
memory=${MEMORY_MB:-384}
free=$(df --output=avail -m /dev/shm 2>/dev/null | tail -n1) || free=0
if ((free > 2 * memory)); then TMPDIR=/dev/shm; else TMPDIR=$out; fi
export TMPDIR
# It keeps its socket below HOME, which not every user has.
HOME=$out timeout --foreground "${GUEST_SECONDS:-300}" "$lab/root/usr/bin/linux.uml" "mem=${memory}M" \
    root=/dev/root rootfstype=hostfs rootflags=/ ro "init=$out/init" \
    con0=null,fd:1 con=null ssl=null quiet "umid=taf$$" </dev/null 2>&1 | cat || true
status=$(cat "$out/status" 2>/dev/null || echo 98)
exit "$status"
