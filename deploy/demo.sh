#!/usr/bin/env bash
# Shows the life of a town with real containers, in stages: `make demo`.
#
#   CONTEXT=...      a context of your kubeconfig; the demo uses its cluster. Without CONTEXT the demo uses a cluster of
#                    the test bed, and starts it for the time of the demo if it does not run
#   IMAGE=...        the operator's image; with CONTEXT the cluster must be able to pull it
#   AGENT_IMAGE=...  an image with a shell for the town's containers, with CONTEXT (default busybox:1.37)
#   KEEP=1           keep the cluster and all objects at the end
#
# Each stage prints its purpose, waits for its result, and fails if the result does not appear in time. The applied
# manifests are in deploy/examples. The demo prints each command as a user would type it.
set -euo pipefail
cd "$(dirname "$0")/.."

CONTEXT=${CONTEXT:-}
KEEP=${KEEP:-}
IMAGE=${IMAGE:-localhost/town-operator:dev}

chart=deploy/helm/town-operator
examples=deploy/examples
# The namespace differs from the namespace of the README, so that the demo does not touch an installation of the user.
system=town-demo-system
namespace=town-demo
uid_label=gastown.dev/town-uid

if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'; else bold='' dim='' plain=''; fi

# ---------------------------------------------------------------- output

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

# Prints the steps of the demo and their times on two processors.
announce() {
    local total='2 minutes'
    say "The demo has these steps. The times are for two processors:"
    if [ -z "$CONTEXT" ]; then
        total='2 minutes, and 10 minutes more the first time'
        step "1 minute the first time" "Build the command of the test bed"
        step "6 minutes the first time" "Build Kubernetes and containerd"
        step "3 minutes the first time" "Build the image of the operator"
        step "10 seconds" "Start a cluster"
    fi
    step "10 seconds" "Install the operator with helm"
    step "10 seconds" "Create a town, its mayor and two polecats"
    step "10 seconds" "The polecats finish their work"
    step "30 seconds" "The idle town falls asleep"
    step "15 seconds" "A new bead wakes the town"
    step "10 seconds" "The operator replaces a deleted pod"
    step "20 seconds" "A user deletes the town"
    step "5 seconds" "The town does not come back"
    say "In total: about $total."
}
step() { printf '  %-45s%s\n' "$2" "$1"; }

ticker=''
end_ticker() {
    [ -n "$ticker" ] || return 0
    kill "$ticker" 2>/dev/null || true
    wait "$ticker" 2>/dev/null || true
    ticker=''
    [ ! -t 1 ] || printf '\r\e[K'
}

# Prints the elapsed time of a step: on a terminal in one line that changes each second, otherwise a line each 15 seconds.
tick() {
    local begin=$SECONDS next=15
    while sleep 1; do
        if [ -t 1 ]; then
            printf '\r\e[K%s: %s s' "$1" $((SECONDS - begin))
        elif [ $((SECONDS - begin)) -ge $next ]; then
            say "$1: $((SECONDS - begin)) s"
            next=$((next + 15))
        fi
    done
}

# progress TEXT LOG COMMAND...: runs the command with its output in a log, and prints the elapsed time.
progress() {
    local text=$1 log=$2 code=0
    shift 2
    tick "$text" &
    ticker=$!
    "$@" >"$work/$log" 2>&1 || code=$?
    end_ticker
    return $code
}

# build TEXT LOG COMMAND...: the same for a build. A failure prints the log.
build() {
    local begin=$SECONDS
    progress "$@" || { cat "$work/$2" >&2; fail "$1: failed"; }
    say "$1: $((SECONDS - begin)) s"
}

indent() { sed 's/^/    /'; }

# The complaint goes through a file, because a subshell may report it. The first complaint counts.
complain() { [ -s "$work/complaint" ] || printf '%s\n' "$*" >"$work/complaint"; }

fail() {
    complain "$*"
    exit 1
}

# ---------------------------------------------------------------- actions

k() { "$kubectl" "${at[@]}" "$@"; }
kn() { k --namespace "$namespace" "$@"; }

# Runs kubectl in the demo's namespace and prints the command as a user would type it.
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

# Applies an example. The only change is the name of the image if the cluster has another one.
apply() {
    printf '%s$ kubectl -n %s apply -f %s%s\n' "$dim" "$namespace" "$1" "$plain"
    sed "s#image: busybox:1.37#image: $agent_image#" "$1" | kn apply -f - | indent
}

# await DESCRIPTION SECONDS COMMAND...: repeats the command until it succeeds.
await() {
    local what=$1 limit=$2 end
    shift 2
    end=$((SECONDS + limit))
    until "$@"; do
        [ $SECONDS -lt $end ] || fail "$what: not within $limit seconds"
        sleep 0.2
    done
}

# Prints one field of an object, or nothing if the object or the field is missing.
field() { kn get "$1" --ignore-not-found -o "jsonpath=$2"; }

# ---------------------------------------------------------------- queries

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

# Prints the last line of the operator's log, if there is a log.
operator_says() {
    local line
    line=$(k logs --namespace "$system" deployment/town-operator --tail=1 2>/dev/null || true)
    printf '%s' "${line:-nothing}"
}

# Prints every object of every kind, in every namespace, with the town's UID in its label, and the town itself.
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

# Prints the UID of every pod that a watch saw in the demo's namespace, one per line.
pods_seen() { sort -u "$work/pods" | grep . || true; }

# Counts the processes on the node that belong to one of these pods. The name of their control group contains the pod's UID.
processes_of_town() {
    local uid patterns=()
    for uid in $(pods_seen); do patterns+=(-e "pod$uid" -e "pod${uid//-/_}"); done
    [ ${#patterns[@]} -gt 0 ] || { echo 0; return; }
    { grep -ls "${patterns[@]}" /proc/[0-9]*/cgroup || true; } | wc -l
}
no_processes() { [ "$(processes_of_town)" -eq 0 ]; }

# Prints a file of an agent's volume. A temporary pod, which is not part of the town, reads the file.
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

# ---------------------------------------------------------------- clean-up

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

# Restores the cluster to its state before the demo.
clean_up() {
    if [ -n "$watcher" ]; then
        kill "$watcher" 2>/dev/null || true
        wait "$watcher" 2>/dev/null || true
        watcher=''
    fi
    if [ -n "$KEEP" ]; then
        [ -z "$installed" ] || say "KEEP=1: the towns stay in namespace $namespace, the operator stays in namespace $system."
        [ -z "$started_bed" ] || say "The cluster keeps running. Use make cluster-status and make cluster-down."
        return 0
    fi
    if [ -n "$started_bed" ]; then
        "$bed" down >"$work/bed-down.log" 2>&1 || { cat "$work/bed-down.log" >&2; return 1; }
        return 0
    fi
    [ -n "$installed" ] || return 0
    local left=0
    # The towns are deleted first, because their deletion needs the operator.
    k delete namespace "$namespace" --ignore-not-found --timeout=90s >/dev/null || left=1
    if [ $left -eq 0 ]; then
        "$helm" "${helm_at[@]}" uninstall town-operator --namespace "$system" --ignore-not-found --wait >/dev/null || left=1
        [ -n "$had_definitions" ] \
            || k delete customresourcedefinition towns.gastown.dev agents.gastown.dev --ignore-not-found --timeout=60s >/dev/null || left=1
        k delete namespace "$system" --ignore-not-found --timeout=60s >/dev/null || left=1
    fi
    [ $left -eq 0 ] || say "The demo could not remove all its objects. Check the namespaces $namespace and $system." >&2
    return $left
}

on_exit() {
    local code=$?
    trap - EXIT INT TERM
    set +e
    end_ticker
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

# ---------------------------------------------------------------- stages

announce
stage "Start a cluster"
bed=$target/debug/bed
if [ -n "$CONTEXT" ]; then
    [ "$IMAGE" != localhost/town-operator:dev ] \
        || fail "CONTEXT needs IMAGE=... too: the operator's image, in a registry that the cluster can pull from"
    at=(--context "$CONTEXT")
    helm_at=(--kube-context "$CONTEXT")
    agent_image=${AGENT_IMAGE:-busybox:1.37}
    kubectl=$(command -v kubectl) || fail "kubectl is not installed"
    helm=$(command -v helm) || fail "helm is not installed"
    k version >"$work/version.log" 2>&1 || fail "no answer from the cluster of context $CONTEXT: $(tail -n 1 "$work/version.log")"
else
    build "Build the command of the test bed" build-bed.log cargo build --locked --quiet -p town-bed
    why=$("$bed" can-node) || fail "$why; or use a cluster of yours: make demo CONTEXT=... IMAGE=..."
    build "Build Kubernetes and containerd" build-programs.log "$bed" build
    kubectl=$("$bed" path kubectl)
    helm=$("$bed" path helm)
    build "Build the image of the operator" build-image.log env PROFILE=trial deploy/image.sh
    agent_image=localhost/town-bed/busybox:1
    # The time of the builds does not count.
    began=$SECONDS stage_began=$SECONDS
    if ! "$bed" status >/dev/null 2>&1; then
        # The variable is set before the start, so that the clean-up also removes an interrupted start.
        started_bed=1
    fi
    "$bed" up >"$work/bed-up.out" 2>"$work/bed-up.log" || fail "the cluster did not start: $(tail -n 1 "$work/bed-up.log")"
    KUBECONFIG=$(sed -n 's/^export KUBECONFIG=//p' "$work/bed-up.out")
    export KUBECONFIG
    at=() helm_at=()
    "$bed" load-image "$target/image/trial/town-operator.tar" >"$work/load-image.log" 2>&1 \
        || fail "the image could not be loaded: $(tail -n 1 "$work/load-image.log")"
fi
k get nodes | indent

stage "Install the operator with helm"
elsewhere=$(k get deployments --all-namespaces -l app.kubernetes.io/name=town-operator \
    -o jsonpath='{range .items[*]}{.metadata.namespace}{"\n"}{end}' | grep -vx "$system" || true)
[ -z "$elsewhere" ] || fail "a town-operator already runs in namespace $elsewhere; the demo installs its own operator and needs a cluster without one"
k get customresourcedefinition towns.gastown.dev >/dev/null 2>&1 && had_definitions=1
case ${IMAGE##*/} in
    *@*) image=(--set-string "image.repository=${IMAGE%@*}" --set-string "image.digest=${IMAGE##*@}") ;;
    *:*) image=(--set-string "image.repository=${IMAGE%:*}" --set-string "image.tag=${IMAGE##*:}") ;;
    *) image=(--set-string "image.repository=$IMAGE" --set-string image.tag=latest) ;;
esac
installed=1
printf '%s$ helm install town-operator %s --namespace %s%s\n' "$dim" "$chart" "$system" "$plain"
progress "The operator starts" helm.log \
    "$helm" "${helm_at[@]}" upgrade --install town-operator "$chart" --namespace "$system" --create-namespace \
    "${image[@]}" ${had_definitions:+--take-ownership} --wait --timeout 90s \
    || fail "helm install: $(tail -n 1 "$work/helm.log"); the operator says: $(operator_says)"
k --namespace "$system" get pods | indent

# The namespace of an earlier demo is deleted first, with its towns.
k delete namespace "$namespace" --ignore-not-found --timeout=90s >/dev/null
k create namespace "$namespace" >/dev/null
k label namespace "$namespace" pod-security.kubernetes.io/enforce=restricted >/dev/null
"$kubectl" "${at[@]}" --namespace "$namespace" get pods --watch -o 'jsonpath={.metadata.uid}{"\n"}' \
    >"$work/pods" 2>"$work/watch.log" &
watcher=$!

stage "Create a town, its mayor and two polecats"
say "The town has storage. The mayor has a pod while the town is awake. Each polecat has one bead."
apply $examples/01-town.yaml
apply $examples/02-mayor.yaml
apply $examples/03-polecats.yaml
town_uid=$(field town/willow '{.metadata.uid}')
mayor_uid=$(field agent/willow-mayor '{.metadata.uid}')
progress "The town starts" ready.log kn wait town/willow agent/willow-mayor --for=condition=Ready --timeout=60s \
    || fail "the town did not become Ready"
show get towns,agents,pods
[ -n "$CONTEXT" ] || say "Processes of the town on the node: $(processes_of_town)"

stage "The polecats finish their work"
say "Each polecat computes primes and writes them to its own volume. Exit code 0 finishes the bead. The operator records the result and deletes the pod."
await "the polecats' work done" 60 bead_done alder wil-1
await "the polecats' work done" 60 bead_done birch wil-2
show get agents

stage "The idle town falls asleep"
say "The town has no work. After sleepAfter (20 seconds) the town sleeps: the operator deletes all pods and keeps the storage."
progress "The town is idle" asleep.log kn wait town/willow --for=condition=Asleep --timeout=90s || fail "the town did not fall asleep"
no_pods || fail "the town has the condition Asleep, but still has pods: $(pods_of_town | paste -sd' ' -)"
show get town willow
show get pods,persistentvolumeclaims
say "A pod outside the town reads the volume of alder:"
ledger=$(read_volume alder ledger)
indent <<<"$ledger"
[ "$ledger" = "wil-1: 2262 primes below 20000" ] || fail "the ledger of alder does not have the expected content"

stage "A new bead wakes the town"
show patch agent alder --type merge -p '{"spec":{"hook":{"bead":"wil-3","title":"Find all primes below 30000","instructions":"30000"}}}'
kn wait town/willow --for=condition=Asleep=False --timeout=60s >/dev/null || fail "the town did not wake"
await "wil-3 done" 60 bead_done alder wil-3
kn wait town/willow agent/willow-mayor --for=condition=Ready --timeout=60s >/dev/null || fail "the town did not become Ready again"
show get towns,agents,pods
say "The volume of alder has the results of both beads:"
ledger=$(read_volume alder ledger)
indent <<<"$ledger"
[ "$ledger" = "$(printf 'wil-1: 2262 primes below 20000\nwil-3: 3245 primes below 30000')" ] \
    || fail "the ledger of alder does not have the expected content after two beads"

stage "The operator replaces a deleted pod"
mayor_pod=$(field agent/willow-mayor '{.status.pod.name}')
mayor_pod_uid=$(field agent/willow-mayor '{.status.pod.uid}')
show delete pod "$mayor_pod"
await "the mayor's pod replaced" 60 mayor_is_back
show get pods
say "The pod is new, and the mayor is the same: name and volume belong to the agent, not to the pod."

stage "A user deletes the town"
kinds=$(objects_of_town | sed 's#/.*##; s#\.gastown\.dev$##; s#^Town$#town#' | sort | uniq -c | awk '{ printf "%s%s %s", s, $1, $2; s = ", " }')
say "Before the delete: $kinds."
[ -n "$CONTEXT" ] || say "Processes of the town on the node: $(processes_of_town)"
show delete town willow --timeout=90s
left=$(objects_of_town)
[ -z "$left" ] || fail "the deletion left these objects behind: $(paste -sd' ' - <<<"$left")"
await "the town's volumes gone" 60 no_volumes
say "After the delete: the cluster has $(k api-resources --verbs=list -o name | sort -u | wc -l) kinds, and no object of any kind has the town's UID. No volume is left."
if [ -n "$CONTEXT" ]; then
    say "(On a cluster of yours the demo does not check the processes on the nodes.)"
else
    await "the town's processes gone" 10 no_processes
    say "The namespace had $(pods_seen | wc -l) pods in total. Their processes that are left on the node: $(processes_of_town)."
fi

stage "The town does not come back"
say "A restored backup would create the same town again, with its tombstone annotation. The operator runs nothing of it, and a condition gives the reason."
apply $examples/04-tombstoned-town.yaml
kn wait town/willow --for=jsonpath='{.status.phase}'=Tombstoned --timeout=30s >/dev/null || fail "the town did not get the phase Tombstoned"
show get town willow
say "$(field town/willow '{.status.conditions[?(@.type=="Ready")].message}')" | indent
town_uid=$(field town/willow '{.metadata.uid}')
left=$(objects_of_town | grep -v '^Town/willow$' || true)
[ -z "$left" ] || fail "a town with a tombstone annotation has objects: $(paste -sd' ' - <<<"$left")"
show delete town willow --timeout=60s

end_stage
