#!/usr/bin/env bash
# scripts/deploy.sh for prod: takes its other options, see --help.
set -euo pipefail
exec "$(dirname -- "$0")/deploy.sh" -e prod "$@"
