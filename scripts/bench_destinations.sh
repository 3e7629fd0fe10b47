# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034  # What is not assigned here is in bench.sh.
# One channel with four destinations beside four bare loops that send the same file there. Sourced by bench.sh.

measure_destinations() {
  local number names=(channel) all
  start_controller destinations STORAGE_LOCAL_DIR="$media/long"
  all=$(jq -nc --arg url "rtmp://$sink/live" '[range(4) | tostring | {id: ("to-" + .), platform: "custom", url: $url,
    stream_key: ("channel-" + .)}]')
  ask -X POST -H 'Content-Type: application/json' -d "$(jq -nc --argjson all "$all" '{hls: {enabled: false}, destinations: $all}')" \
    "$api/streams/start" >/dev/null
  all_live() { [ "$(ask "$api/streams/status" | jq '[.destinations[] | select(.state == "live")] | length')" = 4 ]; }
  wait_for 30 all_live || die "the sink does not accept all four"
  wait_for 60 protected || die "the channel has no slate"
  root[channel]=$(ask "$api/streams/status" | jq .run.pid)
  for number in 0 1 2 3; do
    bare_loop "bare-$number" "$media/long/long.mp4"
    names+=("bare-$number")
  done
  at_the_sink 8
  watch "${names[@]}"
  all_live || die "a destination was lost meanwhile"
  row "CPU of worker + source beside four bare loops" \
    "$(ratio "${cpu[channel]}" "$(sum_of "${cpu[bare-0]}" "${cpu[bare-1]}" "${cpu[bare-2]}" "${cpu[bare-3]}")")" 0.45
  row "what was dropped" "$(ask "$api/streams/status" | jq '[.destinations[] | .dropped + .reconnects] | add')" 0
  end_all_but_the_sink
}
