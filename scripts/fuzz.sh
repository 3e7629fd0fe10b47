#!/usr/bin/env bash
# Tries bytes by the million on everything that reads bytes from outside.
set -euo pipefail
# shellcheck source=scripts/needs.sh
. "$(dirname "$0")/needs.sh"
cd "$root_folder"

usage() {
  cat <<'TEXT'
usage: scripts/fuzz.sh [--seconds N] [TARGET...]

Runs every target of the folder fuzz, or the named ones, for N seconds each (default 60) with libFuzzer and the address
sanitizer. Seeds are made by FFmpeg; what was found worth keeping is kept under target/fuzz/corpus and goes on from there
the next time. A panic, a broken promise, 64 MB at once, 256 MB in all, or 5 s for one input is a finding.

Exit code: 0 nothing found, 1 something was, with the command that shows it again; 2 it could not be tried.
TEXT
}
seconds=60
options --seconds=number words -- "$@"
[ "$seconds" -gt 0 ] || refuse "--seconds needs a whole number above 0"

here=$root_folder/target/fuzz
seeds=$here/seeds
export PATH=$root_folder/target/tools/bin:$PATH
# The sanitizer is a flag of unfinished compilers; the stable one takes it too when it is told so.
export RUSTC_BOOTSTRAP=1
# What was freed is kept for a while to see whether it is used again; as much of it as 256 MB in all allow.
export ASAN_OPTIONS=quarantine_size_mb=16
flags=(--fuzz-dir fuzz --target-dir target/fuzz/build)
mapfile -t targets < <(sed -n 's/^path = "targets\/\(.*\)\.rs"$/\1/p' fuzz/Cargo.toml)
for name in ${words[@]+"${words[@]}"}; do
  [[ " ${targets[*]} " == *" $name "* ]] || refuse "there is no target $name; there are: ${targets[*]}"
done
[ ${#words[@]} = 0 ] || targets=("${words[@]}")

need_tools() {
  need_ffmpeg
  need_rust
  command -v c++ >/dev/null || need_packages g++
  command -v cargo-fuzz >/dev/null && return
  step "installing cargo-fuzz into target/tools"
  cargo install cargo-fuzz --locked --root target/tools >&2 || { say "cargo-fuzz could not be installed"; exit 2; }
}

# clip FILE OPTIONS...: a second of 64x64.
clip() {
  local file=$1
  shift
  [ -e "$file" ] && return
  ffmpeg -v error -nostdin -f lavfi -i testsrc2=s=64x64:r=25:d=1 -f lavfi -i sine=f=440:r=48000:d=1 \
    -preset ultrafast -pix_fmt yuv420p "$@" -y "$file" || { say "FFmpeg could not make $file"; exit 2; }
}

make_seeds() {
  local into coded=(-c:v libx264 -g 10 -bf 2 -qp 40 -c:a aac -b:a 32k)
  mkdir -p "$seeds"/{mp4_file,flv,rtmp_answers,parameters,ffprobe_answer,documents}
  into=$seeds/mp4_file
  clip "$into/moov-last.mp4" "${coded[@]}"
  clip "$into/faststart.mp4" "${coded[@]}" -movflags +faststart
  clip "$into/ctts-v1.mp4" "${coded[@]}" -movflags +negative_cts_offsets
  clip "$into/no-edit-list.mp4" "${coded[@]}" -use_editlist 0
  clip "$into/no-b-frames.mp4" -c:v libx264 -g 10 -bf 0 -qp 40 -c:a aac -ac 1 -ar 44100 -b:a 32k
  clip "$into/no-sound.mp4" -map 0:v -c:v libx264 -g 10 -bf 2 -qp 40
  clip "$into/chunky.mp4" "${coded[@]}" -max_interleave_delta 0 -chunk_duration 500000
  clip "$into/uneven.mp4" -vf "select='lt(mod(n,5),3)'" -vsync vfr "${coded[@]}"
  clip "$into/fragmented.mp4" "${coded[@]}" -movflags +frag_keyframe+empty_moov
  clip "$into/late-sound.mp4" "${coded[@]}" -af asetpts=PTS+0.3/TB
  clip "$seeds/flv/plain.flv" "${coded[@]}"
  clip "$seeds/flv/no-b-frames.flv" -c:v libx264 -g 5 -bf 0 -qp 40 -c:a aac -ac 2 -b:a 32k
  clip "$seeds/parameters/annexb.h264" -map 0:v -c:v libx264 -g 10 -qp 40 -f h264
  clip "$seeds/parameters/unit.mp4" -map 0:v -c:v libx264 -g 10 -qp 50 -frames:v 1
  mkdir -p "$seeds/mp4_look"
  cp "$into"/* "$seeds/mp4_look/"
  for into in "$seeds"/mp4_file/{moov-last,no-sound,uneven}.mp4 "$seeds/flv/plain.flv"; do
    ffprobe -v error -of json -show_format -show_streams "$into" >"$seeds/ffprobe_answer/$(basename "$into").json"
  done
  cp state/tests/fixtures/*.json "$seeds/documents/"
  printf 'rtmps://a.rtmps.youtube.com:443/live2?backup=1' >"$seeds/documents/address"
  printf 'rtmp://user:word@[::1]:99/app/key?x=1' >"$seeds/documents/address-6"
  dialogue >"$seeds/rtmp_answers/dialogue"
}

# What a server says to a publisher, as messages: kind, length, body.
dialogue() {
  printf '\001'
  printf '\005\000\004\000\046\045\240'
  printf '\006\000\005\000\046\045\240\002'
  printf '\001\000\004\000\000\020\000'
  printf '\004\000\006\000\006\001\002\003\004'
  printf '\024\000\043\002\000\007_result\000\077\360\000\000\000\000\000\000\005\003\000\004code\002\000\002ok\000\000\011'
  printf '\024\000\035\002\000\007_result\000\100\020\000\000\000\000\000\000\005\000\077\360\000\000\000\000\000\000'
  printf '\024\000\111\002\000\010onStatus\000\000\000\000\000\000\000\000\000\005'
  printf '\003\000\004code\002\000\027NetStream.Publish.Start\000\005level\002\000\006status\000\000\011'
  printf '\003\000\004\000\001\000\000'
}

dictionary() {
  case $1 in
    mp4_*) printf 'mp4' ;;
    flv | parameters) printf 'flv' ;;
    rtmp_answers) printf 'rtmp' ;;
    *) printf 'json' ;;
  esac
}

# fuzz TARGET: fails when something was found.
fuzz() {
  local target=$1 corpus=$here/corpus/$1 log=$here/$1.log found=0
  mkdir -p "$corpus" "$here/findings/$target"
  cargo fuzz run "${flags[@]}" "$target" "$corpus" "$seeds/$target" -- -max_total_time="$seconds" -timeout=5 \
    -rss_limit_mb=256 -malloc_limit_mb=64 -max_len=65536 -len_control=0 -print_final_stats=1 \
    -dict="fuzz/dictionaries/$(dictionary "$target").dict" -artifact_prefix="$here/findings/$target/" >"$log" 2>&1 ||
    found=1
  grep -q 'stat::number_of_executed_units' "$log" || [ $found = 1 ] || { tail -n 20 "$log" >&2; exit 2; }
  report "$target" "$log"
  [ $found = 0 ] && return
  grep -m 1 -E 'panicked at|ERROR: |SUMMARY' "$log" >&2 || tail -n 20 "$log" >&2
  local input
  input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
  [ -n "$input" ] || { tail -n 20 "$log" >&2; exit 2; }
  say "again: RUSTC_BOOTSTRAP=1 PATH=\$PWD/target/tools/bin:\$PATH cargo fuzz run ${flags[*]} $target $input"
  say "all of it: $log"
  return 1
}

report() {
  local coverage executed
  coverage=$(grep -oE 'cov: [0-9]+' "$2" | tail -n 1)
  executed=$(sed -n 's/.*stat::number_of_executed_units: *//p' "$2")
  printf '%-16s %12s executions, edges reached: %s\n' "$1" "${executed:-?}" "${coverage#cov: }"
}

need_tools
make_seeds
step "building ${targets[*]}"
for target in "${targets[@]}"; do
  cargo fuzz build "${flags[@]}" "$target" || { say "$target cannot be built"; exit 2; }
done
failed=0
for target in "${targets[@]}"; do
  fuzz "$target" || failed=1
done
exit $failed
