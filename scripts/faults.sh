#!/usr/bin/env bash
# Does every known fault to the real programs and prints what the receivers saw of it.
set -euo pipefail
# shellcheck source=scripts/needs.sh
. "$(dirname "$0")/needs.sh"
cd "$root_folder"

usage() {
  cat >&2 <<'TEXT'
usage: scripts/faults.sh [--short] [--scale F] [--list] [NAME...]

Tries faults one after another against nginx-rtmp, a second RTMP server and an S3 server that misbehaves by script.
Prints a line for each: whether the promise was kept, the longest gap that was measured, how long it took.

  --short     only the short set, as the tests do
  --scale F   how long outages last, as a factor of the usual time (default 1; 0.2 is quick, 10 is patient)
  --list      says what there is
  NAME        only these

disk-full and another-address mount something: they need root, or a kernel that lets anybody.

The whole set takes under 40 minutes and writes docs/RELIABILITY.md. Exit code: 0 all promises kept, 1 one is broken,
2 it could not be tried.
TEXT
}

whole=yes arguments=() scale=1
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help)
      usage
      exit 0
      ;;
    --short | --list)
      whole=no
      arguments+=("$1")
      ;;
    --scale)
      scale=${2:-}
      [[ $scale =~ ^[0-9]+([.][0-9]+)?$ ]] || die "--scale needs a number such as 0.5"
      arguments+=(--scale "$scale")
      shift
      ;;
    -*) die "unknown argument $1; see --help" ;;
    *)
      whole=no
      arguments+=("$1")
      ;;
  esac
  shift
done

need_packages ca-certificates curl openssl nginx libnginx-mod-rtmp libnginx-mod-stream chromium faketime
need_ffmpeg
need_rust
command -v npm >/dev/null || need_packages nodejs npm
build debug --workspace
scripts/need_s3s.sh >/dev/null
[ "$whole" = no ] || arguments+=(--page docs/RELIABILITY.md)
FAULTS_METHOD="Measured on $(date -u +%F) with $(nproc) cores ($(awk -F': ' '/model name/ {print $2; exit}' /proc/cpuinfo)), \
FFmpeg $(ffmpeg -version | awk 'NR == 1 {print $3}'), nginx $(nginx -v 2>&1 | awk -F/ '{print $2}'), programs built without \
optimisation, outages at $scale of their usual time."
export FAULTS_METHOD
exec target/debug/faults ${arguments[@]+"${arguments[@]}"}
