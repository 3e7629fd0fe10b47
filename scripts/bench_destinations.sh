# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034  # What is not assigned here is in bench.sh and bench_common.sh.
# One channel with four destinations beside four bare loops that send the same file there. Sourced by bench.sh.

need_for_destinations() {
  need_packages curl jq
  need_ffmpeg
}

measure_destinations() {
  local number names=(channel) all
  long_clip
  start_sink
  step "measuring for $seconds s: one channel with four destinations, four bare loops"
  start_controller destinations STORAGE_LOCAL_DIR="$media/long"
  all=$(jq -nc --arg url "rtmp://$sink/live" '[range(4) | tostring | {id: ("to-" + .), platform: "custom", url: $url,
    stream_key: ("channel-" + .)}]')
  post /streams/start "$(jq -nc --argjson all "$all" '{hls: {enabled: false}, destinations: $all}')"
  on_the_air main
  root[channel]=$worker
  for number in 0 1 2 3; do
    bare_loop "bare-$number" "$media/long/long.mp4"
    names+=("bare-$number")
  done
  at_the_sink 8
  watch "${names[@]}"
  live || die "a destination was lost meanwhile"
  row "CPU of worker + source beside four bare loops" \
    "$(ratio "${cpu[channel]}" "$(sum_of "${cpu[bare-0]}" "${cpu[bare-1]}" "${cpu[bare-2]}" "${cpu[bare-3]}")")" 0.45
  row "what was dropped" "$(status | jq '[.destinations[] | .dropped + .reconnects] | add')" 0
}
