#!/usr/bin/env bash
# Ends the controller and every worker. What was on comes back with the next start.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/stop.sh [--process]

Takes every channel off the air and ends the controller: the systemd service where it is installed, else the process
that start.sh started. The wishes stay: what was on comes back at the next start. To take a channel off the air for
good, use POST /streams/stop.

  --process   act on the process even where the service is installed
TEXT
}

# shellcheck source=scripts/place.sh
. "$(dirname "$0")/place.sh"

options --process -- "$@"

if has_service; then
  as_root systemctl stop "$unit" || die "systemd could not stop it: journalctl -u $unit -n 50"
  # The unit ends only its main process: a stop that failed, or that met a controller which had just crashed, leaves
  # workers on the air.
  empty() { ! pgrep -u stream-controller >/dev/null; }
  for signal in TERM KILL; do
    empty || { as_root systemctl kill --kill-who=all --signal="$signal" "$unit" && wait_for 15 empty; } || true
  done
  empty || die "processes of the user stream-controller are left: ps -u stream-controller"
  say "stopped"
  exit 0
fi

if ! pid=$(controller_pid); then
  say "not running"
  exit 0
fi
gone() { ! controller_pid >/dev/null; }
kill -TERM "$pid"
if ! wait_for 25 gone; then
  say "still ending; now its workers get no more time"
  kill -TERM "$pid" 2>/dev/null || true
  wait_for 15 gone || die "pid $pid does not end; see $controller_log"
fi
rm -f "$pid_file"
say "stopped"
