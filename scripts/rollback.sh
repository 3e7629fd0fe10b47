#!/usr/bin/env bash
# Goes back to the programs of before the last install.sh, and forward again when it is run twice.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/rollback.sh [--prefix DIR] [--destdir DIR]

Exchanges bin and bin.previous. A running service re-executes itself in place: channels stay on the air.
Where the worker of before is another program too, it takes over at the end of an item, one channel after the other.

  --prefix, --destdir   what install.sh was told (/opt/stream-controller)
TEXT
}

# shellcheck source=scripts/needs.sh
. "$(dirname "$0")/needs.sh"

prefix=/opt/stream-controller
destdir=''
options --prefix=path --destdir=path -- "$@"
prefix=${prefix%/} destdir=${destdir%/}

unit=stream-controller.service
place=$destdir$prefix
[ -n "$destdir" ] || [ "$(id -u)" = 0 ] || die "must be run as root (or with --destdir)"
[ -x "$place/bin.previous/stream-controller" ] || die "there is nothing to go back to in $place"
mv "$place/bin" "$place/bin.next"
mv "$place/bin.previous" "$place/bin"
mv "$place/bin.next" "$place/bin.previous"
if [ -z "$destdir" ] && [ -d /run/systemd/system ] && systemctl is-active --quiet "$unit"; then
  systemctl reload "$unit" || die "the service could not be reloaded: journalctl -u $unit -n 50"
fi
say "went back to $("$place/bin/stream-controller" --version)"
