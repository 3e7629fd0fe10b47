#!/usr/bin/env bash
# How the controller is, in one line and an exit code. For cron, monitoring and people.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/health.sh [--url http://HOST:PORT]

One line, and an exit code:
  0  healthy      every wanted channel is on the air and nothing needs anybody
  1  degraded     something needs somebody; the line says what
  2  down         channels are wanted and none is on the air
  3  unreachable  the controller does not answer

Needs no token.
TEXT
}

# shellcheck source=scripts/place.sh
. "$(dirname "$0")/place.sh"

url=''
options --url=text -- "$@"
CONTROLLER_URL=${url:-${CONTROLLER_URL:-}}
need_tools curl jq

if ! answer=$(ask /health 2>&1) || ! jq -e .channels >/dev/null 2>&1 <<<"$answer"; then
  echo "unreachable: $(api) does not answer: $(head -c 200 <<<"$answer" | tr '\n' ' ')"
  exit 3
fi
read -r code line < <(jq -r '
  .channels.wanted as $wanted | .channels.on as $on
  | (if $wanted > 0 and $on == 0 then [2, "down"]
     elif .status != "ok" or $on < $wanted then [1, "degraded"] else [0, "healthy"] end) as [$code, $word]
  | "\($code) \($word): \($on) of \($wanted) wanted channels on the air"
    + (if .problems == [] then "" else "; " + (.problems | join("; ") | gsub("[[:cntrl:]]"; " ")) end)' <<<"$answer")
echo "$line"
exit "$code"
