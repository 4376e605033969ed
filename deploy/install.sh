#!/usr/bin/env bash
# Installs the operator with Helm: `make install`.
#
#   (default)    into the cluster of `make cluster-up`, with an image built here
#   KIND=name    into the kind cluster of this name, with an image built here
#   CONTEXT=...  into the cluster of this context, with IMAGE=..., an image that the cluster can pull
#   NAMESPACE=.. the namespace of the operator (default: town-system)
#   NAME=...     another cluster of the test bed than the default one
#
# The command never changes the current context of your kubeconfig.
set -euo pipefail
cd "$(dirname "$0")/.."

chart=deploy/helm/town-operator
namespace=${NAMESPACE:-town-system}
KIND=${KIND:-}
CONTEXT=${CONTEXT:-}
IMAGE=${IMAGE:-localhost/town-operator:dev}
export IMAGE

say() { echo "install: $*"; }

fail() {
    echo "install: $*" >&2
    exit 1
}

[ -z "$KIND" ] || [ -z "$CONTEXT" ] || fail "set KIND or CONTEXT, not both"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
target=$(cargo metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
bed_name=(${NAME:+--name "$NAME"})
annotation=()

if [ -n "$CONTEXT" ]; then
    [ "$IMAGE" != localhost/town-operator:dev ] \
        || fail "CONTEXT needs IMAGE: the operator's image, where the cluster of context $CONTEXT can pull it"
    helm=$(command -v helm) || fail "helm is not installed"
    kubectl=$(command -v kubectl) || fail "kubectl is not installed"
    at=(--context "$CONTEXT") helm_at=(--kube-context "$CONTEXT")
elif [ -n "$KIND" ]; then
    command -v kind >/dev/null || fail "kind is not installed (https://kind.sigs.k8s.io)"
    kind get kubeconfig --name "$KIND" >"$work/kubeconfig" 2>"$work/log" \
        || fail "there is no kind cluster '$KIND': $(tail -n 1 "$work/log")"
    helm=$(command -v helm) || fail "helm is not installed"
    kubectl=$(command -v kubectl) || fail "kubectl is not installed"
    at=() helm_at=()
    export KUBECONFIG=$work/kubeconfig
else
    say "building the test bed's command (about a minute the first time)"
    cargo build --locked --quiet -p town-bed
    bed=$target/debug/bed
    # A KUBECONFIG in the environment names another cluster.
    unset KUBECONFIG
    "$bed" status "${bed_name[@]}" >"$work/status" || fail "no cluster of the test bed runs; start one: make cluster-up"
    KUBECONFIG=$(sed -n 's/^export KUBECONFIG=//p' "$work/status")
    export KUBECONFIG
    helm=$("$bed" path helm)
    kubectl=$("$bed" path kubectl)
    at=() helm_at=()
fi

if [ -z "$CONTEXT" ]; then
    say "building the image $IMAGE (about 8 minutes the first time on two cores)"
    deploy/image.sh
    archive=$target/image/town-operator.tar
    if [ -n "$KIND" ]; then
        kind load image-archive --name "$KIND" "$archive"
    else
        "$bed" load-image "${bed_name[@]}" "$archive" >/dev/null
    fi
    # The tag is the same for every build: the annotation starts the pods anew when the image has changed.
    annotation=(--set-string "podAnnotations.gastown\\.dev/image-digest=$(sha256sum "$archive" | cut -c1-16)")
    say "the cluster has the image"
fi

case ${IMAGE##*/} in
    *@*) image=(--set-string "image.repository=${IMAGE%@*}" --set-string "image.digest=${IMAGE##*@}") ;;
    *:*) image=(--set-string "image.repository=${IMAGE%:*}" --set-string "image.tag=${IMAGE##*:}") ;;
    *) image=(--set-string "image.repository=$IMAGE" --set-string image.tag=latest) ;;
esac
"$helm" "${helm_at[@]}" upgrade --install town-operator "$chart" --namespace "$namespace" --create-namespace \
    "${image[@]}" "${annotation[@]}" --wait --timeout 120s >"$work/helm.log" 2>&1 \
    || fail "helm: $(tail -n 1 "$work/helm.log"); the operator: kubectl -n $namespace logs deployment/town-operator"
"$kubectl" "${at[@]}" -n "$namespace" rollout status deployment/town-operator --timeout=120s
say "the operator runs in namespace $namespace"
if [ -z "$CONTEXT$KIND" ]; then
    say "use the cluster: export KUBECONFIG=$KUBECONFIG; kubectl is $kubectl"
fi
say "create a town: kubectl apply -f deploy/examples/"
