#!/usr/bin/env bash
# Looks at everything that a channel needs on this machine, and says what to do about what is missing.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/doctor.sh [--offline] [--process]

One line per finding: ok, warn or FAIL, with what to do. Exit codes: 0 no FAIL, 1 at least one FAIL.

  --offline   leave out what needs the network (DNS, ingest servers, the bucket)
  --process   look at the files of a checkout even where the service is installed

Reads /etc/stream-controller/env in an installation (run it as root), .env in a checkout.
TEXT
}

# shellcheck source=scripts/place.sh
. "$(dirname "$0")/place.sh"

offline=''
options --offline --process -- "$@"

failed=0
warned=0
ok() { printf 'ok    %-12s %s\n' "$1" "$2"; }
warn() {
  printf 'warn  %-12s %s\n' "$1" "$2"
  warned=$((warned + 1))
}
fail() {
  printf 'FAIL  %-12s %s\n' "$1" "$2"
  failed=$((failed + 1))
}
has() { command -v "$1" >/dev/null 2>&1; }
# limited SECONDS COMMAND...: fails when it takes longer.
limited() { timeout --kill-after=2 "$@"; }

programs() {
  local tool
  for tool in stream-controller stream-worker; do
    if [ -x "$bin/$tool" ]; then ok programs "$bin/$tool, $("$bin/$tool" --version)"; else
      fail programs "$bin/$tool is missing: run scripts/install.sh, or cargo build --release --workspace"
    fi
  done
  for tool in curl jq; do has "$tool" || fail programs "$tool is missing: apt-get install $tool"; done
}

ffmpeg_here() {
  local ffmpeg=${FFMPEG_PATH:-ffmpeg} ffprobe=${FFPROBE_PATH:-ffprobe} banner major minor encoder encoders lacks=''
  if ! banner=$(limited 20 "$ffmpeg" -version 2>/dev/null); then
    fail ffmpeg "$ffmpeg does not run: apt-get install ffmpeg, or set FFMPEG_PATH"
    return
  fi
  read -r major minor < <(sed -n '1s/^ffmpeg version n\{0,1\}\([0-9]*\)\.\([0-9]*\).*/\1 \2/p' <<<"$banner") || true
  if [ -n "${major:-}" ] && { [ "$major" -lt 5 ] || { [ "$major" -eq 5 ] && [ "$minor" -lt 1 ]; }; }; then
    fail ffmpeg "version $major.$minor is too old: 5.1 or newer is needed; set FFMPEG_PATH to a newer one"
  else ok ffmpeg "$(head -n 1 <<<"$banner" | cut -c 1-60)"; fi
  encoders=$(limited 20 "$ffmpeg" -hide_banner -encoders 2>/dev/null) || true
  for encoder in libx264 aac; do
    grep -qE "^ *[VA][^ ]* +$encoder " <<<"$encoders" || lacks+=" $encoder"
  done
  # A list is a promise; a second of both encoders is the proof.
  if [ -n "$lacks" ]; then fail codecs "FFmpeg lacks$lacks: install a build that has them"
  elif limited 30 "$ffmpeg" -v error -nostdin -f lavfi -i testsrc2=s=320x180:d=0.2 -f lavfi -i sine=d=0.2 -pix_fmt yuv420p \
    -c:v libx264 -c:a aac -f flv -y /dev/null 2>/dev/null; then ok codecs "libx264 and aac encode"
  else fail codecs "FFmpeg knows libx264 and aac but cannot encode with them; try it by hand: $ffmpeg -f lavfi -i testsrc2 -t 1 -c:v libx264 -f null -"; fi
  limited 20 "$ffprobe" -version >/dev/null 2>&1 || fail ffmpeg "$ffprobe does not run: it comes with ffmpeg, or set FFPROBE_PATH"
}

# mode_at_most PATH MODE: no bit beyond MODE is set.
mode_at_most() { (((8#$(stat -c %a "$1") & ~8#$2) == 0)); }

files() {
  local file
  if [ ! -d "$STATE_DIR" ]; then
    warn state "$STATE_DIR does not exist yet: the first start makes it, or scripts/setup_dirs.sh"
  elif mode_at_most "$STATE_DIR" 700; then ok state "$STATE_DIR is private"
  else fail state "$STATE_DIR can be read by others: chmod 700 $STATE_DIR"; fi
  for file in "$STATE_DIR"/{admin.token,auth.header,master.key} "$env_file" /etc/stream-controller/credentials/*; do
    [ -f "$file" ] || continue
    mode_at_most "$file" 600 || fail secrets "$file can be read by others: chmod 600 $file"
  done
  [ -d "$STATE_DIR" ] && has_service && [ "$(stat -c %U "$STATE_DIR")" != stream-controller ] &&
    fail state "$STATE_DIR does not belong to stream-controller: chown -R stream-controller: $STATE_DIR"
  return 0
}

disk() {
  local path=$STATE_DIR free_kib inodes
  while [ ! -d "$path" ]; do path=$(dirname "$path"); done
  free_kib=$(df -Pk "$path" | awk 'NR == 2 {print $4}')
  inodes=$(df -Pi "$path" | awk 'NR == 2 {print $4}')
  if [ "$free_kib" -lt 1048576 ]; then fail disk "only $((free_kib / 1024)) MB are free for $STATE_DIR: make room, 1 GB is the least"
  elif [ "$free_kib" -lt 5242880 ]; then warn disk "$((free_kib / 1024)) MB are free for $STATE_DIR: prepared files and HLS want 5 GB"
  else ok disk "$((free_kib / 1048576)) GB are free for $STATE_DIR"; fi
  if [[ $inodes =~ ^[0-9]+$ ]] && [ "$inodes" -gt 0 ] && [ "$inodes" -lt 10000 ]; then warn disk "only $inodes inodes are free"; fi
}

clock() {
  if has timedatectl && [ "$(timedatectl show -P NTPSynchronized 2>/dev/null)" = yes ]; then ok clock "synchronised"
  elif has chronyc && limited 5 chronyc -n tracking 2>/dev/null | grep '^Leap status *: Normal' >/dev/null; then ok clock "synchronised by chrony"
  else warn clock "nothing says that it is synchronised: signed URLs fail when it is 15 minutes off; apt-get install systemd-timesyncd"; fi
}

limits() {
  local files
  if has_service; then files=$(systemctl show -P LimitNOFILE "$unit"); else files=$(ulimit -Hn); fi
  if [ "$files" = unlimited ] || [ "$files" = infinity ] || [ "$files" -ge 8192 ]; then ok limits "$files open files"
  else warn limits "only $files open files: every viewer is one; raise the limit (ulimit -Hn, LimitNOFILE=)"; fi
}

port() {
  local address=${CONTROLLER_BIND:-127.0.0.1:8080}
  if answers; then ok api "the controller answers at $(api)"
  elif [[ $address == *:0 ]]; then ok api "any free port"
  elif (exec 3<>"/dev/tcp/127.0.0.1/${address##*:}") 2>/dev/null; then
    fail api "port ${address##*:} is taken by another program (ss -ltnp): end it, or set CONTROLLER_BIND"
  else ok api "$address is free; the controller does not run"; fi
  case $address in
    127.* | localhost:* | \[::1\]:*) ;;
    *) warn api "$address is open to the network without TLS: put nginx in front and bind 127.0.0.1" ;;
  esac
}

# given NAME: a setting, or a credential file of its name.
given() { [ -n "${!1:-}" ] || [ -s "/etc/stream-controller/credentials/${1,,}" ] || [ -s "${CREDENTIALS_DIRECTORY:-/nowhere}/${1,,}" ]; }

credentials() {
  local name
  if given YOUTUBE_STREAM_KEY; then ok youtube "the stream key is set"
  else warn youtube "YOUTUBE_STREAM_KEY is not set: channel main goes to no platform unless its start names destinations"; fi
  case ${STORAGE_PROVIDER:-local} in
    local) return ;;
    r2 | s3) ;;
    *) fail storage "STORAGE_PROVIDER=${STORAGE_PROVIDER} must be local, r2 or s3" && return ;;
  esac
  for name in STORAGE_BUCKET STORAGE_ACCESS_KEY_ID STORAGE_SECRET_ACCESS_KEY; do
    given "$name" || fail storage "$name is not set; $STORAGE_PROVIDER needs it"
  done
  [ "$STORAGE_PROVIDER" = s3 ] || given STORAGE_ENDPOINT || given STORAGE_ACCOUNT_ID || fail storage "STORAGE_ACCOUNT_ID is not set; r2 needs it"
}

media() {
  [ "${STORAGE_PROVIDER:-local}" = local ] || return 0
  local found
  if [ ! -d "$STORAGE_LOCAL_DIR" ]; then fail media "$STORAGE_LOCAL_DIR does not exist: mkdir -p it, or set STORAGE_LOCAL_DIR" && return; fi
  found=$(find -L "$STORAGE_LOCAL_DIR" -type f -not -name '.*' 2>/dev/null | grep -ciE '\.(mp4|m4v|mov|mkv|webm|ts|m2ts|flv|avi|mpg|mp3|m4a|aac|wav|flac|ogg|opus)$' || true)
  if [ "$found" -gt 0 ]; then ok media "$found files in $STORAGE_LOCAL_DIR"; else warn media "no media in $STORAGE_LOCAL_DIR: put some there"; fi
  case $STORAGE_LOCAL_DIR in
    /home/* | /root/*) has_service && fail media "the service cannot see $STORAGE_LOCAL_DIR (ProtectHome=yes): move it, for example to /srv/stream-controller/media" ;;
  esac
  return 0
}

# reach NAME URL: DNS, then TCP, then TLS where the address says so.
# shellcheck disable=SC2016 # The inner shell of limited fills in its own arguments.
reach() {
  local name=$1 scheme=${2%%://*} rest=${2#*://} host port trust=()
  rest=${rest%%/*} host=${rest%:*} port=${rest##*:}
  if [[ $rest != *:* ]]; then
    host=$rest
    case $scheme in rtmps | https) port=443 ;; http) port=80 ;; *) port=1935 ;; esac
  fi
  if ! limited 10 getent ahosts "$host" >/dev/null; then
    fail "$name" "$host has no address: check /etc/resolv.conf and the name"
  elif ! limited 10 bash -c 'exec 3<>"/dev/tcp/$1/$2"' _ "$host" "$port" 2>/dev/null; then
    fail "$name" "$host:$port does not take connections: does a firewall of yours or your provider block outgoing port $port?"
  elif [[ $scheme == rtmps || $scheme == https ]] && has openssl; then
    [ -z "${TLS_CA_FILE:-}" ] || trust=(-CAfile "$TLS_CA_FILE")
    if limited 15 openssl s_client -connect "$host:$port" -servername "$host" -verify_return_error "${trust[@]}" </dev/null >/dev/null 2>&1; then
      ok "$name" "$host:$port takes connections, its certificate is good"
    else fail "$name" "$host:$port has no certificate that this machine trusts: apt-get install ca-certificates, check the clock, or set TLS_CA_FILE"; fi
  else ok "$name" "$host:$port takes connections"; fi
}

network() {
  reach youtube "${YOUTUBE_RTMP_URL:-rtmps://a.rtmps.youtube.com:443/live2}"
  local provider=${STORAGE_PROVIDER:-local}
  [ "$provider" = local ] && return
  local endpoint=${STORAGE_ENDPOINT:-}
  if [ -z "$endpoint" ] && [ "$provider" = r2 ] && [ -n "${STORAGE_ACCOUNT_ID:-}" ]; then endpoint=https://$STORAGE_ACCOUNT_ID.r2.cloudflarestorage.com; fi
  [ -z "$endpoint" ] || reach bucket "$endpoint"
  # Whether the keys open the bucket is known to whoever uses them: the running controller.
  if answers; then
    local words
    words=$(ask /health | jq -r '[.problems[] | select(test("bucket|storage|media"; "i"))] | join("; ")')
    if [ -z "$words" ]; then ok bucket "the controller sees no problem"; else fail bucket "$words"; fi
  else warn bucket "start the controller and run this again to see whether the keys open the bucket"; fi
}

memory() {
  local available
  available=$(awk '/^MemAvailable:/ {print int($2 / 1024)}' /proc/meminfo)
  if [ "$available" -lt 200 ]; then warn memory "only $available MB are available: a channel that transcodes wants 200 to 500"
  else ok memory "$available MB are available"; fi
}

service() {
  if ! has_service; then
    ok service "no systemd service here; start.sh starts a process"
    return
  fi
  local state
  state=$(systemctl is-active "$unit" || true)
  if [ "$state" = active ]; then ok service "active, $(systemctl show -P NRestarts "$unit") restarts by systemd"
  else warn service "$state: scripts/start.sh, and journalctl -u $unit tells why it ended"; fi
  systemctl is-enabled --quiet "$unit" 2>/dev/null || warn service "does not start at boot: systemctl enable $unit"
}

programs
ffmpeg_here
files
disk
memory
clock
limits
service
port
credentials
media
[ -n "$offline" ] || network
if [ "$failed" = 0 ]; then echo "no failures, $warned warnings"; else
  echo "$failed failures, $warned warnings"
  exit 1
fi
