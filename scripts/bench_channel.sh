# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034  # What is not assigned here is in bench.sh and bench_common.sh.
# What one channel costs, how soon it is on the air, and its boundaries. Sourced by bench.sh.

need_for_channel() {
  need_packages curl jq
  need_ffmpeg
}

measure_channel() {
  long_clip
  short_clips
  start_sink
  step "measuring for $seconds s: HLS off, HLS on, bare loop"
  measure_cost
  step "timing a first start and $starts more"
  measure_starts
  # A last one is long enough for some boundaries.
  start_channel boundaries true
  sleep 30
  stop_channel
  boundaries 'boundaries every 4 to 5 s'
}

measure_cost() {
  local name
  put_on_air off false STORAGE_LOCAL_DIR="$media/long"
  put_on_air on true STORAGE_LOCAL_DIR="$media/long"
  bare_loop bare "$media/long/long.mp4"
  at_the_sink 3
  watch off on bare
  for name in off on; do
    row "CPU of worker + source beside the bare loop, HLS $name" "$(ratio "${cpu[$name]}" "${cpu[bare]}")" \
      "$([ $name = off ] && echo 0.85 || echo 0.90)"
    row "PSS of the worker in MB, HLS $name" "$(megabytes "$(pss_kib "${root[$name]}")")" 12
  done
  end_from 1
}

# Starts of one controller. By the second one the files are known and in memory.
measure_starts() {
  local n times=()
  start_controller starts STORAGE_LOCAL_DIR="$media/short"
  for ((n = 0; n <= starts; n++)); do
    time_a_start "start-$n"
    times+=("$took")
    stop_channel
  done
  printf 'first start %s ms; then, ms: %s\n' "${times[0]}" "${times[*]:1}"
  row "first start call to first IDR at the sink, ms" "${times[0]}" 1000
  row "start call to first IDR at the sink, ms (median)" "$(median_of "${times[@]:1}")" 150
}

# time_a_start KEY: sets `took`, ms from the call to the first IDR picture, by the sink's clock.
time_a_start() {
  local body before called at
  body=$(wanted "$1" true)
  before=$(first_idrs)
  called=${EPOCHREALTIME/[.,]/}
  post /streams/start "$body"
  at_the_sink $((before + 1))
  at=$(jq -s '[.[] | select(.event == "first_idr")] | last.at_ms' "$work/sink/events.jsonl")
  took=$((at - called / 1000))
}
