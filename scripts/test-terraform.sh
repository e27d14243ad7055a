#!/usr/bin/env bash
# Tests of terraform/: format, validation, each module's and the root's tests with
# a mocked provider, each stage's variables, and checkov. Nothing is deployed, and
# no account is needed.
#
# Skipped, and said so, where Terraform is not installed. Its AWS provider comes
# from a mirror on this machine where there is one (TF_PLUGIN_MIRROR names its
# folder), else from Terraform's registry.
set -euo pipefail
cd "$(dirname "$0")/.."

skip() {
    echo "skipped: $*"
    exit 0
}

command -v terraform >/dev/null || skip "no terraform: the tests of terraform/ take 1.11 or later"
version=$(TF_CLI_CONFIG_FILE=/dev/null terraform version | sed -n 's/^Terraform v\([0-9.]*\).*/\1/p')
minor=${version#*.}
[ "${version%%.*}" -gt 1 ] || [ "${minor%%.*}" -ge 11 ] || skip "terraform is $version: the tests of terraform/ take 1.11 or later"

work="${CARGO_TARGET_DIR:-$PWD/target}/terraform"
mkdir -p "$work"
# shellcheck source=scripts/terraform-mirror.sh
. scripts/terraform-mirror.sh "$work"
export TF_IN_AUTOMATION=1 CHECKPOINT_DISABLE=1

step() { printf '== %s\n' "$*"; }

step "format"
terraform fmt -check -diff -recursive terraform

# In a copy, since Terraform writes beside what it reads.
copy="$work/copy"
rm -rf "$copy"
mkdir -p "$copy"
cp -R terraform/. "$copy"
rm -rf "$copy"/.terraform "$copy"/.terraform-* "$copy"/*.local.tfvars "$copy"/terraform.tfvars

initialise() {
    terraform -chdir="$1" init -backend=false -input=false -no-color >"$work/init.log" 2>&1 || {
        cat "$work/init.log" >&2
        exit 1
    }
}

failed=0
run() { "$@" || failed=1; }

step "the whole: validation, tests"
initialise "$copy"
run terraform -chdir="$copy" validate -no-color
run terraform -chdir="$copy" test -no-color -filter=tests/root.tftest.hcl
# The example is there to be copied.
{
    cat "$copy/terraform.tfvars.example"
    printf 'environment = "prod"\naws_region = "us-east-1"\n'
} >"$copy/example.tfvars"
for stage in dev staging prod example; do
    step "$stage.tfvars"
    run terraform -chdir="$copy" test -no-color -filter=tests/stages.tftest.hcl -var-file="$stage.tfvars"
done

# Two at a time; each says what it has to say at its end.
step "modules"
test_module() {
    local log="$work/$1.log"
    {
        printf '== module %s\n' "$1"
        terraform -chdir="$copy/modules/$1" init -backend=false -input=false -no-color >"$work/$1.init.log" 2>&1 ||
            { cat "$work/$1.init.log" && false; } &&
            terraform -chdir="$copy/modules/$1" test -no-color
    } >"$log" 2>&1 && outcome=0 || outcome=$?
    cat "$log"
    return "$outcome"
}
export -f test_module
export copy work
# shellcheck disable=SC2016 # the inner bash expands it
for module in "$copy"/modules/*; do basename "$module"; done |
    xargs -P 2 -n 1 bash -c 'test_module "$0"' || failed=1

step "checkov"
checkov=$(scripts/python-tool.sh checkov)/checkov
# Its own list of findings comes from the network otherwise.
run "$checkov" --directory terraform --framework terraform --skip-download --quiet --compact

[ "$failed" = 0 ] || {
    echo "terraform/: something failed, see above" >&2
    exit 1
}
echo "terraform/: all passed"
