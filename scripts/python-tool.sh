#!/usr/bin/env bash
# Installs a tool that comes as a Python package into target/tools, once, and
# prints the folder of its commands:
#
#   scripts/python-tool.sh emulator       # ministack, which stands in for AWS in the tests
#   scripts/python-tool.sh cargo-lambda   # builds packages that run on Lambda
#   scripts/python-tool.sh checkov        # looks for mistakes in terraform/
#   scripts/python-tool.sh awscli         # what deploy.sh calls, where its tests lack it
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1-}" in
emulator) packages=("ministack==1.5.33") ;;
cargo-lambda) packages=("cargo-lambda==1.9.2" "ziglang==0.15.2") ;;
checkov) packages=("checkov==3.3.30") ;;
awscli) packages=("awscli==1.46.3") ;;
*)
    echo "usage: $0 emulator|cargo-lambda|checkov|awscli" >&2
    exit 2
    ;;
esac

folder="${CARGO_TARGET_DIR:-$PWD/target}/tools/$1"
stamp="$folder/installed"
if [ "$(cat "$stamp" 2>/dev/null)" != "${packages[*]}" ]; then
    command -v python3 >/dev/null || {
        echo "$0: python3 is needed to install ${packages[*]}" >&2
        exit 1
    }
    rm -rf "$folder"
    mkdir -p "$(dirname "$folder")"
    if ! python3 -m venv "$folder" >&2; then
        echo "$0: python3 lacks its venv module (Debian: apt-get install python3-venv)" >&2
        exit 1
    fi
    "$folder/bin/pip" install --quiet --disable-pip-version-check "${packages[@]}" >&2
    printf '%s' "${packages[*]}" >"$stamp"
fi
echo "$folder/bin"
