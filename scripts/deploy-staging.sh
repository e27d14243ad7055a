#!/usr/bin/env bash
# scripts/deploy.sh for staging: takes its other options, see --help.
set -euo pipefail
exec "$(dirname -- "$0")/deploy.sh" -e staging "$@"
