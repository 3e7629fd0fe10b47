#!/usr/bin/env bash
# From nothing to on the air: installs, builds, makes sample clips, starts the controller and a channel.
set -euo pipefail
# shellcheck source=scripts/needs.sh
. "$(dirname "$0")/needs.sh"
cd "$root_folder"

usage() {
  cat <<'TEXT'
usage: scripts/demo.sh [--check SECONDS]

Puts three sample clips on the air and says how to talk to the controller. Ctrl-C ends everything.
The destination is YouTube when YOUTUBE_STREAM_KEY is set, else an RTMP sink on this machine that records.

  --check SECONDS   always use the sink, run that long (at least 20), verify the recording, exit 0 or 1

DEMO_PROFILE=debug takes the programs of a debug build; they are slower and sooner built.
TEXT
}

check=''
options --check=number -- "$@"
[ -z "$check" ] || [ "$check" -ge 20 ] || refuse "--check needs 20 seconds or more"
profile=${DEMO_PROFILE:-release}
case $profile in
  debug | release) ;;
  *) refuse "DEMO_PROFILE is debug or release" ;;
esac
[ -n "$check" ] && unset YOUTUBE_STREAM_KEY

need_packages ca-certificates curl jq fonts-dejavu-core
need_ffmpeg
need_rust
step "building (the first time takes some minutes)"
what=(-p stream-controller -p stream-worker -p e2e --bin stream-controller --bin stream-worker --bin rtmp-sink)
# A part of the workspace would be built anew, with the features that it needs and no others.
[ "$profile" = release ] || what=(--workspace)
build "$profile" "${what[@]}"

demo=$root_folder/target/demo
bin=$root_folder/target/$profile
media=$demo/media
mkdir -p "$media"
rm -rf "$demo/state" "$demo/recording"
mkdir -p "$demo/state" "$demo/recording"

# clip NAME SECONDS COLOUR TONE B_FRAMES AUDIO_SECONDS
clip() {
  [ -s "$media/$1.mp4" ] && return
  say "making $1.mp4"
  ffmpeg -v error -nostdin -y -f lavfi -i "testsrc2=s=1280x720:r=30:d=$2" \
    -f lavfi -i "sine=frequency=$4:sample_rate=48000:duration=$6" -filter_complex \
    "[0:v]hue=H=$3,drawtext=text='$1  %{pts\\:hms}':x=60:y=h-120:fontsize=56:fontcolor=white:box=1:boxcolor=black@0.5:boxborderw=16[v]" \
    -map '[v]' -map 1:a -c:v libx264 -preset veryfast -profile:v high -pix_fmt yuv420p -b:v 3000k -maxrate 3000k \
    -bufsize 6000k -g 60 -keyint_min 60 -sc_threshold 0 -bf "$5" -c:a aac -ac 2 -b:a 128k -movflags +faststart \
    -f mp4 "$media/.$1.part" && mv "$media/.$1.part" "$media/$1.mp4"
}
step "sample clips"
clip "1 with B-frames" 8 0 440 2 8
clip "2 without B-frames" 7 2 550 0 7
clip "3 audio ends early" 6 4 660 2 5.6

sink_pid=''
controller_pid=''
finish() {
  trap - EXIT INT TERM
  for pid in $controller_pid $sink_pid; do
    kill -TERM "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
}
trap finish EXIT
trap 'say ""; say "ending"; exit 130' INT TERM

body='{}'
if [ -z "${YOUTUBE_STREAM_KEY:-}" ]; then
  sink_port=$(free_port 11935)
  "$bin/rtmp-sink" --listen "127.0.0.1:$sink_port" --record "$demo/recording" >"$demo/sink.log" 2>&1 &
  sink_pid=$!
  body=$(jq -n --arg url "rtmp://127.0.0.1:$sink_port/live" \
    '{destinations: [{id: "sink", name: "Sink on this machine", platform: "custom", url: $url, stream_key: "demo-key"}]}')
fi

port=$(free_port 8080)
step "starting the controller"
# Settings of another installation that this shell may have exported are not the demo's.
others=(HLS_DIR STORAGE_PROVIDER STORAGE_PREFIX WORKER_PATH MASTER_KEY CREDENTIALS_DIRECTORY ALERT_WEBHOOKS DEADMAN_URL)
env "${others[@]/#/--unset=}" STATE_DIR="$demo/state" STORAGE_LOCAL_DIR="$media" CONTROLLER_BIND="127.0.0.1:$port" LOG_FORMAT=text \
  "$bin/stream-controller" >"$demo/controller.log" 2>&1 &
controller_pid=$!
api=http://127.0.0.1:$port
healthy() { curl -fs -o /dev/null "$api/health"; }
gone() { ! kill -0 "$1" 2>/dev/null; }
wait_for 20 healthy || {
  tail -n 20 "$demo/controller.log" >&2
  die "the controller did not start"
}
ask() { curl -sS --fail-with-body -H "@$demo/state/auth.header" "$@"; }
status() { ask "$api/streams/status"; }

step "starting channel main"
ask -X POST -H 'Content-Type: application/json' --data-binary @- "$api/streams/start" <<<"$body" >/dev/null ||
  die "the channel could not be started"
accepted() { [ "$(status | jq -r '[.destinations[].accepted_bytes > 100000] | any')" = true ]; }
wait_for 40 accepted || {
  status | jq . >&2
  die "no destination accepts media; see $demo/controller.log and $demo/state/logs/main.log"
}

hls=$(status | jq -r .hls.url)
status | jq -r '"on the air: \(.item.key // "-")  (picture: \(.item.video // "-"), sound: \(.item.audio // "-"); \(.item.reason // "-"))",
  (.destinations[] | "destination \(.id): \(.state), \(.accepted_bytes) bytes accepted, \(.bitrate_kbps) kbit/s")' >&2

if [ -z "$check" ]; then
  cat >&2 <<TEXT

watch      $api$hls   (VLC, mpv, Safari, any HLS player)
status     curl -s -H '@$demo/state/auth.header' $api/streams/status | jq
stop       curl -s -H '@$demo/state/auth.header' -X POST $api/streams/stop | jq
start      curl -s -H '@$demo/state/auth.header' -X POST $api/streams/start | jq
your files put them into $media; they are played from the next round on
logs       $demo/controller.log and $demo/state/logs/main.log

Ctrl-C ends everything.
TEXT
  wait "$controller_pid"
  exit
fi

for ((left = check; left > 0; left--)); do
  printf '\rrunning, %3d s left ' "$left" >&2
  sleep 1
done
say ""
boundaries=$(status | jq .counts.boundaries)
ask -X POST "$api/streams/stop" >/dev/null
off() { [ "$(status | jq -r .phase)" = off ]; }
wait_for 20 off || die "the channel did not stop"
finish

publishes=$(jq -s '[.[] | select(.event == "publish")] | length' "$demo/recording/events.jsonl")
recording=$(find "$demo/recording" -name '*.flv' | sort | head -n 1)
[ -n "$recording" ] || die "the sink recorded nothing"
# One line per packet: track, DTS; and empty ones where a packet brings new parameters.
figures=$(ffprobe -v fatal -show_entries packet=codec_type,dts -of csv=p=0 "$recording" | awk -F, '
  $1 == "video" || $1 == "audio" { if ($1 in last) { step = $2 - last[$1]; if (step <= 0) back++; if (step > widest[$1]) widest[$1] = step } else first[$1] = $2
    last[$1] = $2; count[$1]++ }
  END { printf "%d %d %d %d %d %d\n", back, count["video"], count["audio"], widest["video"], widest["audio"],
    last["video"] - first["video"] }')
read -r back video audio widest_video widest_audio length_ms <<<"$figures"
cat <<TEXT
recording        $recording
publishes        $publishes
item boundaries  $boundaries
length           $length_ms ms
video            $video pictures, widest step $widest_video ms
audio            $audio frames, widest step $widest_audio ms
DTS not growing  $back
TEXT
[ "$publishes" = 1 ] || die "failed: $publishes publishes instead of one"
[ "$boundaries" -ge 2 ] || die "failed: only $boundaries item boundaries"
[ "$back" = 0 ] || die "failed: DTS did not grow $back times"
[ $((video * audio)) -gt 0 ] || die "failed: a track is missing"
[ "$length_ms" -ge $(((check - 5) * 1000)) ] || die "failed: only $length_ms ms were recorded"
say "the recording is good"
