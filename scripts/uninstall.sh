#!/usr/bin/env bash
# Removes the service and its programs. State, settings and media stay unless told otherwise.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/uninstall.sh [--purge] [--yes] [--prefix DIR] [--destdir DIR]

Ends the service and removes programs, scripts, unit and journal limits. Channels, keys and settings stay, so that
install.sh brings everything back.

  --purge    also remove /var/lib/stream-controller, /etc/stream-controller and the user: asks first.
             Stream keys and the master key are gone for good then. Media are never removed
  --yes      do not ask
  --prefix   where it was installed (/opt/stream-controller)
  --destdir  what install.sh was told
TEXT
}

# shellcheck source=scripts/needs.sh
. "$(dirname "$0")/needs.sh"

prefix=/opt/stream-controller
destdir=''
purge=''
yes=''
options --purge --yes --prefix=path --destdir=path -- "$@"
prefix=${prefix%/} destdir=${destdir%/}

unit=stream-controller.service
place=$destdir$prefix
[ -n "$destdir" ] || [ "$(id -u)" = 0 ] || die "must be run as root (or with --destdir)"
# Only what looks like our installation is removed.
[ ! -e "$place" ] || [ -e "$place/bin/stream-controller" ] || die "$place does not look like an installation; nothing was removed"

if [ -n "$purge" ] && [ -z "$yes" ]; then
  say "This removes every channel, stream key and setting for good: /var/lib/stream-controller, /etc/stream-controller."
  read -r -p 'Type "purge" to go on: ' answer || true
  [ "${answer:-}" = purge ] || die "nothing was removed"
fi

if [ -z "$destdir" ] && [ -d /run/systemd/system ] && systemctl cat "$unit" >/dev/null 2>&1; then
  systemctl disable --now --quiet "$unit" || true
  systemctl kill --kill-who=all --signal=SIGKILL "$unit" 2>/dev/null || true
fi
rm -rf "$destdir/etc/systemd/system/$unit" "$destdir/etc/systemd/system/$unit.d" \
  "$destdir/etc/systemd/journald.conf.d/stream-controller.conf"
if [ -z "$destdir" ] && [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
rm -rf "$place"
if [ -n "$purge" ]; then
  rm -rf "$destdir/var/lib/stream-controller" "$destdir/etc/stream-controller"
  if [ -z "$destdir" ] && getent passwd stream-controller >/dev/null; then userdel stream-controller; fi
  say "removed, with channels, keys and settings; media stay in /srv/stream-controller/media"
else
  say "removed; channels stay in /var/lib/stream-controller, settings in /etc/stream-controller"
fi
