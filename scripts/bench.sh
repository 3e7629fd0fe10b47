#!/usr/bin/env bash
# Measures what a channel costs, as ratios against a named baseline in the same run.
set -euo pipefail
# shellcheck source=scripts/needs.sh
. "$(dirname "$0")/needs.sh"
cd "$root_folder"

usage() {
  cat >&2 <<'TEXT'
usage: scripts/bench.sh channel [--seconds N] [--starts N]
       scripts/bench.sh capacity --help

channel   one 720p 3 Mbit/s file to one destination, HLS off and on: CPU and memory of worker and source beside
          the bare loop `ffmpeg -re -stream_loop -1 -c copy` with the same file at the same time; then the time
          from the start call to the first IDR picture at the sink, and the boundaries in its recording

  --seconds N   length of each measured window (default 60, at least 10)
  --starts N    starts that are timed (default 10)

Prints a table with what is to be reached and exits 1 where that is missed.
TEXT
}

if [ "${1:-}" = capacity ]; then
  shift
  exec "$root_folder/scripts/bench_capacity.sh" "$@"
fi
what='' seconds=60 starts=10
while [ $# -gt 0 ]; do
  case $1 in
    channel) what=$1 ;;
    --seconds)
      seconds=${2:-}
      [[ $seconds =~ ^[0-9]+$ && $seconds -ge 10 ]] || die "--seconds needs a number of at least 10"
      shift
      ;;
    --starts)
      starts=${2:-}
      [[ $starts =~ ^[0-9]+$ && $starts -ge 1 ]] || die "--starts needs a number"
      shift
      ;;
    -h | --help)
      usage
      exit 0
      ;;
    *) die "unknown argument $1; see --help" ;;
  esac
  shift
done
[ -n "$what" ] || {
  usage
  exit 2
}

need_packages curl jq
need_ffmpeg
need_rust
build release -p stream-controller -p stream-worker -p e2e --bin stream-controller --bin stream-worker --bin rtmp-sink

bin=$root_folder/target/release
work=$root_folder/target/bench
media=$work/media
mkdir -p "$media"
rm -rf "$work/sink"

noisy_clip() { # NAME SECONDS B_FRAMES
  [ -s "$media/$1" ] && return
  step "making $1"
  ffmpeg -v error -nostdin -y -f lavfi -i "testsrc2=s=1280x720:r=30:d=$2,noise=alls=12:allf=t" \
    -f lavfi -i "sine=f=440:r=48000:d=$2" -c:v libx264 -preset ultrafast -tune fastdecode -pix_fmt yuv420p -bf "$3" \
    -b:v 3000k -minrate 3000k -maxrate 3000k -bufsize 6000k -g 60 -keyint_min 60 -sc_threshold 0 \
    -c:a aac -ac 2 -b:a 128k -movflags +faststart -f mp4 "$media/.part" && mv "$media/.part" "$media/$1"
}

pids=()
finish() {
  trap - EXIT
  for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
    kill -TERM "${pids[i]}" 2>/dev/null || true
    wait "${pids[i]}" 2>/dev/null || true
  done
}
trap finish EXIT
trap 'exit 130' INT TERM

children_of() { cat "/proc/$1/task/"*/children 2>/dev/null || true; }
# cpu_ns PID: time on a processor of a process, its living children, and those it has waited for (in ticks).
cpu_ns() {
  local pid total waited
  waited=$(awk '{print $16 + $17}' "/proc/$1/stat")
  total=$((waited * 1000000000 / $(getconf CLK_TCK)))
  for pid in $1 $(children_of "$1"); do
    total=$((total + $(cat "/proc/$pid/task/"*/schedstat 2>/dev/null | awk '{sum += $1} END {printf "%d", sum}')))
  done
  printf '%s\n' "$total"
}
pss_kib() { awk '/^Pss:/ {print $2}' "/proc/$1/smaps_rollup" 2>/dev/null || echo 0; }
percent() { awk -v ns="$1" -v s="$2" 'BEGIN {printf "%.3f", ns / s / 1e7}'; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN {printf "%.2f", a / b}'; }
missed=0
row() { # WHAT VALUE LIMIT
  local verdict=ok
  if awk -v a="$2" -v b="$3" 'BEGIN {exit !(a > b)}'; then
    verdict=MISSED
    missed=1
  fi
  printf '%-58s %10s   reach <= %-8s %s\n' "$1" "$2" "$3" "$verdict"
}

"$bin/rtmp-sink" --listen 127.0.0.1:0 --record "$work/sink" >"$work/sink.log" 2>&1 &
pids+=($!)
sink_is_up() { grep -q '127.0.0.1:' "$work/sink.log"; }
wait_for 10 sink_is_up || die "the sink did not start"
sink=$(grep -o '127.0.0.1:[0-9]*' "$work/sink.log" | head -n 1)

# start_controller NAME MEDIA_FOLDER: sets `controller`, and `api` and `auth` for `ask`.
start_controller() {
  local port state=$work/state-$1
  port=$(free_port 18080)
  rm -rf "$state"
  mkdir -p "$state"
  env STATE_DIR="$state" STORAGE_LOCAL_DIR="$2" CONTROLLER_BIND="127.0.0.1:$port" LOG_LEVEL=warn \
    "$bin/stream-controller" >"$work/controller-$1.log" 2>&1 &
  controller=$!
  pids+=("$controller")
  api=http://127.0.0.1:$port auth=$state/auth.header
  healthy() { curl -fs -o /dev/null "$api/health"; }
  wait_for 20 healthy || die "the controller did not start; see $work/controller-$1.log"
}
ask() { curl -sS --fail-with-body -H "@$auth" "$@"; }
start_channel() { # KEY HLS
  local body
  body=$(jq -nc --arg url "rtmp://$sink/live" --arg key "$1" --argjson hls "$2" \
    '{hls: {enabled: $hls}, destinations: [{id: "sink", name: "sink", platform: "custom", url: $url, stream_key: $key}]}')
  ask -X POST -H 'Content-Type: application/json' -d "$body" "$api/streams/start" >/dev/null
}
stop_channel() {
  ask -X POST "$api/streams/stop" >/dev/null
  off() { [ "$(ask "$api/streams/status" | jq -r .phase)" = off ]; }
  wait_for 20 off || die "the channel did not stop"
}
live() { [ "$(ask "$api/streams/status" | jq -r '.destinations[0].state')" = live ]; }

# put_on_air HLS: a controller with one channel; prints nothing, sets `worker`.
put_on_air() {
  start_controller "hls-$1" "$media/long"
  start_channel "hls-$1" "$1"
  wait_for 30 live || die "the sink accepts nothing"
  worker=$(ask "$api/streams/status" | jq .run.pid)
}

# Both channels and the bare loop run in the same window, so that the machine's mood weighs on all alike.
measure() {
  local name pid
  declare -A root=() at_start=() cpu=()
  put_on_air false
  root[off]=$worker
  put_on_air true
  root[on]=$worker
  ffmpeg -v error -nostdin -re -stream_loop -1 -i "$media/long/long.mp4" -c copy -f flv "rtmp://$sink/live/bare" \
    >/dev/null 2>&1 &
  pids+=($!)
  root[bare]=$!
  sleep 5
  local from=$EPOCHREALTIME window
  for name in off on bare; do at_start[$name]=$(cpu_ns "${root[$name]}"); done
  sleep "$seconds"
  window=$(awk -v a="$from" -v b="$EPOCHREALTIME" 'BEGIN {print b - a}')
  for name in off on bare; do
    cpu[$name]=$(percent $(($(cpu_ns "${root[$name]}") - at_start[$name])) "$window")
    local of_source=0
    for pid in $(children_of "${root[$name]}"); do of_source=$((of_source + $(pss_kib "$pid"))); done
    printf '%-5s %s %% of a core; PSS %s KiB, its source %s KiB\n' "$name" "${cpu[$name]}" \
      "$(pss_kib "${root[$name]}")" "$of_source"
  done
  for name in off on; do
    row "CPU of worker + source beside the bare loop, HLS $name" "$(ratio "${cpu[$name]}" "${cpu[bare]}")" \
      "$([ $name = off ] && echo 0.85 || echo 0.90)"
    row "PSS of the worker in MB, HLS $name" \
      "$(awk -v k="$(pss_kib "${root[$name]}")" 'BEGIN {printf "%.1f", k * 1024 / 1e6}')" 12
  done
  # The sink, started first, stays.
  local sink_pid=${pids[0]}
  for pid in "${pids[@]:1}"; do
    kill -TERM "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  pids=("$sink_pid")
}

printf '\n%s, %s, %s\n\n' "$(nproc) cores" "$(awk -F': ' '/model name/ {print $2; exit}' /proc/cpuinfo)" \
  "$(ffmpeg -version | awk 'NR == 1 {print "FFmpeg " $3}')"
mkdir -p "$media/long" "$media/short"
noisy_clip long/long.mp4 90 2
noisy_clip short/1.mp4 5 0
noisy_clip short/2.mp4 5 2
noisy_clip short/3.mp4 4 0

step "measuring for $seconds s: HLS off, HLS on, bare loop"
measure

step "timing $starts starts"
start_controller starts "$media/short"
first_idr() { jq -s "[.[] | select(.event == \"first_idr\")] | length" "$work/sink/events.jsonl" 2>/dev/null || echo 0; }
times=()
for ((n = 1; n <= starts; n++)); do
  before=$(first_idr)
  called=$(date +%s%3N)
  start_channel "start-$n" true
  arrived() { [ "$(first_idr)" -gt "$before" ]; }
  wait_for 20 arrived || die "no IDR picture arrived"
  at=$(jq -s '[.[] | select(.event == "first_idr")] | last.at_ms' "$work/sink/events.jsonl")
  times+=($((at - called)))
  [ "$n" = "$starts" ] && sleep 30
  stop_channel
done
median=$(printf '%s\n' "${times[@]}" | sort -n | awk '{a[NR] = $1} END {print a[int((NR + 1) / 2)]}')
printf 'starts, ms: %s\n' "${times[*]}"
row "start call to first IDR at the sink, ms (median)" "$median" 1000

recording=$(find "$work/sink" -name '*.flv' -printf '%T@ %p\n' | sort -n | tail -n 1 | cut -d' ' -f2)
# The widest step between pictures in order of presentation, and between audio frames.
figures=$(ffprobe -v fatal -show_entries packet=codec_type,pts,dts -of csv=p=0 "$recording" | awk -F, '
  $1 == "audio" { if (n++) { s = $3 - last; if (s <= 0) back++; if (s > audio) audio = s } last = $3 }
  $1 == "video" { if (v++ && $3 <= dts) back++; dts = $3; print $2 > "/dev/stderr" }
  END { printf "%d %d %d\n", back, audio, v }' 2>"$work/pts")
read -r back audio_step pictures <<<"$figures"
video_step=$(sort -n "$work/pts" | awk 'NR > 1 && $1 - last > widest {widest = $1 - last} {last = $1} END {print widest}')
printf 'recording of %s pictures over boundaries every 4 to 5 s\n' "$pictures"
row "DTS that do not grow" "$back" 0
row "extra gap between pictures, ms" "$((video_step - 33))" 20
row "step between audio frames, ms" "$audio_step" 24
exit $missed
