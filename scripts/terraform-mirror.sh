#!/usr/bin/env bash
# Sourced, with a folder to write to: has Terraform take its AWS provider from a
# mirror on this machine, where there is one and nobody said otherwise.
#
# A mirror is a folder with HOST/hashicorp/aws/VERSION in it. TF_PLUGIN_MIRROR
# names it; else it is looked for where machines without a network have it.

if [ ! -f "${TF_CLI_CONFIG_FILE:-$HOME/.terraformrc}" ]; then
    mirror="${TF_PLUGIN_MIRROR-}"
    if [ -z "$mirror" ]; then
        found=$(find /opt /usr -type d -path '*/hashicorp/aws/5.*' -prune -print -quit 2>/dev/null || true)
        # HOST, hashicorp, aws and the version are below it.
        [ -z "$found" ] || mirror=$(cd "$found/../../../.." && pwd)
    fi
    if [ -n "$mirror" ]; then
        cat >"$1/terraformrc" <<RC
provider_installation {
  filesystem_mirror {
    path = "$mirror"
  }
}
RC
    else
        # An empty one: one that is named and not there is warned of each time.
        : >"$1/terraformrc"
    fi
    export TF_CLI_CONFIG_FILE="$1/terraformrc"
fi
