#!/bin/bash
# Runs as the guest's first process (see guest.sh): makes room to write, starts the library, logs in to it, waits for its
# devices, runs the command, leaves its exit status in OUT/status and powers off.
out=$1
export PATH=/mnt/root/usr/sbin:/mnt/root/sbin:/mnt/root/usr/bin:/mnt/root/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp
say() { echo "[guest $(cut -d' ' -f1 /proc/uptime)s] $*"; }
finish() {
    echo "$1" >"$out/status"
    sync
    say "power off, status $1"
    echo o >/proc/sysrq-trigger
    sleep 5
}
trap 'finish 99' EXIT

mkdir -p /dev/shm /dev/pts
mount -t devpts pts /dev/pts 2>/dev/null
mount -t tmpfs shm /dev/shm 2>/dev/null
ln -sf /proc/self/fd /dev/fd
for stream in 0:stdin 1:stdout 2:stderr; do ln -sf "/proc/self/fd/${stream%%:*}" "/dev/${stream##*:}"; done
for folder in /run /tmp /opt; do mount -t tmpfs tmp $folder; done
chmod 1777 /tmp
mkdir -p /run/lock /run/etc
cp -a /etc/. /run/etc/ 2>/dev/null
mount --bind /run/etc /etc
. "$out/settings"

libraries=/mnt/root/usr/lib/x86_64-linux-gnu:/mnt/root/lib/x86_64-linux-gnu
busybox=$(echo /mnt/root/bin/busybox /mnt/root/usr/bin/busybox | tr ' ' '\n' | while read -r b; do [ -x "$b" ] && echo "$b"; done | head -n1)
"$busybox" ip link set lo up
for module in $MODULES; do "$busybox" insmod "$module" || exit 1; done

say "$(uname -r)"
LD_LIBRARY_PATH=$libraries . "$out/library.sh"
iscsistart=$(command -v iscsistart)
LD_LIBRARY_PATH=$libraries "$iscsistart" -i iqn.2026-01.test.taf:guest -t "$TARGET" -g 1 -a 127.0.0.1 -p "$PORT" || exit 1
# Connects the kernel again when the target was gone and comes back; the devices stay the same. It begins with doing so once.
if [ -n "$RECONNECT" ]; then
    mkdir -p /etc/iscsi
    echo InitiatorName=iqn.2026-01.test.taf:guest >/etc/iscsi/initiatorname.iscsi
    : >/etc/iscsi/iscsid.conf
    LD_LIBRARY_PATH=$libraries iscsid -f >/run/iscsid.log 2>&1 &
    for _ in $(seq 150); do
        grep -q operational /run/iscsid.log && break
        sleep 0.1
    done
    grep -q operational /run/iscsid.log || exit 1
fi
wanted=$((DRIVES + 1))
devices() { cat /sys/class/scsi_generic/sg*/device/type 2>/dev/null | grep -cE '^(1|8)$'; }
for _ in $(seq 150); do
    [ "$(devices)" -ge "$wanted" ] && break
    sleep 0.1
done
[ "$(devices)" -ge "$wanted" ] || exit 1
# The kernel's drivers look at a new device for a moment.
for _ in $(seq 100); do
    [ -e /dev/nst$((DRIVES - 1)) ] && break
    sleep 0.1
done
say "ready"
cd /tmp
(LD_LIBRARY_PATH=$libraries; export LD_LIBRARY_PATH; eval "$COMMAND")
status=$?
trap - EXIT
finish $status
