#!/usr/bin/env bash
# deploy/quickstart.sh [DIR]     a first backup of DIR to a (virtual) tape, and its restore
# deploy/quickstart.sh --stop    stops what it left running
#
# Builds TAF, starts it with a private PostgreSQL and a virtual tape library, backs DIR up (default: this repository),
# lists and browses the version, restores it beside, compares content and metadata, reads the cartridge with the standard
# tools, and says what to try next. All state is below TAF_HOME (root: /var/lib/taf, else ~/.local/share/taf). A second run
# reuses it and makes a second version. TAF's own processes go on running until `--stop`; their names and ids are said.
set -euo pipefail
repo=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=deploy/install.sh
source "$repo/deploy/install.sh"

if [[ -z ${TAF_HOME:-} ]]; then
    if [[ $EUID -eq 0 ]]; then TAF_HOME=/var/lib/taf; else TAF_HOME=${XDG_DATA_HOME:-$HOME/.local/share}/taf; fi
fi
export TAF_HOME
export TAF_CONFIG=$TAF_HOME/login.toml
run=$TAF_HOME/run log=$TAF_HOME/log etc=$TAF_HOME/etc
target=${CARGO_TARGET_DIR:-$repo/target}
profile=${TAF_PROFILE:-release}
bin=$target/${profile/#dev/debug}
services=(taf-emulator taf-controller taf-tape-agent taf-source-agent)

# The id of a service that this script started and that still runs.
running() {
    local pid
    pid=$(cat "$run/$1.pid" 2>/dev/null) || return 1
    [[ $(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline") == *"/$1 "* ]] || return 1
    printf '%s' "$pid"
}

stop() {
    local pid
    pid=$(running "$1") || return 0
    kill -TERM "$pid" 2>/dev/null || true
    for _ in $(seq 300); do [[ -d /proc/$pid ]] || break; sleep 0.1; done
    [[ ! -d /proc/$pid ]] || kill -KILL "$pid" 2>/dev/null || true
    rm -f "$run/$1.pid"
    say "stopped $1 ($pid)"
}

if [[ ${1:-} == --stop ]]; then
    # Agents before the controller, the library last.
    for name in taf-source-agent taf-tape-agent taf-controller taf-emulator; do stop "$name"; done
    exit 0
fi
[[ ${1:-} != -* ]] || { sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2; }
dir=$(realpath -e -- "${1:-$repo}" 2>/dev/null) || die "there is no directory ${1:-$repo}" "name a directory that exists"
[[ -d $dir && -r $dir ]] || die "$dir is not a directory that you can read" "name another one"

# start NAME ARGUMENT...: starts a service unless it runs.
start() {
    local name=$1 pid
    shift
    ! running "$name" >/dev/null || return 0
    setsid nohup "$bin/$name" "$@" >>"$log/$name.log" 2>&1 </dev/null &
    pid=$!
    disown
    echo "$pid" >"$run/$name.pid"
}

# until_ok SECONDS WHAT COMMAND...: waits for a command to succeed; if a service has ended meanwhile, shows why.
until_ok() {
    local deadline=$((SECONDS + $1)) what=$2 name
    shift 2
    until "$@" >/dev/null 2>&1; do
        for name in "${services[@]}"; do
            [[ -e $run/$name.pid ]] || continue
            running "$name" >/dev/null && continue
            tail -n 20 "$log/$name.log" >&2
            die "$name ended while waiting for $what" "its log is $log/$name.log"
        done
        if ((SECONDS > deadline)); then
            tail -n 5 "$log"/*.log >&2 || true
            die "waited too long for $what" "the logs are in $log"
        fi
        sleep 0.2
    done
}

taf() { "$bin/taf" "$@"; }
shown() { local pattern=$1; shift; taf "$@" --json | grep -qE "$pattern"; }

say "1/7 build"
install_missing cc:gcc+libc6-dev:gcc postgres:postgresql:postgresql-server zstd:zstd:zstd tar:tar:tar
need_rust
cargo build --manifest-path "$repo/Cargo.toml" --profile "$profile" --locked \
    -p taf-controller -p taf-tape-agent -p taf-source-agent -p taf-emulator -p taf-cli

say "2/7 start: state is in $TAF_HOME"
umask 077
mkdir -p "$TAF_HOME" "$run" "$log" "$etc"
if [[ $EUID -eq 0 ]]; then
    # PostgreSQL refuses to run as root; its own user must get to its folder.
    chmod 711 "$TAF_HOME"
    id taf >/dev/null 2>&1 || useradd --system --home-dir "$TAF_HOME" --shell /usr/sbin/nologin taf
fi

# A backup must not find this script's own state or the build in it. What was ever asked for stays allowed.
touch "$etc/directories"
grep -qxF -- "$dir" "$etc/directories" || { printf '%s\n' "$dir" >>"$etc/directories"; stop taf-source-agent; }
excludes=()
for own in "$TAF_HOME" "$target"; do
    own=$(realpath -m -- "$own")
    case $own/ in "$dir"/*) excludes+=(--exclude "$own"); say "left out of the backup: $own" ;; esac
done
toml_list() { sed 's/\\/\\\\/g; s/"/\\"/g; s/.*/"&"/' "$1" | paste -sd,; }

if [[ ! -e $etc/port ]]; then
    for port in $(seq 8710 8760); do (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port" >"$etc/port"; break; }; done
fi
port=$(cat "$etc/port")
controller=127.0.0.1:$port

cat >"$etc/controller.toml" <<EOF
listen = "$controller"
home = "$TAF_HOME/controller"
database = "embedded"
EOF
cat >"$etc/tape-agent.toml" <<EOF
controller = "$controller"
state = "$TAF_HOME/tape-agent"
listen = "127.0.0.1"
drives = ["unix:$TAF_HOME/library/sockets/drive0.sock", "unix:$TAF_HOME/library/sockets/drive1.sock"]
libraries = ["unix:$TAF_HOME/library/sockets/changer.sock"]
# Emulated drives don't mind how slowly data come.
drive_floor = "0"
EOF
cat >"$etc/source-agent.toml" <<EOF
controller = "$controller"
state = "$TAF_HOME/source-agent"
backup_allowed = [$(toml_list "$etc/directories")]
restore_allowed = ["$TAF_HOME/restored"]
EOF

start taf-emulator serve --dir "$TAF_HOME/library" --create --drives 2 --slots 8 --cartridges 4 --capacity 100GB
start taf-controller run --config "$etc/controller.toml"
socket=$TAF_HOME/controller/controller.sock
until_ok 90 "the controller" test -S "$socket"
if [[ ! -s $etc/administrator.password ]]; then
    head -c 18 /dev/urandom | base64 >"$etc/administrator.password"
fi
if [[ ! -e $TAF_CONFIG ]]; then
    taf account create-first --socket "$socket" --user admin --password-file "$etc/administrator.password" 2>/dev/null || true
    until_ok 30 "the controller to answer" taf login --server "$controller" --authority "$TAF_HOME/controller/authority.pem" \
        --user admin --password-file "$etc/administrator.password"
fi
enrol() { # AGENT ROLE PROGRAM
    [[ ! -e $TAF_HOME/$3/identity.pem ]] || return 0
    taf agent token "$1" --role "$2" --output "$run/$1.token"
    "$bin/taf-$3" enrol --controller "$controller" --token-file "$run/$1.token" --state "$TAF_HOME/$3"
    rm -f "$run/$1.token"
}
until_ok 60 "the controller to answer" taf status
enrol "$(uname -n | tr 'A-Z' 'a-z' | tr -cd 'a-z0-9.-' | sed 's/^[^a-z0-9]*//' | cut -c1-40)-tape" tape tape-agent
agent=$(uname -n | tr 'A-Z' 'a-z' | tr -cd 'a-z0-9.-' | sed 's/^[^a-z0-9]*//' | cut -c1-40)-files
enrol "$agent" source source-agent
start taf-tape-agent run --config "$etc/tape-agent.toml"
start taf-source-agent run --config "$etc/source-agent.toml"
until_ok 60 "the drives" shown DRIVE_STATE_\(EMPTY\|LOADED\) drive list
until_ok 60 "the library" shown "TAF00[0-9]L8" library list

say "3/7 label a cartridge and make a plan"
shown '"TAF001L8"' volume list || taf volume label TAF001L8 --pool default
plan=$(basename "$dir" | tr 'A-Z' 'a-z' | tr -c 'a-z0-9._\n' '-' | sed 's/^[^a-z0-9]*//' | cut -c1-40)
plan=${plan:-root}-$(printf '%s' "$dir" | cksum | cut -d' ' -f1)
shown "\"sources/$plan\"" source list || taf source create "$plan" --agent "$agent" "$dir" "${excludes[@]}"
shown "\"plans/$plan\"" plan list || taf plan create "$plan" --source "$plan" --pool default

say "4/7 back up $dir"
status=0
taf run "$plan" || status=$?
# 3: done, and some files are listed as issues, which is the truth about a directory in use.
((status == 0 || status == 3)) || exit "$status"

say "5/7 what the catalog knows, with no tape read"
taf versions --plan "$plan"
taf ls "$plan" "$dir" | { head -n 15; cat >/dev/null; }

say "6/7 restore beside, and compare"
restored=$TAF_HOME/restored/$plan
rm -rf -- "$restored"
mkdir -p "$restored"
restore=0
taf restore "$plan" --to "$restored" || restore=$?
((restore == 0 || restore == 3)) || exit "$restore"
if ((status == 0)); then
    compare=()
    for own in "${excludes[@]}"; do [[ $own == --exclude ]] || compare+=(--exclude "$own"); done
    taf compare "$dir" "$restored$dir" "${compare[@]}"
    say "$dir and its restore are equal in content and metadata"
else
    say "files changed or could not be read during the backup, so the restore is not compared: taf job issues shows them"
fi

say "7/7 read the cartridge with the standard tools alone"
cartridge=$TAF_HOME/library/cartridges/TAF001L8.tape
# The last part; behind it there may be a volume index.
part=$(taf volume show TAF001L8 | awk '$2 == "part" { number = $1 } END { print number }')
count=$(taf tape cat "$cartridge" "$part" | zstd -dc | tar -tf - | wc -l)
say "tape file $part of TAF001L8: taf tape cat | zstd -dc | tar -t lists $count entries"

say "done. These processes go on running:"
for name in "${services[@]}"; do printf '    %-18s %s\n' "$name" "$(running "$name" || echo ended)" >&2; done
printf '    %-18s %s\n' postgres "$(head -n1 "$TAF_HOME"/controller/database/*/postmaster.pid "$TAF_HOME"/controller/database/postmaster.pid 2>/dev/null | grep -E '^[0-9]+$' | head -n1)" >&2
cat >&2 <<EOF

Try next (state and sign-in are in $TAF_HOME):
    export TAF_HOME=$TAF_HOME TAF_CONFIG=$TAF_CONFIG PATH=$bin:\$PATH
    taf status
    taf run $plan
    taf versions --plan $plan
    taf ls $plan $dir
    taf restore $plan --to $TAF_HOME/restored/again $dir
    taf tape extract $cartridge --to /tmp/without-any-server
Stop everything: $repo/deploy/quickstart.sh --stop
EOF
