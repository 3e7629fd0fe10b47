# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034  # What is not assigned here is in bench.sh and bench_common.sh.
# Many channels at once beside as many bare loops. Sourced by bench.sh.

need_for_channels() {
  need_packages curl jq
  need_ffmpeg
}

# write_channels COUNT: a state folder that knows channels c1, c2 and so on, as a controller would have written it.
write_channels() {
  local number folder letters
  for ((number = 1; number <= $1; number++)); do
    folder=$work/state-channels/channels/c$number
    mkdir -p "$folder"
    letters=$(printf 'Benchchannel%010d' "$number")
    jq -n --arg id "c$number" --arg public "$letters" \
      '{version: 1, revision: 1, id: $id, name: $id, public_id: $public, hls: {enabled: false, public: false}}' \
      >"$folder/stream_config.json"
    chmod 600 "$folder/stream_config.json"
  done
}

start_them() { # COUNT
  local number
  for ((number = 1; number <= $1; number++)); do
    post /streams/start "$(wanted "c$number" false | jq -c --arg channel "c$number" '.channel = $channel')"
  done
  for ((number = 1; number <= $1; number++)); do
    on_the_air "c$number"
    root[c$number]=$worker
  done
}

measure_channels() {
  local number pid name ours=() bare=() own=0 theirs=0 most=0 most_of_source=0 lost=0
  long_clip
  start_sink
  step "measuring for $seconds s: $channels channels, $channels bare loops"
  prepare_state() { write_channels "$channels"; }
  start_controller channels STORAGE_LOCAL_DIR="$media/long"
  start_them "$channels"
  for ((number = 1; number <= channels; number++)); do
    bare_loop "bare-$number" "$media/long/long.mp4"
    ours+=("c$number") bare+=("bare-$number")
  done
  at_the_sink $((channels * 2))
  watch "${ours[@]}" "${bare[@]}" >"$work/channels.log"
  for name in "${ours[@]}"; do
    own=$(sum_of "$own" "${cpu[$name]}")
    most=$(most_of "$most" "$(pss_kib "${root[$name]}")")
    for pid in $(children_of "${root[$name]}"); do most_of_source=$(most_of "$most_of_source" "$(pss_kib "$pid")"); done
    lost=$((lost + $(status "$name" | jq '.destinations[0] | .dropped + .reconnects')))
  done
  for name in "${bare[@]}"; do theirs=$(sum_of "$theirs" "${cpu[$name]}"); done
  printf '%s channels: %s %% of a core, bare loops: %s %%; largest source %s KiB PSS\n' "$channels" "$own" "$theirs" \
    "$most_of_source"
  row "CPU of $channels channels beside as many bare loops" "$(ratio "$own" "$theirs")" 0.85
  row "PSS of the largest worker and the largest source in MB" "$(megabytes $((most + most_of_source)))" 25
  row "what was dropped, and connections that were lost" "$lost" 0
}
