# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034  # What is not assigned here is in bench.sh and bench_common.sh.
# How long the sink is without a picture when something is killed, and where the item goes on. Sourced by bench.sh.

gop=60 # pictures, in the clips of bench_common.sh

need_for_recovery() {
  need_packages curl jq
  need_ffmpeg
}

# pictures: when each picture came, ms since 1970, over all publishes of the sink in order.
pictures() {
  local publish began
  while read -r publish began; do
    awk -v began="$began" '$2 == "v" {printf "%.0f\n", began + $1}' "$work/sink/publish-$publish.arrivals"
  done < <(jq -r 'select(.event == "publish") | "\(.publish) \(.at_ms)"' "$work/sink/events.jsonl") | sort -n
}

# darkest FROM TO: the longest time without a picture that ends between these, ms.
darkest() {
  awk -v from="$1" -v to="$2" 'last && $1 >= from && $1 <= to && $1 - last > most {most = $1 - last} {last = $1}
    END {print most + 0}' "$work/pictures"
}

# coded FILE: what names each coded picture, in order of decoding. A picture that is sent is that of the file, byte by
# byte.
coded() { ffmpeg -v error -nostdin -i "$1" -map 0:v -c copy -f framemd5 - | awk '!/^#/ {print $NF}'; }

# off_by FROM: pictures from the last one before a kill to the first one after it: 1 is the next one of the item, less
# means that some are seen twice, more that some are lost.
off_by() {
  local next
  next=$(jq -s --argjson from "$1" '[.[] | select(.event == "publish" and .at_ms > $from)][0].publish' "$work/sink/events.jsonl")
  coded "$work/sink/publish-$((next - 1)).flv" | tail -n 1 >"$work/seam"
  coded "$work/sink/publish-$next.flv" | sed 1q >>"$work/seam"
  awk 'NR == FNR {place[$1] = FNR; next} {print place[$1]}' "$work/coded" "$work/seam" |
    awk '!/./ {exit 1} NR == 1 {last = $1} NR == 2 {print $1 - last}' || die "a picture that is not in the file"
}
# gops PICTURES: how far that is from the next picture, in GOPs.
gops() { awk -v n="$1" -v gop=$gop 'BEGIN {n -= 1; printf "%.2f", (n < 0 ? -n : n) / gop}'; }

on_air_now() { status 2>/dev/null | jq -e '.air.is == "on" and .destinations[0].state == "live"' >/dev/null; }
worker_now() { status | jq .run.pid; }

strike() { # BLOW
  local listening
  case $1 in
    controller)
      kill -KILL "$controller"
      wait "$controller" 2>/dev/null || true
      pids=("${pids[0]}")
      start_again
      ;;
    reload)
      listening=$(grep -c ' listening' "$controller_log" || true)
      kill -HUP "$controller"
      next_one() { [ "$(grep -c ' listening' "$controller_log")" -gt "$listening" ]; }
      wait_for 20 next_one || die "the next controller did not come"
      ;;
    worker) kill -KILL "$(worker_now)" ;;
    frozen) kill -STOP "$(worker_now)" ;;
    source) kill -KILL "$(children_of "$(worker_now)" | awk '{print $1}')" ;;
  esac
}

# blows KIND: sets `begins` and `ends` of each.
blows() {
  local n worker
  for ((n = 1; n <= kills; n++)); do
    # Each kill is the first one of its channel: after the second in a row the controller waits longer by design.
    start_channel recovery true
    wait_for 30 on_air_now || die "the sink accepts nothing"
    # Anywhere in a GOP.
    sleep "5.$((RANDOM % 10))"
    worker=$(worker_now)
    begins[$1-$n]=$(date +%s%3N)
    strike "$1"
    another() { [ "$(worker_now)" != "$worker" ]; }
    case $1 in worker | frozen) wait_for 60 another || die "no other worker came" ;; esac
    wait_for 60 on_air_now || die "it did not come back"
    sleep 6
    ends[$1-$n]=$(date +%s%3N)
    stop_channel
  done
}

measure_recovery() {
  local kind
  declare -A begins=() ends=()
  long_clip
  mkdir -p "$media/other"
  [ -s "$media/other/long.mkv" ] ||
    ffmpeg -v error -nostdin -y -i "$media/long/long.mp4" -c copy "$media/other/long.mkv"
  start_sink
  step "killing $kills times each: controller, worker, source; reloading; freezing the worker"
  start_controller recovery STORAGE_LOCAL_DIR="$media/long" LOG_LEVEL=info
  for kind in controller reload worker frozen; do blows $kind; done
  end_from 1
  # What MP4 is, the worker reads by itself; this one needs FFmpeg.
  start_controller recovery-source STORAGE_LOCAL_DIR="$media/other" LOG_LEVEL=info
  blows source
  # The recordings and the lists of arrivals are complete when their files are closed.
  end_from 0
  pictures >"$work/pictures"
  coded "$media/long/long.mp4" >"$work/coded"
  for kind in controller reload source worker frozen; do show "$kind"; done
}

show() { # KIND
  local n median limit=250 all=() off=() far=()
  for ((n = 1; n <= kills; n++)); do all+=("$(darkest "${begins[$1-$n]}" "${ends[$1-$n]}")"); done
  printf '%-10s longest time without a picture, ms: %s\n' "$1" "${all[*]}"
  median=$(median_of "${all[@]}")
  # Pictures are 33 ms apart where nothing happens.
  [ "$median" -ge 20 ] || die "nothing was measured; see $work/pictures"
  case $1 in worker) limit=500 ;; frozen) limit=15000 ;; esac
  row "$1: without a picture, ms (median)" "$median" "$limit"
  [ "$1" = worker ] || return 0
  for ((n = 1; n <= kills; n++)); do
    off+=("$(off_by "${begins[$1-$n]}")")
    far+=("$(gops "${off[-1]}")")
  done
  printf '%-10s from the last picture to the next, in pictures of the item: %s\n' "$1" "${off[*]}"
  row "$1: seen twice or lost, GOPs (the most)" "$(most_of "${far[@]}")" 1
}
