#!/usr/bin/env bash
# tests/lab/tgt.sh LAB PORT  runs tgt's library on this machine, on 127.0.0.1:PORT, without root, until standard input ends. Prints the
# target's name when it can be reached. LAB is what setup.sh made; DRIVES, TAPE_MB, CHAP_USER and CHAP_SECRET as in library-tgt.sh.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "${1:?usage: tgt.sh LAB PORT}/root" && pwd)
PORT=${2:?usage: tgt.sh LAB PORT}
export PATH=$root/usr/sbin:$root/usr/bin:$PATH
export LD_LIBRARY_PATH=$root/usr/lib/x86_64-linux-gnu:$root/lib/x86_64-linux-gnu
# Short, for its socket.
LIBRARY_DIR=$(mktemp -d /tmp/taf-tgt.XXXXXX)
# It ignores SIGTERM.
trap 'kill -KILL "${library_pid:-}" 2>/dev/null; rm -rf "$LIBRARY_DIR"' EXIT
DRIVES=${DRIVES:-2}
TAPE_MB=${TAPE_MB:-16}
# shellcheck source=tests/lab/library-tgt.sh
. "$here/library-tgt.sh"
echo "$TARGET"
cat >/dev/null
