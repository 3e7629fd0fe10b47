# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034  # What is not assigned here is in bench.sh.
# Many channels at once beside as many bare loops. Sourced by bench.sh.

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

status_of() { ask "$api/streams/status?channel=$1"; }

start_them() { # COUNT
  local number body
  for ((number = 1; number <= $1; number++)); do
    body=$(jq -nc --arg channel "c$number" --arg url "rtmp://$sink/live" \
      '{channel: $channel, hls: {enabled: false}, destinations: [{id: "sink", platform: "custom", url: $url,
        stream_key: $channel}]}')
    ask -X POST -H 'Content-Type: application/json' -d "$body" "$api/streams/start" >/dev/null
  done
  for ((number = 1; number <= $1; number++)); do
    one_live() { [ "$(status_of "c$number" | jq -r '.destinations[0].state')" = live ]; }
    wait_for 60 one_live || die "channel c$number is not accepted"
    # Making the slate costs once what a channel costs in minutes.
    one_protected() { [ "$(status_of "c$number" | jq .protected)" = true ]; }
    wait_for 300 one_protected || die "channel c$number has no slate"
    root[c$number]=$(status_of "c$number" | jq .run.pid)
  done
}

measure_channels() {
  local number pid name ours=() bare=() own=0 theirs=0 pss most=0 most_of_source=0 lost=0
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
    pss=$(pss_kib "${root[$name]}")
    [ "$pss" -gt "$most" ] && most=$pss
    for pid in $(children_of "${root[$name]}"); do
      pss=$(pss_kib "$pid")
      [ "$pss" -gt "$most_of_source" ] && most_of_source=$pss
    done
    lost=$((lost + $(status_of "$name" | jq '.destinations[0] | .dropped + .reconnects')))
  done
  for name in "${bare[@]}"; do theirs=$(sum_of "$theirs" "${cpu[$name]}"); done
  printf '%s channels: %s %% of a core, bare loops: %s %%; largest source %s KiB PSS\n' "$channels" "$own" "$theirs" \
    "$most_of_source"
  row "CPU of $channels channels beside as many bare loops" "$(ratio "$own" "$theirs")" 0.85
  row "PSS of the largest worker and the largest source in MB" \
    "$(awk -v k=$((most + most_of_source)) 'BEGIN {printf "%.1f", k * 1024 / 1e6}')" 25
  row "what was dropped, and connections that were lost" "$lost" 0
  end_all_but_the_sink
}
