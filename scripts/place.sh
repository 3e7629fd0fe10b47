# shellcheck shell=bash
# Where the controller of this installation is, how it is started and how it is asked. Sourced, never run.
# shellcheck source=scripts/needs.sh
. "$(dirname "${BASH_SOURCE[0]}")/needs.sh"

unit=stream-controller.service

# read_env FILE: takes NAME=VALUE lines as systemd does; what is set already stays.
read_env() {
  local line name value
  [ -r "$1" ] || return 0
  while IFS= read -r line || [ -n "$line" ]; do
    [[ $line =~ ^[[:space:]]*([A-Z][A-Z0-9_]*)=(.*)$ ]] || continue
    name=${BASH_REMATCH[1]} value=${BASH_REMATCH[2]%$'\r'}
    value=${value%"${value##*[![:space:]]}"}
    case $value in
      \"*\" | \'*\') value=${value:1:-1} ;;
    esac
    [ -n "${!name+set}" ] || export "$name=$value"
  done <"$1"
}

# An installation has its programs in bin/; a checkout has them in target/.
if [ -x "$root_folder/bin/stream-controller" ]; then
  bin=$root_folder/bin
  env_file=${ENV_FILE:-/etc/stream-controller/env}
  home=/var/lib/stream-controller
  default_media=/srv/stream-controller/media
else
  bin=$root_folder/target/release
  [ -x "$bin/stream-controller" ] || bin=$root_folder/target/debug
  env_file=${ENV_FILE:-$root_folder/.env}
  home=$root_folder
  default_media=$root_folder/media
fi
# Tests try the programs of their own profile.
bin=${BIN_DIR:-$bin}
read_env "$env_file"
[ -n "${STATE_DIR:-}" ] || STATE_DIR=$([ "$home" = "$root_folder" ] && echo "$root_folder/data" || echo "$home")
[ -n "${STORAGE_LOCAL_DIR:-}" ] || STORAGE_LOCAL_DIR=$default_media

# absolute PATH: relative ones start where the controller starts.
absolute() { case $1 in /*) printf '%s\n' "$1" ;; *) printf '%s\n' "$home/${1#./}" ;; esac; }
STATE_DIR=$(absolute "$STATE_DIR")
STORAGE_LOCAL_DIR=$(absolute "$STORAGE_LOCAL_DIR")
export STATE_DIR STORAGE_LOCAL_DIR
export bin env_file home
pid_file=$STATE_DIR/run/controller.pid
controller_log=$STATE_DIR/logs/controller.log
export controller_log

# Whether systemd runs this machine and knows our unit. --process overrides it.
process=${process:-}
has_service() { [ -z "$process" ] && [ -d /run/systemd/system ] && systemctl cat "$unit" >/dev/null 2>&1; }

# started_at PID: the kernel's start time in ticks; fails for a zombie and for nobody.
started_at() {
  local stat fields
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  read -ra fields <<<"${stat##*) }"
  [[ ${fields[0]} != [ZXx] ]] && printf '%s\n' "${fields[19]}"
}

# controller_pid: the controller that start.sh started, if it still lives; a pid counts only with its start time.
controller_pid() {
  local pid started
  read -r pid started 2>/dev/null <"$pid_file" || return 1
  [ -n "$started" ] && [ "$(started_at "$pid")" = "$started" ] && printf '%s\n' "$pid"
}

# api: where the controller listens, as an address for clients on this machine.
api() {
  local address=${CONTROLLER_URL:-}
  [ -n "$address" ] || address=$(cat "$STATE_DIR/run/controller.address" 2>/dev/null) || true
  [ -n "$address" ] || address=${CONTROLLER_BIND:-127.0.0.1:8080}
  address=${address#http://}
  address=${address/#0.0.0.0:/127.0.0.1:}
  printf 'http://%s\n' "${address/#\[::\]:/\[::1\]:}"
}

# ask PATH [CURL ARGUMENTS]: with the administrator's token, which stays out of the arguments.
ask() {
  local path=$1 header=()
  shift
  [ -r "$STATE_DIR/auth.header" ] && header=(-H "@$STATE_DIR/auth.header")
  curl -sS --max-time 10 --noproxy '*' --fail-with-body "${header[@]}" "$@" "$(api)$path"
}

answers() { ask /health -o /dev/null 2>/dev/null; }

# younger_than SECONDS: whether the controller that answers came up since then.
younger_than() {
  local uptime
  uptime=$(ask /health 2>/dev/null | jq -r '.uptime_s // empty') && [ -n "$uptime" ] && [ "$uptime" -le "$1" ]
}

need_tools() {
  local tool
  for tool in "$@"; do command -v "$tool" >/dev/null || die "$tool is missing; install it (apt-get install $tool)"; done
}
