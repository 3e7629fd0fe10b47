#!/usr/bin/env bash
# A channel of clips of one to two seconds, with programs killed at random: does anything grow, drift or stay away?
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/soak.sh --minutes N [--seed S] [--no-kills] [--bin DIR]

Plays clips of 1 to 2 s, which is ten times as many item boundaries as a real channel has, to an RTMP sink on this
machine, and kills FFmpeg, the controller or the worker now and then. Then prints a table and exits 0 or 1:
memory per 1,000 boundaries, descriptors, threads, DTS order, picture against sound in the first and the last tenth,
and whether every kill was followed by media within 30 s. The same seed kills the same things at the same times.

  --minutes   how long, 2 or more
  --seed      a number (1)
  --no-kills  let everybody live
  --bin       folder with stream-controller, stream-worker and rtmp-sink (target/release, built when missing)

Leaves samples.csv and the recordings in target/soak.
TEXT
}

# shellcheck source=scripts/needs.sh
. "$(dirname "$0")/needs.sh"

minutes=0
seed=1
no_kills=''
bin=''
options --minutes=number --seed=number --no-kills --bin=path -- "$@"
[ "$minutes" -ge 2 ] || refuse "--minutes must be 2 or more"
cd "$root_folder"
need_packages curl jq procps
need_ffmpeg
if [ -z "$bin" ]; then
  need_rust
  build release -p stream-controller -p stream-worker -p e2e --bin stream-controller --bin stream-worker --bin rtmp-sink
  bin=$root_folder/target/release
fi

work=$root_folder/target/soak
media=$work/media
samples=$work/samples.csv
rm -rf "$work"
mkdir -p "$media" "$work/state" "$work/recording"
RANDOM=$seed

# --- clips: black and silent but for a flash and a beep at the same moment, 0.4 s after the beginning ------------

clip() {
  ffmpeg -v error -nostdin -f lavfi -i "color=black:s=320x180:r=25:d=$2" \
    -f lavfi -i "aevalsrc=0.5*sin(2*PI*1000*t)*between(t\\,0.4\\,0.5):s=48000:d=$2" \
    -vf "drawbox=c=white:t=fill:enable='between(t,0.399,0.499)'" -c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 25 \
    -bf "$3" -b:v 300k -c:a aac -ac 2 -b:a 96k "$media/$1"
}
step "clips"
for n in 01 02 03 04 05 06 07 08 09 10; do
  # Every third one is read by FFmpeg, the others by the worker itself.
  ending=mp4
  [ $((10#$n % 3)) != 0 ] || ending=mkv
  clip "$n.$ending" "1.$((RANDOM % 100 + 10))" $((10#$n % 2 * 2))
done

# --- programs ----------------------------------------------------------------------------------------------------

sink=''
controller=''
finish() {
  trap - EXIT INT TERM
  local pid
  for pid in $controller $sink; do
    kill -TERM "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
}
trap finish EXIT
trap 'exit 130' INT TERM

sink_port=$(free_port 11955)
port=$(free_port 18080)
api=http://127.0.0.1:$port
"$bin/rtmp-sink" --listen "127.0.0.1:$sink_port" --record "$work/recording" >"$work/sink.log" 2>&1 &
sink=$!

start_controller() {
  env -u YOUTUBE_STREAM_KEY -u MASTER_KEY STATE_DIR="$work/state" STORAGE_PROVIDER=local STORAGE_LOCAL_DIR="$media" \
    CONTROLLER_BIND="127.0.0.1:$port" LOG_FORMAT=text "$bin/stream-controller" >>"$work/controller.log" 2>&1 &
  controller=$!
  wait_for 20 curl -fs -o /dev/null "$api/health" || die "the controller did not start; see $work/controller.log"
}
ask() { curl -sS --max-time 5 --fail-with-body -H "@$work/state/auth.header" "$@"; }
status() { ask "$api/streams/status" 2>/dev/null || echo '{}'; }
bytes() { find "$work/recording" -name '*.flv' -printf '%s\n' | awk '{ all += $1 } END { print all + 0 }'; }

step "on the air"
start_controller
jq -n --arg url "rtmp://127.0.0.1:$sink_port/live" \
  '{destinations: [{id: "sink", name: "Sink", platform: "custom", url: $url, stream_key: "soak-key"}]}' |
  ask -X POST -H 'Content-Type: application/json' --data-binary @- -o /dev/null "$api/streams/start"
arriving() { [ "$(bytes)" -gt "${before:-0}" ]; }
wait_for 40 arriving || die "nothing arrived at the sink; see $work/controller.log and $work/state/logs/main.log"

# --- samples and kills -------------------------------------------------------------------------------------------

# files PID: how many descriptors it has open.
files() { find "/proc/$1/fd" -mindepth 1 2>/dev/null | wc -l; }
field() { awk -v name="$2:" '$1 == name { print $2 }' "/proc/$1/status" 2>/dev/null; }

echo 's,run,boundaries,worker_rss_kib,worker_files,worker_threads,controller_rss_kib,controller_files' >"$samples"
sample() {
  local now run pid boundaries rss
  now=$(status)
  read -r run pid boundaries < <(jq -r '"\(.run.id // "-") \(.run.pid // 0) \(.counts.boundaries // 0)"' <<<"$now")
  rss=$(field "$pid" VmRSS)
  [ -n "$rss" ] || return 0
  echo "$((SECONDS - began)),$run,$boundaries,$rss,$(files "$pid"),$(field "$pid" Threads),$(field "$controller" VmRSS),$(files "$controller")" >>"$samples"
}

killed_ffmpeg=0
killed_controller=0
killed_worker=0
away=0
slowest=0
kill_child() { pkill -KILL -o -P "$worker" -x ffmpeg; }
# Draws what to kill from the seed, kills it and waits until media arrive again.
kill_something() {
  local worker since
  worker=$(status | jq -r '.run.pid // empty')
  [ -n "$worker" ] || return 0
  case $((RANDOM % 10)) in
    [0-5])
      # An item of a second is read in no time: there is not always one.
      wait_for 10 kill_child || return 0
      killed_ffmpeg=$((killed_ffmpeg + 1))
      ;;
    [6-8])
      kill -KILL "$controller"
      wait "$controller" 2>/dev/null || true
      killed_controller=$((killed_controller + 1))
      start_controller
      ;;
    9)
      kill -KILL "$worker" 2>/dev/null || return 0
      killed_worker=$((killed_worker + 1))
      ;;
  esac
  since=$SECONDS
  sleep 0.5
  before=$(bytes)
  wait_for 30 arriving || away=$((away + 1))
  [ $((SECONDS - since)) -le "$slowest" ] || slowest=$((SECONDS - since))
}

step "$minutes minutes, seed $seed"
began=$SECONDS
next_kill=$((20 + RANDOM % 30))
while [ $((SECONDS - began)) -lt $((minutes * 60)) ]; do
  sample
  if [ -z "$no_kills" ] && [ $((SECONDS - began)) -ge "$next_kill" ]; then
    kill_something
    next_kill=$((SECONDS - began + 20 + RANDOM % 40))
  fi
  [ ! -t 2 ] || printf '\r%4d of %d s ' $((SECONDS - began)) $((minutes * 60)) >&2
  sleep 1
done
[ ! -t 2 ] || say ''
ask -X POST -o /dev/null "$api/streams/stop"
off() { [ "$(status | jq -r .phase)" = off ]; }
wait_for 30 off || say "the channel did not stop"
finish

# --- judgement ---------------------------------------------------------------------------------------------------

# Of the longest run, without its first fifth: boundaries, KiB per 1,000 boundaries (least squares), and how far the
# medians of descriptors and threads moved from the first to the last third.
read -r span growth files_up threads_up < <(awk -F, '
  NR > 1 { n[$2]++; b[$2, n[$2]] = $3; rss[$2, n[$2]] = $4; fd[$2, n[$2]] = $5; th[$2, n[$2]] = $6; if (n[$2] > n[best]) best = $2 }
  function median(of, from, to, i, j, k, list, held) {
    k = 0
    for (i = from; i <= to; i++) list[++k] = of[best, i]
    for (i = 2; i <= k; i++) { held = list[i]; for (j = i - 1; j > 0 && list[j] > held; j--) list[j + 1] = list[j]; list[j + 1] = held }
    return list[int((k + 1) / 2)]
  }
  END {
    last = n[best]; first = int(last / 5) + 1; third = int((last - first) / 3)
    for (i = first; i <= last; i++) { m++; sx += b[best, i]; sy += rss[best, i]; sxx += b[best, i] ^ 2; sxy += b[best, i] * rss[best, i] }
    d = m * sxx - sx * sx
    slope = (d > 0) ? (m * sxy - sx * sy) / d * 1000 : 0
    printf "%d %d %d %d\n", b[best, last] - b[best, first], slope,
      median(fd, last - third, last) - median(fd, first, first + third), median(th, last - third, last) - median(th, first, first + third)
  }' "$samples")

back=0
longest=''
longest_s=0
publishes=0
while IFS= read -r recording; do
  publishes=$((publishes + 1))
  read -r bad length < <(ffprobe -v fatal -show_entries packet=codec_type,dts -of csv=p=0 "$recording" | awk -F, '
    $1 == "video" || $1 == "audio" { if (($1 in last) && $2 <= last[$1]) back++; if (!($1 in last) && !n++) first = $2; last[$1] = $2; end = $2 }
    END { print back + 0, int((end - first) / 1000) }')
  back=$((back + bad))
  if [ "$length" -gt "$longest_s" ]; then
    longest_s=$length
    longest=$recording
  fi
done < <(find "$work/recording" -name '*.flv' | sort)
[ -n "$longest" ] || die "the sink recorded nothing"

# offset FROM SECONDS: the median of beep minus flash in ms, and how many there were.
offset() {
  ffmpeg -hide_banner -nostdin -ss "$1" -t "$2" -i "$longest" -vf 'blackdetect=d=0.2:pix_th=0.2' -af 'silencedetect=n=-35dB:d=0.2' -f null - 2>&1 |
    sed -n 's/.*black_end:\([0-9.]*\).*/flash \1/p; s/.*silence_end: \([0-9.]*\).*/beep \1/p' | awk '
      $1 == "flash" { flash[++f] = $2 }
      $1 == "beep" { beep[++b] = $2 }
      END {
        for (i = 1; i <= f; i++) for (j = 1; j <= b; j++) { d = (beep[j] - flash[i]) * 1000; if (d > -300 && d < 300) list[++k] = d }
        for (i = 2; i <= k; i++) { held = list[i]; for (j = i - 1; j > 0 && list[j] > held; j--) list[j + 1] = list[j]; list[j + 1] = held }
        printf "%d %d\n", (k ? list[int((k + 1) / 2)] : 9999), k
      }'
}
tenth=$((longest_s / 10 > 5 ? longest_s / 10 : 5))
read -r offset_first pairs_first < <(offset 1 "$tenth")
read -r offset_last pairs_last < <(offset $((longest_s - tenth - 1)) "$tenth")
drift=$((offset_last - offset_first))

failures=0
# row NAME VALUE LIMIT: prints it; fails when the value is above the limit.
row() {
  local verdict=ok
  if [ -n "$3" ] && [ "$2" -gt "$3" ]; then
    verdict=FAILED
    failures=$((failures + 1))
  fi
  printf '%-46s %10s %10s  %s\n' "$1" "$2" "${3:--}" "$verdict"
}
printf '\n%-46s %10s %10s\n' "seed $seed, $minutes minutes" value limit
row "killed: FFmpeg" "$killed_ffmpeg" ''
row "killed: controller" "$killed_controller" ''
row "killed: worker" "$killed_worker" ''
row "boundaries judged (longest run)" "$span" ''
# Fewer boundaries say nothing about a leak: a page more or less would count a hundredfold.
if [ "$span" -ge 200 ]; then limit=2048; else limit=''; fi
row "worker: KiB per 1,000 boundaries" "$growth" "$limit"
row "worker: descriptors, last third against first" "$files_up" 4
row "worker: threads, last third against first" "$threads_up" 2
row "DTS that do not grow" "$back" 0
row "publishes" "$publishes" $((1 + killed_worker))
row "flashes found in the first tenth" "$pairs_first" ''
row "flashes found in the last tenth" "$pairs_last" ''
row "sound after picture, first tenth, ms" "$offset_first" ''
row "sound after picture, last tenth, ms" "$offset_last" ''
row "difference, ms" "${drift#-}" 40
row "kills after which nothing came back" "$away" 0
row "slowest return, s" "$slowest" 30
if [ "$pairs_first" -lt 2 ] || [ "$pairs_last" -lt 2 ]; then die "too few flashes were found to compare picture and sound"; fi
[ "$failures" = 0 ] || die "$failures figures are beyond their limit"
say "all figures are within their limits"
