#!/usr/bin/env bash
# Starts the controller, which brings every wanted channel back on the air.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/start.sh [--process]

Starts the controller: the systemd service where it is installed, else a process of its own that is remembered in
STATE_DIR/run/controller.pid. Every channel that was on comes back by itself. Does nothing when it runs already.

  --process   start a process even where the service is installed

Reads /etc/stream-controller/env in an installation, .env in a checkout (or $ENV_FILE).
TEXT
}

# shellcheck source=scripts/place.sh
. "$(dirname "$0")/place.sh"

options --process -- "$@"
need_tools curl jq

if has_service; then
  as_root systemctl start "$unit" || die "systemd could not start it: journalctl -u $unit -n 50"
  wait_for 30 answers || die "the service runs but does not answer at $(api): journalctl -u $unit -n 50"
  say "started; $(api)"
  exit 0
fi

if pid=$(controller_pid); then
  say "already running, pid $pid, $(api)"
  exit 0
fi
[ -x "$bin/stream-controller" ] || die "there is no program yet: cargo build --release --workspace"
umask 077
mkdir -p "$STATE_DIR/run" "$STATE_DIR/logs"
# Ten megabytes are enough to find out why.
if [ "$(stat -c %s "$controller_log" 2>/dev/null || echo 0)" -gt 10485760 ]; then
  mv "$controller_log" "$controller_log.1"
fi
rm -f "$STATE_DIR/run/controller.address"
cd "$home"
setsid "$bin/stream-controller" >>"$controller_log" 2>&1 </dev/null &
pid=$!
printf '%s %s\n' "$pid" "$(started_at "$pid")" >"$pid_file"
up() { ! kill -0 "$pid" 2>/dev/null || { [ -s "$STATE_DIR/run/controller.address" ] && answers; }; }
wait_for 30 up || die "it does not answer; see $controller_log"
controller_pid >/dev/null || {
  tail -n 5 "$controller_log" >&2
  die "it ended at once; see $controller_log"
}
say "started, pid $pid, $(api)"
