#!/usr/bin/env bash
# Restarts the controller in place: new program, new settings from its folder, and not one frame lost.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/restart.sh [--full] [--process]

Makes the controller execute itself again, in place: same pid, same port, channels stay on the air. Use it after an
upgrade; a new worker program then takes over at the end of an item. Starts the controller where it does not run.

  --full      stop and start instead; channels are off the air for some seconds. Needed after a change of the
              environment file or of credentials, which a running process cannot read again
  --process   act on the process even where the service is installed
TEXT
}

# shellcheck source=scripts/place.sh
. "$(dirname "$0")/place.sh"

full=''
options --full --process -- "$@"
pass=(${process:+--process})
need_tools curl jq
here=$(dirname "$0")

if has_service; then
  running() { systemctl is-active --quiet "$unit"; }
  hang_up() { as_root systemctl reload "$unit" || die "systemd could not reload it: journalctl -u $unit -n 50"; }
else
  running() { controller_pid >/dev/null; }
  hang_up() { kill -HUP "$(controller_pid)"; }
fi
if ! running; then
  exec "$here/start.sh" "${pass[@]}"
fi
if [ -n "$full" ]; then
  "$here/stop.sh" "${pass[@]}"
  exec "$here/start.sh" "${pass[@]}"
fi
# Uptimes are whole seconds: without this pause an old controller could pass for a new one.
young() { younger_than 1; }
if young; then sleep 2; fi
began=$SECONDS
hang_up
fresh() { younger_than $((SECONDS - began)) && running; }
wait_for 30 fresh || die "the controller did not come back; see $controller_log or journalctl -u $unit"
say "restarted in place; $(api)"
