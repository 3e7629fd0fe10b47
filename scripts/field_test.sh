#!/usr/bin/env bash
# A long run to real platforms from real media, watched, with a report to read. For whoever has the keys.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/field_test.sh [--minutes N] [--every S] [--destinations FILE] [--keep-on-air] [--out DIR] [--process]

Starts channel main (POST /streams/start) on the controller of this machine, looks at it every ten seconds, stops it and
writes report.md, samples.csv and the journal into a folder. Before: put files of at least three different encoders into
the bucket or the media folder, and open the platform's own dashboard beside it.

  --minutes        how long (120)
  --every          seconds between looks (10)
  --destinations   JSON array of destinations as in docs/configuration.md, mode 0600; else YOUTUBE_STREAM_KEY or what
                   the channel has already
  --keep-on-air    do not stop the channel at the end
  --out            where the report goes (./field-test-DATE)
  --process        act on the process even where the service is installed

Refuses to run where there is no key and no destination. Exit codes: 0 no finding, 1 something to read in the report.
TEXT
}

# shellcheck source=scripts/place.sh
. "$(dirname "$0")/place.sh"

minutes=120
every=10
destinations=''
keep_on_air=''
out=''
options --minutes=number --every=number --destinations=text --keep-on-air --out=text --process -- "$@"
if [ "$minutes" = 0 ] || [ "$every" = 0 ]; then refuse "nothing takes no time"; fi
need_tools curl jq
here=$(cd "$(dirname "$0")" && pwd)

answers || die "the controller does not answer at $(api): scripts/start.sh"
[ -r "$STATE_DIR/auth.header" ] || die "$STATE_DIR/auth.header cannot be read: run this as root or as the controller's user"
status() { ask /streams/status; }
body='{}'
if [ -n "$destinations" ]; then
  jq -e 'type == "array" and length > 0' "$destinations" >/dev/null 2>&1 || die "$destinations must be a JSON array of destinations"
  (((8#$(stat -c %a "$destinations") & 8#77) == 0)) || die "$destinations holds stream keys: chmod 600 $destinations"
elif [ "$(status | jq '[.destinations[] | select(.enabled)] | length')" = 0 ]; then
  die "there is no destination: set YOUTUBE_STREAM_KEY (docs/deployment.md) or give --destinations FILE"
fi
[ "$(status | jq -r .wish)" = off ] || die "channel main is on the air already; stop it first: this test begins with a start"

out=${out:-$PWD/field-test-$(date -u +%Y%m%d-%H%M)}
mkdir -p "$out"
samples=$out/samples.csv
began_at=$(date -u +%FT%TZ)
"$here/doctor.sh" >"$out/doctor.txt" 2>&1 || say "doctor.sh has findings; see $out/doctor.txt"

# The body holds keys: it goes through a pipe, never through arguments.
if [ -n "$destinations" ]; then jq '{destinations: .}' "$destinations"; else echo "$body"; fi |
  ask /streams/start -X POST -H 'Content-Type: application/json' --data-binary @- >"$out/start.json" ||
  die "the channel could not be started: $(jq -r '.detail // .title' "$out/start.json")"

stop() {
  [ -n "$keep_on_air" ] || ask /streams/stop -X POST -o /dev/null || true
}
trap 'stop; exit 130' INT TERM

echo 'at,health,wish,phase,air,item,worker_rss_kib,destination,state,bitrate_kbps,accepted_bytes,reconnects,dropped,error' >"$samples"
look() {
  local now at line code=0 pid rss
  at=$(date -u +%FT%TZ)
  line=$("$here/health.sh") || code=$?
  echo "$at $line" >>"$out/health.log"
  if ! now=$(status 2>/dev/null); then
    echo "$at,$code,,,unreachable,,,,,,,,," >>"$samples"
    return
  fi
  pid=$(jq -r '.run.pid // 0' <<<"$now")
  rss=$(awk '/^VmRSS:/ {print $2}' "/proc/$pid/status" 2>/dev/null || true)
  jq -r --arg at "$at" --arg code "$code" --arg rss "$rss" '. as $s | .destinations[] |
    [$at, $code, $s.wish, $s.phase, $s.air.is, ($s.item.key // ""), $rss, .id, .state, .bitrate_kbps, .accepted_bytes, .reconnects,
     .dropped, (.last_error.words // "")] | map(tostring | gsub("[,\\n]"; " ")) | join(",")' <<<"$now" >>"$samples"
  [ ! -t 2 ] || printf '\r%s %s ' "$at" "$line" >&2
}

accepted() { [ "$(status | jq -r .air.is)" = on ]; }
asked=$SECONDS
wait_for 60 accepted || say "nothing accepts media yet; looking on nevertheless"
to_air=$((SECONDS - asked))

say "on the air from $began_at for $minutes minutes; Ctrl-C ends it"
end=$((SECONDS + minutes * 60))
while [ $SECONDS -lt $end ]; do
  look
  sleep "$every"
done
[ ! -t 2 ] || say ''
status >"$out/status.json"
stop
if has_service; then journalctl -u "$unit" --no-pager --since "$((minutes + 1)) min ago" >"$out/journal.log" 2>/dev/null || true
else cp "$controller_log" "$out/journal.log" 2>/dev/null || true; fi

# --- the report --------------------------------------------------------------------------------------------------

looks=$(wc -l <"$out/health.log")
unhealthy=$(grep -cv ' healthy: ' "$out/health.log" || true)
dark=$(awk -F, 'NR > 1 && ($5 == "dark" || $5 == "unreachable") { at[$1] } END { print length(at) }' "$samples")
reconnects=$(jq '[.destinations[].reconnects] | add // 0' "$out/status.json")
restarts=$(jq .restart_count "$out/status.json")
{
  echo "# Field test, $began_at, $minutes minutes"
  echo
  echo "Controller $(ask /health | jq -r .version), $("${FFMPEG_PATH:-ffmpeg}" -version | sed -n '1s/ Copyright.*//p'), $(uname -srm), $(nproc) cores."
  echo
  echo "| figure | value |"
  echo "| --- | --- |"
  echo "| from the start call to accepted media, s | $to_air |"
  echo "| looks | $looks |"
  echo "| looks with a finding | $unhealthy |"
  echo "| looks without anything on the air | $dark |"
  echo "| reconnects | $reconnects |"
  echo "| worker restarts | $restarts |"
  echo "| item boundaries | $(jq '.counts.boundaries // 0' "$out/status.json") |"
  echo "| worker memory, first and last, KiB | $(awk -F, 'NR > 1 && $7 != "" { if (!first) first = $7; last = $7 } END { print first + 0, last + 0 }' "$samples") |"
  echo
  echo "## Destinations"
  echo
  echo "| destination | accepted MB | kbit/s, mean of the looks | reconnects | dropped | last error |"
  echo "| --- | --- | --- | --- | --- | --- |"
  awk -F, 'NR > 1 && $8 != "" { n[$8]++; rate[$8] += $10; mb[$8] = $11 / 1e6; re[$8] = $12; drop[$8] = $13; if ($14 != "") error[$8] = $14 }
    END { for (d in n) printf "| %s | %.0f | %.0f | %s | %s | %s |\n", d, mb[d], rate[d] / n[d], re[d], drop[d], (error[d] == "" ? "-" : error[d]) }' "$samples"
  echo
  echo "## Items played"
  echo
  awk -F, 'NR > 1 && $6 != "" { n[$6]++ } END { for (item in n) printf "- %s (%d looks)\n", item, n[item] }' "$samples" | sort
  jq -r '.failed_items[] | "- failed: \(.key): \(.reason)"' "$out/status.json"
  echo
  echo "## Findings"
  echo
  if [ "$unhealthy" = 0 ]; then echo "None."; else
    grep -v ' healthy: ' "$out/health.log" | cut -d ' ' -f 2- | sort | uniq -c | sort -rn | head -n 20 | sed 's/^ */- /'
  fi
  echo
  echo "## What only you can see"
  echo
  echo "- [ ] The platform's dashboard showed no warning (key frames, bitrate, audio)."
  echo "- [ ] The picture was clean at item boundaries, above all where the encoder changes."
  echo "- [ ] Picture and sound were together at the beginning, in the middle and at the end."
  echo "- [ ] The platform says that the stream was live all the time."
} >"$out/report.md"
say "report: $out/report.md"
[ "$unhealthy" = 0 ] && [ "$reconnects" = 0 ] && [ "$restarts" = 0 ]
