#!/usr/bin/env bash
# Prints the path of s3s-fs, the S3 server of the tests, and builds it the first time (about two minutes of CPU).
# It verifies signatures and expiry as AWS does. Nothing but tests uses it.
set -euo pipefail
# shellcheck source=scripts/needs.sh
. "$(dirname "$0")/needs.sh"

case "${1:-}" in
  -h | --help)
    say "usage: scripts/need_s3s.sh   print the path of the tests' S3 server, built the first time"
    exit 0
    ;;
  '') ;;
  *) die "unknown argument $1; see --help" ;;
esac

version=0.14.1
tools=$root_folder/target/tools
server=$tools/bin/s3s-fs

need_rust
mkdir -p "$tools"
# Two test runs at once build it once.
exec 9>"$tools/.s3s.lock"
flock 9
if ! "$server" --version 2>/dev/null | grep -qF "$version"; then
  step "building s3s-fs $version, an S3 server for the tests"
  cargo install s3s-fs --version "$version" --features binary --locked --root "$tools" --target-dir "$tools/build" >&2 ||
    die "s3s-fs could not be built"
  rm -rf "$tools/build"
fi
printf '%s\n' "$server"
