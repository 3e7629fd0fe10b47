#!/usr/bin/env bash
# Measures what a channel costs, as ratios against a named baseline in the same run, and how fast it is back.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/bench.sh channel [--seconds N] [--starts N] [--bin DIR]
       scripts/bench.sh storage [--seconds N] [--bin DIR]
       scripts/bench.sh destinations [--seconds N] [--bin DIR]
       scripts/bench.sh channels [--seconds N] [--channels N] [--bin DIR]
       scripts/bench.sh recovery [--kills N] [--bin DIR]
       scripts/bench.sh capacity [--seconds N] [--channels N] [--no-page] [--bin DIR]

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
          the controller is reloaded; and how much is seen twice or lost where the worker was killed
capacity  1, 20 and 100 channels of one controller, one worker each, to nginx-rtmp, beside as many bare loops as fit:
          CPU, memory, wake-ups, lateness; and the boundaries of one channel more, whose items are short

  --seconds N   length of each measured window (60, at least 5)
  --starts N    starts that are timed, after a first one (10)
  --channels N  channels at once (20, at most 99), or the most of `capacity` (100, at most 500)
  --kills N     kills of each kind (5)
  --no-page     leave docs/CAPACITY.md as it is, which `capacity` writes
  --bin DIR     folder with stream-controller, stream-worker and rtmp-sink (target/release, built anew)

Prints a table with what is to be reached and exits 1 where that is missed.
TEXT
}

# shellcheck source=scripts/needs.sh
. "$(dirname "$0")/needs.sh"
cd "$root_folder"

# shellcheck disable=SC2034 # They are for what is sourced.
what=${1:-} seconds=60 starts=10 kills=5 channels=20 no_page='' bin=''
case $what in
  channel) takes=(--seconds=number --starts=number) ;;
  storage | destinations) takes=(--seconds=number) ;;
  channels) takes=(--seconds=number --channels=number) ;;
  recovery) takes=(--kills=number) ;;
  capacity) takes=(--seconds=number --channels=number --no-page) channels=100 ;;
  -h | --help)
    usage
    exit 0
    ;;
  '')
    usage >&2
    exit 2
    ;;
  *) refuse "unknown benchmark $what" ;;
esac
shift
options "${takes[@]}" --bin=path -- "$@"
within() { # OPTION VALUE LEAST MOST
  if [ "$2" -lt "$3" ] || [ "$2" -gt "$4" ]; then refuse "$1 needs a number from $3 to $4"; fi
}
within --seconds "$seconds" 5 86400
within --starts "$starts" 1 1000
within --kills "$kills" 1 99
within --channels "$channels" 1 "$([ "$what" = capacity ] && echo 500 || echo 99)"

# shellcheck source=scripts/bench_common.sh
. scripts/bench_common.sh
# shellcheck source=/dev/null
. "scripts/bench_$what.sh"
"need_for_$what"
programs
printf '\n%s\n\n' "$machine"
"measure_$what"
exit "$missed"
