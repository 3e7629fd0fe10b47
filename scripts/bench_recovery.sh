# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034  # What is not assigned here is in bench.sh.
# How long the sink is without a picture when something is killed. Sourced by bench.sh.

# pictures: when each picture came, ms since 1970, over all publishes of the sink in order.
pictures() {
  local publish began
  while read -r publish began; do
    awk -v began="$began" '$2 == "v" {printf "%.0f\n", began + $1}' "$work/sink/publish-$publish.arrivals"
  done < <(jq -r 'select(.event == "publish") | "\(.publish) \(.at_ms)"' "$work/sink/events.jsonl") | sort -n
}

# darkest FROM TO: the longest time without a picture that ends between these, ms.
darkest() {
  awk -v from="$1" -v to="$2" 'last && $1 >= from && $1 <= to && $1 - last > most {most = $1 - last} {last = $1}
    END {print most + 0}' "$work/pictures"
}

on_the_air() { ask "$api/streams/status" 2>/dev/null | jq -e '.air.is == "on" and .destinations[0].state == "live"' >/dev/null; }
worker_now() { ask "$api/streams/status" | jq .run.pid; }
source_now() { children_of "$(worker_now)" | awk '{print $1}'; }

strike() { # BLOW
  local listening
  case $1 in
    controller)
      kill -KILL "$controller"
      wait "$controller" 2>/dev/null || true
      pids=("${pids[0]}")
      start_again
      ;;
    reload)
      listening=$(grep -c ' listening' "$work/controller-recovery.log" || true)
      kill -HUP "$controller"
      next_one() { [ "$(grep -c ' listening' "$work/controller-recovery.log")" -gt "$listening" ]; }
      wait_for 20 next_one || die "the next controller did not come"
      ;;
    worker) kill -KILL "$(worker_now)" ;;
    frozen) kill -STOP "$(worker_now)" ;;
    source) kill -KILL "$(source_now)" ;;
  esac
}

# back_after NUMBER: pictures come again, and some seconds passed in peace.
back_after() {
  back() { on_the_air && [ "$(worker_now)" != "$1" ]; }
  wait_for 60 back "$1" || die "it did not come back"
}

measure_recovery() {
  local blow n limit worker median all
  declare -A begins=() ends=()
  local blows=(controller reload source worker frozen)
  start_controller recovery STORAGE_LOCAL_DIR="$media/other" LOG_LEVEL=info
  for blow in "${blows[@]}"; do
    for ((n = 1; n <= kills; n++)); do
      # Each kill is the first one of its channel: after the second in a row the controller waits longer by design.
      start_channel recovery true
      wait_for 30 on_the_air || die "the sink accepts nothing"
      sleep 5
      worker=$(worker_now)
      begins[$blow-$n]=$(date +%s%3N)
      strike "$blow"
      case $blow in worker | frozen) back_after "$worker" ;; esac
      wait_for 60 on_the_air || die "it did not come back"
      sleep 6
      ends[$blow-$n]=$(date +%s%3N)
      stop_channel
    done
  done
  end_the_sink
  pictures >"$work/pictures"
  for blow in "${blows[@]}"; do
    all=()
    for ((n = 1; n <= kills; n++)); do all+=("$(darkest "${begins[$blow-$n]}" "${ends[$blow-$n]}")"); done
    printf '%-10s longest time without a picture, ms: %s\n' "$blow" "${all[*]}"
    median=$(median_of "${all[@]}")
    # Pictures are 33 ms apart where nothing happens.
    [ "$median" -ge 20 ] || die "nothing was measured; see $work/pictures"
    case $blow in worker) limit=2000 ;; frozen) limit=15000 ;; *) limit=250 ;; esac
    row "$blow: without a picture, ms (median)" "$median" "$limit"
  done
}
