# Sourced in the guest: starts our emulator's library as an iSCSI target, of $DRIVES drives and a changer with five cartridges of
# $TAPE_MB MiB. Sets TARGET, PORT, DRIVE, CHANGER, LIBRARY_DIR and the function library_start, by which it comes back after
# its process was killed (its id is in $LIBRARY_DIR/pid).
PORT=3261
TARGET=iqn.2026-01.test.taf:library
LIBRARY_DIR=/run/library
mkdir -p $LIBRARY_DIR
library_start() {
    rm -f $LIBRARY_DIR/units
    setsid "$EMULATOR" serve --dir $LIBRARY_DIR/it --create --drives "$DRIVES" --slots 8 --cartridges 5 --capacity "${TAPE_MB}MiB" \
        --iscsi 127.0.0.1:$PORT --iscsi-name $TARGET $EMULATOR_OPTIONS >$LIBRARY_DIR/units 2>>$LIBRARY_DIR/log </dev/null &
    echo $! >$LIBRARY_DIR/pid
    for _ in $(seq 100); do
        [ "$(grep -c iscsi: $LIBRARY_DIR/units)" = $((DRIVES + 1)) ] && return
        sleep 0.1
    done
    cat $LIBRARY_DIR/log
    return 1
}
library_start || exit 1
serial() { sed -n "s/^$1\t.*iscsi:.*\t//p" $LIBRARY_DIR/units; }
DRIVE=$(serial drive0)
CHANGER=$(serial changer)
export DRIVE CHANGER LIBRARY_DIR EMULATOR EMULATOR_OPTIONS PORT TARGET TAPE_MB DRIVES
export -f library_start
