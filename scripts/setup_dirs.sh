#!/usr/bin/env bash
# Makes the folders that the controller needs, with the right owner and mode. Harmless when they exist.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/setup_dirs.sh [--owner USER] [--destdir DIR]

Makes STATE_DIR (0700), the HLS folder and the folder of local media (0755), as the environment file names them.

  --owner     whom they shall belong to (the present user)
  --destdir   put everything below this folder
TEXT
}

# shellcheck source=scripts/place.sh
. "$(dirname "$0")/place.sh"

owner=''
destdir=''
options --owner=text --destdir=path -- "$@"

own=()
[ -z "$owner" ] || own=(-o "$owner" -g "$(id -gn "$owner")")
# Parents first: install would give those that it makes on the way the mode of nobody's choice.
folder() {
  mkdir -p "$destdir$(dirname "$2")"
  install -d -m "$1" "${own[@]}" "$destdir$2"
  say "$2 ($1)"
}
folder 700 "$STATE_DIR"
for name in run logs channels cache; do folder 700 "$STATE_DIR/$name"; done
folder 700 "$(absolute "${HLS_DIR:-$STATE_DIR/hls}")"
[ "${STORAGE_PROVIDER:-local}" != local ] || folder 755 "$STORAGE_LOCAL_DIR"
