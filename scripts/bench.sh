#!/usr/bin/env bash
# Measures the figures that README.md speaks of, on this machine, against the
# testbed: planning 56,000 bottles, and syncing small and large ones to a folder.
# Each line is one run: wall seconds, CPU seconds (user + system), peak memory.
set -euo pipefail

usage() {
    cat <<TEXT
usage: scripts/bench.sh [--runs N] [--keep DIR]

  --runs N     runs of each measurement (3)
  --keep DIR   work in DIR and leave it, instead of a temporary folder
TEXT
}

runs=3
keep=
while [ $# -gt 0 ]; do
    case $1 in
        --runs) runs=$2; shift 2 ;;
        --keep) keep=$2; shift 2 ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
done
command -v python3 >/dev/null || { echo "bench.sh: it takes python3 to measure processes" >&2; exit 1; }

cd "$(dirname "$0")/.."
cargo build --release --locked --quiet -p cli -p testbed
target=${CARGO_TARGET_DIR:-target}/release
work=${keep:-$(mktemp -d)}
mkdir -p "$work"
upstream=
stop_upstream() {
    [ -z "$upstream" ] || kill "$upstream" 2>/dev/null || true
    upstream=
}
cleanup() {
    stop_upstream
    [ -n "$keep" ] || rm -rf "$work"
}
trap cleanup EXIT

# start_upstream ARGS...: a testbed in a process of its own; sets $options.
start_upstream() {
    stop_upstream
    rm -f "$work/urls"
    "$target/testbed" "$@" --print-json >"$work/urls" &
    upstream=$!
    for _ in $(seq 600); do
        [ -s "$work/urls" ] && break
        sleep 0.1
    done
    options=$(python3 - "$work/urls" <<'PY'
import json, sys
urls = json.load(open(sys.argv[1]))
print("--api-url", urls["api"], "--rewrite", "https://ghcr.io=" + urls["registry"],
      "--allow-host", urls["cdn"].removeprefix("http://"), "--requests-per-second", 1000000)
PY
)
}

# measure NAME COMMAND...: one line a run; the mirror of the run before is removed.
measure() {
    local name=$1
    shift
    for _ in $(seq "$runs"); do
        [ "${FRESH:-yes}" = no ] || rm -rf "$work/mirror"
        python3 - "$name" "$@" <<'PY'
import os, resource, subprocess, sys, time
started = time.monotonic()
code = subprocess.run(sys.argv[2:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
wall = time.monotonic() - started
used = resource.getrusage(resource.RUSAGE_CHILDREN)
peak = used.ru_maxrss / (1024 if sys.platform != "darwin" else 1024 * 1024)
print(f"{sys.argv[1]:<44} {wall:7.2f} s wall  {used.ru_utime + used.ru_stime:7.2f} s CPU  {peak:6.0f} MiB"
      + (f"  exit {code}" if code else ""), flush=True)
PY
    done
}

bottles=$target/bottles
echo "bench: $(nproc) cores, $("$bottles" --version)"

start_upstream --bottles 56000 --size 2K..4K
# shellcheck disable=SC2086 # options are words
{
    measure "plan 56,000 bottles, without sizes" "$bottles" plan --no-sizes $options
    measure "plan 56,000 bottles, 8,000 image indexes" "$bottles" plan $options
}

start_upstream --bottles 300 --size 2K..2500K
# shellcheck disable=SC2086
measure "sync 300 bottles, 0.4 GB" "$bottles" sync --to "$work/mirror" $options

for size in 64MiB 512MiB; do
    start_upstream --uniform "4x$size" --tags x86_64_linux
    # shellcheck disable=SC2086
    measure "sync 4 bottles of $size" "$bottles" sync --to "$work/mirror" --size-threshold 32MiB $options
done
