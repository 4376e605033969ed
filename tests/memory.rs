//! The memory of the watch caches: 1,000 towns with 5 agents each, as after `kubectl apply`, with pod templates of 20
//! KiB.
//!
//! The objects arrive as from the API server, in pages of JSON, and pass the operator's own decoding and caches. The
//! test reads the memory of this process before and after. The test has its own process, so that no other test
//! allocates memory.

// `allow-unwrap-in-tests` knows only functions that carry `#[test]`.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use http::{Request, Response};
use k8s_openapi::jiff::SignedDuration;
use kube::Client;
use kube::client::Body;
use kube::core::ObjectList;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};
use tower::service_fn;
use town_operator::api::{Agent, Town, names};
use town_operator::cluster::{Clock, Cluster, Decoded, Followed, Limits, PAGE, looks};
use town_operator::resources::{Install, VolumeGroup};

const TOWNS: usize = 1_000;
const AGENTS_OF_EACH: usize = 5;
/// The limit, in KiB.
const BOUND: usize = 64 << 10;

#[tokio::test]
#[ignore = "takes minutes: cargo test --profile explore --test memory -- --ignored --nocapture"]
async fn watch_caches_stay_below_64_mib_with_1000_large_towns() {
    let server = service_fn(async |request: Request<Body>| -> Result<Response<Body>, std::io::Error> {
        panic!("{} {}", request.method(), request.uri())
    });
    let limits = Limits {
        late_create: SignedDuration::from_secs(60),
        blocked_after: SignedDuration::from_mins(10),
        attach_max_hold: SignedDuration::from_hours(12),
        max_concurrent_starts: 20,
        agent_tombstones: false,
        tombstone_max_retention: SignedDuration::from_hours(168),
        tombstones_per_namespace: 1000,
        max_concurrent_probes: 32,
        volume_group: VolumeGroup::default(),
        admission_policies: true,
    };
    let (looks, _asked) = looks();
    let client = Client::new(server, "ns");
    let cluster =
        Cluster::new(client, Install("here".into()), Arc::default(), limits, looks, Clock::system());
    let before = memory("VmRSS");

    // The second list is that after a restart of the watch: both are in memory for a moment.
    for _ in 0..2 {
        list::<Town>(&cluster, TOWNS, town);
        list::<Agent>(&cluster, TOWNS * AGENTS_OF_EACH, agent);
    }
    assert_eq!(
        (cluster.caches.towns.all().len(), cluster.caches.agents.all().len()),
        (TOWNS, TOWNS * AGENTS_OF_EACH)
    );

    let (after, peak) = (memory("VmRSS"), memory("VmHWM"));
    let size = serde_json::to_string(&town(0)).unwrap().len();
    println!(
        "{TOWNS} towns of {} KiB and {} agents: {} KiB more resident, {} KiB at the peak",
        size >> 10,
        TOWNS * AGENTS_OF_EACH,
        after - before,
        peak - before
    );
    assert!(size > 80 << 10, "a town of {size} bytes is not as large as meant");
    assert!(peak - before < BOUND, "{} KiB at the peak", peak - before);
}

/// Lists a kind in pages, as a new watch does.
fn list<K: Followed>(cluster: &Cluster, count: usize, object: fn(usize) -> Value) {
    cluster.follow::<K>(Event::Init);
    let page = usize::try_from(PAGE).unwrap();
    for first in (0..count).step_by(page) {
        let items: Vec<_> = (first..count.min(first + page)).map(object).collect();
        let text =
            json!({"apiVersion": "gastown.dev/v1alpha1", "kind": "List", "metadata": {}, "items": items});
        let text = serde_json::to_string(&text).unwrap();
        drop(items);
        let list: ObjectList<Decoded<K>> = serde_json::from_str(&text).unwrap();
        for item in list {
            cluster.follow::<K>(Event::InitApply(item));
        }
    }
    cluster.follow::<K>(Event::InitDone);
}

/// The value of a line of `/proc/self/status`, in KiB.
fn memory(line: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let value = status.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(':')).unwrap();
    value.split_whitespace().next().unwrap().parse().unwrap()
}

fn town(number: usize) -> Value {
    let spec = json!({
        "template": template(), "agentTemplate": template(), "storage": {"size": "10Gi"},
        "rigs": [{"name": "core", "gitUrl": "https://git.example/core", "branch": "main", "maxPolecats": 4}],
        "sleepAfter": "30m", "wakeRequest": "",
    });
    let uid = format!("{number:08x}-0000-4000-8000-000000000000");
    let status = json!({
        "phase": "Asleep", "observedGeneration": 1, "asleepReason": "Idle",
        "conditions": conditions(&["Ready", "Reconciling", "Stalled", "Asleep", "Active", "Degraded", "DeletionBlocked"]),
        "pod": {"startTime": "2026-01-01T00:00:00Z"},
        "storage": {"claim": format!("town-{number}-{number:08x}"), "uid": uid},
    });
    applied("Town", &format!("town-{number}"), &uid, &spec, &status, None)
}

fn agent(number: usize) -> Value {
    let town = number / AGENTS_OF_EACH;
    let spec = json!({
        "townName": format!("town-{town}"), "role": "Crew", "template": template(),
        "hook": {"bead": format!("b-{number}"), "title": "A title of a bead"},
    });
    let uid = format!("{number:08x}-1111-4000-8000-000000000000");
    let status = json!({
        "phase": "Asleep", "observedGeneration": 1, "mode": "Session", "identity": format!("agent-{number}"),
        "conditions": conditions(&[
            "Ready", "Reconciling", "Stalled", "PodScheduled", "Working", "Finished", "Degraded", "DeletionBlocked",
        ]),
        "work": {"bead": format!("b-{number}"), "attempts": 1, "done": ["b-1", "b-2", "b-3"]},
    });
    let of = format!("{town:08x}-0000-4000-8000-000000000000");
    applied("Agent", &format!("agent-{number}"), &uid, &spec, &status, Some(&of))
}

/// A template of 20 KiB, mostly environment variables.
fn template() -> Value {
    let env: Vec<_> =
        (0..120).map(|n| json!({"name": format!("VARIABLE_NUMBER_{n}"), "value": "x".repeat(120)})).collect();
    let container =
        json!({"name": "main", "image": "registry.example/image:1", "env": env, "args": ["sleep", "1d"]});
    json!({"metadata": {"labels": {"team": "ours"}}, "spec": {"containers": [container]}})
}

fn conditions(types: &[&str]) -> Vec<Value> {
    let condition = |kind: &&str| {
        json!({
            "type": kind, "status": "False", "reason": "AsExpected", "observedGeneration": 1,
            "message": "asleep: no work for spec.sleepAfter", "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    };
    types.iter().map(condition).collect()
}

/// An object with the fields that `kubectl apply` and the API server add.
fn applied(kind: &str, name: &str, uid: &str, spec: &Value, status: &Value, town: Option<&str>) -> Value {
    let mut labels = json!({names::INSTALL: "here", "team": "ours"});
    if let Some(town) = town {
        labels[names::TOWN_UID] = town.into();
    }
    let manifest =
        json!({"apiVersion": "gastown.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    json!({
        "apiVersion": "gastown.dev/v1alpha1", "kind": kind, "spec": spec, "status": status,
        "metadata": {
            "name": name, "namespace": "team", "uid": uid, "resourceVersion": "1000", "generation": 1,
            "creationTimestamp": "2026-01-01T00:00:00Z", "labels": labels, "finalizers": [names::FINALIZER],
            "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": serde_json::to_string(&manifest).unwrap(),
            },
            "managedFields": [{
                "manager": "kubectl-client-side-apply", "operation": "Update", "time": "2026-01-01T00:00:00Z",
                "apiVersion": "gastown.dev/v1alpha1", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": fields(spec)},
            }],
        },
    })
}

/// The set of fields of a value, in the format of server-side apply.
fn fields(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            object.iter().map(|(name, value)| (format!("f:{name}"), fields(value))).collect()
        }
        Value::Array(items) if items.iter().all(|item| item.get("name").is_some()) => {
            let key = |item: &Value| format!("k:{}", json!({"name": item["name"]}));
            items.iter().map(|item| (key(item), fields(item))).collect()
        }
        _ => json!({}),
    }
}
