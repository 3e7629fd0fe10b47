#!/usr/bin/env bash
# Run by systemd after the controller ended: ends what a stop that succeeded left in the unit's control group.
# After anything else (a crash, a kill, the watchdog) workers stay on the air and the next controller adopts them.
set -euo pipefail

case ${1:-} in
  '') ;;
  *)
    echo "usage: scripts/end_leftovers.sh   (for ExecStopPost= of stream-controller.service, not for people)"
    [ "$1" = --help ] || [ "$1" = -h ] || exit 2
    exit 0
    ;;
esac
# Death by SIGHUP or SIGPIPE is a success too in systemd's eyes, but no stop.
[ "${SERVICE_RESULT:-} ${EXIT_CODE:-} ${EXIT_STATUS:-}" = "success exited 0" ] || exit 0

# The same on cgroup v1 and v2: a process is ours when the kernel says the same of it as of this one.
mine=$(grep -E '^(0::|[0-9]+:name=systemd:)/.' /proc/self/cgroup | head -n 1)
[[ $mine == *stream-controller* ]] || exit 0
leftovers() {
  local file pid
  for file in /proc/[0-9]*/cgroup; do
    pid=${file//[!0-9]/}
    grep -qxF "$mine" "$file" 2>/dev/null || continue
    # Neither this script nor the subshell that looks.
    [ "$pid" = $$ ] || [ "$pid" = "$BASHPID" ] || echo "$pid"
  done
}
for signal in TERM KILL; do
  for ((tries = 0; tries < 50; tries++)); do
    pids=$(leftovers)
    [ -n "$pids" ] || exit 0
    if [ "$tries" = 0 ]; then
      echo "ending what was left: $(tr '\n' ' ' <<<"$pids")($signal)" >&2
      # shellcheck disable=SC2086
      kill -s "$signal" $pids 2>/dev/null || true
    fi
    sleep 0.2
  done
done
echo "left behind: $(leftovers | tr '\n' ' ')" >&2
