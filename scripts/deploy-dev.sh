#!/usr/bin/env bash
# scripts/deploy.sh for dev: takes its other options, see --help.
set -euo pipefail
exec "$(dirname -- "$0")/deploy.sh" -e dev "$@"
