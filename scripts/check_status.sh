#!/usr/bin/env bash
# What every channel and every destination does, as a table.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/check_status.sh [--json] [--url http://HOST:PORT] [CHANNEL...]

A table of the channels and their destinations, all channels unless some are named.

  --json   the API's answers instead, an array
  --url    ask another address

Reads the token in STATE_DIR, so it must be run as root or as the controller's user.
Exit codes: 0 answered, 1 a channel is unknown or the token is wrong, 3 the controller does not answer.
TEXT
}

# shellcheck source=scripts/place.sh
. "$(dirname "$0")/place.sh"

json=''
url=''
options --json --url=text words -- "$@"
CONTROLLER_URL=${url:-${CONTROLLER_URL:-}}
channels=("${words[@]}")
need_tools curl jq

answers || {
  echo "unreachable: $(api) does not answer" >&2
  exit 3
}
[ -r "$STATE_DIR/auth.header" ] || die "$STATE_DIR/auth.header cannot be read: run this as root or as the controller's user"
if [ ${#channels[@]} = 0 ]; then
  for folder in "$STATE_DIR"/channels/*/; do
    [ -d "$folder" ] && channels+=("$(basename "$folder")")
  done
  [ ${#channels[@]} -gt 0 ] || channels=(main)
fi

all='[]'
for channel in "${channels[@]}"; do
  answer=$(ask "/streams/status?channel=$(jq -rn --arg c "$channel" '$c | @uri')") ||
    die "channel $channel: $(jq -r '.detail // .title' <<<"$answer" 2>/dev/null || echo "$answer")"
  all=$(jq --argjson one "$answer" '. + [$one]' <<<"$all")
done
if [ -n "$json" ]; then
  jq . <<<"$all"
  exit 0
fi

# table: tab-separated lines in columns as wide as they need.
table() {
  awk -F '\t' '{ for (i = 1; i <= NF; i++) { cell[NR, i] = $i; if (length($i) > width[i]) width[i] = length($i) } if (NF > most) most = NF }
    END { for (r = 1; r <= NR; r++) { line = ""; for (i = 1; i <= most; i++) line = line sprintf("%-" width[i] + 2 "s", cell[r, i])
      sub(/ +$/, "", line); print line } }'
}
jq -r '
  def clock: if . == null then "-" else "\(. / 3600 | floor)h\(. % 3600 / 60 | floor)m\(. % 60)s" end;
  ["CHANNEL", "WISH", "PHASE", "AIR", "UPTIME", "RESTARTS", "ITEM", "BECAUSE"],
  (.[] | [.channel, .wish, .phase, .air.is, (.uptime_s | clock), .restart_count, (.item.key // "-"),
    (if .air.is == "on" then "-" else (.air.because // "-") end)]) | @tsv' <<<"$all" | table
echo
jq -r '
  ["CHANNEL", "DESTINATION", "STATE", "KBIT/S", "MB", "RECONNECTS", "LAST ERROR"],
  (.[] | .channel as $channel | .destinations[]
    | [$channel, .name, (if .enabled then .state else "disabled" end), .bitrate_kbps, (.accepted_bytes / 1e6 | floor), .reconnects,
      (.last_error.words // "-")]),
  (.[] | select(.hls.enabled) | [.channel, "HLS", (.hls.error // "-"), "-", "-", "-", .hls.url]) | @tsv' <<<"$all" | table
