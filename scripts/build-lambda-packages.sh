#!/usr/bin/env bash
# Builds what Lambda runs: build/producer.zip and build/consumer-lambda.zip,
# each with `bootstrap` in it, for the runtime provided.al2023.
#
#   scripts/build-lambda-packages.sh            # x86_64
#   scripts/build-lambda-packages.sh --arm64    # where the Rust target is installed
#
# Beside each zip goes its base64 sha256, as Terraform's source_code_hash wants
# it; the same lines are printed. The same source gives the same bytes.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(producer consumer-lambda)
architecture=x86_64
case "${1-}" in
"") ;;
--arm64) architecture=arm64 ;;
*)
    echo "usage: $0 [--arm64]" >&2
    exit 2
    ;;
esac
rust_architecture=${architecture/arm64/aarch64}
target="$rust_architecture-unknown-linux-gnu"
if ! rustc --print target-libdir --target "$target" 2>/dev/null | xargs -r test -d; then
    echo "$0: the Rust target $target is not installed (rustup target add $target)" >&2
    exit 1
fi

# cargo-lambda links with zig, against the glibc that Lambda has.
tools=$(scripts/python-tool.sh cargo-lambda)
export PATH="$tools:$PATH"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"

# No random jitter source is polled at the first use of TLS: it costs tens of
# milliseconds of a cold start, and Linux's getrandom is what seeds it anyway.
export AWS_LC_SYS_NO_JITTER_ENTROPY=1
# Nothing of this machine in the binaries: they are the same on another one.
cargo_home="${CARGO_HOME:-$HOME/.cargo}"
export RUSTFLAGS="--remap-path-prefix=$PWD=/bottles --remap-path-prefix=$cargo_home=/cargo ${RUSTFLAGS-}"
export SOURCE_DATE_EPOCH=0

arguments=()
for package in "${packages[@]}"; do arguments+=(--package "$package"); done
[ "$architecture" = arm64 ] && arguments+=(--arm64)
cargo lambda build --locked --profile lambda --lambda-dir "$CARGO_TARGET_DIR/lambda" "${arguments[@]}" >&2

# Zipped here, with one date and one mode: cargo-lambda's own zip has the time in it.
mkdir -p build
"$tools/python3" - "$CARGO_TARGET_DIR/lambda" "${packages[@]}" <<'PYTHON'
import base64, hashlib, pathlib, sys, zipfile

folder, packages = pathlib.Path(sys.argv[1]), sys.argv[2:]
for package in packages:
    path = pathlib.Path("build") / f"{package}.zip"
    entry = zipfile.ZipInfo("bootstrap", date_time=(1980, 1, 1, 0, 0, 0))
    entry.create_system = 3
    entry.external_attr = 0o100755 << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(path, "w", compresslevel=9) as archive:
        archive.writestr(entry, (folder / package / "bootstrap").read_bytes(), compresslevel=9)
    digest = base64.b64encode(hashlib.sha256(path.read_bytes()).digest()).decode()
    path.with_suffix(".zip.base64sha256").write_text(digest)
    print(f"{path}  {digest}  {path.stat().st_size / 1e6:.1f} MB")
PYTHON
