#!/usr/bin/env bash
# The real programs under a real systemd, in a container of this machine: what a sink sees of every kind of end.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/test_systemd.sh [--from DIR] [--keep]

Boots Debian or Ubuntu (the release of this machine) in systemd-nspawn, installs the programs with install.sh, puts a
channel on the air to an nginx-rtmp inside, then stops, starts, reloads, hangs, kills and reboots. After each step it
looks at nginx's recordings: was the connection kept, and for how long did nothing arrive?

  --from   folder with the built programs (target/debug, built when missing)
  --keep   leave the container's folder behind, target/systemd-test/machine

Must run as root, with CAP_SYS_ADMIN. The first run downloads about 150 MB of packages and keeps them unpacked in
target/systemd-test/rootfs.
TEXT
}

# shellcheck source=scripts/needs.sh
. "$(dirname "$0")/needs.sh"

from=''
keep=''
options --from=path --keep -- "$@"
cd "$root_folder"

began=$SECONDS
[ "$(id -u)" = 0 ] || die "must be run as root: a container with its own systemd cannot be made otherwise"
unshare --mount --pid --net --fork true 2>/dev/null ||
  die "this machine does not let root make namespaces (CAP_SYS_ADMIN is missing, as in an unprivileged container): run it on a virtual machine, or in a privileged container"
need_packages mmdebstrap systemd-container perl jq
if [ -z "$from" ]; then
  need_rust
  build debug -p stream-controller -p stream-worker
  from=$root_folder/target/debug
fi

work=$root_folder/target/systemd-test
rootfs=$work/rootfs
machine=$work/machine
recordings=$machine/var/recordings
mkdir -p "$work"

# --- the machine -------------------------------------------------------------------------------------------------

packages=systemd,systemd-sysv,dbus,ffmpeg,nginx,libnginx-mod-rtmp,curl,jq,ca-certificates,procps,iproute2

make_rootfs() {
  local codename sources
  codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
  # shellcheck disable=SC2016 # apt-get fills these in.
  sources=$(for origin in Debian Ubuntu; do
    apt-get indextargets --format 'deb $(SITE) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' "Origin: $origin"
  done | sort -u)
  if [ -z "$codename" ] || [ -z "$sources" ]; then die "only Debian and Ubuntu can make the test machine"; fi
  [ "$(cat "$rootfs.is" 2>/dev/null)" = "$codename $packages" ] && return
  step "making a $codename machine (once)"
  # One that was broken off may have /proc and /dev in it still.
  rm -rf --one-file-system "$rootfs" "$rootfs.is"
  # Documentation is left out and nothing is synced: this machine does not have to survive a power failure.
  unshare --mount mmdebstrap --quiet --variant=minbase --include="$packages" --dpkgopt=force-unsafe-io \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --aptopt='Acquire::Languages "none"' \
    "$codename" "$rootfs" - <<<"$sources" || die "mmdebstrap could not make the machine"
  echo "$codename $packages" >"$rootfs.is"
}

nspawn=''
leader=''
watcher=''
finish() {
  trap - EXIT INT TERM
  [ -z "$watcher" ] || kill "$watcher" 2>/dev/null || true
  if [ -n "$nspawn" ]; then
    # Nothing in there is needed any more: its first process takes the others along.
    kill -KILL "${leader:-$nspawn}" 2>/dev/null || kill -KILL "$nspawn" 2>/dev/null || true
    wait "$nspawn" 2>/dev/null || true
  fi
  [ -n "$keep" ] || rm -rf "$machine"
}
trap finish EXIT
trap 'exit 130' INT TERM
gone() { ! kill -0 "$1" 2>/dev/null; }

inside() { nsenter -t "$leader" -a -- "$@"; }
up() {
  gone "$nspawn" && return 0
  # Its only child, without a line end.
  read -r leader <"/proc/$nspawn/task/$nspawn/children" || true
  [ -n "$leader" ] &&
    inside systemctl is-system-running 2>/dev/null | grep -qE 'running|degraded'
}

boot() {
  # Without the capability nspawn forbids mlock(2), which no server does, and a library of FFmpeg warns of it.
  SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 systemd-nspawn --quiet --directory="$machine" --register=no --keep-unit --private-network \
    --capability=CAP_IPC_LOCK \
    --bind-ro="$root_folder:/work" --bind-ro="$from:/programs" --boot --console=pipe </dev/null >>"$work/console.log" 2>&1 &
  nspawn=$!
  if ! wait_for 60 up || gone "$nspawn"; then
    tail -n 20 "$work/console.log" >&2
    die "systemd did not come up in systemd-nspawn (above: its words). Without CAP_SYS_ADMIN, or where cgroups are not writable, it cannot: run this on a virtual machine"
  fi
}

# --- what the sink sees ------------------------------------------------------------------------------------------

now_ms() { date +%s%3N; }

# Writes a line "MS BYTES FILES" whenever the recordings have grown.
watch_sink() {
  perl -MTime::HiRes=time,sleep -e '
    $| = 1; my $last = -1;
    while (1) {
      my @files = glob("$ARGV[0]/*.flv"); my $bytes = 0; $bytes += -s $_ // 0 for @files;
      if ($bytes != $last) { printf "%d %d %d\n", time * 1000, $bytes, scalar @files; $last = $bytes }
      sleep 0.02;
    }' "$recordings" >"$work/sink.log" &
  watcher=$!
}

# silence FROM TO: the longest time in ms without anything new at the sink.
silence() {
  awk -v from="$1" -v to="$2" 'BEGIN { last = from } $1 < from { next } $1 > to { exit }
    { if ($1 - last > most) most = $1 - last; last = $1 } END { if (to - last > most) most = to - last; print most + 0 }' "$work/sink.log"
}
publishes() { find "$recordings" -name '*.flv' | wc -l; }
arrived() { awk 'END { print $2 + 0 }' "$work/sink.log"; }
grows() {
  local before
  before=$(arrived)
  sleep 0.3
  [ "$(arrived)" -gt "$before" ]
}

# --- the service -------------------------------------------------------------------------------------------------

unit=stream-controller.service
scripts=/opt/stream-controller/scripts
property() { inside systemctl show -P "$1" "$unit"; }
status() { inside "$scripts/check_status.sh" --json 2>/dev/null | jq -c '.[0]'; }
worker_pid() { status | jq -r '.run.pid // empty'; }
on_air() { [ "$(status | jq -r '.air.is')" = on ] && [ "$(property ActiveState)" = active ]; }
inside_kill() { inside kill "-$1" "$2"; }

rows=()
failures=0
settle=2

# try NAME kept|back LIMIT_MS COMMAND...: does it, waits until the channel is on the air again, judges what the sink saw.
try() {
  local name=$1 wanted=$2 limit=$3 before worker from_ms to_ms quiet new verdict=ok after
  shift 3
  before=$(publishes)
  worker=$(worker_pid)
  from_ms=$(now_ms)
  "$@" || verdict="the command failed"
  # A step that nobody noticed would be judged too early.
  sleep 1
  { wait_for 60 on_air && wait_for 20 grows; } || verdict="not on the air again: $(status | jq -r .air.because)"
  sleep "$settle"
  to_ms=$(now_ms)
  quiet=$(silence "$from_ms" "$to_ms")
  new=$(($(publishes) - before))
  after=$(worker_pid)
  if [ "$wanted" = kept ]; then
    [ "$new" = 0 ] || verdict="$new new publishes instead of none"
    [ "$worker" = "$after" ] || verdict="the worker is another one"
  else
    [ "$new" = 1 ] || verdict="$new new publishes instead of one"
  fi
  [ "$quiet" -le "$limit" ] || verdict="nothing arrived for $quiet ms, allowed are $limit"
  [ "$verdict" = ok ] || failures=$((failures + 1))
  rows+=("$(printf '%-34s %-5s %9d %10d %8d  %s' "$name" "$wanted" "$new" "$quiet" "$limit" "$verdict")")
  say "${rows[-1]}"
}

# check NAME COMMAND...: a fact that is not about the sink.
check() {
  local name=$1
  shift
  if "$@"; then say "ok: $name"; else
    failures=$((failures + 1))
    say "FAILED: $name"
  fi
}

stop_and_start() {
  inside "$scripts/stop.sh"
  local left
  left=$(inside pgrep -u stream-controller || true)
  [ -z "$left" ] || { say "left after a stop: $left"; return 1; }
  inside "$scripts/start.sh"
}
restarted() { [ "$(property NRestarts)" -gt "$1" ] && [ "$(property ActiveState)" = active ]; }
kill_controller() {
  local count
  count=$(property NRestarts)
  inside_kill KILL "$(property MainPID)"
  wait_for 20 restarted "$count"
}
hang_controller() {
  local count
  count=$(property NRestarts)
  inside_kill STOP "$(property MainPID)"
  wait_for 40 restarted "$count"
  # The journal may be a moment behind; a pipe into grep -q would fail now and then, by SIGPIPE.
  wait_for 10 inside sh -c "journalctl -u $unit -q -g \"Failed with result 'watchdog'\" >/dev/null"
}
reload() {
  local pid
  pid=$(property MainPID)
  inside "$scripts/restart.sh"
  [ "$(property MainPID)" = "$pid" ]
}
# As the kernel does for want of memory.
# Only the second file is read by FFmpeg, so there is not always one.
kill_ffmpeg() { wait_for 40 inside pkill -KILL -o -u stream-controller -x ffmpeg; }
kill_worker() { inside_kill KILL "$(worker_pid)"; }
# Like a controller that is ended while it is being restarted: nothing but stop.sh ends its workers.
crash_and_stop() {
  inside_kill KILL "$(property MainPID)"
  stop_and_start
}
reboot() {
  local before
  before=$(status | jq -r .wish)
  inside systemctl reboot || true
  wait_for 40 gone "$nspawn" || return 1
  boot
  [ "$before" = on ]
}
# upgrade PROGRAM: the same program with one byte more is another one.
upgrade() {
  inside sh -c "mkdir -p /new && cp -u /programs/stream-controller /programs/stream-worker /new/ && echo >>/new/$1"
  inside /work/scripts/install.sh --from /new --no-packages 2>/dev/null && wait_for 40 runs_what_is_installed
}
roll_back() { inside "$scripts/rollback.sh" && wait_for 40 runs_what_is_installed; }
# The controller and, from the end of an item on, the worker.
runs_what_is_installed() {
  inside sh -c "cd /opt/stream-controller/bin && cmp -s /proc/$(property MainPID)/exe stream-controller && cmp -s /proc/$(worker_pid)/exe stream-worker"
}

# --- the test ----------------------------------------------------------------------------------------------------

make_rootfs
step "copying and booting it"
rm -rf "$machine" "$work/console.log"
cp -a --reflink=auto "$rootfs" "$machine"
mkdir -p "$recordings" "$machine/work" "$machine/programs"
chmod 777 "$recordings"
rm -f "$machine/etc/nginx/sites-enabled/default"
cat >"$machine/etc/nginx/modules-enabled/99-sink.conf" <<'TEXT'
rtmp { server { listen 127.0.0.1:1935; ping 10s; ping_timeout 10s;
  application live { live on; record all; record_unique on; record_path /var/recordings; } } }
TEXT
boot

step "installing"
inside /work/scripts/install.sh --from /programs --no-packages
# Thirty seconds would be waiting, not testing.
inside sh -c "mkdir -p /etc/systemd/system/$unit.d && printf '[Service]\nWatchdogSec=6\n' >/etc/systemd/system/$unit.d/test.conf"
inside sh -c 'umask 077; echo the-secret-key >/etc/stream-controller/credentials/youtube_stream_key'
inside sh -c 'echo YOUTUBE_RTMP_URL=rtmp://127.0.0.1:1935/live >>/etc/stream-controller/env'
for name in 1.mp4 2.mkv 3.mp4; do
  inside ffmpeg -v error -nostdin -f lavfi -i "testsrc2=s=320x180:r=25:d=8" -f lavfi -i "sine=frequency=${name%.*}00:sample_rate=48000:d=8" \
    -c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 25 -bf 0 -b:v 400k -c:a aac -ac 2 "/srv/stream-controller/media/$name"
done
inside systemctl daemon-reload
check "install.sh a second time changes nothing" inside /work/scripts/install.sh --from /programs --no-packages
verify() {
  local words
  words=$(inside systemd-analyze verify --man=no "/etc/systemd/system/$unit" 2>&1) || true
  [ -z "$words" ] || say "$words"
  [ -z "$words" ]
}
check "systemd-analyze verify has nothing to say" verify
check "exposure is at most 2.0" inside sh -c "systemd-analyze security --no-pager --offline=true --threshold=20 /etc/systemd/system/$unit | tail -n 1"

step "on the air"
inside "$scripts/start.sh" || {
  inside journalctl -u "$unit" --no-pager | tail -n 30 >&2
  die "the service did not start"
}
inside sh -c 'curl -fsS -H @/var/lib/stream-controller/auth.header -X POST -o /dev/null http://127.0.0.1:8080/streams/start'
wait_for 40 on_air || die "the channel did not go on the air: $(status)"
watch_sink
wait_for 20 grows || die "nothing arrives at the sink"
sleep 3
check "health.sh says healthy" inside "$scripts/health.sh"
check "nobody warns of anything" inside sh -c '! journalctl -u stream-controller -b -g "WARN|ERROR"'
check "the key is in no environment and no argument" inside sh -c '! grep -lsa "the-secret-ke[y]" /proc/[0-9]*/environ /proc/[0-9]*/cmdline'

step "what the sink saw"
header=$(printf '%-34s %-5s %9s %10s %8s' step want publishes silent_ms limit_ms)
say "$header"
try "nothing at all" kept 1500 true
try "systemctl reload" kept 1500 reload
try "controller kill -9" kept 1500 kill_controller
try "controller hangs (watchdog)" kept 1500 hang_controller
try "FFmpeg killed as for memory" kept 3000 kill_ffmpeg
try "worker killed as for memory" back 6000 kill_worker
try "install.sh, another controller" kept 1500 upgrade stream-controller
try "install.sh, another worker" back 2000 upgrade stream-worker
try "rollback.sh to the worker before" back 2000 roll_back
try "stop.sh, start.sh" back 15000 stop_and_start
try "systemctl restart" back 15000 inside systemctl restart "$unit"
try "controller kill -9, stop.sh, start" back 15000 crash_and_stop
try "reboot" back 30000 reboot

# One line per recording: DTS that do not grow, widest step in ms of pictures and sound, packets.
figures() {
  local file
  for file in "$recordings"/*.flv; do
    inside ffprobe -v fatal -show_entries packet=codec_type,dts -of csv=p=0 "/var/recordings/${file##*/}" | awk -F, '
      $1 == "video" || $1 == "audio" { if ($1 in last) { step = $2 - last[$1]; if (step <= 0) back++; if (step > widest[$1]) widest[$1] = step }
        last[$1] = $2; packets++ }
      END { print back + 0, widest["video"] + 0, widest["audio"] + 0, packets + 0 }'
  done
}
step "the recordings: DTS that do not grow, widest step of pictures and of sound in ms, packets"
read_back=$(figures)
say "$read_back"
whole() { [ "$(awk '$1 > 0 || $2 > 200 || $3 > 200' <<<"$read_back" | wc -l)" = 0 ]; }
check "no DTS goes back and nothing is missing within a connection" whole

step "uninstalling"
inside "$scripts/uninstall.sh" --purge --yes
check "nothing is left" inside sh -c '! id stream-controller 2>/dev/null && ! ls -d /opt/stream-controller /var/lib/stream-controller /etc/stream-controller 2>/dev/null && ls /srv/stream-controller/media/1.mp4 >/dev/null'

printf '%s\n' "$header" "${rows[@]}"
[ "$failures" = 0 ] || die "$failures checks failed"
say "all steps passed in $((SECONDS - began)) s"
