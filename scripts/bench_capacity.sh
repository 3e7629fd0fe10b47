# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034  # What is not assigned here is in bench.sh and bench_common.sh.
# What many channels cost together, beside bare FFmpeg loops in the same window. Sourced by bench.sh.

need_for_capacity() {
  need_packages curl jq nginx libnginx-mod-rtmp
  need_ffmpeg
}

# Workers outlive their controller on purpose, so they are told to stop one by one.
workers=()
end_workers() {
  local pid
  for pid in "${workers[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
  gone() { for pid in "${workers[@]}"; do if kill -0 "$pid" 2>/dev/null; then return 1; fi; done; }
  wait_for 20 gone || say "some workers did not end in time"
  workers=()
}
finish() {
  trap - EXIT
  end_from 2
  end_workers
  end_from 0
}

# start_nginx: sets `rtmp`, with an application for each channel and one for the bare loops.
start_nginx() {
  local port n
  port=$(free_port 21935)
  rtmp=127.0.0.1:$port
  {
    printf 'load_module modules/ngx_rtmp_module.so;\ndaemon off;\npid %s/nginx.pid;\nerror_log %s/nginx.log error;\n' \
      "$work" "$work"
    printf 'worker_processes 1;\nevents { worker_connections 2048; }\nrtmp { access_log off; server {\n'
    printf 'listen %s; chunk_size 4096;\napplication bare { live on; record off; }\n' "$rtmp"
    for ((n = 1; n <= channels; n++)); do printf 'application c%s { live on; record off; }\n' "$n"; done
    printf '} }\n'
  } >"$work/nginx.conf"
  "$(command -v nginx || echo /usr/sbin/nginx)" -e "$work/nginx.log" -c "$work/nginx.conf" &
  pids+=($!)
  listening() { (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; }
  wait_for 10 listening || die "nginx did not start; see $work/nginx.log"
}

# channel FOLDER ID URL KEY...: a channel that is wanted on the air, as the controller keeps it.
channel() {
  local folder=$1 id=$2 url=$3 items
  shift 3
  items=$(printf '%s\n' "$@" | jq -R '{key: .}' | jq -s '.')
  mkdir -p "$folder/channels/$id"
  jq -n --arg id "$id" --arg url "$url" --argjson items "$items" --arg public "$(printf 'Capacity%014d' "$RANDOM$RANDOM")" '
    {version: 1, revision: 1, id: $id, name: $id, public_id: $public, wish: "on", loop: true,
     playlist: {from: "list", items: [$items | to_entries[] | .value + {id: ("01ARZ3NDEKTSV4RRFFQ69G5FA" + (.key | tostring))}]},
     hls: {enabled: false, public: false},
     destinations: [{id: "out", name: "out", platform: "custom", url: $url}]}' \
    >"$folder/channels/$id/stream_config.json"
}

# start_channels N: sets `controller` and `workers`; the witness is not among them.
start_channels() {
  local n state=$work/state-$1 port
  channel "$state" witness "rtmp://$sink/live/witness-$1" short/1.mp4 short/2.mp4 short/3.mp4
  for ((n = 1; n <= $1; n++)); do channel "$state" "c$n" "rtmp://$rtmp/c$n/x" loop/30s.mp4; done
  port=$(free_port 18180)
  env STATE_DIR="$state" STORAGE_LOCAL_DIR="$media" CONTROLLER_BIND="127.0.0.1:$port" LOG_LEVEL=info \
    "$bin/stream-controller" >"$work/controller-$1.log" 2>&1 &
  controller=$!
  pids+=("$controller")
  all_there() {
    find_workers
    [ "${#workers[@]}" -gt "$1" ]
  }
  wait_for 120 all_there "$1" || die "only ${#workers[@]} workers came; see $work/controller-$1.log"
}
find_workers() {
  local pid words
  workers=()
  for pid in $(children_of "$controller"); do
    words=$(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null || true)
    case $words in
      *stream-worker*'--channel witness '*) workers=("${workers[@]}" "$pid") ;;
      *stream-worker*'--channel c'*) workers=("$pid" "${workers[@]}") ;;
    esac
  done
}
# A bare loop takes up to 1 % of a core and 40 MB; it must not take what the channels need.
fitting() {
  local by_memory by_cores
  by_memory=$(awk '/^MemAvailable:/ {print int($2 / 2 / 40960)}' /proc/meminfo)
  by_cores=$(($(nproc) * 50))
  printf '%s\n' "$1" "$by_memory" "$by_cores" | sort -n | head -n 1
}

late_p99() { # CHANNEL...: the latest of them, from what their workers said at their end
  local id
  for id in "$@"; do
    grep 'the session ends' "$state_folder/logs/$id.log" 2>/dev/null | grep -o 'late.p99_ms"*[:=][0-9]*' |
      grep -o '[0-9]*$' | tail -n 1
  done | sort -n | tail -n 1
}

# measure_stage N: N channels and the bare loops that fit, in one window.
measure_stage() {
  local n=$1 k first=${#pids[@]} bare=() from window
  step "$n channels for $seconds s"
  start_channels "$n"
  state_folder=$work/state-$n
  local counted=("${workers[@]:0:n}")
  # Each channel's slate is drawn once in its life, one after the other.
  drawn() { [ "$(find "$state_folder" -name 'slate-*.flv' | wc -l)" -gt "$n" ]; }
  wait_for $((60 + 5 * n)) drawn || die "the slates were not made; see $state_folder/logs"
  for ((k = 1; k <= $(fitting "$n"); k++)); do
    ffmpeg -v error -nostdin -re -stream_loop -1 -i "$media/loop/30s.mp4" -c copy -f flv "rtmp://$rtmp/bare/b$k" \
      >/dev/null 2>&1 &
    pids+=($!)
    bare+=($!)
  done
  sleep $((45 + n / 5))
  local cpu own cpu_bare woke woke_bare
  from=$EPOCHREALTIME
  cpu=$(cpu_ns "${counted[@]}") own=$(own_ns "$controller") cpu_bare=$(cpu_ns "${bare[@]}")
  woke=$(wakes "${counted[@]}") woke_bare=$(wakes "${bare[@]}")
  # In thirds: all channels are at the same place of their item, and most is in memory shortly before its end.
  local pss=0 pss_own=0 pss_bare=0 _
  for _ in 1 2 3; do
    sleep "$(calc %.2f "$seconds / 3")"
    pss=$((pss + $(pss_kib "${counted[@]}") / 3)) pss_bare=$((pss_bare + $(pss_kib "${bare[@]}") / 3))
    pss_own=$((pss_own + $(pss_kib "$controller") / 3))
  done
  cpu=$(($(cpu_ns "${counted[@]}") - cpu)) own=$(($(own_ns "$controller") - own))
  cpu_bare=$(($(cpu_ns "${bare[@]}") - cpu_bare))
  woke=$(($(wakes "${counted[@]}") - woke)) woke_bare=$(($(wakes "${bare[@]}") - woke_bare))
  window=$(calc %.3f "$EPOCHREALTIME - $from")
  local alive=0 pid
  for pid in "${counted[@]}"; do [ -d "/proc/$pid" ] && alive=$((alive + 1)); done
  end_from "$first"
  end_workers
  local per all late ids=()
  per=$(calc %.3f "$cpu / $window / 1e7 / $n") all=$(calc %.1f "$cpu / $window / 1e7")
  local per_bare mb mb_bare
  per_bare=$(calc %.3f "$cpu_bare / $window / 1e7 / ${#bare[@]}")
  mb=$(calc %.2f "$pss * 1024 / 1e6 / $n") mb_bare=$(calc %.2f "$pss_bare * 1024 / 1e6 / ${#bare[@]}")
  for ((k = 1; k <= n; k++)); do ids+=("c$k"); done
  late=$(late_p99 "${ids[@]}")
  lines+=('' "**$n channels ($alive to the end), ${#bare[@]} bare loops, $window s**" ''
    '| | CPU, % of a core each | PSS, MB each | wake-ups/s each |' '|---|---|---|---|'
    "| channel | $per | $mb | $(calc %.0f "$woke / $window / $n") |"
    "| bare loop | $per_bare | $mb_bare | $(calc %.0f "$woke_bare / $window / ${#bare[@]}") |" ''
    '| together | measured | reach ≤ | |' '|---|---|---|---|')
  printf '%s\n' "${lines[@]: -10:7}"
  row "workers that were lost, $n channels" $((n - alive)) 0
  row "CPU beside the bare loop, $n channels" "$(calc %.2f "$per / $per_bare")" 0.60
  row "lateness p99 in ms, the latest of $n channels" "${late:-999}" 30
  row "the controller with $n channels, % of a core" "$(calc %.2f "$own / $window / 1e7")" 1
  row "the controller with $n channels, PSS in MB" "$(calc %.1f "$pss_own * 1024 / 1e6")" 60
  if [ "$n" = 1 ]; then row 'PSS of one channel, MB' "$mb" 6; fi
  if [ "$n" -ge 100 ]; then
    row "CPU of all workers, % of a core per 100 channels" "$(calc %.1f "$all * 100 / $n")" 35
    row "PSS of all workers, MB per 100 channels" "$(calc %.0f "$mb * 100")" 250
  fi
  boundaries "witness of $n"
}

measure_capacity() {
  local n stages=(1) page=docs/CAPACITY.md
  work=$work/capacity
  rm -rf "$work"
  mkdir -p "$work"
  # nginx's own worker may be another user.
  chmod 755 "$work"
  # Shorter than the time before the window, so that every channel has been over a boundary.
  noisy_clip loop/30s.mp4 30 2
  short_clips
  start_sink
  start_nginx
  if [ "$channels" -gt 20 ]; then stages+=(20); fi
  if [ "$channels" -gt 1 ]; then stages+=("$channels"); fi
  for n in "${stages[@]}"; do measure_stage "$n"; done
  if [ -z "$no_page" ]; then write_page >"$page"; fi
}

write_page() {
  cat <<'TEXT'
# Capacity

What many channels cost on one machine. Written by `scripts/bench.sh capacity`; run it to get the figures of yours.

**Method.** One controller keeps 1, 20 and then 100 channels on the air, one worker each. Every channel loops a 30 s file,
720p with 30 pictures a second, H.264 of 3 Mbit/s and AAC, to nginx-rtmp on the same machine, which records nothing;
HLS is off. It is measured once every channel has its slate and has been over a boundary. In the same window as many
bare loops `ffmpeg -re -stream_loop -1 -c copy` send the same file to the same nginx. CPU is the time on a processor of workers and their children (`schedstat`), memory is PSS (`smaps_rollup`), wake-ups
are voluntary context switches. Lateness is what 99 of 100 sendings did not exceed, for the worst channel; up to 16 ms of it is
meant, because tags wait for company. The witness is one channel more, whose items last 4 to 5 s and whose output is recorded.

TEXT
  printf '**Machine.** %s.\n' "$machine"
  printf '%s\n' "${lines[@]}"
}
