#!/usr/bin/env bash
# Installs the programs as a service of this machine, or upgrades them. May be run as often as you like.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/install.sh [--from DIR] [--prefix DIR] [--destdir DIR] [--no-packages]

Installs programs and scripts to /opt/stream-controller, makes the system user stream-controller, the folders, the
environment file /etc/stream-controller/env (0600, only when missing), the systemd unit and the journal's limits.
On an upgrade the programs of before stay in bin.previous for rollback.sh, and a running service re-executes itself in
place with the new ones: channels stay on the air, and each gets its new worker at the end of an item.

  --from         folder with the built programs (target/release)
  --prefix       where to install (/opt/stream-controller)
  --destdir      put everything below this folder and touch nothing else: no user, no packages, no systemd
  --no-packages  do not install ffmpeg, curl and jq
TEXT
}

here=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=scripts/needs.sh
. "$(dirname "$0")/needs.sh"

from=$here/target/release
prefix=/opt/stream-controller
destdir=''
no_packages=''
options --from=path --prefix=path --destdir=path --no-packages -- "$@"
from=${from%/} prefix=${prefix%/} destdir=${destdir%/}

user=stream-controller
unit=stream-controller.service
programs=(stream-controller stream-worker)
optional=(streamctl)
place=$destdir$prefix
etc=$destdir/etc/stream-controller
[ -n "$destdir" ] || [ "$(id -u)" = 0 ] || die "must be run as root (or with --destdir)"

systemd_here() { [ -z "$destdir" ] && [ -d /run/systemd/system ]; }

# take_over: a running service changes to the programs that are in place now.
take_over() {
  systemd_here || return 0
  systemctl daemon-reload
  systemctl enable --quiet "$unit"
  if systemctl is-active --quiet "$unit"; then
    systemctl reload "$unit" || die "the service could not be reloaded: journalctl -u $unit -n 50"
    say "the running service took over the programs"
  else
    say "next: put your settings into /etc/stream-controller/env, then $prefix/scripts/start.sh"
  fi
}

for program in "${programs[@]}"; do
  [ -x "$from/$program" ] || die "$from/$program is missing: cargo build --release --workspace"
done
if [ -z "$destdir" ]; then
  [ -n "$no_packages" ] || need_packages ffmpeg curl jq ca-certificates
  if ! getent passwd "$user" >/dev/null; then
    useradd --system --user-group --home-dir /var/lib/stream-controller --no-create-home --shell /usr/sbin/nologin "$user"
    say "made the user $user"
  fi
fi

# Programs are exchanged as a folder, so that there is never half an upgrade.
same=yes
for program in "${programs[@]}" "${optional[@]}"; do
  [ ! -e "$from/$program" ] || cmp -s "$from/$program" "$place/bin/$program" || same=''
done
if [ -z "$same" ]; then
  rm -rf "$place/bin.next"
  install -d -m 755 "$place" "$place/bin.next"
  for program in "${programs[@]}" "${optional[@]}"; do
    [ ! -e "$from/$program" ] || install -m 755 "$from/$program" "$place/bin.next/$program"
  done
  if [ -d "$place/bin" ]; then
    rm -rf "$place/bin.previous"
    mv "$place/bin" "$place/bin.previous"
  fi
  mv "$place/bin.next" "$place/bin"
  say "programs: $prefix/bin"
fi

install -d -m 755 "$place/scripts" "$place/docs"
for script in needs place start stop restart check_status health doctor setup_dirs rollback uninstall end_leftovers field_test; do
  mode=755
  case $script in needs | place) mode=644 ;; esac
  install -m "$mode" "$here/scripts/$script.sh" "$place/scripts/.$script.new"
  mv "$place/scripts/.$script.new" "$place/scripts/$script.sh"
done
find "$here/docs" -maxdepth 1 -name '*.md' -exec install -m 644 -t "$place/docs" {} +
install -m 644 "$here/.env.example" "$place/env.example"

install -d -m 755 "$etc"
install -d -m 700 "$etc/credentials"
if [ ! -e "$etc/env" ]; then
  install -m 600 "$here/.env.example" "$etc/env"
  say "settings: /etc/stream-controller/env"
fi
chmod 600 "$etc/env"
find "$etc/credentials" -type f -exec chmod 600 {} +

owner=()
[ -n "$destdir" ] || owner=(--owner "$user")
env -u STATE_DIR -u HLS_DIR -u STORAGE_LOCAL_DIR -u STORAGE_PROVIDER ENV_FILE="$etc/env" \
  "$place/scripts/setup_dirs.sh" "${owner[@]}" ${destdir:+--destdir "$destdir"} || die "the folders could not be made"

install -d -m 755 "$destdir/etc/systemd/system" "$destdir/etc/systemd/journald.conf.d"
sed "s|/opt/stream-controller|$prefix|g" "$here/systemd/$unit" >"$destdir/etc/systemd/system/$unit"
chmod 644 "$destdir/etc/systemd/system/$unit"
install -m 644 "$here/systemd/stream-controller.journald.conf" "$destdir/etc/systemd/journald.conf.d/stream-controller.conf"
take_over
say "installed $("$place/bin/stream-controller" --version)"
