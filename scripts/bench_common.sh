# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034  # What is not assigned here is in bench.sh.
# What the benchmarks share: clips, programs and their end, what processes cost, rows, the sink, one channel.
# Sourced by bench.sh.

work=$root_folder/target/bench
media=$work/media

# programs: sets `bin`, and `machine` to what all of it was measured on.
programs() {
  if [ -z "$bin" ]; then
    need_rust
    build release -p stream-controller -p stream-worker -p e2e --bin stream-controller --bin stream-worker --bin rtmp-sink
    bin=$root_folder/target/release
  fi
  local name
  for name in stream-controller stream-worker rtmp-sink; do [ -x "$bin/$name" ] || die "$name is missing in $bin"; done
  machine="$(nproc) cores, $(awk -F': ' '/model name/ {print $2; exit}' /proc/cpuinfo), $((memory_kib / 1048576)) GiB; \
Linux $(uname -r), FFmpeg $(ffmpeg -version | awk 'NR == 1 {print $3}'); load average at the start \
$(cut -d' ' -f1 /proc/loadavg)"
}

# -- Clips

noisy_clip() { # NAME SECONDS B_FRAMES
  [ -s "$media/$1" ] && return
  step "making $1"
  mkdir -p "$media/${1%/*}"
  ffmpeg -v error -nostdin -y -f lavfi -i "testsrc2=s=1280x720:r=30:d=$2,noise=alls=12:allf=t" \
    -f lavfi -i "sine=f=440:r=48000:d=$2" -c:v libx264 -preset ultrafast -tune fastdecode -pix_fmt yuv420p -bf "$3" \
    -b:v 3000k -minrate 3000k -maxrate 3000k -bufsize 6000k -g 60 -keyint_min 60 -sc_threshold 0 \
    -c:a aac -ac 2 -b:a 128k -movflags +faststart -f mp4 "$media/.part" && mv "$media/.part" "$media/$1"
}
long_clip() { noisy_clip long/long.mp4 90 2; }
short_clips() {
  noisy_clip short/1.mp4 5 0
  noisy_clip short/2.mp4 5 2
  noisy_clip short/3.mp4 4 0
}

# -- Processes that were started, in order, and their end

pids=()
end_from() { # FIRST: ends what was started after that many others, the newest first
  local i
  for ((i = ${#pids[@]} - 1; i >= $1; i--)); do kill -TERM "${pids[i]}" 2>/dev/null || true; done
  for ((i = ${#pids[@]} - 1; i >= $1; i--)); do wait "${pids[i]}" 2>/dev/null || true; done
  pids=("${pids[@]:0:$1}")
}
finish() {
  trap - EXIT
  end_from 1
  end_from 0
}
trap finish EXIT
trap 'exit 130' INT TERM

# -- What processes cost. All of these take process ids and give one sum.

of_tasks() { # FILE PID...: that file of every thread
  local file=$1 pid files=()
  shift
  for pid in "$@"; do files+=("/proc/$pid/task/"*"/$file"); done
  cat "${files[@]}" 2>/dev/null || true
}
children_of() { of_tasks children "$@"; }
own_ns() { of_tasks schedstat "$@" | awk '{sum += $1} END {printf "%.0f\n", sum}'; }
# Time on a processor with living children, and those that it has waited for (in ticks), ns.
cpu_ns() {
  local pid waited living
  # shellcheck disable=SC2016 # They are awk's.
  waited=$(for pid in "$@"; do printf '/proc/%s/stat\n' "$pid"; done | xargs awk '{sum += $16 + $17} END {printf "%.0f\n", sum}')
  # shellcheck disable=SC2046 # One word for each child is wanted.
  living=$(own_ns "$@" $(children_of "$@"))
  printf '%s\n' $((waited * 1000000000 / $(getconf CLK_TCK) + living))
}
wakes() { of_tasks status "$@" | awk '/^voluntary/ {sum += $2} END {printf "%.0f\n", sum}'; }
pss_kib() {
  local pid files=()
  for pid in "$@"; do files+=("/proc/$pid/smaps_rollup"); done
  { [ $# = 0 ] || cat "${files[@]}" 2>/dev/null || true; } | awk '/^Pss:/ {sum += $2} END {printf "%.0f\n", sum}'
}
calc() { awk "BEGIN {printf \"$1\", $2}"; }
megabytes() { calc %.1f "$1 * 1024 / 1e6"; }
ratio() { calc %.2f "$1 / $2"; }
sum_of() { printf '%s\n' "$@" | awk '{sum += $1} END {printf "%.3f", sum}'; }
most_of() { printf '%s\n' "$@" | sort -g | tail -n 1; }
median_of() { printf '%s\n' "$@" | sort -g | awk '{a[NR] = $1} END {print a[int((NR + 1) / 2)]}'; }

# -- The table

missed=0 lines=()
row() { # WHAT VALUE LIMIT
  local verdict=ok
  if awk -v a="$2" -v b="$3" 'BEGIN {exit !(a > b)}'; then
    verdict=MISSED
    missed=1
  fi
  printf '%-62s %10s   reach <= %-8s %s\n' "$1" "$2" "$3" "$verdict"
  lines+=("| $1 | $2 | $3 | $verdict |")
}

# -- The sink

# start_sink: sets `sink`. It is to be the first process.
start_sink() {
  rm -rf "$work/sink"
  mkdir -p "$work"
  "$bin/rtmp-sink" --listen 127.0.0.1:0 --record "$work/sink" >"$work/sink.log" 2>&1 &
  pids+=($!)
  sink_is_up() { grep -q '127.0.0.1:' "$work/sink.log"; }
  wait_for 10 sink_is_up || die "the sink did not start; see $work/sink.log"
  sink=$(grep -o '127.0.0.1:[0-9]*' "$work/sink.log" | head -n 1)
}
first_idrs() { grep -c '"first_idr"' "$work/sink/events.jsonl" 2>/dev/null || true; }

# at_the_sink COUNT: waits until so many publications have had a picture: a loop that waits at the door costs nothing.
at_the_sink() {
  enough() { [ "$(first_idrs)" -ge "$1" ]; }
  wait_for 60 enough "$1" || die "fewer than $1 publications reached the sink"
}

# boundaries NAME: the widest step between pictures in order of presentation, and between audio frames, in the newest
# recording.
boundaries() {
  local recording figures back audio_step pictures video_step
  recording=$(find "$work/sink" -name '*.flv' -printf '%T@ %p\n' | sort -n | tail -n 1 | cut -d' ' -f2)
  figures=$(ffprobe -v fatal -show_entries packet=codec_type,pts,dts -of csv=p=0 "$recording" | awk -F, '
    $1 == "audio" { if (n++) { s = $3 - last; if (s <= 0) back++; if (s > audio) audio = s } last = $3 }
    $1 == "video" { if (v++ && $3 <= dts) back++; dts = $3; print $2 > "/dev/stderr" }
    END { printf "%d %d %d\n", back, audio, v }' 2>"$work/pts")
  read -r back audio_step pictures <<<"$figures"
  # Where it was stopped, pictures that are decoded last and shown before others are missing.
  video_step=$(sort -n "$work/pts" | head -n -4 | awk 'NR > 1 && $1 - last > widest {widest = $1 - last} {last = $1} END {print widest}')
  row "$1: DTS that do not grow, in $pictures pictures" "$back" 0
  row "$1: extra gap between pictures, ms" "$((video_step - 33))" 20
  row "$1: step between audio frames, ms" "$audio_step" 24
}

# -- A controller and its one channel

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
status() { ask "$api/streams/status?channel=${1:-main}"; }
post() { # PATH BODY
  ask -X POST -H 'Content-Type: application/json' -d "$2" "$api$1" >/dev/null
}
# wanted KEY HLS: the body of a start call with the sink as the one destination.
wanted() {
  jq -nc --arg url "rtmp://$sink/live" --arg key "$1" --argjson hls "$2" \
    '{hls: {enabled: $hls}, destinations: [{id: "sink", name: "sink", platform: "custom", url: $url, stream_key: $key}]}'
}
start_channel() { post /streams/start "$(wanted "$1" "$2")"; } # KEY HLS
stop_channel() {
  post /streams/stop '{}'
  off() { [ "$(status | jq -r .phase)" = off ]; }
  wait_for 20 off || die "the channel did not stop"
}
# Both may name a channel.
live() { status "$@" | jq -e 'all(.destinations[]; .state == "live")' >/dev/null; }
protected() { status "$@" | jq -e .protected >/dev/null; }
# on_the_air CHANNEL: waits for it, and sets `worker`.
on_the_air() {
  wait_for 60 live "$1" || die "the sink does not accept what channel $1 sends"
  # Making the slate costs once what a channel costs in minutes.
  wait_for 300 protected "$1" || die "channel $1 has no slate"
  worker=$(status "$1" | jq .run.pid)
}

# put_on_air NAME HLS VARIABLE=VALUE...: a controller with one channel, whose worker is watched under that name.
put_on_air() {
  local name=$1 hls=$2
  shift 2
  start_controller "$name" "$@"
  start_channel "$name" "$hls"
  on_the_air main
  root[$name]=$worker
}

# bare_loop NAME INPUT: what every channel is compared with.
bare_loop() {
  ffmpeg -v error -nostdin -re -stream_loop -1 -i "$2" -c copy -f flv "rtmp://$sink/live/$1" >/dev/null 2>&1 &
  pids+=($!)
  root[$1]=$!
}

declare -A root=() cpu=()
# watch NAME...: sets `cpu` of each, measured in one window, so that the machine's mood weighs on all alike.
watch() {
  local name window from
  declare -A at_start=()
  sleep 5
  from=$EPOCHREALTIME
  for name in "$@"; do at_start[$name]=$(cpu_ns "${root[$name]}"); done
  sleep "$seconds"
  window=$(calc %.3f "$EPOCHREALTIME - $from")
  for name in "$@"; do
    cpu[$name]=$(calc %.3f "($(cpu_ns "${root[$name]}") - ${at_start[$name]}) / $window / 1e7")
    # shellcheck disable=SC2046 # One word for each child is wanted.
    printf '%-10s %s %% of a core; PSS %s KiB, its source %s KiB\n' "$name" "${cpu[$name]}" \
      "$(pss_kib "${root[$name]}")" "$(pss_kib $(children_of "${root[$name]}"))"
  done
}
