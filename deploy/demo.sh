#!/usr/bin/env bash
# The life of a town on real containers, told in stages: `make demo`.
#
#   CONTEXT=...      a context of your kubeconfig: use that cluster; else a cluster of the test bed is used,
#                    and started for the time of the demo if it does not run
#   IMAGE=...        the operator's image; with CONTEXT it must be where that cluster can pull it
#   AGENT_IMAGE=...  an image with a shell for the town's containers, with CONTEXT (default busybox:1.37)
#   KEEP=1           leave everything as it is at the end, to look around
#
# Every stage says what it does, waits for what must come of it, and fails if it does not come. What is
# applied lies in deploy/examples; the commands are shown as a person would type them.
set -euo pipefail
cd "$(dirname "$0")/.."

CONTEXT=${CONTEXT:-}
KEEP=${KEEP:-}
IMAGE=${IMAGE:-localhost/town-operator:dev}

chart=deploy/helm/town-operator
examples=deploy/examples
# Not the namespace of the README: nobody's own installation is touched.
system=town-demo-system
namespace=town-demo
uid_label=gastown.dev/town-uid

if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'; else bold='' dim='' plain=''; fi

# ---------------------------------------------------------------- telling

stages=()
stage_title=''
stage_began=0
began=$SECONDS

end_stage() {
    [ -z "$stage_title" ] || stages+=("$(printf '%4ss  %s' $((SECONDS - stage_began)) "$stage_title")")
    stage_title=''
}

stage() {
    end_stage
    stage_title=$1
    stage_began=$SECONDS
    printf '\n%s== %s%s\n' "$bold" "$1" "$plain"
}

say() { printf '%s\n' "$*"; }

indent() { sed 's/^/    /'; }

# Through a file, because it may be said in a subshell; the first complaint is the one that counts.
complain() { [ -s "$work/complaint" ] || printf '%s\n' "$*" >"$work/complaint"; }

fail() {
    complain "$*"
    exit 1
}

# ---------------------------------------------------------------- acting

k() { "$kubectl" "${at[@]}" "$@"; }
kn() { k --namespace "$namespace" "$@"; }

# Runs kubectl in the demo's namespace and shows the command as one would type it.
show() {
    local shown='' word
    for word in "$@"; do
        case $word in
            *[!A-Za-z0-9_./:=,@-]*) shown+=" '$word'" ;;
            *) shown+=" $word" ;;
        esac
    done
    printf '%s$ kubectl -n %s%s%s\n' "$dim" "$namespace" "$shown" "$plain"
    kn "$@" 2>&1 | indent
}

# Applies an example as it is, but for the name of the image where the cluster has another.
apply() {
    printf '%s$ kubectl -n %s apply -f %s%s\n' "$dim" "$namespace" "$1" "$plain"
    sed "s#image: busybox:1.37#image: $agent_image#" "$1" | kn apply -f - | indent
}

# await WHAT SECONDS COMMAND...: asks again and again until the command succeeds.
await() {
    local what=$1 limit=$2 end
    shift 2
    end=$((SECONDS + limit))
    until "$@"; do
        [ $SECONDS -lt $end ] || fail "$what: not within $limit seconds"
        sleep 0.2
    done
}

# One field of an object; nothing where the object or the field is missing.
field() { kn get "$1" --ignore-not-found -o "jsonpath=$2"; }

# ---------------------------------------------------------------- asking

pods_of_town() { kn get pods -l "$uid_label=$town_uid" -o name; }
no_pods() { [ -z "$(pods_of_town)" ]; }
# bead_done AGENT BEAD
bead_done() { [ "$(field "agent/$1" '{.status.work.bead} {.status.phase}')" = "$2 Done" ]; }
mayor_is_back() {
    local now
    now=$(kn get pods -l "gastown.dev/agent-uid=$mayor_uid" \
        -o 'jsonpath={range .items[*]}{.metadata.uid} {.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}')
    [ -n "$now" ] && ! grep -q "$mayor_pod_uid" <<<"$now" && grep -q ' True$' <<<"$now"
}

# The operator's last line, if it got that far.
operator_says() {
    local line
    line=$(k logs --namespace "$system" deployment/town-operator --tail=1 2>/dev/null || true)
    printf '%s' "${line:-nothing}"
}

# Every object of every kind, in every namespace, that carries the town's UID; and the town by its own.
objects_of_town() {
    local kinds
    kinds=$(k api-resources --verbs=list -o name | sort -u | paste -sd, -)
    k get "$kinds" --all-namespaces -l "$uid_label=$town_uid" --ignore-not-found -o name 2>"$work/list-errors" \
        || { cat "$work/list-errors" >&2; fail "could not list every kind"; }
    k get towns,agents --all-namespaces -o 'jsonpath={range .items[*]}{.metadata.uid} {.kind}/{.metadata.name}{"\n"}{end}' \
        | sed -n "s/^$town_uid //p"
}

volumes_of_town() {
    k get persistentvolumes -o "jsonpath={range .items[*]}{.spec.claimRef.namespace} {.metadata.name}{'\n'}{end}" \
        | sed -n "s/^$namespace //p"
}
no_volumes() { [ -z "$(volumes_of_town)" ]; }

# The UIDs of every pod that ever was in the demo's namespace, a line each, from a watch.
pods_seen() { sort -u "$work/pods" | grep . || true; }

# Processes on the node that belong to one of these pods: the pod's UID is in the name of their control group.
processes_of_town() {
    local uid patterns=()
    for uid in $(pods_seen); do patterns+=(-e "pod$uid" -e "pod${uid//-/_}"); done
    [ ${#patterns[@]} -gt 0 ] || { echo 0; return; }
    { grep -ls "${patterns[@]}" /proc/[0-9]*/cgroup || true; } | wc -l
}
no_processes() { [ "$(processes_of_town)" -eq 0 ]; }

# Prints a file of an agent's volume, read by a pod that is not the town's and goes again.
read_volume() {
    local claim
    claim=$(field "agent/$1" '{.status.storage.claim}')
    [ -n "$claim" ] || fail "agent $1 has no volume in its status"
    kn apply -f - >/dev/null <<POD
apiVersion: v1
kind: Pod
metadata:
  name: reader
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  securityContext: {runAsNonRoot: true, runAsUser: 1000, runAsGroup: 1000, fsGroup: 1000, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: reader
      image: $agent_image
      command: [cat, "/agent/$2"]
      securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
      volumeMounts: [{name: agent, mountPath: /agent, readOnly: true}]
  volumes:
    - name: agent
      persistentVolumeClaim: {claimName: $claim, readOnly: true}
POD
    kn wait pod/reader --for=jsonpath='{.status.phase}'=Succeeded --timeout=60s >/dev/null \
        || fail "could not read $2 from the volume of $1"
    kn logs reader
    kn delete pod reader --wait >/dev/null
}

# ---------------------------------------------------------------- ending

started_bed=''
installed=''
watcher=''
had_definitions=''

collect_logs() {
    mkdir -p "$logs"
    cp "$work"/*.log "$logs/" 2>/dev/null || true
    [ -n "${kubectl:-}" ] || return 0
    {
        k logs -n "$system" deployment/town-operator --tail=-1 >"$logs/operator.log"
        k logs -n "$system" deployment/town-operator --previous --tail=-1 >"$logs/operator-previous.log"
        k get towns,agents,pods,persistentvolumeclaims,persistentvolumes,leases --all-namespaces -o yaml >"$logs/objects.yaml"
        k get events --all-namespaces --sort-by=.lastTimestamp >"$logs/events.txt"
        k describe pods --all-namespaces >"$logs/pods.txt"
    } 2>/dev/null || true
    [ -n "$CONTEXT" ] || "$bed" logs >"$logs/cluster.log" 2>&1 || true
}

# Gives the cluster back as it was.
clean_up() {
    if [ -n "$watcher" ]; then
        kill "$watcher" 2>/dev/null || true
        wait "$watcher" 2>/dev/null || true
        watcher=''
    fi
    if [ -n "$KEEP" ]; then
        [ -z "$installed" ] || say "Left as it is (KEEP=1): towns in namespace $namespace, the operator in $system."
        [ -z "$started_bed" ] || say "The cluster still runs: make cluster-status, make cluster-down."
        return 0
    fi
    if [ -n "$started_bed" ]; then
        "$bed" down >"$work/bed-down.log" 2>&1 || { cat "$work/bed-down.log" >&2; return 1; }
        return 0
    fi
    [ -n "$installed" ] || return 0
    local left=0
    # The towns first, while their operator is there.
    k delete namespace "$namespace" --ignore-not-found --timeout=90s >/dev/null || left=1
    if [ $left -eq 0 ]; then
        "$helm" "${helm_at[@]}" uninstall town-operator --namespace "$system" --ignore-not-found --wait >/dev/null || left=1
        [ -n "$had_definitions" ] \
            || k delete customresourcedefinition towns.gastown.dev agents.gastown.dev --ignore-not-found --timeout=60s >/dev/null || left=1
        k delete namespace "$system" --ignore-not-found --timeout=60s >/dev/null || left=1
    fi
    [ $left -eq 0 ] || say "Not everything of the demo could be removed: look at namespaces $namespace and $system." >&2
    return $left
}

on_exit() {
    local code=$?
    trap - EXIT INT TERM
    set +e
    if [ $code -ne 0 ]; then
        complain "a command failed"
        collect_logs
    fi
    if ! clean_up && [ $code -eq 0 ]; then
        code=1
        complain "the demo could not clean up after itself"
        collect_logs
    fi
    local complaint=''
    [ $code -eq 0 ] || complaint=$(cat "$work/complaint")
    rm -rf "$work"
    if [ $code -ne 0 ]; then
        printf '\n%sdemo failed%s in "%s": %s. Logs: %s\n' "$bold" "$plain" "${stage_title:-the end}" "$complaint" "$logs" >&2
        exit 1
    fi
    printf '\n%sThe demo is done%s, in %s seconds:\n' "$bold" "$plain" $((SECONDS - began))
    printf '%s\n' "${stages[@]}"
    exit 0
}

target=$(cargo metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
logs=$target/demo/$(date -u +%Y%m%dT%H%M%SZ)
work=$(mktemp -d)
: >"$work/pods"
trap on_exit EXIT
trap 'fail interrupted' INT TERM

# ---------------------------------------------------------------- the stages

stage "A cluster"
bed=$target/debug/bed
if [ -n "$CONTEXT" ]; then
    [ "$IMAGE" != localhost/town-operator:dev ] \
        || fail "with CONTEXT say IMAGE=... too: the operator's image, where the cluster can pull it"
    at=(--context "$CONTEXT")
    helm_at=(--kube-context "$CONTEXT")
    agent_image=${AGENT_IMAGE:-busybox:1.37}
    kubectl=$(command -v kubectl) || fail "kubectl is not installed"
    helm=$(command -v helm) || fail "helm is not installed"
    k version >"$work/version.log" 2>&1 || fail "no answer from the cluster of context $CONTEXT: $(tail -n 1 "$work/version.log")"
else
    cargo build --locked --quiet -p town-bed
    why=$("$bed" can-node) || fail "$why; or name a cluster: make demo CONTEXT=... IMAGE=..."
    "$bed" build >/dev/null
    kubectl=$("$bed" path kubectl)
    helm=$("$bed" path helm)
    deploy/image.sh
    agent_image=localhost/town-bed/busybox:1
    # The builds are not part of the story.
    began=$SECONDS stage_began=$SECONDS
    if ! "$bed" status >/dev/null 2>&1; then
        # Set first: an interrupted start is taken down, too.
        started_bed=1
    fi
    "$bed" up >"$work/bed-up.out" 2>"$work/bed-up.log" || fail "the cluster did not start: $(tail -n 1 "$work/bed-up.log")"
    KUBECONFIG=$(sed -n 's/^export KUBECONFIG=//p' "$work/bed-up.out")
    export KUBECONFIG
    at=() helm_at=()
    "$bed" load-image "$target/image/town-operator.tar" >"$work/load-image.log" 2>&1 \
        || fail "the image could not be loaded: $(tail -n 1 "$work/load-image.log")"
fi
k get nodes | indent

stage "The operator, by helm"
elsewhere=$(k get deployments --all-namespaces -l app.kubernetes.io/name=town-operator \
    -o jsonpath='{range .items[*]}{.metadata.namespace}{"\n"}{end}' | grep -vx "$system" || true)
[ -z "$elsewhere" ] || fail "a town-operator already runs in namespace $elsewhere; the demo brings its own and needs a cluster without one"
k get customresourcedefinition towns.gastown.dev >/dev/null 2>&1 && had_definitions=1
case ${IMAGE##*/} in
    *@*) image=(--set-string "image.repository=${IMAGE%@*}" --set-string "image.digest=${IMAGE##*@}") ;;
    *:*) image=(--set-string "image.repository=${IMAGE%:*}" --set-string "image.tag=${IMAGE##*:}") ;;
    *) image=(--set-string "image.repository=$IMAGE" --set-string image.tag=latest) ;;
esac
installed=1
printf '%s$ helm install town-operator %s --namespace %s%s\n' "$dim" "$chart" "$system" "$plain"
"$helm" "${helm_at[@]}" upgrade --install town-operator "$chart" --namespace "$system" --create-namespace \
    "${image[@]}" ${had_definitions:+--take-ownership} --wait --timeout 90s >"$work/helm.log" 2>&1 \
    || fail "helm install: $(tail -n 1 "$work/helm.log"); the operator says: $(operator_says)"
k --namespace "$system" get pods | indent

# A namespace of an earlier demo goes first, its towns with it.
k delete namespace "$namespace" --ignore-not-found --timeout=90s >/dev/null
k create namespace "$namespace" >/dev/null
k label namespace "$namespace" pod-security.kubernetes.io/enforce=restricted >/dev/null
"$kubectl" "${at[@]}" --namespace "$namespace" get pods --watch -o 'jsonpath={.metadata.uid}{"\n"}' \
    >"$work/pods" 2>"$work/watch.log" &
watcher=$!

stage "A town, its mayor and two polecats"
say "A town with storage, a mayor who is there while the town is awake, and two polecats with a piece of work each."
apply $examples/01-town.yaml
apply $examples/02-mayor.yaml
apply $examples/03-polecats.yaml
town_uid=$(field town/willow '{.metadata.uid}')
mayor_uid=$(field agent/willow-mayor '{.metadata.uid}')
kn wait town/willow agent/willow-mayor --for=condition=Ready --timeout=60s >/dev/null || fail "the town did not become Ready"
show get towns,agents,pods
[ -n "$CONTEXT" ] || say "Processes of the town on the node: $(processes_of_town)"

stage "The work is done"
say "Each polecat looks for primes and writes them to its own volume. Exit 0 is done: it is recorded, and the pod goes."
await "the polecats' work done" 60 bead_done alder wil-1
await "the polecats' work done" 60 bead_done birch wil-2
show get agents

stage "Asleep by itself"
say "Nobody works any more. After sleepAfter, 20 seconds, the town sleeps: no pod is left, the storage stays."
kn wait town/willow --for=condition=Asleep --timeout=90s >/dev/null || fail "the town did not fall asleep"
no_pods || fail "the town says that it sleeps, and has pods: $(pods_of_town | paste -sd' ' -)"
show get town willow
show get pods,persistentvolumeclaims
say "In the volume of alder, read by a pod that is not the town's:"
ledger=$(read_volume alder ledger)
indent <<<"$ledger"
[ "$ledger" = "wil-1: 2262 primes below 20000" ] || fail "the ledger of alder is not what its work should have left"

stage "A new hook wakes it"
show patch agent alder --type merge -p '{"spec":{"hook":{"bead":"wil-3","title":"Find all primes below 30000","instructions":"30000"}}}'
kn wait town/willow --for=condition=Asleep=False --timeout=60s >/dev/null || fail "the town did not wake"
await "wil-3 done" 60 bead_done alder wil-3
kn wait town/willow agent/willow-mayor --for=condition=Ready --timeout=60s >/dev/null || fail "the town did not become Ready again"
show get towns,agents,pods
say "The volume of alder again:"
ledger=$(read_volume alder ledger)
indent <<<"$ledger"
[ "$ledger" = "$(printf 'wil-1: 2262 primes below 20000\nwil-3: 3245 primes below 30000')" ] \
    || fail "the ledger of alder is not what its two pieces of work should have left"

stage "A pod is killed by hand"
mayor_pod=$(field agent/willow-mayor '{.status.pod.name}')
mayor_pod_uid=$(field agent/willow-mayor '{.status.pod.uid}')
show delete pod "$mayor_pod"
await "the mayor's pod replaced" 60 mayor_is_back
show get pods
say "Another pod, and the same mayor: name and volume are the agent's, not the pod's."

stage "The town is deleted"
kinds=$(objects_of_town | sed 's#/.*##; s#\.gastown\.dev$##; s#^Town$#town#' | sort | uniq -c | awk '{ printf "%s%s %s", s, $1, $2; s = ", " }')
say "Before: $kinds."
[ -n "$CONTEXT" ] || say "Processes of the town on the node: $(processes_of_town)"
show delete town willow --timeout=90s
left=$(objects_of_town)
[ -z "$left" ] || fail "left of the town: $(paste -sd' ' - <<<"$left")"
await "the town's volumes gone" 60 no_volumes
say "After: of all $(k api-resources --verbs=list -o name | sort -u | wc -l) kinds in the cluster no object carries the town's UID, and no volume is left."
if [ -n "$CONTEXT" ]; then
    say "(On a cluster of your own the demo does not look at the nodes' processes.)"
else
    await "the town's processes gone" 10 no_processes
    say "Of all $(pods_seen | wc -l) pods that were in the namespace, these processes are left on the node: $(processes_of_town)."
fi

stage "It does not come back"
say "The same town again, as a restored backup would bring it: with its tombstone. It runs nothing, and says why."
apply $examples/04-tombstoned-town.yaml
kn wait town/willow --for=jsonpath='{.status.phase}'=Tombstoned --timeout=30s >/dev/null || fail "the tombstone was not seen"
show get town willow
say "$(field town/willow '{.status.conditions[?(@.type=="Ready")].message}')" | indent
town_uid=$(field town/willow '{.metadata.uid}')
left=$(objects_of_town | grep -v '^Town/willow$' || true)
[ -z "$left" ] || fail "a town with a tombstone has: $(paste -sd' ' - <<<"$left")"
show delete town willow --timeout=60s

end_stage
