#!/usr/bin/env bash
# Checks what is in deploy/ as far as that goes without a container engine, a cluster or systemd itself, and all scripts.
# deploy/README.md says what else was run, and how. `scripts/setup.sh tests` installs what this calls.
set -euo pipefail
cd "$(dirname "$0")/.."
checks=$PWD/.tools/checks/bin
manifests=(deploy/kubernetes/base/{statefulset,service,poddisruptionbudget,networkpolicy}.yaml)

say() { echo "deploy-lint: $*" >&2; }
fail() { say "$*"; exit 1; }

"$checks/shellcheck" --severity=warning scripts/*.sh .ci/run
"$checks/hadolint" deploy/Dockerfile
"$checks/yamllint" --strict --config-file deploy/.yamllint.yaml deploy
"$checks/check-jsonschema" --quiet --builtin-schema vendor.compose-spec deploy/compose.yaml deploy/compose.replicas.yaml

# Each file is whole by itself, so that no kustomize is needed to check or to apply it.
for manifest in "${manifests[@]}"; do
    grep -qx "  - ${manifest##*/}" deploy/kubernetes/base/kustomization.yaml ||
        fail "$manifest is not in kustomization.yaml"
done
[ "$(grep -c '^  - .*\.yaml$' deploy/kubernetes/base/kustomization.yaml)" -eq ${#manifests[@]} ] ||
    fail "kustomization.yaml has a file that is not checked here"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# Says what a command said where that is not to be passed over: where it failed, or where it had anything to say at all.
quiet() { "$@" >"$folder/said" 2>&1 || { cat "$folder/said" >&2; fail "$1 refused it"; }; }
silent() { quiet "$@"; [ ! -s "$folder/said" ] || { cat "$folder/said" >&2; fail "$1 complained"; }; }

# The oldest cluster that has all it asks for (a sleep before the stop), and the newest that is known.
quiet "$checks/kubernetes-validate" --strict --kubernetes-version 1.30 "${manifests[@]}"
if command -v kubectl >/dev/null; then
    for overlay in mesh replicas; do
        kubectl kustomize "deploy/kubernetes/$overlay" >"$folder/$overlay.yaml"
        manifests+=("$folder/$overlay.yaml")
    done
else
    say "no kubectl here: deploy/kubernetes/mesh and replicas are not checked"
fi
quiet "$checks/kubernetes-validate" --strict --kubernetes-version 1.37 "${manifests[@]}"

# The program need not be installed for the unit to be checked.
sed 's#^ExecStart=/[^ ]*#ExecStart=/bin/true#' deploy/facematch.service >"$folder/facematch.service"
silent systemd-analyze verify "$folder/facematch.service"
# In tenths: 2.0 at most.
quiet systemd-analyze security --offline=yes --no-pager --threshold=20 "$folder/facematch.service"
sed -n 's/^→ //p' "$folder/said"
