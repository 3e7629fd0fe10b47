#!/usr/bin/env bash
# Installs what the tests need and runs all of them. This is what CI runs.
set -euo pipefail
# shellcheck source=scripts/needs.sh
. "$(dirname "$0")/needs.sh"
cd "$root_folder"

usage() {
  cat <<'TEXT'
usage: scripts/test.sh

Installs what is missing (apt-get, npm), then runs every check and every test. The test under a real systemd needs root
and the right to make namespaces; everything else does not.
TEXT
}
options -- "$@"

need_packages ca-certificates curl g++ jq openssl perl procps shellcheck fonts-dejavu-core systemd libfaketime \
  nginx libnginx-mod-rtmp libnginx-mod-stream chromium
need_ffmpeg
need_rust
command -v npm >/dev/null || need_packages nodejs npm
rustup component add rustfmt clippy >/dev/null 2>&1 || true

began=$SECONDS
step "rustfmt"
cargo fmt --all --check
step "clippy"
cargo clippy --locked --workspace --all-targets -- -D warnings
step "fuzz targets"
# Their workspace is another one; libFuzzer is C++.
(cd fuzz && RUSTFLAGS="--cfg fuzzing" cargo check --locked --target-dir "$root_folder/target/fuzz-check")
step "shellcheck"
shellcheck -x scripts/*.sh .ci/run
step "build"
build debug --workspace
step "systemd, and beside it what the tests need"
# That test waits for most of its time. What is built meanwhile gives way to it, and replaces the programs in target/debug:
# tests need some crates with other features.
programs=$root_folder/target/systemd-programs
mkdir -p "$programs"
ln -f target/debug/stream-controller target/debug/stream-worker target/debug/streamctl "$programs/"
build_for_tests() {
  scripts/need_s3s.sh
  (cd tests/browser && npm ci --no-audit --no-fund --loglevel=error)
  cargo test --locked --workspace --exclude e2e --no-run
  cargo test --locked -p e2e --no-run
}
export -f build_for_tests
nice -n 19 bash -euo pipefail -c build_for_tests >target/for_tests.log 2>&1 &
for_tests=$!
kept_alive=0
scripts/test_systemd.sh --from "$programs" || kept_alive=$?
wait "$for_tests" || {
  cat target/for_tests.log
  die "what the tests need cannot be built"
}
[ "$kept_alive" = 0 ] || die "the test under systemd has failed"
step "tests"
# Each end-to-end test runs a channel of its own and waits for most of its time; more than three at a time would starve
# them on two cores. The tests of the rooms go beside them; what those said follows when both have ended.
export RUST_TEST_THREADS=3
RUST_TEST_THREADS=2 cargo test --locked --workspace --exclude e2e --no-fail-fast >target/rooms.log 2>&1 &
rooms=$!
failed=0
cargo test --locked -p e2e --no-fail-fast || failed=1
wait "$rooms" || failed=1
cat target/rooms.log
[ "$failed" = 0 ] || die "tests have failed"
step "demo"
DEMO_PROFILE=debug scripts/demo.sh --check 30
say "all checks passed in $((SECONDS - began)) s"
