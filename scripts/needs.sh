# shellcheck shell=bash
# What the scripts need and how it is got on Debian and Ubuntu. Sourced, never run.

root_folder=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export root_folder
memory_kib=$(awk '/^MemTotal:/ {print $2}' /proc/meminfo)
small_machine_kib=3145728

say() { printf '%s\n' "$*" >&2; }
step() { printf '\n== %s\n' "$*" >&2; }
die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

refuse() {
  printf '%s: %s; see --help\n' "${0##*/}" "$*" >&2
  exit 2
}

# options SPEC... -- "$@": reads the script's arguments into variables named after them. A SPEC is "--name" for a
# switch, "--name=KIND" for a value (text, path, number), or "words" where other words are allowed; those are left in
# ${words[@]}. --help prints usage(); anything else ends the script with code 2.
options() {
  local specs=() spec
  words=()
  while [ "$1" != -- ]; do
    specs+=("$1")
    shift
  done
  shift
  while [ $# -gt 0 ]; do
    [[ $1 != -h && $1 != --help ]] || { usage; exit 0; }
    spec=$(printf '%s\n' "${specs[@]}" | grep -xE -m 1 -e "${1//[^a-z-]/_}(=.*)?") || true
    case $1/$spec in
      -*/--*=*)
        is_of_kind "${spec#*=}" "${2:-}" || refuse "$1 needs ${article[${spec#*=}]}"
        named "$1" "$2"
        shift 2
        ;;
      -*/--*)
        named "$1" yes
        shift
        ;;
      -*) refuse "unknown option $1" ;;
      *)
        [[ " ${specs[*]} " == *' words '* ]] || refuse "unknown argument $1"
        words+=("$1")
        shift
        ;;
    esac
  done
}
declare -A article=([text]='a value' [path]='an absolute path' [number]='a whole number')
# named --some-name VALUE: sets some_name.
named() {
  local name=${1#--}
  printf -v "${name//-/_}" '%s' "$2"
}
is_of_kind() {
  case $1 in
    number) [[ $2 =~ ^[0-9]+$ ]] ;;
    path) [[ $2 == /* ]] ;;
    text) [ -n "$2" ] ;;
  esac
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else die "must be root to run: $*"
  fi
}

# need_packages NAME...: installs those that are missing.
need_packages() {
  local missing=() name
  for name in "$@"; do
    dpkg-query -W -f='${Status}' "$name" 2>/dev/null | grep -q 'ok installed' || missing+=("$name")
  done
  [ ${#missing[@]} = 0 ] && return
  command -v apt-get >/dev/null || die "please install: ${missing[*]} (only apt-get is known here)"
  step "installing ${missing[*]}"
  apt_updated || as_root apt-get update -q
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" ||
    die "apt-get could not install: ${missing[*]}"
}

# Package lists younger than a day are good enough.
apt_updated() { [ -n "$(find /var/lib/apt/lists -maxdepth 1 -name '*_Packages*' -mtime -1 -print -quit 2>/dev/null)" ]; }

need_ffmpeg() {
  command -v "${FFMPEG_PATH:-ffmpeg}" >/dev/null || need_packages ffmpeg
  local version
  version=$("${FFMPEG_PATH:-ffmpeg}" -version | sed -n '1s/^ffmpeg version n\{0,1\}\([0-9]*\)\.\([0-9]*\).*/\1 \2/p')
  # A build without a number is newer than any release.
  [ -z "$version" ] && return
  local major minor
  read -r major minor <<<"$version"
  [ "$major" -gt 5 ] || { [ "$major" -eq 5 ] && [ "$minor" -ge 1 ]; } ||
    die "FFmpeg $major.$minor is too old: 5.1 or newer is needed (Debian 12, Ubuntu 23.04 and later have it)"
}

need_rust() {
  command -v cc >/dev/null || need_packages gcc libc6-dev
  [ -x "$HOME/.cargo/bin/cargo" ] && PATH="$HOME/.cargo/bin:$PATH"
  if ! command -v cargo >/dev/null; then
    apt_updated || as_root apt-get update -q
    apt-cache show rustup >/dev/null 2>&1 ||
      die "Rust is missing and this distribution has no rustup package: install it from https://rustup.rs, then run this again"
    need_packages rustup
  fi
  cargo --version >/dev/null 2>&1 || rustup default stable || die "rustup could not install a toolchain"
}

# build PROFILE PACKAGE...: on a small machine one job at a time and without the features that need much memory.
build() {
  local profile=$1 flags=()
  shift
  [ "$profile" = release ] && flags+=(--release)
  [ "$memory_kib" -lt $small_machine_kib ] && flags+=(--jobs 1 --no-default-features)
  cargo build --locked "${flags[@]}" "$@" || die "the build failed"
}

# free_port FROM: the first port from FROM on that nobody listens on.
free_port() {
  local port=$1
  while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
  printf '%s\n' "$port"
}

# wait_for SECONDS COMMAND...: until the command succeeds; fails when time is over.
wait_for() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    [ $SECONDS -lt $deadline ] || return 1
    sleep 0.1
  done
}
