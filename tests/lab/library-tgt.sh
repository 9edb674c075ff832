# Sourced in the guest, and by tgt.sh: starts tgt with one target, of $DRIVES drives and a changer with five cartridges of $TAPE_MB
# MiB. Sets TARGET, PORT, DRIVE and CHANGER, and library_pid. With CHAP_USER, CHAP_SECRET must be proved.
PORT=${PORT:-3261}
LIBRARY_DIR=${LIBRARY_DIR:-/run/library}
# Of the daemon, another one for each on a machine; at most 32767.
control=$((PORT % 30000 + 1))
TARGET=iqn.2026-01.test.taf:library
DRIVE=VTLDRV0001
CHANGER=VTLCHG0001
export DRIVE CHANGER TGT_IPC_SOCKET=$LIBRARY_DIR/control
media=$LIBRARY_DIR/media
mkdir -p $media
for number in 1 2 3 4 5; do
    tgtimg --op new --device-type tape --barcode "VTL00${number}L8" --size "$TAPE_MB" --type data --file "$media/VTL00${number}L8" >/dev/null
done
head -c 1024 /dev/zero >$LIBRARY_DIR/changer
setsid tgtd -f -C $control -t 2 --iscsi "portal=127.0.0.1:$PORT" >$LIBRARY_DIR/log 2>&1 </dev/null &
library_pid=$!
adm() { tgtadm -C $control --lld iscsi "$@"; }
for _ in $(seq 100); do
    adm --mode target --op show >/dev/null 2>&1 && break
    sleep 0.1
done
adm --op new --mode target --tid 1 -T $TARGET || exit 1
for drive in $(seq "$DRIVES"); do
    # A drive must begin with some file; it is empty until the changer brings a cartridge.
    tgtimg --op new --device-type tape --barcode "EMPTY$drive" --size 1 --type clean --file "$media/EMPTY$drive" >/dev/null
    adm --mode logicalunit --op new --tid 1 --lun "$drive" -b "$media/EMPTY$drive" --device-type=tape --bstype=ssc || exit 1
    adm --mode logicalunit --op update --tid 1 --lun "$drive" --params \
        "vendor_id=IBM,product_id=ULT3580-TD8,product_rev=VTL1,scsi_sn=VTLDRV000$drive,removable=1,sense_format=0"
    adm --mode logicalunit --op update --tid 1 --lun "$drive" --params online=0
done
unit=$((DRIVES + 1))
adm --mode logicalunit --op new --tid 1 --lun $unit -b $LIBRARY_DIR/changer --device-type=changer || exit 1
changer() { adm --mode logicalunit --op update --tid 1 --lun $unit --params "$1"; }
changer "vendor_id=IBM,product_id=3573-TL,product_rev=VTL1,scsi_sn=$CHANGER"
changer "media_home=$media"
changer "element_type=1,start_address=1,quantity=1"
changer "element_type=3,start_address=16,quantity=1"
changer "element_type=4,start_address=256,quantity=$DRIVES"
for drive in $(seq "$DRIVES"); do changer "element_type=4,address=$((255 + drive)),tid=1,lun=$drive"; done
changer "element_type=2,start_address=1000,quantity=8"
for number in 1 2 3 4 5; do changer "element_type=2,address=$((999 + number)),barcode=VTL00${number}L8,sides=1"; done
if [ -n "${CHAP_USER:-}" ]; then
    adm --mode account --op new --user "$CHAP_USER" --password "$CHAP_SECRET" || exit 1
    adm --mode account --op bind --tid 1 --user "$CHAP_USER" || exit 1
fi
adm --op bind --mode target --tid 1 -I ALL
