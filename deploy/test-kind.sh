#!/usr/bin/env bash
# Runs the cluster and node tests on a temporary kind cluster: `make test-kind`.
# The script deletes the cluster at the end, also after a failure.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    echo "test-kind: $*" >&2
    exit 1
}

command -v kind >/dev/null || fail "kind is not installed (https://kind.sigs.k8s.io)"
if docker version --format '{{.Server.Version}}' >/dev/null 2>&1; then
    provider=docker
elif command -v podman >/dev/null && podman info >/dev/null 2>&1; then
    provider=podman
else
    fail "kind needs a running docker or podman, and neither answers"
fi
export KIND_EXPERIMENTAL_PROVIDER=$provider

export IMAGE=${IMAGE:-localhost/town-operator:dev}
agent_image=busybox:1.37
PROFILE=trial deploy/image.sh
target=$(cargo metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')

name=town-test-$$
work=$(mktemp -d)
clean_up() {
    trap - EXIT INT TERM
    kind delete cluster --name "$name" || echo "test-kind: could not delete the cluster $name: kind delete cluster --name $name" >&2
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 1' INT TERM

kind create cluster --name "$name" --kubeconfig "$work/kubeconfig" --wait 120s
kind load image-archive --name "$name" "$target/image/trial/town-operator.tar"
# The image is loaded into the node, so that no test waits for a registry.
"$provider" pull "$agent_image"
kind load docker-image --name "$name" "$agent_image"

TOWN_TEST_AGENT_IMAGE=$agent_image make test-cluster KUBECONFIG="$work/kubeconfig"
