#!/usr/bin/env bash
# Measures what a channel costs, as ratios against a named baseline in the same run.
set -euo pipefail
# shellcheck source=scripts/needs.sh
. "$(dirname "$0")/needs.sh"
cd "$root_folder"

usage() {
  cat >&2 <<'TEXT'
usage: scripts/bench.sh channel [--seconds N] [--starts N]
       scripts/bench.sh storage [--seconds N]
       scripts/bench.sh destinations [--seconds N]
       scripts/bench.sh channels [--seconds N] [--channels N]
       scripts/bench.sh recovery [--kills N]
       scripts/bench.sh capacity --help

channel   one 720p 3 Mbit/s file to one destination, HLS off and on: CPU and memory of worker and source beside
          the bare loop `ffmpeg -re -stream_loop -1 -c copy` with the same file at the same time; then the time
          from the start call to the first IDR picture at the sink, and the boundaries in its recording
storage   the same out of a bucket (s3s-fs on this machine): CPU of worker and source without the cache beside the bare
          loop over HTTP with the same link at the same time, for whole loops of a file of 90 s, and, for the record, of
          one of 5 s; then the bytes that an nginx in front of the server counts for each loop of three files, with the
          cache and without
destinations
          one channel with four destinations beside four bare loops: CPU of worker and source
channels  20 channels at once, one destination each, beside as many bare loops: CPU, and memory of each
recovery  how long the sink is without a picture when controller, worker or FFmpeg are killed, the worker is frozen, or
          the controller is reloaded

  --seconds N   length of each measured window (default 60, at least 10)
  --starts N    starts that are timed (default 10)
  --channels N  channels at once (default 20)
  --kills N     kills of each kind (default 5)

Prints a table with what is to be reached and exits 1 where that is missed.
TEXT
}

if [ "${1:-}" = capacity ]; then
  shift
  exec "$root_folder/scripts/bench_capacity.sh" "$@"
fi
what='' seconds=60 starts=10 channels=20 kills=5
while [ $# -gt 0 ]; do
  case $1 in
    channel | storage | destinations | channels | recovery) what=$1 ;;
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
    --channels)
      channels=${2:-}
      [[ $channels =~ ^[1-9][0-9]?$ ]] || die "--channels needs a number from 1 to 99"
      shift
      ;;
    --kills)
      kills=${2:-}
      [[ $kills =~ ^[1-9][0-9]?$ ]] || die "--kills needs a number from 1 to 99"
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
if [ "$what" = storage ]; then
  need_packages nginx
  [ "$memory_kib" -ge "$small_machine_kib" ] || die "this machine has too little memory to build the support for buckets"
  s3_server=$("$root_folder/scripts/need_s3s.sh")
fi
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
sum_of() { printf '%s\n' "$@" | awk '{sum += $1} END {printf "%.3f", sum}'; }
median_of() { printf '%s\n' "$@" | sort -n | awk '{a[NR] = $1} END {print a[int((NR + 1) / 2)]}'; }
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

# What is put into a state folder before its controller is started; benchmarks say it where they need to.
prepare_state() { :; }
# start_controller NAME VARIABLE=VALUE...: sets `controller`, and `api` and `auth` for `ask`.
start_controller() {
  local name=$1 port state=$work/state-$1
  shift
  port=$(free_port 18080)
  rm -rf "$state"
  mkdir -p "$state"
  prepare_state
  environment=(STATE_DIR="$state" CONTROLLER_BIND="127.0.0.1:$port" LOG_LEVEL=warn "$@")
  controller_log=$work/controller-$name.log
  rm -f "$controller_log"
  api=http://127.0.0.1:$port auth=$state/auth.header
  start_again
}
# The controller of the last start_controller, after it was killed.
start_again() {
  env "${environment[@]}" "$bin/stream-controller" >>"$controller_log" 2>&1 &
  controller=$!
  pids+=("$controller")
  healthy() { curl -fs -o /dev/null "$api/health"; }
  wait_for 20 healthy || die "the controller did not start; see $controller_log"
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
protected() { [ "$(ask "$api/streams/status" | jq .protected)" = true ]; }
live() { [ "$(ask "$api/streams/status" | jq -r '.destinations[0].state')" = live ]; }

# put_on_air NAME HLS VARIABLE=VALUE...: a controller with one channel; prints nothing, sets `worker`.
put_on_air() {
  local name=$1 hls=$2
  shift 2
  start_controller "$name" "$@"
  start_channel "$name" "$hls"
  wait_for 30 live || die "the sink accepts nothing"
  # Making the slate costs once what a channel costs in minutes.
  wait_for 60 protected || die "the channel has no slate"
  worker=$(ask "$api/streams/status" | jq .run.pid)
}

# bare_loop NAME INPUT: what every channel is compared with.
bare_loop() {
  ffmpeg -v error -nostdin -re -stream_loop -1 -i "$2" -c copy -f flv "rtmp://$sink/live/$1" >/dev/null 2>&1 &
  pids+=($!)
  root[$1]=$!
}

# at_the_sink COUNT: waits until so many publications have had a picture: a loop that waits at the door costs nothing.
at_the_sink() {
  enough() { [ "$(grep -c '"first_idr"' "$work/sink/events.jsonl")" -ge "$1" ]; }
  wait_for 60 enough "$1" || die "fewer than $1 publications reached the sink"
}

declare -A root=() cpu=()
# watch NAME...: sets `cpu` of each, measured in one window, so that the machine's mood weighs on all alike.
watch() {
  local name pid of_source window from
  declare -A at_start=()
  sleep 5
  from=$EPOCHREALTIME
  for name in "$@"; do at_start[$name]=$(cpu_ns "${root[$name]}"); done
  sleep "$seconds"
  window=$(awk -v a="$from" -v b="$EPOCHREALTIME" 'BEGIN {print b - a}')
  for name in "$@"; do
    cpu[$name]=$(percent $(($(cpu_ns "${root[$name]}") - at_start[$name])) "$window")
    of_source=0
    for pid in $(children_of "${root[$name]}"); do of_source=$((of_source + $(pss_kib "$pid"))); done
    printf '%-10s %s %% of a core; PSS %s KiB, its source %s KiB\n' "$name" "${cpu[$name]}" \
      "$(pss_kib "${root[$name]}")" "$of_source"
  done
}

end_the_sink() {
  kill -TERM "${pids[0]}" 2>/dev/null || true
  wait "${pids[0]}" 2>/dev/null || true
}

# Ends everything but the sink, which was started first.
end_all_but_the_sink() {
  local pid sink_pid=${pids[0]}
  for pid in "${pids[@]:1}"; do
    kill -TERM "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  pids=("$sink_pid")
}

measure() {
  local name
  put_on_air off false STORAGE_LOCAL_DIR="$media/long"
  root[off]=$worker
  put_on_air on true STORAGE_LOCAL_DIR="$media/long"
  root[on]=$worker
  bare_loop bare "$media/long/long.mp4"
  at_the_sink 3
  watch off on bare
  for name in off on; do
    row "CPU of worker + source beside the bare loop, HLS $name" "$(ratio "${cpu[$name]}" "${cpu[bare]}")" \
      "$([ $name = off ] && echo 0.85 || echo 0.90)"
    row "PSS of the worker in MB, HLS $name" \
      "$(awk -v k="$(pss_kib "${root[$name]}")" 'BEGIN {printf "%.1f", k * 1024 / 1e6}')" 12
  done
  end_all_but_the_sink
}

# start_s3 NAME FILE...: a server whose bucket holds these files; sets `bucket` for put_on_air.
start_s3() {
  local name=$1 port objects=$work/objects-$1 id=id-of-the-bench secret=secret-of-the-bench
  shift
  port=$(free_port 19400)
  rm -rf "$objects"
  mkdir -p "$objects/media"
  ln "$@" "$objects/media"
  "$s3_server" --host 127.0.0.1 --port "$port" --access-key "$id" --secret-key "$secret" "$objects" \
    >"$work/s3-$name.log" 2>&1 &
  pids+=($!)
  answers() { curl -s -o /dev/null "http://127.0.0.1:$port"; }
  wait_for 10 answers || die "the S3 server did not start; see $work/s3-$name.log"
  bucket=(STORAGE_PROVIDER=s3 STORAGE_BUCKET=media STORAGE_ENDPOINT="http://127.0.0.1:$port"
    STORAGE_ACCESS_KEY_ID="$id" STORAGE_SECRET_ACCESS_KEY="$secret")
}

# count_in_front NAME: an nginx in front of the server of start_s3, which counts what it sends. The server cannot be
# asked: it reads a file for its ETag, too.
count_in_front() {
  local port place=$work/front-$1
  port=$(free_port 19600)
  rm -rf "$place"
  mkdir -p "$place"
  cat >"$place/nginx.conf" <<CONF
daemon off;
pid $place/pid;
error_log $place/error.log;
events {}
http {
  log_format sent '\$request_method \$body_bytes_sent \$uri';
  access_log $place/access.log sent;
  client_body_temp_path $place/body;
  proxy_temp_path $place/proxy;
  fastcgi_temp_path $place/fastcgi;
  uwsgi_temp_path $place/uwsgi;
  scgi_temp_path $place/scgi;
  server {
    listen 127.0.0.1:$port;
    location / {
      proxy_pass ${bucket[2]#*=};
      proxy_set_header Host \$http_host;
      proxy_http_version 1.1;
      proxy_buffering off;
    }
  }
}
CONF
  "$(PATH=$PATH:/usr/sbin command -v nginx)" -p "$place" -c "$place/nginx.conf" >"$place/log" 2>&1 &
  pids+=($!)
  in_front() { curl -s -o /dev/null "http://127.0.0.1:$port"; }
  wait_for 10 in_front || die "nginx did not start; see $place/error.log"
  bucket[2]=STORAGE_ENDPOINT=http://127.0.0.1:$port
}
sent_by() { awk '$1 == "GET" && $3 ~ /[.]mp4$/ {sum += $2} END {printf "%d", sum}' "$work/front-$1/access.log"; }

# link_of PID: sets `link` to the signed address that a worker's source is led to.
link_of() {
  local pid lease
  for pid in $(children_of "$1"); do
    lease=$(tr '\0' '\n' <"/proc/$pid/cmdline" 2>/dev/null | grep -m 1 '^http://127.0.0.1:') || continue
    link=$(curl -s -o /dev/null -w '%{redirect_url}' "$lease")
    [[ $link == *X-Amz-Signature=* ]] && return
  done
  return 1
}

measure_http() {
  local name
  for name in long short; do
    start_s3 "$name" "$media/$name/$([ $name = long ] && echo long || echo 1).mp4"
    put_on_air "$name" false "${bucket[@]}" CACHE_BYTES=0
    root[$name]=$worker
    wait_for 20 link_of "$worker" || die "no source reads a link"
    bare_loop "bare-$name" "$link"
    put_on_air "$name-kept" false "${bucket[@]}" CACHE_BYTES=1GB
    root[$name-kept]=$worker
  done
  # A boundary of the long file is in it, too.
  seconds=$(((seconds + 89) / 90 * 90))
  watch long long-kept bare-long short short-kept bare-short
  row "CPU of worker + source beside the bare loop, 90 s file" "$(ratio "${cpu[long]}" "${cpu[bare-long]}")" 0.90
  row "the same out of the cache" "$(ratio "${cpu[long-kept]}" "${cpu[bare-long]}")" 0.90
  printf 'with a file of 5 s, where each round starts FFmpeg: %s over HTTP, %s out of the cache\n' \
    "$(ratio "${cpu[short]}" "${cpu[bare-short]}")" "$(ratio "${cpu[short-kept]}" "${cpu[bare-short]}")"
  end_all_but_the_sink
}

cache_of() { api=${api_of[$1]} auth=${auth_of[$1]} ask "${api_of[$1]}/api/media/cache" | jq "$2"; }
measure_bytes() {
  local name loop loops=$(((seconds + 13) / 14))
  declare -A at_start=() fetched=() api_of=() auth_of=()
  loop=$(cat "$media"/short/[123].mp4 | wc -c)
  for name in kept through; do
    start_s3 "$name" "$media"/short/[123].mp4
    count_in_front "$name"
    put_on_air "$name" false "${bucket[@]}" CACHE_BYTES="$([ $name = kept ] && echo 1GB || echo 0)"
    api_of[$name]=$api auth_of[$name]=$auth
  done
  all_kept() { [ "$(cache_of kept .files)" = 3 ]; }
  wait_for 60 all_kept || die "the files were not fetched"
  row "fetched until all is kept, part of the loop" "$(ratio "$(cache_of kept .fetched_bytes)" "$loop")" 1.00
  # What was opened before the copies were there is over by then.
  sleep 14
  for name in kept through; do
    at_start[$name]=$(sent_by "$name")
    fetched[$name]=$(cache_of "$name" .fetched_bytes)
  done
  sleep $((loops * 14))
  for name in kept through; do
    at_start[$name]=$((($(sent_by "$name") - at_start[$name]) / loops))
    printf '%-10s %s bytes per loop of %s sent by the server; hits %s, misses %s\n' "$name" "${at_start[$name]}" \
      "$loop" "$(cache_of "$name" .hits)" "$(cache_of "$name" .misses)"
  done
  row "bytes per loop with the cache, part of the loop" "$(ratio "${at_start[kept]}" "$loop")" 0.01
  row "bytes that the cache fetched meanwhile" "$(($(cache_of kept .fetched_bytes) - fetched[kept]))" 0
  row "bytes per loop without the cache, part of the loop" "$(ratio "${at_start[through]}" "$loop")" 1.10
}

printf '\n%s, %s, %s\n\n' "$(nproc) cores" "$(awk -F': ' '/model name/ {print $2; exit}' /proc/cpuinfo)" \
  "$(ffmpeg -version | awk 'NR == 1 {print "FFmpeg " $3}')"
mkdir -p "$media/long" "$media/short"
noisy_clip long/long.mp4 90 2
noisy_clip short/1.mp4 5 0
noisy_clip short/2.mp4 5 2
noisy_clip short/3.mp4 4 0

if [ "$what" = storage ]; then
  step "measuring for $seconds s: a long and a short file, over HTTP and out of the cache"
  measure_http
  step "counting bytes over about $seconds s"
  measure_bytes
  exit $missed
fi

case $what in
  destinations)
    # shellcheck source=scripts/bench_destinations.sh
    . scripts/bench_destinations.sh
    step "measuring for $seconds s: one channel with four destinations, four bare loops"
    measure_destinations
    exit $missed
    ;;
  channels)
    # shellcheck source=scripts/bench_channels.sh
    . scripts/bench_channels.sh
    step "measuring for $seconds s: $channels channels, $channels bare loops"
    measure_channels
    exit $missed
    ;;
  recovery)
    # What MP4 is, the worker reads by itself; this one needs FFmpeg.
    mkdir -p "$media/other"
    [ -s "$media/other/long.mkv" ] ||
      ffmpeg -v error -nostdin -y -i "$media/long/long.mp4" -c copy "$media/other/long.mkv"
    # shellcheck source=scripts/bench_recovery.sh
    . scripts/bench_recovery.sh
    step "killing $kills times each: controller, source, worker; reloading; freezing the worker"
    measure_recovery
    exit $missed
    ;;
esac

step "measuring for $seconds s: HLS off, HLS on, bare loop"
measure

step "timing $starts starts"
start_controller starts STORAGE_LOCAL_DIR="$media/short"
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
median=$(median_of "${times[@]}")
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
